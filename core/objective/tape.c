/* SPDX-License-Identifier: Apache-2.0 */
/* tape.c: the tape's memory, the functions that go from one axis to another, and the walk back. */
#include "objective/tape.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "objective/tape_record.h"
#include "plugin/host.h"

/*
 * Across axes there are two movements, each the other's adjoint. A relation gives element i of its coarse axis a range of its fine axis:
 * gather sums that range (or takes its mean), spread repeats element i over it.
 */
enum {
    ROW_TOKENS = 1, /* row i: its tokens */
    UNIT_TOKENS,    /* unit i: the tokens of its rows */
    UNIT_ROWS,      /* unit i: its rows */
    ALL,            /* the scalar: everything */
    LAST_TOKEN,     /* row i: its last token, or nothing */
    KTH_ROW,        /* unit i: its k-th row, k = p[0] */
    RELATION = 7,   /* mask of the above */
    MEAN = 8,       /* gather divides by the length of the range */
    SPREAD = 16
};

const char *dps__tape_axis_name (uint32_t axis)
{
    static const char *const names[] = {"scalar", "token", "row", "unit"};
    return axis <= DPS_AXIS_UNIT ? names[axis] : "unknown axis";
}

static uint64_t axis_size (const struct DpsTape *t, uint32_t axis)
{
    const uint64_t sizes[] = {1, t->shape.n_tokens, t->shape.n_rows, t->shape.n_units};
    return sizes[axis];
}

DpsVal dps__tape_fail (struct DpsTape *t, DpsStatus code, const char *fmt, ...)
{
    if (t->status != DPS_OK)
        return -1;
    char text[512];
    va_list ap;
    va_start (ap, fmt);
    vsnprintf (text, sizeof text, fmt, ap);
    va_end (ap);
    t->status = dps_fail (&t->err, code, "%s", text);
    return -1;
}

DpsTapeNode *dps__tape_new (struct DpsTape *t, uint32_t axis, uint64_t n, DpsVal *out)
{
    if (t->status != DPS_OK)
        return NULL;
    double *value = t->n_nodes < INT32_MAX ? dps_calloc (n, sizeof *value) : NULL;
    if (!value || DPS_GROW (t->nodes, t->n_nodes, t->capacity)) {
        dps_free (value);
        dps__tape_fail (t, DPS_ERR_NOMEM, "tape: no memory for value %zu of %llu numbers", t->n_nodes, (unsigned long long)n);
        return NULL;
    }
    *out = (DpsVal)t->n_nodes;
    DpsTapeNode *node = &t->nodes[t->n_nodes++];
    *node = (DpsTapeNode){.axis = axis, .n = n, .value = value, .arg = {-1, -1, -1}};
    return node;
}

DpsTapeNode *dps__tape_get (struct DpsTape *t, DpsVal x, const char *who)
{
    if (t->status != DPS_OK)
        return NULL;
    if (x >= 0 && (size_t)x < t->n_nodes)
        return &t->nodes[x];
    dps__tape_fail (t, DPS_ERR_INVALID, "tape: %s was given value %d, there are %zu", who, (int)x, t->n_nodes);
    return NULL;
}

/* Sources. */

static DpsVal leaf (struct DpsTape *t, uint32_t axis, const double *data, uint64_t n, int active, const char *who)
{
    if (axis > DPS_AXIS_UNIT)
        return dps__tape_fail (t, DPS_ERR_INVALID, "tape: %s along axis %u, there are 4", who, (unsigned)axis);
    if (n != axis_size (t, axis))
        return dps__tape_fail (t, DPS_ERR_SHAPE, "tape: %s of %llu numbers per %s, expected %llu", who, (unsigned long long)n,
                               dps__tape_axis_name (axis), (unsigned long long)axis_size (t, axis));
    DpsVal number;
    DpsTapeNode *node = dps__tape_new (t, axis, n, &number);
    if (!node)
        return -1;
    if (n)
        memcpy (node->value, data, n * sizeof *data);
    node->active = active;
    return number;
}

static DpsVal constant (struct DpsTape *t, double value) { return leaf (t, DPS_AXIS_SCALAR, &value, 1, 0, "constant"); }

static DpsVal input (struct DpsTape *t, uint32_t axis, const double *data, uint64_t n) { return leaf (t, axis, data, n, 0, "input"); }

