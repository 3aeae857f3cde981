/* SPDX-License-Identifier: Apache-2.0 */
/* bench_train.c: LoRA training steps on rows of random tokens, and decoding, timed. */
#include <math.h>
#include <string.h>

#include <glib.h>

#include "base/mem.h"
#include "base/rng.h"
#include "diapason/bench.h"
#include "graph/quantise.h"
#include "graph/source_check.h"
#include "infer/generate.h"
#include "infer/pass.h"
#include "optim/step.h"

typedef struct Bench {
    DpsExec *ex;
    DpsSource *source;
    DpsModel model;
    DpsWeights weights;
    uint32_t compute;
    double load_s;
} Bench;

static DpsStatus choose_dtype (const DpsExec *ex, const char *name, uint32_t *out, DpsError *err)
{
    const DpsExecDevice *d = &ex->devices[0];
    uint64_t bytes;
    uint32_t layout;
    int bf16 = d->pack && d->pack->query (d->info.device, 64, 64, DPS_DTYPE_BF16, DPS_PACK_FORWARD, &bytes, &layout, NULL) == DPS_OK;
    if (!name || !strcmp (name, "auto"))
        *out = bf16 ? DPS_DTYPE_BF16 : DPS_DTYPE_F32;
    else if (!strcmp (name, "float32"))
        *out = DPS_DTYPE_F32;
    else if (!strcmp (name, "bfloat16"))
        *out = DPS_DTYPE_BF16;
    else
        return dps_fail (err, DPS_ERR_USAGE, "--dtype is '%s', expected auto, float32 or bfloat16", name);
    return DPS_OK;
}

static DpsStatus attach_lora (Bench *b, const DpsRegistry *reg, DpsError *err)
{
    const DpsAdapter *lora = dps_registry_get (reg, DPS_ADAPTER_ID, "lora");
    if (!lora)
        return dps_registry_missing (reg, DPS_ADAPTER_ID, "lora", err);
    const double num[] = {16, 32, 0, 0};
    const DpsStr str[4] = {{0}};
    DpsTargetSpec all = {.all_linear = 1};
    DpsTargets *targets;
    DPS_TRY (dps_targets_new (&all, &targets, err));
    DpsStatus st =
        dps_model_attach (&b->model, &(DpsAttach){.adapter = lora, .num = num, .str = str, .targets = targets, .trainable = 1}, err);
    dps_targets_free (targets);
    return st;
}

static DpsStatus open_bench (Bench *b, DpsExec *ex, const DpsRegistry *reg, const BenchOptions *o, int training, DpsError *err)
{
    double start = bench_now ();
    memset (b, 0, sizeof *b);
    b->ex = ex;
    DPS_TRY (choose_dtype (ex, o->dtype, &b->compute, err));
    DPS_TRY (dps_source_open (reg, o->model, &b->source, err));
    DpsQuantise how;
    DPS_TRY (dps_quantise_parse (o->quantization, &how, err));
    DPS_TRY (dps_source_model (b->source, &b->model, err));
    DPS_TRY (dps_model_quantise (&b->model, b->source, &how, err));
    if (training)
        DPS_TRY (attach_lora (b, reg, err));
    DPS_TRY (dps_weights_load (&b->weights, ex, &b->model, b->source, b->compute, training, 2, err));
    DPS_TRY (dps_weights_init (&b->weights, 1, err));
    b->load_s = bench_now () - start;
    return DPS_OK;
}

/* The base by what it is kept in: quantised linear maps, and apart from them embedding and head with what else is in numbers. */
static void report_weights (const Bench *b, json_t *result)
{
    const DpsWeightBytes *w = &b->weights.bytes;
    if (!w->quantised_numbers)
        return;
    json_object_set_new (result, "quantised_weights", json_integer ((json_int_t)w->quantised_numbers));
    json_object_set_new (result, "quantised_bytes", json_integer ((json_int_t)w->quantised));
    json_object_set_new (result, "quantised_bytes_per_weight", json_real ((double)w->quantised / (double)w->quantised_numbers));
    json_object_set_new (result, "other_weight_bytes", json_integer ((json_int_t)(w->rows + w->packed_forward + w->packed_grad)));
}

static void close_bench (Bench *b)
{
    if (b->weights.stores)
        dps_weights_free (&b->weights);
    dps_model_free (&b->model);
    dps_source_close (b->source);
}

enum { MAX_ROWS = 256 };

