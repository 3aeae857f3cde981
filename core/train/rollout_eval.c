/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rollout_eval.c: what the policy earns on held-out prompts: eval_reward and eval_rewards/NAME/mean. Each prompt is answered once, with the likeliest
 * tokens, which says what greedy use of the model would, or num_generations_eval times as in training, which varies less from one evaluation to the
 * next. Draws are those of the same prompts at every evaluation: the same weights always get the same number.
 */
#include <math.h>

#include "train/trainer.h"

/* Their draws are not those of the answers that are trained. */
#define HELD_OUT (UINT64_C (1) << 48)

static DpsStatus evaluate_prompts (DpsTrainer *t, uint64_t first, uint64_t n, DpsStepSums *sums, DpsError *err)
{
    DpsAnswers a = {0};
    const DpsRollout *o = &t->rollout;
    int greedy;
    size_t per_prompt = dps__answers_held_out (t, &greedy);
    DpsStatus st = dps_prompts_add (&a.prompts, t->eval_feed, t->session.tok, 0, first, n, err);
    if (st == DPS_OK)
        st = dps__answers_make (t, &a, per_prompt, HELD_OUT + first * per_prompt, greedy, err);
    for (size_t i = 0; st == DPS_OK && i < a.n; i++) {
        double total = dps__answer_total (t, &a, i);
        if (!isnan (total))
            st = dps_step_add (sums, dps_str ("reward"), total, 1, err);
        for (size_t c = 0; st == DPS_OK && c < o->n_criteria; c++) {
            char name[64];
            double v = a.rewards[i * o->n_criteria + c];
            dps__reward_metric (&o->names[c], "mean", name, sizeof name);
            if (!isnan (v))
                st = dps_step_add (sums, dps_str (name), v, 1, err);
        }
        if (st == DPS_OK)
            st = dps_step_add (sums, dps_str ("completions/mean_length"), (double)a.completions[i].n, 1, err);
        if (st == DPS_OK)
            st = dps_step_add (sums, dps_str ("completions/clipped_ratio"), a.truncated[i], 1, err);
    }
    dps__answers_free (&a);
    return st;
}

DpsStatus dps__rollout_eval_names (const DpsTrainer *t, DpsMetrics *out, DpsError *err)
{
    static const char *const always[] = {"reward", "completions/mean_length", "completions/clipped_ratio", "runtime", "samples_per_second"};
    int bad = 0;
    for (size_t i = 0; !bad && i < sizeof always / sizeof *always; i++)
        bad = dps_metrics_set (out, always[i], 0);
    for (size_t c = 0; !bad && c < t->rollout.n_criteria; c++) {
        char name[64];
        dps__reward_metric (&t->rollout.names[c], "mean", name, sizeof name);
        bad = dps_metrics_set (out, name, 0);
    }
    return bad ? dps_fail (err, DPS_ERR_NOMEM, "train: out of memory") : DPS_OK;
}

DpsStatus dps__rollout_evaluate (DpsTrainer *t, DpsMetrics *out, DpsError *err)
{
    DpsStepSums sums = {0};
    uint64_t n, size = (uint64_t)t->recipe->per_device_eval_batch_size;
    double start = dps__trainer_now ();
    DPS_TRY (dps_feed_places (t->eval_feed, 0, &n, err));
    DpsStatus st = DPS_OK;
    for (uint64_t i = 0; st == DPS_OK && i < n; i += size)
        st = evaluate_prompts (t, i, n - i < size ? n - i : size, &sums, err);
    double took = dps__trainer_now () - start;
    int bad = 0;
    for (size_t i = 0; st == DPS_OK && !bad && i < sums.n_metrics; i++)
        bad = dps_metrics_set (out, sums.metrics[i].name, dps_step_metric (&sums, i));
    bad =
        bad || (st == DPS_OK && (dps_metrics_set (out, "runtime", took) || dps_metrics_set (out, "samples_per_second", (double)n / took)));
    dps_step_free (&sums);
    return bad ? dps_fail (err, DPS_ERR_NOMEM, "train: out of memory") : st;
}
