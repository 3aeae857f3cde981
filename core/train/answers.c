/* SPDX-License-Identifier: Apache-2.0 */
#include "train/answers.h"

#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "train/trainer.h"

static DpsStatus no_memory (DpsError *err) { return dps_fail (err, DPS_ERR_NOMEM, "rollout: out of memory for the answers"); }

void dps__answers_free (DpsAnswers *a)
{
    for (size_t i = 0; a->completions && i < a->n; i++)
        dps_completion_free (&a->completions[i]);
    dps_free (a->completions);
    dps_free (a->truncated);
    dps_free (a->rewards);
    dps_prompts_free (&a->prompts);
    *a = (DpsAnswers){0};
}

void dps__answers_options (const DpsTrainer *t, size_t per_prompt, int greedy, DpsGenerateOptions *out)
{
    dps_generate_options (t->recipe, per_prompt, out);
    out->sampling.temperature = greedy ? 0 : out->sampling.temperature;
    out->want_logp = !greedy;
    out->should_stop = t->options->should_stop;
}

size_t dps__answers_held_out (const DpsTrainer *t, int *out_greedy)
{
    int64_t n = t->recipe->num_generations_eval;
    *out_greedy = !n;
    return n ? (size_t)n : 1;
}

/* Nothing can be drawn: before the first step the model says why, later the training is to blame. */
static DpsStatus diverged (const DpsTrainer *t, DpsError *err)
{
    if (!t->step)
        return DPS_ERR_NONFINITE;
    return dps_fail (err, DPS_ERR_NONFINITE,
                     "step %llu: the policy has diverged: no answer can be drawn, its logits are not finite. Hint: train into another "
                     "output_dir with a lower learning_rate or max_grad_norm; the checkpoints before are whole, and generate shows which "
                     "still answers",
                     (unsigned long long)t->step + 1);
}

static DpsStatus sample (DpsTrainer *t, DpsAnswers *a, uint64_t first, int greedy, DpsError *err)
{
    DpsGenerateOptions o;
    dps__answers_options (t, a->per_prompt, greedy, &o);
    o.first = first;
    const int32_t **ids = dps_malloc (a->prompts.n, sizeof *ids);
    size_t *lengths = dps_malloc (a->prompts.n, sizeof *lengths);
    DpsStatus st = ids && lengths ? DPS_OK : no_memory (err);
    for (size_t i = 0; st == DPS_OK && i < a->prompts.n; i++) {
        ids[i] = a->prompts.items[i].ids;
        lengths[i] = a->prompts.items[i].n;
    }
    if (st == DPS_OK)
        st = dps_generate (&t->session.weights, t->session.tok, ids, lengths, a->prompts.n, &o, a->completions, err);
    dps_free (ids);
    dps_free (lengths);
    return st == DPS_ERR_CANCELLED   ? dps_fail (err, DPS_ERR_INTERRUPTED, "interrupted while answers were sampled")
           : st == DPS_ERR_NONFINITE ? diverged (t, err)
                                     : st;
}

/* Without a tokenizer the rewards read ids as numbers. */
static DpsStatus write_texts (const DpsTrainer *t, DpsAnswers *a, DpsError *err)
{
    for (size_t i = 0; !t->session.tok && i < a->n; i++) {
        DpsBuf text = {0};
        DPS_TRY (dps_ids_text (NULL, a->completions[i].ids, a->completions[i].n, &text, err));
        a->completions[i].text = text.data;
        a->completions[i].len = text.len;
    }
    return DPS_OK;
}

static DpsStr str_of (const DpsBuf *b) { return (DpsStr){b->data, b->len}; }

static DpsStatus judge (DpsTrainer *t, DpsAnswers *a, DpsError *err)
{
    DpsRewardRow *rows = dps_calloc (a->n, sizeof *rows);
    const DpsRewardRow **pointers = dps_calloc (a->n, sizeof *pointers);
    DpsStatus st = rows && pointers ? DPS_OK : no_memory (err);
    for (size_t i = 0; st == DPS_OK && i < a->n; i++) {
        const DpsPrompt *p = &a->prompts.items[i / a->per_prompt];
        const DpsCompletion *c = &a->completions[i];
        rows[i] = (DpsRewardRow){.size = sizeof *rows,
                                 .prompt = str_of (&p->text),
                                 .completion = {c->text, c->len},
                                 .columns = str_of (&p->columns),
                                 .completion_ids = c->ids,
                                 .n_completion_ids = c->n,
                                 .truncated = a->truncated[i]};
        pointers[i] = &rows[i];
    }
    if (st == DPS_OK)
        st = dps_rewards_score (t->rollout.rewards, pointers, a->n, 1, a->rewards, NULL, err);
    dps_free (rows);
    dps_free (pointers);
    return st;
}

DpsStatus dps__answers_make (DpsTrainer *t, DpsAnswers *a, size_t per_prompt, uint64_t first, int greedy, DpsError *err)
{
    a->per_prompt = per_prompt;
    a->n = a->prompts.n * per_prompt;
    a->completions = dps_calloc (a->n, sizeof *a->completions);
    a->truncated = dps_calloc (a->n, sizeof *a->truncated);
    a->rewards = dps_calloc (a->n * t->rollout.n_criteria, sizeof *a->rewards);
    if (!a->completions || !a->truncated || !a->rewards)
        return no_memory (err);
    DPS_TRY (sample (t, a, first, greedy, err));
    for (size_t i = 0; i < a->n; i++)
        a->truncated[i] = !a->completions[i].stopped;
    DPS_TRY (write_texts (t, a, err));
    return judge (t, a, err);
}

double dps__answer_total (const DpsTrainer *t, const DpsAnswers *a, size_t i)
{
    double sum = 0;
    int judged = 0;
    for (size_t c = 0; c < t->rollout.n_criteria; c++) {
        double v = a->rewards[i * t->rollout.n_criteria + c];
        if (!isnan (v)) {
            sum += t->rollout.weights[c] * v;
            judged = 1;
        }
    }
    return judged ? sum : NAN;
}
