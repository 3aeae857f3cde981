/* SPDX-License-Identifier: Apache-2.0 */
#include "objective/objective.h"

#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "diapason/plugin.h"
#include "objective/tape.h"
#include "plugin/crumb.h"

enum { MAX_SIGNALS = 32 };

/* Open and close. */

static DpsStatus failed (const DpsObjectiveInstance *o, DpsStatus st, DpsError *theirs, DpsError *err)
{
    const char *why = dps_error_said (theirs, st);
    return dps_fail (err, theirs->code, "%s: %s", o->info.name, why);
}

static DpsStatus read_signals (DpsObjectiveInstance *o, DpsError *err)
{
    const DpsObjectiveInfo *info = &o->info;
    if (info->n_signals > MAX_SIGNALS)
        return dps_fail (err, DPS_ERR_LIMIT, "%s: %u signals, at most %d", info->name, (unsigned)info->n_signals, (int)MAX_SIGNALS);
    o->signals = dps_calloc (info->n_signals, sizeof *o->signals);
    if (!o->signals)
        return dps_fail (err, DPS_ERR_NOMEM, "%s: no memory", info->name);
    for (uint32_t i = 0; i < info->n_signals; i++) {
        DpsSignal *s = &o->signals[i];
        dps_table_copy (s, sizeof *s, info->signals[i]);
        if (!s->name || !s->role || (s->axis != DPS_AXIS_TOKEN && s->axis != DPS_AXIS_ROW))
            return dps_fail (err, DPS_ERR_FORMAT, "%s: signal %u has no name or role, or is not per token or row", info->name, (unsigned)i);
        if (!strcmp (s->role, "step") && !o->table.score)
            return dps_fail (err, DPS_ERR_FORMAT, "%s: signal %s is of role step, but there is no score to compute it", info->name,
                             s->name);
        if (s->differentiable && strcmp (s->role, "policy"))
            return dps_fail (err, DPS_ERR_FORMAT, "%s: signal %s (%s) is differentiable, but only the policy is trained", info->name,
                             s->name, s->role);
    }
    return DPS_OK;
}

static DpsStatus read_info (DpsObjectiveInstance *o, DpsError *err)
{
    const DpsObjectiveInfo *theirs = o->table.describe ();
    if (!theirs)
        return dps_fail (err, DPS_ERR_FORMAT, "an objective describes itself as nothing");
    dps_table_copy (&o->info, sizeof o->info, theirs);
    if (!o->info.name)
        return dps_fail (err, DPS_ERR_FORMAT, "an objective has no name");
    if (o->info.unit < DPS_UNIT_SINGLE || o->info.unit > DPS_UNIT_GROUP || o->info.total < DPS_TOTAL_TOKENS ||
        o->info.total > DPS_TOTAL_ROWS)
        return dps_fail (err, DPS_ERR_FORMAT, "%s: unit %u and total %u, expected 1 to 3", o->info.name, (unsigned)o->info.unit,
                         (unsigned)o->info.total);
    return read_signals (o, err);
}

static DpsStatus create (DpsObjectiveInstance *o, DpsParamLookup lookup, void *ctx, DpsError *err)
{
    double num[DPS_PARAMS_MAX];
    DpsStr str[DPS_PARAMS_MAX];
    DPS_TRY (dps_params_resolve (o->info.name, o->info.params, o->info.n_params, lookup, ctx, num, str, err));
    DpsError theirs = DPS_ERROR_INIT;
    dps_crumb_enter (o->info.name, "create");
    DpsStatus st = o->table.create (num, str, &o->self, &theirs);
    dps_crumb_leave ();
    return st == DPS_OK ? DPS_OK : failed (o, st, &theirs, err);
}

DpsStatus dps_objective_open (const DpsObjective *table, DpsParamLookup lookup, void *ctx, DpsObjectiveInstance **out, DpsError *err)
{
    DpsObjectiveInstance *o = dps_calloc (1, sizeof *o);
    if (!o)
        return dps_fail (err, DPS_ERR_NOMEM, "objective: no memory");
    dps_table_copy (&o->table, sizeof o->table, table);
    DpsStatus st = read_info (o, err);
    if (st == DPS_OK)
        st = create (o, lookup, ctx, err);
    if (st != DPS_OK) {
        dps_free (o->signals);
        dps_free (o);
        return st;
    }
    *out = o;
    return DPS_OK;
}

