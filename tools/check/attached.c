/* SPDX-License-Identifier: Apache-2.0 */
#include "check/attached.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "base/rng.h"

enum { REPEATS = 1 << 16 };

int64_t O = SHORT, K = LONG;

const char attached_name[] = "model.layers.0.self_attn.q_proj";

int64_t attached_elements (const DpsAdapterParam *p) { return p->shape[0] * (p->rank == 2 ? p->shape[1] : 1); }

static DpsStatus create (const CheckContext *ctx, size_t variant, void **out, char *name, size_t cap, DpsError *err)
{
    const DpsAdapter *table = ctx->table;
    const DpsAdapterInfo *info = table->describe ();
    double num[DPS_PARAMS_MAX];
    DpsStr str[DPS_PARAMS_MAX];
    CheckArgs args;
    *out = NULL;
    snprintf (name, cap, "defaults");
    DpsStatus st = check_args_open (ctx, &args, err);
    if (st == DPS_OK && variant && !check_args_variant (info->params, info->n_params, variant - 1, &args))
        st = dps_fail (err, DPS_ERR_NOT_FOUND, "no such variant");
    if (st == DPS_OK && variant)
        snprintf (name, cap, "%s: %g%.*s", args.name, args.value.num, (int)args.value.str.len,
                  args.value.str.len ? args.value.str.ptr : "");
    if (st == DPS_OK)
        st = dps_params_resolve (info->name, info->params, info->n_params, check_args_lookup, &args, num, str, err);
    if (st == DPS_OK)
        st = table->create (num, str, out, err);
    check_args_close (&args);
    return st;
}

DpsStatus attached_again (Attached *a, DpsError *err)
{
    a->n = CHECK_MAX_PARAMS;
    for (uint32_t i = 0; i < CHECK_MAX_PARAMS; i++) {
        a->layout[i] = (DpsAdapterParam){.size = sizeof *a->layout};
        a->list[i] = &a->layout[i];
    }
    DPS_TRY (a->table->attach (a->self, dps_str (attached_name), O, K, a->list, &a->n, err));
    for (uint32_t i = 0; i < a->n; i++)
        if (a->n > CHECK_MAX_PARAMS || a->layout[i].rank < 1 || a->layout[i].rank > 2 || a->layout[i].shape[0] < 1 ||
            (a->layout[i].rank == 2 && a->layout[i].shape[1] < 1) || attached_elements (&a->layout[i]) > 1 << 24)
            return dps_fail (err, DPS_ERR_INVALID, "attach gives %u parameters; number %u is of rank %u with shape (%lld, %lld)", a->n, i,
                             a->layout[i].rank, (long long)a->layout[i].shape[0], (long long)a->layout[i].shape[1]);
    return DPS_OK;
}

static DpsStatus read_rows (void *ctx, int64_t row, int64_t rows, float *dst, DpsError *err)
{
    Attached *a = ctx;
    if (row < 0 || rows < 0 || row > O || rows > O - row)
        return dps_fail (err, DPS_ERR_SHAPE, "rows %lld to %lld of a weight of %lld rows were read", (long long)row,
                         (long long)(row + rows), (long long)O);
    memcpy (dst, a->w + row * K, (size_t)(rows * K) * sizeof *dst);
    return DPS_OK;
}

DpsAdapterRows attached_rows (Attached *a)
{
    return (DpsAdapterRows){.size = sizeof (DpsAdapterRows), .ctx = a, .out_features = O, .in_features = K, .read = read_rows};
}

/* As a new run starts (fresh), or anywhere. */
DpsStatus attached_fill (Attached *a, uint64_t seed, int fresh, DpsError *err)
{
    for (uint32_t p = 0; p < a->n; p++) {
        const DpsAdapterParam *of = &a->layout[p];
        if (!a->values[p] && !(a->values[p] = dps_calloc ((size_t)attached_elements (of), sizeof **a->values)))
            return dps_fail (err, DPS_ERR_NOMEM, "check: out of memory");
        a->has_own |= of->init == DPS_INIT_OWN;
        for (int64_t i = 0; i < attached_elements (of); i++) {
            if (i >= REPEATS) { /* of the largest ranks, for time's sake */
                a->values[p][i] = a->values[p][i - REPEATS];
                continue;
            }
            double normal = dps_rng_normal (seed, 10 + p, (uint64_t)i), norm = 0;
            for (int64_t k = 0; of->init == DPS_INIT_WEIGHT_NORM && k < K; k++)
                norm += (double)a->w[i % O * K + k] * (double)a->w[i % O * K + k];
            double first = of->init == DPS_INIT_ZERO              ? 0
                           : of->init == DPS_INIT_NORMAL          ? of->init_scale * normal
                           : of->init == DPS_INIT_WEIGHT_NORM     ? sqrt (norm)
                           : of->init == DPS_INIT_KAIMING_UNIFORM ? (2 * dps_rng_uniform (seed, 20 + p, (uint64_t)i) - 1) / sqrt ((double)K)
                                                                  : 0;
            a->values[p][i] = (float)(fresh ? first : of->init == DPS_INIT_WEIGHT_NORM ? first + 0.2 * normal : 0.3 * normal);
        }
        const DpsAdapterRows w = attached_rows (a);
        if (fresh && of->init == DPS_INIT_OWN)
            DPS_TRY (a->table->init (a->self, dps_str (attached_name), p, &w, a->values[p], err));
    }
    return DPS_OK;
}

