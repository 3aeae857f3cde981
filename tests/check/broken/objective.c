/* SPDX-License-Identifier: Apache-2.0 */
/*
 * objective.c: the loss of a row is Σ_t w_t·(−log p(t)) + warmth·(mean log p)², warmth growing with each step up to 1. So it has a parameter, masks, a mean
 * that must not be one over a micro-batch, a state and a metric; what a row earned weighs it. And every fault an objective can have.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/mem.h"
#include "broken.h"
#include "diapason/sdk.h"

static DpsParam warmth = DPS_SDK_PARAM ("warmth", DPS_PARAM_F64, 0.5, 0, 1, NULL, "weight of the second term");
static const DpsParam *const params[] = {&warmth};
static const DpsSignal logp = {.size = sizeof logp, .name = "logp", .role = "policy", .axis = DPS_AXIS_TOKEN, .differentiable = 1};
static const DpsSignal worth = {.size = sizeof worth, .name = "worth", .role = "step", .axis = DPS_AXIS_ROW};
static const DpsSignal *const signals[] = {&logp, &worth};
static DpsObjectiveInfo info = {.size = sizeof info,
                                .name = "objective",
                                .summary = "for the tests of diapason check",
                                .reference = "none",
                                .unit = DPS_UNIT_SINGLE,
                                .total = DPS_TOTAL_TOKENS,
                                .params = params,
                                .n_params = 1,
                                .n_signals = 2,
                                .signals = signals};

typedef struct Warm {
    double warmth, grown;
} Warm;

static DpsHost the_host;

static DpsStatus init (const DpsHost *host, const char *path, DpsError *err)
{
    (void)path, (void)err;
    if (IS (uses_host_unchecked)) {
        host->log (DPS_HOST_LOG_DEBUG, dps_str ("hello"));
        return DPS_OK;
    }
    dps_table_copy (&the_host, sizeof the_host, host);
    return DPS_OK;
}

static const DpsObjectiveInfo *describe (void)
{
    warmth.def = IS (default_out_of_range) ? 3 : 0.5;
    info.name = IS (other_name) ? "broken" : "objective";
    return &info;
}

static DpsStatus create (const double *num, const DpsStr *str, void **out, DpsError *err)
{
    (void)str;
    Warm *w = dps_calloc (1, sizeof *w);
    if (!w && !IS (trusts_malloc))
        return IS (says_nothing) ? DPS_ERR_NOMEM : dps_sdk_fail (err, DPS_ERR_NOMEM, "no memory");
    w->warmth = num[0];
    *out = w;
    return DPS_OK;
}

static void destroy (void *self)
{
    if (!IS (leaks_memory))
        dps_free (self);
}

/* Weights as the loss takes them: a copy in memory of its own, or of all instances. */
static const double *weights_of (const DpsHostTape *ops, struct DpsTape *t, const DpsObjectiveBatch *b)
{
    static double shared[1024];
    if (!IS (shares_memory) || b->n_tokens > 1024)
        return b->weights;
    memcpy (shared, b->weights, b->n_tokens * sizeof *shared);
    for (uint64_t i = 0; i < b->n_tokens; i++)
        shared[i] += (double)b->n_tokens * 1e-3; /* of this batch, until another one comes */
    (void)ops->constant (t, 0);
    (void)ops->neg (t, ops->constant (t, 0));
    return shared;
}

static void misbehave (const DpsObjectiveBatch *b)
{
    static volatile int for_ever = 1, *nowhere;
    if (IS (hangs))
        while (for_ever)
            ;
    if (IS (crashes))
        *nowhere = 1;
    if (IS (exits))
        exit (0);
    if (IS (writes_inputs) && b->n_tokens)
        ((double *)b->weights)[b->n_tokens - 1] = 1.5;
}

