/* SPDX-License-Identifier: Apache-2.0 */
/* norm.c: RMSNorm over groups of h elements: y = x·r·(w + offset), r = 1/√(mean x² + eps). */
#include "ops.h"

typedef struct Norm {
    int64_t groups, h;
    float eps, offset;
} Norm;

static Norm norm_of (CpuCall *c, const DpsView *x)
{
    int64_t h = cpu_i (c, 2) ? cpu_i (c, 2) : cpu_cols (x);
    return (Norm){.groups = h > 0 ? cpu_count (x) / h : 0, .h = h, .eps = (float)cpu_f (c, 0), .offset = (float)cpu_f (c, 1)};
}

#define COLUMNS(h) for (int64_t d = 0, n; n = (h)-d < LANES ? (h)-d : LANES, d < (h); d += LANES)

INLINE void norm_row (const Norm *o, const void *x, int xb, const void *w, int wb, void *y, int yb, float *rstd, int64_t g)
{
    int64_t at = g * o->h;
    vf sum = splat (0);
    COLUMNS (o->h)
    {
        vf v = load_n (x, at + d, xb, n);
        sum += v * v;
    }
    float r = 1.0f / sqrtf (sum_lanes (sum) / (float)o->h + o->eps);
    if (rstd)
        rstd[g] = r;
    COLUMNS (o->h) store_n (y, at + d, yb, load_n (x, at + d, xb, n) * splat (r) * (load_n (w, d, wb, n) + splat (o->offset)), n);
}

DpsStatus ISA_NAME (cpu_rms_norm) (CpuCall *c)
{
    const DpsView *x = cpu_in (c, 0), *w = cpu_in (c, 1), *y = cpu_out (c, 0);
    Norm o = norm_of (c, x);
    float *rstd = cpu_out (c, 1) ? cpu_out (c, 1)->host : NULL;
    int xb = IS_BF (x), yb = IS_BF (y), wb = IS_BF (w);
#define ROWS(xb, yb) PARALLEL_FOR (g, o.groups, o.groups *o.h) norm_row (&o, x->host, xb, w->host, wb, y->host, yb, rstd, g)
    if (xb && yb)
        ROWS (1, 1);
    else if (xb)
        ROWS (1, 0);
    else if (yb)
        ROWS (0, 1);
    else
        ROWS (0, 0);
#undef ROWS
    return DPS_OK;
}

/* dx = r·(u − x·r²·mean(u·x)), u = dy·(w + offset) */
INLINE void norm_dx_row (const Norm *o, const void *x, int xb, const void *w, int wb, float r, const void *dy, int gb, const void *add,
                         int ab, void *dx, int db, int64_t g)
{
    int64_t at = g * o->h;
    vf dot = splat (0);
    COLUMNS (o->h) dot += load_n (dy, at + d, gb, n) * (load_n (w, d, wb, n) + splat (o->offset)) * load_n (x, at + d, xb, n);
    float k = sum_lanes (dot) / (float)o->h * r * r;
    COLUMNS (o->h)
    {
        vf u = load_n (dy, at + d, gb, n) * (load_n (w, d, wb, n) + splat (o->offset));
        vf v = splat (r) * (u - load_n (x, at + d, xb, n) * splat (k));
        if (add)
            v += load_n (add, at + d, ab, n);
        store_n (dx, at + d, db, v, n);
    }
}

DpsStatus ISA_NAME (cpu_rms_norm_dx) (CpuCall *c)
{
    const DpsView *x = cpu_in (c, 0), *w = cpu_in (c, 1), *dy = cpu_in (c, 3), *add = cpu_in (c, 4), *dx = cpu_out (c, 0);
    const float *rstd = cpu_in (c, 2)->host;
    Norm o = norm_of (c, x);
    int xb = IS_BF (x), gb = IS_BF (dy), db = IS_BF (dx), wb = IS_BF (w);
    const void *a = add ? add->host : NULL;
    int ab = add && IS_BF (add);
#define ROWS(xb, gb, db)                                                                                                                   \
    PARALLEL_FOR (g, o.groups, o.groups *o.h) norm_dx_row (&o, x->host, xb, w->host, wb, rstd[g], dy->host, gb, a, ab, dx->host, db, g)
    if (!xb && gb && !db)
        ROWS (0, 1, 0);
    else if (xb && !gb && db)
        ROWS (1, 0, 1);
    else if (xb && gb && db)
        ROWS (1, 1, 1);
    else if (!xb && !gb && !db)
        ROWS (0, 0, 0);
    else
        ROWS (xb, gb, db);
#undef ROWS
    return DPS_OK;
}

/* dw[d] += Σ over groups of dy·x·r, one partial per root; a root's rows are whole rows of x, each of several groups. */
DpsStatus ISA_NAME (cpu_rms_norm_dw) (CpuCall *c)
{
    const DpsView *x = cpu_in (c, 0), *dy = cpu_in (c, 2), *roots = cpu_in (c, 3), *dw = cpu_out (c, 0);
    const float *rstd = cpu_in (c, 1)->host;
    const int32_t *row_at = roots->host;
    Norm o = norm_of (c, x);
    int64_t per_row = cpu_cols (x) / o.h, chunks = (o.h + LANES - 1) / LANES;
    PARALLEL_FOR (chunk, chunks, cpu_count (x))
    {
        int64_t d = chunk * LANES, n = o.h - d < LANES ? o.h - d : LANES;
        vf total = load_n (dw->host, d, 0, n);
        for (int64_t r = 0; r + 1 < roots->shape[0]; r++) {
            vf partial = splat (0);
            for (int64_t g = row_at[r] * per_row; g < row_at[r + 1] * per_row; g++)
                partial += load_n (dy->host, g * o.h + d, IS_BF (dy), n) * load_n (x->host, g * o.h + d, IS_BF (x), n) * splat (rstd[g]);
            total += partial;
        }
        store_n (dw->host, d, 0, total, n);
    }
    return DPS_OK;
}
