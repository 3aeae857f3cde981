/* SPDX-License-Identifier: Apache-2.0 */
#include "tiles.h"

#include <string.h>

/* Products of less than this many multiply-adds run on the calling thread: a parallel region costs more, and with a busy neighbour much more. */
static const double SERIAL_MADDS = 1e6;
enum { SIZES = CPU_TILE_ROWS / CPU_ROW_GROUP };

static uint64_t size_of (uint32_t dtype) { return dtype == DPS_DTYPE_BF16 ? 2 : 4; }
static int64_t ceil_div (int64_t a, int64_t b) { return (a + b - 1) / b; }

int64_t cpu_tile_count (int64_t M)
{
    int64_t groups = ceil_div (M, CPU_ROW_GROUP), count = ceil_div (M, CPU_TILE_ROWS), threads = cpu_threads (1 << 20);
    count = ceil_div (count, threads) * threads;
    return count < groups ? count : groups;
}

void cpu_tile_rows (int64_t M, int64_t count, int64_t t, int64_t *out_first, int64_t *out_n)
{
    int64_t groups = ceil_div (M, CPU_ROW_GROUP), first = groups * t / count * CPU_ROW_GROUP,
            last = groups * (t + 1) / count * CPU_ROW_GROUP;
    *out_first = first;
    *out_n = (last < M ? last : M) - first;
}

static DpsStatus no_memory (DpsError *err) { return dps_fail (err, DPS_ERR_NOMEM, "cpu: out of memory for a matrix product"); }

/* Sums of a tile, and oneDNN's scratch, for every thread. */
typedef struct Room {
    char *base;
    uint64_t sums, scratch;
} Room;

static DpsStatus open_room (Room *r, int64_t elements, DpsError *err)
{
    r->sums = ((uint64_t)elements * 4 + 63) / 64 * 64;
    r->base = cpu_scratch (CPU_SLOT_TILES, (r->sums + r->scratch) * (uint64_t)cpu_threads (1 << 20));
    return r->base ? DPS_OK : no_memory (err);
}

static float *sums_of (const Room *r) { return (float *)(r->base + (uint64_t)cpu_thread () * (r->sums + r->scratch)); }
static void *scratch_of (const Room *r) { return (char *)sums_of (r) + r->sums; }

static DpsStatus find_kernel (const CpuProduct *p, int64_t rows, int64_t N, CpuKernel *out, Room *r, DpsError *err)
{
    if (out->K)
        return DPS_OK;
    DPS_TRY (cpu_kernel (rows, N, p->K, p->lda, p->dtype, out, err));
    r->scratch = out->scratch_bytes > r->scratch ? out->scratch_bytes : r->scratch;
    return DPS_OK;
}

typedef struct Grid {
    const CpuProduct *p;
    CpuKernel full[SIZES], last[SIZES];  /* by rows/16 - 1: of a whole panel, of the last one */
    int64_t tiles, panels, padded_first; /* the first row of the tile that is padded; -1: none is */
    const char *tail;                    /* its rows of A */
    Room room;
} Grid;

static int size_index (int64_t rows) { return (int)(ceil_div (rows, CPU_ROW_GROUP) - 1); }

/* Every kernel the tiles will want, before threads start. */
static DpsStatus find_kernels (Grid *g, DpsError *err)
{
    const CpuProduct *p = g->p;
    for (int64_t t = 0; t < g->tiles; t++) {
        int64_t first, n;
        cpu_tile_rows (p->M, g->tiles, t, &first, &n);
        int size = size_index (n);
        int64_t rows = (size + 1) * CPU_ROW_GROUP;
        DPS_TRY (find_kernel (p, rows, p->N - (g->panels - 1) * p->panel, &g->last[size], &g->room, err));
        if (g->panels > 1)
            DPS_TRY (find_kernel (p, rows, p->panel, &g->full[size], &g->room, err));
    }
    return open_room (&g->room, CPU_TILE_ROWS * (p->N < p->panel ? p->N : p->panel), err);
}

