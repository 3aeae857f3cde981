/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sample.c: a vocabulary has a quarter of a million tokens and a draw needs few of them, so tokens are taken in bands of likelihood, the likeliest first:
 * most draws end in the first band, and most blocks of logits are passed over with one comparison each.
 */
#include "infer/sample.h"

#include <math.h>
#include <stdlib.h>

enum { BLOCK = 16, BANDS = 4 };

/* Nats below the best. A token 45 below has less than 2^-64 of its probability: no draw reaches it. */
static const double edges[BANDS + 1] = {0, 4, 10, 20, 45};

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

/* How many logits from `at` on are to be looked at one by one: none of a block that has none above the floor. NaN is above nothing. */
static int64_t block_at (const float *logits, int64_t vocab, int64_t at, float floor)
{
    int any = 0;
    if (vocab - at < BLOCK)
        return vocab - at;
    for (int i = 0; i < BLOCK; i++)
        any |= logits[at + i] > floor;
    return any ? BLOCK : 0;
}

int32_t dps_sample_best (const float *logits, int64_t vocab)
{
    int64_t best = -1;
    float top = -INFINITY;
    for (int64_t at = 0; at < vocab; at += BLOCK)
        for (int64_t i = at, end = at + block_at (logits, vocab, at, top); i < end; i++)
            if (logits[i] > top) {
                top = logits[i];
                best = i;
            }
    return isfinite (top) ? (int32_t)best : -1;
}

/** What a draw knows of its logits. */
typedef struct Row {
    const float *logits;
    int64_t vocab;
    double best, temperature;
} Row;

static double nats (const Row *r, int64_t i) { return ((double)r->logits[i] - r->best) / r->temperature; }

/* The candidates of band b, in the order of the vocabulary. */
static size_t gather (const Row *r, int b, DpsCandidate *room)
{
    size_t n = 0;
    double bound = r->best - edges[b + 1] * r->temperature;
    float floor = nextafterf ((float)bound, -INFINITY); /* no candidate is lost to its rounding */
    for (int64_t at = 0; at < r->vocab; at += BLOCK)
        for (int64_t i = at, end = at + block_at (r->logits, r->vocab, at, floor); i < end; i++) {
            double l = nats (r, i);
            if (l > -edges[b + 1] && (b == 0 || l <= -edges[b]))
                room[n++] = (DpsCandidate){l, (int32_t)i};
        }
    return n;
}

/* Pushes heap[i] down to where it belongs; the root is the least likely of n. */
static void sift (DpsCandidate *heap, size_t i, size_t n)
{
    for (size_t child; (child = 2 * i + 1) < n; i = child) {
        child += child + 1 < n && more_likely (&heap[child + 1], &heap[child]) > 0;
        if (more_likely (&heap[i], &heap[child]) > 0)
            return;
        DpsCandidate c = heap[i];
        heap[i] = heap[child];
        heap[child] = c;
    }
}

/* The k likeliest, sorted. */
static size_t likeliest (const Row *r, size_t k, DpsCandidate *room)
{
    size_t n = 0;
    float floor = -INFINITY;
    for (int64_t at = 0; at < r->vocab; at += BLOCK)
        for (int64_t i = at, end = at + block_at (r->logits, r->vocab, at, floor); i < end; i++) {
            if (!(r->logits[i] > floor) || nats (r, i) <= -edges[BANDS])
                continue;
            room[n < k ? n++ : 0] = (DpsCandidate){nats (r, i), (int32_t)i};
            if (n < k)
                continue;
            for (size_t p = floor == -INFINITY ? n / 2 + 1 : 1; p-- > 0;) /* the k-th makes the heap */
                sift (room, p, n);
            floor = r->logits[room[0].id];
        }
    qsort (room, n, sizeof *room, more_likely);
    return n;
}

/* The fewest likeliest of all that have top_p of `total`, sorted. */
static size_t nucleus (const Row *r, double top_p, double total, DpsCandidate *room)
{
    size_t n = 0;
    double sum = 0;
    for (int b = 0; b < BANDS; b++) {
        size_t end = n + gather (r, b, room + n);
        qsort (room + n, end - n, sizeof *room, more_likely);
        for (; n < end; n++) {
            if (n > 0 && sum >= top_p * total)
                return n;
            sum += exp (room[n].logit);
        }
    }
    return n;
}

/* The sorted candidates that the filters leave. */
static size_t filter (const DpsSampling *s, const Row *r, double total, DpsCandidate *c)
{
    size_t n;
    if (s->top_k > 0) {
        n = likeliest (r, (size_t)s->top_k, c);
        double of_these = 0, sum = 0;
        for (size_t i = 0; i < n; i++)
            of_these += exp (c[i].logit);
        size_t k = 0;
        while (s->top_p < 1 && k < n && (k == 0 || sum < s->top_p * of_these))
            sum += exp (c[k++].logit);
        n = s->top_p < 1 ? k : n;
    } else
        n = nucleus (r, s->top_p < 1 ? s->top_p : 2, total, c);
    while (s->min_p > 0 && n > 1 && exp (c[n - 1].logit) < s->min_p)
        n--;
    return n;
}

/* The candidate at which the running sum passes `point`; *sum goes on from what it was. NULL: none. */
static const DpsCandidate *pass (const DpsCandidate *c, size_t n, double point, double *sum)
{
    for (size_t i = 0; i < n; i++) {
        *sum += exp (c[i].logit);
        if (*sum > point)
            return &c[i];
    }
    return NULL;
}

int32_t dps_sample_known (const DpsSampling *s, const float *logits, int64_t vocab, int32_t best, double total, DpsCandidate *room,
                          double draw)
{
    const Row r = {.logits = logits, .vocab = vocab, .best = (double)logits[best], .temperature = s->temperature};
    const DpsCandidate *chosen = NULL;
    double sum = 0;
    if (s->temperature <= 0)
        return best;
    if (s->top_k > 0 || s->top_p < 1 || s->min_p > 0) {
        size_t n = filter (s, &r, total, room);
        total = 0;
        for (size_t i = 0; i < n; i++)
            total += exp (room[i].logit);
        chosen = pass (room, n, draw * total, &sum);
    } else
        for (int b = 0; b < BANDS && !chosen; b++)
            chosen = pass (room, gather (&r, b, room), draw * total, &sum);
    return chosen ? chosen->id : best; /* a total rounded up may be out of reach */
}

DpsStatus dps_sample (const DpsSampling *s, float *logits, int64_t vocab, const int32_t *seen, size_t n_seen, DpsCandidate *room,
                      double draw, int32_t *out, DpsError *err)
{
    if (s->repetition_penalty > 0 && s->repetition_penalty != 1)
        penalise (logits, vocab, seen, n_seen, s->repetition_penalty, room);
    int32_t best = dps_sample_best (logits, vocab);
    double total = 0;
    if (best < 0)
        return dps_fail (err, DPS_ERR_NONFINITE, "sampling: no finite logit among %lld", (long long)vocab);
    for (int64_t i = 0; i < vocab && s->temperature > 0; i++)
        total += isnan (logits[i]) ? 0 : exp (((double)logits[i] - (double)logits[best]) / s->temperature);
    *out = dps_sample_known (s, logits, vocab, best, total, room, draw);
    return DPS_OK;
}
