/* SPDX-License-Identifier: Apache-2.0 */
/* grpo_kit.h: what the tests of grpo share: rewards of a step, scoring, groups. */
#ifndef DPS_GRPO_KIT_H
#define DPS_GRPO_KIT_H

#include "objective_kit.h"

static DpsError err = DPS_ERROR_INIT;

static inline json_t *read_json (const char *path)
{
    json_t *j = NULL;
    CHECK_OK (dps_json_file (parity_path (path), 1 << 24, 0, &j, &err));
    return j;
}

static inline double number_or_nan (const json_t *v) { return json_is_number (v) ? json_number_value (v) : NAN; }

/* Rewards of a step as an objective is given them. */
typedef struct Judged {
    double values[MAX_ROWS * 8], weights[8];
    DpsStr names[8];
    uint32_t truncated[MAX_ROWS];
    DpsRewards rewards;
} Judged;

static inline void judged_read (Judged *j, const json_t *rows, const json_t *weights)
{
    static const char *const names[] = {"a", "b", "c", "d", "e"};
    size_t r, c;
    json_t *row, *v;
    *j = (Judged){.rewards = {.size = sizeof j->rewards, .n_criteria = json_array_size (weights)}};
    json_array_foreach (weights, c, v) {
        j->weights[c] = json_number_value (v);
        j->names[c] = dps_str (names[c]);
    }
    json_array_foreach (rows, r, row)
        json_array_foreach (row, c, v)
            j->values[r * j->rewards.n_criteria + c] = number_or_nan (v);
    j->rewards.values = j->values;
    j->rewards.weights = j->weights;
    j->rewards.names = j->names;
    j->rewards.truncated = j->truncated;
}

/* Score the whole batch; the step's metrics join sums. */
static inline DpsStatus score (const DpsObjectiveInstance *o, ParityBatch *b, const Judged *j, DpsStepSums *sums, DpsError *e)
{
    const double *given[8] = {0};
    double *out[8] = {0};
    for (uint32_t i = 0; i < o->info.n_signals; i++)
        if (!strcmp (o->signals[i].role, "step"))
            out[i] = !strcmp (o->signals[i].name, "share") ? b->share : b->advantage;
    const DpsObjectiveBatch step = {.size = sizeof step,
                                    .n_tokens = b->n_tokens,
                                    .n_rows = b->n_rows,
                                    .n_units = kit_units (b),
                                    .row_offsets = b->offsets,
                                    .unit_offsets = b->units,
                                    .signals = given,
                                    .weights = b->weights,
                                    .total = (double)b->n_rows};
    return dps_objective_score (o, &step, &j->rewards, out, sums, e);
}

/* Units of k rows each. */
static inline void group_by (ParityBatch *b, uint64_t k)
{
    b->n_units = b->n_rows / k;
    for (uint64_t u = 0; u <= b->n_units; u++)
        b->units[u] = (int64_t)(u * k);
}

static inline void close_objective (DpsObjectiveInstance *o, DpsRegistry *reg)
{
    dps_objective_close (o);
    dps_registry_close (reg);
}

/* Two groups of two answers, two criteria. */
static inline void two_groups (ParityBatch *b, Judged *j, const double *values)
{
    *b = (ParityBatch){.n_rows = 4, .n_tokens = 6, .offsets = {0, 1, 2, 4, 6}};
    *j = (Judged){.weights = {1, 1}, .names = {{"safe", 4}, {"tone", 4}}};
    group_by (b, 2);
    for (uint64_t i = 0; i < b->n_tokens; i++) {
        b->logp[i] = b->rollout[i] = -1 - 0.25 * (double)i;
        b->weights[i] = b->entropy[i] = 1;
    }
    memcpy (j->values, values, 8 * sizeof *values);
    j->rewards = (DpsRewards){sizeof j->rewards, 2, j->values, j->weights, j->names, j->truncated};
}

#endif
