/* SPDX-License-Identifier: Apache-2.0 */
/* verb_plan.c: memory and time of a run before anything of its size is allocated. */
#include <string.h>

#include "base/json.h"
#include "diapason/run_recipe.h"
#include "train/train.h"

static int run_plan (int argc, char **argv);

const DpsVerb dps_verb_plan = {
    .name = "plan",
    .summary = "memory and steps of a recipe, before anything is allocated",
    .synopsis = "RECIPE [--fit 6GiB] [--set key=value …]",
    .help =
        "The sum is what the run will use: the arena of activations is laid out exactly, the rest is counted.\n"
        "--fit chooses micro-batches and activation checkpointing so that the run fits; rows per step and every bit of the result stay.\n\n"
        "Example: diapason plan recipe.yaml --fit 2GiB",
    .run = run_plan,
};

static char *fit;
static const GOptionEntry entries[] = {
    {"fit", 0, 0, G_OPTION_ARG_STRING, &fit, "a budget: 6GiB, 800MB, or bytes", "SIZE"},
    CLI_SET_ENTRY,
    {NULL, 0, 0, 0, NULL, NULL, NULL},
};

/* X (label, key, member): the parts of the sum, in the order they are printed. */
#define PARTS(X)                                                                                                                           \
    X ("weights, by row", "weights_rows", weights_rows)                                                                                    \
    X ("weights, quantised", "weights_quantised", weights_quantised)                                                                       \
    X ("weights, packed for matrix products", "weights_packed", weights_packed)                                                            \
    X ("weights, packed for their gradients", "weights_packed_grad", weights_packed_grad)                                                  \
    X ("master copies", "masters", masters)                                                                                                \
    X ("gradients", "gradients", gradients)                                                                                                \
    X ("optimizer state", "optimizer", optimizer)                                                                                          \
    X ("activations", "activations", arena)                                                                                                \
    X ("scratch of decomposed ops", "scratch", scratch)                                                                                    \
    X ("copies for other devices", "staging", staging)                                                                                     \
    X ("sampling", "rollout", rollout)                                                                                                     \
    X ("reward models", "rewards", rewards)                                                                                                \
    X ("value model", "value_model", value_model)                                                                                          \
    X ("fixed overhead", "fixed", fixed)

static json_t *plan_json (const DpsTrainPlan *p)
{
    json_t *memory = json_object ();
#define PART(label, key, member) json_object_set_new (memory, key, json_integer ((json_int_t)p->member));
    PARTS (PART)
#undef PART
    json_object_set_new (memory, "total", json_integer ((json_int_t)dps_train_plan_total (p)));
    return json_pack ("{s:o, s:s, s:s, s:I, s:I, s:I, s:b, s:f, s:f, s:b, s:{s:I, s:I, s:I}}", "memory_bytes", memory, "device", p->device,
                      "dtype", p->dtype, "steps", (json_int_t)p->steps, "per_device_train_batch_size",
                      (json_int_t)(p->micro_batch * p->answers), "gradient_accumulation_steps", (json_int_t)p->accumulation,
                      "gradient_checkpointing", p->checkpointing, "tokens_per_step", p->tokens_per_step, "flops_per_step",
                      p->flops_per_step, "exact", p->exact, "largest_micro_batch", "rows", (json_int_t)p->rows, "tokens",
                      (json_int_t)p->tokens, "scored", (json_int_t)p->scored);
}

static void print_part (const char *label, uint64_t bytes)
{
    if (bytes)
        printf ("  %-40s %10.1f MiB\n", label, (double)bytes / 0x1p20);
}

/* "3.2 TFLOP", "512.0 kFLOP": in the unit that leaves one to three digits before the point. */
static void print_work (double tokens, double flops)
{
    static const char *const units[] = {"", "k", "M", "G", "T", "P", "E"};
    size_t i = 0;
    for (; flops >= 999.95 && i + 1 < G_N_ELEMENTS (units); i++)
        flops /= 1000;
    printf ("Work: %.0f tokens and %.1f %sFLOP a step\n", tokens, flops, units[i]);
}

