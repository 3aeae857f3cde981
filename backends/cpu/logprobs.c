/* SPDX-License-Identifier: Apache-2.0 */
/*
 * logprobs.c: token_logprobs without the logits: the vocabulary goes by in chunks. For each chunk and each tile of rows, on one thread and in its
 * cache: z = h·Wᵀ (chunk); the running maximum, sums and arg max are brought up to date; and, when the adjoint will be wanted,
 * acc = acc·exp(old max - new max) + p·W. At the end dir = W[target] - acc/sum. So the head is multiplied twice and S×V numbers never exist.
 */
#include <string.h>

#include "pack.h"

static DpsStatus no_memory (CpuCall *c) { return dps_fail (c->err, DPS_ERR_NOMEM, "cpu: out of memory for %s", c->name); }

typedef struct Head {
    const DpsView *w;
    const char *forward, *grad; /* packed */
    int64_t S, D, V, chunk, tiles;
    uint32_t dtype;
    const void *h; /* (S_padded, D) */
} Head;

static uint64_t size_of (uint32_t dtype) { return dtype == DPS_DTYPE_BF16 ? 2 : 4; }

/* h in the products' dtype, its last rows padded with zeros to a whole group. */
static DpsStatus copy_rows (CpuCall *c, Head *t)
{
    const DpsView *h = cpu_in (c, 0);
    int64_t padded = (t->S + CPU_ROW_GROUP - 1) / CPU_ROW_GROUP * CPU_ROW_GROUP;
    char *copy = cpu_scratch (CPU_SLOT_A, (uint64_t)(padded * t->D) * size_of (t->dtype));
    if (!copy)
        return no_memory (c);
    cpu_machine ()->vector->convert (h->host, h->dtype, copy, t->dtype, t->S * t->D);
    memset (copy + (uint64_t)(t->S * t->D) * size_of (t->dtype), 0, (uint64_t)((padded - t->S) * t->D) * size_of (t->dtype));
    t->h = copy;
    return DPS_OK;
}

static DpsStatus open_head (CpuCall *c, Head *t, int needs_grad)
{
    const DpsView *h = cpu_in (c, 0), *w = cpu_in (c, 1), *w_grad = cpu_in (c, 3);
    const void *packed;
    *t = (Head){.w = w, .S = cpu_rows (h), .D = cpu_cols (h), .V = w->shape[0]};
    t->chunk = cpu_block_rows (t->V);
    t->tiles = cpu_tile_count (t->S);
    t->dtype = w->dtype;
    DPS_TRY (cpu_packed (w, DPS_PACK_FORWARD, t->dtype, &packed, c->err));
    t->forward = packed;
    if (needs_grad && cpu_is_packed (w) && !w_grad)
        return dps_fail (c->err, DPS_ERR_INVALID, "cpu: token_logprobs needs the head packed for input gradients too when dir is wanted");
    if (needs_grad) {
        DPS_TRY (cpu_packed (cpu_is_packed (w) ? w_grad : w, DPS_PACK_INPUT_GRAD, t->dtype, &packed, c->err));
        t->grad = packed;
    }
    return copy_rows (c, t);
}

/* Products of one kind over the panels of one B: for tiles of 16, 32, 48, 64 rows, of a whole panel and of the last one. */
typedef struct Panels {
    const char *b;
    uint64_t bytes;
    int64_t N, K, width, n;
    CpuKernel full[4], last[4];
} Panels;

typedef struct Chunk {
    int64_t first, n; /* rows of the head */
    Panels z, acc;    /* h·Wᵀ; p·W */
    uint64_t scratch;
} Chunk;

static Panels panels_of (const char *packed, const CpuPanels *at, int64_t K, int64_t N, int64_t width)
{
    return (Panels){.b = packed + at->base, .bytes = at->panel_bytes, .K = K, .N = N, .width = width, .n = (N + width - 1) / width};
}

