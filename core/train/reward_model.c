/* SPDX-License-Identifier: Apache-2.0 */
#include "train/reward_model.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/judge.h"
#include "base/mem.h"
#include "diapason/sdk.h"
#include "infer/pass.h"
#include "token/bpe.h"
#include "token/chat.h"
#include "train/session.h"

enum { ROWS_AT_ONCE = 8, SLACK_BYTES = 64 << 10 /* best fit may need a little more for less */ };

static const DpsParam path = DPS_SDK_PARAM ("path", DPS_PARAM_STR, 0, 0, 0, NULL, "reward model: model folder or PEFT adapter");
static const DpsParam base_path = DPS_SDK_PARAM ("base_path", DPS_PARAM_STR, 0, 0, 0, NULL, "the model under the adapter");
static const DpsParam dtype = DPS_SDK_PARAM ("dtype", DPS_PARAM_STR, 0, 0, 0, "auto|float32|bfloat16", "arithmetic");
static const DpsParam max_length = DPS_SDK_PARAM ("max_length", DPS_PARAM_I64, 0, 0, 1 << 24, NULL, "tokens at most; 0: no limit");
static const DpsParam *const params[] = {&path, &base_path, &dtype, &max_length};
enum { PATH, BASE_PATH, DTYPE, MAX_LENGTH, N_PARAMS };
static const char *const criteria[] = {"model"};

static const DpsRewardInfo info = {.size = sizeof info,
                                   .name = "model",
                                   .summary = "a trained reward model",
                                   .params = params,
                                   .n_params = N_PARAMS,
                                   .n_criteria = 1,
                                   .criteria = criteria};

typedef struct RewardModel {
    DpsSession session;
    DpsBuf opening, closing; /* what the template puts before a reply and behind it; empty without one */
    size_t max_length;
    uint64_t arena; /* bytes that were planned; 0: no plan */
} RewardModel;

static const DpsRewardInfo *describe (void) { return &info; }

static DpsStatus never (const double *num, const DpsStr *str, void **out, DpsError *err)
{
    (void)num, (void)str, (void)out;
    return dps_fail (err, DPS_ERR_UNSUPPORTED, "the host opens this reward itself");
}

static void close_model (void *self)
{
    RewardModel *m = self;
    if (!m)
        return;
    dps_session_close (&m->session);
    dps_buf_free (&m->opening);
    dps_buf_free (&m->closing);
    dps_free (m);
}

/* Opening. */

static DpsStatus render (const RewardModel *m, const char *reply, int generation_prompt, DpsRendered *out, DpsError *err)
{
    const DpsTokenizer *tok = m->session.tok;
    DpsTemplate template;
    DPS_TRY (dps_tokenizer_chat_template (tok, 0, &template, err));
    const DpsChatOptions o = {.add_generation_prompt = generation_prompt, .where = template.where};
    json_t *messages = json_pack (reply ? "[{s:s, s:s}, {s:s, s:s}]" : "[{s:s, s:s}]", "role", "user", "content", "Q", "role", "assistant",
                                  "content", reply);
    if (!messages)
        return dps_fail (err, DPS_ERR_NOMEM, "out of memory");
    DpsStatus st = dps_chat_render (template.source, tok, messages, &o, out, err);
    json_decref (messages);
    return st;
}

/* By rendering a question, the question ready for its reply, and both: what is put before a reply, and what behind it. */
static DpsStatus learn_template (RewardModel *m, DpsError *err)
{
    static const char reply[] = "REPLY";
    DpsRendered question = {0}, ready = {0}, whole = {0};
    DpsStatus st = render (m, NULL, 0, &question, err);
    if (st == DPS_OK)
        st = render (m, NULL, 1, &ready, err);
    if (st == DPS_OK)
        st = render (m, reply, 0, &whole, err);
    const DpsBuf *q = &question.text, *r = &ready.text, *w = &whole.text;
    const char *at = st == DPS_OK && w->len ? memmem (w->data, w->len, reply, strlen (reply)) : NULL;
    int fits = at && r->len > q->len && q->len && !memcmp (r->data, q->data, q->len);
    if (fits && (dps_buf_add (&m->opening, r->data + q->len, r->len - q->len) ||
                 dps_buf_add (&m->closing, at + strlen (reply), (size_t)(w->data + w->len - at) - strlen (reply))))
        st = dps_fail (err, DPS_ERR_NOMEM, "out of memory");
    dps_rendered_free (&question);
    dps_rendered_free (&ready);
    dps_rendered_free (&whole);
    return st == DPS_ERR_NOMEM ? st : DPS_OK; /* a template that refuses this conversation is none we can close */
}

