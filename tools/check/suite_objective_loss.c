/* SPDX-License-Identifier: Apache-2.0 */
/*
 * suite_objective_loss.c: what an objective's numbers must be, whatever it optimises: differentiable as its tape says, blind to masked tokens, one
 * loss a unit that depends on nothing else of the step, the same bits each time.
 */
#include <float.h>
#include <math.h>
#include <string.h>

#include "check/alloc_hook.h"
#include "check/batch.h"
#include "check/objective.h"

enum { N_SEEDS = 6, MAX_DETACHED = 4096 };

static DpsStatus make (const CheckContext *ctx, const DpsObjectiveInstance *o, uint64_t i, CheckBatch *b, DpsError *err)
{
    return check_batch_make (o, &(CheckBatchPlan){.seed = ctx->seed + i, .n_units = 3}, b, err);
}

/* Σ of unit losses where number `at` of signal s is moved by `by`. */
static DpsStatus moved (const DpsObjectiveInstance *o, CheckBatch *b, uint32_t s, uint64_t at, double by, CheckTapeWatch *watch,
                        double *out, DpsError *err)
{
    static CheckLoss l;
    double kept = b->signal[s][at];
    b->signal[s][at] = kept + by;
    DpsStatus st = check_batch_loss (o, b, watch, &l, err);
    b->signal[s][at] = kept;
    *out = 0;
    for (uint64_t u = 0; u < b->n_units; u++)
        *out += l.losses[u];
    return st;
}

/* Σ |unit losses|. */
static double size_of (const CheckBatch *b, const CheckLoss *l)
{
    double sum = 0;
    for (uint64_t u = 0; u < b->n_units; u++)
        sum += fabs (l->losses[u]);
    return sum;
}

static double largest (const DpsObjectiveInstance *o, const CheckBatch *b, const CheckLoss *l)
{
    double most = 0;
    for (uint32_t s = 0; s < o->info.n_signals; s++)
        for (uint64_t i = 0; i < check_signal_length (o, b, s); i++)
            most = fmax (most, fabs (l->grads[s][i]));
    return most;
}

static DpsStatus differences (const DpsObjectiveInstance *o, CheckBatch *b, const char *variant, double *out_largest, DpsError *err)
{
    static double detached[MAX_DETACHED];
    static CheckLoss at;
    CheckTapeWatch keep = {.detached = detached, .cap_detached = MAX_DETACHED, .keep = 1}, held = keep;
    const double h = 1e-6;
    held.keep = 0;
    DPS_TRY (check_batch_loss (o, b, &keep, &at, err));
    const double scale = fmax (1, largest (o, b, &at)), rounding = 16 * DBL_EPSILON * size_of (b, &at) / h;
    if (rounding > 1e-2 * scale)
        return DPS_OK; /* a loss too large for differences to say anything */
    *out_largest = fmax (*out_largest, largest (o, b, &at));
    for (uint32_t s = 0; s < o->info.n_signals; s++)
        for (uint64_t i = 0; o->signals[s].differentiable && dps_objective_reads (o, s) && i < check_signal_length (o, b, s); i++) {
            double up, down;
            DPS_TRY (moved (o, b, s, i, h, &held, &up, err));
            DPS_TRY (moved (o, b, s, i, -h, &held, &down, err));
            double slope = (up - down) / (2 * h);
            if (!(fabs (slope - at.grads[s][i]) <= 2e-6 * scale + rounding))
                return dps_fail (
                    err, DPS_ERR_INVALID,
                    "%s: d(loss)/d(%s %llu): the tape says %.9g, differences %.9g. Hint: maths done outside the tape has no gradient",
                    variant, o->signals[s].name, (unsigned long long)i, at.grads[s][i], slope);
        }
    return DPS_OK;
}

