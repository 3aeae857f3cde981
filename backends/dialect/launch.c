/* SPDX-License-Identifier: Apache-2.0 */
#include "launch.h"

#include <string.h>

static const DpsLaunchOp *const families[] = {
    dps_launch_elementwise, dps_launch_norm,      dps_launch_rows,  dps_launch_optim,    dps_launch_linear,
    dps_launch_attention,   dps_launch_positions, dps_launch_gates, dps_launch_logprobs, dps_launch_dora,
};
enum { FAMILIES = sizeof families / sizeof *families, MAX_OPS = 96 };

static struct {
    uint32_t id;
    const DpsLaunchOp *op;
} ops[MAX_OPS];
static int n_ops;

DpsStatus dps_launch_init (uint32_t (*intern) (DpsStr), DpsError *err)
{
    n_ops = 0;
    for (int f = 0; f < FAMILIES; f++)
        for (const DpsLaunchOp *op = families[f]; op->name; op++) {
            uint32_t id = intern (dps_str (op->name));
            if (!id || n_ops == MAX_OPS)
                return dps_fail (err, DPS_ERR_LIMIT, "no room for op '%s'", op->name);
            ops[n_ops].id = id;
            ops[n_ops++].op = op;
        }
    return DPS_OK;
}

uint32_t dps_launch_bytes (uint32_t dtype)
{
    static const uint8_t bytes[] = {
#define DPS_X(name, number, text, size) [number] = size,
        DPS_DTYPES (DPS_X)
#undef DPS_X
    };
    return dtype < sizeof bytes ? bytes[dtype] : 0;
}

int dps_launch_quantised (const DpsLaunch *l, const DpsView *v) { return dps_quant_find (l->quants, v->dtype) != DPS_QUANT_NONE; }

/* What kernels need of any operand: whole rows in device memory, at a whole element, in a dtype they can read. */
static DpsStatus check_operand (const DpsLaunch *l, const DpsOpCall *c, const DpsView *v, const char *side, uint32_t i, int any, int dry)
{
    uint32_t bytes = dps_launch_bytes (v->dtype);
    if (v->stride)
        for (int64_t expected = 1, k = v->rank; k-- > 0; expected *= v->shape[k])
            if (v->stride[k] != expected && v->shape[k] > 1)
                return dps_fail (c->err, DPS_ERR_UNSUPPORTED, "%s %s: %s %u is strided; contiguous rows are expected", c->who, c->name,
                                 side, i);
    if (v->dtype == DPS_DTYPE_F64 && !any)
        return dps_fail (c->err, DPS_ERR_DTYPE, "%s %s: %s %u is f64; its kernels compute in f32", c->who, c->name, side, i);
    if (dry || dps_view_count (v) == 0)
        return DPS_OK;
    if (!v->buffer)
        return dps_fail (c->err, DPS_ERR_INVALID, "%s %s: %s %u is not in device memory", c->who, c->name, side, i);
    if (bytes && v->offset % bytes)
        return dps_fail (c->err, DPS_ERR_INVALID, "%s %s: %s %u begins at byte %llu of its buffer, no whole element of %u", l->who, c->name,
                         side, i, (unsigned long long)v->offset, bytes);
    return dps_launch_quantised (l, v) ? dps_launch_parts (l, c, v) : DPS_OK;
}

static DpsStatus check_operands (const DpsLaunch *l, const DpsLaunchOp *op, DpsOpCall *c, int dry)
{
    DPS_TRY (dps_opcall_check (c, op->in, op->out, 0, 0));
    for (uint32_t i = 0; i < c->op->n_in; i++)
        if (c->in[i])
            DPS_TRY (check_operand (l, c, c->in[i], "input", i, strstr (op->in, "any") != NULL, dry));
    for (uint32_t i = 0; i < c->op->n_out; i++)
        if (c->out[i])
            DPS_TRY (check_operand (l, c, c->out[i], "output", i, strstr (op->out, "any") != NULL, dry));
    return op->check ? op->check (l, c) : DPS_OK;
}

DpsStatus dps_launch_run (const DpsLaunch *l, const DpsOp *op, uint32_t flags, DpsError *err)
{
    int at = 0, dry = (flags & DPS_RUN_DRY) != 0;
    while (at < n_ops && ops[at].id != op->id)
        at++;
    if (at == n_ops)
        return dps_fail (err, DPS_ERR_UNSUPPORTED, "%s: op number %u has no kernel", l->who, op->id);
    DpsOpCall c = {.who = l->who, .name = ops[at].op->name, .op = op, .err = err, .quants = l->quants};
    DPS_TRY (check_operands (l, ops[at].op, &c, dry));
    return dry ? DPS_OK : ops[at].op->run (l, &c);
}

DpsKernel dps_kernel (const char *family, const char *name)
{
    return (DpsKernel){.family = family, .name = name, .groups = {1, 1, 1}, .local = {1, 1, 1}};
}

static void add (DpsKernel *k, DpsKernelArg arg)
{
    if (k->n_args < DPS_KERNEL_ARGS)
        k->args[k->n_args] = arg;
    k->n_args++; /* too many: dps_launch_grid refuses */
}

