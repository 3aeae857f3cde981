/* SPDX-License-Identifier: Apache-2.0 */
/* encode_prompt.c: rows as prompts that are answered while the run trains. */
#include <string.h>

#include "token/encode_internal.h"

static DpsStatus check_prompt (const DpsRow *row, const DpsEncoded *x, DpsError *err)
{
    if (row->kind == DPS_ROW_GROUP || row->kind == DPS_ROW_FEEDBACK || row->kind == DPS_ROW_STEPS)
        return dps_row_fail (row, err, "%s: with reward_funcs answers are sampled anew: give prompts, or remove reward_funcs",
                             dps_row_kind_name (row->kind));
    return x->n ? DPS_OK : dps_row_fail (row, err, "the prompt has no token, so nothing predicts the first token of an answer");
}

DpsStatus dps_encode_prompt_unit (const DpsEncoder *e, const DpsRow *row, DpsEncodedUnit *out, DpsError *err)
{
    size_t limit = e->recipe ? (size_t)e->recipe->max_prompt_length : 0;
    *out = (DpsEncodedUnit){.rows = dps_calloc (1, sizeof *out->rows), .n = 1};
    DpsStatus st = out->rows ? dps_encode_prompt (e, row, out->rows, err)
                             : dps_fail (err, DPS_ERR_NOMEM, "%s:%llu: out of memory", row->file, (unsigned long long)row->line);
    if (st == DPS_OK)
        st = check_prompt (row, out->rows, err);
    if (st != DPS_OK) {
        dps_encoded_unit_free (out);
        return st;
    }
    if (limit && out->rows->n > limit)
        dps__encode_drop_beginning (e, out->rows, out->rows->n - limit);
    memset (out->rows->weights, 0, out->rows->n * sizeof *out->rows->weights);
    return DPS_OK;
}