void attached_drop (Attached *a)
{
    for (uint32_t i = 0; i < CHECK_MAX_PARAMS; i++)
        dps_free (a->values[i]);
    a->table->destroy (a->self);
    *a = (Attached){.table = a->table};
}

DpsStatus attached_begin (const CheckContext *ctx, size_t variant, int fresh, Attached *a, char *name, size_t cap, DpsError *err)
{
    *a = (Attached){.ctx = ctx, .table = ctx->table};
    for (int64_t i = 0; i < O * K; i++)
        a->w[i] = (float)dps_rng_normal (ctx->seed, 1, (uint64_t)i) / 6;
    for (int64_t i = 0; i < N * K; i++)
        a->x[i] = dps_rng_normal (ctx->seed, 2, (uint64_t)i);
    DPS_TRY (create (ctx, variant, &a->self, name, cap, err));
    DpsStatus st = attached_again (a, err);
    if (st == DPS_OK)
        st = attached_fill (a, ctx->seed, fresh, err);
    if (st != DPS_OK)
        attached_drop (a);
    return st;
}

/* Rows [first, first+rows) of x through forward, y (rows, O). b: prepared by the caller, freed here. */
DpsStatus attached_forward_with (const Attached *a, struct DpsBuilder *b, int64_t first, int64_t rows, double *y, DpsError *err)
{
    DpsNode params[CHECK_MAX_PARAMS], out = -1;
    b->w = check_node_f32 (b, O, K, a->w);
    DpsNode x = check_node (b, rows, K, a->x + first * K);
    for (uint32_t i = 0; i < a->n; i++) {
        int vector = a->layout[i].rank == 1;
        params[i] = check_node_f32 (b, vector ? 1 : a->layout[i].shape[0], a->layout[i].shape[vector ? 0 : 1], a->values[i]);
    }
    DpsStatus st = a->table->forward (a->self, &check_builder_ops, b, x, params, a->n, &out, err);
    if (st == DPS_OK && b->misuse)
        st = dps_fail (err, DPS_ERR_SHAPE, "forward asks the graph for %s", b->misuse);
    else if (st == DPS_OK && (out < 0 || out >= b->n || b->nodes[out].rows != rows || b->nodes[out].cols != O))
        st = dps_fail (err, DPS_ERR_SHAPE, "forward's y is not a (%lld, %lld) matrix", (long long)rows, (long long)O);
    else if (st == DPS_OK)
        memcpy (y, b->nodes[out].v, (size_t)(rows * O) * sizeof *y);
    check_builder_free (b);
    return st;
}

DpsStatus attached_forward (const Attached *a, double *y, DpsError *err)
{
    struct DpsBuilder b = {.n = 0};
    return attached_forward_with (a, &b, 0, N, y, err);
}

static int64_t largest_param (const Attached *a)
{
    int64_t most = 0;
    for (uint32_t i = 0; i < a->n; i++)
        most = attached_elements (&a->layout[i]) > most ? attached_elements (&a->layout[i]) : most;
    return most;
}

static DpsStatus one_shape (CheckContext *ctx, DpsError *err)
{
    static Attached a;
    const AttachedLook *how = ctx->test->data;
    for (size_t v = 0; v == 0 || how->variants; v++) {
        char name[96];
        DpsStatus st = attached_begin (ctx, v, how->fresh, &a, name, sizeof name, err);
        if (st == DPS_ERR_NOT_FOUND && v)
            return DPS_OK;
        if (st != DPS_OK && v)
            continue; /* refused: what `parameters` looks at */
        DPS_TRY (st);
        /* the most a rank may be: `parameters` runs it once, and that is enough */
        st = v && largest_param (&a) > REPEATS ? DPS_OK : how->look (&a, err);
        attached_drop (&a);
        if (st != DPS_OK && st != CHECK_SKIPPED)
            return dps_error_prefix (err, "%s", name);
        DPS_TRY (st);
    }
    return DPS_OK;
}

/* A wide weight, and a tall one. */
DpsStatus attached_case (CheckContext *ctx, DpsError *err)
{
    DPS_TRY (one_shape (ctx, err));
    O = LONG, K = SHORT;
    return one_shape (ctx, err) == DPS_OK ? DPS_OK : dps_error_prefix (err, "a weight of %d rows and %d columns", LONG, SHORT);
}