typedef struct BenchTotals {
    double tokens, scored, flops, seconds, best;
    double exec_seconds; /* in exec and the backend */
} BenchTotals;

static DpsStatus train_step (Bench *b, DpsOptim *optim, const DpsBatch *batch, float *dlogp, double *exec_seconds, DpsError *err)
{
    DpsPass p;
    DpsPassOptions po = {.training = 1};
    double norm;
    DPS_TRY (dps_weights_zero_grads (&b->weights, err));
    DPS_TRY (dps_pass_open (&p, &b->weights, batch, &po, err));
    DPS_TRY (dps_exec_reserve (b->ex, p.peak, err));
    double start = bench_now ();
    DpsStatus st = dps_pass_forward (&p, err);
    for (int64_t i = 0; i < batch->n_scored; i++)
        dlogp[i] = (float)(-1 / batch->total_weight);
    if (st == DPS_OK)
        st = dps_pass_backward (&p, dlogp, err);
    *exec_seconds += bench_now () - start;
    dps_pass_close (&p);
    DPS_TRY (st);
    start = bench_now ();
    DPS_TRY (dps_optim_grad_norm (&b->weights, &norm, err));
    DPS_TRY (dps_optim_step (optim, &b->weights, 1e-4, norm, err));
    *exec_seconds += bench_now () - start;
    return DPS_OK;
}

/* Forward, and input gradients but for the first layer's q, k, v, whose input trains nothing; the head twice on scored rows. */
static double useful_flops (const Bench *b, const DpsBatch *batch)
{
    const DpsDecoder *d = &b->model.dec;
    double params = dps_model_linear_params (&b->model),
           first = (double)d->hidden * (double)((d->n_heads + 2 * d->n_kv_heads) * d->head_dim);
    return 2.0 * (double)batch->n_tokens * (2 * params - first) + 4.0 * (double)batch->n_scored * (double)d->vocab * (double)d->hidden;
}

static void report_cases (const DpsExec *ex, json_t *result)
{
    json_t *cases = json_object ();
    for (size_t i = 0; i < ex->n_cases && ex->profile; i++) {
        g_autofree char *name = g_strdup_printf ("%s (%s) ×%llu on %s", dps_op_name (ex->cases[i].op), ex->cases[i].operands,
                                                 (unsigned long long)ex->cases[i].runs, ex->devices[ex->cases[i].device].info.name);
        json_object_set_new (cases, name, json_real (ex->cases[i].seconds));
    }
    if (ex->profile)
        json_object_set (result, "seconds_by_op", cases);
    json_decref (cases);
}

/* Steps [0, BENCH_WARM_UP) warm up, the rest are measured. */
static DpsStatus timed_step (Bench *b, const BenchOptions *o, const BenchRows *rows, int step, DpsOptim *optim, BenchTotals *t,
                             DpsError *err)
{
    DpsSequence sequences[MAX_ROWS];
    DpsBatch batch;
    for (int r = 0; r < o->rows; r++)
        sequences[r] = bench_rows_get (rows, (size_t)(step * o->rows + r));
    DPS_TRY (dps_batch_build (sequences, (size_t)o->rows, b->model.dec.vocab, &batch, err));
    float *dlogp = dps_malloc ((size_t)batch.n_scored, sizeof *dlogp);
    double start = bench_now (), exec = 0;
    DpsStatus st = dlogp ? train_step (b, optim, &batch, dlogp, &exec, err) : dps_fail (err, DPS_ERR_NOMEM, "bench: out of memory");
    double took = bench_now () - start;
    if (step >= BENCH_WARM_UP) {
        t->seconds += took;
        t->exec_seconds += exec;
        t->tokens += (double)batch.n_tokens;
        t->scored += (double)batch.n_scored;
        t->flops += useful_flops (b, &batch);
        t->best = fmin (t->best, took);
    } else
        for (size_t i = 0; i < b->ex->n_cases; i++)
            b->ex->cases[i].seconds = 0, b->ex->cases[i].runs = 0;
    dps_free (dlogp);
    dps_batch_free (&batch);
    return st;
}