void dps_objective_close (DpsObjectiveInstance *o)
{
    if (!o)
        return;
    if (o->table.destroy)
        o->table.destroy (o->self);
    dps_free (o->signals);
    dps_free (o);
}

int dps_objective_reads (const DpsObjectiveInstance *o, uint32_t signal) { return !o->table.reads || o->table.reads (o->self, signal); }

int dps_objective_signal (const DpsObjectiveInstance *o, const char *name, const char *role)
{
    for (uint32_t i = 0; i < o->info.n_signals; i++)
        if (!strcmp (o->signals[i].name, name) && !strcmp (o->signals[i].role, role))
            return dps_objective_reads (o, i) ? (int)i : -1;
    return -1;
}

double dps_objective_total (const DpsObjectiveInstance *o, uint64_t n_tokens, uint64_t n_rows, uint64_t n_units)
{
    return (double)(o->info.total == DPS_TOTAL_TOKENS ? n_tokens : o->info.total == DPS_TOTAL_ROWS ? n_rows : n_units);
}

/* One micro-batch. */

/* What an objective reports is kept aside until the whole call has succeeded. */
typedef struct Report {
    char name[DPS_METRIC_NAME];
    double value, weight;
} Report;

typedef struct Call {
    const DpsObjectiveInstance *o;
    DpsObjectiveBatch batch; /* with weights */
    double *ones;
    struct DpsTape *tape;
    DpsVal signals[MAX_SIGNALS], loss;
    Report *reports;
    size_t n_reports, capacity;
    DpsStatus reported; /* the first failure of report */
} Call;

static uint64_t length_of (const Call *c, uint32_t signal)
{
    return c->o->signals[signal].axis == DPS_AXIS_TOKEN ? c->batch.n_tokens : c->batch.n_rows;
}

static void report (void *ctx, DpsStr name, double value, double weight)
{
    Call *c = ctx;
    if (c->reported != DPS_OK)
        return;
    if (weight == 0)
        return;
    if (name.len == 0 || name.len >= sizeof c->reports->name)
        c->reported = DPS_ERR_LIMIT;
    else if (DPS_GROW (c->reports, c->n_reports, c->capacity))
        c->reported = DPS_ERR_NOMEM;
    else {
        Report *r = &c->reports[c->n_reports++];
        *r = (Report){.value = value, .weight = weight};
        memcpy (r->name, name.ptr, name.len);
    }
}

static DpsStatus check_finite (const Call *c, const DpsSignal *s, const double *v, uint64_t n, DpsError *err)
{
    static const char *const made =
        "the objective's score made it. Hint: a criterion that did not judge gives NaN, a group may be of one row, "
        "and deviations may be 0: diapason check tries these";
    for (uint64_t i = 0; i < n; i++)
        if (!isfinite (v[i]))
            return dps_fail (err, DPS_ERR_NONFINITE, "%s: signal %s (%s) of %s %llu is %g: %s", c->o->info.name, s->name, s->role,
                             s->axis == DPS_AXIS_TOKEN ? "scored token" : "row", (unsigned long long)i, v[i],
                             strcmp (s->role, "step") ? "the model's output is not finite" : made);
    return DPS_OK;
}

static DpsStatus put_signals (Call *c, DpsError *err)
{
    const DpsHostTape *ops = dps_tape_table ();
    for (uint32_t i = 0; i < c->o->info.n_signals; i++) {
        const DpsSignal *s = &c->o->signals[i];
        const uint64_t n = length_of (c, i);
        const double *v = c->batch.signals[i];
        c->signals[i] = -1;
        if (!dps_objective_reads (c->o, i))
            continue;
        if (!v && n)
            return dps_fail (err, DPS_ERR_INVALID, "%s: signal %s (%s) was not given", c->o->info.name, s->name, s->role);
        DPS_TRY (check_finite (c, s, v, n, err));
        c->signals[i] = s->differentiable ? ops->variable (c->tape, s->axis, v, n) : ops->input (c->tape, s->axis, v, n);
    }
    return dps_tape_status (c->tape, err);
}