static DpsVal variable (struct DpsTape *t, uint32_t axis, const double *data, uint64_t n) { return leaf (t, axis, data, n, 1, "variable"); }

static DpsVal detach (struct DpsTape *t, DpsVal x)
{
    const DpsTapeNode *a = dps__tape_get (t, x, "detach");
    return a ? leaf (t, a->axis, a->value, a->n, 0, "detach") : -1;
}

/* Across axes. */

static void range (const struct DpsTape *t, const DpsTapeNode *node, uint64_t i, int64_t *lo, int64_t *hi)
{
    const int64_t *rows = t->shape.row_offsets, *units = t->shape.unit_offsets;
    switch (node->across & RELATION) {
    case ROW_TOKENS: *lo = rows[i], *hi = rows[i + 1]; break;
    case UNIT_TOKENS: *lo = rows[units[i]], *hi = rows[units[i + 1]]; break;
    case UNIT_ROWS: *lo = units[i], *hi = units[i + 1]; break;
    case LAST_TOKEN: *lo = rows[i + 1] - (rows[i + 1] > rows[i]), *hi = rows[i + 1]; break;
    case KTH_ROW: *lo = units[i] + (int64_t)node->p[0], *hi = *lo + 1; break;
    default: *lo = 0, *hi = (int64_t)t->nodes[node->arg[0]].n; break; /* ALL */
    }
}

/* A spread from a scalar covers its whole target; other relations know their own range. */
static void spread_range (const struct DpsTape *t, const DpsTapeNode *node, uint64_t i, int64_t *lo, int64_t *hi)
{
    range (t, node, i, lo, hi);
    if ((node->across & RELATION) == ALL)
        *hi = (int64_t)node->n;
}

static double share (const DpsTapeNode *node, int64_t length) { return node->across & MEAN && length > 0 ? 1.0 / (double)length : 1.0; }

static DpsVal move (struct DpsTape *t, DpsVal x, uint32_t axis, int across, double p, const char *who)
{
    if (!dps__tape_get (t, x, who))
        return -1;
    DpsVal number;
    DpsTapeNode *node = dps__tape_new (t, axis, axis_size (t, axis), &number);
    if (!node)
        return -1;
    const DpsTapeNode *a = &t->nodes[x];
    node->arg[0] = x;
    node->p[0] = p;
    node->across = across;
    node->active = a->active;
    uint64_t n_coarse = across & SPREAD ? a->n : node->n;
    for (uint64_t i = 0; i < n_coarse; i++) {
        int64_t lo, hi;
        if (across & SPREAD) {
            spread_range (t, node, i, &lo, &hi);
            for (int64_t j = lo; j < hi; j++)
                node->value[j] = a->value[i];
            continue;
        }
        range (t, node, i, &lo, &hi);
        double sum = 0;
        for (int64_t j = lo; j < hi; j++)
            sum += a->value[j];
        node->value[i] = sum * share (node, hi - lo);
    }
    return number;
}

static void move_backward (struct DpsTape *t, const DpsTapeNode *node)
{
    DpsTapeNode *a = &t->nodes[node->arg[0]];
    uint64_t n_coarse = node->across & SPREAD ? a->n : node->n;
    for (uint64_t i = 0; i < n_coarse; i++) {
        int64_t lo, hi;
        if (node->across & SPREAD) {
            spread_range (t, node, i, &lo, &hi);
            for (int64_t j = lo; j < hi; j++)
                a->grad[i] += node->grad[j];
            continue;
        }
        range (t, node, i, &lo, &hi);
        for (int64_t j = lo; j < hi; j++)
            a->grad[j] += node->grad[i] * share (node, hi - lo);
    }
}

/* A function that takes values along one axis only. */
static DpsVal move_from (struct DpsTape *t, DpsVal x, uint32_t from, uint32_t to, int across, double p, const char *who)
{
    const DpsTapeNode *a = dps__tape_get (t, x, who);
    if (a && a->axis != from)
        return dps__tape_fail (t, DPS_ERR_SHAPE, "tape: %s of a value per %s, expected per %s", who, dps__tape_axis_name (a->axis),
                               dps__tape_axis_name (from));
    return a ? move (t, x, to, across, p, who) : -1;
}

static DpsVal sum_rows (struct DpsTape *t, DpsVal x) { return move_from (t, x, DPS_AXIS_TOKEN, DPS_AXIS_ROW, ROW_TOKENS, 0, "sum_rows"); }

