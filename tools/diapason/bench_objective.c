/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bench_objective.c: steps of preference training as `train` runs them, from a recipe made here: a pair objective on pairs, grpo on answers that the
 * policy samples. Rollout and update are timed apart, each against the matrix peak of the same process.
 */
#include <math.h>
#include <string.h>

#include <glib.h>

#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/rng.h"
#include "diapason/bench.h"
#include "graph/source_check.h"
#include "train/train.h"

enum { ANSWERS = 8, MAX_BYTES = 64 << 20 };

static DpsStatus no_memory (DpsError *err) { return dps_fail (err, DPS_ERR_NOMEM, "bench: out of memory"); }

typedef struct Steps {
    const BenchOptions *o;
    int samples; /* answers come from the policy */
    char *folder, *rows, *output;
    DpsModel model; /* for its sizes alone */
    uint32_t dtype; /* of the run */
    double flops;   /* of an update, as planned */
    /* sums over the measured steps */
    double n, seconds, rollout_s, tokens, answer_tokens, best;
} Steps;

static int add_ids (DpsBuf *b, const char *key, uint64_t row, uint64_t stream, int n, int64_t vocab)
{
    int bad = dps_buf_printf (b, "\"%s\":[", key);
    for (int t = 0; t < n; t++)
        bad = bad || dps_buf_printf (b, "%s%llu", t ? "," : "",
                                     (unsigned long long)dps_rng_below (1, stream, row << 20 | (uint64_t)t, (uint64_t)vocab));
    return bad || dps_buf_str (b, "]");
}

/* Random rows: one for every unit of every step. */
static DpsStatus write_rows (Steps *s, DpsError *err)
{
    const BenchOptions *o = s->o;
    DpsBuf b = {0};
    int64_t vocab = s->model.dec.vocab;
    int bad = 0;
    for (uint64_t r = 0; r < (uint64_t)(o->rows * (o->steps + BENCH_WARM_UP)); r++) {
        bad = bad || dps_buf_str (&b, "{") || add_ids (&b, s->samples ? "input_ids" : "prompt_input_ids", r, 21, o->tokens, vocab);
        if (!s->samples)
            bad = bad || dps_buf_str (&b, ",") || add_ids (&b, "chosen_input_ids", r, 22, o->scored, vocab) || dps_buf_str (&b, ",") ||
                  add_ids (&b, "rejected_input_ids", r, 23, o->scored, vocab);
        bad = bad || dps_buf_str (&b, "}\n");
    }
    return dps_file_write_buf (s->rows, &b, bad, err);
}

/* The recipe's words for what --quantization says. */
static int add_quantization (DpsBuf *b, const char *kind)
{
    if (kind && (!strcmp (kind, "nf4") || !strcmp (kind, "fp4")))
        return dps_buf_printf (b, "load_in_4bit: true\nbnb_4bit_quant_type: %s\n", kind);
    if (kind && !strcmp (kind, "int8"))
        return dps_buf_str (b, "load_in_8bit: true\n");
    return dps_buf_printf (b, "quantization: %s\n", kind ? kind : "auto");
}

/* The peers' settings: LoRA r 16 on all linear maps, no recomputation, one micro-batch a step. */
static DpsStatus make_recipe (const Steps *s, DpsRecipe **out, DpsError *err)
{
    const BenchOptions *o = s->o;
    DpsBuf b = {0};
    int bad = dps_buf_printf (
        &b,
        "stage: %s\noutput_dir: %s\nmax_steps: %d\nper_device_train_batch_size: %d\ndtype: %s\nadapter: lora\n"
        "lora_r: 16\nlora_alpha: 32\nlearning_rate: 1e-5\nlogging_steps: 1\nsave_strategy: 'no'\nreport_to: none\n"
        "shuffle: false\ngradient_checkpointing: false\nlora_dropout: 0\nmodel_name_or_path: \"%s\"\ndatasets:\n  - path: \"%s\"\n",
        o->objective, s->output, o->steps + BENCH_WARM_UP, o->rows * (s->samples ? ANSWERS : 1), o->dtype ? o->dtype : "auto", o->model,
        s->rows);
    bad = bad || add_quantization (&b, o->quantization);
    if (s->samples)
        bad = bad || dps_buf_printf (&b,
                                     "num_generations: %d\nmax_completion_length: %d\nrollout_batch_size: %d\nreward_funcs:\n"
                                     "  - {name: length, unit: characters, min: 1, max: 1, soft: 1000}\n",
                                     ANSWERS, o->scored, o->batch);
    DpsStatus st = bad ? no_memory (err) : dps_recipe_parse (b.data, b.len, "bench", NULL, NULL, 0, out, err);
    dps_buf_free (&b);
    return st;
}

/* A line of metrics.jsonl, a step. */
static void add_step (Steps *s, const json_t *m, double tokens)
{
    const json_t *step = json_object_get (m, "step_time"), *rollout = json_object_get (m, "rollout_time"),
                 *length = json_object_get (m, "completions/mean_length"), *speed = json_object_get (m, "tokens_per_second");
    double seconds = step ? json_number_value (step) : tokens / json_number_value (speed);
    s->n++;
    s->seconds += seconds;
    s->rollout_s += json_number_value (rollout);
    s->answer_tokens += json_number_value (length) * ANSWERS * s->o->rows;
    s->tokens += tokens;
    s->best = fmin (s->best, seconds);
}

