/* SPDX-License-Identifier: Apache-2.0 */
/*
 * suite_objective_contract.c: what an objective owes its host besides the right numbers: a description that makes sense, refusals with words, memory that
 * may fail and is given back, state that survives a checkpoint, steps at the edge of what there can be.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "check/alloc_hook.h"
#include "check/batch.h"
#include "check/objective.h"

static const DpsObjective *table_of (const CheckContext *ctx) { return ctx->table; }

static DpsStatus signal_makes_sense (const DpsSignal *s, DpsError *err)
{
    static const char *const names[] = {"logp", "entropy", "hit", "topk_logp", "value", "score", "pooled"};
    static const char *const roles[] = {"policy", "rollout", "reference", "teacher", "value", "reward", "step"};
    size_t n = sizeof names / sizeof *names, name = 0, role = 0;
    if (!s || !check_is_text (s->name) || !check_is_text (s->role))
        return dps_fail (err, DPS_ERR_INVALID, "a signal has no name or no role");
    while (name < n && strcmp (names[name], s->name))
        name++;
    while (role < n && strcmp (roles[role], s->role))
        role++;
    if (role == n)
        return dps_fail (err, DPS_ERR_INVALID, "signal %s is of role '%s', which no host has", s->name, s->role);
    if (name == n && strcmp (s->role, "step"))
        return dps_fail (err, DPS_ERR_INVALID, "signal '%s' of %s: no host gives that; only those of role step have names of their own",
                         s->name, s->role);
    if (s->differentiable > 1)
        return dps_fail (err, DPS_ERR_INVALID, "signal %s: differentiable is %u, expected 0 or 1", s->name, s->differentiable);
    return DPS_OK;
}

static DpsStatus describe (CheckContext *ctx, DpsError *err)
{
    const DpsObjectiveInfo *info = table_of (ctx)->describe ();
    DpsObjectiveInstance *o;
    int trained = 0;
    if (info != table_of (ctx)->describe ())
        return dps_fail (err, DPS_ERR_INVALID, "describe gives another pointer the second time: it is static storage");
    if (!check_is_text (info->name) || !check_is_text (info->summary) || !check_is_text (info->reference))
        return dps_fail (err, DPS_ERR_INVALID, "name, summary or reference is missing: a user reads them in `diapason plugins show`");
    DPS_TRY (check_own_name (ctx, info->name, err));
    DPS_TRY (check_params (info->params, info->n_params, err));
    DPS_TRY (check_objective_open (ctx, &o, err)); /* the host's own checks: unit, total, axes, roles */
    DpsStatus st = DPS_OK;
    for (uint32_t s = 0; st == DPS_OK && s < o->info.n_signals; s++) {
        st = signal_makes_sense (&o->signals[s], err);
        trained |= o->signals[s].differentiable && dps_objective_reads (o, s);
        for (uint32_t r = 0; st == DPS_OK && r < s; r++)
            if (!strcmp (o->signals[r].name, o->signals[s].name) && !strcmp (o->signals[r].role, o->signals[s].role))
                st = dps_fail (err, DPS_ERR_INVALID, "signal %s of %s is listed twice", o->signals[s].name, o->signals[s].role);
    }
    dps_objective_close (o);
    if (st == DPS_OK && !trained)
        st = dps_fail (err, DPS_ERR_INVALID, "no signal is differentiable: nothing would be trained");
    return st;
}

