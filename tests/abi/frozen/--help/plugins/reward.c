/* SPDX-License-Identifier: Apache-2.0 */
/*
 * reward.c: two rules. `length` falls linearly from 1 at `target` tokens to 0 at none and at twice as many; `finished` is 1 when the
 * completion ended by itself, with '.', '!' or '?', and 0 when it did not or was cut at the length limit.
 */
#include "base/mem.h"
#include "base/status.h"
#include "diapason/diapason.h"
#include "diapason/sdk.h"

enum { LENGTH = 0, FINISHED = 1, N_CRITERIA = 2 };

typedef struct Reward {
    double target;
} Reward;

static const DpsParam target = {.size = sizeof (DpsParam),
                                .name = "target",
                                .type = DPS_PARAM_I64,
                                .def = 128,
                                .min = 1,
                                .max = 1e6,
                                .help = "tokens of an ideal completion"};
static const DpsParam *const params[] = {&target};
static const char *const criteria[N_CRITERIA] = {"length", "finished"};

static const DpsRewardInfo info = {.size = sizeof info,
                                   .name = "rules",
                                   .summary = "length and a finished answer",
                                   .params = params,
                                   .n_params = 1,
                                   .n_criteria = N_CRITERIA,
                                   .criteria = criteria};

static const DpsRewardInfo *describe (void) { return &info; }

static DpsStatus open_rules (const double *num, const DpsStr *str, void **out, DpsError *err)
{
    (void)str;
    Reward *r = dps_calloc (1, sizeof *r);
    if (!r)
        return dps_fail (err, DPS_ERR_NOMEM, "rules: out of memory");
    r->target = num[0];
    *out = r;
    return DPS_OK;
}

static void close_rules (void *self) { dps_free (self); }

/* The text is UTF-8 by pointer and length, not NUL-terminated, and may be empty. */
static int is_sentence (DpsStr text)
{
    return text.len > 0 && (text.ptr[text.len - 1] == '.' || text.ptr[text.len - 1] == '!' || text.ptr[text.len - 1] == '?');
}

/* One failed row would get DPS_SCORE_FAILED and the others their values; these rules cannot fail. */
static DpsStatus score (void *self, const DpsRewardRow *const *rows, uint64_t n_rows, int64_t deadline_ms, double *value, uint32_t *status,
                        double *const *token_values, DpsError *err)
{
    const Reward *r = self;
    (void)deadline_ms;
    (void)token_values;
    (void)err;
    for (uint64_t i = 0; i < n_rows; i++) {
        double off = ((double)rows[i]->n_completion_ids - r->target) / r->target;
        off = off < 0 ? -off : off;
        value[i * N_CRITERIA + LENGTH] = off < 1 ? 1 - off : 0;
        value[i * N_CRITERIA + FINISHED] = !rows[i]->truncated && is_sentence (rows[i]->completion);
        status[i * N_CRITERIA + LENGTH] = status[i * N_CRITERIA + FINISHED] = DPS_SCORE_OK;
    }
    return DPS_OK;
}

static const DpsReward reward = {.size = sizeof reward, .describe = describe, .open = open_rules, .score = score, .close = close_rules};

DPS_PLUGIN_ONE (DPS_REWARD_ID, reward);
