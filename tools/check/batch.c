/* SPDX-License-Identifier: Apache-2.0 */
#include "check/batch.h"

#include <math.h>
#include <string.h>

#include "base/rng.h"
#include "diapason/plugin.h"

/* Streams of the seed; those of signals begin behind them. */
enum { ROWS, TOKENS, MASK, REWARDS, TRUNCATED, SIGNALS, UNJUDGED };

static int64_t between (uint64_t seed, uint64_t stream, uint64_t i, int64_t least, int64_t most)
{
    return least + (int64_t)dps_rng_below (seed, stream, i, (uint64_t)(most - least + 1));
}

static void make_shape (const DpsObjectiveInstance *o, const CheckBatchPlan *plan, CheckBatch *b)
{
    for (uint64_t u = 0; u < plan->n_units; u++) {
        int64_t rows = o->info.unit == DPS_UNIT_SINGLE ? 1
                       : o->info.unit == DPS_UNIT_PAIR ? 2
                       : plan->rows                    ? plan->rows
                                                       : between (plan->seed, ROWS, u, 1, 4);
        for (int64_t r = 0; r < rows; r++, b->n_rows++) {
            int64_t n = plan->tokens ? plan->tokens : between (plan->seed, TOKENS, b->n_rows, 1, 7);
            n = b->n_rows + 1 == plan->empty_row ? 0 : n;
            b->row_offsets[b->n_rows + 1] = b->row_offsets[b->n_rows] + n;
        }
        b->unit_offsets[u + 1] = (int64_t)b->n_rows;
    }
    b->n_units = b->step_units = plan->n_units;
    b->step_rows = b->n_rows;
    b->n_tokens = b->step_tokens = (uint64_t)b->row_offsets[b->n_rows];
    b->micro_batches = 1;
}

/* The first token of a row always counts, so that no row is masked whole. */
static void make_weights (const CheckBatchPlan *plan, CheckBatch *b)
{
    for (uint64_t i = 0; i < b->n_tokens; i++)
        b->weights[i] = plan->masked && dps_rng_below (plan->seed, MASK, i, 3) == 0 ? 0 : 1;
    for (uint64_t r = 0; r < b->n_rows; r++)
        if (b->row_offsets[r + 1] > b->row_offsets[r])
            b->weights[b->row_offsets[r]] = 1;
}

static int is_role (const DpsSignal *s, const char *role) { return !strcmp (s->role, role); }

/* Log-probabilities of one token under several models are near each other, as in training; kinks of a clip are met on both sides. */
static double draw (const DpsSignal *s, uint64_t seed, uint64_t i)
{
    if (!strcmp (s->name, "logp") || !strcmp (s->name, "topk_logp")) {
        double of_all = -0.2 - 3 * dps_rng_uniform (seed, SIGNALS, i);
        return of_all - 0.15 * dps_rng_uniform (seed, dps_rng_stream (s->role), i);
    }
    if (!strcmp (s->name, "entropy"))
        return 3 * dps_rng_uniform (seed, dps_rng_stream (s->name), i);
    if (!strcmp (s->name, "hit"))
        return dps_rng_uniform (seed, dps_rng_stream (s->name), i) < 0.5;
    return dps_rng_normal (seed, dps_rng_stream (s->name), i) + 0.3 * dps_rng_normal (seed, dps_rng_stream (s->role), i);
}

DpsStatus check_batch_make (const DpsObjectiveInstance *o, const CheckBatchPlan *plan, CheckBatch *out, DpsError *err)
{
    memset (out, 0, sizeof *out);
    make_shape (o, plan, out);
    make_weights (plan, out);
    for (uint64_t i = 0; i < out->n_rows * CHECK_CRITERIA; i++)
        out->values[i] = plan->unjudged && (i < CHECK_CRITERIA || dps_rng_below (plan->seed, UNJUDGED, i, 3) == 0)
                             ? NAN
                             : dps_rng_normal (plan->seed, REWARDS, i);
    for (uint64_t r = 0; r < out->n_rows; r++)
        out->truncated[r] = dps_rng_below (plan->seed, TRUNCATED, r, 4) == 0;
    for (uint32_t s = 0; s < o->info.n_signals; s++)
        for (uint64_t i = 0; !is_role (&o->signals[s], "step") && i < check_signal_length (o, out, s); i++)
            out->signal[s][i] = draw (&o->signals[s], plan->seed, i);
    return check_batch_score (o, out, err);
}

static void no_metric (void *ctx, DpsStr name, double value, double weight) { (void)ctx, (void)name, (void)value, (void)weight; }

