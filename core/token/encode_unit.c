/* SPDX-License-Identifier: Apache-2.0 */
/* encode_unit.c: rows as the units objectives work on: one sequence, or a pair or group of answers to one prompt. */
#include <stdio.h>
#include <string.h>

#include "diapason/objective.h"
#include "token/encode_internal.h"

void dps_encoded_unit_free (DpsEncodedUnit *u)
{
    for (size_t i = 0; u->rows && i < u->n; i++)
        dps_encoded_free (&u->rows[i]);
    dps_free (u->rows);
    *u = (DpsEncodedUnit){0};
}

static DpsStatus make_rows (const DpsRow *row, size_t n, DpsEncodedUnit *out, DpsError *err)
{
    *out = (DpsEncodedUnit){.rows = dps_calloc (n, sizeof *out->rows), .n = n};
    return out->rows ? DPS_OK : dps_fail (err, DPS_ERR_NOMEM, "%s:%llu: out of memory", row->file, (unsigned long long)row->line);
}

static DpsStatus encode_single (const DpsEncoder *e, const DpsRow *row, DpsEncodedUnit *out, DpsError *err)
{
    DPS_TRY (make_rows (row, 1, out, err));
    DPS_TRY (dps_encode_row (e, row, &out->rows[0], err));
    const size_t n_long = out->rows[0].n_long;
    if (out->rows[0].n == 0)
        dps_encoded_unit_free (out);
    out->n_long = n_long;
    return DPS_OK;
}

/* What errors call answer k. */
typedef struct Side {
    char text[40];
} Side;

static Side side_of (const DpsRow *row, size_t k)
{
    Side s = {{0}};
    if (row->kind == DPS_ROW_PAIR)
        snprintf (s.text, sizeof s.text, "%s", k ? "rejected" : "chosen");
    else
        snprintf (s.text, sizeof s.text, "completions[%zu]", k);
    return s;
}

/* Answer k behind the prompt; only the answer counts. */
static DpsStatus encode_side (const DpsEncoder *e, const DpsRow *row, size_t k, DpsEncoded *x, DpsError *err)
{
    DPS_TRY (dps__encode_completion (e, row, &row->answers[k], x, err));
    DPS_TRY (dps__encode_check_ids (e, row, x, err));
    for (size_t i = 0; i < x->n_prompt && i < x->n; i++)
        x->weights[i] = 0;
    if (x->n_prompt == 0)
        return dps_row_fail (row, err, "the prompt has no token, so nothing predicts the first token of an answer");
    return x->n > x->n_prompt ? DPS_OK : dps_row_fail (row, err, "%s: the completion is empty", side_of (row, k).text);
}

void dps__encode_drop_beginning (const DpsEncoder *e, DpsEncoded *x, size_t n)
{
    size_t first = e->bos >= 0 && x->ids[0] == e->bos;
    memmove (x->ids + first, x->ids + first + n, (x->n - n - first) * sizeof *x->ids);
    memmove (x->weights + first, x->weights + first + n, (x->n - n - first) * sizeof *x->weights);
    x->n -= n;
    x->n_prompt -= n;
}

/* The template may render the prompt otherwise before one answer than before another. */
static DpsStatus check_prompts (const DpsRow *row, const DpsEncodedUnit *u, DpsError *err)
{
    const DpsEncoded *a = &u->rows[0];
    for (size_t k = 1; k < u->n; k++)
        if (u->rows[k].n_prompt != a->n_prompt || memcmp (a->ids, u->rows[k].ids, a->n_prompt * sizeof *a->ids))
            return dps_row_fail (row, err, "the template renders the prompt otherwise before %s than before %s", side_of (row, 0).text,
                                 side_of (row, k).text);
    return DPS_OK;
}

/* max_prompt_length: the end of a prompt is next to its answers. */
static void truncate_prompt (const DpsEncoder *e, DpsEncodedUnit *u)
{
    size_t limit = (size_t)e->recipe->max_prompt_length, n = u->rows[0].n_prompt;
    for (size_t k = 0; limit && n > limit && k < u->n; k++)
        dps__encode_drop_beginning (e, &u->rows[k], n - limit);
}

static size_t longest_of (const DpsEncodedUnit *u)
{
    size_t longest = 0;
    for (size_t k = 1; k < u->n; k++)
        longest = u->rows[k].n > u->rows[longest].n ? k : longest;
    return longest;
}

