/* SPDX-License-Identifier: Apache-2.0 */
/*
 * attention.c: softmax attention over segments with ancestors, windows, softcap and grouped key heads; forward and adjoint.
 *
 * For one query row and head, over the key rows it sees (dps__ref_visible, in position order):
 *
 *     s = scale·q·k, softcapped     p = exp (s − lse)     o = Σ p·v
 *     dv += p·do     ds = p·(do·v − do·o)·softcap'     dq += scale·ds·k     dk += scale·ds·q
 *
 * Keys of an ancestor are plain rows here, so a shared prefix is a repeated prompt by construction.
 */
#include "ref.h"

#include <math.h>

typedef struct Attention {
    int64_t n, m, n_heads, n_kv, h, window; /* n query rows, m key rows */
    double scale, cap;
    const DpsSegment *table;
    int64_t n_segments;
    double *q, *k, *v;
    int64_t *rows; /* the key rows the current query sees */
    double *p;     /* and their scores, later weights */
} Attention;

DpsStatus dps__ref_attention_check (DpsRefCall *c)
{
    int64_t n_heads = dps__ref_i (c, 0), n_kv = dps__ref_i (c, 1), h = dps__ref_i (c, 2), window = dps__ref_i (c, 4);
    if (n_heads < 1 || n_kv < 1 || h < 1 || n_heads % n_kv)
        return dps_fail (c->err, DPS_ERR_SHAPE, "ref %s: %lld heads, %lld key heads of width %lld: key heads must divide heads", c->name,
                         (long long)n_heads, (long long)n_kv, (long long)h);
    if (!dps_heads_fit (c->dim['Q'], n_heads, h) || !dps_heads_fit (c->dim['P'], n_kv, h))
        return dps_fail (c->err, DPS_ERR_SHAPE,
                         "ref %s: q has %lld columns and k %lld, expected H·h and G·h with H = %lld, G = %lld, h = %lld", c->name,
                         (long long)c->dim['Q'], (long long)c->dim['P'], (long long)n_heads, (long long)n_kv, (long long)h);
    if (c->dim['H'] >= 0 && c->dim['H'] != n_heads)
        return dps_fail (c->err, DPS_ERR_SHAPE, "ref %s: lse has %lld columns, expected H = %lld", c->name, (long long)c->dim['H'],
                         (long long)n_heads);
    if (window < 0)
        return dps_fail (c->err, DPS_ERR_INVALID, "ref %s: window is %lld, expected 0 (all of the past) or more", c->name,
                         (long long)window);
    return DPS_OK;
}

static DpsStatus prepare (DpsRefCall *c, const DpsView *segments, Attention *a)
{
    *a = (Attention){.n = c->dim['N'],
                     .m = c->dim['M'],
                     .n_heads = dps__ref_i (c, 0),
                     .n_kv = dps__ref_i (c, 1),
                     .h = dps__ref_i (c, 2),
                     .window = dps__ref_i (c, 4),
                     .scale = dps__ref_f (c, 3),
                     .cap = dps__ref_f (c, 5)};
    void *rows;
    DPS_TRY (dps__ref_segments (c, segments, a->n, a->m, &a->table, &a->n_segments));
    DPS_TRY (dps__ref_matrix (c, c->in[0], &a->q));
    DPS_TRY (dps__ref_matrix (c, c->in[1], &a->k));
    DPS_TRY (dps__ref_matrix (c, c->in[2], &a->v));
    /* Segments may share key rows, so a chain of n_segments can name more than m of them. */
    int64_t room = 0;
    for (int64_t s = 0; s < a->n_segments; s++)
        room += a->table[s].kv_len;
    DPS_TRY (dps__ref_scratch_bytes (c, room, (int64_t)sizeof *a->rows, &rows));
    DPS_TRY (dps__ref_scratch (c, room, &a->p));
    a->rows = rows;
    return DPS_OK;
}

/* Scores of one query and head after the softcap; *slope the factor softcap' of each when wanted. */
static double score (const Attention *a, const double *q, const double *k, double *slope)
{
    double s = a->scale * dps__ref_dot (q, k, a->h);
    *slope = 1;
    if (a->cap != 0) {
        double t = tanh (s / a->cap);
        s = a->cap * t;
        *slope = 1 - t * t;
    }
    return s;
}

static double *query_head (const Attention *a, double *base, int64_t row, int64_t head) { return base + (row * a->n_heads + head) * a->h; }

static double *key_head (const Attention *a, double *base, int64_t row, int64_t head)
{
    return base + (row * a->n_kv + head / (a->n_heads / a->n_kv)) * a->h;
}

