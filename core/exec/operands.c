/* SPDX-License-Identifier: Apache-2.0 */
#include "exec/operands.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

const char *dps__operand_text (const DpsOp *op, uint32_t i, char *text, size_t cap)
{
    const DpsView *v = dps_op_operand (op, i);
    int out = i >= op->n_in;
    size_t n = (size_t)snprintf (text, cap, "%s[%u]", out ? "out" : "in", (unsigned)(out ? i - op->n_in : i));
    if (!v || n + 60 > cap)
        return text;
    const char *dtype = dps_intern_name (v->dtype); /* "" when unknown */
    n += (size_t)snprintf (text + n, cap - n, " %.16s (", *dtype ? dtype : "?");
    for (uint32_t k = 0; k < v->rank && k < 4 && v->shape && n + 30 < cap; k++)
        n += (size_t)snprintf (text + n, cap - n, "%s%lld", k ? "," : "", (long long)v->shape[k]);
    snprintf (text + n, cap - n, ")%s", v->layout >= DPS_LAYOUT_PACKED ? " packed" : "");
    return text;
}

DpsOpCode dps__op_code (const uint32_t ids[DPS_OP_COUNT], uint32_t id)
{
    int i = 0;
    while (i < DPS_OP_COUNT && ids[i] != id)
        i++;
    return (DpsOpCode)i;
}

int dps__op_keeps_output (DpsOpCode op)
{
    switch (op) {
    case DPS_OP_mul_cols_dv:
    case DPS_OP_embed_dw:
    case DPS_OP_rms_norm_dw:
    case DPS_OP_linear_dw:
    case DPS_OP_bias_db:
    case DPS_OP_token_logprobs_dw:
    case DPS_OP_put_rows:
    case DPS_OP_adamw_step:
    case DPS_OP_sgd_step: return 1;
    default: return 0;
    }
}

int dps__op_in_place (DpsOpCode op, uint32_t in)
{
    if ((op != DPS_OP_adamw_step && op != DPS_OP_sgd_step) || in == 1) /* 1: the gradient */
        return -1;
    return in == 0 ? 0 : (int)in - 1;
}

int dps__op_may_be_nan (DpsOpCode op)
{
    return op == DPS_OP_log || op == DPS_OP_sqrt || op == DPS_OP_div || op == DPS_OP_put_rows || op == DPS_OP_COUNT;
}

/* The matrix of a block format: its bytes follow from the whole, not from an element. */
static const char *quantised_bytes (const DpsQuantNames *quants, const DpsView *v, uint64_t *out)
{
    DpsQuantised q;
    uint64_t parts[DPS_QPARTS];
    if (v->rank != 2 || v->stride || dps_quant_from_view (quants, v, 0, &q, NULL) != DPS_OK ||
        dps_quant_bytes (&q.form, v->shape[0], v->shape[1], out, parts, NULL) != DPS_OK)
        return "does not fit its block format: parts or shape";
    return NULL;
}

const char *dps__view_bytes (const DpsQuantNames *quants, const DpsView *v, uint64_t *out)
{
    uint64_t size = dps_dtype_bytes (v->dtype), n = 1, last = 0;
    *out = DPS_BYTES_UNKNOWN;
    if (v->rank > 4)
        return "has a rank above 4";
    if (v->rank && !v->shape)
        return "has no shape";
    for (uint32_t i = 0; i < v->rank; i++) {
        uint64_t dim = v->shape[i] < 0 ? UINT64_MAX : (uint64_t)v->shape[i], step;
        if (v->shape[i] < 0 || __builtin_mul_overflow (n, dim, &n) || n > (uint64_t)INT64_MAX / 16)
            return "has a shape that is negative or too large";
        if (v->stride && (v->stride[i] < 0 || __builtin_mul_overflow (dim ? dim - 1 : 0, (uint64_t)v->stride[i], &step) ||
                          __builtin_add_overflow (last, step, &last) || last > (uint64_t)INT64_MAX / 16))
            return "has a stride that is negative or too large";
    }
    if (v->layout >= DPS_LAYOUT_PACKED)
        return NULL;
    if (dps_quant_find (quants, v->dtype) != DPS_QUANT_NONE)
        return quantised_bytes (quants, v, out);
    if (!size)
        return *dps_intern_name (v->dtype) ? NULL : "has a dtype number that nobody was given";
    *out = n ? (v->stride ? last + 1 : n) * size : 0;
    return NULL;
}

