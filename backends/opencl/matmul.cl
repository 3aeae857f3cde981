/* SPDX-License-Identifier: Apache-2.0 */
/*
 * matmul.cl: y (M,N) = alpha·a (M,K)·w (N,K)ᵀ + bias + c: rows times rows, both contiguous along the sum; and the transpose that brings other
 * products to this form. OpenCL C only: CUDA has cuBLASLt.
 * dps_nt: made for CPUs, right everywhere. One work-item, alone in its group, does a block of rows × a block of columns in tiles of 4 × 3 whose sums are vectors of
 * DPS_WIDTH in registers; the rows' block stays in the second-level cache, the three rows of w in the first.
 * Exact: an element's sum is one sequence of operations that K alone decides, whatever M, N and the blocks are.
 */

#pragma OPENCL FP_CONTRACT OFF

#if DPS_WIDTH == 16
#define VF          float16
#define VLOAD       vload16
#define VSTORE      vstore16
#define VLOAD_HALF  vload_half16
#define VWIDEN(h)   as_float16 (convert_uint16 (h) << 16)
#define VSUM(s)     sum8 ((s).lo + (s).hi)
#else
#define VF          float8
#define VLOAD       vload8
#define VSTORE      vstore8
#define VLOAD_HALF  vload_half8
#define VWIDEN(h)   as_float8 (convert_uint8 (h) << 16)
#define VSUM(s)     sum8 (s)
#endif

FN float sum8 (float8 s)
{
    float4 t = s.lo + s.hi;
    return (t.x + t.z) + (t.y + t.w);
}

#define F32_V(p, k)  VLOAD (0, (p) + (k))
#define F32_1(p, k)  ((p)[k])
#define BF16_V(p, k) VWIDEN (VLOAD (0, (p) + (k)))
#define BF16_1(p, k) dps_from_bf16 ((p)[k])
#define F16_V(p, k)  VLOAD_HALF (0, (p) + (k))
#define F16_1(p, k)  vload_half (k, p)