/* Every value within the ranges it gives is taken, or refused in words; what is taken gives a loss, or says why not. */
static DpsStatus parameters (CheckContext *ctx, DpsError *err)
{
    static CheckBatch b;
    static CheckLoss l;
    for (size_t v = 0;; v++) {
        char name[96];
        DpsObjectiveInstance *o = NULL;
        DpsError said = DPS_ERROR_INIT;
        DpsStatus st = check_objective_variant (ctx, v, &o, name, sizeof name, &said);
        if (st == DPS_ERR_NOT_FOUND)
            return DPS_OK;
        if (v == 0 && st != DPS_OK)
            return dps_fail (err, st, "%s", said.msg);
        if (st != DPS_OK) {
            if (st != DPS_ERR_INVALID)
                return dps_fail (err, DPS_ERR_INVALID,
                                 "%s is within its range, and create answers %s \"%s\": expected INVALID and the reason", name,
                                 dps_status_name (st), said.msg);
            continue;
        }
        st = check_batch_make (o, &(CheckBatchPlan){.seed = ctx->seed, .n_units = 2}, &b, &said);
        if (st == DPS_OK)
            st = check_batch_loss (o, &b, NULL, &l, &said);
        dps_objective_close (o);
        if (st != DPS_OK && st != DPS_ERR_NONFINITE && st != DPS_ERR_INVALID)
            return dps_fail (err, DPS_ERR_INVALID, "%s: %s", name, said.msg);
    }
}

/* Rows without a token, groups of one answer, one token in all: a finite loss, or SHAPE in words. */
static DpsStatus edge (const CheckContext *ctx, const CheckBatchPlan *plan, const char *what, DpsError *err)
{
    static CheckBatch b;
    static CheckLoss l;
    DpsObjectiveInstance *o;
    DpsError said = DPS_ERROR_INIT;
    DPS_TRY (check_objective_open (ctx, &o, err));
    DpsStatus st = check_batch_make (o, plan, &b, &said);
    if (st == DPS_OK)
        st = check_batch_loss (o, &b, NULL, &l, &said);
    DpsStatus told = DPS_OK;
    if (st != DPS_OK && st != DPS_ERR_SHAPE)
        told = dps_fail (err, DPS_ERR_INVALID, "%s: %s \"%s\", expected a finite loss, or SHAPE", what, dps_status_name (st), said.msg);
    for (uint64_t u = 0; told == DPS_OK && st == DPS_OK && u < b.n_units; u++)
        if (!isfinite (l.losses[u]))
            told = dps_fail (err, DPS_ERR_INVALID, "%s: the loss of unit %llu is %g, expected a finite one, or SHAPE", what,
                             (unsigned long long)u, l.losses[u]);
    for (uint32_t s = 0; told == DPS_OK && st == DPS_OK && s < o->info.n_signals; s++)
        for (uint64_t i = 0; i < check_signal_length (o, &b, s); i++)
            if (!isfinite (l.grads[s][i]))
                told = dps_fail (err, DPS_ERR_INVALID, "%s: the gradient of %s %llu is %g", what, o->signals[s].name, (unsigned long long)i,
                                 l.grads[s][i]);
    dps_objective_close (o);
    return told;
}

static DpsStatus empty_rows (CheckContext *ctx, DpsError *err)
{
    DPS_TRY (edge (ctx, &(CheckBatchPlan){.seed = ctx->seed, .n_units = 3, .empty_row = 1}, "a first row without tokens", err));
    return edge (ctx, &(CheckBatchPlan){.seed = ctx->seed, .n_units = 3, .rows = 2, .empty_row = 3}, "a third row without tokens", err);
}

static DpsStatus smallest (CheckContext *ctx, DpsError *err)
{
    DPS_TRY (edge (ctx, &(CheckBatchPlan){.seed = ctx->seed, .n_units = 1, .rows = 1, .tokens = 1}, "one unit of one token a row", err));
    return edge (ctx, &(CheckBatchPlan){.seed = ctx->seed, .n_units = 4, .rows = 1}, "units of one row", err);
}

/* NaN among the rewards is a criterion that did not judge, as happens in every long run. */
static DpsStatus unjudged (CheckContext *ctx, DpsError *err)
{
    return edge (ctx, &(CheckBatchPlan){.seed = ctx->seed, .n_units = 4, .rows = 3, .unjudged = 1},
                 "rewards of which some are NaN: a criterion that did not judge the row", err);
}

