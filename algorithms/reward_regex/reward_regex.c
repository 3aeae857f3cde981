/* SPDX-License-Identifier: Apache-2.0 */
/*
 * reward_regex.c: a regular expression (PCRE2) on the answer.
 *
 *     search    match where it is found anywhere, else no_match
 *     full      match where it matches all of the answer, else no_match
 *     capture   the number that its first group captured; no_match where it is not found, or no number
 *
 * Matching is bounded: an expression that backtracks without end costs that row (DPS_SCORE_FAILED), not the run.
 */
#include <string.h>

#include "base/judge.h"
#include "base/matcher.h"
#include "diapason/sdk.h"

enum { STEPS = 2000000 };

static const DpsParam pattern = DPS_SDK_PARAM ("pattern", DPS_PARAM_STR, 0, 0, 0, NULL, "regular expression (PCRE2, UTF-8)");
static const DpsParam mode = DPS_SDK_PARAM ("mode", DPS_PARAM_STR, 0, 0, 0, "search|full|capture", "what earns the reward");
static const DpsParam match = DPS_SDK_PARAM ("match", DPS_PARAM_F64, 1, -1e9, 1e9, NULL, "reward where it matches");
static const DpsParam no_match = DPS_SDK_PARAM ("no_match", DPS_PARAM_F64, 0, -1e9, 1e9, NULL, "reward where it does not");
static const DpsParam ignore_case = DPS_SDK_PARAM ("ignore_case", DPS_PARAM_BOOL, 0, 0, 1, NULL, "letters match in either case");
static const DpsParam *const params[] = {&pattern, &mode, &match, &no_match, &ignore_case};
enum { PATTERN, MODE, MATCH, NO_MATCH, IGNORE_CASE, N_PARAMS };
static const char *const criteria[] = {"regex"};

static const DpsRewardInfo info = {.size = sizeof info,
                                   .name = "regex",
                                   .summary = "a regular expression on the answer",
                                   .params = params,
                                   .n_params = N_PARAMS,
                                   .n_criteria = 1,
                                   .criteria = criteria};

typedef struct Regex {
    DpsMatcher *matcher;
    double match, no_match;
    int capture;
} Regex;

static const DpsRewardInfo *describe (void) { return &info; }

static void close_regex (void *self)
{
    Regex *r = self;
    if (r)
        dps_matcher_free (r->matcher);
    dps_free (r);
}

static DpsStatus open_regex (const double *num, const DpsStr *str, void **out, DpsError *err)
{
    if (!str[PATTERN].len)
        return dps_fail (err, DPS_ERR_INVALID, "pattern is missing: the regular expression");
    Regex *r = dps_calloc (1, sizeof *r);
    char *text = dps_strndup (str[PATTERN].ptr, str[PATTERN].len);
    const DpsMatcherOptions options = {
        .whole = dps_str_is (str[MODE], "full"), .ignore_case = num[IGNORE_CASE] != 0, .any_bytes = 1, .steps = STEPS};
    DpsStatus st =
        r && text ? dps_matcher_new (text, &options, "pattern", &r->matcher, err) : dps_fail (err, DPS_ERR_NOMEM, "out of memory");
    dps_free (text);
    if (st == DPS_OK) {
        r->match = num[MATCH];
        r->no_match = num[NO_MATCH];
        r->capture = dps_str_is (str[MODE], "capture");
        if (r->capture && !dps_matcher_groups (r->matcher))
            st = dps_fail (err, DPS_ERR_INVALID, "mode is capture, but the pattern has no group: put ( ) around the number");
    }
    if (st != DPS_OK) {
        close_regex (r);
        return st == DPS_ERR_USAGE || st == DPS_ERR_LIMIT ? DPS_ERR_INVALID : st;
    }
    *out = r;
    return DPS_OK;
}

static DpsStatus judge (void *self, const DpsRewardRow *row, double *out, uint32_t *status, DpsError *err)
{
    const Regex *r = self;
    size_t start, end, from = 0;
    (void)status;
    int found = dps_matcher_find (r->matcher, row->completion.ptr, row->completion.len);
    if (found < 0)
        return dps_fail (err, found == -2 ? DPS_ERR_NOMEM : DPS_ERR_LIMIT,
                         "the pattern was given up after %d steps on an answer of %zu bytes", STEPS, row->completion.len);
    *out = found ? r->match : r->no_match;
    if (!found || !r->capture)
        return DPS_OK;
    if (!dps_matcher_group (r->matcher, 1, &start, &end) ||
        !dps_judge_number ((DpsStr){row->completion.ptr + start, end - start}, '.', &from, out))
        *out = r->no_match;
    return DPS_OK;
}

static DpsStatus score (void *self, const DpsRewardRow *const *rows, uint64_t n_rows, int64_t deadline_ms, double *value, uint32_t *status,
                        double *const *token_values, DpsError *err)
{
    return dps_judge_rows (judge, self, rows, n_rows, deadline_ms, value, status, token_values, err);
}

static const DpsReward reward = {.size = sizeof reward, .describe = describe, .open = open_regex, .score = score, .close = close_regex};

DPS_PLUGIN_ONE (DPS_REWARD_ID, reward);