static DpsStatus find_kernels (const Head *t, Panels *p, int size, uint64_t *scratch, DpsError *err)
{
    int64_t rows = (size + 1) * CPU_ROW_GROUP;
    DPS_TRY (cpu_kernel (rows, p->N - (p->n - 1) * p->width, p->K, p->K, t->dtype, &p->last[size], err));
    if (p->n > 1)
        DPS_TRY (cpu_kernel (rows, p->width, p->K, p->K, t->dtype, &p->full[size], err));
    uint64_t a = p->last[size].scratch_bytes, b = p->full[size].scratch_bytes;
    *scratch = a > *scratch ? a : *scratch;
    *scratch = b > *scratch ? b : *scratch;
    return DPS_OK;
}

/* y (rows, N) = (c +) A·B. A single panel without c goes straight to y. */
static DpsStatus run_panels (const Panels *p, int size, int64_t rows, const void *a, const float *c, float *y, float *sums, void *scratch,
                             DpsError *err)
{
    if (p->n == 1 && !c)
        return cpu_kernel_run (&p->last[size], rows, a, p->b, y, scratch, err);
    for (int64_t i = 0; i < p->n; i++) {
        int is_last = i == p->n - 1;
        DPS_TRY (cpu_kernel_run (&(is_last ? p->last : p->full)[size], rows, a, p->b + (uint64_t)i * p->bytes, sums, scratch, err));
        const CpuTile t = {.sum = sums,
                           .rows = rows,
                           .cols = is_last ? p->N - i * p->width : p->width,
                           .ld = p->N,
                           .c = c ? c + i * p->width : NULL,
                           .y = y + i * p->width,
                           .alpha = 1};
        cpu_machine ()->vector->tile_finish (&t);
    }
    return DPS_OK;
}

static int tile_size (const Head *t, int64_t tile, int64_t *out_first, int64_t *out_n)
{
    cpu_tile_rows (t->S, t->tiles, tile, out_first, out_n);
    return (int)((*out_n + CPU_ROW_GROUP - 1) / CPU_ROW_GROUP - 1);
}

static DpsStatus open_chunk (CpuCall *c, const Head *t, int64_t first, Chunk *k)
{
    CpuPanels forward, grad;
    int64_t n = t->V - first < t->chunk ? t->V - first : t->chunk;
    *k = (Chunk){.first = first, .n = n};
    DPS_TRY (cpu_forward_panels (t->V, t->D, t->dtype, first, &forward, c->err));
    k->z = panels_of (t->forward, &forward, t->D, n, cpu_forward_panel (t->V));
    if (t->grad) {
        DPS_TRY (cpu_grad_panels (t->V, t->D, t->dtype, first, &grad, c->err));
        k->acc = panels_of (t->grad, &grad, n, t->D, cpu_grad_panel (t->V, t->D));
    }
    for (int64_t i = 0; i < t->tiles; i++) {
        int64_t row, rows;
        int size = tile_size (t, i, &row, &rows);
        if (k->z.last[size].K)
            continue;
        DPS_TRY (find_kernels (t, &k->z, size, &k->scratch, c->err));
        if (t->grad)
            DPS_TRY (find_kernels (t, &k->acc, size, &k->scratch, c->err));
    }
    return DPS_OK;
}

/* dir = W[target]·factor - acc/sum, in place over acc, then to the output's dtype. */
static DpsStatus finish_dir (CpuCall *c, const Head *t, const CpuSoftmax *s, const DpsView *dir)
{
    float *row = cpu_scratch (CPU_SLOT_E, (uint64_t)t->D * 4);
    if (!row)
        return no_memory (c);
    int64_t shape[2] = {1, t->D};
    DpsView one = {.size = sizeof one, .dtype = DPS_DTYPE_F32, .rank = 2, .shape = shape, .host = row};
    for (int64_t i = 0; i < t->S; i++) {
        float *acc = s->acc + i * t->D;
        if (cpu_is_packed (t->w))
            DPS_TRY (cpu_unpack_rows (t->w, &s->targets[i], 1, &one, c->err));
        else
            cpu_machine ()->vector->convert ((const char *)t->w->host + (uint64_t)(s->targets[i] * t->D) * size_of (t->w->dtype),
                                             t->w->dtype, row, DPS_DTYPE_F32, t->D);
        float inverse = 1 / s->sum[i];
        for (int64_t d = 0; d < t->D; d++)
            acc[d] = row[d] * s->target_factor[i] - acc[d] * inverse;
    }
    cpu_machine ()->vector->convert (s->acc, DPS_DTYPE_F32, dir->host, dir->dtype, t->S * t->D);
    return DPS_OK;
}