static DpsStatus metrics (CheckContext *ctx, DpsError *err)
{
    static CheckBatch b;
    static CheckLoss l;
    DpsObjectiveInstance *o;
    DPS_TRY (check_objective_open (ctx, &o, err));
    DpsStatus st = check_batch_make (o, &(CheckBatchPlan){.seed = ctx->seed, .n_units = 4}, &b, err);
    if (st == DPS_OK)
        st = check_batch_loss (o, &b, NULL, &l, err);
    for (size_t i = 0; st == DPS_OK && i < l.n_metrics; i++) {
        const CheckMetric *m = &l.metrics[i];
        if (!check_is_text (m->name) || strlen (m->name) >= DPS_METRIC_NAME)
            st = dps_fail (err, DPS_ERR_INVALID, "a metric is called '%s', expected 1 to %d bytes of plain text", m->name,
                           DPS_METRIC_NAME - 1);
        else if (!isfinite (m->value) || !isfinite (m->weight) || m->weight < 0)
            st = dps_fail (err, DPS_ERR_INVALID, "metric '%s' is %g of weight %g, expected finite numbers, weight ≥ 0", m->name, m->value,
                           m->weight);
    }
    dps_objective_close (o);
    return st;
}

/* All an instance does, from create to destroy. */
static DpsStatus life (const CheckContext *ctx, double *out_loss, DpsError *err)
{
    static CheckBatch b;
    static CheckLoss l;
    DpsObjectiveInstance *o;
    DPS_TRY (check_objective_open (ctx, &o, err));
    DpsStatus st = check_batch_make (o, &(CheckBatchPlan){.seed = ctx->seed, .n_units = 3}, &b, err);
    if (st == DPS_OK)
        st = check_batch_loss (o, &b, NULL, &l, err);
    if (st == DPS_OK && o->table.step_end)
        st = o->table.step_end (o->self, 1, err);
    dps_objective_close (o);
    *out_loss = l.losses[0];
    return st;
}

static DpsStatus leaks (CheckContext *ctx, DpsError *err)
{
    double unused;
    DPS_TRY (check_heap_watch ((const void *)table_of (ctx)->describe, err));
    DPS_TRY (life (ctx, &unused, err)); /* what is allocated once, is now */
    int64_t before = alloc_hook_live ();
    for (int i = 0; i < 20; i++)
        DPS_TRY (life (ctx, &unused, err));
    int64_t more = alloc_hook_live () - before;
    table_of (ctx)->destroy (NULL);
    return more ? dps_fail (err, DPS_ERR_INVALID,
                            "20 instances left %lld blocks behind: what create, score or loss allocated was not freed", (long long)more)
                : DPS_OK;
}

/* The k-th allocation fails, for every k: NOMEM in words or no harm done, and nothing is left behind. */
static DpsStatus allocations (CheckContext *ctx, DpsError *err)
{
    double right, got = 0;
    DPS_TRY (check_heap_watch ((const void *)table_of (ctx)->describe, err));
    DPS_TRY (life (ctx, &right, err));
    for (uint64_t k = 1; k < 2000; k++) {
        DpsError said = DPS_ERROR_INIT;
        int64_t before = alloc_hook_live ();
        alloc_hook_fail_at (k);
        DpsStatus st = life (ctx, &got, &said);
        uint64_t made = alloc_hook_count ();
        alloc_hook_fail_at (0);
        if (st == DPS_OK ? memcmp (&got, &right, sizeof got) != 0 : st != DPS_ERR_NOMEM)
            return dps_fail (err, DPS_ERR_INVALID, "allocation %llu failed: got %s, loss %g, expected NOMEM, or the loss %g",
                             (unsigned long long)k, dps_status_name (st), got, right);
        if (alloc_hook_live () != before)
            return dps_fail (err, DPS_ERR_INVALID, "allocation %llu failed, and %lld blocks were left behind", (unsigned long long)k,
                             (long long)(alloc_hook_live () - before));
        if (made < k)
            return DPS_OK;
    }
    return dps_fail (err, DPS_ERR_INVALID, "more than 2000 allocations for one small step");
}