/* The last tile's rows of A, with zeros behind them, when they do not fill their group. */
static DpsStatus pad_tail (Grid *g, DpsError *err)
{
    const CpuProduct *p = g->p;
    int64_t first, n;
    g->padded_first = -1;
    if (p->M % CPU_ROW_GROUP == 0)
        return DPS_OK;
    cpu_tile_rows (p->M, g->tiles, g->tiles - 1, &first, &n);
    uint64_t rows = (uint64_t)(size_index (n) + 1) * CPU_ROW_GROUP, row = (uint64_t)p->lda * size_of (p->dtype),
             used = (uint64_t)p->K * size_of (p->dtype);
    char *tail = cpu_scratch (CPU_SLOT_TAIL, rows * row);
    if (!tail)
        return no_memory (err);
    for (uint64_t i = 0; i < rows; i++)
        if (i < (uint64_t)n)
            memcpy (tail + i * row, (const char *)p->a + ((uint64_t)first + i) * row, used);
        else
            memset (tail + i * row, 0, used);
    g->tail = tail;
    g->padded_first = first;
    return DPS_OK;
}

static void *at (const DpsView *v, int64_t i) { return (char *)v->host + (uint64_t)i * size_of (v->dtype); }

static DpsStatus run_tile (const Grid *g, int64_t i, DpsError *err)
{
    const CpuProduct *p = g->p;
    int64_t panel = i / g->tiles, column = panel * p->panel, first, n;
    int is_last = panel == g->panels - 1;
    cpu_tile_rows (p->M, g->tiles, i % g->tiles, &first, &n);
    const char *a = first == g->padded_first ? g->tail : (const char *)p->a + (uint64_t)(first * p->lda) * size_of (p->dtype);
    float *sums = sums_of (&g->room);
    DPS_TRY (cpu_kernel_run (&(is_last ? g->last : g->full)[size_index (n)], n, a, (const char *)p->b + (uint64_t)panel * p->panel_bytes,
                             sums, scratch_of (&g->room), err));
    const CpuTile t = {.sum = sums,
                       .rows = n,
                       .cols = is_last ? p->N - column : p->panel,
                       .ld = p->ld,
                       .bias = p->bias ? at (p->bias, column) : NULL,
                       .bias_bf16 = p->bias && p->bias->dtype == DPS_DTYPE_BF16,
                       .c = p->c ? at (p->c, first * p->ld + column) : NULL,
                       .c_bf16 = p->c && p->c->dtype == DPS_DTYPE_BF16,
                       .y = at (p->y, first * p->ld + column),
                       .y_bf16 = p->y->dtype == DPS_DTYPE_BF16,
                       .alpha = p->alpha};
    cpu_machine ()->vector->tile_finish (&t);
    return DPS_OK;
}

DpsStatus cpu_product (const CpuProduct *p, DpsError *err)
{
    Grid g = {.p = p, .panels = ceil_div (p->N, p->panel)};
    if (p->M == 0 || p->N == 0)
        return DPS_OK;
    g.tiles = g.panels > 1 ? ceil_div (p->M, CPU_TILE_ROWS) : cpu_tile_count (p->M);
    DPS_TRY (find_kernels (&g, err));
    DPS_TRY (pad_tail (&g, err));
    int64_t work = g.tiles * g.panels;
    DpsStatus st = DPS_OK;
#pragma omp parallel for schedule(dynamic, 1) if (work > 1 && (double)p->M * (double)p->N * (double)p->K > SERIAL_MADDS)
    for (int64_t i = 0; i < work; i++) {
        DpsError why = DPS_ERROR_INIT;
        DpsStatus one = run_tile (&g, i, &why);
        if (one != DPS_OK)
#pragma omp critical
        {
            st = one;
            dps_fail (err, one, "%s", why.msg);
        }
    }
    return st;
}
