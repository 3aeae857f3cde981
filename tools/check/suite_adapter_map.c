/* SPDX-License-Identifier: Apache-2.0 */
/*
 * suite_adapter_map.c: an adapter as a map: what a fresh one changes (nothing), that merged weights give what forward gives, that rows do not see each
 * other, that every parameter reaches y, and that graphs do not see each other.
 */
#include <math.h>
#include <string.h>

#include "check/attached.h"

static size_t y_bytes (void) { return (size_t)(N * O) * sizeof (double); }

static void plain (const Attached *a, const float *w, double *y)
{
    for (int64_t i = 0; i < N * O; i++) {
        y[i] = 0;
        for (int64_t k = 0; k < K; k++)
            y[i] += a->x[i / O * K + k] * (double)w[i % O * K + k];
    }
}

static DpsStatus near (const double *got, const double *want, double tolerance, const char *what, DpsError *err)
{
    double largest = 1;
    for (int64_t i = 0; i < N * O; i++)
        largest = fmax (largest, fabs (want[i]));
    for (int64_t i = 0; i < N * O; i++)
        if (!(fabs (got[i] - want[i]) <= tolerance * largest))
            return dps_fail (err, DPS_ERR_INVALID, "%s: y[%lld,%lld] is %.9g, expected %.9g", what, (long long)(i / O), (long long)(i % O),
                             got[i], want[i]);
    return DPS_OK;
}

static DpsStatus identity_look (Attached *a, DpsError *err)
{
    double y[MOST_Y], want[MOST_Y];
    if (a->has_own)
        return check_skip (err, "a parameter starts as the adapter says: the base is not promised");
    DPS_TRY (attached_forward (a, y, err));
    plain (a, a->w, want);
    return near (y, want, 1e-5, "a fresh adapter is not the base model", err);
}

static DpsStatus merged_look (Attached *a, DpsError *err)
{
    static float whole[AREA], pieces[AREA];
    const int64_t cuts[] = {0, 1, 2, O / 2, O - 1, O};
    double y[MOST_Y], want[MOST_Y];
    if (!a->table->merge)
        return check_skip (err, "the adapter cannot be merged");
    DPS_TRY (attached_forward (a, want, err));
    memcpy (whole, a->w, sizeof whole);
    memcpy (pieces, a->w, sizeof pieces);
    DPS_TRY (a->table->merge (a->self, (const float *const *)a->values, O, K, 0, O, whole, err));
    for (size_t i = 0; i + 1 < sizeof cuts / sizeof *cuts; i++)
        DPS_TRY (
            a->table->merge (a->self, (const float *const *)a->values, O, K, cuts[i], cuts[i + 1] - cuts[i], pieces + cuts[i] * K, err));
    if (memcmp (whole, pieces, sizeof whole))
        return dps_fail (err, DPS_ERR_INVALID,
                         "merge of ranges of rows has other bits than merge of all rows: rows count from the weight's first");
    plain (a, whole, y);
    return near (y, want, 2e-4, "the merged weight does not give what forward gives", err);
}

static DpsStatus rows_look (Attached *a, DpsError *err)
{
    double y[MOST_Y], one[LONG];
    DPS_TRY (attached_forward (a, y, err));
    for (int64_t i = 0; i < N; i++) {
        struct DpsBuilder b = {.n = 0};
        DPS_TRY (attached_forward_with (a, &b, i, 1, one, err));
        if (memcmp (one, y + i * O, (size_t)O * sizeof *one))
            return dps_fail (err, DPS_ERR_INVALID, "row %lld of y has other bits when it is alone: forward is row-independent",
                             (long long)i);
    }
    return DPS_OK;
}

/* A parameter that reaches no y gets no gradient. */
static DpsStatus reaches_look (Attached *a, DpsError *err)
{
    double y[MOST_Y], other[MOST_Y];
    DPS_TRY (attached_forward (a, y, err));
    for (uint32_t p = 0; p < a->n; p++) {
        int64_t i = attached_elements (&a->layout[p]) / 2;
        float kept = a->values[p][i];
        a->values[p][i] = kept + 0.5f;
        DPS_TRY (attached_forward (a, other, err));
        a->values[p][i] = kept;
        if (!memcmp (y, other, y_bytes ()))
            return dps_fail (err, DPS_ERR_INVALID, "y does not depend on %s: it would never be trained", a->layout[p].suffix);
    }
    return DPS_OK;
}

