/* SPDX-License-Identifier: Apache-2.0 */
/* data_rows.c: a prompt's judged answers as a row to train on: a preference pair or a group. */
#include <math.h>
#include <string.h>

#include "diapason/data.h"
#include "train/prompts.h"

void data_prompt_free (DataPrompt *p)
{
    dps_row_clear (&p->row);
    dps_encoded_unit_free (&p->unit);
    dps_buf_free (&p->text);
    dps_buf_free (&p->columns);
}

DpsStatus data_prompt_read (const DataJob *job, const DpsEncoder *e, const DpsTokenizer *tok, uint64_t k, DataPrompt *p, DpsError *err)
{
    DPS_TRY (dps_dataset_row (job->ds, 0, k, &p->row, err));
    DPS_TRY (dps_encode_prompt_unit (e, &p->row, &p->unit, err));
    DPS_TRY (dps_ids_text (tok, p->unit.rows[0].ids, p->unit.rows[0].n, &p->text, err));
    return dps_prompt_columns (p->row.object, &p->columns, err);
}

const DpsContent *data_prompt_of (const DpsRow *row)
{
    return row->prompt.text || row->prompt.messages || row->prompt.ids ? &row->prompt : row->answers;
}

static json_t *ids_json (const int32_t *ids, size_t n)
{
    json_t *list = json_array ();
    for (size_t i = 0; i < n; i++)
        json_array_append_new (list, json_integer (ids[i]));
    return list;
}

/* The prompt as the row has it: of a conversation all but a last reply. */
static void put_prompt (json_t *o, const DataPrompt *p)
{
    const DpsContent *c = data_prompt_of (&p->row);
    if (c->messages) {
        json_t *messages = dps_json_copy (c->messages, 0);
        size_t n = json_array_size (messages);
        const char *role = n ? json_string_value (json_object_get (json_array_get (messages, n - 1), "role")) : NULL;
        if (c == p->row.answers && role && !strcmp (role, "assistant"))
            json_array_remove (messages, n - 1);
        json_object_set_new (o, "prompt", messages);
    } else if (c->text)
        json_object_set_new (o, "prompt", json_stringn (c->text, c->text_len));
    else
        json_object_set_new (o, "prompt_input_ids", ids_json (p->unit.rows[0].ids, p->unit.rows[0].n));
    static const char *const kept[] = {"tools", "chat_template_kwargs"};
    for (size_t i = 0; i < G_N_ELEMENTS (kept); i++)
        if (json_object_get (p->row.object, kept[i]))
            json_object_set (o, kept[i], json_object_get (p->row.object, kept[i]));
}

static json_t *answer_json (const DataPrompt *p, const DpsCompletion *c)
{
    const DpsContent *asked = data_prompt_of (&p->row);
    if (asked->messages)
        return json_pack ("[{s:s, s:o}]", "role", "assistant", "content", json_stringn (c->text, c->len));
    return asked->text ? json_stringn (c->text, c->len) : ids_json (c->ids, c->n);
}

static void put_source (const DataAsked *s, json_t *o, const DataPrompt *p)
{
    json_object_set_new (o, "source",
                         json_pack ("{s:s, s:I, s:s}", "file", p->row.file, "line", (json_int_t)p->row.line, "simulation", s->run));
}

/* NULL, and *what says why: a tie, or nothing was judged. The first of equal answers is taken. */
json_t *data_pair (const DataAsked *s, const DataPrompt *p, const DpsCompletion *answers, const double *values, char *what)
{
    size_t best = s->k, worst = s->k, n = s->job->n_criteria;
    double high = -INFINITY, low = INFINITY;
    for (size_t i = 0; i < s->k; i++) {
        double total = data_total (s->job, values + i * n);
        if (total > high) {
            high = total;
            best = i;
        }
        if (total < low) {
            low = total;
            worst = i;
        }
    }
    *what = best == s->k ? DATA_NOT_JUDGED : DATA_TIE;
    if (best == s->k || !(high > low) ||
        (answers[best].n == answers[worst].n && !memcmp (answers[best].ids, answers[worst].ids, answers[best].n * sizeof *answers->ids)))
        return NULL;
    *what = DATA_KEPT;
    json_t *o = json_object ();
    int ids = data_prompt_of (&p->row)->ids != NULL;
    put_prompt (o, p);
    json_object_set_new (o, ids ? "chosen_input_ids" : "chosen", answer_json (p, &answers[best]));
    json_object_set_new (o, ids ? "rejected_input_ids" : "rejected", answer_json (p, &answers[worst]));
    json_object_set_new (o, "score_chosen", json_real (high));
    json_object_set_new (o, "score_rejected", json_real (low));
    json_object_set_new (
        o, "scores",
        json_pack ("{s:o, s:o}", "chosen", data_scores (s->job, values + best * n), "rejected", data_scores (s->job, values + worst * n)));
    put_source (s, o, p);
    return o;
}

json_t *data_group (const DataAsked *s, const DataPrompt *p, const DpsCompletion *answers, const double *values, char *what)
{
    json_t *o = json_object (), *list = json_array (), *weights = json_object ();
    size_t n = s->job->n_criteria, judged = 0;
    int ids = data_prompt_of (&p->row)->ids != NULL;
    for (size_t i = 0; i < s->k; i++) {
        judged += !isnan (data_total (s->job, values + i * n));
        json_array_append_new (list,
                               json_pack ("{s:o, s:o, s:s, s:b}", ids ? "input_ids" : "content", answer_json (p, &answers[i]), "scores",
                                          data_scores (s->job, values + i * n), "source", s->run, "truncated", !answers[i].stopped));
    }
    for (size_t c = 0; c < n; c++)
        json_object_set_new (weights, s->job->names[c].ptr, json_real (s->job->weights[c]));
    put_prompt (o, p);
    json_object_set_new (o, "completions", list);
    json_object_set_new (o, "weights", weights);
    put_source (s, o, p);
    *what = judged ? DATA_KEPT : DATA_NOT_JUDGED;
    if (judged)
        return o;
    json_decref (o);
    return NULL;
}