/* The batch as the interface gives it. */
static DpsObjectiveBatch as_batch (const DpsObjectiveInstance *o, const CheckBatch *b, const double *const *signals)
{
    return (DpsObjectiveBatch){.size = sizeof (DpsObjectiveBatch),
                               .n_tokens = b->n_tokens,
                               .n_rows = b->n_rows,
                               .n_units = b->n_units,
                               .row_offsets = b->row_offsets,
                               .unit_offsets = b->unit_offsets,
                               .signals = signals,
                               .weights = b->weights,
                               .total = dps_objective_total (o, b->step_tokens, b->step_rows, b->step_units),
                               .step_tokens = b->step_tokens,
                               .step_rows = b->step_rows,
                               .step_units = b->step_units,
                               .micro_batches = b->micro_batches};
}

DpsStatus check_batch_score (const DpsObjectiveInstance *o, CheckBatch *b, DpsError *err)
{
    static const double criteria_weights[CHECK_CRITERIA] = {1, 0.5};
    static const DpsStr names[CHECK_CRITERIA] = {{"first", 5}, {"second", 6}};
    const double *given[CHECK_MAX_SIGNALS] = {0};
    double *out[CHECK_MAX_SIGNALS] = {0};
    int any = 0;
    for (uint32_t s = 0; s < o->info.n_signals; s++) {
        int made = is_role (&o->signals[s], "step");
        given[s] = made || is_role (&o->signals[s], "policy") || !dps_objective_reads (o, s) ? NULL : b->signal[s];
        out[s] = made ? b->signal[s] : NULL;
        any |= made;
    }
    if (!any)
        return DPS_OK;
    const DpsRewards rewards = {.size = sizeof rewards,
                                .n_criteria = CHECK_CRITERIA,
                                .values = b->values,
                                .weights = criteria_weights,
                                .names = names,
                                .truncated = b->truncated};
    const DpsMetricSink sink = {.size = sizeof sink, .add = no_metric};
    const DpsObjectiveBatch step = as_batch (o, b, given);
    return o->table.score (o->self, &step, &rewards, out, &sink, err);
}

void check_batch_pick (const DpsObjectiveInstance *o, const CheckBatch *from, const uint64_t *which, uint64_t n, CheckBatch *out)
{
    memset (out, 0, sizeof *out);
    out->step_tokens = from->step_tokens;
    out->step_rows = from->step_rows;
    out->step_units = from->step_units;
    out->micro_batches = (from->step_units + n - 1) / (n ? n : 1);
    for (uint64_t u = 0; u < n; u++) {
        for (int64_t r = from->unit_offsets[which[u]]; r < from->unit_offsets[which[u] + 1]; r++) {
            uint64_t to = out->n_rows++, first = out->n_tokens;
            int64_t at = from->row_offsets[r], tokens = from->row_offsets[r + 1] - at;
            memcpy (out->weights + first, from->weights + at, (size_t)tokens * sizeof *out->weights);
            for (uint32_t s = 0; s < o->info.n_signals; s++)
                if (o->signals[s].axis == DPS_AXIS_TOKEN)
                    memcpy (out->signal[s] + first, from->signal[s] + at, (size_t)tokens * sizeof **out->signal);
                else
                    out->signal[s][to] = from->signal[s][r];
            out->n_tokens += (uint64_t)tokens;
            out->row_offsets[to + 1] = (int64_t)out->n_tokens;
        }
        out->unit_offsets[u + 1] = (int64_t)out->n_rows;
    }
    out->n_units = n;
}

/* One run, and the tape under watch. Runs may stand inside each other (meanwhile): the innermost is `running`. */

typedef struct Run {
    CheckTapeWatch *watch;
    CheckLoss *out;
    size_t at_detached;
    struct Run *outer;
} Run;

static Run *running;

static void count_op (void)
{
    Run *r = running;
    if (++r->out->n_ops == (r->watch ? r->watch->at : 0) && r->watch->meanwhile)
        r->watch->meanwhile (r->watch->ctx);
}

#define ONE(name)                                                                                                                          \
    static DpsVal watched_##name (struct DpsTape *t, DpsVal x)                                                                             \
    {                                                                                                                                      \
        count_op ();                                                                                                                       \
        return dps_tape_table ()->name (t, x);                                                                                             \
    }
#define TWO(name)                                                                                                                          \
    static DpsVal watched_##name (struct DpsTape *t, DpsVal a, DpsVal b)                                                                   \
    {                                                                                                                                      \
        count_op ();                                                                                                                       \
        return dps_tape_table ()->name (t, a, b);                                                                                          \
    }
#define ONES(X)                                                                                                                            \
    X (neg)                                                                                                                                \
    X (exp) X (log) X (square) X (abs) X (relu) X (sigmoid) X (log_sigmoid) X (sum_rows) X (mean_rows) X (sum_units) X (sum) X (last)
#define TWOS(X) X (add) X (sub) X (mul) X (div) X (min) X (max)
ONES (ONE)
TWOS (TWO)

static DpsVal watched_input (struct DpsTape *t, uint32_t axis, const double *data, uint64_t n)
{
    count_op ();
    return dps_tape_table ()->input (t, axis, data, n);
}

