/* SPDX-License-Identifier: Apache-2.0 */
/*
 * launch_dequantise.c: weights in blocks decoded into numbers, a range or a list of rows at a time; and dora_norm, which reads such weights
 * in pieces.
 */
#include "launch.h"

#include <string.h>

enum { RUN = 32, RUNS_ALONE = 64 /* DPS_RUNS of dequantise.cl where a group is one item */, DORA_ROWS = 1024 };

static const char *const kernels[DPS_QUANT_TYPES] = {
    [DPS_QUANT_Q4_0] = "dps_dequantise_q4_0",   [DPS_QUANT_Q4_1] = "dps_dequantise_q4_1",      [DPS_QUANT_Q5_0] = "dps_dequantise_q5_0",
    [DPS_QUANT_Q5_1] = "dps_dequantise_q5_1",   [DPS_QUANT_Q8_0] = "dps_dequantise_q8_0",      [DPS_QUANT_Q2_K] = "dps_dequantise_q2_k",
    [DPS_QUANT_Q3_K] = "dps_dequantise_q3_k",   [DPS_QUANT_Q4_K] = "dps_dequantise_q4_k",      [DPS_QUANT_Q5_K] = "dps_dequantise_q5_k",
    [DPS_QUANT_Q6_K] = "dps_dequantise_q6_k",   [DPS_QUANT_IQ4_NL] = "dps_dequantise_iq4_nl",  [DPS_QUANT_NF4] = "dps_dequantise_nibbles",
    [DPS_QUANT_FP4] = "dps_dequantise_nibbles", [DPS_QUANT_DYNAMIC8] = "dps_dequantise_bytes", [DPS_QUANT_INT8] = "dps_dequantise_rows",
};

static const DpsPart *find_part (const DpsLaunch *l, const DpsView *w, uint32_t part)
{
    for (uint32_t i = 0; i < w->n_parts; i++)
        if (w->parts[i]->role == l->quants->role[part])
            return w->parts[i];
    return NULL;
}

DpsStatus dps_launch_parts (const DpsLaunch *l, const DpsOpCall *c, const DpsView *w)
{
    DpsQuantised q;
    uint64_t codes, bytes[DPS_QPARTS];
    int on_host = 1;
    for (uint32_t i = 0; i < w->n_parts; i++)
        on_host &= w->parts[i]->host != NULL;
    const DpsPart *block = find_part (l, w, DPS_QPART_BLOCK);
    DpsStatus st = dps_quant_from_view (l->quants, w, on_host, &q, c->err);
    if (st == DPS_OK && block && block->host && block->bytes == sizeof q.form.block)
        memcpy (&q.form.block, block->host, sizeof q.form.block);
    if (st == DPS_OK)
        st = dps_quant_bytes (&q.form, w->shape[0], w->shape[1], &codes, bytes, c->err);
    for (uint32_t p = 0; st == DPS_OK && p < DPS_QPARTS; p++) {
        const DpsPart *part = find_part (l, w, p);
        if (bytes[p] && (!part || !part->buffer))
            st = dps_fail (c->err, DPS_ERR_INVALID, "part %s is not in device memory", dps_quant_part_name ((DpsQuantPart)p));
        else if (bytes[p] && part->bytes != bytes[p] && (!q.form.block || (block && block->host)))
            st = dps_fail (c->err, DPS_ERR_INVALID, "part %s has %llu bytes, expected %llu", dps_quant_part_name ((DpsQuantPart)p),
                           (unsigned long long)part->bytes, (unsigned long long)bytes[p]);
        else if (bytes[p] && dps_launch_bytes (part->dtype) && part->offset % dps_launch_bytes (part->dtype))
            st = dps_fail (c->err, DPS_ERR_INVALID, "part %s begins at byte %llu of its buffer, no whole element",
                           dps_quant_part_name ((DpsQuantPart)p), (unsigned long long)part->offset);
    }
    return st == DPS_OK ? DPS_OK : dps_error_prefix (c->err, "%s %s", c->who, c->name);
}