/* With its defaults, and with each parameter at another value. */
static DpsStatus gradient (CheckContext *ctx, DpsError *err)
{
    static CheckBatch b;
    double most = 0;
    size_t n_variants = 0;
    for (size_t v = 0;; v++) {
        char variant[96];
        DpsObjectiveInstance *o = NULL;
        DpsStatus st = check_objective_variant (ctx, v, &o, variant, sizeof variant, err);
        if (st == DPS_ERR_NOT_FOUND)
            break;
        if (st == DPS_ERR_INVALID && v > 0)
            continue; /* a refusal of its own: what `parameters` looks at */
        DPS_TRY (st);
        for (uint64_t i = 0; st == DPS_OK && i < (v ? 1 : N_SEEDS); i++) {
            st = make (ctx, o, v + i, &b, err);
            if (st == DPS_OK)
                st = differences (o, &b, variant, &most, err);
        }
        dps_objective_close (o);
        DPS_TRY (st);
        n_variants++;
    }
    check_note_number (ctx, "variants", (double)n_variants);
    return most > 0 ? DPS_OK : dps_fail (err, DPS_ERR_INVALID, "the gradient is zero everywhere: nothing would be trained");
}

/* One open instance of the defaults for each seed's `look`. */
static DpsStatus each_seed (CheckContext *ctx, const CheckBatchPlan *plan,
                            DpsStatus (*look) (const DpsObjectiveInstance *o, CheckBatch *b, DpsError *err), DpsError *err)
{
    static CheckBatch b;
    DpsObjectiveInstance *o;
    DPS_TRY (check_objective_open (ctx, &o, err));
    DpsStatus st = DPS_OK;
    for (uint64_t i = 0; st == DPS_OK && i < N_SEEDS; i++) {
        CheckBatchPlan p = *plan;
        p.seed = ctx->seed + i;
        st = check_batch_make (o, &p, &b, err);
        if (st == DPS_OK)
            st = look (o, &b, err);
    }
    dps_objective_close (o);
    return st;
}

/* A masked token has gradient 0, exactly, and its numbers move no loss. */
static DpsStatus masked_look (const DpsObjectiveInstance *o, CheckBatch *b, DpsError *err)
{
    static CheckLoss at, after;
    DPS_TRY (check_batch_loss (o, b, NULL, &at, err));
    for (uint32_t s = 0; s < o->info.n_signals; s++)
        for (uint64_t i = 0; o->signals[s].axis == DPS_AXIS_TOKEN && i < b->n_tokens; i++) {
            if (b->weights[i] > 0)
                continue;
            if (at.grads[s][i] != 0)
                return dps_fail (err, DPS_ERR_INVALID, "d(loss)/d(%s %llu) is %g, expected exactly 0: the token's weight is 0",
                                 o->signals[s].name, (unsigned long long)i, at.grads[s][i]);
            if (strcmp (o->signals[s].role, "step"))
                b->signal[s][i] -= 0.25;
        }
    DPS_TRY (check_batch_loss (o, b, NULL, &after, err));
    for (uint64_t u = 0; u < b->n_units; u++)
        if (at.losses[u] != after.losses[u])
            return dps_fail (err, DPS_ERR_INVALID, "the loss of unit %llu is %.17g, and %.17g when only tokens of weight 0 change",
                             (unsigned long long)u, at.losses[u], after.losses[u]);
    return DPS_OK;
}

static DpsStatus masked (CheckContext *ctx, DpsError *err)
{
    return each_seed (ctx, &(CheckBatchPlan){.n_units = 4, .masked = 1}, masked_look, err);
}

