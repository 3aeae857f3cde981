/* SPDX-License-Identifier: Apache-2.0 */
/* objective_kit.h: an objective plugin loaded as in production, and batches of it made from the parity models' recorded log-probs. */
#ifndef DPS_TESTS_OBJECTIVE_KIT_H
#define DPS_TESTS_OBJECTIVE_KIT_H

#include "base/mem.h"
#include "objective/objective.h"
#include "objective/tape.h"
#include "plugin/registry.h"
#include "safetensors_mini.h"

static const char *const parity_models[] = {"gemma2", "gemma3", "llama", "mistral", "qwen2", "qwen3"};
enum { N_PARITY_MODELS = 6, MAX_ROWS = 32, MAX_TOKENS = 1024 };

/** Scored tokens of a model's batch.json, in units of one row or, after kit_pairs, of two. */
typedef struct ParityBatch {
    uint64_t n_rows, n_tokens, n_units; /* n_units 0: one a row */
    int64_t offsets[MAX_ROWS + 1], units[MAX_ROWS + 1];
    double logp[MAX_TOKENS], entropy[MAX_TOKENS], hit[MAX_TOKENS], weights[MAX_TOKENS], reference[MAX_TOKENS], rollout[MAX_TOKENS];
    double score[MAX_ROWS], advantage[MAX_ROWS], share[MAX_ROWS]; /* share and advantage: of role step */
} ParityBatch;

/** A parameter that is not at its default: a number, or a word. */
typedef struct KitParam {
    const char *name;
    double num;
    const char *str;
} KitParam;

/* DpsParamLookup over KitParam [… {NULL}]. */
static inline int kit_param (void *ctx, const char *name, DpsParamValue *out)
{
    for (const KitParam *p = ctx; p->name; p++)
        if (!strcmp (p->name, name)) {
            *out = (DpsParamValue){.type = p->str ? DPS_PARAM_STR : DPS_PARAM_F64, .num = p->num, .where = "test"};
            out->str = (DpsStr){p->str, p->str ? strlen (p->str) : 0};
            return 1;
        }
    return 0;
}

/* Open objective `name` from the build's plugin folder; params end with {NULL}, NULL: defaults. *out_reg is closed by the caller, after the objective.
 */
static inline DpsObjectiveInstance *kit_open_with (const char *name, const KitParam *params, DpsRegistry **out_reg)
{
    DpsError err = DPS_ERROR_INIT;
    DpsObjectiveInstance *o = NULL;
    const char *folders[] = {DPS_BUILD "/lib/diapason/plugins"};
    CHECK_OK (dps_tape_provide (&err));
    CHECK_OK (dps_registry_open (&(DpsRegistryOptions){.folders = folders, .n_folders = 1}, out_reg, &err));
    const DpsObjective *table = dps_registry_get (*out_reg, DPS_OBJECTIVE_ID, name);
    CU_ASSERT_PTR_NOT_NULL_FATAL (table);
    CHECK_OK (dps_objective_open (table, params ? kit_param : NULL, (void *)params, &o, &err));
    return o;
}

static inline DpsObjectiveInstance *kit_open (const char *name, DpsRegistry **out_reg) { return kit_open_with (name, NULL, out_reg); }

/* Entropy and arg max of one row of logits. */
static inline void kit_score_row (const float *logits, int64_t v, int64_t target, double *entropy, double *hit)
{
    int64_t best = 0;
    double sum = 0, mean = 0;
    for (int64_t i = 1; i < v; i++)
        best = logits[i] > logits[best] ? i : best;
    for (int64_t i = 0; i < v; i++) {
        double d = (double)logits[i] - (double)logits[best], e = exp (d);
        sum += e;
        mean += e * d;
    }
    *entropy = log (sum) - mean / sum;
    *hit = best == target;
}

