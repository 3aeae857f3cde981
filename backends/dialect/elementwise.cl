/* SPDX-License-Identifier: Apache-2.0 */
/*
 * elementwise.cl: fill, copy, add, mul, div, exp, log, sqrt, softcap, and a matrix with one vector: mul_cols, add_cols, scale_rows, mul_cols_dv,
 * bias_db.
 * Geometry: flat blocks (dialect.h) for what knows no rows; one group a row for mul_cols, add_cols and scale_rows; for the sums over rows one lane
 * for eight columns, which adds rows in order, one partial a root.
 * Exact: fill and copy of one dtype are bytes; an element's bits depend on its own operands only.
 */

/* One element of 1, 2, 4 or 8 bytes. */
KERNEL (dps_fill) (OUT_OF (u8, y), i32 bytes, i64 bits, i64 n)
{
    GLOBAL u8 *at = y + y_off * bytes;
    for (i64 i = FIRST; i < LAST (n); i += STEP)
        if (bytes == 8)
            ((GLOBAL i64 *)at)[i] = bits;
        else if (bytes == 4)
            ((GLOBAL u32 *)at)[i] = (u32)bits;
        else if (bytes == 2)
            ((GLOBAL u16 *)at)[i] = (u16)bits;
        else
            at[i] = (u8)bits;
}

KERNEL (dps_copy_bytes) (IN_OF (u8, x), OUT_OF (u8, y), i32 bytes, i64 n)
{
    GLOBAL const u8 *from = x + x_off * bytes;
    GLOBAL u8 *to = y + y_off * bytes;
    for (i64 i = FIRST; i < LAST (n); i += STEP)
        if (bytes == 8)
            ((GLOBAL i64 *)to)[i] = ((GLOBAL const i64 *)from)[i];
        else if (bytes == 4)
            ((GLOBAL u32 *)to)[i] = ((GLOBAL const u32 *)from)[i];
        else if (bytes == 2)
            ((GLOBAL u16 *)to)[i] = ((GLOBAL const u16 *)from)[i];
        else
            to[i] = from[i];
}

/* Eight elements a lane at a time, then what is left one by one: the same expression, so the same bits. */
#define FLAT8(n, EIGHT, ONE)                                                                                                               \
    i64 first_ = GROUP (0) * DPS_BLOCK, last_ = first_ + DPS_BLOCK < (n) ? first_ + DPS_BLOCK : (n), whole_ = first_ + (last_ - first_) / 8 * 8; \
    for (i64 i = first_ + LANE * 8; i < whole_; i += DPS_LANES * 8) {                                                                      \
        EIGHT                                                                                                                              \
    }                                                                                                                                      \
    for (i64 i = whole_ + LANE; i < last_; i += DPS_LANES) {                                                                               \
        ONE                                                                                                                                \
    }

#define UNARY(name, PARAM, EXPR)                                                                                                           \
    KERNEL (name) (IN (x), OUT (y), PARAM i64 n)                                                                                           \
    {                                                                                                                                      \
        float v[8];                                                                                                                        \
        FLAT8 (                                                                                                                            \
            n, { LOAD8 (x, i, v); EACH8 (k) { float a = v[k]; v[k] = (EXPR); } STORE8 (y, i, v); },                                        \
            { float a = LOAD (x, i); STORE (y, i, (EXPR)); })                                                                              \
    }
#define NONE
#define CAP float cap,
UNARY (dps_copy, NONE, a)
UNARY (dps_exp, NONE, EXP (a))
UNARY (dps_log, NONE, LOG (a))
UNARY (dps_sqrt, NONE, SQRT (a))
UNARY (dps_softcap, CAP, cap *TANH (a / cap))

#define BINARY(name, PARAM, EXPR)                                                                                                          \
    KERNEL (name) (IN (x), IN (z), OUT (y), PARAM i64 n)                                                                                   \
    {                                                                                                                                      \
        float v[8], w[8];                                                                                                                  \
        FLAT8 (                                                                                                                            \
            n, { LOAD8 (x, i, v); LOAD8 (z, i, w); EACH8 (k) { float a = v[k]; float b = w[k]; v[k] = (EXPR); } STORE8 (y, i, v); },             \
            { float a = LOAD (x, i); float b = LOAD (z, i); STORE (y, i, (EXPR)); })                                                             \
    }
#define FACTORS float alpha, float beta,
BINARY (dps_add, FACTORS, alpha *a + beta * b)
BINARY (dps_mul, NONE, a *b)
BINARY (dps_div, NONE, a / b)

/* One group a row n of d columns; b is v[column] or v[row]. */
#define ROWS8(name, OTHER8, OTHER, EXPR)                                                                                                   \
    KERNEL (name) (IN (x), IN (z), OUT (y), i64 d)                                                                                         \
    {                                                                                                                                      \
        i64 row = GROUP (0) * d;                                                                                                           \
        float v[8], w[8];                                                                                                                  \
        for (i64 j = LANE * 8; j + 8 <= d; j += DPS_LANES * 8) {                                                                           \
            LOAD8 (x, row + j, v);                                                                                                         \
            OTHER8;                                                                                                                        \
            EACH8 (k) { float a = v[k]; float b = w[k]; v[k] = (EXPR); }                                                                         \
            STORE8 (y, row + j, v);                                                                                                        \
        }                                                                                                                                  \
        for (i64 j = d / 8 * 8 + LANE; j < d; j += DPS_LANES) {                                                                            \
            float a = LOAD (x, row + j), b = OTHER;                                                                                        \
            STORE (y, row + j, (EXPR));                                                                                                    \
        }                                                                                                                                  \
    }
ROWS8 (dps_mul_cols, LOAD8 (z, j, w), LOAD (z, j), a *b)
ROWS8 (dps_add_cols, LOAD8 (z, j, w), LOAD (z, j), a + b)
ROWS8 (dps_scale_rows, EACH8 (k) w[k] = LOAD (z, GROUP (0)), LOAD (z, GROUP (0)), a *b)

/* out[j] += Σ_n of each root, in order, of x·dy (has_x) or dy: columns [8·item, 8·item + 8). */
KERNEL (dps_column_sums) (IN (x), IN (dy), IN_OF (i32, roots), OUT (y), i32 n_roots, i64 n_rows, i64 d)
{
    i64 j = (GROUP (0) * DPS_LANES + LANE) * 8;
    i64 width = j + 8 <= d ? 8 : d - j;
    float s[8], v[8], w[8];
    if (j >= d)
        return;
    for (i32 r = 0; r < n_roots; r++) {
        i64 end = AT (roots, r + 1) < n_rows ? AT (roots, r + 1) : n_rows;
        EACH8 (k)
            s[k] = 0;
        for (i64 n = AT (roots, r) < 0 ? 0 : AT (roots, r); n < end; n++) {
            if (width == 8) {
                LOAD8 (dy, n * d + j, w);
                if (x_t) {
                    LOAD8 (x, n * d + j, v);
                    EACH8 (k)
                        w[k] *= v[k];
                }
            } else
                for (i32 k = 0; k < width; k++)
                    w[k] = LOAD (dy, n * d + j + k) * (x_t ? LOAD (x, n * d + j + k) : 1.0f);
            EACH8 (k)
                s[k] += k < width ? w[k] : 0;
        }
        for (i32 k = 0; k < width; k++)
            STORE (y, j + k, LOAD (y, j + k) + s[k]);
    }
}
