/* SPDX-License-Identifier: Apache-2.0 */
/*
 * reward_json.c: the answer is one JSON value (white space around it is allowed; with `fenced` it may stand in a ``` block). Reward:
 *
 *     no JSON                                  no_match
 *     JSON that does not fit the schema        partial
 *     fits, nothing to compare with            match
 *     fits, and `equals` names a column        no_match + (match − no_match) · (share of the column's members that are equal)
 */
#include <string.h>

#include "base/file.h"
#include "base/judge.h"
#include "diapason/sdk.h"
#include "schema.h"

enum { MAX_SCHEMA = 1 << 20 };

static const DpsParam schema = DPS_SDK_PARAM ("schema", DPS_PARAM_STR, 0, 0, 0, NULL, "JSON schema: a map, or its JSON text");
static const DpsParam schema_path = DPS_SDK_PARAM ("schema_path", DPS_PARAM_STR, 0, 0, 0, NULL, "file with the schema");
static const DpsParam equals = DPS_SDK_PARAM ("equals", DPS_PARAM_STR, 0, 0, 0, NULL, "column whose members the answer should have");
static const DpsParam fenced = DPS_SDK_PARAM ("fenced", DPS_PARAM_BOOL, 0, 0, 1, NULL, "read the first ``` block where there is one");
static const DpsParam match = DPS_SDK_PARAM ("match", DPS_PARAM_F64, 1, -1e9, 1e9, NULL, "reward of what fits");
static const DpsParam partial = DPS_SDK_PARAM ("partial", DPS_PARAM_F64, 0, -1e9, 1e9, NULL, "reward of JSON that does not fit");
static const DpsParam no_match = DPS_SDK_PARAM ("no_match", DPS_PARAM_F64, 0, -1e9, 1e9, NULL, "reward of what is no JSON");
static const DpsParam *const params[] = {&schema, &schema_path, &equals, &fenced, &match, &partial, &no_match};
enum { SCHEMA, SCHEMA_PATH, EQUALS, FENCED, MATCH, PARTIAL, NO_MATCH, N_PARAMS };
static const char *const criteria[] = {"json"};

static const DpsRewardInfo info = {.size = sizeof info,
                                   .name = "json",
                                   .summary = "JSON that fits a schema",
                                   .params = params,
                                   .n_params = N_PARAMS,
                                   .n_criteria = 1,
                                   .criteria = criteria};

typedef struct Json {
    Schema *schema; /* NULL: any JSON fits */
    char *equals;
    int fenced;
    double match, partial, no_match;
} Json;

static const DpsRewardInfo *describe (void) { return &info; }

static void close_json (void *self)
{
    Json *j = self;
    if (j) {
        schema_free (j->schema);
        dps_free (j->equals);
    }
    dps_free (j);
}

static DpsStatus read_schema_file (DpsStr path, Json *j, DpsError *err)
{
    DpsBuf text = {0};
    char *name = dps_strndup (path.ptr, path.len);
    DpsStatus st = name ? dps_file_read (name, MAX_SCHEMA, &text, err) : dps_fail (err, DPS_ERR_NOMEM, "out of memory");
    if (st == DPS_OK)
        st = schema_new ((DpsStr){text.data ? text.data : "", text.len}, name, &j->schema, err);
    dps_buf_free (&text);
    dps_free (name);
    return st == DPS_ERR_NOT_FOUND || st == DPS_ERR_LIMIT ? DPS_ERR_INVALID : st;
}

static DpsStatus fill (Json *j, const double *num, const DpsStr *str, DpsError *err)
{
    j->fenced = num[FENCED] != 0;
    j->match = num[MATCH];
    j->partial = num[PARTIAL];
    j->no_match = num[NO_MATCH];
    if (str[SCHEMA].len && str[SCHEMA_PATH].len)
        return dps_fail (err, DPS_ERR_INVALID, "schema and schema_path are both given: keep one");
    if (str[EQUALS].len && !(j->equals = dps_strndup (str[EQUALS].ptr, str[EQUALS].len)))
        return dps_fail (err, DPS_ERR_NOMEM, "out of memory");
    return str[SCHEMA].len        ? schema_new (str[SCHEMA], "schema", &j->schema, err)
           : str[SCHEMA_PATH].len ? read_schema_file (str[SCHEMA_PATH], j, err)
                                  : DPS_OK;
}

static DpsStatus open_json (const double *num, const DpsStr *str, void **out, DpsError *err)
{
    Json *j = dps_calloc (1, sizeof *j);
    DpsStatus st = j ? fill (j, num, str, err) : dps_fail (err, DPS_ERR_NOMEM, "out of memory");
    if (st != DPS_OK) {
        close_json (j);
        return st;
    }
    *out = j;
    return DPS_OK;
}

/* The inside of the first block between lines of ``` (```json), or all of the text. */
static DpsStr inside_fence (DpsStr t)
{
    const char *open = t.len ? memmem (t.ptr, t.len, "```", 3) : NULL, *end = t.ptr + t.len;
    const char *line = open ? memchr (open, '\n', (size_t)(end - open)) : NULL;
    const char *close = line ? memmem (line, (size_t)(end - line), "```", 3) : NULL;
    return close ? (DpsStr){line, (size_t)(close - line)} : t;
}

/* How much of what the row expects the value has. */
static DpsStatus share_equal (const Json *j, const DpsRewardRow *row, const json_t *value, double *out, uint32_t *status, DpsError *err)
{
    json_t *expected = NULL, *item;
    const char *key;
    DpsStatus st = dps_judge_column (row, j->equals, &expected, err);
    if (st == DPS_ERR_NOT_FOUND) {
        *status = DPS_SCORE_NOT_JUDGED;
        return DPS_OK;
    }
    DPS_TRY (st);
    size_t n = json_object_size (expected), hits = 0;
    json_object_foreach (expected, key, item) {
        const json_t *got = json_object_get (value, key);
        hits += got && json_equal (got, item);
    }
    double share = n ? (double)hits / (double)n : (double)json_equal (expected, value);
    *out = j->no_match + (j->match - j->no_match) * share;
    json_decref (expected);
    return DPS_OK;
}

static DpsStatus judge (void *self, const DpsRewardRow *row, double *out, uint32_t *status, DpsError *err)
{
    const Json *j = self;
    DpsStr text = j->fenced ? inside_fence (row->completion) : row->completion;
    json_t *value = NULL;
    int good = 1;
    DpsStatus st = dps_json_parse (text.ptr, text.len, "answer", 1, 0, &value, err);
    *out = j->no_match;
    if (st != DPS_OK)
        return st == DPS_ERR_NOMEM ? st : DPS_OK;
    if (j->schema)
        st = schema_check (j->schema, value, &good, err);
    *out = good ? j->match : j->partial;
    if (st == DPS_OK && good && j->equals)
        st = share_equal (j, row, value, out, status, err);
    json_decref (value);
    return st;
}

static DpsStatus score (void *self, const DpsRewardRow *const *rows, uint64_t n_rows, int64_t deadline_ms, double *value, uint32_t *status,
                        double *const *token_values, DpsError *err)
{
    return dps_judge_rows (judge, self, rows, n_rows, deadline_ms, value, status, token_values, err);
}

static const DpsReward reward = {.size = sizeof reward, .describe = describe, .open = open_json, .score = score, .close = close_json};

DPS_PLUGIN_ONE (DPS_REWARD_ID, reward);