static void report (const DpsMetricSink *metrics, const DpsObjectiveBatch *b, const double *mean)
{
    for (uint64_t r = 0; mean && r < b->n_rows; r++)
        if (!IS (metric_of_batch))
            metrics->add (metrics->ctx, dps_str ("mean_logp"), IS (metric_is_nan) && r == 1 ? NAN : mean[r], 1);
    if (IS (metric_of_batch) && mean && b->n_rows)
        metrics->add (metrics->ctx, dps_str ("mean_logp"), mean[0], 1);
}

static DpsVal weights_on_tape (const DpsHostTape *ops, struct DpsTape *t, const DpsObjectiveBatch *b)
{
    static const double *kept;
    static uint64_t n_kept;
    const double *w = weights_of (ops, t, b);
    DpsVal weights = ops->input (t, DPS_AXIS_TOKEN, w, b->n_tokens);
    if (IS (keeps_pointer)) {
        double of_before = kept && n_kept ? kept[0] : 1;
        kept = b->weights;
        n_kept = b->n_tokens;
        weights = ops->mul (t, weights, ops->constant (t, of_before));
    }
    return weights;
}

/* Row: mean log-prob of its weighed tokens; 0 where there are none. */
static DpsVal mean_of (const DpsHostTape *ops, struct DpsTape *t, DpsVal weighed, DpsVal weights)
{
    DpsVal count = ops->sum_rows (t, weights);
    return ops->div (t, ops->sum_rows (t, weighed), IS (divides_by_nothing) ? count : ops->max (t, count, ops->constant (t, 1)));
}

static DpsStatus loss (void *self, const DpsHostTape *ops, struct DpsTape *t, const DpsObjectiveBatch *b, const DpsVal *signal,
                       const DpsMetricSink *metrics, DpsVal *out_loss, DpsError *err)
{
    static unsigned n_calls;
    const Warm *w = self;
    (void)err;
    misbehave (b);
    DpsVal x = signal[0];
    if (IS (swallows_nan)) /* below −1e30, or no number: nothing */
        x = ops->where (t, ops->add (t, x, ops->constant (t, 1e30)), x, ops->constant (t, 0));
    DpsVal weights = weights_on_tape (ops, t, b), weighed = ops->mul (t, weights, x);
    DpsVal mean = mean_of (ops, t, weighed, weights), warm = ops->constant (t, w->warmth * (1 + w->grown));
    const double *values = ops->data (t, mean, NULL);
    DpsVal second = ops->square (t, mean);
    if (IS (outside_tape) && values)
        second = ops->square (t, ops->input (t, DPS_AXIS_ROW, values, b->n_rows));
    DpsVal tokens = IS (reads_masked) ? ops->sum_rows (t, x) : ops->sum_rows (t, weighed);
    DpsVal per_row = ops->add (t, ops->neg (t, tokens), ops->mul (t, warm, second));
    if (IS (infinite_when_certain)) /* ORPO's odds of an answer */
        per_row = ops->sub (t, per_row, ops->log (t, ops->sub (t, ops->constant (t, 1), ops->exp (t, mean))));
    per_row = ops->mul (t, per_row, signal[1]);
    if (IS (averages))
        per_row = ops->div (t, per_row, ops->constant (t, (double)b->n_units));
    if (IS (reads_the_clock))
        per_row = ops->add (t, per_row, ops->constant (t, 1e-9 * (double)(time (NULL) / 86400)));
    if (IS (gradient_by_rows)) { /* the loss as it is; its gradient as many times as there are rows */
        DpsVal n = ops->constant (t, (double)b->n_rows), less = ops->constant (t, (double)b->n_rows - 1);
        per_row = ops->sub (t, ops->mul (t, n, per_row), ops->mul (t, less, ops->detach (t, per_row)));
    }
    if (IS (random_bits))
        per_row = ops->add (t, per_row, ops->constant (t, 1e-12 * (double)(n_calls++ % 7)));
    *out_loss = IS (loss_without_unit) ? ops->sum (t, per_row) : ops->sum_units (t, per_row);
    if (IS (by_place) && b->n_rows) { /* the first row of the batch counts double */
        double twice[64] = {0};
        twice[0] = 1;
        DpsVal first = b->n_rows < 64 ? ops->input (t, DPS_AXIS_ROW, twice, b->n_rows) : ops->constant (t, 0);
        *out_loss = ops->sum_units (t, ops->mul (t, per_row, ops->add (t, first, ops->constant (t, 1))));
    }
    report (metrics, b, values);
    return DPS_OK;
}

