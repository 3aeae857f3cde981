/* SPDX-License-Identifier: Apache-2.0 */
/*
 * suite_backend_attention.c: windows, softcaps, grouped heads, cache pages and parents; a shared prefix (of a prefix) against the prompt repeated, bit
 * for bit forwards and within a budget backwards; what does not fit is refused.
 */
#include <math.h>
#include <string.h>

#include "check/attention_cases.h"

enum { MOST_ROWS = 512 };

/* What the adjoint needs of the forward pass, from the oracle: a backend may have one without the other. */
static DpsStatus fill_forward (Kit *k, const AttentionRun *r, DpsError *err)
{
    KitArray *want[KIT_MAX_OUT];
    const KitCall f = attention_forward (r);
    DPS_TRY (kit_oracle (k, &f, want, err));
    for (int64_t i = 0; i < r->o->n; i++)
        kit_put (r->o, i, kit_get (want[0], i));
    for (int64_t i = 0; i < r->lse->n; i++)
        kit_put (r->lse, i, kit_get (want[1], i));
    return DPS_OK;
}

static DpsStatus forward (Kit *k, DpsError *err)
{
    for (int t = 0; t < n_attention_cases; t++)
        for (int m = 0; m < 4; m++) {
            AttentionRun r = attention_run (k, &attention_cases[t], kit_mixed (m, 0), kit_mixed (m, 1));
            KitCall f = attention_forward (&r);
            if (kit_compare (k, &f, err) != DPS_OK)
                return dps_error_prefix (err, "%s", attention_cases[t].what);
            KitArray *with = kit_copy (k, r.o);
            f.out[1] = NULL; /* lse is optional, and leaves o as it is */
            DpsStatus st = kit_call (k, &f, err);
            if (st == DPS_OK)
                st = kit_same_bits ("attention without lse", r.o, with, err);
            DPS_TRY (kit_refusable (k, st));
            kit_clear (k);
        }
    return DPS_OK;
}

static DpsStatus backward (Kit *k, DpsError *err)
{
    for (int t = 0; t < n_attention_cases; t++)
        for (int m = 0; m < 4; m++) {
            AttentionRun r = attention_run (k, &attention_cases[t], kit_mixed (m, 0), kit_mixed (m, 1));
            KitCall b = attention_backward (&r);
            DPS_TRY (fill_forward (k, &r, err));
            if (kit_compare (k, &b, err) != DPS_OK)
                return dps_error_prefix (err, "%s", attention_cases[t].what);
            kit_clear (k);
        }
    return DPS_OK;
}

/* Rows rows[0..n) of a. */
static KitArray *picked (Kit *k, const KitArray *a, const int32_t *rows, int64_t n)
{
    KitArray *b = kit_array (k, a->view.dtype, n, a->shape[1]);
    for (int64_t i = 0; b && i < n; i++)
        for (int64_t d = 0; d < a->shape[1]; d++)
            kit_put (b, i * a->shape[1] + d, kit_get (a, rows[i] * a->shape[1] + d));
    return b;
}

/* Each path from a root of the tree to a leaf as a sequence of its own: rows[] says which row of the tree stands there, once[] whether it is its first. */
static int64_t unroll (const AttentionCase *t, AttentionCase *out, int32_t *rows, int32_t *once)
{
    int64_t n = 0;
    unsigned char done[MOST_ROWS] = {0};
    *out = *t;
    out->n_segments = 0;
    for (int64_t s = 0; s < t->n_segments; s++) {
        int64_t path[ATTENTION_SEGMENTS], depth = 0, first = n;
        int leaf = 1;
        for (int64_t c = s + 1; c < t->n_segments; c++)
            leaf &= t->segments[c].parent != s;
        for (int64_t p = s; leaf && p >= 0; p = t->segments[p].parent)
            path[depth++] = p;
        while (depth > 0) {
            const DpsSegment *g = &t->segments[path[--depth]];
            for (int32_t i = 0; i < g->q_len; i++, n++) {
                rows[n] = g->q_start + i;
                once[n] = !done[rows[n]];
                done[rows[n]] = 1;
            }
        }
        if (leaf)
            out->segments[out->n_segments++] =
                (DpsSegment){(int32_t)first, (int32_t)(n - first), (int32_t)first, (int32_t)(n - first), -1, 0, 0, 0};
    }
    out->n = out->m = n;
    return n;
}

