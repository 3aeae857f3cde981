/* SPDX-License-Identifier: Apache-2.0 */
/* suite_adapter_contract.c: what an adapter says of itself and its parameters, what it reads and writes and no byte more, memory, an older host. */
#include <math.h>
#include <string.h>

#include "check/alloc_hook.h"
#include "check/attached.h"
#include "check/pages.h"

static DpsStatus describe (CheckContext *ctx, DpsError *err)
{
    const DpsAdapter *table = ctx->table;
    const DpsAdapterInfo *info = table->describe ();
    if (!info || info != table->describe () || !check_is_text (info->name) || !check_is_text (info->summary) ||
        !check_is_text (info->reference))
        return dps_fail (err, DPS_ERR_INVALID,
                         "describe: name, summary or reference is missing, or the pointer changes: it is static storage");
    DPS_TRY (check_own_name (ctx, info->name, err));
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
        double y[MOST_Y];
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
    const int64_t shapes[][4] = {{O, K}, {1, 1}, {0, 0}, {7}, {3, 4, 5}, {2, 3, 4, 5}};
    static const uint32_t ranks[] = {2, 2, 2, 1, 3, 4};
    if (!a->table->match)
        return check_skip (err, "no match: any matrix can be adapted");
    for (size_t i = 0; i < sizeof ranks / sizeof *ranks; i++)
        for (uint32_t dtype = 0; dtype <= DPS_DTYPE_BOOL + 90; dtype += dtype < DPS_DTYPE_BOOL ? 1 : 90) {
            DpsError said = DPS_ERROR_INIT;
            DpsStatus st = a->table->match (a->self, dps_str (attached_name), shapes[i], ranks[i], dtype, &said);
            if (st != DPS_OK && st != DPS_ERR_UNSUPPORTED)
                return dps_fail (err, DPS_ERR_INVALID, "match answers %s, expected OK or UNSUPPORTED", dps_status_name (st));
            DPS_TRY (check_told ("match", st, &said, err));
        }
    return DPS_OK;
}

/* Memory that ends at a forbidden page, then begins behind one; parameters cannot be written. What is touched besides is a crash in this case. */
static DpsStatus bounds_look (Attached *a, DpsError *err)
{
    if (!a->table->merge)
        return check_skip (err, "the adapter cannot be merged");
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
    if (!a->has_own)
        return check_skip (err, "no parameter starts as the adapter says");
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

static DpsStatus life (const CheckContext *ctx, DpsError *err)
{
    static Attached a;
    static float w[AREA];
    char name[96];
    double y[MOST_Y];
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

static const CheckCase cases[] = {
    CHECK_CASE (describe, 0, 0), CHECK_CASE (parameters, 0, 0),  ATTACHED_LOOK (attach, 0, 1),
    ATTACHED_LOOK (match, 0, 0), ATTACHED_LOOK (init, 1, 0),     ATTACHED_LOOK (bounds, 0, 0),
    CHECK_CASE (leaks, 0, 0),    CHECK_CASE (allocations, 0, 0), CHECK_CASE (older_host, 0, 0),
};

const CheckSuite check_suite_adapter_contract = {.name = "adapter.contract",
                                                 .interface_id = DPS_ADAPTER_ID,
                                                 .summary = "what an adapter says of itself, its bounds, its memory",
                                                 .cases = cases,
                                                 .n_cases = sizeof cases / sizeof *cases};
