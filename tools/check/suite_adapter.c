/* SPDX-License-Identifier: Apache-2.0 */
/*
 * suite_adapter.c: an adapter as a map: what a fresh one changes (nothing), that merged weights give what forward gives, that rows do not see each
 * other, and that it reads and writes what it was given and no byte more. Gradients need no case: forward is written in the host's ops, whose
 * adjoints the backends' suites prove; that every parameter reaches y is one.
 */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "base/rng.h"
#include "check/alloc_hook.h"
#include "check/attached.h"
#include "check/pages.h"
#include "check/plugin.h"

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

static DpsStatus describe (CheckContext *ctx, DpsError *err)
{
    const DpsAdapter *table = ctx->table;
    const DpsAdapterInfo *info = table->describe ();
    if (!info || info != table->describe () || !check_is_text (info->name) || !check_is_text (info->summary) ||
        !check_is_text (info->reference))
        return dps_fail (err, DPS_ERR_INVALID,
                         "describe: name, summary or reference is missing, or the pointer changes: it is static storage");
    DPS_TRY (check_params (info->params, info->n_params, err));
    table->destroy (NULL);
    return DPS_OK;
}

/* Every value in the ranges it gives: taken, and then forward works; or refused in words. */
static DpsStatus parameters (CheckContext *ctx, DpsError *err)
{
    for (size_t v = 0;; v++) {
        char name[96];
        static Attached a;
        double y[N * O];
        DpsError said = DPS_ERROR_INIT;
        DpsStatus st = attached_begin (ctx, v, 0, &a, name, sizeof name, &said);
        if (st == DPS_ERR_NOT_FOUND)
            return DPS_OK;
        if (st == DPS_OK) {
            st = attached_forward (&a, y, &said);
            attached_drop (&a);
            if (st != DPS_OK)
                return dps_fail (err, st, "%s: %s", name, said.msg);
        } else if (v == 0)
            return dps_fail (err, st, "%s", said.msg);
        DPS_TRY (check_told (name, st, &said, err));
    }
}

/* Room for 0, 1, … parameters: an error in words while it is too little, and not one written past it. */
static DpsStatus little_room (Attached *a, DpsError *err)
{
    for (uint32_t room = 0; room < a->n; room++) {
        DpsAdapterParam p[CHECK_MAX_PARAMS + 1], *list[CHECK_MAX_PARAMS + 1];
        DpsError said = DPS_ERROR_INIT;
        uint32_t n = room;
        for (uint32_t i = 0; i <= CHECK_MAX_PARAMS; i++) {
            p[i] = (DpsAdapterParam){.size = sizeof *p, .suffix = "untouched"};
            list[i] = i < room ? &p[i] : NULL;
        }
        DpsStatus st = a->table->attach (a->self, dps_str (attached_name), O, K, list, &n, &said);
        if (st == DPS_OK)
            return dps_fail (err, DPS_ERR_INVALID, "attach had room for %u parameters, needs %u, and says all is well", room, a->n);
        DPS_TRY (check_told ("attach without room", st, &said, err));
    }
    return DPS_OK;
}

static DpsStatus attach_look (Attached *a, DpsError *err)
{
    static Attached again;
    if (a->n == 0)
        return dps_fail (err, DPS_ERR_INVALID, "attach gives no parameter: nothing would be trained");
    for (uint32_t i = 0; i < a->n; i++) {
        const DpsAdapterParam *p = &a->layout[i];
        if (!check_is_text (p->suffix) || p->init > DPS_INIT_OWN || !isfinite (p->init_scale))
            return dps_fail (err, DPS_ERR_INVALID, "parameter %u has the suffix '%s', init %u: expected PEFT's name and a DPS_INIT_*", i,
                             p->suffix ? p->suffix : "", p->init);
        if (p->init == DPS_INIT_OWN && !a->table->init)
            return dps_fail (err, DPS_ERR_INVALID, "parameter %s starts as the adapter says, which has no init", p->suffix);
        for (uint32_t k = 0; k < i; k++)
            if (!strcmp (p->suffix, a->layout[k].suffix))
                return dps_fail (err, DPS_ERR_INVALID, "two parameters are called %s", p->suffix);
    }
    again = (Attached){.table = a->table, .self = a->self};
    DPS_TRY (attached_again (&again, err));
    for (uint32_t i = 0; i < a->n; i++)
        if (again.n != a->n || strcmp (again.layout[i].suffix, a->layout[i].suffix) ||
            attached_elements (&again.layout[i]) != attached_elements (&a->layout[i]))
            return dps_fail (err, DPS_ERR_INVALID, "attach gives other parameters for the same weight the second time");
    return little_room (a, err);
}