/* Index operands: op, input, kind, and the dimension below which its values lie: operand (outputs from -1 down) and axis. */
static const struct {
    DpsOpCode op;
    uint32_t slot;
    DpsIndexKind kind;
    int operand, axis;
    int keys; /* operand whose rows are keys, or 0 */
} indices[] = {
    {DPS_OP_embed, 1, DPS_INDEX_TOKENS, 0, 0, 0},
    {DPS_OP_embed_dw, 1, DPS_INDEX_TOKENS, -1, 0, 0},
    {DPS_OP_embed_dw, 2, DPS_INDEX_ROOTS, 0, 0, 0},
    {DPS_OP_token_logprobs, 2, DPS_INDEX_TOKENS, 1, 0, 0},
    {DPS_OP_row_logprobs, 1, DPS_INDEX_TOKENS, 0, 1, 0},
    {DPS_OP_token_logprobs_dw, 2, DPS_INDEX_TOKENS, 1, 0, 0},
    {DPS_OP_token_logprobs_dw, 4, DPS_INDEX_ROOTS, 0, 0, 0},
    {DPS_OP_one_hot, 0, DPS_INDEX_TOKENS, -1, 1, 0},
    {DPS_OP_gather_rows, 1, DPS_INDEX_ROWS, 0, 0, 0},
    {DPS_OP_scatter_rows, 1, DPS_INDEX_ROWS, -1, 0, 0},
    {DPS_OP_put_rows, 1, DPS_INDEX_ROWS, -1, 0, 0},
    {DPS_OP_mul_cols_dv, 2, DPS_INDEX_ROOTS, 0, 0, 0},
    {DPS_OP_rms_norm_dw, 3, DPS_INDEX_ROOTS, 0, 0, 0},
    {DPS_OP_linear_dw, 2, DPS_INDEX_ROOTS, 0, 0, 0},
    {DPS_OP_bias_db, 1, DPS_INDEX_ROOTS, 0, 0, 0},
    {DPS_OP_rope, 1, DPS_INDEX_SEGMENTS, 0, 0, 0},
    {DPS_OP_rope_angles, 0, DPS_INDEX_SEGMENTS, -1, 0, 0},
    {DPS_OP_segment_mask, 0, DPS_INDEX_SEGMENTS, -1, 0, 0},
    {DPS_OP_attention, 3, DPS_INDEX_SEGMENTS, 0, 0, 1},
    {DPS_OP_attention_bwd, 6, DPS_INDEX_SEGMENTS, 0, 0, 1},
};

static int64_t dimension (const DpsOp *o, int operand, int axis)
{
    uint32_t i = operand < 0 ? o->n_in + (uint32_t)(-1 - operand) : (uint32_t)operand;
    const DpsView *v = i < o->n_in + o->n_out ? dps_op_operand (o, i) : NULL;
    return v && (uint32_t)axis < v->rank ? v->shape[axis] : 0;
}

DpsIndexKind dps__op_index (DpsOpCode op, const DpsOp *o, uint32_t slot, int64_t *out_limit, int64_t *out_keys)
{
    for (size_t i = 0; i < sizeof indices / sizeof *indices; i++)
        if (indices[i].op == op && indices[i].slot == slot) {
            *out_limit = dimension (o, indices[i].operand, indices[i].axis);
            *out_keys = indices[i].keys ? dimension (o, indices[i].keys, 0) : -1;
            return indices[i].kind;
        }
    return DPS_INDEX_NONE;
}

static DpsStatus check_segments (const DpsView *v, int64_t rows, int64_t keys, DpsError *err)
{
    int64_t n = v->rank == 2 ? v->shape[0] : 0, stride = n ? v->shape[1] : 0;
    if (n && stride < (int64_t)sizeof (DpsSegment))
        return dps_fail (err, DPS_ERR_INVALID, "a segment of %lld bytes, expected %zu or more", (long long)stride, sizeof (DpsSegment));
    for (int64_t i = 0; i < n; i++) {
        DpsSegment s;
        memcpy (&s, (const char *)v->host + i * stride, sizeof s);
        if (s.q_start < 0 || s.q_len < 0 || s.q_start > rows - s.q_len)
            return dps_fail (err, DPS_ERR_INVALID, "segment %lld has query rows %d + %d, expected within %lld", (long long)i, s.q_start,
                             s.q_len, (long long)rows);
        if (keys >= 0 && (s.kv_start < 0 || s.kv_len < 0 || s.kv_start > keys - s.kv_len))
            return dps_fail (err, DPS_ERR_INVALID, "segment %lld has key rows %d + %d, expected within %lld", (long long)i, s.kv_start,
                             s.kv_len, (long long)keys);
        if (s.parent < -1 || s.parent >= i)
            return dps_fail (err, DPS_ERR_INVALID, "segment %lld has parent %d, expected an earlier one or -1", (long long)i, s.parent);
    }
    return DPS_OK;
}

DpsStatus dps__index_check (DpsIndexKind kind, const DpsView *v, int64_t limit, int64_t keys, DpsError *err)
{
    if (kind == DPS_INDEX_SEGMENTS)
        return check_segments (v, limit, keys, err);
    int64_t before = 0;
    for (int64_t i = 0, n = dps_view_count (v); i < n; i++) {
        int64_t x = v->dtype == DPS_DTYPE_I64 ? ((const int64_t *)v->host)[i] : ((const int32_t *)v->host)[i];
        if (kind == DPS_INDEX_ROOTS ? x < before || x > limit : x < 0 || x >= limit)
            return dps_fail (err, DPS_ERR_INVALID, "element %lld is %lld, expected %s %lld", (long long)i, (long long)x,
                             kind == DPS_INDEX_ROOTS ? "offsets that do not fall, at most" : "0 to below", (long long)limit);
        before = x;
    }
    return DPS_OK;
}