static DpsStatus check_targets (CpuCall *c, const int32_t *targets, int64_t S, int64_t V)
{
    for (int64_t i = 0; i < S; i++)
        if (targets[i] < 0 || targets[i] >= V)
            return dps_fail (c->err, DPS_ERR_INVALID, "cpu: target %d of row %lld is outside the vocabulary of %lld", targets[i],
                             (long long)i, (long long)V);
    return DPS_OK;
}

static DpsStatus open_softmax (CpuCall *c, const Head *t, const int32_t *targets, CpuSoftmax *s)
{
    uint64_t S = (uint64_t)t->S, padded = (S + CPU_ROW_GROUP - 1) / CPU_ROW_GROUP * CPU_ROW_GROUP;
    float *rows = cpu_scratch (CPU_SLOT_F, S * 4 * 12 + 64);
    *s = (CpuSoftmax){.S = t->S, .D = t->D, .ld = t->chunk, .softcap = cpu_f (c, 0), .temperature = cpu_f (c, 1), .p_dtype = t->dtype};
    s->targets = targets;
    s->temperature = s->temperature > 0 ? s->temperature : 1;
    if (t->grad)
        s->acc = cpu_scratch (CPU_SLOT_G, padded * (uint64_t)t->D * 4);
    if (!rows || (t->grad && !s->acc))
        return no_memory (c);
    if (s->acc)
        memset (s->acc, 0, (size_t)padded * (size_t)t->D * 4);
    s->max = rows, s->sum = rows + S, s->sum_z = rows + 2 * S, s->target = rows + 3 * S, s->best = rows + 4 * S;
    s->target_factor = rows + 5 * S, s->best_id = (int32_t *)(rows + 6 * S);
    s->logp = rows + 7 * S, s->entropy = rows + 8 * S, s->hit = rows + 9 * S;
    return check_targets (c, s->targets, t->S, t->V);
}

/* What a thread needs for a tile: z, p, a panel's sums, oneDNN's scratch. */
typedef struct Room {
    char *base;
    uint64_t z, p, sums, bytes;
} Room;

static DpsStatus open_room (CpuCall *c, const Head *t, const Chunk *k, Room *r)
{
    int64_t widest = k->z.width > k->acc.width ? k->z.width : k->acc.width;
    r->z = (uint64_t)(CPU_TILE_ROWS * t->chunk) * 4;
    r->p = (uint64_t)(CPU_TILE_ROWS * t->chunk) * size_of (t->dtype);
    r->sums = (uint64_t)(CPU_TILE_ROWS * widest) * 4;
    r->bytes = (r->z + r->p + r->sums + k->scratch + 63) / 64 * 64;
    r->base = cpu_scratch (CPU_SLOT_C, r->bytes * (uint64_t)cpu_threads (1 << 20));
    return r->base ? DPS_OK : no_memory (c);
}

/* z of a tile in the calling thread's room, which `s` then sees as the tile's rows. */
static DpsStatus tile_z (const Head *t, const Chunk *k, const Room *r, int size, int64_t row, int64_t n, CpuSoftmax *s, DpsError *err)
{
    char *room = r->base + (uint64_t)cpu_thread () * r->bytes, *p = room + r->z;
    const char *a = (const char *)t->h + (uint64_t)(row * t->D) * size_of (t->dtype);
    DPS_TRY (run_panels (&k->z, size, n, a, NULL, (float *)room, (float *)(p + r->p), p + r->p + r->sums, err));
    s->ld = k->n;
    s->z = (float *)room - row * s->ld; /* rows are counted from the call's first */
    s->p = t->grad ? p - (uint64_t)(row * s->ld) * size_of (t->dtype) : NULL;
    return DPS_OK;
}