/* max_length for all answers, so that their prompts stay alike. *out_cut: the most tokens one lost; each answer's own: its n_long. */
static DpsStatus truncate_answers (const DpsEncoder *e, const DpsRow *row, DpsEncodedUnit *u, size_t *out_cut, DpsError *err)
{
    size_t limit = (size_t)e->recipe->max_length, at = longest_of (u), longest = u->rows[at].n, n_prompt = u->rows[0].n_prompt;
    const char *mode = e->recipe->truncation_mode;
    *out_cut = 0;
    if (limit == 0 || longest <= limit)
        return DPS_OK;
    if (!strcmp (mode, "error"))
        return dps_row_fail (row, err, "%zu tokens, max_length is %zu", longest, limit);
    if (!strcmp (mode, "drop")) {
        dps_encoded_unit_free (u);
        u->n_long = longest - limit;
        return DPS_OK;
    }
    u->n_long = *out_cut = longest - limit;
    if (!strcmp (mode, "keep_end")) {
        if (*out_cut >= n_prompt)
            return dps_row_fail (row, err, "%s: the answer alone has %zu tokens, max_length is %zu and a token of the prompt must stay",
                                 side_of (row, at).text, longest - n_prompt, limit);
        for (size_t k = 0; k < u->n; k++)
            dps__encode_drop_beginning (e, &u->rows[k], *out_cut);
        return DPS_OK;
    }
    if (n_prompt >= limit)
        return dps_row_fail (row, err, "the prompt has %zu tokens and max_length is %zu: nothing of the answers is left", n_prompt, limit);
    for (size_t k = 0; k < u->n; k++) {
        DpsEncoded *x = &u->rows[k];
        x->n_long = x->n > limit ? x->n - limit : 0;
        x->n -= x->n_long;
    }
    return DPS_OK;
}

/* Answers `which` of a row behind its prompt, made to fit. All of them: which NULL. */
static DpsStatus encode_answers (const DpsEncoder *e, const DpsRow *row, const size_t *which, size_t n, DpsEncodedUnit *out, DpsError *err)
{
    size_t cut = 0;
    DPS_TRY (make_rows (row, n, out, err));
    for (size_t k = 0; k < n; k++)
        DPS_TRY (encode_side (e, row, which ? which[k] : k, &out->rows[k], err));
    DPS_TRY (check_prompts (row, out, err));
    if (e->recipe) {
        truncate_prompt (e, out);
        DPS_TRY (truncate_answers (e, row, out, &cut, err));
    }
    if (out->n == 0)
        return DPS_OK;
    out->prefix = out->rows[0].n_prompt;
    for (size_t k = 0; k < out->n; k++)
        DPS_TRY (dps__encode_check_trained (e, row, &out->rows[k], cut, err));
    return DPS_OK;
}

static DpsStatus encode_pair (const DpsEncoder *e, const DpsRow *row, DpsEncodedUnit *out, DpsError *err)
{
    const char *missing = dps_row_missing_side (row);
    size_t which[2] = {0, 1};
    if (missing)
        return dps_row_fail (row, err, "a preference pair without %s", missing);
    if (row->kind == DPS_ROW_GROUP) {
        if (!dps_scores_extremes (&row->scores, row->n_answers, e->recipe ? e->recipe->criteria_weights : NULL, which))
            return DPS_OK;
    } else if (row->kind != DPS_ROW_PAIR)
        return dps_row_fail (row, err, "%s: this stage takes preference pairs: prompt, chosen and rejected", dps_row_kind_name (row->kind));
    DPS_TRY (encode_answers (e, row, which, 2, out, err));
    const DpsEncoded *a = &out->rows[0], *b = a + 1;
    if (out->n && a->n == b->n && !memcmp (a->ids, b->ids, a->n * sizeof *a->ids))
        return dps_row_fail (row, err, "%s and %s are the same%s", side_of (row, which[0]).text, side_of (row, which[1]).text,
                             out->n_long ? " in what max_length leaves of them" : " tokens");
    return DPS_OK;
}

static DpsStatus encode_group (const DpsEncoder *e, const DpsRow *row, DpsEncodedUnit *out, DpsError *err)
{
    if (row->kind != DPS_ROW_GROUP)
        return dps_row_fail (
            row, err,
            "%s: this stage takes groups: a prompt and completions with scores. Hint: with reward_funcs it samples the answers to "
            "prompts",
            dps_row_kind_name (row->kind));
    if (!row->n_answers)
        return DPS_OK;
    if (row->n_answers < 2)
        return dps_row_fail (row, err, "a group of one completion: there is nothing to compare it with");
    return encode_answers (e, row, NULL, row->n_answers, out, err);
}

DpsStatus dps_encode_unit (const DpsEncoder *e, const DpsRow *row, uint32_t unit, DpsEncodedUnit *out, DpsError *err)
{
    *out = (DpsEncodedUnit){0};
    DpsStatus st = e->recipe && dps_recipe_samples (e->recipe) ? dps_encode_prompt_unit (e, row, out, err)
                   : unit == DPS_UNIT_PAIR                     ? encode_pair (e, row, out, err)
                   : unit == DPS_UNIT_SINGLE                   ? encode_single (e, row, out, err)
                                                               : encode_group (e, row, out, err);
    if (st != DPS_OK)
        dps_encoded_unit_free (out);
    return st;
}