static DpsVal mean_rows (struct DpsTape *t, DpsVal x)
{
    return move_from (t, x, DPS_AXIS_TOKEN, DPS_AXIS_ROW, ROW_TOKENS | MEAN, 0, "mean_rows");
}

static DpsVal last (struct DpsTape *t, DpsVal x) { return move_from (t, x, DPS_AXIS_TOKEN, DPS_AXIS_ROW, LAST_TOKEN, 0, "last"); }

static DpsVal sum (struct DpsTape *t, DpsVal x) { return move (t, x, DPS_AXIS_SCALAR, ALL, 0, "sum"); }

static DpsVal count_rows (struct DpsTape *t)
{
    DpsVal number;
    DpsTapeNode *node = dps__tape_new (t, DPS_AXIS_ROW, t->shape.n_rows, &number);
    for (uint64_t r = 0; node && r < node->n; r++)
        node->value[r] = (double)(t->shape.row_offsets[r + 1] - t->shape.row_offsets[r]);
    return node ? number : -1;
}

static DpsVal sum_units (struct DpsTape *t, DpsVal x)
{
    const DpsTapeNode *a = dps__tape_get (t, x, "sum_units");
    if (a && a->axis != DPS_AXIS_TOKEN && a->axis != DPS_AXIS_ROW)
        return dps__tape_fail (t, DPS_ERR_SHAPE, "tape: sum_units of a value per %s, expected per token or row",
                               dps__tape_axis_name (a->axis));
    return a ? move (t, x, DPS_AXIS_UNIT, a->axis == DPS_AXIS_TOKEN ? UNIT_TOKENS : UNIT_ROWS, 0, "sum_units") : -1;
}

static DpsVal spread (struct DpsTape *t, DpsVal x, uint32_t axis)
{
    const DpsTapeNode *a = dps__tape_get (t, x, "spread");
    if (!a)
        return -1;
    int across = 0;
    if (a->axis == DPS_AXIS_SCALAR && axis <= DPS_AXIS_UNIT)
        across = ALL;
    else if (a->axis == DPS_AXIS_ROW && axis == DPS_AXIS_TOKEN)
        across = ROW_TOKENS;
    else if (a->axis == DPS_AXIS_UNIT && axis == DPS_AXIS_TOKEN)
        across = UNIT_TOKENS;
    else if (a->axis == DPS_AXIS_UNIT && axis == DPS_AXIS_ROW)
        across = UNIT_ROWS;
    if (!across)
        return dps__tape_fail (t, DPS_ERR_SHAPE, "tape: spread from per %s to per %s, expected unit to row or token, or row to token",
                               dps__tape_axis_name (a->axis), dps__tape_axis_name (axis));
    return move (t, x, axis, across | SPREAD, 0, "spread");
}

static DpsVal pick (struct DpsTape *t, DpsVal x, int64_t k)
{
    for (uint64_t u = 0; t->status == DPS_OK && u < t->shape.n_units; u++)
        if (k < 0 || k >= t->shape.unit_offsets[u + 1] - t->shape.unit_offsets[u])
            return dps__tape_fail (t, DPS_ERR_SHAPE, "tape: pick of row %lld, unit %llu has %lld rows", (long long)k, (unsigned long long)u,
                                   (long long)(t->shape.unit_offsets[u + 1] - t->shape.unit_offsets[u]));
    return move_from (t, x, DPS_AXIS_ROW, DPS_AXIS_UNIT, KTH_ROW, (double)k, "pick");
}

static const double *data (struct DpsTape *t, DpsVal x, uint64_t *out_n)
{
    const DpsTapeNode *a = dps__tape_get (t, x, "data");
    if (a && out_n)
        *out_n = a->n;
    return a ? a->value : NULL;
}

static const DpsHostTape table = {
    .size = sizeof table,
    .constant = constant,
    .input = input,
    .variable = variable,
    .detach = detach,
#define DPS_X(name) .name = dps__tape_##name,
    DPS_TAPE_UNARY (DPS_X) DPS_TAPE_BINARY (DPS_X)
#undef DPS_X
        .clip = dps__tape_clip,
    .where = dps__tape_where,
    .sum_rows = sum_rows,
    .mean_rows = mean_rows,
    .count_rows = count_rows,
    .spread = spread,
    .sum_units = sum_units,
    .pick = pick,
    .sum = sum,
    .last = last,
    .data = data,
};