/* One tile of one chunk: logits, softmax, second product. */
static DpsStatus run_tile (const Head *t, const Chunk *k, const CpuSoftmax *all, const Room *r, int64_t tile, DpsError *err)
{
    int64_t row, n;
    int size = tile_size (t, tile, &row, &n);
    char *p = r->base + (uint64_t)cpu_thread () * r->bytes + r->z;
    CpuSoftmax s = *all;
    DPS_TRY (tile_z (t, k, r, size, row, n, &s, err));
    cpu_machine ()->vector->softmax_rows (&s, row, n, k->first, k->n);
    if (!t->grad)
        return DPS_OK;
    if (n % CPU_ROW_GROUP) /* rows beyond the last: whatever was there would be multiplied too */
        memset (p + (uint64_t)(n * s.ld) * size_of (t->dtype), 0,
                (uint64_t)((CPU_ROW_GROUP - n % CPU_ROW_GROUP) * s.ld) * size_of (t->dtype));
    float *acc = s.acc + row * t->D;
    return run_panels (&k->acc, size, n, p, acc, acc, (float *)(p + r->p), p + r->p + r->sums, err);
}

static DpsStatus run_chunk (CpuCall *c, const Head *t, const Chunk *k, const CpuSoftmax *s, const Room *r)
{
    DpsStatus st = DPS_OK;
#pragma omp parallel for schedule(dynamic, 1) if (t->tiles > 1)
    for (int64_t tile = 0; tile < t->tiles; tile++) {
        DpsError why = DPS_ERROR_INIT;
        DpsStatus one = run_tile (t, k, s, r, tile, &why);
        if (one != DPS_OK)
#pragma omp critical
        {
            st = one;
            dps_fail (c->err, one, "%s", why.msg);
        }
    }
    return st;
}

static DpsStatus all_chunks (CpuCall *c, const Head *t, const CpuSoftmax *s)
{
    for (int64_t first = 0; first < t->V; first += t->chunk) {
        Chunk k;
        Room r;
        DPS_TRY (open_chunk (c, t, first, &k));
        DPS_TRY (open_room (c, t, &k, &r));
        DPS_TRY (run_chunk (c, t, &k, s, &r));
    }
    return DPS_OK;
}

DpsStatus cpu_token_logprobs (CpuCall *c)
{
    const DpsView *dir = cpu_out (c, 3);
    Head t;
    CpuSoftmax s;
    DPS_TRY (open_head (c, &t, dir != NULL));
    DPS_TRY (open_softmax (c, &t, cpu_in (c, 2)->host, &s));
    DPS_TRY (all_chunks (c, &t, &s));
    cpu_machine ()->vector->softmax_end (&s);
    const float *const results[] = {s.logp, s.entropy, s.hit};
    for (uint32_t i = 0; i < 3; i++)
        if (cpu_out (c, i))
            cpu_machine ()->vector->convert (results[i], DPS_DTYPE_F32, cpu_out (c, i)->host, cpu_out (c, i)->dtype, t.S);
    return dir ? finish_dir (c, &t, &s, dir) : DPS_OK;
}

