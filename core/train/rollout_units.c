/* SPDX-License-Identifier: Apache-2.0 */
/* rollout_units.c: answers as units of the objective: a group of all, the best against the worst, or each by itself. */
#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "train/trainer.h"

static DpsStatus no_memory (DpsError *err) { return dps_fail (err, DPS_ERR_NOMEM, "rollout: out of memory for what was sampled"); }

/* Prompt and answer; only the answer counts. */
static int put_sequence (const DpsPrompt *p, const DpsCompletion *c, DpsSequence *out)
{
    int32_t *ids = dps_malloc (p->n + c->n, sizeof *ids);
    float *weights = dps_calloc (p->n + c->n, sizeof *weights);
    *out = (DpsSequence){.ids = ids, .weights = weights, .n = p->n + c->n, .prefix = p->n};
    if (!ids || !weights)
        return -1;
    memcpy (ids, p->ids, p->n * sizeof *ids);
    memcpy (ids + p->n, c->ids, c->n * sizeof *ids);
    for (size_t i = p->n; i < out->n; i++)
        weights[i] = 1;
    return 0;
}

/* One unit of n answers, numbers `which` among all. */
static DpsStatus add_unit (DpsTrainer *t, const DpsAnswers *a, const size_t *which, size_t n, DpsError *err)
{
    DpsRollout *o = &t->rollout;
    const size_t criteria = (size_t)o->n_criteria;
    size_t scored = 0, at = 0;
    for (size_t i = 0; i < n; i++)
        scored += a->completions[which[i]].n;
    DpsPlace *p = &o->places[o->n_places];
    uint64_t key = t->step * dps__units_per_step (t) + o->n_places;
    *p = (DpsPlace){.sequences = dps_calloc (n, sizeof *p->sequences), .n = n};
    o->logp[o->n_places++] = NULL;
    p->rewards = dps_malloc (n * criteria, sizeof *p->rewards);
    p->truncated = dps_malloc (n, sizeof *p->truncated);
    float *logp = o->logp[o->n_places - 1] = dps_malloc (scored, sizeof *logp);
    if (!p->sequences || !p->rewards || !p->truncated || !logp)
        return no_memory (err);
    for (size_t i = 0; i < n; i++) {
        const DpsCompletion *c = &a->completions[which[i]];
        if (put_sequence (&a->prompts.items[which[i] / a->per_prompt], c, &p->sequences[i]))
            return no_memory (err);
        p->sequences[i].joins = i > 0;
        p->sequences[i].key = key;
        p->sequences[i].row = o->n_places - 1;
        memcpy (p->rewards + i * criteria, a->rewards + which[i] * criteria, criteria * sizeof *p->rewards);
        p->truncated[i] = a->truncated[which[i]];
        memcpy (logp + at, c->logp, c->n * sizeof *c->logp);
        at += c->n;
    }
    dps_batch_count (p->sequences, p->n, &p->counts);
    int signal = dps_objective_signal (t->objective, "logp", "rollout");
    return signal < 0 ? DPS_OK : dps__places_record (t, (uint32_t)signal, p, 1, logp, err);
}

static int same_answer (const DpsCompletion *a, const DpsCompletion *b)
{
    return a->n == b->n && !memcmp (a->ids, b->ids, a->n * sizeof *a->ids);
}

/* The best answer, then the worst; the first of equal ones. Nothing where they earn the same, or fewer than two were judged. */
static DpsStatus add_pair (DpsTrainer *t, const DpsAnswers *a, size_t first, DpsError *err)
{
    size_t which[2] = {first, first};
    double best = -INFINITY, worst = INFINITY;
    for (size_t i = first; i < first + a->per_prompt; i++) {
        double v = dps__answer_total (t, a, i);
        if (v > best) {
            best = v;
            which[0] = i;
        }
        if (v < worst) {
            worst = v;
            which[1] = i;
        }
    }
    int tie = !(best > worst) || same_answer (&a->completions[which[0]], &a->completions[which[1]]);
    DPS_TRY (dps_step_add (&t->rollout.sums, dps_str ("frac_ties"), tie, 1, err));
    if (tie)
        return DPS_OK;
    DPS_TRY (dps_step_add (&t->rollout.sums, dps_str ("reward_gap"), best - worst, 1, err));
    return add_unit (t, a, which, 2, err);
}

static DpsStatus add_answers (DpsTrainer *t, const DpsAnswers *a, size_t first, DpsError *err)
{
    DpsStatus st = DPS_OK;
    size_t *which = dps_malloc (a->per_prompt, sizeof *which);
    if (!which)
        return no_memory (err);
    for (size_t i = 0; i < a->per_prompt; i++)
        which[i] = first + i;
    if (t->objective->info.unit == DPS_UNIT_GROUP)
        st = add_unit (t, a, which, a->per_prompt, err);
    for (size_t i = 0; st == DPS_OK && t->objective->info.unit == DPS_UNIT_SINGLE && i < a->per_prompt; i++)
        st = add_unit (t, a, &which[i], 1, err);
    dps_free (which);
    return st;
}

DpsStatus dps__rollout_units (DpsTrainer *t, const DpsAnswers *a, uint64_t first, uint64_t n, DpsError *err)
{
    DpsRollout *o = &t->rollout;
    uint64_t most = o->n_places + n * (t->objective->info.unit == DPS_UNIT_SINGLE ? o->samples : 1);
    DpsPlace *grown = dps_realloc (o->places, most, sizeof *grown);
    o->places = grown ? grown : o->places;
    float **logp = dps_realloc (o->logp, most, sizeof *logp);
    o->logp = logp ? logp : o->logp;
    if (!grown || !logp)
        return no_memory (err);
    for (uint64_t i = first; i < first + n; i++)
        if (t->objective->info.unit == DPS_UNIT_PAIR)
            DPS_TRY (add_pair (t, a, i * a->per_prompt, err));
        else
            DPS_TRY (add_answers (t, a, i * a->per_prompt, err));
    return DPS_OK;
}

DpsStatus dps__rollout_example (DpsTrainer *t, DpsPlace *out, DpsError *err)
{
    const uint32_t unit = t->objective->info.unit;
    const size_t n = unit == DPS_UNIT_GROUP ? (size_t)t->rollout.samples : unit == DPS_UNIT_PAIR ? 2 : 1;
    DpsPrompts prompts = {0};
    DpsCompletion answer = {.n = (size_t)t->recipe->max_completion_length};
    *out = (DpsPlace){.sequences = dps_calloc (n, sizeof *out->sequences)};
    answer.ids = dps_calloc (answer.n, sizeof *answer.ids); /* of id 0: which tokens they are changes no op */
    DpsStatus st = out->sequences && answer.ids ? dps_prompts_add (&prompts, t->feed, t->session.tok, 0, 0, 1, err) : no_memory (err);
    for (; st == DPS_OK && out->n < n; out->n++) {
        if (put_sequence (&prompts.items[0], &answer, &out->sequences[out->n]))
            st = no_memory (err);
        out->sequences[out->n].joins = out->n > 0;
    }
    dps_completion_free (&answer);
    dps_prompts_free (&prompts);
    if (st != DPS_OK)
        dps_place_free (out);
    else
        dps_batch_count (out->sequences, out->n, &out->counts);
    return st;
}