#define ROW(i)                                                                                                                             \
    x = VLOAD (0, a##i + k);                                                                                                               \
    s##i##0 = fma (x, v0, s##i##0);                                                                                                        \
    s##i##1 = fma (x, v1, s##i##1);                                                                                                        \
    s##i##2 = fma (x, v2, s##i##2);
#define REST(i)                                                                                                                            \
    r[3 * i] = fma (a##i[k], u0, r[3 * i]);                                                                                                \
    r[3 * i + 1] = fma (a##i[k], u1, r[3 * i + 1]);                                                                                        \
    r[3 * i + 2] = fma (a##i[k], u2, r[3 * i + 2]);
#define DONE(i)                                                                                                                            \
    r[3 * i] = VSUM (s##i##0);                                                                                                             \
    r[3 * i + 1] = VSUM (s##i##1);                                                                                                         \
    r[3 * i + 2] = VSUM (s##i##2);

/* Four rows of a times three of w: r[3·i + j]. */
#define TILE(name, type, V, ONE)                                                                                                           \
    FN void name (GLOBAL const float *a0, GLOBAL const float *a1, GLOBAL const float *a2, GLOBAL const float *a3, GLOBAL const type *w0,   \
                  GLOBAL const type *w1, GLOBAL const type *w2, i64 n, float *r)                                                           \
    {                                                                                                                                      \
        VF x, v0, v1, v2;                                                                                                                  \
        VF s00 = 0, s01 = 0, s02 = 0, s10 = 0, s11 = 0, s12 = 0, s20 = 0, s21 = 0, s22 = 0, s30 = 0, s31 = 0, s32 = 0;                     \
        i64 k = 0;                                                                                                                         \
        for (; k + DPS_WIDTH <= n; k += DPS_WIDTH) {                                                                                       \
            v0 = V (w0, k);                                                                                                                \
            v1 = V (w1, k);                                                                                                                \
            v2 = V (w2, k);                                                                                                                \
            ROW (0) ROW (1) ROW (2) ROW (3)                                                                                                \
        }                                                                                                                                  \
        DONE (0) DONE (1) DONE (2) DONE (3)                                                                                                \
        for (; k < n; k++) {                                                                                                               \
            float u0 = ONE (w0, k), u1 = ONE (w1, k), u2 = ONE (w2, k);                                                                    \
            REST (0) REST (1) REST (2) REST (3)                                                                                            \
        }                                                                                                                                  \
    }
TILE (tile_f32, float, F32_V, F32_1)
TILE (tile_bf16, u16, BF16_V, BF16_1)
TILE (tile_f16, half, F16_V, F16_1)

/* One row: the same operations for each of its three sums. */
#define ROW_TILE(name, type, V, ONE)                                                                                                       \
    FN void name (GLOBAL const float *a0, GLOBAL const type *w0, GLOBAL const type *w1, GLOBAL const type *w2, i64 n, float *r)            \
    {                                                                                                                                      \
        VF x, v0, v1, v2;                                                                                                                  \
        VF s00 = 0, s01 = 0, s02 = 0;                                                                                                      \
        i64 k = 0;                                                                                                                         \
        for (; k + DPS_WIDTH <= n; k += DPS_WIDTH) {                                                                                       \
            v0 = V (w0, k);                                                                                                                \
            v1 = V (w1, k);                                                                                                                \
            v2 = V (w2, k);                                                                                                                \
            ROW (0)                                                                                                                        \
        }                                                                                                                                  \
        DONE (0)                                                                                                                           \
        for (; k < n; k++) {                                                                                                               \
            float u0 = ONE (w0, k), u1 = ONE (w1, k), u2 = ONE (w2, k);                                                                    \
            REST (0)                                                                                                                       \
        }                                                                                                                                  \
    }
ROW_TILE (row_f32, float, F32_V, F32_1)
ROW_TILE (row_bf16, u16, BF16_V, BF16_1)
ROW_TILE (row_f16, half, F16_V, F16_1)

#define CALL_ROW(name, type)                                                                                                               \
    name (a + a_off + m * K, (GLOBAL const type *)w + w_off + n * K, (GLOBAL const type *)w + w_off + n1 * K,                        \
          (GLOBAL const type *)w + w_off + n2 * K, K, r)
#define CALL_TILE(name, type)                                                                                                              \
    name (a + a_off + m * K, a + a_off + m1 * K, a + a_off + m2 * K, a + a_off + m3 * K, (GLOBAL const type *)w + w_off + n * K, \
          (GLOBAL const type *)w + w_off + n1 * K, (GLOBAL const type *)w + w_off + n2 * K, K, r)

FN void finish (float sum, float alpha, IN (bias), IN (c), OUT (y), i64 m, i64 n, i64 ldy)
{
    float v = alpha * sum;
    if (bias_t)
        v += LOAD (bias, n);
    if (c_t)
        v += LOAD (c, m * ldy + n);
    STORE (y, m * ldy + n, v);
}

/* f32 in and out and no bias, as nearly always: the same as finish, without its questions. */
#define PLAIN                                                                                                                              \
    int plain = y_t == DT_F32 && !bias_t && (!c_t || c_t == DT_F32);                                                                       \
    GLOBAL float *to = (GLOBAL float *)y + y_off;                                                                                          \
    GLOBAL const float *from = (GLOBAL const float *)c + c_off

/* ldy: from row to row of c and y. */
KERNEL (dps_nt) (IN_OF (float, a), IN (w), i64 M, i64 N, i64 K, float alpha, IN (bias), IN (c), OUT (y), i64 ldy,
                 i64 row_block, i64 column_block)
{
    i64 m_first = GROUP (1) * row_block, m_last = m_first + row_block < M ? m_first + row_block : M;
    i64 n_first = GROUP (0) * column_block, n_last = n_first + column_block < N ? n_first + column_block : N;
    float r[12];
    PLAIN;
    for (i64 n = n_first; n < n_last; n += 3) {
        i64 n1 = n + 1 < n_last ? n + 1 : n, n2 = n + 2 < n_last ? n + 2 : n;
        for (i64 m = m_first; m < m_last; m += 4) {
            i64 m1 = m + 1 < m_last ? m + 1 : m, m2 = m + 2 < m_last ? m + 2 : m, m3 = m + 3 < m_last ? m + 3 : m;
            if (m + 1 == m_last)
                if (w_t == DT_F32)
                    CALL_ROW (row_f32, float);
                else if (w_t == DT_BF16)
                    CALL_ROW (row_bf16, u16);
                else
                    CALL_ROW (row_f16, half);
            else if (w_t == DT_F32)
                CALL_TILE (tile_f32, float);
            else if (w_t == DT_BF16)
                CALL_TILE (tile_bf16, u16);
            else
                CALL_TILE (tile_f16, half);
            if (plain) /* the bounds stay variables: unrolled, the sums above lose their registers (PoCL 3.1) */
                for (i32 i = 0; i < 4 && m + i < m_last; i++)
                    for (i32 j = 0; j < 3 && n + j < n_last; j++) {
                        i64 at = (m + i) * ldy + n + j;
                        to[at] = c_t ? alpha * r[3 * i + j] + from[at] : alpha * r[3 * i + j];
                    }
            else
                for (i32 i = 0; i < 4 && m + i < m_last; i++)
                    for (i32 j = 0; j < 3 && n + j < n_last; j++)
                        finish (r[3 * i + j], alpha, bias, bias_off, bias_t, c, c_off, c_t, y, y_off, y_t, m + i, n + j, ldy);
        }
    }
}

/* For short sums on CPUs (LoRA's second product): w turned, (K,N) f32; a work-item does a block of rows a row at a time in two vectors of columns. */
KERNEL (dps_short) (IN_OF (float, a), IN_OF (float, w), i64 M, i64 N, i64 K, float alpha, IN (bias), IN (c), OUT (y), i64 ldy,
                    i64 row_block)
{
    i64 n = GROUP (0) * 2 * DPS_WIDTH, m_last = (GROUP (1) + 1) * row_block < M ? (GROUP (1) + 1) * row_block : M;
    i64 width = N - n < 2 * DPS_WIDTH ? N - n : 2 * DPS_WIDTH;
    float out[2 * DPS_WIDTH];
    PLAIN;
    for (i64 m = GROUP (1) * row_block; m < m_last; m++) {
        GLOBAL const float *row = a + a_off + m * K;
        if (width == 2 * DPS_WIDTH) {
            VF s0 = 0, s1 = 0;
            for (i64 k = 0; k < K; k++) {
                s0 = fma ((VF)(row[k]), VLOAD (0, w + w_off + k * N + n), s0);
                s1 = fma ((VF)(row[k]), VLOAD (1, w + w_off + k * N + n), s1);
            }
            if (plain) {
                i64 at = m * ldy + n;
                s0 = c_t ? alpha * s0 + VLOAD (0, from + at) : alpha * s0;
                s1 = c_t ? alpha * s1 + VLOAD (1, from + at) : alpha * s1;
                VSTORE (s0, 0, to + at);
                VSTORE (s1, 1, to + at);
                continue;
            }
            VSTORE (s0, 0, out);
            VSTORE (s1, 1, out);
        } else
            for (i64 j = 0; j < width; j++) {
                out[j] = 0;
                for (i64 k = 0; k < K; k++)
                    out[j] = fma (row[k], AT (w, k * N + n + j), out[j]);
            }
        for (i64 j = 0; j < width; j++)
            finish (out[j], alpha, bias, bias_off, bias_t, c, c_off, c_t, y, y_off, y_t, m, n + j, ldy);
    }
}

/* y (cols, rows) f32 = x (rows, cols)ᵀ: 16 × 16 a work-item. */
KERNEL (dps_transpose) (IN (x), OUT_OF (float, y), i64 rows, i64 cols)
{
    i64 r_first = GROUP (1) * 16, r_last = r_first + 16 < rows ? r_first + 16 : rows;
    i64 c_first = GROUP (0) * 16, c_last = c_first + 16 < cols ? c_first + 16 : cols;
    float block[16][16];
    for (i64 r = r_first; r < r_last; r++)
        for (i64 c = c_first; c < c_last; c++)
            block[c - c_first][r - r_first] = LOAD (x, r * cols + c);
    for (i64 c = c_first; c < c_last; c++)
        for (i64 r = r_first; r < r_last; r++)
            AT (y, c * rows + r) = block[c - c_first][r - r_first];
}