void dps_arg_of (DpsKernel *k, const DpsView *v)
{
    uint32_t bytes = v ? dps_launch_bytes (v->dtype) : 0;
    add (k, (DpsKernelArg){DPS_ARG_BUFFER, {.buffer = v ? v->buffer : NULL}});
    dps_arg_i64 (k, v ? (int64_t)(v->offset / (bytes ? bytes : 1)) : 0);
}

void dps_arg (DpsKernel *k, const DpsView *v)
{
    dps_arg_of (k, v);
    dps_arg_i32 (k, v ? v->dtype : 0);
}

void dps_arg_part (DpsKernel *k, const DpsLaunch *l, const DpsView *v, DpsQuantPart part, uint32_t bytes)
{
    const DpsPart *found = NULL;
    for (uint32_t i = 0; i < v->n_parts; i++)
        if (v->parts[i]->role == l->quants->role[part])
            found = v->parts[i];
    add (k, (DpsKernelArg){DPS_ARG_BUFFER, {.buffer = found ? found->buffer : NULL}});
    dps_arg_i64 (k, found ? (int64_t)(found->offset / bytes) : 0);
}

void dps_arg_i32 (DpsKernel *k, int64_t value) { add (k, (DpsKernelArg){DPS_ARG_I32, {.i32 = (int32_t)value}}); }
void dps_arg_i64 (DpsKernel *k, int64_t value) { add (k, (DpsKernelArg){DPS_ARG_I64, {.i64 = value}}); }
void dps_arg_f32 (DpsKernel *k, double value) { add (k, (DpsKernelArg){DPS_ARG_F32, {.f32 = (float)value}}); }

DpsStatus dps_launch_grid (const DpsLaunch *l, const DpsKernel *k, DpsError *err)
{
    if (k->n_args > DPS_KERNEL_ARGS)
        return dps_fail (err, DPS_ERR_INTERNAL, "%s: %s has %u arguments, at most %d", l->who, k->name, k->n_args, DPS_KERNEL_ARGS);
    if (k->groups[0] <= 0 || k->groups[1] <= 0 || k->groups[2] <= 0)
        return DPS_OK;
    return l->launch (l->ctx, k, err);
}

DpsStatus dps_launch_rows_of (const DpsLaunch *l, DpsKernel *k, int64_t rows, DpsError *err)
{
    k->groups[0] = rows;
    k->local[0] = l->lanes;
    return dps_launch_grid (l, k, err);
}

DpsStatus dps_launch_flat (const DpsLaunch *l, DpsKernel *k, int64_t n, DpsError *err)
{
    int64_t block = l->lanes == 1 ? 4096 : l->lanes * 32; /* DPS_BLOCK */
    return dps_launch_rows_of (l, k, (n + block - 1) / block, err);
}

DpsStatus dps_launch_temp (const DpsLaunch *l, uint32_t slot, uint32_t dtype, uint32_t rank, const int64_t *shape, DpsView *out,
                           DpsError *err)
{
    uint64_t bytes = dps_launch_bytes (dtype);
    for (uint32_t i = 0; i < rank; i++)
        bytes *= (uint64_t)shape[i];
    DPS_TRY (l->scratch (l->ctx, slot, bytes ? bytes : 1, out, err));
    out->dtype = dtype;
    out->rank = rank;
    out->shape = shape;
    return DPS_OK;
}

DpsView dps_launch_rows_view (const DpsView *v, int64_t row, int64_t n, int64_t shape[2])
{
    DpsView part = *v;
    shape[0] = n;
    shape[1] = v->shape[1];
    part.shape = shape;
    part.stride = NULL;
    part.offset += (uint64_t)(row * v->shape[1]) * dps_launch_bytes (v->dtype);
    part.host = NULL;
    return part;
}

DpsStatus dps_launch_indices (const DpsOpCall *c, const DpsView *v, const char *what, int64_t limit)
{
    const int32_t *at = v->host;
    for (int64_t i = 0; at && i < v->shape[0]; i++)
        if (at[i] < 0 || at[i] >= limit)
            return dps_fail (c->err, DPS_ERR_INVALID, "%s %s: %s[%lld] is %d, not one of %lld", c->who, c->name, what, (long long)i, at[i],
                             (long long)limit);
    return DPS_OK;
}

DpsStatus dps_launch_roots (const DpsOpCall *c, const DpsView *roots, int64_t rows)
{
    const int32_t *at = roots->host;
    if (roots->shape[0] < 1)
        return dps_fail (c->err, DPS_ERR_INVALID, "%s %s: roots is empty, expected at least the offset 0", c->who, c->name);
    for (int64_t i = 0, before = 0; at && i < roots->shape[0]; before = at[i++])
        if (at[i] < before || at[i] > rows)
            return dps_fail (c->err, DPS_ERR_INVALID, "%s %s: roots[%lld] is %d, expected %lld to %lld", c->who, c->name, (long long)i,
                             at[i], (long long)before, (long long)rows);
    return DPS_OK;
}
