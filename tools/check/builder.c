/* SPDX-License-Identifier: Apache-2.0 */
#include "check/builder.h"

#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "base/rng.h"

DpsNode check_node (struct DpsBuilder *b, int64_t rows, int64_t cols, const double *v)
{
    double *own = b->n < CHECK_MAX_NODES ? dps_calloc ((size_t)(rows * cols), sizeof *own) : NULL;
    if (!own)
        return -1;
    if (v)
        memcpy (own, v, (size_t)(rows * cols) * sizeof *own);
    b->nodes[b->n] = (CheckNode){rows, cols, own};
    return b->n++;
}

DpsNode check_node_f32 (struct DpsBuilder *b, int64_t rows, int64_t cols, const float *v)
{
    DpsNode n = check_node (b, rows, cols, NULL);
    for (int64_t i = 0; n >= 0 && i < rows * cols; i++)
        b->nodes[n].v[i] = (double)v[i];
    return n;
}

void check_builder_free (struct DpsBuilder *b)
{
    while (b->n > 0)
        dps_free (b->nodes[--b->n].v);
}

/* 1 when the call may go on. */
static int begin (struct DpsBuilder *b)
{
    uint64_t at = ++b->n_ops;
    if (at == b->other_at && b->meanwhile)
        b->meanwhile (b->ctx);
    return !b->misuse && !(b->fail_at && at >= b->fail_at);
}

static DpsNode misused (struct DpsBuilder *b, const char *how)
{
    b->misuse = b->misuse ? b->misuse : how;
    return -1;
}

static int is_node (const struct DpsBuilder *b, DpsNode n) { return n >= 0 && n < b->n; }

static DpsNode product (struct DpsBuilder *b, DpsNode x, DpsNode p, DpsNode c, double alpha)
{
    if (!is_node (b, x) || !is_node (b, p) || (c != -1 && !is_node (b, c)))
        return misused (b, "a product of something that is no node");
    CheckNode kx = b->nodes[x], kp = b->nodes[p];
    if (kx.cols != kp.cols || (c >= 0 && (b->nodes[c].rows != kx.rows || b->nodes[c].cols != kp.rows)))
        return misused (b, "a product whose shapes do not fit");
    DpsNode y = check_node (b, kx.rows, kp.rows, NULL);
    for (int64_t i = 0; y >= 0 && i < kx.rows * kp.rows; i++) {
        double sum = 0;
        for (int64_t k = 0; k < kx.cols; k++)
            sum += kx.v[i / kp.rows * kx.cols + k] * kp.v[i % kp.rows * kp.cols + k];
        b->nodes[y].v[i] = alpha * sum + (c >= 0 ? b->nodes[c].v[i] : 0);
    }
    return y;
}

static DpsNode base (struct DpsBuilder *b, DpsNode x)
{
    b->n_base++;
    return begin (b) ? product (b, x, b->w, -1, 1) : -1;
}

static DpsNode linear (struct DpsBuilder *b, DpsNode x, DpsNode p, DpsNode c, double alpha)
{
    return begin (b) ? product (b, x, p, c, alpha) : -1;
}

/* n numbers that count as constants: v, or what was kept of them. */
static const double *constant (struct DpsBuilder *b, const double *v, int64_t n)
{
    CheckHeld *h = b->held;
    if (!h)
        return v;
    if ((size_t)n > CHECK_MAX_HELD - h->n) {
        misused (b, "more constants than this check holds");
        return v;
    }
    double *at = h->v + h->n;
    h->n += (size_t)n;
    if (h->keep)
        memcpy (at, v, (size_t)n * sizeof *v);
    return at;
}

/* y is a matrix of x's shape, or one row. */
static DpsNode each (struct DpsBuilder *b, DpsNode x, DpsNode y, char op)
{
    if (!begin (b))
        return -1;
    if (!is_node (b, x) || !is_node (b, y))
        return misused (b, "an elementwise op of something that is no node");
    CheckNode kx = b->nodes[x], ky = b->nodes[y];
    if (kx.cols != ky.cols || (ky.rows != 1 && ky.rows != kx.rows))
        return misused (b, "an elementwise op whose shapes do not fit");
    DpsNode z = check_node (b, kx.rows, kx.cols, NULL);
    const double *second = op == '/' ? constant (b, ky.v, ky.rows * ky.cols) : ky.v;
    for (int64_t i = 0; z >= 0 && i < kx.rows * kx.cols; i++) {
        double p = kx.v[i], q = second[ky.rows == 1 ? i % ky.cols : i];
        b->nodes[z].v[i] = op == '+' ? p + q : op == '-' ? p - q : op == '*' ? p * q : p / q;
    }
    return z;
}

static DpsNode add (struct DpsBuilder *b, DpsNode x, DpsNode y) { return each (b, x, y, '+'); }
static DpsNode sub (struct DpsBuilder *b, DpsNode x, DpsNode y) { return each (b, x, y, '-'); }
static DpsNode mul_cols (struct DpsBuilder *b, DpsNode x, DpsNode v) { return each (b, x, v, '*'); }
static DpsNode divide (struct DpsBuilder *b, DpsNode x, DpsNode y) { return each (b, x, y, '/'); }

static DpsNode dropout (struct DpsBuilder *b, DpsNode x, double p)
{
    if (!begin (b))
        return -1;
    if (!is_node (b, x) || !(p >= 0 && p < 1))
        return misused (b, "a dropout of no node, or not in [0, 1)");
    if (!b->training)
        return x;
    DpsNode y = check_node (b, b->nodes[x].rows, b->nodes[x].cols, b->nodes[x].v);
    for (int64_t i = 0; y >= 0 && i < b->nodes[y].rows * b->nodes[y].cols; i++)
        b->nodes[y].v[i] *= dps_rng_uniform (7, (uint64_t)x, (uint64_t)i) < p ? 0 : 1 / (1 - p);
    return y;
}

static DpsNode weight_norm (struct DpsBuilder *b, DpsNode a, DpsNode bb, double s)
{
    if (!begin (b))
        return -1;
    if (!is_node (b, a) || !is_node (b, bb))
        return misused (b, "a weight norm of something that is no node");
    CheckNode w = b->nodes[b->w], ka = b->nodes[a], kb = b->nodes[bb];
    if (ka.cols != w.cols || kb.rows != w.rows || kb.cols != ka.rows)
        return misused (b, "a weight norm whose shapes do not fit");
    DpsNode y = check_node (b, 1, w.rows, NULL);
    for (int64_t o = 0; y >= 0 && o < w.rows; o++) {
        double sum = 0;
        for (int64_t k = 0; k < w.cols; k++) {
            double v = w.v[o * w.cols + k];
            for (int64_t r = 0; r < ka.rows; r++)
                v += s * kb.v[o * kb.cols + r] * ka.v[r * ka.cols + k];
            sum += v * v;
        }
        b->nodes[y].v[o] = sqrt (sum);
    }
    const double *kept = y >= 0 ? constant (b, b->nodes[y].v, w.rows) : NULL;
    if (kept && kept != b->nodes[y].v)
        memcpy (b->nodes[y].v, kept, (size_t)w.rows * sizeof *kept);
    return y;
}

const DpsBuilderOps check_builder_ops = {.size = sizeof check_builder_ops,
                                         .base = base,
                                         .linear = linear,
                                         .add = add,
                                         .mul_cols = mul_cols,
                                         .div = divide,
                                         .dropout = dropout,
                                         .weight_norm = weight_norm,
                                         .sub = sub};