static DpsStatus run_steps (Bench *b, const BenchOptions *o, BenchTotals *t, DpsError *err)
{
    BenchRows *rows;
    DpsOptim optim = {.kind = DPS_OPTIM_ADAMW, .beta1 = 0.9, .beta2 = 0.999, .epsilon = 1e-8, .max_grad_norm = 1};
    if (o->rows > MAX_ROWS)
        return dps_fail (err, DPS_ERR_LIMIT, "bench: --rows is %d, at most %d", o->rows, MAX_ROWS);
    DPS_TRY (bench_rows_open (o, b->model.dec.vocab, &rows, err));
    DpsStatus st = DPS_OK;
    for (int step = 0; st == DPS_OK && step < o->steps + BENCH_WARM_UP; step++)
        st = timed_step (b, o, rows, step, &optim, t, err);
    bench_rows_close (rows);
    return st;
}

static DpsStatus timed_steps (Bench *b, const BenchOptions *o, json_t *result, DpsError *err)
{
    BenchTotals t = {.best = INFINITY};
    double first_step = bench_since_launch ();
    DpsStatus st = run_steps (b, o, &t, err);
    json_object_set_new (result, "tokens_per_second", json_real (t.tokens / t.seconds));
    json_object_set_new (result, "mean_row_tokens", json_real (t.tokens / o->steps / o->rows));
    json_object_set_new (result, "scored_share", json_real (t.scored / t.tokens));
    json_object_set_new (result, "step_seconds", json_real (t.seconds / o->steps));
    json_object_set_new (result, "best_step_seconds", json_real (t.best));
    json_object_set_new (result, "useful_gflops", json_real (t.flops / t.seconds / 1e9));
    json_object_set_new (result, "first_step_after_seconds", json_real (first_step));
    json_object_set_new (result, "load_seconds", json_real (b->load_s));
    report_cases (b->ex, result);
    return st;
}

DpsStatus bench_train (DpsExec *ex, DpsRegistry *reg, const BenchOptions *o, json_t *result, DpsError *err)
{
    Bench b;
    DpsStatus st = open_bench (&b, ex, reg, o, 1, err);
    json_object_set_new (result, "device", json_string (ex->devices[0].info.name));
    json_object_set_new (result, "detail", json_string (ex->devices[0].info.detail ? ex->devices[0].info.detail : ""));
    json_object_set_new (result, "dtype", json_string (dps_dtype_name (b.compute)));
    if (st == DPS_OK)
        report_weights (&b, result);
    if (st == DPS_OK)
        st = timed_steps (&b, o, result, err);
    json_object_set_new (result, "peak_rss_bytes", json_real (bench_peak_rss ()));
    json_object_set_new (result, "arena_bytes", json_real ((double)ex->arena_peak));
    uint32_t compute = b.compute;
    close_bench (&b);
    double peak = 0;
    if (st == DPS_OK)
        st = bench_matmul_peak (ex, compute, &peak, err);
    json_object_set_new (result, "matmul_peak_gflops", json_real (peak / 1e9));
    if (peak > 0)
        json_object_set_new (result, "share_of_peak",
                             json_real (json_number_value (json_object_get (result, "useful_gflops")) * 1e9 / peak));
    return st;
}

/* A backend that does nothing: what is left of a step is what the host does around the arithmetic. */

static DpsStatus run_nothing (struct DpsDevice *dev, const DpsOp *op, uint32_t flags, DpsError *err)
{
    (void)dev, (void)op, (void)flags, (void)err;
    return DPS_OK;
}

static DpsStatus pack_nothing (struct DpsDevice *dev, const DpsView *from, int64_t row, uint32_t orientation, const DpsView *to,
                               DpsError *err)
{
    (void)dev, (void)from, (void)row, (void)orientation, (void)to, (void)err;
    return DPS_OK;
}