static DpsStatus same_bits_look (Attached *a, DpsError *err)
{
    double y[MOST_Y], again[MOST_Y];
    DPS_TRY (attached_forward (a, y, err));
    DPS_TRY (attached_forward (a, again, err));
    if (memcmp (y, again, y_bytes ()))
        return dps_fail (err, DPS_ERR_INVALID, "the same x gave other bits the second time");
    return DPS_OK;
}

typedef struct Meanwhile {
    const Attached *a;
    DpsStatus st;
    double y[MOST_Y];
    DpsError err;
} Meanwhile;

/* In a graph whose nodes have other numbers. */
static void run_other (void *ctx)
{
    Meanwhile *m = ctx;
    struct DpsBuilder b = {.n = 0};
    for (int i = 0; i < 3; i++)
        check_node (&b, 1, 1, NULL);
    m->st = attached_forward_with (m->a, &b, 0, N, m->y, &m->err);
}

/* One graph may be recorded while another is: the other runs whole in the middle of this one, at each op. */
static DpsStatus interleaved (const Attached *a, const Attached *other, DpsError *err)
{
    static Meanwhile m;
    double y[MOST_Y], alone[MOST_Y], other_alone[MOST_Y];
    DPS_TRY (attached_forward (a, alone, err));
    DPS_TRY (attached_forward (other, other_alone, err));
    for (uint64_t at = 1, n_ops = 1; at <= n_ops; at++) {
        m = (Meanwhile){.a = other, .err = DPS_ERROR_INIT};
        struct DpsBuilder b = {.other_at = at, .meanwhile = run_other, .ctx = &m};
        DPS_TRY (attached_forward_with (a, &b, 0, N, y, err));
        n_ops = b.n_ops;
        if (m.st != DPS_OK || memcmp (y, alone, y_bytes ()) || (at <= n_ops && memcmp (m.y, other_alone, y_bytes ())))
            return dps_fail (err, DPS_ERR_INVALID,
                             "two graphs at once disturb each other from op %llu on: they share memory that is written",
                             (unsigned long long)at);
    }
    return DPS_OK;
}

static DpsStatus two_at_once (CheckContext *ctx, DpsError *err)
{
    static Attached a, b;
    char name[96];
    DPS_TRY (attached_begin (ctx, 0, 0, &a, name, sizeof name, err));
    DpsStatus st = attached_begin (ctx, 0, 0, &b, name, sizeof name, err);
    if (st == DPS_OK) {
        st = attached_fill (&b, ctx->seed + 1, 0, err);
        if (st == DPS_OK)
            st = interleaved (&a, &b, err);
        attached_drop (&b);
    }
    attached_drop (&a);
    return st;
}

/* A graph that takes no more: an error, or y = -1; the host looks at both. */
static DpsStatus full_graph_look (Attached *a, DpsError *err)
{
    double y[MOST_Y];
    struct DpsBuilder whole = {.n = 0};
    DPS_TRY (attached_forward_with (a, &whole, 0, N, y, err));
    for (uint64_t k = 1; k <= whole.n_ops; k++) {
        struct DpsBuilder b = {.fail_at = k};
        DpsError said = DPS_ERROR_INIT;
        DpsStatus st = attached_forward_with (a, &b, 0, N, y, &said);
        if (st == DPS_OK)
            return dps_fail (err, DPS_ERR_INVALID, "op %llu of the graph failed, and forward says y is node %s", (unsigned long long)k,
                             "0 or later");
        DPS_TRY (check_told ("forward in a graph that takes no more", st, &said, err));
    }
    return DPS_OK;
}

static const CheckCase cases[] = {
    ATTACHED_LOOK (identity, 1, 1),  ATTACHED_LOOK (merged, 0, 1),   ATTACHED_LOOK (rows, 0, 1),       ATTACHED_LOOK (reaches, 0, 0),
    ATTACHED_LOOK (same_bits, 0, 0), CHECK_CASE (two_at_once, 0, 0), ATTACHED_LOOK (full_graph, 0, 0),
};

const CheckSuite check_suite_adapter_map = {.name = "adapter.map",
                                            .interface_id = DPS_ADAPTER_ID,
                                            .summary = "an adapter as a map: identity, merge, rows, graphs",
                                            .cases = cases,
                                            .n_cases = sizeof cases / sizeof *cases};