/* match answers by name, shape and dtype: yes, or UNSUPPORTED with the reason; and what it takes can be attached. */
static DpsStatus match_look (Attached *a, DpsError *err)
{
    static const int64_t shapes[][4] = {{O, K}, {1, 1}, {0, 0}, {7}, {3, 4, 5}, {2, 3, 4, 5}};
    static const uint32_t ranks[] = {2, 2, 2, 1, 3, 4};
    for (size_t i = 0; a->table->match && i < sizeof ranks / sizeof *ranks; i++)
        for (uint32_t dtype = 0; dtype <= DPS_DTYPE_BOOL + 90; dtype += dtype < DPS_DTYPE_BOOL ? 1 : 90) {
            DpsError said = DPS_ERROR_INIT;
            DpsStatus st = a->table->match (a->self, dps_str (attached_name), shapes[i], ranks[i], dtype, &said);
            if (st != DPS_OK && st != DPS_ERR_UNSUPPORTED)
                return dps_fail (err, DPS_ERR_INVALID, "match answers %s, expected OK or UNSUPPORTED", dps_status_name (st));
            DPS_TRY (check_told ("match", st, &said, err));
        }
    return DPS_OK;
}

static DpsStatus identity_look (Attached *a, DpsError *err)
{
    double y[N * O], want[N * O];
    DPS_TRY (attached_forward (a, y, err));
    plain (a, a->w, want);
    return near (y, want, 1e-5, "a fresh adapter is not the base model", err);
}

static DpsStatus merged_look (Attached *a, DpsError *err)
{
    static float whole[O * K], pieces[O * K];
    static const int64_t cuts[] = {0, 1, 2, O / 2, O - 1, O};
    double y[N * O], want[N * O];
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
    double y[N * O], one[O];
    DPS_TRY (attached_forward (a, y, err));
    for (int64_t i = 0; i < N; i++) {
        struct DpsBuilder b = {.n = 0};
        DPS_TRY (attached_forward_with (a, &b, i, 1, one, err));
        if (memcmp (one, y + i * O, sizeof one))
            return dps_fail (err, DPS_ERR_INVALID, "row %lld of y has other bits when it is alone: forward is row-independent",
                             (long long)i);
    }
    return DPS_OK;
}

/* A parameter that reaches no y gets no gradient. */
static DpsStatus reaches_look (Attached *a, DpsError *err)
{
    double y[N * O], other[N * O];
    DPS_TRY (attached_forward (a, y, err));
    for (uint32_t p = 0; p < a->n; p++) {
        int64_t i = attached_elements (&a->layout[p]) / 2;
        float kept = a->values[p][i];
        a->values[p][i] = kept + 0.5f;
        DPS_TRY (attached_forward (a, other, err));
        a->values[p][i] = kept;
        if (!memcmp (y, other, sizeof y))
            return dps_fail (err, DPS_ERR_INVALID, "y does not depend on %s: it would never be trained", a->layout[p].suffix);
    }
    return DPS_OK;
}

static DpsStatus same_bits_look (Attached *a, DpsError *err)
{
    double y[N * O], again[N * O];
    DPS_TRY (attached_forward (a, y, err));
    DPS_TRY (attached_forward (a, again, err));
    if (memcmp (y, again, sizeof y))
        return dps_fail (err, DPS_ERR_INVALID, "the same x gave other bits the second time");
    return DPS_OK;
}