/* The rows are there whole: the same chunks, without the product. */
DpsStatus cpu_row_logprobs (CpuCall *c)
{
    const DpsView *z = cpu_in (c, 0);
    Head t = {.S = cpu_rows (z), .V = cpu_cols (z), .dtype = DPS_DTYPE_F32, .chunk = cpu_block_rows (cpu_cols (z))};
    CpuSoftmax s;
    DPS_TRY (open_softmax (c, &t, cpu_in (c, 1)->host, &s));
    s.ld = t.V;
#pragma omp parallel for schedule(static) if (t.S > 1 && t.S * t.V > CPU_SERIAL_WORK)
    for (int64_t row = 0; row < t.S; row++) {
        CpuSoftmax one = s;
        for (int64_t first = 0; first < t.V; first += t.chunk) {
            one.z = (const float *)z->host + first;
            cpu_machine ()->vector->softmax_rows (&one, row, 1, first, t.V - first < t.chunk ? t.V - first : t.chunk);
        }
    }
    cpu_machine ()->vector->softmax_end (&s);
    memcpy (cpu_out (c, 0)->host, s.logp, (size_t)t.S * sizeof *s.logp);
    return DPS_OK;
}

/* dz (S, chunk) = (onehot - p)·dlogp of one chunk, its logits made once more. */
static DpsStatus chunk_dz (CpuCall *c, const Head *t, const CpuSoftmax *all, const Chunk *k, const float *dlogp, float *dz)
{
    Room r;
    DpsStatus st = DPS_OK;
    DPS_TRY (open_room (c, t, k, &r));
#pragma omp parallel for schedule(dynamic, 1) if (t->tiles > 1)
    for (int64_t tile = 0; tile < t->tiles; tile++) {
        DpsError why = DPS_ERROR_INIT;
        int64_t row, n;
        int size = tile_size (t, tile, &row, &n);
        CpuSoftmax s = *all;
        DpsStatus one = tile_z (t, k, &r, size, row, n, &s, &why);
        if (one == DPS_OK)
            cpu_machine ()->vector->softmax_grad (&s, row, n, k->first, k->n, dlogp, dz);
        else
#pragma omp critical
        {
            st = one;
            dps_fail (c->err, one, "%s", why.msg);
        }
    }
    return st;
}

/* dW[first …] += Σ over roots of dzᵀ·h, after a pass for the sums. */
DpsStatus cpu_token_logprobs_dw (CpuCall *c)
{
    const DpsView *dlogp = cpu_in (c, 3), *roots = cpu_in (c, 4), *dw = cpu_out (c, 0);
    Head t;
    CpuSoftmax s;
    DPS_TRY (open_head (c, &t, 0));
    DPS_TRY (open_softmax (c, &t, cpu_in (c, 2)->host, &s));
    DPS_TRY (all_chunks (c, &t, &s));
    float *h = cpu_scratch (CPU_SLOT_B, (uint64_t)(t.S * t.D) * 4), *dz = cpu_scratch (CPU_SLOT_D, (uint64_t)(t.S * t.chunk) * 4);
    if (!h || !dz)
        return no_memory (c);
    cpu_machine ()->vector->convert (cpu_in (c, 0)->host, cpu_in (c, 0)->dtype, h, DPS_DTYPE_F32, t.S * t.D);
    for (int64_t first = 0; first < t.V; first += t.chunk) {
        Chunk k;
        DPS_TRY (open_chunk (c, &t, first, &k));
        DPS_TRY (chunk_dz (c, &t, &s, &k, dlogp->host, dz));
        const CpuOuter p = {.M = k.n,
                            .N = t.D,
                            .lda = k.n,
                            .ldb = t.D,
                            .ldc = t.D,
                            .roots = roots->host,
                            .n_roots = roots->shape[0] - 1,
                            .alpha = 1,
                            .a = dz,
                            .b = h,
                            .c = (float *)dw->host + first * t.D};
        if (p.n_roots > 0)
            cpu_machine ()->vector->outer (&p);
    }
    return DPS_OK;
}

DpsStatus cpu_embed_packed (CpuCall *c)
{
    const DpsView *table = cpu_in (c, 0), *ids = cpu_in (c, 1), *y = cpu_out (c, 0);
    DPS_TRY (cpu_unpack_rows (table, ids->host, cpu_count (ids), y, c->err));
    double scale = cpu_f (c, 0);
    if (scale != 0 && scale != 1)
        cpu_machine ()->vector->scale (y->host, y->dtype, y->host, y->dtype, scale, cpu_count (y));
    return DPS_OK;
}
