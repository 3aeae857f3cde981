/* SPDX-License-Identifier: Apache-2.0 */
/* ppo_kit.h: what the tests of ppo share: a rollout, its scoring, a step on it in any split. */
#ifndef DPS_PPO_KIT_H
#define DPS_PPO_KIT_H

#include "objective_kit.h"

/* Signals in the order of the plugin's description. */
enum { LOGP, VALUE, ENTROPY, OLD_LOGP, OLD_VALUE, REFERENCE, ADVANTAGE, RETURN, N_SIGNALS };

/** A rollout: N_SIGNALS numbers a token, one reward an answer. */
typedef struct Rollout {
    ParityBatch at;
    double x[N_SIGNALS][MAX_TOKENS], rewards[MAX_ROWS], gradients[N_SIGNALS][MAX_TOKENS];
    uint32_t truncated[MAX_ROWS];
} Rollout;

/** An open plugin. */
typedef struct Open {
    DpsRegistry *reg;
    DpsObjectiveInstance *o;
} Open;

static DpsError err = DPS_ERROR_INIT;

static inline Open open_ppo (const KitParam *params)
{
    Open open;
    static const char *const names[N_SIGNALS] = {"logp", "value", "entropy", "logp", "value", "logp", "advantage", "return"};
    open.o = kit_open_with ("ppo", params, &open.reg);
    CU_ASSERT_EQUAL_FATAL (open.o->info.n_signals, N_SIGNALS);
    for (int i = 0; i < N_SIGNALS; i++)
        CHECK_STR (open.o->signals[i].name, names[i]);
    return open;
}

static inline void close_ppo (Open *open)
{
    dps_objective_close (open->o);
    dps_registry_close (open->reg);
}

static inline DpsObjectiveBatch batch_of (const Rollout *r, const double *const *signals)
{
    return (DpsObjectiveBatch){.size = sizeof (DpsObjectiveBatch),
                               .n_tokens = r->at.n_tokens,
                               .n_rows = r->at.n_rows,
                               .n_units = r->at.n_rows,
                               .row_offsets = r->at.offsets,
                               .unit_offsets = r->at.units,
                               .signals = signals,
                               .weights = r->at.weights,
                               .total = (double)r->at.n_tokens};
}

/* Advantages and returns into the rollout. */
static inline DpsStatus try_score (const DpsObjectiveInstance *o, Rollout *r, DpsStepSums *sums)
{
    static const double one = 1;
    static const DpsStr name = {"judge", 5};
    const double *signals[N_SIGNALS] = {[OLD_LOGP] = r->x[OLD_LOGP], [OLD_VALUE] = r->x[OLD_VALUE]};
    signals[REFERENCE] = dps_objective_reads (o, REFERENCE) ? r->x[REFERENCE] : NULL;
    double *out[N_SIGNALS] = {[ADVANTAGE] = r->x[ADVANTAGE], [RETURN] = r->x[RETURN]};
    const DpsRewards rewards = {
        .size = sizeof rewards, .n_criteria = 1, .values = r->rewards, .weights = &one, .names = &name, .truncated = r->truncated};
    DpsObjectiveBatch step = batch_of (r, signals);
    return dps_objective_score (o, &step, &rewards, out, sums, &err);
}

static inline void score (const DpsObjectiveInstance *o, Rollout *r, KitStep *s)
{
    s->sums = (DpsStepSums){0};
    CHECK_OK (try_score (o, r, &s->sums));
}

/* The step's loss in micro-batches of `size` answers. */
static inline void run_step (const DpsObjectiveInstance *o, Rollout *r, uint64_t size, KitStep *s)
{
    s->sums = (DpsStepSums){0};
    memset (r->gradients, 0, sizeof r->gradients);
    for (uint64_t first = 0; first < r->at.n_rows; first += size) {
        uint64_t n = first + size < r->at.n_rows ? size : r->at.n_rows - first;
        int64_t start = r->at.offsets[first], offsets[MAX_ROWS + 1], units[MAX_ROWS + 1];
        const double *signals[N_SIGNALS];
        double *grads[N_SIGNALS] = {r->gradients[LOGP] + start, r->gradients[VALUE] + start};
        for (uint64_t k = 0; k <= n; k++) {
            offsets[k] = r->at.offsets[first + k] - start;
            units[k] = (int64_t)k;
        }
        for (int i = 0; i < N_SIGNALS; i++)
            signals[i] = r->x[i] + start;
        DpsObjectiveBatch b = batch_of (r, signals);
        b.n_tokens = (uint64_t)offsets[n];
        b.n_rows = b.n_units = n;
        b.row_offsets = offsets;
        b.unit_offsets = units;
        b.weights = r->at.weights + start;
        CHECK_OK (dps_objective_micro_batch (o, &b, &s->sums, grads, s->losses + first, &err));
    }
}

#endif
