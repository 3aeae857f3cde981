/* SPDX-License-Identifier: Apache-2.0 */
/* reward.c: the share of an answer's bytes that are small letters; a row whose columns are no object is not judged. And the faults of a reward. */
#include <math.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/judge.h"
#include "base/mem.h"
#include "broken.h"
#include "diapason/sdk.h"

static const DpsParam base = DPS_SDK_PARAM ("base", DPS_PARAM_F64, 0, -1, 1, NULL, "added to every reward");
static const DpsParam *const params[] = {&base};
static const char *criteria[] = {"letters"};
static DpsRewardInfo info = {.size = sizeof info,
                             .name = "reward",
                             .summary = "for the tests of diapason check",
                             .params = params,
                             .n_params = 1,
                             .n_criteria = 1,
                             .criteria = criteria};

static const DpsRewardInfo *describe (void)
{
    criteria[0] = IS (criterion_without_name) ? "" : "letters";
    info.name = IS (other_name) ? "broken" : "reward";
    return &info;
}

static DpsStatus open_reward (const double *num, const DpsStr *str, void **out, DpsError *err)
{
    (void)str;
    *out = dps_copy (num, 1, sizeof *num);
    return *out ? DPS_OK : IS (says_nothing) ? DPS_ERR_NOMEM : dps_sdk_fail (err, DPS_ERR_NOMEM, "no memory");
}

static void close_reward (void *self) { dps_free (self); }

/* Lower-case copy of the answer, as a reward that folds case would make. */
static char *fold (const DpsRewardRow *row)
{
    static char shared[1 << 21];
    char *copy = IS (shares_memory) ? shared : dps_malloc (row->completion.len + 1, 1);
    if (!copy)
        return NULL;
    size_t len = IS (looks_for_nul) ? strlen (row->completion.ptr) : row->completion.len;
    memcpy (copy, row->completion.ptr, len < row->completion.len ? len : row->completion.len);
    copy[row->completion.len] = '\0';
    return copy;
}

static DpsStatus judge_row (const double *self, const DpsRewardRow *row, double *value, uint32_t *status, DpsError *err)
{
    static int64_t counter;
    size_t n = 0;
    if (!row->columns.len || row->columns.ptr[0] != '{') {
        if (IS (dies_of_bad_columns))
            *(volatile char *)NULL = 1;
        *value = IS (value_and_not_judged) ? 0 : NAN;
        *status = DPS_SCORE_NOT_JUDGED;
        return DPS_OK;
    }
    char *copy = fold (row);
    if (!copy && !IS (wrong_without_memory))
        return dps_sdk_fail (err, DPS_ERR_NOMEM, "no memory");
    for (size_t i = 0; copy && i < row->completion.len; i++)
        n += copy[i] >= 'a' && copy[i] <= 'z';
    *value = *self + (row->completion.len ? (double)n / (double)row->completion.len : 0);
    if (IS (reads_the_clock)) {
        struct timespec now;
        clock_gettime (CLOCK_REALTIME, &now);
        *value += 1e-9 * (double)(now.tv_sec / 3600);
    }
    if (IS (other_each_time))
        *value += 1e-9 * (double)(counter++ % 5);
    *status = DPS_SCORE_OK;
    if (IS (nan_and_ok) && !row->completion.len)
        *value = NAN;
    if (!IS (leaks_memory) && !IS (shares_memory))
        dps_free (copy);
    return DPS_OK;
}

/* The reward of an answer stands on its last token. */
static void to_tokens (const DpsRewardRow *row, double value, double *tokens)
{
    for (uint64_t k = 0; k < row->n_completion_ids + IS (tokens_too_far); k++)
        tokens[k] = k + 1 == row->n_completion_ids ? value : 0;
}

static DpsStatus score (void *self, const DpsRewardRow *const *rows, uint64_t n_rows, int64_t deadline_ms, double *value, uint32_t *status,
                        double *const *token_values, DpsError *err)
{
    int64_t start = dps_judge_now_ms ();
    uint64_t n = n_rows && IS (forgets_last_row) ? n_rows - 1 : n_rows;
    for (uint64_t i = 0; i < n; i++) {
        if (deadline_ms > 0 && dps_judge_now_ms () - start >= deadline_ms && !IS (misses_deadline)) {
            value[i] = NAN;
            status[i] = DPS_SCORE_TIMEOUT;
            continue;
        }
        if (deadline_ms > 0 && IS (misses_deadline))
            usleep (200000);
        DpsStatus st = judge_row (self, rows[i], &value[i], &status[i], err);
        if (st != DPS_OK)
            return st;
        if (IS (sixteen_rows_at_most) && i >= 16 && status[i] == DPS_SCORE_OK)
            value[i] = value[i - 15];
        if (IS (compares_rows) && i && status[i] == DPS_SCORE_OK && status[0] == DPS_SCORE_OK)
            value[i] -= value[0];
        if (token_values && token_values[i])
            to_tokens (rows[i], value[i], token_values[i]);
        if (IS (writes_inputs) && rows[i]->completion.len)
            ((char *)rows[i]->completion.ptr)[0] = 'x';
    }
    if (IS (writes_past_last_row))
        value[n_rows] = 0;
    return DPS_OK;
}

static const DpsReward reward = {.size = sizeof reward, .describe = describe, .open = open_reward, .score = score, .close = close_reward};

DPS_PLUGIN_ONE (DPS_REWARD_ID, reward);