static DpsStatus open_session (RewardModel *m, const DpsRegistry *reg, const char *where, const char *base, const char *type, DpsError *err)
{
    char *config = dps_path_join (where, "adapter_config.json");
    if (!config)
        return dps_fail (err, DPS_ERR_NOMEM, "out of memory");
    int is_adapter = dps_is_file (config);
    dps_free (config);
    if (is_adapter && !*base)
        return dps_fail (err, DPS_ERR_INVALID, "'%.300s' is an adapter: base_path is missing, the model it belongs to", where);
    if (!is_adapter && *base)
        return dps_fail (err, DPS_ERR_INVALID, "base_path is given, but '%.300s' is no adapter", where);
    const DpsSessionOptions o = {.model = is_adapter ? base : where, .adapter = is_adapter ? where : NULL, .dtype = type};
    DPS_TRY (dps_session_begin (&m->session, reg, &o, err));
    if (m->session.model.score < 0)
        return dps_fail (err, DPS_ERR_INVALID, "'%.300s' has no score head: train one with stage: reward", where);
    return m->session.tok ? learn_template (m, err) : DPS_OK;
}

/* The weights, when they are first wanted: a plan wants none. */
static DpsStatus load (RewardModel *m, DpsError *err)
{
    static const DpsSessionOptions inference = {0};
    return m->session.weights.stores ? DPS_OK : dps_session_load (&m->session, &inference, 0, err);
}

/* Of prompts and answers of at most so many tokens of the policy's, with what ends a turn. */
static DpsStatus measure (RewardModel *m, uint64_t tokens, uint64_t *out_weights, uint64_t *out_arena, uint64_t *out_scratch, DpsError *err)
{
    const DpsPassOptions o = {.scores = 1};
    DpsIds closing = {0};
    DpsWeights outline;
    DpsWeightBytes bytes;
    DpsSession *s = &m->session;
    if (s->tok)
        DPS_TRY (dps_tokenizer_encode (s->tok, m->closing.data ? m->closing.data : "", m->closing.len, 0, &closing, err));
    tokens += closing.n + 1;
    dps_free (closing.ids);
    tokens = m->max_length && m->max_length < tokens ? m->max_length : tokens;
    const DpsForward most = {.n_tokens = (int64_t)tokens * ROWS_AT_ONCE,
                             .n_segments = ROWS_AT_ONCE,
                             .n_roots = ROWS_AT_ONCE,
                             .n_scored = ROWS_AT_ONCE,
                             .scores = 1};
    DPS_TRY (dps_weights_measure (&s->ex, &s->model, s->compute, DPS_WEIGHTS_INFERENCE, 0, &bytes, err));
    DPS_TRY (dps_weights_outline (&outline, &s->ex, &s->model, s->compute, DPS_WEIGHTS_INFERENCE, err));
    DpsStatus st = dps_pass_measure (&outline, &most, &o, out_arena, out_scratch, err);
    dps_weights_free (&outline);
    *out_arena += SLACK_BYTES;
    *out_weights = bytes.rows + bytes.packed_forward + bytes.packed_grad + bytes.master + bytes.quantised;
    return st;
}

static DpsStatus plan (void *self, uint64_t tokens, int reserve, uint64_t *out_bytes, DpsError *err)
{
    RewardModel *m = self;
    uint64_t weights, arena = 0, scratch = 0;
    DPS_TRY (measure (m, tokens, &weights, &arena, &scratch, err));
    *out_bytes = weights + arena + scratch + dps_exec_staging (&m->session.ex);
    if (!reserve)
        return DPS_OK;
    DPS_TRY (load (m, err));
    if (!tokens)
        return DPS_OK;
    m->arena = arena;
    DPS_TRY (dps_exec_reserve (&m->session.ex, arena, err));
    return dps_exec_reserve_scratch (&m->session.ex, scratch, err);
}