/* Losses and gradients of picked units are those they have in the whole step, to the bit. */
static DpsStatus as_in_whole (const DpsObjectiveInstance *o, const CheckBatch *whole, const CheckLoss *at, const uint64_t *which,
                              uint64_t n, const char *how, DpsError *err)
{
    static CheckBatch part;
    static CheckLoss l;
    check_batch_pick (o, whole, which, n, &part);
    DPS_TRY (check_batch_loss (o, &part, NULL, &l, err));
    for (uint64_t u = 0; u < n; u++) {
        uint64_t from = which[u];
        if (memcmp (&l.losses[u], &at->losses[from], sizeof *l.losses))
            return dps_fail (err, DPS_ERR_INVALID,
                             "the loss of unit %llu is %.17g in the whole step and %.17g %s: nothing may average over a micro-batch",
                             (unsigned long long)from, at->losses[from], l.losses[u], how);
        for (uint32_t s = 0; s < o->info.n_signals; s++) {
            int token = o->signals[s].axis == DPS_AXIS_TOKEN;
            int64_t row = part.unit_offsets[u], end = part.unit_offsets[u + 1], first = whole->unit_offsets[from];
            int64_t a = token ? part.row_offsets[row] : row, z = token ? part.row_offsets[end] : end,
                    w = token ? whole->row_offsets[first] : first;
            if (memcmp (l.grads[s] + a, at->grads[s] + w, (size_t)(z - a) * sizeof **l.grads))
                return dps_fail (err, DPS_ERR_INVALID, "the gradient of unit %llu in %s has other bits %s than in the whole step",
                                 (unsigned long long)from, o->signals[s].name, how);
        }
    }
    return DPS_OK;
}

static DpsStatus permutation_look (const DpsObjectiveInstance *o, CheckBatch *b, DpsError *err)
{
    static CheckLoss at;
    uint64_t order[CHECK_MAX_UNITS];
    DPS_TRY (check_batch_loss (o, b, NULL, &at, err));
    for (uint64_t turn = 1; turn < b->n_units; turn++) {
        for (uint64_t u = 0; u < b->n_units; u++)
            order[u] = (turn + b->n_units - u) % b->n_units;
        DPS_TRY (as_in_whole (o, b, &at, order, b->n_units, "where the units stand in another order", err));
    }
    return DPS_OK;
}

static DpsStatus permutation (CheckContext *ctx, DpsError *err)
{
    return each_seed (ctx, &(CheckBatchPlan){.n_units = 5}, permutation_look, err);
}

/* The step's value of each metric, however the step is split: what the core makes of them (dps_step_add). */
static DpsStatus same_metrics (const DpsStepSums *whole, const DpsStepSums *split, DpsError *err)
{
    if (whole->n_metrics != split->n_metrics)
        return dps_fail (err, DPS_ERR_INVALID, "%zu metrics of a whole step, %zu of its micro-batches", whole->n_metrics, split->n_metrics);
    for (size_t i = 0; i < whole->n_metrics; i++)
        if (memcmp (&whole->metrics[i], &split->metrics[i], sizeof *whole->metrics))
            return dps_fail (err, DPS_ERR_INVALID,
                             "metric '%s' is %.17g of a whole step and %.17g of its micro-batches. Hint: report it per row or unit",
                             whole->metrics[i].name, dps_step_metric (whole, i), dps_step_metric (split, i));
    return DPS_OK;
}

static DpsStatus add_metrics (const CheckLoss *l, DpsStepSums *sums, DpsError *err)
{
    for (size_t i = 0; i < l->n_metrics; i++)
        DPS_TRY (dps_step_add (sums, dps_str (l->metrics[i].name), l->metrics[i].value, l->metrics[i].weight, err));
    return DPS_OK;
}

static DpsStatus metrics_of (const DpsObjectiveInstance *o, const CheckBatch *b, uint64_t size, DpsStepSums *sums, DpsError *err)
{
    static CheckBatch part;
    static CheckLoss l;
    for (uint64_t first = 0; first < b->n_units; first += size) {
        uint64_t which[CHECK_MAX_UNITS], n = 0;
        for (; n < size && first + n < b->n_units; n++)
            which[n] = first + n;
        check_batch_pick (o, b, which, n, &part);
        DPS_TRY (check_batch_loss (o, &part, NULL, &l, err));
        DPS_TRY (add_metrics (&l, sums, err));
    }
    return DPS_OK;
}