/* Between 1/2 and 3/2, by what the criteria said that said something. */
static DpsStatus score (void *self, const DpsObjectiveBatch *step, const DpsRewards *rewards, double *const *out,
                        const DpsMetricSink *metrics, DpsError *err)
{
    (void)self, (void)metrics, (void)err;
    for (uint64_t r = 0; r < step->n_rows; r++) {
        double sum = 0;
        for (uint64_t c = 0; c < rewards->n_criteria; c++) {
            const double value = rewards->values[r * rewards->n_criteria + c];
            sum += isnan (value) && !IS (counts_the_unjudged) ? 0 : rewards->weights[c] * value;
        }
        out[1][r] = 1 + 0.5 * tanh (sum);
    }
    return DPS_OK;
}

static DpsStatus step_end (void *self, uint64_t step, DpsError *err)
{
    Warm *w = self;
    (void)step, (void)err;
    w->grown += 0.25 * (1 - w->grown);
    return DPS_OK;
}

static DpsStatus state_save (void *self, void *buf, size_t cap, size_t *out_len, DpsError *err)
{
    Warm w = *(Warm *)self;
    if (IS (forgets_state))
        w.grown = 0;
    *out_len = sizeof w.grown;
    if (!buf)
        return DPS_OK;
    if (cap < sizeof w.grown)
        return dps_sdk_fail (err, DPS_ERR_LIMIT, "no room for the state");
    memcpy (buf, &w.grown, sizeof w.grown);
    return DPS_OK;
}

static DpsStatus state_load (void *self, const void *buf, size_t len, DpsError *err)
{
    Warm *w = self;
    if (len != sizeof w->grown && !IS (takes_any_state))
        return dps_sdk_fail (err, DPS_ERR_FORMAT, "a state has 8 bytes");
    memcpy (&w->grown, buf, len < sizeof w->grown ? len : sizeof w->grown);
    return DPS_OK;
}

#ifdef EXTRA_SYMBOL
__attribute__ ((visibility ("default"))) int dps_helper (void);
int dps_helper (void) { return 1; }
#endif

/* Faults of the table and the symbol are values, not conditions. */
#ifndef TABLE_SIZE
#define TABLE_SIZE sizeof (DpsObjective)
#endif
#ifndef ABI_MAJOR
#define ABI_MAJOR DPS_ABI_MAJOR
#endif
#ifdef NO_LOSS
#define LOSS (1 ? NULL : loss)
#else
#define LOSS loss
#endif

static const DpsObjective objective = {.size = TABLE_SIZE,
                                       .describe = describe,
                                       .create = create,
                                       .destroy = destroy,
                                       .score = score,
                                       .loss = LOSS,
                                       .step_end = step_end,
                                       .state_save = state_save,
                                       .state_load = state_load};

static const void *get_interface (DpsStr id) { return dps_str_is (id, DPS_OBJECTIVE_ID) ? &objective : NULL; }

extern const DpsPluginEntry dps_plugin_entry;
__attribute__ ((visibility ("default"))) const DpsPluginEntry dps_plugin_entry = {.magic = DPS_PLUGIN_MAGIC,
                                                                                  .size = sizeof (DpsPluginEntry),
                                                                                  .abi_major = ABI_MAJOR,
                                                                                  .abi_minor = DPS_ABI_MINOR,
                                                                                  .sdk_version = DPS_SDK_VERSION,
                                                                                  .init = init,
                                                                                  .get_interface = get_interface};