/* The gradients of the tree are the sums of those of its rows' repetitions. */
static DpsStatus sums_agree (Kit *k, const KitCall *b, const KitArray *tree, const KitArray *flat, const int32_t *rows, int64_t n,
                             int output, DpsError *err)
{
    KitArray *sum = kit_filled (k, F64, tree->shape[0], tree->shape[1], 0);
    for (int64_t i = 0; sum && i < n; i++)
        for (int64_t d = 0; d < sum->shape[1]; d++) {
            int64_t to = rows[i] * sum->shape[1] + d;
            kit_put (sum, to, kit_get (sum, to) + kit_get (flat, i * sum->shape[1] + d));
        }
    return sum ? kit_close_to (k, b, output, tree, sum, err) : dps_fail (err, DPS_ERR_NOMEM, "out of memory");
}

static DpsStatus one_repetition (Kit *k, const AttentionCase *t, uint32_t in, DpsError *err)
{
    int32_t rows[MOST_ROWS], once[MOST_ROWS];
    AttentionCase flat;
    int64_t n = unroll (t, &flat, rows, once);
    AttentionRun a = attention_run (k, t, in, F32), b = attention_run (k, &flat, in, F32);
    if (k->failed_alloc)
        return dps_fail (err, DPS_ERR_NOMEM, "out of memory");
    b.q = picked (k, a.q, rows, n), b.k = picked (k, a.k, rows, n), b.v = picked (k, a.v, rows, n), b.d_o = picked (k, a.d_o, rows, n);
    for (int64_t i = 0; i < n; i++) /* the repeated prompt's own output counts once */
        for (int64_t d = 0; !once[i] && d < b.d_o->shape[1]; d++)
            kit_put (b.d_o, i * b.d_o->shape[1] + d, 0);
    const KitCall fa = attention_forward (&a), fb = attention_forward (&b), ba = attention_backward (&a), bb = attention_backward (&b);
    DPS_TRY (kit_call (k, &fa, err));
    DPS_TRY (kit_call (k, &fb, err));
    DPS_TRY (kit_same_bits ("attention of a shared prefix, against the prompt repeated", picked (k, a.o, rows, n), b.o, err));
    DPS_TRY (kit_same_bits ("lse of a shared prefix, against the prompt repeated", picked (k, a.lse, rows, n), b.lse, err));
    k->n_compared++;
    DPS_TRY (kit_call (k, &ba, err));
    DPS_TRY (kit_call (k, &bb, err));
    KitArray *const tree[] = {a.dq, a.dk, a.dv}, *const repeated[] = {b.dq, b.dk, b.dv};
    for (int g = 0; g < 3; g++)
        DPS_TRY (sums_agree (k, &ba, tree[g], repeated[g], rows, n, g, err));
    return DPS_OK;
}

/* A promise of DPS_DETERMINISM_BATCH; without it only the numbers must agree, which the other cases say. */
static DpsStatus shared_prefix (Kit *k, DpsError *err)
{
    if (!k->backend->determinism || k->backend->determinism (k->device) < DPS_DETERMINISM_BATCH)
        return check_skip (err, "it does not promise that rows are independent (DPS_DETERMINISM_BATCH)");
    for (int t = 0; t < n_attention_cases; t++)
        for (int m = 0; m < 2 && (strstr (attention_cases[t].what, "prefix") || strstr (attention_cases[t].what, "generations")); m++) {
            DPS_TRY (kit_refusable (k, one_repetition (k, &attention_cases[t], kit_mixed (m, 0), err)));
            kit_clear (k);
        }
    return DPS_OK;
}

/* Of v in dq, of q and k in dk: in the row itself, and in no other sequence. */
static DpsStatus nan_stays_backward (Kit *k, const KitCall *b, int bad, DpsError *err)
{
    const KitArray *d = b->out[bad == 2 ? 0 : 1];
    DpsStatus st = kit_call (k, b, err);
    if (st == DPS_OK && (!isnan (kit_get (d, 20 * d->shape[1] + 1)) || isnan (kit_get (d, 130 * d->shape[1]))))
        return dps_fail (err, DPS_ERR_INVALID, "attention_bwd: a NaN in row 20 of %s is %s of %s",
                         bad == 0   ? "q"
                         : bad == 1 ? "k"
                                    : "v",
                         isnan (kit_get (d, 130 * d->shape[1])) ? "in another sequence's rows" : "gone from that row",
                         bad == 2 ? "dq" : "dk");
    return kit_refusable (k, st);
}