/* Whatever fails says why: memory, a combination of parameters, rows without tokens, a row too few in a unit. */
static DpsStatus refusals_say_why (CheckContext *ctx, DpsError *err)
{
    static CheckBatch b;
    static CheckLoss l;
    double unused;
    (void)alloc_hook ((const void *)table_of (ctx)->describe);
    DPS_TRY (life (ctx, &unused, err));
    for (uint64_t k = 1; k < 20; k++) {
        DpsError said = DPS_ERROR_INIT;
        alloc_hook_fail_at (k);
        DpsStatus st = life (ctx, &unused, &said);
        alloc_hook_fail_at (0);
        DPS_TRY (check_told ("a step without memory", st, &said, err));
    }
    for (size_t v = 0;; v++) {
        char name[96];
        DpsObjectiveInstance *o = NULL;
        DpsError said = DPS_ERROR_INIT;
        DpsStatus st = check_objective_variant (ctx, v, &o, name, sizeof name, &said);
        if (st == DPS_ERR_NOT_FOUND)
            return DPS_OK;
        if (st == DPS_OK)
            st = check_batch_make (o, &(CheckBatchPlan){.seed = ctx->seed, .n_units = 3, .empty_row = 1}, &b, &said);
        if (st == DPS_OK && o->info.unit == DPS_UNIT_PAIR) /* and no pair at all */
            b.unit_offsets[1] = 1;
        if (st == DPS_OK)
            st = check_batch_loss (o, &b, NULL, &l, &said);
        dps_objective_close (o);
        DPS_TRY (check_told (name, st, &said, err));
    }
}

/* Steps until there is something to save. */
static DpsStatus steps (const CheckContext *ctx, const DpsObjectiveInstance *o, uint64_t first, uint64_t n, double *out_loss, DpsError *err)
{
    static CheckBatch b;
    static CheckLoss l;
    for (uint64_t i = first; i < first + n; i++) {
        DPS_TRY (check_batch_make (o, &(CheckBatchPlan){.seed = ctx->seed + i, .n_units = 3}, &b, err));
        DPS_TRY (check_batch_loss (o, &b, NULL, &l, err));
        if (o->table.step_end)
            DPS_TRY (o->table.step_end (o->self, i + 1, err));
    }
    memcpy (out_loss, l.losses, 3 * sizeof *out_loss);
    return DPS_OK;
}

static DpsStatus saved (const DpsObjectiveInstance *o, unsigned char **out, size_t *out_len, DpsError *err)
{
    size_t len = 0, again = 0;
    DPS_TRY (o->table.state_save (o->self, NULL, 0, &len, err));
    if (len > 1 << 26)
        return dps_fail (err, DPS_ERR_INVALID, "a state of %zu bytes after three tiny steps", len);
    unsigned char *buf = dps_malloc (len + 16, 1);
    if (!buf)
        return dps_fail (err, DPS_ERR_NOMEM, "check: out of memory");
    memset (buf, 0xA5, len + 16);
    DpsError said = DPS_ERROR_INIT;
    DpsStatus st = len ? o->table.state_save (o->self, buf, len - 1, &again, &said) : DPS_ERR_LIMIT;
    if (st != DPS_ERR_LIMIT || (len && buf[len] != 0xA5))
        st = dps_fail (err, DPS_ERR_INVALID, "state_save into one byte too few answers %s, expected LIMIT and nothing behind the room",
                       dps_status_name (st));
    else
        st = o->table.state_save (o->self, buf, len, &again, err);
    if (st == DPS_OK && (again != len || buf[len] != 0xA5))
        st = dps_fail (err, DPS_ERR_INVALID, "state_save says %zu bytes, then writes %zu or more", len, again);
    if (st != DPS_OK) {
        dps_free (buf);
        return st;
    }
    *out = buf;
    *out_len = len;
    return DPS_OK;
}

