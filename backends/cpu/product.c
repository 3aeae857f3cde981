/* SPDX-License-Identifier: Apache-2.0 */
#include "product.h"

#include <string.h>

enum { MAX_LAYOUTS = 256, STRIP = CPU_RUN };

static CpuLayout layouts[MAX_LAYOUTS];
static int n_layouts;

static uint64_t size_of (uint32_t dtype) { return dtype == DPS_DTYPE_BF16 ? 2 : 4; }

/* Strips of 16 columns, as kernels/panel.c reads them. */
static void strip_offsets (CpuLayout *l)
{
    for (int64_t k = 0; k < l->K; k++)
        l->k_offset[k] = k * STRIP;
    for (int64_t n = 0; n < l->N; n++)
        l->n_offset[n] = n / STRIP * l->K * STRIP + n % STRIP;
    l->bytes = (uint64_t)((l->N + STRIP - 1) / STRIP * STRIP * l->K) * size_of (l->dtype);
    l->padded = l->N % STRIP != 0;
}

/* Numbers from -1 to 1 with every bit of their mantissa in use. */
static void fill (void *data, int64_t i, uint32_t dtype, uint32_t *state)
{
    *state = *state * 1664525u + 1013904223u;
    float v = (float)((int32_t)*state) / 2147483648.0f;
    if (dtype == DPS_DTYPE_BF16) {
        uint32_t u;
        memcpy (&u, &v, sizeof u);
        ((uint16_t *)data)[i] = (uint16_t)(u >> 16);
    } else
        ((float *)data)[i] = v;
}

typedef struct Trial {
    const CpuLayout *l;
    char *a, *b, *scratch;
    float *whole, *part;
    int same;
} Trial;

static DpsStatus multiply (const Trial *t, int64_t first, int64_t rows, float *c, DpsError *err)
{
    const CpuLayout *l = t->l;
    const DnnlKernel *k;
    DPS_TRY (dnnl_kernel (&(DnnlProduct){.M = rows, .N = l->N, .K = l->K, .lda = l->K, .dtype = l->dtype}, &k, err));
    uint64_t bytes = dnnl_kernel_scratch (k);
    void *scratch = bytes ? cpu_scratch (CPU_SLOT_TILES, bytes) : NULL;
    if (bytes && !scratch)
        return dps_fail (err, DPS_ERR_NOMEM, "cpu: out of memory for a matrix product");
    return dnnl_run (k, t->a + (uint64_t)(first * l->K) * size_of (l->dtype), t->b, c, scratch, err);
}

/* Whether 64 rows at once have the bits of the same rows in tiles of 16, 32 and 48, wherever the tiles begin. */
static DpsStatus try_rows (Trial *t, DpsError *err)
{
    const CpuLayout *l = t->l;
    uint32_t state = 1;
    for (int64_t i = 0; i < CPU_TILE_ROWS * l->K; i++)
        fill (t->a, i, l->dtype, &state);
    memset (t->b, 0, l->bytes);
    for (int64_t n = 0; n < l->N; n++)
        for (int64_t k = 0; k < l->K; k++)
            fill (t->b, l->k_offset[k] + l->n_offset[n], l->dtype, &state);
    t->same = 1;
    DPS_TRY (multiply (t, 0, CPU_TILE_ROWS, t->whole, err));
    for (int64_t rows = CPU_ROW_GROUP; t->same && rows < CPU_TILE_ROWS; rows += CPU_ROW_GROUP)
        for (int64_t first = 0; t->same && first + rows <= CPU_TILE_ROWS; first += CPU_ROW_GROUP) {
            DPS_TRY (multiply (t, first, rows, t->part, err));
            t->same = !memcmp (t->part, t->whole + first * l->N, (size_t)(rows * l->N) * sizeof (float));
        }
    return DPS_OK;
}

static DpsStatus rows_are_independent (const CpuLayout *l, int *out, DpsError *err)
{
    uint64_t a = (uint64_t)(CPU_TILE_ROWS * l->K) * size_of (l->dtype), c = (uint64_t)(CPU_TILE_ROWS * l->N) * sizeof (float);
    Trial t = {.l = l};
    t.a = dps_aligned_alloc (64, a, 1);
    t.b = dps_aligned_alloc (64, l->bytes, 1);
    t.whole = dps_aligned_alloc (64, c, 1);
    t.part = dps_aligned_alloc (64, c, 1);
    DpsStatus st = t.a && t.b && t.whole && t.part ? try_rows (&t, err) : dps_fail (err, DPS_ERR_NOMEM, "cpu: out of memory for a trial");
    void *arrays[] = {t.a, t.b, t.whole, t.part};
    for (size_t i = 0; i < sizeof arrays / sizeof *arrays; i++)
        dps_free (arrays[i]);
    *out = t.same;
    return st;
}

