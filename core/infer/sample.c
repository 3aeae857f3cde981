/* SPDX-License-Identifier: Apache-2.0 */
#include "infer/sample.h"

#include <math.h>
#include <stdlib.h>

static int more_likely (const void *a, const void *b)
{
    const DpsCandidate *x = a, *y = b;
    if (x->logit != y->logit)
        return x->logit > y->logit ? -1 : 1;
    return (x->id > y->id) - (x->id < y->id);
}

/* Each token seen is penalised once, however often it stands there: the mark is the sign of a quieted copy in room. */
static void penalise (float *logits, int64_t vocab, const int32_t *seen, size_t n, double penalty, DpsCandidate *room)
{
    for (size_t i = 0; i < n; i++)
        if (seen[i] >= 0 && seen[i] < vocab)
            room[seen[i]].logit = (double)logits[seen[i]];
    for (size_t i = 0; i < n; i++)
        if (seen[i] >= 0 && seen[i] < vocab) {
            double l = room[seen[i]].logit;
            logits[seen[i]] = (float)(l > 0 ? l / penalty : l * penalty);
        }
}

static int32_t greedy (const float *logits, int64_t vocab)
{
    int64_t best = -1;
    for (int64_t i = 0; i < vocab; i++)
        if (!isnan (logits[i]) && (best < 0 || logits[i] > logits[best]))
            best = i;
    return (int32_t)best;
}

/* How many of the sorted candidates the filters leave. */
static size_t keep (const DpsSampling *s, const DpsCandidate *c, size_t n)
{
    if (s->top_k > 0 && (size_t)s->top_k < n)
        n = (size_t)s->top_k;
    double total = 0;
    for (size_t i = 0; i < n; i++)
        total += exp (c[i].logit - c[0].logit);
    if (s->top_p < 1) {
        double sum = 0;
        size_t k = 0;
        while (k < n && (k == 0 || sum < s->top_p * total))
            sum += exp (c[k++].logit - c[0].logit);
        n = k;
    }
    while (s->min_p > 0 && n > 1 && exp (c[n - 1].logit - c[0].logit) < s->min_p)
        n--;
    return n;
}

DpsStatus dps_sample (const DpsSampling *s, float *logits, int64_t vocab, const int32_t *seen, size_t n_seen, DpsCandidate *room,
                      double draw, int32_t *out, DpsError *err)
{
    if (s->repetition_penalty > 0 && s->repetition_penalty != 1)
        penalise (logits, vocab, seen, n_seen, s->repetition_penalty, room);
    int32_t best = greedy (logits, vocab);
    if (best < 0 || !isfinite (logits[best]))
        return dps_fail (err, DPS_ERR_NONFINITE, "sampling: no finite logit among %lld", (long long)vocab);
    *out = best;
    if (s->temperature <= 0)
        return DPS_OK;
    /* A token 45 nats below the best has less than 2^-64 of its probability: no draw reaches it. */
    size_t n = 0;
    for (int64_t i = 0; i < vocab; i++) {
        double l = ((double)logits[i] - (double)logits[best]) / s->temperature;
        if (l > -45)
            room[n++] = (DpsCandidate){l, (int32_t)i};
    }
    if (s->top_k > 0 || s->top_p < 1 || s->min_p > 0) {
        qsort (room, n, sizeof *room, more_likely);
        n = keep (s, room, n);
    }
    double total = 0, sum = 0;
    for (size_t i = 0; i < n; i++)
        total += exp (room[i].logit);
    for (size_t i = 0; i < n; i++) {
        sum += exp (room[i].logit);
        *out = room[i].id;
        if (sum > draw * total)
            break;
    }
    return DPS_OK;
}
