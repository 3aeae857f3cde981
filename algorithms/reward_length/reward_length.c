/* SPDX-License-Identifier: Apache-2.0 */
/*
 * reward_length.c: a band of lengths with soft edges. With n the length of the answer,
 *
 *     1                                  min ≤ n ≤ max
 *     1 − (min − n)/soft, at least 0     n < min       (soft 0: 0)
 *     1 − (n − max)/soft, at least 0     n > max       (soft 0: 0)
 *
 * max 0: no upper end.
 */
#include <string.h>

#include "base/judge.h"
#include "base/mem.h"
#include "diapason/sdk.h"

static const DpsParam least = DPS_SDK_PARAM ("min", DPS_PARAM_I64, 0, 0, 1e9, NULL, "shortest length that earns 1");
static const DpsParam most = DPS_SDK_PARAM ("max", DPS_PARAM_I64, 0, 0, 1e9, NULL, "longest length that earns 1; 0: no limit");
static const DpsParam soft = DPS_SDK_PARAM ("soft", DPS_PARAM_F64, 0, 0, 1e9, NULL, "width over which the reward falls to 0 outside");
static const DpsParam unit = DPS_SDK_PARAM ("unit", DPS_PARAM_STR, 0, 0, 0, "tokens|characters|words", "what is counted");
static const DpsParam *const params[] = {&least, &most, &soft, &unit};
enum { MIN, MAX, SOFT, UNIT, N_PARAMS };
static const char *const criteria[] = {"length"};

static const DpsRewardInfo info = {.size = sizeof info,
                                   .name = "length",
                                   .summary = "1 within a band of lengths, falling to 0 outside",
                                   .params = params,
                                   .n_params = N_PARAMS,
                                   .n_criteria = 1,
                                   .criteria = criteria};

typedef struct Band {
    double min, max, soft;
    char unit; /* 't', 'c' or 'w' */
} Band;

static const DpsRewardInfo *describe (void) { return &info; }

static DpsStatus open_band (const double *num, const DpsStr *str, void **out, DpsError *err)
{
    if (num[MAX] > 0 && num[MAX] < num[MIN])
        return dps_fail (err, DPS_ERR_INVALID, "min is %g and max %g, expected min ≤ max", num[MIN], num[MAX]);
    if (num[MIN] == 0 && num[MAX] == 0)
        return dps_fail (err, DPS_ERR_INVALID, "neither min nor max is given: every length would earn 1");
    Band *b = dps_calloc (1, sizeof *b);
    if (!b)
        return dps_fail (err, DPS_ERR_NOMEM, "out of memory");
    *b = (Band){num[MIN], num[MAX], num[SOFT], str[UNIT].ptr[0]};
    *out = b;
    return DPS_OK;
}

/* Runs of bytes other than ASCII white space. */
static uint64_t count_words (DpsStr text)
{
    uint64_t n = 0;
    int inside = 0;
    for (size_t i = 0; i < text.len; i++) {
        int space = text.ptr[i] != 0 && strchr (" \t\r\n\f\v", text.ptr[i]) != NULL;
        n += !space && !inside;
        inside = !space;
    }
    return n;
}

static DpsStatus judge (void *self, const DpsRewardRow *row, double *out, uint32_t *status, DpsError *err)
{
    const Band *b = self;
    (void)status, (void)err;
    uint64_t length = b->unit == 't'   ? row->n_completion_ids
                      : b->unit == 'c' ? dps_judge_characters (row->completion)
                                       : count_words (row->completion);
    double n = (double)length, off = n < b->min ? b->min - n : b->max > 0 && n > b->max ? n - b->max : 0;
    *out = off == 0 ? 1 : off < b->soft ? 1 - off / b->soft : 0;
    return DPS_OK;
}

static DpsStatus score (void *self, const DpsRewardRow *const *rows, uint64_t n_rows, int64_t deadline_ms, double *value, uint32_t *status,
                        double *const *token_values, DpsError *err)
{
    return dps_judge_rows (judge, self, rows, n_rows, deadline_ms, value, status, token_values, err);
}

static void close_band (void *self) { dps_free (self); }

static const DpsReward reward = {.size = sizeof reward, .describe = describe, .open = open_band, .score = score, .close = close_band};

DPS_PLUGIN_ONE (DPS_REWARD_ID, reward);
