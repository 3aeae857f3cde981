/* SPDX-License-Identifier: Apache-2.0 */
/*
 * verb_bench.c: how fast this machine multiplies, trains and decodes, each against the matrix peak of the same process.
 *
 * Useful FLOPs of a training step: every matrix product of the forward pass and of the input gradients once, the head on scored rows only.
 * Recomputation, attention and adapter products are not counted.
 */
#include <math.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "base/json.h"
#include "base/rng.h"
#include "diapason/bench.h"
#include "diapason/cli.h"
#include "diapason/open_registry.h"
#include "diapason/watch.h"

static int run_bench (int argc, char **argv);

const DpsVerb dps_verb_bench = {
    .name = "bench",
    .summary = "measure matrix products, training and decoding on this machine",
    .synopsis = "{matmul|train|decode|abi} [--model M]",
    .help = "Example: diapason bench train --model \"$(tools/fetch gemma3-270m)\" --json",
    .run = run_bench,
};

static struct {
    char *model, *dtype, *device, *data, *objective, *quantization;
    int rows, tokens, scored, steps, batch, profile, full;
} options;

/* Options of train; abi, decode and matmul have those from a later line on. */
enum { OF_ABI = 1, OF_DECODE = 4, OF_MATMUL = 10 };
static const GOptionEntry entries[] = {
    {"objective", 0, 0, G_OPTION_ARG_STRING, &options.objective, "simpo, dpo or grpo instead of plain log-likelihood", "NAME"},
    {"data", 0, 0, G_OPTION_ARG_FILENAME, &options.data, "train on these pre-tokenized rows instead of random ones", "F.jsonl"},
    {"rows", 0, 0, G_OPTION_ARG_INT, &options.rows, "rows, pairs or groups of a micro-batch (4; grpo 1)", "N"},
    {"scored", 0, 0, G_OPTION_ARG_INT, &options.scored, "scored tokens of a row, about (90); of an answer (80; grpo 64)", "N"},
    {"model", 'm', 0, G_OPTION_ARG_FILENAME, &options.model, "Hugging Face folder or .gguf file", "M"},
    {"dtype", 0, 0, G_OPTION_ARG_STRING, &options.dtype, "auto, float32 or bfloat16", "D"},
    {"quantization", 0, 0, G_OPTION_ARG_STRING, &options.quantization, "of the base: auto, none, gguf, nf4, fp4, int8", "Q"},
    {"tokens", 0, 0, G_OPTION_ARG_INT, &options.tokens, "tokens of a row, about (270); of a prompt (170; grpo 250; decode 128)", "N"},
    {"steps", 0, 0, G_OPTION_ARG_INT, &options.steps, "measured steps (5; decode 64)", "N"},
    {"batch", 0, 0, G_OPTION_ARG_INT, &options.batch, "prompts decoded together (1; grpo 8)", "N"},
    {"device", 0, 0, G_OPTION_ARG_STRING, &options.device, "backend to measure (default: the first)", "NAME"},
    {"profile", 0, 0, G_OPTION_ARG_NONE, &options.profile, "time every kind of op", NULL},
    CLI_WATCH_ENTRIES,
    {NULL, 0, 0, 0, NULL, NULL, NULL},
};

static const CliSub subs[] = {
    {&(const DpsVerb){.name = "bench matmul",
                      .summary = "the peak of matrix products, in f32 and, where the device has it, bf16",
                      .synopsis = "[--device NAME]",
                      .help = "Example: diapason bench matmul --json"},
     entries + OF_MATMUL},
    {&(const DpsVerb){
         .name = "bench train",
         .summary = "steps of LoRA r=16 on all linear maps, plain or with an objective",
         .synopsis = "--model M [--objective simpo|dpo|grpo] [--data F.jsonl]",
         .help =
             "Micro-batches of prompt and completion: share of the matrix peak, memory, time to the first step.\n"
             "--objective simpo|dpo: pairs (4 a step, prompts of 170 tokens, answers of 80); grpo: groups of 8 sampled answers (1 a step,\n"
             "prompts of 250 tokens, answers of 64). As the train verb runs them; rollout and update apart.\n\n"
             "Example: diapason bench train --model \"$(tools/fetch gemma3-270m)\" --json"},
     entries},
    {&(const DpsVerb){.name = "bench decode",
                      .summary = "tokens per second with a cache, prompt and batch of your choice",
                      .synopsis = "--model M [--tokens N] [--batch N]",
                      .help = "Example: diapason bench decode --model model.gguf --batch 8"},
     entries + OF_DECODE},
    {&(const DpsVerb){.name = "bench abi",
                      .summary = "what the plugin ABI costs",
                      .synopsis = "--model M",
                      .help = "The steps of train again on a backend that does nothing: what placing, building views and calling through "
                              "the plugin's table\n"
                              "cost. abi_share: of a step; host_share: with recording the graph, batches and planning.\n\n"
                              "Example: diapason bench abi --model model.gguf --steps 2"},
     entries + OF_ABI},
    {NULL, NULL},
};