typedef struct Meanwhile {
    const Attached *a;
    DpsStatus st;
    double y[N * O];
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
    double y[N * O], alone[N * O], other_alone[N * O];
    DPS_TRY (attached_forward (a, alone, err));
    DPS_TRY (attached_forward (other, other_alone, err));
    for (uint64_t at = 1, n_ops = 1; at <= n_ops; at++) {
        m = (Meanwhile){.a = other, .err = DPS_ERROR_INIT};
        struct DpsBuilder b = {.other_at = at, .meanwhile = run_other, .ctx = &m};
        DPS_TRY (attached_forward_with (a, &b, 0, N, y, err));
        n_ops = b.n_ops;
        if (m.st != DPS_OK || memcmp (y, alone, sizeof y) || (at <= n_ops && memcmp (m.y, other_alone, sizeof y)))
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
    double y[N * O];
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

/* Memory that ends at a forbidden page, then begins behind one; parameters cannot be written. What is touched besides is a crash in this case. */
static DpsStatus bounds_look (Attached *a, DpsError *err)
{
    for (int guard = CHECK_GUARD_BEHIND; guard <= CHECK_GUARD_BEFORE; guard++) {
        const float *params[CHECK_MAX_PARAMS] = {0};
        for (uint32_t i = 0; i < a->n; i++)
            if (!(params[i] = check_pages (a->values[i], (size_t)attached_elements (&a->layout[i]) * sizeof (float), guard, 1)))
                return dps_fail (err, DPS_ERR_NOMEM, "check: out of memory");
        for (int64_t row = 0; row < O; row += 5) {
            int64_t rows = O - row < 5 ? O - row : 5;
            float *w = check_pages (a->w + row * K, (size_t)(rows * K) * sizeof *w, guard, 0);
            if (!w)
                return dps_fail (err, DPS_ERR_NOMEM, "check: out of memory");
            DPS_TRY (a->table->merge (a->self, params, O, K, row, rows, w, err));
        }
    }
    return DPS_OK;
}

/* init reads W within its bounds (read_rows refuses the rest), writes all of its parameter and nothing else, and says the same twice. */
static DpsStatus init_look (Attached *a, DpsError *err)
{
    const DpsAdapterRows w = attached_rows (a);
    for (uint32_t p = 0; p < a->n; p++) {
        size_t bytes = (size_t)attached_elements (&a->layout[p]) * sizeof (float);
        if (a->layout[p].init != DPS_INIT_OWN)
            continue;
        float *first = check_pages (NULL, bytes, CHECK_GUARD_BEHIND, 0), *second = check_pages (NULL, bytes, CHECK_GUARD_BEFORE, 0);
        if (!first || !second)
            return dps_fail (err, DPS_ERR_NOMEM, "check: out of memory");
        memset (first, 0xFF, bytes);
        DPS_TRY (a->table->init (a->self, dps_str (attached_name), p, &w, first, err));
        DPS_TRY (a->table->init (a->self, dps_str (attached_name), p, &w, second, err));
        for (int64_t i = 0; i < attached_elements (&a->layout[p]); i++)
            if (!isfinite (first[i]))
                return dps_fail (err, DPS_ERR_INVALID, "init left element %lld of %s as it was, or not finite", (long long)i,
                                 a->layout[p].suffix);
        if (memcmp (first, second, bytes))
            return dps_fail (err, DPS_ERR_INVALID, "init gives %s other bits the second time", a->layout[p].suffix);
    }
    return DPS_OK;
}

static int64_t largest_param (const Attached *a)
{
    int64_t most = 0;
    for (uint32_t i = 0; i < a->n; i++)
        most = attached_elements (&a->layout[i]) > most ? attached_elements (&a->layout[i]) : most;
    return most;
}

/* Cases that look at one attached adapter. */
typedef struct Look {
    DpsStatus (*look) (Attached *a, DpsError *err);
    int fresh;    /* values as a new run starts */
    int variants; /* with each parameter at another value too */
} Look;

static DpsStatus on_attached (CheckContext *ctx, DpsError *err)
{
    static Attached a;
    const Look *how = ctx->test->data;
    const DpsAdapter *table = ctx->table;
    if ((how->look == merged_look || how->look == bounds_look) && !table->merge)
        return check_skip (err, "the adapter cannot be merged");
    if (how->look == match_look && !table->match)
        return check_skip (err, "no match: any matrix can be adapted");
    for (size_t v = 0; v == 0 || how->variants; v++) {
        char name[96];
        DpsStatus st = attached_begin (ctx, v, how->fresh, &a, name, sizeof name, err);
        if (st == DPS_ERR_NOT_FOUND && v)
            return DPS_OK;
        if (st != DPS_OK && v)
            continue; /* refused: what `parameters` looks at */
        DPS_TRY (st);
        if (v && largest_param (&a) > 1 << 16) { /* the most a rank may be: `parameters` runs it once, and that is enough */
            attached_drop (&a);
            continue;
        }
        if (how->look == identity_look && a.has_own)
            st = check_skip (err, "a parameter starts as the adapter says: the base is not promised");
        else if (how->look == init_look && !a.has_own)
            st = check_skip (err, "no parameter starts as the adapter says");
        else
            st = how->look (&a, err);
        attached_drop (&a);
        if (st != DPS_OK && st != CHECK_SKIPPED)
            return dps_error_prefix (err, "%s", name);
        DPS_TRY (st);
    }
    return DPS_OK;
}

static DpsStatus life (const CheckContext *ctx, DpsError *err)
{
    static Attached a;
    static float w[O * K];
    char name[96];
    double y[N * O];
    DPS_TRY (attached_begin (ctx, 0, 0, &a, name, sizeof name, err));
    DpsStatus st = attached_forward (&a, y, err);
    memcpy (w, a.w, sizeof w);
    if (st == DPS_OK && a.table->merge)
        st = a.table->merge (a.self, (const float *const *)a.values, O, K, 0, O, w, err);
    attached_drop (&a);
    return st;
}

static DpsStatus leaks (CheckContext *ctx, DpsError *err)
{
    DPS_TRY (check_heap_watch ((const void *)((const DpsAdapter *)ctx->table)->describe, err));
    DPS_TRY (life (ctx, err));
    int64_t before = alloc_hook_live ();
    for (int i = 0; i < 20; i++)
        DPS_TRY (life (ctx, err));
    int64_t more = alloc_hook_live () - before;
    return more ? dps_fail (err, DPS_ERR_INVALID, "20 adapters left %lld blocks behind", (long long)more) : DPS_OK;
}

static DpsStatus allocations (CheckContext *ctx, DpsError *err)
{
    DPS_TRY (check_heap_watch ((const void *)((const DpsAdapter *)ctx->table)->describe, err));
    DPS_TRY (life (ctx, err));
    for (uint64_t k = 1; k < 2000; k++) {
        DpsError said = DPS_ERROR_INIT;
        int64_t before = alloc_hook_live ();
        alloc_hook_fail_at (k);
        DpsStatus st = life (ctx, &said);
        uint64_t made = alloc_hook_count ();
        alloc_hook_fail_at (0);
        DPS_TRY (check_told ("an adapter without memory", st, &said, err));
        if (st != DPS_OK && st != DPS_ERR_NOMEM)
            return dps_fail (err, DPS_ERR_INVALID, "allocation %llu failed: %s, expected NOMEM", (unsigned long long)k,
                             dps_status_name (st));
        if (alloc_hook_live () != before)
            return dps_fail (err, DPS_ERR_INVALID, "allocation %llu failed, and %lld blocks were left behind", (unsigned long long)k,
                             (long long)(alloc_hook_live () - before));
        if (made < k)
            return DPS_OK;
    }
    return dps_fail (err, DPS_ERR_INVALID, "more than 2000 allocations for one small adapter");
}

static DpsStatus older_host (CheckContext *ctx, DpsError *err)
{
    return check_older_hosts ((const void *)((const DpsAdapter *)ctx->table)->describe, err);
}

#define LOOK(name_, fresh_, variants_)                                                                                                     \
    {                                                                                                                                      \
        .name = #name_, .run = on_attached, .data = &(const Look) { name_##_look, fresh_, variants_ }                                      \
    }

static const CheckCase cases[] = {
    CHECK_CASE (describe, 0, 0),
    CHECK_CASE (parameters, 0, 0),
    LOOK (attach, 0, 1),
    LOOK (match, 0, 0),
    LOOK (identity, 1, 1),
    LOOK (merged, 0, 1),
    LOOK (rows, 0, 1),
    LOOK (reaches, 0, 0),
    LOOK (same_bits, 0, 0),
    CHECK_CASE (two_at_once, 0, 0),
    LOOK (full_graph, 0, 0),
    LOOK (bounds, 0, 0),
    LOOK (init, 1, 0),
    CHECK_CASE (leaks, 0, 0),
    CHECK_CASE (allocations, 0, 0),
    CHECK_CASE (older_host, 0, 0),
};

const CheckSuite check_suite_adapter = {.name = "adapter",
                                        .interface_id = DPS_ADAPTER_ID,
                                        .summary = "an adapter as a map: identity, merge, rows, bounds, memory",
                                        .cases = cases,
                                        .n_cases = sizeof cases / sizeof *cases};