uint64_t dps__bytes_hash (uint64_t key, const void *data, uint64_t n)
{
    const unsigned char *p = data;
    uint64_t h[4] = {key ^ n, ~key, key * 3 + 1, key ^ 0x9e3779b97f4a7c15u}, w[4];
    for (; n >= sizeof w; n -= sizeof w, p += sizeof w) {
        memcpy (w, p, sizeof w);
        for (int i = 0; i < 4; i++) {
            h[i] = (h[i] ^ w[i]) * 0x9fb21c651e98df25u;
            h[i] ^= h[i] >> 32;
        }
    }
    memset (w, 0, sizeof w);
    if (n)
        memcpy (w, p, n);
    uint64_t all = 0;
    for (int i = 0; i < 4; i++) {
        all = (all ^ h[i] ^ w[i]) * 0xd6e8feb86659fd93u;
        all ^= all >> 29;
    }
    return all;
}

double dps__element (uint32_t dtype, const void *x, int64_t i)
{
    switch (dtype) {
    case DPS_DTYPE_F32: return (double)((const float *)x)[i];
    case DPS_DTYPE_F64: return ((const double *)x)[i];
    case DPS_DTYPE_I32: return ((const int32_t *)x)[i];
    case DPS_DTYPE_I64: return (double)((const int64_t *)x)[i];
    case DPS_DTYPE_BF16: {
        uint32_t bits = (uint32_t)((const uint16_t *)x)[i] << 16;
        float f;
        memcpy (&f, &bits, sizeof f);
        return (double)f;
    }
    case DPS_DTYPE_F16: {
        uint16_t bits = ((const uint16_t *)x)[i];
        int exponent = bits >> 10 & 31, fraction = bits & 1023;
        double f = exponent == 31 ? (fraction ? (double)NAN : (double)INFINITY)
                   : exponent     ? ldexp (1024 + fraction, exponent - 25)
                                  : ldexp (fraction, -24);
        return bits & 0x8000 ? -f : f;
    }
    default: return ((const unsigned char *)x)[i];
    }
}

static uint32_t bits_of (float f)
{
    uint32_t bits;
    memcpy (&bits, &f, sizeof bits);
    return bits;
}

static uint16_t to_bf16 (float f)
{
    uint32_t bits = bits_of (f);
    return f != f ? 0x7fc0 : (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

/* To nearest, ties to even; 65520 and more is infinity. */
static uint16_t to_half (float f)
{
    uint32_t sign = bits_of (f) >> 16 & 0x8000, u = bits_of (f) & 0x7fffffff;
    if (f != f)
        return 0x7e00;
    if (u >= 0x477ff000)
        return (uint16_t)(sign | 0x7c00);
    if (u < 0x38800000) /* below 2⁻¹⁴: multiples of 2⁻²⁴ */
        return (uint16_t)(sign | (uint32_t)lrintf (fabsf (f) * 0x1p24f));
    return (uint16_t)(sign | (u + 0xfff + (u >> 13 & 1) - 0x38000000) >> 13);
}

void dps__put_element (uint32_t dtype, void *x, int64_t i, double v)
{
    switch (dtype) {
    case DPS_DTYPE_F32: ((float *)x)[i] = (float)v; break;
    case DPS_DTYPE_F64: ((double *)x)[i] = v; break;
    case DPS_DTYPE_BF16: ((uint16_t *)x)[i] = to_bf16 ((float)v); break;
    case DPS_DTYPE_F16: ((uint16_t *)x)[i] = to_half ((float)v); break;
    case DPS_DTYPE_I32: ((int32_t *)x)[i] = (int32_t)v; break;
    case DPS_DTYPE_I64: ((int64_t *)x)[i] = (int64_t)v; break;
    default: ((unsigned char *)x)[i] = (unsigned char)v; break;
    }
}

static int is_float (uint32_t dtype) { return dtype >= DPS_DTYPE_F32 && dtype <= DPS_DTYPE_F64; }

int64_t dps__first_nan (uint32_t dtype, const void *x, int64_t n)
{
    for (int64_t i = 0; is_float (dtype) && i < n; i++)
        if (isnan (dps__element (dtype, x, i)))
            return i;
    return -1;
}

int dps__all_finite (uint32_t dtype, const void *x, int64_t n)
{
    for (int64_t i = 0; is_float (dtype) && i < n; i++)
        if (!isfinite (dps__element (dtype, x, i)))
            return 0;
    return 1;
}