double bench_now (void)
{
    struct timespec t;
    clock_gettime (CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

double bench_since_launch (void)
{
    char buffer[1024];
    FILE *f = fopen ("/proc/self/stat", "r");
    size_t n = f ? fread (buffer, 1, sizeof buffer - 1, f) : 0;
    if (f)
        fclose (f);
    buffer[n] = '\0';
    char *p = strrchr (buffer, ')');
    unsigned long long start = 0;
    for (int field = 2; p && field < 22; field++)
        p = strchr (p + 1, ' ');
    if (p)
        start = g_ascii_strtoull (p + 1, NULL, 10);
    struct timespec t;
    clock_gettime (CLOCK_BOOTTIME, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec - (double)start / (double)sysconf (_SC_CLK_TCK);
}

double bench_peak_rss (void)
{
    struct rusage u;
    getrusage (RUSAGE_SELF, &u);
    return 1024.0 * (double)u.ru_maxrss;
}

static void print_result (const json_t *result)
{
    if (cli_common.json) {
        char *text = json_dumps (result, JSON_COMPACT);
        puts (text ? text : "{}");
        dps_free (text);
        return;
    }
    const char *key;
    json_t *value;
    json_object_foreach ((json_t *)result, key, value) {
        if (json_is_string (value))
            printf ("%-28s %s\n", key, json_string_value (value));
        else if (json_is_number (value) && g_str_has_suffix (key, "_bytes"))
            printf ("%-28s %.0f (%.1f MiB)\n", key, json_number_value (value), json_number_value (value) / 0x1p20);
        else if (json_is_number (value))
            printf ("%-28s %.6g\n", key, json_number_value (value));
        else if (json_is_object (value)) {
            const char *name;
            json_t *item;
            json_object_foreach (value, name, item)
                printf ("  %-60s %.6g\n", name, json_number_value (item));
        }
    }
}

static DpsStatus bench_matmul (DpsExec *ex, json_t *result, DpsError *err)
{
    static const struct {
        uint32_t dtype;
        const char *key;
    } dtypes[] = {{DPS_DTYPE_F32, "f32_gflops"}, {DPS_DTYPE_BF16, "bf16_gflops"}};
    json_object_set_new (result, "device", json_string (ex->devices[0].info.name));
    json_object_set_new (result, "detail", json_string (ex->devices[0].info.detail ? ex->devices[0].info.detail : ""));
    for (int i = 0; i < 2; i++) {
        double flops = 0;
        DpsStatus st = bench_matmul_peak (ex, dtypes[i].dtype, &flops, err);
        if (st == DPS_ERR_DTYPE)
            continue;
        DPS_TRY (st);
        json_object_set_new (result, dtypes[i].key, json_real (flops / 1e9));
    }
    return DPS_OK;
}

static int positive (int given, int fallback) { return given > 0 ? given : fallback; }

static DpsStatus dispatch (const char *what, DpsRegistry *reg, json_t *result, DpsError *err)
{
    DpsExec ex;
    const char *const names[] = {options.device};
    DPS_TRY (dps_exec_open (&ex, reg, names, options.device ? 1 : 0, err));
    ex.profile = options.profile;
    const int abi = !strcmp (what, "abi"), trains = abi || !strcmp (what, "train"),
              samples = trains && options.objective && !strcmp (options.objective, "grpo"), objective = trains && options.objective != NULL;
    BenchOptions o = {.model = options.model,
                      .data = options.data,
                      .dtype = options.dtype,
                      .quantization = options.quantization,
                      .objective = options.objective,
                      .rows = positive (options.rows, samples ? 1 : 4),
                      .tokens = positive (options.tokens, samples     ? 250
                                                          : objective ? 170
                                                          : trains    ? 270
                                                                      : 128),
                      .scored = positive (options.scored, samples     ? 64
                                                          : objective ? 80
                                                                      : 90),
                      .steps = positive (options.steps, trains ? 5 : 64),
                      .batch = positive (options.batch, samples ? 8 : 1)};
    DpsStatus st = !strcmp (what, "matmul") ? bench_matmul (&ex, result, err)
                   : abi                    ? bench_abi (&ex, reg, &o, result, err)
                   : objective              ? bench_objective (&ex, reg, &o, result, err)
                   : trains                 ? bench_train (&ex, reg, &o, result, err)
                                            : bench_decode (&ex, reg, &o, result, err);
    dps_exec_close (&ex);
    return st;
}

static int run_bench (int argc, char **argv)
{
    const CliSub *sub;
    int code = cli_parse_sub (&dps_verb_bench, subs, NULL, entries, &argc, &argv, &sub);
    if (code >= 0)
        return code;
    const char *what = strrchr (sub->verb->name, ' ') + 1;
    if (argc > 1)
        return cli_usage (sub->verb, "unexpected '%s'", argv[1]);
    if (strcmp (what, "matmul") && !options.model)
        return cli_usage (sub->verb, "%s needs --model", what);
    static const char *const objectives[] = {"simpo", "dpo", "grpo", NULL};
    if (options.objective && !g_strv_contains (objectives, options.objective))
        return cli_usage (sub->verb, "--objective is '%s', expected simpo, dpo or grpo", options.objective);
    if (options.objective && (options.profile || options.device))
        return cli_usage (sub->verb, "--objective measures the train verb, which has neither --profile nor --device");
    DpsError err = DPS_ERROR_INIT;
    DpsRegistry *reg = NULL;
    json_t *result = json_object ();
    DpsStatus st = cli_open_registry (&reg, &err);
    if (st == DPS_OK)
        st = dispatch (what, reg, result, &err);
    if (st == DPS_OK)
        print_result (result);
    json_decref (result);
    dps_registry_close (reg);
    return st == DPS_OK ? 0 : cli_fail (sub->verb, st, &err);
}