static DpsVal watched_detach (struct DpsTape *t, DpsVal x)
{
    CheckTapeWatch *w = running->watch;
    uint32_t axis = 0;
    uint64_t n = 0;
    const double *values = dps_tape_values (t, x, &axis, &n);
    size_t at = running->at_detached;
    count_op ();
    if (!w || !w->detached || !values || at + n > w->cap_detached)
        return dps_tape_table ()->detach (t, x);
    running->at_detached += n;
    if (w->keep) {
        memcpy (w->detached + at, values, n * sizeof *values);
        w->n_detached = at + n;
    }
    return axis == DPS_AXIS_SCALAR ? dps_tape_table ()->constant (t, w->detached[at])
                                   : dps_tape_table ()->input (t, axis, w->detached + at, n);
}

static const DpsHostTape *watched_tape (void)
{
    static DpsHostTape table;
    if (!table.size) {
        table = *dps_tape_table ();
#define SET(name) table.name = watched_##name;
        ONES (SET)
        TWOS (SET)
        table.input = watched_input;
        table.detach = watched_detach;
    }
    return &table;
}

static void keep_metric (void *ctx, DpsStr name, double value, double weight)
{
    CheckLoss *out = ctx;
    if (out->n_metrics == CHECK_MAX_METRICS)
        return;
    CheckMetric *m = &out->metrics[out->n_metrics++];
    size_t n = name.len < sizeof m->name - 1 ? name.len : sizeof m->name - 1;
    memcpy (m->name, name.ptr, n);
    m->name[n] = '\0';
    m->value = value;
    m->weight = weight;
}

static DpsStatus read_loss (const DpsObjectiveInstance *o, const CheckBatch *b, struct DpsTape *tape, const DpsVal *signals, DpsVal loss,
                            CheckLoss *out, DpsError *err)
{
    uint32_t axis = 0;
    uint64_t n = 0;
    DPS_TRY (dps_tape_status (tape, err));
    const double *losses = dps_tape_values (tape, loss, &axis, &n);
    if (!losses || axis != DPS_AXIS_UNIT || n != b->n_units)
        return dps_fail (err, DPS_ERR_SHAPE, "its loss is not one value per unit");
    memcpy (out->losses, losses, n * sizeof *losses);
    DPS_TRY (dps_tape_backward (tape, loss, 1, err));
    for (uint32_t s = 0; s < o->info.n_signals; s++) {
        const double *g = signals[s] < 0 ? NULL : dps_tape_gradient (tape, signals[s]);
        if (g && o->signals[s].differentiable)
            memcpy (out->grads[s], g, check_signal_length (o, b, s) * sizeof *g);
    }
    return DPS_OK;
}

DpsStatus check_batch_loss (const DpsObjectiveInstance *o, const CheckBatch *b, CheckTapeWatch *watch, CheckLoss *out, DpsError *err)
{
    const DpsTapeShape shape = {b->n_tokens, b->n_rows, b->n_units, b->row_offsets, b->unit_offsets};
    const DpsHostTape *ops = dps_tape_table ();
    const double *given[CHECK_MAX_SIGNALS] = {0};
    DpsVal signals[CHECK_MAX_SIGNALS], loss = -1;
    struct DpsTape *tape;
    memset (out, 0, sizeof *out);
    DPS_TRY (dps_tape_create (&shape, &tape, err));
    for (uint32_t s = 0; s < o->info.n_signals; s++) {
        const DpsSignal *of = &o->signals[s];
        int read = dps_objective_reads (o, s);
        given[s] = read ? b->signal[s] : NULL;
        signals[s] = !read                ? -1
                     : of->differentiable ? ops->variable (tape, of->axis, b->signal[s], check_signal_length (o, b, s))
                                          : ops->input (tape, of->axis, b->signal[s], check_signal_length (o, b, s));
    }
    Run run = {.watch = watch, .out = out, .outer = running};
    const DpsMetricSink sink = {.size = sizeof sink, .ctx = out, .add = keep_metric};
    const DpsObjectiveBatch batch = as_batch (o, b, given);
    running = &run;
    DpsStatus st = o->table.loss (o->self, watched_tape (), tape, &batch, signals, &sink, &loss, err);
    running = run.outer;
    if (st == DPS_OK)
        st = read_loss (o, b, tape, signals, loss, out, err);
    dps_tape_free (tape);
    return st;
}

int check_loss_equal (const DpsObjectiveInstance *o, const CheckBatch *b, const CheckLoss *x, const CheckLoss *y)
{
    int same = !memcmp (x->losses, y->losses, b->n_units * sizeof *x->losses);
    for (uint32_t s = 0; s < o->info.n_signals && same; s++)
        same = !memcmp (x->grads[s], y->grads[s], check_signal_length (o, b, s) * sizeof **x->grads);
    return same;
}
