/* SPDX-License-Identifier: Apache-2.0 */
/* encode_unit.c: rows as the units objectives work on: one sequence, or a pair of answers to one prompt. */
#include <string.h>

#include "diapason/draft/objective.h"
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

static const char *const sides[2] = {"chosen", "rejected"};

static DpsStatus encode_side (const DpsEncoder *e, const DpsRow *row, size_t k, DpsEncoded *x, DpsError *err)
{
    DPS_TRY (dps__encode_completion (e, row, &row->answers[k], x, err));
    DPS_TRY (dps__encode_check_ids (e, row, x, err));
    for (size_t i = 0; i < x->n_prompt && i < x->n; i++)
        x->weights[i] = 0;
    if (x->n_prompt == 0)
        return dps_row_fail (row, err, "the prompt has no token, so nothing predicts the first token of an answer");
    return x->n > x->n_prompt ? DPS_OK : dps_row_fail (row, err, "%s: the completion is empty", sides[k]);
}

void dps__encode_drop_beginning (const DpsEncoder *e, DpsEncoded *x, size_t n)
{
    size_t first = e->bos >= 0 && x->ids[0] == e->bos;
    memmove (x->ids + first, x->ids + first + n, (x->n - n - first) * sizeof *x->ids);
    memmove (x->weights + first, x->weights + first + n, (x->n - n - first) * sizeof *x->weights);
    x->n -= n;
    x->n_prompt -= n;
}

/* max_prompt_length: the end of a prompt is next to its answers. */
static void truncate_prompt (const DpsEncoder *e, DpsEncodedUnit *u)
{
    size_t limit = (size_t)e->recipe->max_prompt_length, n = u->rows[0].n_prompt;
    for (size_t k = 0; limit && n > limit && u->rows[1].n_prompt == n && k < u->n; k++)
        dps__encode_drop_beginning (e, &u->rows[k], n - limit);
}

/* max_length for both sides, so that their prompts stay alike. *out_cut: the most tokens a side lost. */
static DpsStatus truncate_pair (const DpsEncoder *e, const DpsRow *row, DpsEncodedUnit *u, size_t *out_cut, DpsError *err)
{
    DpsEncoded *a = &u->rows[0], *b = &u->rows[1];
    size_t limit = (size_t)e->recipe->max_length, longest = a->n > b->n ? a->n : b->n;
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
        if (*out_cut >= a->n_prompt)
            return dps_row_fail (row, err, "%s: the answer alone has %zu tokens, max_length is %zu and a token of the prompt must stay",
                                 sides[longest == b->n && a->n < b->n], longest - a->n_prompt, limit);
        dps__encode_drop_beginning (e, a, *out_cut);
        dps__encode_drop_beginning (e, b, *out_cut);
        return DPS_OK;
    }
    if (a->n_prompt >= limit)
        return dps_row_fail (row, err, "the prompt has %zu tokens and max_length is %zu: nothing of the answers is left", a->n_prompt,
                             limit);
    a->n = a->n < limit ? a->n : limit;
    b->n = b->n < limit ? b->n : limit;
    return DPS_OK;
}

static DpsStatus check_pair (const DpsEncoder *e, const DpsRow *row, const DpsEncodedUnit *u, size_t cut, DpsError *err)
{
    const DpsEncoded *a = &u->rows[0], *b = &u->rows[1];
    if (a->n_prompt != b->n_prompt || memcmp (a->ids, b->ids, a->n_prompt * sizeof *a->ids))
        return dps_row_fail (row, err, "the template renders the prompt otherwise before chosen than before rejected");
    if (a->n == b->n && !memcmp (a->ids, b->ids, a->n * sizeof *a->ids))
        return dps_row_fail (row, err, "chosen and rejected are the same%s", cut ? " in what max_length leaves of them" : " tokens");
    for (size_t k = 0; k < u->n; k++)
        DPS_TRY (dps__encode_check_trained (e, row, &u->rows[k], cut, err));
    return DPS_OK;
}

static DpsStatus encode_pair (const DpsEncoder *e, const DpsRow *row, DpsEncodedUnit *out, DpsError *err)
{
    size_t cut = 0;
    const char *missing = dps_row_missing_side (row);
    if (missing)
        return dps_row_fail (row, err, "a preference pair without %s", missing);
    if (row->kind != DPS_ROW_PAIR)
        return dps_row_fail (row, err, "%s: this stage takes preference pairs: prompt, chosen and rejected", dps_row_kind_name (row->kind));
    DPS_TRY (make_rows (row, 2, out, err));
    for (size_t k = 0; k < 2; k++)
        DPS_TRY (encode_side (e, row, k, &out->rows[k], err));
    if (e->recipe) {
        truncate_prompt (e, out);
        DPS_TRY (truncate_pair (e, row, out, &cut, err));
    }
    if (out->n == 0)
        return DPS_OK;
    out->prefix = out->rows[0].n_prompt;
    return check_pair (e, row, out, cut, err);
}

DpsStatus dps_encode_unit (const DpsEncoder *e, const DpsRow *row, uint32_t unit, DpsEncodedUnit *out, DpsError *err)
{
    *out = (DpsEncodedUnit){0};
    DpsStatus st = unit == DPS_UNIT_PAIR     ? encode_pair (e, row, out, err)
                   : unit == DPS_UNIT_SINGLE ? encode_single (e, row, out, err)
                                             : dps_row_fail (row, err, "groups of completions are not trained in this version");
    if (st != DPS_OK)
        dps_encoded_unit_free (out);
    return st;
}
