/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pack.c: weights in oneDNN's own blocked layout, written through tables of offsets. A weight (O,K) is packed in chunks of 8192 of its O rows,
 * each with a layout of its own, so that a vocabulary can be walked chunk by chunk; most weights are one chunk.
 *
 * FORWARD: chunk c is B (K, n) of y = x·Wᵀ. INPUT_GRAD: chunk c is B (n, K) of dx += dy[:, chunk]·W.
 */
#include "pack.h"

#include <string.h>

enum { LAYOUT_FORWARD = DPS_LAYOUT_PACKED, LAYOUT_INPUT_GRAD = DPS_LAYOUT_PACKED + 1, BLOCK = 64 };

int cpu_is_packed (const DpsView *w) { return w && w->layout >= DPS_LAYOUT_PACKED; }

DpsStatus cpu_chunk_at (int64_t O, int64_t K, uint32_t dtype, uint32_t orientation, int64_t chunk, CpuChunk *out, DpsError *err)
{
    const DnnlLayout *full = NULL;
    int64_t first = chunk * CPU_ROWS_CHUNK, n = O - first < CPU_ROWS_CHUNK ? O - first : CPU_ROWS_CHUNK;
    out->first = first;
    out->n = n;
    out->offset = 0;
    if (chunk > 0) {
        DPS_TRY (orientation == DPS_PACK_FORWARD ? dnnl_layout (K, CPU_ROWS_CHUNK, dtype, &full, err)
                                                 : dnnl_layout (CPU_ROWS_CHUNK, K, dtype, &full, err));
        out->offset = (uint64_t) chunk * ((full->bytes + 63) / 64 * 64);
    }
    return orientation == DPS_PACK_FORWARD ? dnnl_layout (K, n, dtype, &out->layout, err) : dnnl_layout (n, K, dtype, &out->layout, err);
}

static DpsStatus query (struct DpsDevice *dev, int64_t out_features, int64_t in_features, uint32_t compute_dtype, uint32_t orientation,
                        uint64_t *out_bytes, uint32_t *out_layout, DpsError *err)
{
    (void) dev;
    CpuChunk last;
    if (out_features <= 0 || in_features <= 0)
        return dps_fail (err, DPS_ERR_SHAPE, "cpu: an empty weight is not packed");
    if (compute_dtype == DPS_DTYPE_BF16 ? !cpu_machine ()->has_bf16 : compute_dtype != DPS_DTYPE_F32)
        return dps_fail (err, DPS_ERR_DTYPE, "cpu: no matrix products in this dtype on this CPU");
    if (orientation > DPS_PACK_INPUT_GRAD)
        return dps_fail (err, DPS_ERR_INVALID, "cpu: orientation %u is unknown", orientation);
    int64_t n_chunks = (out_features + CPU_ROWS_CHUNK - 1) / CPU_ROWS_CHUNK;
    DPS_TRY (cpu_chunk_at (out_features, in_features, compute_dtype, orientation, n_chunks - 1, &last, err));
    *out_bytes = last.offset + (last.layout->bytes + 63) / 64 * 64;
    *out_layout = orientation == DPS_PACK_FORWARD ? LAYOUT_FORWARD : LAYOUT_INPUT_GRAD;
    return DPS_OK;
}

static uint16_t to_bf16 (float f)
{
    uint32_t u;
    memcpy (&u, &f, 4);
    if ((u & 0x7fffffff) > 0x7f800000)
        return (uint16_t) (u >> 16 | 64);
    return (uint16_t) ((u + 0x7fff + (u >> 16 & 1)) >> 16);
}

static float value_at (const DpsView *v, int64_t i)
{
    if (v->dtype == DPS_DTYPE_F32)
        return ((const float *) v->host)[i];
    uint32_t u = (uint32_t) ((const uint16_t *) v->host)[i] << 16;
    float f;
    memcpy (&f, &u, 4);
    return f;
}

