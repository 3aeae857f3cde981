/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sampling against a plain implementation: every filter as its definition says, over the whole vocabulary, with no sorting tricks. Draws on
 * a fine grid give each token's share of [0, 1), which is its probability.
 */
#include "infer/sample.h"

#include <stdlib.h>

#include "base/rng.h"
#include "check.h"

enum { VOCAB = 40, GRID = 4000 };

/* Order of tokens by logit, ties by number; a token is kept when the definition keeps it. */
static int before (const double *l, int a, int b) { return l[a] > l[b] || (l[a] == l[b] && a < b); }

static void renormalise (double *p)
{
    double total = 0;
    for (int i = 0; i < VOCAB; i++)
        total += p[i];
    for (int i = 0; i < VOCAB; i++)
        p[i] /= total;
}

static void plain (const DpsSampling *s, const float *logits, const int32_t *seen, size_t n_seen, double *p)
{
    double l[VOCAB], most = -INFINITY, best = 0;
    for (int i = 0; i < VOCAB; i++) {
        int was_seen = 0;
        for (size_t k = 0; k < n_seen; k++)
            was_seen |= seen[k] == i;
        l[i] = (double)logits[i];
        if (was_seen)
            l[i] = (double)(float)(l[i] > 0 ? l[i] / s->repetition_penalty : l[i] * s->repetition_penalty);
        l[i] /= s->temperature;
        most = fmax (most, l[i]);
    }
    for (int i = 0; i < VOCAB; i++)
        p[i] = exp (l[i] - most);
    for (int i = 0; i < VOCAB && s->top_k > 0; i++) {
        int rank = 0;
        for (int k = 0; k < VOCAB; k++)
            rank += before (l, k, i);
        if (rank >= s->top_k)
            p[i] = 0;
    }
    renormalise (p);
    double filtered[VOCAB];
    for (int i = 0; i < VOCAB; i++) { /* kept while those before it do not yet reach top_p */
        double above = 0;
        for (int k = 0; k < VOCAB; k++)
            above += before (l, k, i) ? p[k] : 0;
        filtered[i] = s->top_p >= 1 || above < s->top_p ? p[i] : 0;
        best = fmax (best, filtered[i]);
    }
    for (int i = 0; i < VOCAB; i++)
        p[i] = filtered[i] < s->min_p * best ? 0 : filtered[i];
    renormalise (p);
}

static void check_case (const DpsSampling *s, const float *logits, const int32_t *seen, size_t n_seen)
{
    double p[VOCAB], share[VOCAB] = {0};
    DpsCandidate room[VOCAB];
    DpsError err = DPS_ERROR_INIT;
    plain (s, logits, seen, n_seen, p);
    for (int g = 0; g < GRID; g++) {
        float copy[VOCAB];
        int32_t id = -1;
        memcpy (copy, logits, sizeof copy);
        CHECK_OK (dps_sample (s, copy, VOCAB, seen, n_seen, room, (g + 0.5) / GRID, &id, &err));
        CU_ASSERT_FATAL (id >= 0 && id < VOCAB);
        share[id] += 1.0 / GRID;
    }
    for (int i = 0; i < VOCAB; i++) {
        if (!(fabs (share[i] - p[i]) <= 1.5 / GRID))
            printf ("\n    T %g k %lld p %g m %g r %g: token %d has %g, expected %g", s->temperature, (long long)s->top_k, s->top_p,
                    s->min_p, s->repetition_penalty, i, share[i], p[i]);
        CU_ASSERT (fabs (share[i] - p[i]) <= 1.5 / GRID);
    }
}

static void fill (float *logits, uint64_t seed)
{
    for (int i = 0; i < VOCAB; i++)
        logits[i] = (float)(8 * dps_rng_uniform (seed, 1, (uint64_t)i) - 4);
}

static void test_shares_are_the_plain_implementation_s (void)
{
    static const double temperatures[] = {0.3, 1, 1.7}, top_ps[] = {1, 0.9, 0.3}, min_ps[] = {0, 0.1, 1}, penalties[] = {1, 1.3, 0.8};
    static const int64_t top_ks[] = {0, 1, 5, 100};
    static const int32_t seen[] = {3, 7, 3, 39};
    float logits[VOCAB];
    for (int c = 0; c < 324; c++) {
        const DpsSampling s = {.temperature = temperatures[c % 3],
                               .top_p = top_ps[c / 3 % 3],
                               .min_p = min_ps[c / 9 % 3],
                               .repetition_penalty = penalties[c / 27 % 3],
                               .top_k = top_ks[c / 81]};
        fill (logits, (uint64_t)c);
        check_case (&s, logits, seen, 4);
    }
}