/* Rows ids[0..n), or [row, row + n), of w, as numbers·scale. */
static DpsStatus decode (const DpsLaunch *l, const DpsView *w, const DpsView *ids, int64_t row, int64_t n, double scale, int rounded,
                         const DpsView *y, DpsError *err)
{
    int64_t cols = w->shape[1], runs = n * ((cols + RUN - 1) / RUN), per = l->lanes == 1 ? RUNS_ALONE : l->lanes;
    int nested = find_part (l, w, DPS_QPART_NESTED_ABSMAX) != NULL;
    DpsView codes = *w;
    DpsKernel k = dps_kernel ("dequantise", kernels[dps_quant_find (l->quants, w->dtype)]);
    codes.dtype = DPS_DTYPE_U8;
    dps_arg_of (&k, &codes);
    dps_arg_part (&k, l, w, DPS_QPART_CODE_BOOK, 4);
    dps_arg_part (&k, l, w, DPS_QPART_ABSMAX, nested ? 1 : 4);
    dps_arg_i32 (&k, nested ? DPS_DTYPE_U8 : DPS_DTYPE_F32);
    dps_arg_part (&k, l, w, DPS_QPART_BLOCK, 4);
    dps_arg_part (&k, l, w, DPS_QPART_NESTED_ABSMAX, 4);
    dps_arg_part (&k, l, w, DPS_QPART_NESTED_CODE_BOOK, 4);
    dps_arg_part (&k, l, w, DPS_QPART_NESTED_OFFSET, 4);
    dps_arg_part (&k, l, w, DPS_QPART_SCALES, 4);
    dps_arg (&k, ids);
    dps_arg_i64 (&k, w->shape[0]);
    dps_arg_i64 (&k, row);
    dps_arg_i64 (&k, n);
    dps_arg_i64 (&k, cols);
    dps_arg_f32 (&k, scale);
    dps_arg_i32 (&k, rounded);
    dps_arg (&k, y);
    return dps_launch_rows_of (l, &k, (runs + per - 1) / per, err);
}

DpsStatus dps_launch_dequantise (const DpsLaunch *l, const DpsView *w, int64_t row, int64_t n, int rounded, const DpsView *y, DpsError *err)
{
    return decode (l, w, NULL, row, n, 1, rounded, y, err);
}

DpsStatus dps_launch_dequantise_ids (const DpsLaunch *l, const DpsView *w, const DpsView *ids, double scale, const DpsView *y,
                                     DpsError *err)
{
    return decode (l, w, ids, 0, ids->shape[0], scale, 0, y, err);
}

/* norm = ‖W + s·B·A‖ a row; a quantised W in pieces of DORA_ROWS rows. */

static DpsStatus dora_check (const DpsLaunch *l, DpsOpCall *c)
{
    (void)l;
    if (c->out[0] && !c->in[3])
        return dps_fail (c->err, DPS_ERR_INVALID, "%s dora_norm: v = m/norm is wanted, but m is missing", c->who);
    if (c->in[0]->layout != DPS_LAYOUT_ROW_MAJOR)
        return dps_fail (c->err, DPS_ERR_UNSUPPORTED, "%s dora_norm: W is packed; rows are expected", c->who);
    return DPS_OK;
}

/* Elements [row, …) of a vector or rows of a matrix; *v is left NULL. */
static const DpsView *from_row (const DpsView *v, int64_t row, DpsView *room)
{
    if (!v)
        return NULL;
    *room = *v;
    room->offset += (uint64_t)(row * (v->rank > 1 ? v->shape[1] : 1)) * dps_launch_bytes (v->dtype);
    return room;
}

static DpsStatus dora_rows (const DpsLaunch *l, DpsOpCall *c, const DpsView *w, int64_t row, int64_t n)
{
    DpsView b, m, v, norm;
    DpsKernel k = dps_kernel ("dora", "dps_dora_norm");
    dps_arg (&k, w);
    dps_arg (&k, c->in[1]);
    dps_arg (&k, from_row (c->in[2], row, &b));
    dps_arg (&k, from_row (c->in[3], row, &m));
    dps_arg (&k, from_row (c->out[0], row, &v));
    dps_arg (&k, from_row (c->out[1], row, &norm));
    dps_arg_i64 (&k, c->dim['K']);
    dps_arg_i32 (&k, c->dim['r']);
    dps_arg_f32 (&k, dps_opcall_f (c, 0));
    return dps_launch_rows_of (l, &k, n, c->err);
}

static DpsStatus dora_norm (const DpsLaunch *l, DpsOpCall *c)
{
    int64_t rows = c->dim['O'], k = c->dim['K'];
    if (!dps_launch_quantised (l, c->in[0]))
        return dora_rows (l, c, c->in[0], 0, rows);
    for (int64_t row = 0; row < rows; row += DORA_ROWS) {
        int64_t n = rows - row < DORA_ROWS ? rows - row : DORA_ROWS, shape[2] = {n, k};
        DpsView w;
        DPS_TRY (dps_launch_temp (l, DPS_SCRATCH_OP, DPS_DTYPE_F32, 2, shape, &w, c->err));
        DPS_TRY (dps_launch_dequantise (l, c->in[0], row, n, 0, &w, c->err));
        DPS_TRY (dora_rows (l, c, &w, row, n));
    }
    return DPS_OK;
}

const DpsLaunchOp dps_launch_dora[] = {
    {"dora_norm", "W:O,K:weight A:r,K B:O,r ?m:O", "?v:O ?norm:O", dora_check, dora_norm},
    {NULL, NULL, NULL, NULL, NULL},
};