static DpsStatus check_loss (Call *c, const double **out, DpsError *err)
{
    uint32_t axis = 0;
    uint64_t n = 0;
    DPS_TRY (dps_tape_status (c->tape, err));
    *out = dps_tape_values (c->tape, c->loss, &axis, &n);
    if (!*out || axis != DPS_AXIS_UNIT)
        return dps_fail (err, DPS_ERR_SHAPE, "%s: its loss is not one value per unit", c->o->info.name);
    for (uint64_t u = 0; u < n; u++)
        if (!isfinite ((*out)[u]))
            return dps_fail (err, DPS_ERR_NONFINITE, "%s: the loss of unit %llu is %g", c->o->info.name, (unsigned long long)u, (*out)[u]);
    return DPS_OK;
}

static DpsStatus read_gradients (Call *c, double *const *out_grads, DpsError *err)
{
    DPS_TRY (dps_tape_backward (c->tape, c->loss, 1 / c->batch.total, err));
    for (uint32_t i = 0; i < c->o->info.n_signals; i++) {
        const DpsSignal *s = &c->o->signals[i];
        const uint64_t n = length_of (c, i);
        const double *g = dps_tape_gradient (c->tape, c->signals[i]);
        for (uint64_t j = 0; g && j < n; j++)
            if (!isfinite (g[j]))
                return dps_fail (err, DPS_ERR_NONFINITE, "%s: the gradient of %s %llu is %g", c->o->info.name, s->name,
                                 (unsigned long long)j, g[j]);
    }
    for (uint32_t i = 0; i < c->o->info.n_signals; i++) {
        const uint64_t n = length_of (c, i);
        const double *g = dps_tape_gradient (c->tape, c->signals[i]);
        for (uint64_t j = 0; out_grads[i] && j < n; j++)
            out_grads[i][j] = g ? g[j] : 0;
    }
    return DPS_OK;
}

/* The reports of a call, into the step. On an error nothing was added. */
static DpsStatus add_reports (const Call *c, DpsStepSums *sums, DpsError *err)
{
    size_t before = sums->n_metrics, at;
    if (c->reported != DPS_OK)
        return dps_fail (err, c->reported, "%s: a metric could not be kept", c->o->info.name);
    for (size_t i = 0; i < c->n_reports; i++) { /* room first: what follows cannot fail */
        DpsStatus st = dps__step_find (sums, dps_str (c->reports[i].name), &at, err);
        if (st != DPS_OK) {
            sums->n_metrics = before;
            return st;
        }
    }
    for (size_t i = 0; i < c->n_reports; i++)
        DPS_TRY (dps_step_add (sums, dps_str (c->reports[i].name), c->reports[i].value, c->reports[i].weight, err));
    return DPS_OK;
}

static DpsStatus add_up (const Call *c, const double *losses, DpsStepSums *sums, double *out_losses, DpsError *err)
{
    DPS_TRY (add_reports (c, sums, err));
    for (uint64_t u = 0; u < c->batch.n_units; u++) {
        sums->loss += losses[u];
        if (out_losses)
            out_losses[u] = losses[u];
    }
    sums->total = c->batch.total;
    sums->n_units += c->batch.n_units;
    sums->n_tokens += c->batch.n_tokens;
    return DPS_OK;
}

static DpsStatus run (Call *c, DpsStepSums *sums, double *const *out_grads, double *out_losses, DpsError *err)
{
    const DpsObjectiveBatch *b = &c->batch;
    const DpsTapeShape shape = {b->n_tokens, b->n_rows, b->n_units, b->row_offsets, b->unit_offsets};
    DPS_TRY (dps_tape_create (&shape, &c->tape, err));
    DPS_TRY (put_signals (c, err));
    const DpsMetricSink sink = {.size = sizeof sink, .ctx = c, .add = report};
    DpsError theirs = DPS_ERROR_INIT;
    dps_crumb_enter (c->o->info.name, "loss");
    DpsStatus st = c->o->table.loss (c->o->self, dps_tape_table (), c->tape, b, c->signals, &sink, &c->loss, &theirs);
    dps_crumb_leave ();
    if (st != DPS_OK)
        return failed (c->o, st, &theirs, err);
    const double *losses;
    DPS_TRY (check_loss (c, &losses, err));
    if (out_grads)
        DPS_TRY (read_gradients (c, out_grads, err));
    return add_up (c, losses, sums, out_losses, err);
}