static DpsStatus open_model (const DpsRegistry *reg, const double *num, const DpsStr *str, void **out, DpsError *err)
{
    if (!str[PATH].len)
        return dps_fail (err, DPS_ERR_INVALID, "path is missing: a model folder or an adapter that the reward stage trained");
    RewardModel *m = dps_calloc (1, sizeof *m);
    char *where = dps_strndup (str[PATH].ptr, str[PATH].len), *base = dps_strndup (str[BASE_PATH].ptr, str[BASE_PATH].len);
    char *type = dps_strndup (str[DTYPE].ptr, str[DTYPE].len);
    DpsStatus st =
        m && where && base && type ? open_session (m, reg, where, base, type, err) : dps_fail (err, DPS_ERR_NOMEM, "out of memory");
    dps_free (where);
    dps_free (base);
    dps_free (type);
    if (st != DPS_OK) {
        close_model (m);
        return st;
    }
    m->max_length = (size_t)num[MAX_LENGTH];
    *out = m;
    return DPS_OK;
}

/* Texts as the reward stage would have them. */

static int ends_with (DpsStr text, const DpsBuf *end)
{
    return end->len && text.len >= end->len && !memcmp (text.ptr + text.len - end->len, end->data, end->len);
}

/* Prompt and answer rendered together. What looks like a control token in the answer is text. */
static DpsStatus encode_text (const RewardModel *m, const DpsRewardRow *row, DpsIds *out, DpsError *err)
{
    const DpsTokenizer *tok = m->session.tok;
    int chat = ends_with (row->prompt, &m->opening);
    DpsBuf text = {0};
    const DpsSpan answer = {row->prompt.len, row->prompt.len + row->completion.len};
    int bad = dps_buf_add (&text, row->prompt.ptr, row->prompt.len) || dps_buf_add (&text, row->completion.ptr, row->completion.len) ||
              (chat && dps_buf_add (&text, m->closing.data, m->closing.len));
    DpsStatus st = bad ? dps_fail (err, DPS_ERR_NOMEM, "out of memory")
                       : dps_tokenizer_encode_literal (tok, text.data, text.len, 0, &answer, 1, out, err);
    int32_t eos = dps_tokenizer_eos (tok);
    if (st == DPS_OK && !chat && eos >= 0 && (!out->n || out->ids[out->n - 1] != eos))
        st = dps_ids_add (out, eos, err);
    dps_buf_free (&text);
    return st;
}

/* "1 17 4" and the answer's ids. */
static DpsStatus encode_numbers (const DpsRewardRow *row, DpsIds *out, DpsError *err)
{
    char *text = dps_strndup (row->prompt.ptr ? row->prompt.ptr : "", row->prompt.len), *at = text, *end = text;
    DpsStatus st = text ? DPS_OK : dps_fail (err, DPS_ERR_NOMEM, "out of memory");
    while (st == DPS_OK && at[strspn (at, " ")]) {
        errno = 0;
        long id = strtol (at, &end, 10);
        if (end == at || errno || id < 0 || id > INT32_MAX)
            st = dps_fail (err, DPS_ERR_INVALID, "the reward model has no tokenizer and the prompt is no list of ids");
        else
            st = dps_ids_add (out, (int32_t)id, err);
        at = end;
    }
    for (uint64_t i = 0; st == DPS_OK && i < row->n_completion_ids; i++)
        st = dps_ids_add (out, row->completion_ids[i], err);
    dps_free (text);
    return st;
}

/* Judging. */

typedef struct Chunk {
    DpsIds ids[ROWS_AT_ONCE];
    DpsSequence sequences[ROWS_AT_ONCE];
    size_t rows[ROWS_AT_ONCE]; /* which row of the chunk each sequence is */
    size_t n;
} Chunk;

static DpsStatus add_row (const RewardModel *m, const DpsRewardRow *row, size_t k, Chunk *c, DpsError *err)
{
    DpsIds *ids = &c->ids[k];
    DPS_TRY (m->session.tok ? encode_text (m, row, ids, err) : encode_numbers (row, ids, err));
    if (m->max_length && ids->n > m->max_length)
        ids->n = m->max_length;
    for (size_t i = 0; i < ids->n; i++)
        if (ids->ids[i] < 0 || ids->ids[i] >= m->session.model.dec.vocab)
            return dps_fail (err, DPS_ERR_INVALID, "token %d is not in the reward model's vocabulary of %lld", (int)ids->ids[i],
                             (long long)m->session.model.dec.vocab);
    if (!ids->n)
        return dps_fail (err, DPS_ERR_INVALID, "prompt and answer are empty");
    c->sequences[c->n] = (DpsSequence){.ids = ids->ids, .n = ids->n, .last_state = 1};
    c->rows[c->n++] = k;
    return DPS_OK;
}