const DpsHostTape *dps_tape_table (void) { return &table; }

DpsStatus dps_tape_provide (DpsError *err) { return dps_host_provide (DPS_TAPE_ID, &table, err); }

static DpsStatus check_offsets (const char *what, const int64_t *offsets, uint64_t n, uint64_t end, DpsError *err)
{
    for (uint64_t i = 0; i <= n; i++)
        if (offsets[i] < (i ? offsets[i - 1] : 0) || (i == 0 && offsets[0] != 0) || (uint64_t)offsets[i] > end)
            return dps_fail (err, DPS_ERR_SHAPE, "tape: %s[%llu] is %lld, expected offsets from 0 up to %llu", what, (unsigned long long)i,
                             (long long)offsets[i], (unsigned long long)end);
    if ((uint64_t)offsets[n] != end)
        return dps_fail (err, DPS_ERR_SHAPE, "tape: %s ends at %lld, expected %llu", what, (long long)offsets[n], (unsigned long long)end);
    return DPS_OK;
}

DpsStatus dps_tape_create (const DpsTapeShape *shape, struct DpsTape **out, DpsError *err)
{
    DPS_TRY (check_offsets ("row_offsets", shape->row_offsets, shape->n_rows, shape->n_tokens, err));
    DPS_TRY (check_offsets ("unit_offsets", shape->unit_offsets, shape->n_units, shape->n_rows, err));
    struct DpsTape *t = dps_calloc (1, sizeof *t);
    if (!t)
        return dps_fail (err, DPS_ERR_NOMEM, "tape: no memory");
    t->shape = *shape;
    t->err.size = sizeof t->err;
    *out = t;
    return DPS_OK;
}

void dps_tape_free (struct DpsTape *t)
{
    if (!t)
        return;
    for (size_t i = 0; i < t->n_nodes; i++) {
        dps_free (t->nodes[i].value);
        dps_free (t->nodes[i].grad);
    }
    dps_free (t->nodes);
    dps_free (t);
}

DpsStatus dps_tape_status (const struct DpsTape *t, DpsError *err)
{
    return t->status == DPS_OK ? DPS_OK : dps_fail (err, t->status, "%s", t->err.msg);
}

const double *dps_tape_values (const struct DpsTape *t, DpsVal x, uint32_t *out_axis, uint64_t *out_n)
{
    if (x < 0 || (size_t)x >= t->n_nodes)
        return NULL;
    *out_axis = t->nodes[x].axis;
    *out_n = t->nodes[x].n;
    return t->nodes[x].value;
}

DpsStatus dps_tape_backward (struct DpsTape *t, DpsVal loss, double seed, DpsError *err)
{
    const DpsTapeNode *end = dps__tape_get (t, loss, "backward");
    if (end && end->axis != DPS_AXIS_SCALAR && end->axis != DPS_AXIS_UNIT)
        dps__tape_fail (t, DPS_ERR_SHAPE, "tape: the loss is a value per %s, expected per unit", dps__tape_axis_name (end->axis));
    if (t->walked)
        dps__tape_fail (t, DPS_ERR_INVALID, "tape: backward was called before");
    DPS_TRY (dps_tape_status (t, err));
    t->walked = 1;
    for (size_t i = 0; i < t->n_nodes; i++) {
        DpsTapeNode *node = &t->nodes[i];
        node->grad = node->active ? dps_calloc (node->n, sizeof *node->grad) : NULL;
        if (node->active && !node->grad) {
            dps__tape_fail (t, DPS_ERR_NOMEM, "tape: no memory for the gradient of value %zu", i);
            return dps_tape_status (t, err);
        }
    }
    for (uint64_t u = 0; t->nodes[loss].active && u < t->nodes[loss].n; u++)
        t->nodes[loss].grad[u] = seed;
    for (size_t i = (size_t)loss + 1; i-- > 0;) {
        const DpsTapeNode *node = &t->nodes[i];
        if (node->active && node->math)
            dps__tape_math_backward (t, node);
        else if (node->active && node->across)
            move_backward (t, node);
    }
    return DPS_OK;
}

const double *dps_tape_gradient (const struct DpsTape *t, DpsVal v) { return v >= 0 && (size_t)v < t->n_nodes ? t->nodes[v].grad : NULL; }