static DpsStatus read_metrics (Steps *s, DpsError *err)
{
    DpsBuf text = {0};
    g_autofree char *path = g_build_filename (s->output, "metrics.jsonl", NULL);
    double seen = 0;
    long line = 0;
    DPS_TRY (dps_file_read (path, MAX_BYTES, &text, err));
    DpsStatus st = DPS_OK;
    for (char *at = text.data, *end; st == DPS_OK && at && (end = strchr (at, '\n')); at = end + 1) {
        json_t *m = NULL;
        st = dps_json_parse (at, (size_t)(end - at), path, ++line, 0, &m, err);
        const json_t *tokens = json_object_get (m, "num_tokens");
        if (st == DPS_OK && tokens && line > BENCH_WARM_UP)
            add_step (s, m, json_number_value (tokens) - seen);
        if (tokens)
            seen = json_number_value (tokens);
        json_decref (m);
    }
    dps_buf_free (&text);
    return st == DPS_OK && s->n == 0 ? dps_fail (err, DPS_ERR_INTERNAL, "bench: %s has no measured step", path) : st;
}

/* Products of a rollout once: prompts, and all but the last token of each answer; the head where a token is drawn. */
static double rollout_flops (const Steps *s)
{
    double prompts = s->n * s->o->rows, answers = prompts * ANSWERS, decoded = s->answer_tokens - answers, heads = prompts + decoded,
           head = (double)s->model.dec.vocab * (double)s->model.dec.hidden;
    return 2 * dps_model_linear_params (&s->model) * (prompts * s->o->tokens + decoded) + 2 * head * heads;
}

/* Of a sampled step what was trained, which may be shorter than planned. */
static double update_flops (const Steps *s)
{
    double head = (double)s->model.dec.vocab * (double)s->model.dec.hidden;
    return s->samples ? 4 * dps_model_linear_params (&s->model) * s->tokens + 4 * head * s->answer_tokens : s->n * s->flops;
}

static void report (const Steps *s, double rss, double peak, json_t *result)
{
    double update_s = s->seconds - s->rollout_s;
    json_object_set_new (result, "objective", json_string (s->o->objective));
    json_object_set_new (result, "dtype", json_string (dps_dtype_name (s->dtype)));
    json_object_set_new (result, "steps", json_real (s->n));
    json_object_set_new (result, "step_seconds", json_real (s->seconds / s->n));
    json_object_set_new (result, "best_step_seconds", json_real (s->best));
    json_object_set_new (result, "update_seconds", json_real (update_s / s->n));
    json_object_set_new (result, "tokens_per_step", json_real (s->tokens / s->n));
    json_object_set_new (result, "update_tokens_per_second", json_real (s->tokens / update_s));
    json_object_set_new (result, "update_gflops", json_real (update_flops (s) / update_s / 1e9));
    if (s->samples) {
        json_object_set_new (result, "rollout_seconds", json_real (s->rollout_s / s->n));
        json_object_set_new (result, "answer_tokens", json_real (s->answer_tokens / s->n / s->o->rows / ANSWERS));
        json_object_set_new (result, "rollout_tokens_per_second", json_real (s->answer_tokens / s->rollout_s));
        json_object_set_new (result, "rollout_gflops", json_real (rollout_flops (s) / s->rollout_s / 1e9));
    }
    json_object_set_new (result, "peak_rss_bytes", json_real (rss));
    json_object_set_new (result, "matmul_peak_gflops", json_real (peak / 1e9));
    if (peak > 0) {
        json_object_set_new (result, "update_share_of_peak", json_real (update_flops (s) / update_s / peak));
        if (s->samples)
            json_object_set_new (result, "rollout_share_of_peak", json_real (rollout_flops (s) / s->rollout_s / peak));
    }
}

static DpsStatus run_steps (Steps *s, const DpsRegistry *reg, DpsError *err)
{
    DpsRecipe *recipe = NULL;
    DpsTrainPlan plan;
    DpsTrainResult done = {0};
    const DpsTrainOptions options = {0};
    if (!s->o->data)
        DPS_TRY (write_rows (s, err));
    DPS_TRY (make_recipe (s, &recipe, err));
    DpsStatus st = dps_train_plan (reg, recipe, &options, 0, &plan, err);
    if (st == DPS_OK) {
        s->flops = plan.flops_per_step;
        s->dtype = !strcmp (plan.dtype, dps_dtype_name (DPS_DTYPE_BF16)) ? DPS_DTYPE_BF16 : DPS_DTYPE_F32;
        st = dps_train (reg, recipe, &options, &done, err);
    }
    dps_free (done.output_dir);
    dps_recipe_free (recipe);
    return st == DPS_OK ? read_metrics (s, err) : st;
}

DpsStatus bench_objective (DpsExec *ex, DpsRegistry *reg, const BenchOptions *o, json_t *result, DpsError *err)
{
    Steps s = {.o = o, .samples = !strcmp (o->objective, "grpo"), .best = INFINITY};
    DpsSource *source = NULL;
    DpsError ignored = DPS_ERROR_INIT;
    s.folder = g_dir_make_tmp ("diapason-bench-XXXXXX", NULL);
    if (!s.folder)
        return dps_fail (err, DPS_ERR_IO, "bench: no temporary folder. Hint: TMPDIR names a place for it");
    s.rows = o->data ? g_strdup (o->data) : g_build_filename (s.folder, "rows.jsonl", NULL);
    s.output = g_build_filename (s.folder, "run", NULL);
    DpsStatus st = dps_source_open (reg, o->model, &source, err);
    if (st == DPS_OK)
        st = dps_source_model (source, &s.model, err);
    dps_source_close (source);
    if (st == DPS_OK)
        st = run_steps (&s, reg, err);
    double rss = bench_peak_rss (), peak = 0;
    if (st == DPS_OK)
        st = bench_matmul_peak (ex, s.dtype, &peak, err);
    if (st == DPS_OK)
        report (&s, rss, peak, result);
    dps_model_free (&s.model);
    dps_remove_tree (s.folder, &ignored);
    g_free (s.folder);
    g_free (s.rows);
    g_free (s.output);
    return st;
}