static DpsStatus micro_batch_look (const DpsObjectiveInstance *o, CheckBatch *b, DpsError *err)
{
    static CheckLoss at;
    DpsStepSums whole = {0}, split = {0};
    DPS_TRY (check_batch_loss (o, b, NULL, &at, err));
    for (uint64_t size = 1; size < b->n_units; size++)
        for (uint64_t first = 0; first < b->n_units; first += size) {
            uint64_t which[CHECK_MAX_UNITS], n = 0;
            for (; n < size && first + n < b->n_units; n++)
                which[n] = first + n;
            DPS_TRY (as_in_whole (o, b, &at, which, n, "in a micro-batch of its own", err));
        }
    DpsStatus st = metrics_of (o, b, b->n_units, &whole, err);
    if (st == DPS_OK)
        st = metrics_of (o, b, 1, &split, err);
    if (st == DPS_OK)
        st = same_metrics (&whole, &split, err);
    dps_step_free (&whole);
    dps_step_free (&split);
    return st;
}

static DpsStatus micro_batch (CheckContext *ctx, DpsError *err)
{
    return each_seed (ctx, &(CheckBatchPlan){.n_units = 5}, micro_batch_look, err);
}

static DpsStatus next_year (const DpsObjectiveInstance *o, const CheckBatch *b, CheckLoss *out, DpsError *err)
{
    alloc_hook_shift_clock (400 * 86400);
    DpsStatus st = check_batch_loss (o, b, NULL, out, err);
    alloc_hook_shift_clock (0);
    return st;
}

/* Same input, same bits: again on this instance, whatever the clock says, and on another that has seen nothing else. */
static DpsStatus same_bits (CheckContext *ctx, DpsError *err)
{
    static CheckBatch b, other;
    static CheckLoss first, again, fresh, unused;
    DpsObjectiveInstance *o, *p = NULL;
    (void)alloc_hook ((const void *)((const DpsObjective *)ctx->table)->describe);
    DPS_TRY (check_objective_open (ctx, &o, err));
    DpsStatus st = check_objective_open (ctx, &p, err);
    for (uint64_t i = 0; st == DPS_OK && i < N_SEEDS; i++) {
        if ((st = make (ctx, o, i, &b, err)) != DPS_OK || (st = make (ctx, o, i + 100, &other, err)) != DPS_OK ||
            (st = make (ctx, o, i, &b, err)) != DPS_OK || (st = check_batch_loss (o, &b, NULL, &first, err)) != DPS_OK ||
            (st = check_batch_loss (o, &other, NULL, &unused, err)) != DPS_OK || (st = next_year (o, &b, &again, err)) != DPS_OK ||
            (st = check_batch_loss (p, &b, NULL, &fresh, err)) != DPS_OK)
            break;
        if (!check_loss_equal (o, &b, &first, &again))
            st = dps_fail (err, DPS_ERR_INVALID, "the same batch gave other bits the second time (unit 0: %.17g, then %.17g)",
                           first.losses[0], again.losses[0]);
        else if (!check_loss_equal (o, &b, &first, &fresh))
            st = dps_fail (err, DPS_ERR_INVALID, "the same batch gave other bits on another instance (unit 0: %.17g, there %.17g)",
                           first.losses[0], fresh.losses[0]);
    }
    dps_objective_close (p);
    dps_objective_close (o);
    return st;
}

/* Inputs are borrowed: not written, and not looked at after the call. */
static DpsStatus inputs (CheckContext *ctx, DpsError *err)
{
    static CheckBatch b, as_given;
    static CheckLoss l;
    DpsObjectiveInstance *o;
    DPS_TRY (check_objective_open (ctx, &o, err));
    DpsStatus st = make (ctx, o, 0, &b, err);
    for (int i = 0; st == DPS_OK && i < 2; i++) {
        as_given = b;
        st = i ? check_batch_loss (o, &b, NULL, &l, err) : check_batch_score (o, &b, err);
        if (st == DPS_OK && memcmp (&b, &as_given, sizeof b))
            st = dps_fail (err, DPS_ERR_INVALID,
                           "%s wrote to the batch it was given: signals, weights and offsets are borrowed and constant",
                           i ? "loss" : "score");
    }
    dps_objective_close (o);
    return st;
}