/* What is known beforehand changes nothing, over a vocabulary of many blocks and with tokens in every band. */
static void test_known_is_the_same_draw (void)
{
    enum { WIDE = 3003 };
    static float logits[WIDE];
    static DpsCandidate room[WIDE];
    static const DpsSampling cases[] = {{.temperature = 1, .top_p = 1},
                                        {.temperature = 3, .top_p = 1},
                                        {.temperature = 1, .top_p = 0.8},
                                        {.temperature = 1.5, .top_k = 700, .top_p = 0.99},
                                        {.temperature = 1, .top_p = 1, .min_p = 1e-3}};
    DpsError err = DPS_ERROR_INIT;
    for (int c = 0; c < 5; c++) {
        double total = 0, share[WIDE] = {0};
        for (int i = 0; i < WIDE; i++)
            logits[i] = (float)(-50 * dps_rng_uniform (9, (uint64_t)c, (uint64_t)i));
        int32_t best = dps_sample_best (logits, WIDE);
        for (int i = 0; i < WIDE; i++) {
            CU_ASSERT (logits[i] <= logits[best]);
            total += exp (((double)logits[i] - (double)logits[best]) / cases[c].temperature);
        }
        for (int g = 0; g < GRID; g++) {
            int32_t id = -1;
            CHECK_OK (dps_sample (&cases[c], logits, WIDE, NULL, 0, room, (g + 0.5) / GRID, &id, &err));
            CU_ASSERT_EQUAL (dps_sample_known (&cases[c], logits, WIDE, best, total, room, (g + 0.5) / GRID), id);
            share[id] += 1.0 / GRID;
        }
        for (int i = 0; i < WIDE && c < 2; i++)
            CU_ASSERT (fabs (share[i] - exp (((double)logits[i] - (double)logits[best]) / cases[c].temperature) / total) <= 1.5 / GRID);
        if (c < 2) /* out of reach of every candidate */
            CU_ASSERT_EQUAL (dps_sample_known (&cases[c], logits, WIDE, best, 2 * total, room, 0.9), best);
    }
}

static void test_temperature_0_is_the_likeliest_and_ties_go_to_the_lowest (void)
{
    DpsError err = DPS_ERROR_INIT;
    DpsCandidate room[VOCAB];
    float logits[VOCAB];
    int32_t id;
    const DpsSampling s = {.top_p = 1, .repetition_penalty = 1};
    for (uint64_t seed = 0; seed < 50; seed++) {
        int best = 0;
        fill (logits, seed);
        for (int i = 1; i < VOCAB; i++)
            best = logits[i] > logits[best] ? i : best;
        CHECK_OK (dps_sample (&s, logits, VOCAB, NULL, 0, room, 0.99, &id, &err));
        CU_ASSERT_EQUAL (id, best);
        logits[VOCAB - 1] = logits[best];
        CHECK_OK (dps_sample (&s, logits, VOCAB, NULL, 0, room, 0.99, &id, &err));
        CU_ASSERT_EQUAL (id, best);
    }
}

static void test_nan_is_never_drawn_and_nothing_finite_is_an_error (void)
{
    DpsError err = DPS_ERROR_INIT;
    DpsCandidate room[VOCAB];
    float logits[VOCAB];
    int32_t id;
    const DpsSampling s = {.temperature = 1, .top_p = 1, .repetition_penalty = 1};
    fill (logits, 1);
    logits[5] = NAN;
    logits[6] = -INFINITY;
    for (int g = 0; g < 1000; g++) {
        CHECK_OK (dps_sample (&s, logits, VOCAB, NULL, 0, room, g / 1000.0, &id, &err));
        CU_ASSERT (id != 5 && id != 6);
    }
    for (int i = 0; i < VOCAB; i++)
        logits[i] = i % 2 ? NAN : -INFINITY;
    CHECK_FAILS (dps_sample (&s, logits, VOCAB, NULL, 0, room, 0.5, &id, &err), DPS_ERR_NONFINITE, "no finite logit");
}

CHECK_MAIN ("infer.sample", T (test_shares_are_the_plain_implementation_s), T (test_known_is_the_same_draw),
            T (test_temperature_0_is_the_likeliest_and_ties_go_to_the_lowest), T (test_nan_is_never_drawn_and_nothing_finite_is_an_error))
