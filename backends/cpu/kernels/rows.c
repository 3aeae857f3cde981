/* SPDX-License-Identifier: Apache-2.0 */
/* rows.c: rows moved by index: embed, gather, scatter, put. */
#include "ops.h"

static size_t row_bytes (const DpsView *v) { return (size_t)cpu_cols (v) * (IS_BF (v) ? 2 : 4); }

static DpsStatus check_index (CpuCall *c, const int32_t *index, int64_t n, int64_t limit)
{
    for (int64_t i = 0; i < n; i++)
        if (index[i] < 0 || index[i] >= limit)
            return dps_fail (c->err, DPS_ERR_INVALID, "cpu: %s: row %d at %lld, of %lld", c->name, index[i], (long long)i,
                             (long long)limit);
    return DPS_OK;
}

/* y[to] = x[from], converted. */
static void move_row (const DpsView *x, int64_t from, const DpsView *y, int64_t to, double scale)
{
    int64_t D = cpu_cols (y);
    const char *src = (const char *)x->host + (size_t)from * row_bytes (x);
    char *dst = (char *)y->host + (size_t)to * row_bytes (y);
    if (scale == 1 && x->dtype == y->dtype) {
        memcpy (dst, src, row_bytes (y));
        return;
    }
    for (int64_t d = 0; d < D; d += LANES) {
        int64_t n = D - d < LANES ? D - d : LANES;
        store_n (dst, d, IS_BF (y), load_n (src, d, IS_BF (x), n) * splat ((float)scale), n);
    }
}

DpsStatus ISA_NAME (cpu_embed) (CpuCall *c)
{
    const DpsView *table = cpu_in (c, 0), *ids = cpu_in (c, 1), *y = cpu_out (c, 0);
    const int32_t *id = ids->host;
    int64_t N = cpu_count (ids);
    double scale = cpu_f (c, 0) != 0 ? cpu_f (c, 0) : 1;
    if (table->layout >= DPS_LAYOUT_PACKED)
        return cpu_embed_packed (c);
    DPS_TRY (check_index (c, id, N, table->shape[0]));
    PARALLEL_FOR (i, N, cpu_count (y)) move_row (table, id[i], y, i, scale);
    return DPS_OK;
}

/* Rows are added in the order of the tokens; column chunks in parallel. */
DpsStatus ISA_NAME (cpu_embed_dw) (CpuCall *c)
{
    const DpsView *dy = cpu_in (c, 0), *ids = cpu_in (c, 1), *dw = cpu_out (c, 0);
    const int32_t *id = ids->host;
    int64_t N = cpu_count (ids), D = cpu_cols (dy), chunks = (D + LANES - 1) / LANES;
    vf scale = splat ((float)(cpu_f (c, 0) != 0 ? cpu_f (c, 0) : 1));
    DPS_TRY (check_index (c, id, N, dw->shape[0]));
    PARALLEL_FOR (chunk, chunks, N * D)
    {
        int64_t d = chunk * LANES, n = D - d < LANES ? D - d : LANES;
        for (int64_t i = 0; i < N; i++) {
            int64_t at = id[i] * D + d;
            store_n (dw->host, at, 0, load_n (dw->host, at, 0, n) + scale * load_n (dy->host, i * D + d, IS_BF (dy), n), n);
        }
    }
    return DPS_OK;
}

DpsStatus ISA_NAME (cpu_gather_rows) (CpuCall *c)
{
    const DpsView *x = cpu_in (c, 0), *rows = cpu_in (c, 1), *y = cpu_out (c, 0);
    const int32_t *at = rows->host;
    DPS_TRY (check_index (c, at, cpu_count (rows), cpu_rows (x)));
    PARALLEL_FOR (i, cpu_count (rows), cpu_count (y)) move_row (x, at[i], y, i, 1);
    return DPS_OK;
}

DpsStatus ISA_NAME (cpu_scatter_rows) (CpuCall *c)
{
    const DpsView *dy = cpu_in (c, 0), *rows = cpu_in (c, 1), *dx = cpu_out (c, 0);
    const int32_t *at = rows->host;
    int64_t S = cpu_count (rows), D = cpu_cols (dx), chunks = (D + LANES - 1) / LANES;
    DPS_TRY (check_index (c, at, S, cpu_rows (dx)));
    memset (dx->host, 0, (size_t)cpu_count (dx) * (IS_BF (dx) ? 2 : 4));
    PARALLEL_FOR (chunk, chunks, S * D)
    {
        int64_t d = chunk * LANES, n = D - d < LANES ? D - d : LANES;
        for (int64_t i = 0; i < S; i++)
            store_n (dx->host, at[i] * D + d, IS_BF (dx),
                     load_n (dx->host, at[i] * D + d, IS_BF (dx), n) + load_n (dy->host, i * D + d, IS_BF (dy), n), n);
    }
    return DPS_OK;
}

DpsStatus ISA_NAME (cpu_put_rows) (CpuCall *c)
{
    const DpsView *x = cpu_in (c, 0), *rows = cpu_in (c, 1), *y = cpu_out (c, 0);
    const int32_t *at = rows->host;
    DPS_TRY (check_index (c, at, cpu_count (rows), cpu_rows (y)));
    for (int64_t i = 0; i < cpu_count (rows); i++)
        move_row (x, i, y, at[i], 1);
    return DPS_OK;
}