/* Rows [o, o+n) of one chunk, read from row `from_row` of `from`. by_k: the offset of column k, by_o: of row o within the chunk. */
static void pack_rows (const DpsView *from, int64_t from_row, int64_t o, int64_t n, int64_t K, const int64_t *by_k, const int64_t *by_o, void *chunk,
                       uint32_t dtype)
{
    const float *src = from->dtype == DPS_DTYPE_F32 ? (const float *) from->host + from_row * K : NULL;
    for (int64_t k = 0; k < K; k++)
        for (int64_t i = 0; i < n; i++) {
            float v = src ? src[i * K + k] : value_at (from, (from_row + i) * K + k);
            int64_t at = by_k[k] + by_o[o + i];
            if (dtype == DPS_DTYPE_BF16)
                ((uint16_t *) chunk)[at] = to_bf16 (v);
            else
                ((float *) chunk)[at] = v;
        }
}

static DpsStatus pack (struct DpsDevice *dev, const DpsView *from, int64_t row, uint32_t orientation, const DpsView *to, DpsError *err)
{
    (void) dev;
    int64_t O = to->shape[0], K = to->shape[1], rows = from->shape[0];
    if (from->rank != 2 || from->shape[1] != K || row < 0 || row + rows > O)
        return dps_fail (err, DPS_ERR_SHAPE, "cpu: rows %lld to %lld do not lie in a weight of %lld rows", (long long) row, (long long) (row + rows),
                         (long long) O);
    if (from->dtype != DPS_DTYPE_F32 && from->dtype != DPS_DTYPE_BF16)
        return dps_fail (err, DPS_ERR_DTYPE, "cpu: a weight to pack must be f32 or bf16");
    for (int64_t done = 0; done < rows;) {
        CpuChunk c;
        DPS_TRY (cpu_chunk_at (O, K, to->dtype, orientation, (row + done) / CPU_ROWS_CHUNK, &c, err));
        char *base = (char *) to->host + c.offset;
        const int64_t *by_o = orientation == DPS_PACK_FORWARD ? c.layout->n_offset : c.layout->k_offset;
        const int64_t *by_k = orientation == DPS_PACK_FORWARD ? c.layout->k_offset : c.layout->n_offset;
        int64_t o = row + done - c.first, n = c.n - o < rows - done ? c.n - o : rows - done, blocks = (n + BLOCK - 1) / BLOCK;
        if (o == 0 && c.layout->padded)
            memset (base, 0, c.layout->bytes);
#pragma omp parallel for schedule(static) if (n * K > CPU_SERIAL_WORK)
        for (int64_t b = 0; b < blocks; b++)
            pack_rows (from, done + b * BLOCK, o + b * BLOCK, n - b * BLOCK < BLOCK ? n - b * BLOCK : BLOCK, K, by_k, by_o, base, to->dtype);
        done += n;
    }
    return DPS_OK;
}

DpsStatus cpu_unpack_rows (const DpsView *packed, const int32_t *ids, int64_t n, const DpsView *y, DpsError *err)
{
    int64_t O = packed->shape[0], K = packed->shape[1];
    for (int64_t i = 0; i < n; i++) {
        CpuChunk c;
        if (ids[i] < 0 || ids[i] >= O)
            return dps_fail (err, DPS_ERR_INVALID, "cpu: row %d of a table of %lld", ids[i], (long long) O);
        DPS_TRY (cpu_chunk_at (O, K, packed->dtype, DPS_PACK_FORWARD, ids[i] / CPU_ROWS_CHUNK, &c, err));
        DpsView at = *packed;
        at.host = (char *) packed->host + c.offset;
        int64_t base = c.layout->n_offset[ids[i] - c.first];
        for (int64_t k = 0; k < K; k++) {
            float v = value_at (&at, base + c.layout->k_offset[k]);
            if (y->dtype == DPS_DTYPE_F32)
                ((float *) y->host)[i * K + k] = v;
            else
                ((uint16_t *) y->host)[i * K + k] = to_bf16 (v);
        }
    }
    return DPS_OK;
}

static DpsStatus unpack_rows (struct DpsDevice *dev, const DpsView *packed, const int32_t *ids, int64_t n, const DpsView *y, DpsError *err)
{
    (void) dev;
    return cpu_unpack_rows (packed, ids, n, y, err);
}

const DpsPack cpu_pack = {.size = sizeof (DpsPack), .query = query, .pack = pack, .unpack_rows = unpack_rows};