static DpsStatus run_pass (DpsPass *p, const size_t *rows, size_t n, double *value, uint32_t *status, DpsError *err)
{
    DPS_TRY (dps_pass_forward (p, err));
    const float *scores = dps_pass_score (p);
    for (size_t i = 0; i < n; i++) {
        value[rows[i]] = (double)scores[i];
        status[rows[i]] = isfinite (scores[i]) ? DPS_SCORE_OK : DPS_SCORE_FAILED;
    }
    return DPS_OK;
}

/*
 * Sequences [first, first+n) of the chunk. Another tokenizer than the policy's can need more tokens for the same text, and best fit more bytes for
 * fewer: what does not fit into the plan is judged in halves, and a single answer that does not is FAILED.
 */
static DpsStatus run_chunk (RewardModel *m, const Chunk *c, size_t first, size_t n, double *value, uint32_t *status, DpsError *err)
{
    const DpsPassOptions o = {.scores = 1};
    DpsBatch b;
    DpsPass p;
    int fits = 0;
    DPS_TRY (dps_batch_build (c->sequences + first, n, m->session.model.dec.vocab, &b, err));
    DpsStatus st = dps_pass_open (&p, &m->session.weights, &b, &o, err);
    if (st == DPS_OK) {
        fits = !m->arena || p.peak <= m->arena;
        if (fits)
            st = run_pass (&p, c->rows + first, n, value, status, err);
        dps_pass_close (&p);
    }
    dps_batch_free (&b);
    if (st != DPS_OK || fits)
        return st;
    if (n == 1) {
        dps_fail (err, DPS_ERR_LIMIT, "%zu tokens need more memory than was planned. Hint: give the reward model a max_length",
                  c->sequences[first].n);
        return DPS_OK;
    }
    st = run_chunk (m, c, first, n / 2, value, status, err);
    return st == DPS_OK ? run_chunk (m, c, first + n / 2, n - n / 2, value, status, err) : st;
}

/* At most ROWS_AT_ONCE rows; one that cannot be read is FAILED, and *why says why. */
static DpsStatus judge_chunk (RewardModel *m, const DpsRewardRow *const *rows, size_t n, double *value, uint32_t *status, DpsError *why)
{
    Chunk c = {.n = 0};
    DpsStatus st = DPS_OK;
    for (size_t k = 0; k < n && st == DPS_OK; k++) {
        value[k] = NAN;
        status[k] = DPS_SCORE_FAILED;
        st = add_row (m, rows[k], k, &c, why);
        st = st == DPS_ERR_NOMEM ? st : DPS_OK;
    }
    if (st == DPS_OK && c.n)
        st = run_chunk (m, &c, 0, c.n, value, status, why);
    for (size_t k = 0; k < n; k++)
        dps_free (c.ids[k].ids);
    return st;
}

static DpsStatus score (void *self, const DpsRewardRow *const *rows, uint64_t n_rows, int64_t deadline_ms, double *value, uint32_t *status,
                        double *const *token_values, DpsError *err)
{
    const int64_t end = deadline_ms > 0 ? dps_judge_now_ms () + deadline_ms : INT64_MAX;
    DpsError why = DPS_ERROR_INIT;
    uint64_t n_failed = 0;
    (void)token_values; /* the score is of the whole answer */
    DPS_TRY (load (self, err));
    for (uint64_t i = 0; i < n_rows; i += ROWS_AT_ONCE) {
        size_t n = n_rows - i < ROWS_AT_ONCE ? (size_t)(n_rows - i) : ROWS_AT_ONCE;
        if (dps_judge_now_ms () >= end)
            for (size_t k = 0; k < n; k++)
                status[i + k] = DPS_SCORE_TIMEOUT;
        else {
            DpsStatus st = judge_chunk (self, rows + i, n, value + i, status + i, &why);
            if (st != DPS_OK)
                return dps_fail (err, st, "%s", why.msg);
        }
        for (size_t k = 0; k < n; k++)
            n_failed += status[i + k] == DPS_SCORE_FAILED;
    }
    return n_rows && n_failed == n_rows ? dps_fail (err, DPS_ERR_IO, "%s", *why.msg ? why.msg : "scores are not finite") : DPS_OK;
}

static const DpsHostReward reward_model = {
    .table = {.size = sizeof (DpsReward), .describe = describe, .open = never, .score = score, .close = close_model},
    .open = open_model,
    .plan = plan};

DpsStatus dps_reward_model_provide (DpsError *err) { return dps_rewards_provide (&reward_model, err); }