static DpsStatus keeps_no_pointer (CheckContext *ctx, DpsError *err)
{
    static CheckBatch first, second;
    static CheckLoss l, expected;
    DpsObjectiveInstance *o, *fresh = NULL;
    DPS_TRY (check_objective_open (ctx, &o, err));
    DpsStatus st = check_objective_open (ctx, &fresh, err);
    if (st == DPS_OK)
        st = make (ctx, fresh, 1, &second, err);
    if (st == DPS_OK)
        st = check_batch_loss (fresh, &second, NULL, &expected, err);
    if (st == DPS_OK)
        st = make (ctx, o, 0, &first, err);
    if (st == DPS_OK)
        st = check_batch_loss (o, &first, NULL, &l, err);
    memset (&first, 0xFF, sizeof first); /* every number of it is NaN now */
    if (st == DPS_OK)
        st = make (ctx, o, 1, &second, err);
    if (st == DPS_OK)
        st = check_batch_loss (o, &second, NULL, &l, err);
    if (st == DPS_OK && !check_loss_equal (o, &second, &l, &expected))
        st = dps_fail (err, DPS_ERR_INVALID, "the loss changes with memory that was lent to the call before: a pointer was kept");
    dps_objective_close (fresh);
    dps_objective_close (o);
    return st;
}

/* Two instances may run at once: one runs whole in the middle of the other, at each op of its tape. */
typedef struct Meanwhile {
    const DpsObjectiveInstance *o;
    const CheckBatch *b;
    CheckLoss l;
    DpsStatus st;
    DpsError err;
} Meanwhile;

static void run_other (void *ctx)
{
    Meanwhile *m = ctx;
    m->st = check_batch_loss (m->o, m->b, NULL, &m->l, &m->err);
}

static DpsStatus interleaved (const DpsObjectiveInstance *o, const CheckBatch *b, const CheckLoss *alone, Meanwhile *m,
                              const CheckLoss *other, DpsError *err)
{
    static CheckLoss l;
    for (uint64_t at = 1; at <= alone->n_ops; at++) {
        CheckTapeWatch watch = {.meanwhile = run_other, .ctx = m, .at = at};
        DPS_TRY (check_batch_loss (o, b, &watch, &l, err));
        if (m->st != DPS_OK || !check_loss_equal (o, b, &l, alone) || !check_loss_equal (m->o, m->b, &m->l, other))
            return dps_fail (err, DPS_ERR_INVALID,
                             "two instances at once disturb each other (from op %llu of the tape on): they share memory that is written, a "
                             "race between threads",
                             (unsigned long long)at);
    }
    return DPS_OK;
}

static DpsStatus two_at_once (CheckContext *ctx, DpsError *err)
{
    static CheckBatch b, c;
    static CheckLoss alone, other;
    static Meanwhile m;
    DpsObjectiveInstance *o, *p = NULL;
    DPS_TRY (check_objective_open (ctx, &o, err));
    DpsStatus st = check_objective_open (ctx, &p, err);
    if (st == DPS_OK)
        st = make (ctx, o, 0, &b, err);
    if (st == DPS_OK)
        st = make (ctx, p, 1, &c, err);
    if (st == DPS_OK)
        st = check_batch_loss (o, &b, NULL, &alone, err);
    if (st == DPS_OK)
        st = check_batch_loss (p, &c, NULL, &other, err);
    m = (Meanwhile){.o = p, .b = &c, .err = DPS_ERROR_INIT};
    if (st == DPS_OK)
        st = interleaved (o, &b, &alone, &m, &other, err);
    dps_objective_close (p);
    dps_objective_close (o);
    return st;
}