/* mask: "sft_mask", or NULL: every token but the first of each sequence. */
static inline void kit_batch (ParityBatch *b, const char *model, const char *mask, StFile *expected)
{
    DpsError err = DPS_ERROR_INIT;
    char path[128], name[32];
    json_t *json = NULL, *sequence;
    size_t r;
    *b = (ParityBatch){0};
    snprintf (path, sizeof path, "models/%s/expected.safetensors", model);
    st_open (expected, parity_path (path));
    snprintf (path, sizeof path, "models/%s/batch.json", model);
    CHECK_OK (dps_json_file (parity_path (path), 1 << 24, 0, &json, &err));
    json_array_foreach (json_object_get (json, "sequences"), r, sequence) {
        int64_t n, t = 1;
        json_t *ids = json_object_get (sequence, "ids"), *marks = mask ? json_object_get (sequence, mask) : NULL;
        snprintf (name, sizeof name, "logps.%zu", r);
        const float *logps = st_f32 (expected, name, &n);
        snprintf (name, sizeof name, "logits.%zu", r);
        StTensor logits = st_get (expected, name);
        CU_ASSERT_FATAL (r < MAX_ROWS && n == (int64_t)json_array_size (ids) - 1 && logits.shape[0] == n + 1);
        for (; t <= n; t++) {
            if (marks && !json_integer_value (json_array_get (marks, (size_t)t)))
                continue;
            CU_ASSERT_FATAL (b->n_tokens < MAX_TOKENS);
            const float *row = (const float *)logits.data + (t - 1) * logits.shape[1];
            uint64_t i = b->n_tokens++;
            b->logp[i] = (double)logps[t - 1];
            b->weights[i] = 1;
            kit_score_row (row, logits.shape[1], json_integer_value (json_array_get (ids, (size_t)t)), &b->entropy[i], &b->hit[i]);
        }
        b->n_rows = r + 1;
        b->units[r + 1] = (int64_t)r + 1;
        b->offsets[r + 1] = (int64_t)b->n_tokens;
    }
    json_decref (json);
}

/* batch.json's pairs are its rows two by two: chosen, rejected. */
static inline void kit_pairs (ParityBatch *b)
{
    CU_ASSERT_FATAL (b->n_rows > 0 && b->n_rows % 2 == 0);
    b->n_units = b->n_rows / 2;
    for (uint64_t u = 0; u <= b->n_units; u++)
        b->units[u] = 2 * (int64_t)u;
}

static inline uint64_t kit_units (const ParityBatch *b) { return b->n_units ? b->n_units : b->n_rows; }

/** What a step gave. */
typedef struct KitStep {
    DpsStepSums sums;
    double dlogp[MAX_TOKENS], dscore[MAX_ROWS], losses[MAX_ROWS];
} KitStep;

static inline const double *kit_signal (const ParityBatch *b, const DpsSignal *s, int64_t token, int64_t row)
{
    return !strcmp (s->role, "reference")   ? b->reference + token
           : !strcmp (s->role, "rollout")   ? b->rollout + token
           : !strcmp (s->name, "advantage") ? b->advantage + row
           : !strcmp (s->name, "share")     ? b->share + row
           : !strcmp (s->name, "score")     ? b->score + row
           : !strcmp (s->name, "logp")      ? b->logp + token
           : !strcmp (s->name, "hit")       ? b->hit + token
                                            : b->entropy + token;
}

/* The whole batch in micro-batches of `size` units. */
static inline void kit_step (const DpsObjectiveInstance *o, const ParityBatch *b, uint64_t size, KitStep *out)
{
    DpsError err = DPS_ERROR_INIT;
    uint64_t all = kit_units (b);
    *out = (KitStep){.sums = {0}};
    for (uint64_t first = 0; first < all; first += size) {
        uint64_t n = first + size < all ? size : all - first;
        int64_t row = b->units[first], rows = b->units[first + n] - row, start = b->offsets[row], offsets[MAX_ROWS + 1],
                units[MAX_ROWS + 1];
        const double *signals[8] = {0};
        double *grads[8] = {0};
        for (int64_t r = 0; r <= rows; r++)
            offsets[r] = b->offsets[row + r] - start;
        for (uint64_t u = 0; u <= n; u++)
            units[u] = b->units[first + u] - row;
        for (uint32_t s = 0; s < o->info.n_signals; s++) {
            signals[s] = kit_signal (b, &o->signals[s], start, row);
            if (o->signals[s].differentiable)
                grads[s] = o->signals[s].axis == DPS_AXIS_ROW ? out->dscore + row : out->dlogp + start;
        }
        DpsObjectiveBatch batch = {.size = sizeof batch,
                                   .n_tokens = (uint64_t)offsets[rows],
                                   .n_rows = (uint64_t)rows,
                                   .n_units = n,
                                   .row_offsets = offsets,
                                   .unit_offsets = units,
                                   .signals = signals,
                                   .weights = b->weights + start,
                                   .total = dps_objective_total (o, b->n_tokens, b->n_rows, all),
                                   .step_tokens = b->n_tokens,
                                   .step_rows = b->n_rows,
                                   .step_units = all,
                                   .micro_batches = (all + size - 1) / size};
        CHECK_OK (dps_objective_micro_batch (o, &batch, &out->sums, grads, out->losses + first, &err));
    }
}