/* Both measurements in one process, on the same rows. Every kind of op has its place from the first, so that nobody is asked in the second. */
static DpsStatus abi_steps (Bench *b, const BenchOptions *o, json_t *result, DpsError *err)
{
    DpsBackend tables[DPS_EXEC_MAX_DEVICES];
    DpsPack packs[DPS_EXEC_MAX_DEVICES];
    DpsExecDevice saved[DPS_EXEC_MAX_DEVICES];
    BenchTotals real = {.best = INFINITY}, empty = {.best = INFINITY};
    uint64_t calls = 0;
    DPS_TRY (run_steps (b, o, &real, err));
    for (int i = 0; i < b->ex->n_devices; i++) {
        DpsExecDevice *d = &b->ex->devices[i];
        saved[i] = *d;
        tables[i] = *d->backend;
        tables[i].run = run_nothing;
        d->backend = &tables[i];
        if (d->pack) {
            packs[i] = *d->pack;
            packs[i].pack = pack_nothing;
            d->pack = &packs[i];
        }
    }
    DpsStatus st = run_steps (b, o, &empty, err);
    for (int i = 0; i < b->ex->n_devices; i++)
        b->ex->devices[i] = saved[i];
    for (size_t i = 0; i < b->ex->n_cases; i++)
        calls += b->ex->cases[i].runs;
    json_object_set_new (result, "step_seconds", json_real (real.seconds / o->steps));
    json_object_set_new (result, "calls_per_step", json_real ((double)calls / o->steps));
    json_object_set_new (result, "abi_seconds", json_real (empty.exec_seconds / o->steps));
    json_object_set_new (result, "abi_nanoseconds_per_call", json_real (1e9 * empty.exec_seconds / (double)(calls ? calls : 1)));
    json_object_set_new (result, "abi_share", json_real (empty.exec_seconds / real.seconds));
    json_object_set_new (result, "host_share", json_real (empty.seconds / real.seconds));
    return st;
}

DpsStatus bench_abi (DpsExec *ex, DpsRegistry *reg, const BenchOptions *o, json_t *result, DpsError *err)
{
    Bench b;
    DpsStatus st = open_bench (&b, ex, reg, o, 1, err);
    json_object_set_new (result, "device", json_string (ex->devices[0].info.name));
    json_object_set_new (result, "dtype", json_string (dps_dtype_name (b.compute)));
    if (st == DPS_OK)
        st = abi_steps (&b, o, result, err);
    close_bench (&b);
    return st;
}

/* When every prompt of the batch has its first token: before lies the prefill, after it one step for all at a time. */
typedef struct FirstTokens {
    size_t n, seen;
    double at;
} FirstTokens;

static void note_first (void *ctx, uint64_t completion, int32_t id)
{
    FirstTokens *f = ctx;
    (void)completion;
    (void)id;
    if (++f->seen == f->n)
        f->at = bench_now ();
}

DpsStatus bench_decode (DpsExec *ex, DpsRegistry *reg, const BenchOptions *o, json_t *result, DpsError *err)
{
    Bench b;
    DpsStatus st = open_bench (&b, ex, reg, o, 0, err);
    size_t n = (size_t)o->batch, length = (size_t)o->tokens;
    int32_t *ids = dps_calloc (n * length, sizeof *ids);
    const int32_t **prompts = dps_calloc (n, sizeof *prompts);
    size_t *lengths = dps_calloc (n, sizeof *lengths);
    DpsCompletion *out = dps_calloc (n, sizeof *out);
    double start = 0, end = 0;
    FirstTokens first = {.n = n};
    if (st == DPS_OK && !(ids && prompts && lengths && out))
        st = dps_fail (err, DPS_ERR_NOMEM, "bench: out of memory");
    for (size_t i = 0; st == DPS_OK && i < n; i++) {
        prompts[i] = ids + i * length;
        lengths[i] = length;
        for (size_t t = 0; t < length; t++)
            ids[i * length + t] = (int32_t)dps_rng_below (1, i, t, (uint64_t)b.model.dec.vocab);
    }
    for (int pass = 0; pass < 2 && st == DPS_OK; pass++) { /* warm-up; measured */
        DpsGenerateOptions g = {.max_tokens = pass ? o->steps + 1 : 1,
                                .batch = o->batch,
                                .ignore_end = 1,
                                .sampling = {.top_p = 1},
                                .on_token = pass ? note_first : NULL,
                                .ctx = &first};
        start = bench_now ();
        st = dps_generate (&b.weights, NULL, prompts, lengths, n, &g, out, err);
        end = bench_now ();
        for (size_t i = 0; i < n; i++)
            dps_completion_free (&out[i]);
    }
    if (st == DPS_OK) {
        json_object_set_new (result, "prefill_tokens_per_second", json_real ((double)(n * length) / (first.at - start)));
        json_object_set_new (result, "decode_tokens_per_second", json_real ((double)n * (double)o->steps / (end - first.at)));
        json_object_set_new (result, "dtype", json_string (dps_dtype_name (b.compute)));
        json_object_set_new (result, "peak_rss_bytes", json_real (bench_peak_rss ()));
    }
    dps_free (ids);
    dps_free (prompts);
    dps_free (lengths);
    dps_free (out);
    close_bench (&b);
    return st;
}