static DpsStatus continues (const CheckContext *ctx, const DpsObjectiveInstance *o, const DpsObjectiveInstance *p, DpsError *err)
{
    unsigned char *buf = NULL, *of_p = NULL;
    size_t len = 0, p_len = 0;
    double expected[3], got[3];
    DPS_TRY (saved (o, &buf, &len, err));
    DpsStatus st = DPS_OK;
    for (size_t cut = 0; st == DPS_OK && cut < len; cut += 1 + cut / 64) {
        DpsError said = DPS_ERROR_INIT;
        DpsStatus loaded = p->table.state_load (p->self, buf, cut, &said);
        st = check_told ("state_load of a state that was cut", loaded, &said, err);
        if (st == DPS_OK && loaded != DPS_ERR_FORMAT && loaded != DPS_ERR_VERSION)
            st = dps_fail (err, DPS_ERR_INVALID, "state_load of %zu of %zu bytes answers %s, expected FORMAT", cut, len,
                           dps_status_name (loaded));
    }
    if (st == DPS_OK)
        st = p->table.state_load (p->self, buf, len, err);
    if (st == DPS_OK)
        st = saved (p, &of_p, &p_len, err);
    if (st == DPS_OK && (p_len != len || memcmp (buf, of_p, len)))
        st = dps_fail (err, DPS_ERR_INVALID, "what was loaded is saved again as other bytes");
    if (st == DPS_OK)
        st = steps (ctx, o, 3, 3, expected, err);
    if (st == DPS_OK)
        st = steps (ctx, p, 3, 3, got, err);
    if (st == DPS_OK && memcmp (expected, got, sizeof got))
        st = dps_fail (err, DPS_ERR_INVALID, "a run continued from its saved state has the loss %.17g, uninterrupted %.17g", got[0],
                       expected[0]);
    dps_free (buf);
    dps_free (of_p);
    return st;
}

static DpsStatus state (CheckContext *ctx, DpsError *err)
{
    double unused[3];
    DpsObjectiveInstance *o, *p = NULL;
    if (!table_of (ctx)->state_save != !table_of (ctx)->state_load)
        return dps_fail (err, DPS_ERR_INVALID, "one of state_save and state_load is missing: they come together");
    DPS_TRY (check_objective_open (ctx, &o, err));
    DpsStatus st = steps (ctx, o, 0, 3, unused, err);
    if (st == DPS_OK)
        st = check_objective_open (ctx, &p, err);
    if (st == DPS_OK && o->table.state_save)
        st = continues (ctx, o, p, err);
    else if (st == DPS_OK) { /* then there must be none */
        double used[3], fresh[3];
        st = steps (ctx, o, 3, 3, used, err);
        if (st == DPS_OK)
            st = steps (ctx, p, 3, 3, fresh, err);
        if (st == DPS_OK && memcmp (used, fresh, sizeof used))
            st = dps_fail (err, DPS_ERR_INVALID,
                           "steps leave a state behind (loss %.17g, fresh %.17g) and state_save is missing: a resumed run differs", used[0],
                           fresh[0]);
    }
    dps_objective_close (p);
    dps_objective_close (o);
    return st;
}

static DpsStatus older_host (CheckContext *ctx, DpsError *err) { return check_older_hosts ((const void *)table_of (ctx)->describe, err); }

static const CheckCase cases[] = {
    CHECK_CASE (describe, 0, 0), CHECK_CASE (parameters, 0, 0),       CHECK_CASE (empty_rows, 0, 0), CHECK_CASE (smallest, 0, 0),
    CHECK_CASE (unjudged, 0, 0), CHECK_CASE (metrics, 0, 0),          CHECK_CASE (leaks, 0, 0),      CHECK_CASE (allocations, 0, 0),
    CHECK_CASE (state, 0, 0),    CHECK_CASE (refusals_say_why, 0, 0), CHECK_CASE (older_host, 0, 0),
};

const CheckSuite check_suite_objective_contract = {.name = "objective.contract",
                                                   .interface_id = DPS_OBJECTIVE_ID,
                                                   .summary = "descriptions, refusals, memory and state of an objective",
                                                   .cases = cases,
                                                   .n_cases = sizeof cases / sizeof *cases};
