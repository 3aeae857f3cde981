/* SPDX-License-Identifier: Apache-2.0 */
#include "diapason/scorer.h"

#include <math.h>

#include "infer/score.h"

/* No JSON says NaN, and no mean of one says anything. */
static DpsStatus check_finite (const CliScorer *s, const DpsEncoded *x, const float *logp, DpsError *err)
{
    for (size_t t = 1; t < x->n; t++)
        if (!isfinite (logp[t]))
            return dps_fail (
                err, DPS_ERR_NONFINITE,
                "%s: sequence %llu, token %zu (id %d): its log-probability is %g: the model's output is not finite. Hint: look "
                "at its weights and its configuration",
                dps_source_path (s->session->session.source), (unsigned long long)s->n_scored + 1, t + 1, (int)x->ids[t], (double)logp[t]);
    return DPS_OK;
}

void cli_scorer_free (CliScorer *s)
{
    for (size_t i = 0; i < s->n; i++)
        dps_encoded_free (&s->rows[i]);
    s->n = s->tokens = 0;
}

DpsStatus cli_scorer_flush (CliScorer *s, DpsError *err)
{
    DpsSequence sequences[CLI_SCORER_ROWS];
    if (s->n == 0)
        return DPS_OK;
    float *logp = dps_malloc (s->tokens + 1, sizeof *logp), *at = logp;
    DpsStatus st = logp ? DPS_OK : dps_fail (err, DPS_ERR_NOMEM, "score: out of memory");
    for (size_t i = 0; i < s->n; i++)
        sequences[i] = (DpsSequence){.ids = s->rows[i].ids, .n = s->rows[i].n};
    if (st == DPS_OK)
        st = dps_score (&s->session->session.weights, sequences, s->n, logp, err);
    for (size_t i = 0; st == DPS_OK && i < s->n; i++) {
        st = check_finite (s, &s->rows[i], at, err);
        if (st == DPS_OK)
            st = s->scored (s->ctx, &s->rows[i], at, err);
        s->n_scored++;
        at += s->rows[i].n;
    }
    s->scored_tokens += (double)s->tokens;
    cli_scorer_free (s);
    dps_free (logp);
    return st;
}

void cli_scorer_progress (const CliScorer *s, const char *label, uint64_t added, uint64_t total)
{
    cli_progress_paced (label, (double)(added - s->n), (double)total, s->scored_tokens);
}

DpsStatus cli_scorer_add (CliScorer *s, DpsEncoded *x, DpsError *err)
{
    DpsStatus st = s->n && (s->n == CLI_SCORER_ROWS || s->tokens + x->n > CLI_SCORER_TOKENS) ? cli_scorer_flush (s, err) : DPS_OK;
    if (st != DPS_OK) {
        dps_encoded_free (x);
        return st;
    }
    s->tokens += x->n;
    s->rows[s->n++] = *x;
    *x = (DpsEncoded){0};
    return DPS_OK;
}