static DpsStatus open_call (Call *c, const DpsObjectiveInstance *o, const DpsObjectiveBatch *batch, DpsError *err)
{
    *c = (Call){.o = o, .loss = -1};
    dps_table_copy (&c->batch, sizeof c->batch, batch);
    if (c->batch.weights)
        return DPS_OK;
    c->ones = dps_malloc (batch->n_tokens, sizeof *c->ones);
    if (!c->ones)
        return dps_fail (err, DPS_ERR_NOMEM, "%s: no memory for %llu weights", o->info.name, (unsigned long long)batch->n_tokens);
    for (uint64_t i = 0; i < batch->n_tokens; i++)
        c->ones[i] = 1;
    c->batch.weights = c->ones;
    return DPS_OK;
}

static void close_call (Call *c)
{
    dps_tape_free (c->tape);
    dps_free (c->reports);
    dps_free (c->ones);
}

DpsStatus dps_objective_micro_batch (const DpsObjectiveInstance *o, const DpsObjectiveBatch *batch, DpsStepSums *sums,
                                     double *const *out_grads, double *out_losses, DpsError *err)
{
    if (!(batch->total > 0) || !isfinite (batch->total))
        return dps_fail (err, DPS_ERR_DATA, "%s: the step's total is %g, expected at least one scored token, row or unit", o->info.name,
                         batch->total);
    Call c;
    DPS_TRY (open_call (&c, o, batch, err));
    DpsStatus st = run (&c, sums, out_grads, out_losses, err);
    close_call (&c);
    return st;
}

/* A whole step, scored. */

static int is_scored (const Call *c, uint32_t signal) { return !strcmp (c->o->signals[signal].role, "step"); }

static DpsStatus check_step (const Call *c, const DpsRewards *rewards, DpsError *err)
{
    const char *name = c->o->info.name;
    if (!c->o->table.score)
        return dps_fail (err, DPS_ERR_UNSUPPORTED, "%s: this objective makes nothing of rewards", name);
    for (uint64_t i = 0; i < rewards->n_criteria * c->batch.n_rows; i++)
        if (isinf (rewards->values[i]))
            return dps_fail (err, DPS_ERR_NONFINITE, "%s: criterion %llu of row %llu is infinite", name,
                             (unsigned long long)(i % rewards->n_criteria), (unsigned long long)(i / rewards->n_criteria));
    for (uint32_t i = 0; i < c->o->info.n_signals; i++)
        if (c->batch.signals[i])
            DPS_TRY (check_finite (c, &c->o->signals[i], c->batch.signals[i], length_of (c, i), err));
    return DPS_OK;
}

static DpsStatus score (Call *c, const DpsRewards *rewards, double **made, double *const *out, DpsStepSums *sums, DpsError *err)
{
    for (uint32_t i = 0; i < c->o->info.n_signals; i++)
        if (is_scored (c, i) && !(made[i] = dps_calloc (length_of (c, i), sizeof **made)))
            return dps_fail (err, DPS_ERR_NOMEM, "%s: no memory", c->o->info.name);
    const DpsMetricSink sink = {.size = sizeof sink, .ctx = c, .add = report};
    DpsError theirs = DPS_ERROR_INIT;
    dps_crumb_enter (c->o->info.name, "score");
    DpsStatus st = c->o->table.score (c->o->self, &c->batch, rewards, made, &sink, &theirs);
    dps_crumb_leave ();
    if (st != DPS_OK) {
        st = failed (c->o, st, &theirs, err);
        if (err)
            err->vendor_code = theirs.vendor_code;
        return st;
    }
    for (uint32_t i = 0; i < c->o->info.n_signals; i++)
        if (made[i])
            DPS_TRY (check_finite (c, &c->o->signals[i], made[i], length_of (c, i), err));
    DPS_TRY (add_reports (c, sums, err));
    for (uint32_t i = 0; i < c->o->info.n_signals; i++)
        for (uint64_t k = 0; made[i] && k < length_of (c, i); k++)
            out[i][k] = made[i][k];
    return DPS_OK;
}

DpsStatus dps_objective_score (const DpsObjectiveInstance *o, const DpsObjectiveBatch *step, const DpsRewards *rewards, double *const *out,
                               DpsStepSums *sums, DpsError *err)
{
    Call c;
    double *made[MAX_SIGNALS] = {0};
    DPS_TRY (open_call (&c, o, step, err));
    DpsStatus st = check_step (&c, rewards, err);
    if (st == DPS_OK)
        st = score (&c, rewards, made, out, sums, err);
    for (uint32_t i = 0; i < MAX_SIGNALS; i++)
        dps_free (made[i]);
    close_call (&c);
    return st;
}
