/* SPDX-License-Identifier: Apache-2.0 */
/* bench_matmul.c: the FLOP/s that matrix products reach on the first device: the peak that training is measured against. */
#include <math.h>
#include <string.h>

#include "diapason/bench.h"
#include "exec/stage.h"

/* The weight (N,K) of such a product, as rows of f32 in memory of our own. */
static float *make_rows (int64_t n)
{
    float *rows = dps_malloc ((size_t)n, sizeof *rows);
    for (int64_t i = 0; rows && i < n; i++)
        rows[i] = (float)(i % 13) * 0.01f;
    return rows;
}

/* W as the device reads it: packed where it packs, else rows in its own memory. Errors: DTYPE, NOMEM, the backend's. */
static DpsStatus place_weight (DpsExec *ex, uint32_t dtype, const int64_t shape[2], DpsBlock *block, DpsView *out, DpsError *err)
{
    const DpsExecDevice *d = &ex->devices[0];
    const int64_t n = shape[0] * shape[1];
    uint64_t bytes = (uint64_t)n * dps_dtype_bytes (dtype);
    uint32_t layout = 0;
    if (d->pack)
        DPS_TRY (d->pack->query (d->info.device, shape[0], shape[1], dtype, DPS_PACK_FORWARD, &bytes, &layout, err));
    DPS_TRY (dps_exec_alloc (ex, bytes, block, err));
    *out = dps_block_view (dtype, 2, shape, block, 0);
    out->layout = layout;
    float *rows = make_rows (n);
    if (!rows)
        return dps_fail (err, DPS_ERR_NOMEM, "%s: out of memory for a weight", d->info.name);
    DpsView from = dps_view (DPS_DTYPE_F32, 2, shape, rows);
    DpsStatus st;
    if (d->pack) {
        st = d->pack->pack (d->info.device, &from, 0, DPS_PACK_FORWARD, out, err);
    } else {
        const unsigned char *high =
            (const unsigned char *)rows + 2; /* the upper half of an f32 is its bf16, cut; DPS_DTYPE_F32: as it is */
        for (int64_t i = 0; dtype == DPS_DTYPE_BF16 && i < n; i++)
            memmove ((unsigned char *)rows + 2 * i, high + 4 * i, 2);
        st = dps_block_put (ex, block, 0, rows, bytes, err);
    }
    dps_free (rows);
    return st;
}

/* 1 when products of some dtype tried so far went to another device than the first. */
static int went_elsewhere (const DpsExec *ex)
{
    for (size_t i = 0; i < ex->n_cases; i++)
        if (ex->cases[i].op == DPS_OP_linear && ex->cases[i].device)
            return 1;
    return 0;
}

/* Best of several timings of y = x·Wᵀ: what products of these shapes can reach on the first device. */
static DpsStatus time_product (DpsExec *ex, uint32_t dtype, int64_t M, int64_t K, int64_t N, double *out_flops, DpsError *err)
{
    int64_t w_shape[2] = {N, K}, x_shape[2] = {M, K}, y_shape[2] = {M, N};
    const uint64_t size = dps_dtype_bytes (dtype);
    DpsBlock w = {0}, x = {0}, y = {0};
    DpsView wv;
    DpsStatus st = place_weight (ex, dtype, w_shape, &w, &wv, err);
    if (st == DPS_OK)
        st = dps_exec_alloc (ex, (uint64_t)(M * K) * size, &x, err);
    if (st == DPS_OK)
        st = dps_exec_alloc (ex, (uint64_t)(M * N) * size, &y, err);
    if (st == DPS_OK)
        st = dps_block_zero (ex, &x, 0, x.bytes, err);
    DpsView xv = dps_block_view (dtype, 2, x_shape, &x, 0), yv = dps_block_view (dtype, 2, y_shape, &y, 0);
    uint64_t first = 0;
    double best = INFINITY, begin = bench_now ();
    for (int i = 0; st == DPS_OK && i < 400 && (i < 2 || bench_now () - begin < 0.4); i++) {
        double start = bench_now ();
        st = dps_exec_op (ex, DPS_OP_linear, (DpsOp){DPS_IN (&xv, &wv, NULL, NULL), DPS_OUT (&yv)}, err);
        if (st == DPS_OK)
            st = dps_block_get (ex, &y, 0, &first, size, err); /* a device that queues its work has done it when this returns */
        best = fmin (best, bench_now () - start);
        if (st == DPS_OK && went_elsewhere (ex))
            st = dps_fail (err, DPS_ERR_DTYPE, "%s has no product of this dtype", ex->devices[0].info.name);
    }
    *out_flops = 2.0 * (double)M * (double)K * (double)N / best;
    dps_exec_free (ex, &w);
    dps_exec_free (ex, &x);
    dps_exec_free (ex, &y);
    return st;
}

DpsStatus bench_matmul_peak (DpsExec *ex, uint32_t dtype, double *out_flops, DpsError *err)
{
    static const int64_t shapes[][3] = {{1024, 640, 2048}, {1024, 2048, 640}, {1024, 1024, 640}, {1024, 2048, 2048}, {384, 640, 8192}};
    *out_flops = 0;
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        double flops = 0;
        DPS_TRY (time_product (ex, dtype, shapes[i][0], shapes[i][1], shapes[i][2], &flops, err));
        *out_flops = fmax (*out_flops, flops);
    }
    return DPS_OK;
}