static void print_plan (const DpsTrainPlan *p)
{
    printf ("Memory on %s in %s\n", p->device, p->dtype);
#define PART(label, key, member) print_part (label, p->member);
    PARTS (PART)
#undef PART
    print_part ("total", dps_train_plan_total (p));
    if (p->quantised_numbers)
        printf ("\nQuantised: %llu weights in %.3f bytes each; the embedding and the head stay in %s, packed as above\n",
                (unsigned long long)p->quantised_numbers, (double)p->weights_quantised / (double)p->quantised_numbers, p->dtype);
    printf ("\nSteps: %llu of %lld × %lld rows, %llu an epoch; gradient_checkpointing %s\n", (unsigned long long)p->steps,
            (long long)(p->micro_batch * p->answers), (long long)p->accumulation, (unsigned long long)p->steps_per_epoch,
            p->checkpointing ? "on" : "off");
    printf ("Largest micro-batch: %lld rows, %lld tokens, %lld of them scored%s\n", (long long)p->rows, (long long)p->tokens,
            (long long)p->scored, p->exact ? "" : " (bounded by max_length)");
    if (p->tokens_per_step > 0)
        print_work (p->tokens_per_step, p->flops_per_step);
    if (fit)
        printf ("\nTo run it so:\n  --set per_device_train_batch_size=%lld --set gradient_accumulation_steps=%lld --set "
                "gradient_checkpointing=%s\n",
                (long long)(p->micro_batch * p->answers), (long long)p->accumulation, p->checkpointing ? "true" : "false");
}

/* Stage i, printed, or in JSON at the end of `list`. */
static DpsStatus plan_stage (const DpsRegistry *reg, const DpsChain *c, size_t i, uint64_t budget, json_t *list, DpsError *err)
{
    DpsTrainPlan plan;
    if (!list)
        cli_stage_heading (c, i);
    if (cli_stage_waits (c, i, list))
        return DPS_OK;
    const DpsRecipe *under[DPS_CHAIN_MAX];
    const DpsTrainOptions options = {.under = under, .n_under = dps_chain_under (c, i, under)};
    DpsStatus st = dps_train_plan (reg, dps_chain_plan (c, i), &options, budget, &plan, err);
    if (st != DPS_OK)
        return c->lock ? cli_stage_failed (c, i, st, err) : st;
    if (!list) {
        print_plan (&plan);
        return DPS_OK;
    }
    json_t *o = plan_json (&plan);
    if (c->lock)
        json_object_set_new (o, "name", json_string (c->stages[i].name));
    json_array_append_new (list, o);
    return DPS_OK;
}

static int run_plan (int argc, char **argv)
{
    DpsError err = DPS_ERROR_INIT;
    DpsChain *chain;
    DpsRegistry *reg;
    int code = cli_parse (&dps_verb_plan, entries, &argc, &argv);
    if (code >= 0)
        return code;
    code = cli_one_recipe (&dps_verb_plan, argc, argv);
    if (code >= 0)
        return code;
    uint64_t budget = fit ? cli_size (fit) : 0;
    if (fit && budget == 0)
        return cli_usage (&dps_verb_plan, "--fit is '%s', expected a size such as 6GiB or 800MB", fit);
    cli_allow_programs = TRUE; /* none is started */
    DpsStatus st = cli_open_chain (argv[1], &chain, &reg, &err);
    if (st != DPS_OK)
        return cli_fail (&dps_verb_plan, st, &err);
    json_t *list = cli_common.json ? json_array () : NULL;
    for (size_t i = 0; st == DPS_OK && i < chain->n; i++)
        st = plan_stage (reg, chain, i, budget, list, &err);
    if (st == DPS_OK && list)
        cli_print_stages (chain, list, 2);
    json_decref (list);
    dps_registry_close (reg);
    dps_chain_free (chain);
    return st == DPS_OK ? 0 : cli_fail (&dps_verb_plan, st, &err);
}
