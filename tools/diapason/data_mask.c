/* SPDX-License-Identifier: Apache-2.0 */
/* data_mask.c: rows token by token, and which of them are trained. */
#include "base/json.h"
#include "diapason/data.h"
#include "diapason/objective.h"
#include "diapason/output.h"

/* A token's text as it can be printed: line ends shown and kept. */
static void print_token (const DataRows *r, int32_t id, int trained, int colour)
{
    DpsBuf text = {0};
    if (!r->text.tok || dps_tokenizer_decode (r->text.tok, &id, 1, DPS_DETOKENIZE_KEEP_SPECIAL, &text, NULL) != DPS_OK || text.len == 0) {
        dps_buf_free (&text);
        dps_buf_printf (&text, "%s%d ", r->text.tok ? "#" : "", (int)id);
    }
    fputs (colour ? trained ? "\033[32m" : "\033[2m" : trained ? "[" : "", stdout);
    for (size_t i = 0; i < text.len; i++)
        if (text.data[i] == '\n')
            fputs (colour ? trained ? "\u21b5\033[0m\n\033[32m" : "\u21b5\033[0m\n\033[2m" : "\u21b5", stdout);
        else if ((unsigned char)text.data[i] < 0x20 || text.data[i] == 0x7f)
            putchar ('?');
        else
            putchar (text.data[i]);
    fputs (colour ? "\033[0m" : trained ? "]" : "", stdout);
    dps_buf_free (&text);
}

/* side: which row of its unit this is, or NULL. */
static void print_mask (const DataRows *r, const DpsRow *row, const DpsEncoded *x, const char *side)
{
    int colour = cli_colour (stdout);
    uint64_t trained = 0;
    json_t *ids = json_array (), *mask = json_array ();
    for (size_t i = 0; i < x->n; i++) {
        trained += x->weights[i] > 0;
        json_array_append_new (ids, json_integer (x->ids[i]));
        json_array_append_new (mask, json_integer (x->weights[i] > 0));
    }
    if (cli_common.json) {
        json_t *o = json_pack ("{s:s, s:I, s:s, s:O, s:O}", "file", row->file, "line", (json_int_t)row->line, "kind",
                               dps_row_kind_name (row->kind), "ids", ids, "mask", mask);
        if (side)
            json_object_set_new (o, "side", json_string (side));
        json_dumpf (o, stdout, JSON_COMPACT);
        putchar ('\n');
        json_decref (o);
    } else {
        printf ("%s:%llu  %s%s%s, %zu tokens, %llu trained\n", row->file, (unsigned long long)row->line, dps_row_kind_name (row->kind),
                side ? ": " : "", side ? side : "", x->n, (unsigned long long)trained);
        for (size_t i = 0; i < x->n; i++)
            print_token (r, x->ids[i], x->weights[i] > 0, colour);
        fputs ("\n\n", stdout);
    }
    json_decref (ids);
    json_decref (mask);
}

DpsStatus data_mask (const DataRows *r, int first_row, int n_rows, DpsError *err)
{
    uint64_t first = (uint64_t)first_row, end = first + (uint64_t)n_rows;
    if (first >= r->ds->n_rows)
        return dps_fail (err, DPS_ERR_USAGE, "--row is %d, but there are %llu rows, counted from 0", first_row,
                         (unsigned long long)r->ds->n_rows);
    char side[40] = "";
    for (uint64_t k = first; k < end && k < r->ds->n_rows; k++) {
        DpsRow row;
        DpsEncodedUnit u;
        DPS_TRY (dps_dataset_row (r->ds, 0, k, &row, err));
        DpsStatus st = dps_encode_unit (r->text.encoder, &row, r->unit, &u, err);
        for (size_t i = 0; st == DPS_OK && i < u.n; i++) {
            snprintf (side, sizeof side, r->unit == DPS_UNIT_PAIR ? i ? "rejected" : "chosen" : "completions[%zu]", i);
            print_mask (r, &row, &u.rows[i], r->unit == DPS_UNIT_SINGLE || dps_recipe_samples (r->recipe) ? NULL : side);
        }
        dps_encoded_unit_free (&u);
        dps_row_clear (&row);
        DPS_TRY (st);
    }
    return DPS_OK;
}