/* Metric `name` of a step; fails the test when it is absent. */
static inline double kit_metric (const KitStep *s, const char *name)
{
    for (size_t i = 0; i < s->sums.n_metrics; i++)
        if (!strcmp (s->sums.metrics[i].name, name))
            return dps_step_metric (&s->sums, i);
    printf ("\n    no metric '%s'\n", name);
    CU_ASSERT_FATAL (0);
    return 0;
}

/* The loss and the four metrics that all preference stages have are those recorded in tensors.safetensors as loss.NAME and metric.NAME.…. */
static inline void kit_check_pairs (const KitStep *s, const StFile *expected, const char *name)
{
    static const char *const names[][2] = {{"rewards/accuracies", "accuracy"},
                                           {"rewards/chosen", "chosen_reward"},
                                           {"rewards/rejected", "rejected_reward"},
                                           {"rewards/margins", "margin"}};
    char key[64];
    snprintf (key, sizeof key, "loss.%s", name);
    double want = st_scalar (expected, key);
    CHECK_NEAR (dps_step_loss (&s->sums), want, 2e-5 + 1e-5 * fabs (want));
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        snprintf (key, sizeof key, "metric.%s.%s", name, names[i][1]);
        want = st_scalar (expected, key);
        CHECK_NEAR (kit_metric (s, names[i][0]), want, 2e-5 + 1e-5 * fabs (want));
    }
}

/* dlogp and dscore against central differences of the step's loss, relative to the largest gradient; masked positions exactly 0. */
static inline void kit_check_differences (const DpsObjectiveInstance *o, ParityBatch *b)
{
    static KitStep at, up, down;
    const double h = 1e-6;
    kit_step (o, b, kit_units (b), &at);
    int score = dps_objective_signal (o, "score", "policy") >= 0;
    uint64_t n = score ? b->n_rows : b->n_tokens;
    double *x = score ? b->score : b->logp, *d = score ? at.dscore : at.dlogp, largest = 0;
    for (uint64_t i = 0; i < n; i++)
        largest = fmax (largest, fabs (d[i]));
    CU_ASSERT (largest > 0);
    for (uint64_t i = 0; i < n; i++) {
        double kept = x[i];
        x[i] = kept + h;
        kit_step (o, b, kit_units (b), &up);
        x[i] = kept - h;
        kit_step (o, b, kit_units (b), &down);
        x[i] = kept;
        CHECK_NEAR (d[i], (dps_step_loss (&up.sums) - dps_step_loss (&down.sums)) / (2 * h), 1e-7 * fmax (1, largest));
        dps_step_free (&up.sums);
        dps_step_free (&down.sums);
    }
    dps_step_free (&at.sums);
}

/* The same bits from any split of the step. */
static inline void kit_check_splits (const DpsObjectiveInstance *o, const ParityBatch *b)
{
    static KitStep whole, split;
    kit_step (o, b, kit_units (b), &whole);
    for (uint64_t size = 1; size < kit_units (b); size++) {
        kit_step (o, b, size, &split);
        double a = dps_step_loss (&whole.sums), c = dps_step_loss (&split.sums);
        CU_ASSERT_EQUAL (memcmp (&a, &c, sizeof a), 0);
        CU_ASSERT_EQUAL (memcmp (whole.dlogp, split.dlogp, sizeof whole.dlogp), 0);
        CU_ASSERT_EQUAL (memcmp (whole.dscore, split.dscore, sizeof whole.dscore), 0);
        CU_ASSERT_EQUAL (memcmp (whole.losses, split.losses, sizeof whole.losses), 0);
        CU_ASSERT_EQUAL_FATAL (whole.sums.n_metrics, split.sums.n_metrics);
        for (size_t i = 0; i < whole.sums.n_metrics; i++)
            CU_ASSERT_EQUAL (memcmp (&whole.sums.metrics[i], &split.sums.metrics[i], sizeof whole.sums.metrics[i]), 0);
        dps_step_free (&split.sums);
    }
    dps_step_free (&whole.sums);
}

#endif