/* In the rows that see it, and never in another sequence. (A row before a NaN of v may have one too: its weight there is 0, and 0·NaN is NaN.) */
static DpsStatus nan_stays (Kit *k, DpsError *err)
{
    for (int bad = 0; bad < 3; bad++) {
        AttentionRun r = attention_run (k, &attention_cases[ATTENTION_WINDOW], F32, F32);
        KitArray *const from[] = {r.q, r.k, r.v};
        const KitCall f = attention_forward (&r), b = attention_backward (&r);
        int64_t o = r.o ? r.o->shape[1] : 0;
        if (from[bad])
            kit_put (from[bad], 20 * from[bad]->shape[1] + 1, (double)NAN);
        DPS_TRY (kit_call (k, &f, err));
        if (!isnan (kit_get (r.o, 20 * o + 1)) || (bad < 2 && !isnan (kit_get (r.lse, 20 * 3))))
            return dps_fail (err, DPS_ERR_INVALID, "attention: a NaN in row 20 of %s is gone from its output",
                             bad == 0   ? "q"
                             : bad == 1 ? "k"
                                        : "v");
        if (isnan (kit_get (r.o, 130 * o)) || (bad < 2 && isnan (kit_get (r.o, 19 * o + 1))))
            return dps_fail (err, DPS_ERR_INVALID, "attention: a NaN in row 20 of %s is in a row that does not see it",
                             bad == 0   ? "q"
                             : bad == 1 ? "k"
                                        : "v");
        k->n_compared++;
        DPS_TRY (nan_stays_backward (k, &b, bad, err));
        kit_clear (k);
    }
    return DPS_OK;
}

/* Segments that reach past the rows, come before their parents, or begin below zero are INVALID. */
static DpsStatus bad_segments (Kit *k, DpsError *err)
{
    static const DpsSegment bad[] = {
        {0, 6, 0, 5, -1, 1, 0, 0},  {0, 5, 1, 5, -1, 0, 0, 0},  {0, 5, 0, 5, 0, 0, 0, 0},  {0, 5, 0, 5, -1, -1, 0, 0},
        {-1, 5, 0, 5, -1, 0, 0, 0}, {0, -1, 0, 5, -1, 9, 0, 0}, {0, 2, 0, 5, -1, 1, 0, 0},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        AttentionCase t = {"bad", 1, 1, 4, 0, 0, 5, 5, 1, {bad[i]}};
        AttentionRun r = attention_run (k, &t, F32, F32);
        const KitCall calls[] = {attention_forward (&r), attention_backward (&r)};
        for (int c = 0; c < 2; c++) {
            DpsStatus st = kit_must_fail (k, &calls[c], DPS_ERR_INVALID, err);
            k->n_compared += st == DPS_OK;
            if (st != DPS_OK && st != KIT_REFUSED)
                return dps_error_prefix (err, "segment {%d, %d, %d, %d, parent %d, position %d} over 5 rows", bad[i].q_start, bad[i].q_len,
                                         bad[i].kv_start, bad[i].kv_len, bad[i].parent, bad[i].position);
            DPS_TRY (kit_refusable (k, st));
        }
        kit_clear (k);
    }
    return DPS_OK;
}

KIT_CASE (forward)
KIT_CASE (backward)
KIT_CASE (shared_prefix)
KIT_CASE (nan_stays)
KIT_CASE (bad_segments)

static const CheckCase cases[] = {
    KIT_LINE (forward, 3, CHECK_REQUIRED), KIT_LINE (backward, 3, CHECK_REQUIRED),
    KIT_LINE (shared_prefix, 3, 0),        KIT_LINE (nan_stays, 3, 0),
    KIT_LINE (bad_segments, 3, 0),
};
const CheckSuite check_suite_backend_attention = {"backend.attention", DPS_BACKEND_ID, "attention over segments", cases,
                                                  sizeof cases / sizeof *cases};