/* A log-prob that is not a number must show: as an error, or in the loss of its unit; never in another unit, and never not at all. */
static DpsStatus non_finite (CheckContext *ctx, DpsError *err)
{
    static CheckBatch b;
    static CheckLoss at, l;
    DpsObjectiveInstance *o;
    DPS_TRY (check_objective_open (ctx, &o, err));
    DpsStatus st = make (ctx, o, 0, &b, err);
    if (st == DPS_OK)
        st = check_batch_loss (o, &b, NULL, &at, err);
    for (uint32_t s = 0; st == DPS_OK && s < o->info.n_signals; s++) {
        if (!o->signals[s].differentiable || !dps_objective_reads (o, s))
            continue;
        DpsError said = DPS_ERROR_INIT;
        double kept = b.signal[s][0];
        b.signal[s][0] = NAN;
        DpsStatus got = check_batch_loss (o, &b, NULL, &l, &said);
        b.signal[s][0] = kept;
        st = check_told ("loss of a signal that is NaN", got, &said, err);
        if (st == DPS_OK && got == DPS_OK && isfinite (l.losses[0]))
            st = dps_fail (err, DPS_ERR_INVALID, "%s 0 is NaN and the loss of its unit is %g: NaN was swallowed", o->signals[s].name,
                           l.losses[0]);
        for (uint64_t u = 1; st == DPS_OK && got == DPS_OK && u < b.n_units; u++)
            if (l.losses[u] != at.losses[u])
                st = dps_fail (err, DPS_ERR_INVALID, "%s 0 is NaN, of unit 0, and the loss of unit %llu became %g", o->signals[s].name,
                               (unsigned long long)u, l.losses[u]);
    }
    dps_objective_close (o);
    return st;
}

/* Everybody is certain of row r: log-probs of exactly 0, which f32 gives of a token that has all but 6e-8 of the probability. */
static DpsStatus certain_of (const DpsObjectiveInstance *o, const CheckBatch *from, uint64_t r, DpsError *err)
{
    static CheckBatch b;
    static CheckLoss l;
    b = *from;
    for (uint32_t s = 0; s < o->info.n_signals; s++)
        for (int64_t i = b.row_offsets[r]; !strcmp (o->signals[s].name, "logp") && i < b.row_offsets[r + 1]; i++)
            b.signal[s][i] = 0;
    DPS_TRY (check_batch_loss (o, &b, NULL, &l, err));
    int finite = isfinite (size_of (&b, &l));
    for (uint32_t s = 0; s < o->info.n_signals; s++)
        for (uint64_t i = 0; i < check_signal_length (o, &b, s); i++)
            finite = finite && isfinite (l.grads[s][i]);
    return finite ? DPS_OK
                  : dps_fail (err, DPS_ERR_INVALID,
                              "row %llu has log-probs of 0, and its loss or gradient is not finite: training would skip such steps. Hint: "
                              "bound what a log or a division gets, as in log (1 - exp (min (m, -1e-6)))",
                              (unsigned long long)r);
}

static DpsStatus certain_look (const DpsObjectiveInstance *o, CheckBatch *b, DpsError *err)
{
    for (uint64_t r = 0; r < b->n_rows; r++)
        DPS_TRY (certain_of (o, b, r, err));
    return DPS_OK;
}

static DpsStatus certain (CheckContext *ctx, DpsError *err) { return each_seed (ctx, &(CheckBatchPlan){.n_units = 3}, certain_look, err); }

static const CheckCase cases[] = {
    CHECK_CASE (gradient, 0, 0),   CHECK_CASE (masked, 0, 0),  CHECK_CASE (permutation, 0, 0),      CHECK_CASE (micro_batch, 0, 0),
    CHECK_CASE (same_bits, 0, 0),  CHECK_CASE (inputs, 0, 0),  CHECK_CASE (keeps_no_pointer, 0, 0), CHECK_CASE (two_at_once, 0, 0),
    CHECK_CASE (non_finite, 0, 0), CHECK_CASE (certain, 0, 0),
};

const CheckSuite check_suite_objective_loss = {.name = "objective.loss",
                                               .interface_id = DPS_OBJECTIVE_ID,
                                               .summary = "gradients, masks, units and bits of an objective's loss",
                                               .cases = cases,
                                               .n_cases = sizeof cases / sizeof *cases};