/* o of one query and head; returns lse. A query that sees nothing gives zeros, and 0 for lse: finite on purpose. */
static double attend (const Attention *a, int64_t row, int64_t head, int64_t n_keys, double *o)
{
    double top = -INFINITY, sum = 0, slope;
    for (int64_t j = 0; j < n_keys; j++) {
        a->p[j] = score (a, query_head (a, a->q, row, head), key_head (a, a->k, a->rows[j], head), &slope);
        top = fmax (top, a->p[j]);
    }
    for (int64_t j = 0; j < n_keys; j++)
        sum += exp (a->p[j] - top);
    double lse = n_keys ? top + log (sum) : 0;
    for (int64_t j = 0; j < n_keys; j++) {
        const double *v = key_head (a, a->v, a->rows[j], head);
        double p = exp (a->p[j] - lse);
        for (int64_t d = 0; d < a->h; d++)
            o[d] += p * v[d];
    }
    return lse;
}

DpsStatus dps__ref_attention (DpsRefCall *c)
{
    Attention a;
    double *o, *lse;
    DPS_TRY (prepare (c, c->in[3], &a));
    DPS_TRY (dps__ref_scratch (c, a.n * a.n_heads * a.h, &o));
    DPS_TRY (dps__ref_scratch (c, a.n * a.n_heads, &lse));
    for (int64_t s = 0; s < a.n_segments; s++)
        for (int64_t i = 0; i < a.table[s].q_len; i++) {
            int64_t row = a.table[s].q_start + i, n_keys = dps__ref_visible (a.table, s, i, a.window, a.rows);
            for (int64_t head = 0; head < a.n_heads; head++)
                lse[row * a.n_heads + head] = attend (&a, row, head, n_keys, query_head (&a, o, row, head));
        }
    for (int64_t n = 0; n < a.n; n++) {
        dps__ref_store (c->out[0], n, o + n * a.n_heads * a.h);
        if (c->out[1])
            dps__ref_store (c->out[1], n, lse + n * a.n_heads);
    }
    return DPS_OK;
}

typedef struct Gradients {
    double *o, *lse, *d_o, *dq, *dk, *dv;
} Gradients;

static void attend_bwd (const Attention *a, const Gradients *g, int64_t row, int64_t head, int64_t n_keys)
{
    const double *q = query_head (a, a->q, row, head), *d_o = query_head (a, g->d_o, row, head);
    double *dq = query_head (a, g->dq, row, head), slope;
    double along_o = dps__ref_dot (d_o, query_head (a, g->o, row, head), a->h);
    for (int64_t j = 0; j < n_keys; j++) {
        const double *k = key_head (a, a->k, a->rows[j], head), *v = key_head (a, a->v, a->rows[j], head);
        double *dk = key_head (a, g->dk, a->rows[j], head), *dv = key_head (a, g->dv, a->rows[j], head);
        double p = exp (score (a, q, k, &slope) - g->lse[row * a->n_heads + head]);
        double ds = a->scale * slope * p * (dps__ref_dot (d_o, v, a->h) - along_o);
        for (int64_t d = 0; d < a->h; d++) {
            dv[d] += p * d_o[d];
            dq[d] += ds * k[d];
            dk[d] += ds * q[d];
        }
    }
}

/* Queries are taken in table order, so the keys of a parent receive its children's sums in that order. */
DpsStatus dps__ref_attention_bwd (DpsRefCall *c)
{
    Attention a;
    Gradients g;
    DPS_TRY (prepare (c, c->in[6], &a));
    DPS_TRY (dps__ref_matrix (c, c->in[3], &g.o));
    DPS_TRY (dps__ref_matrix (c, c->in[4], &g.lse));
    DPS_TRY (dps__ref_matrix (c, c->in[5], &g.d_o));
    int64_t q_width = a.n_heads * a.h, k_width = a.n_kv * a.h;
    DPS_TRY (dps__ref_scratch (c, a.n * q_width, &g.dq));
    DPS_TRY (dps__ref_scratch (c, a.m * k_width, &g.dk));
    DPS_TRY (dps__ref_scratch (c, a.m * k_width, &g.dv));
    for (int64_t s = 0; s < a.n_segments; s++)
        for (int64_t i = 0; i < a.table[s].q_len; i++) {
            int64_t n_keys = dps__ref_visible (a.table, s, i, a.window, a.rows);
            for (int64_t head = 0; head < a.n_heads; head++)
                attend_bwd (&a, &g, a.table[s].q_start + i, head, n_keys);
        }
    for (int64_t n = 0; n < a.n; n++)
        dps__ref_store (c->out[0], n, g.dq + n * q_width);
    for (int64_t m = 0; m < a.m; m++) {
        dps__ref_store (c->out[1], m, g.dk + m * k_width);
        dps__ref_store (c->out[2], m, g.dv + m * k_width);
    }
    return DPS_OK;
}