/* oneDNN's layout when it has one, is fast in it, and its rows are independent: *out_dnnl. */
static DpsStatus try_dnnl (CpuLayout *l, DpsError *err)
{
    if (!cpu_machine ()->has_avx512 || (l->dtype == DPS_DTYPE_BF16 && !cpu_machine ()->has_bf16))
        return DPS_OK;
    DpsStatus st = dnnl_layout (l->K, l->N, l->dtype, l->k_offset, l->n_offset, &l->bytes, err);
    if (st == DPS_ERR_UNSUPPORTED)
        return DPS_OK;
    DPS_TRY (st);
    l->padded = l->bytes != (uint64_t)(l->K * l->N) * size_of (l->dtype);
    return rows_are_independent (l, &l->dnnl, err);
}

/* Whether columns of a run lie `step` apart, and with 2 the rows of a pair beside each other. */
static int has_step (const CpuLayout *l, int64_t step)
{
    for (int64_t n = 0; n < l->N; n++)
        if (n % CPU_RUN && l->n_offset[n] != l->n_offset[n - 1] + step)
            return 0;
    for (int64_t k = 1; step == 2 && k < l->K; k += 2)
        if (l->k_offset[k] != l->k_offset[k - 1] + 1)
            return 0;
    return 1;
}

static DpsStatus make_layout (CpuLayout *l, DpsError *err)
{
    l->k_offset = dps_malloc ((size_t)l->K, sizeof *l->k_offset);
    l->n_offset = dps_malloc ((size_t)l->N, sizeof *l->n_offset);
    DpsStatus st = l->k_offset && l->n_offset ? try_dnnl (l, err) : dps_fail (err, DPS_ERR_NOMEM, "cpu: out of memory for a layout");
    if (st != DPS_OK) {
        dps_free (l->k_offset);
        dps_free (l->n_offset);
        return st;
    }
    if (!l->dnnl)
        strip_offsets (l);
    l->step = has_step (l, 1) ? 1 : has_step (l, 2) ? 2 : 0;
    return DPS_OK;
}

DpsStatus cpu_layout (int64_t K, int64_t N, uint32_t dtype, const CpuLayout **out, DpsError *err)
{
    for (int i = 0; i < n_layouts; i++) {
        *out = &layouts[i];
        if ((*out)->K == K && (*out)->N == N && (*out)->dtype == dtype)
            return DPS_OK;
    }
    if (n_layouts == MAX_LAYOUTS)
        return dps_fail (err, DPS_ERR_LIMIT, "cpu: more than %d shapes of weights", MAX_LAYOUTS);
    CpuLayout *l = &layouts[n_layouts];
    *l = (CpuLayout){.K = K, .N = N, .dtype = dtype};
    DPS_TRY (make_layout (l, err));
    n_layouts++;
    *out = l;
    return DPS_OK;
}

DpsStatus cpu_kernel (int64_t rows, int64_t N, int64_t K, int64_t lda, uint32_t dtype, CpuKernel *out, DpsError *err)
{
    const CpuLayout *l;
    DPS_TRY (cpu_layout (K, N, dtype, &l, err));
    *out = (CpuKernel){.N = N, .K = K, .lda = lda, .dtype = dtype};
    if (l->dnnl) {
        DPS_TRY (dnnl_kernel (&(DnnlProduct){.M = rows, .N = N, .K = K, .lda = lda, .dtype = dtype}, &out->dnnl, err));
        out->scratch_bytes = dnnl_kernel_scratch (out->dnnl);
    } else if (dtype == DPS_DTYPE_BF16)
        out->scratch_bytes = (uint64_t)(rows * K) * sizeof (float);
    return DPS_OK;
}

DpsStatus cpu_kernel_run (const CpuKernel *k, int64_t rows, const void *a, const void *b, float *c, void *scratch, DpsError *err)
{
    if (k->dnnl)
        return dnnl_run (k->dnnl, a, b, c, scratch, err);
    const CpuPanelProduct p = {
        .M = rows, .N = k->N, .K = k->K, .lda = k->lda, .a = a, .b = b, .is_bf16 = k->dtype == DPS_DTYPE_BF16, .wide = scratch, .c = c};
    cpu_machine ()->vector->panel (&p);
    return DPS_OK;
}
