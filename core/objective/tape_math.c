/* SPDX-License-Identifier: Apache-2.0 */
/* tape_math.c: the elementwise functions of the tape: each its value and its slopes, side by side. */
#include "objective/tape_record.h"

#include <math.h>

/* MATH (name, arguments, value, slopes…): x[k] the operands, y the value, p[k] constants, out[k] the slopes. */
#define MATH(name, arity, expression, ...)                                                                                                 \
    static double name##_value (const double *x, const double *p)                                                                          \
    {                                                                                                                                      \
        (void)p;                                                                                                                           \
        return (expression);                                                                                                               \
    }                                                                                                                                      \
    static void name##_slopes (const double *x, double y, const double *p, double *out)                                                    \
    {                                                                                                                                      \
        (void)x, (void)y, (void)p;                                                                                                         \
        const double slopes[] = {__VA_ARGS__};                                                                                             \
        for (int k = 0; k < (arity); k++)                                                                                                  \
            out[k] = slopes[k];                                                                                                            \
    }                                                                                                                                      \
    static const DpsTapeMath name##_math = {#name, arity, name##_value, name##_slopes};

static double sigmoid_of (double x)
{
    double e = exp (-fabs (x));
    return x >= 0 ? 1 / (1 + e) : e / (1 + e);
}

/* Without overflow at either end. */
static double log_sigmoid_of (double x) { return (x < 0 ? x : 0) - log1p (exp (-fabs (x))); }

static double clipped (double x, double lo, double hi) { return x < lo ? lo : x > hi ? hi : x; }

/* NaN goes through min, max and relu, as through arithmetic: a comparison must not hide it. */
MATH (add, 2, x[0] + x[1], 1, 1)
MATH (sub, 2, x[0] - x[1], 1, -1)
MATH (mul, 2, x[0] * x[1], x[1], x[0])
MATH (div, 2, x[0] / x[1], 1 / x[1], -y / x[1])
MATH (neg, 1, -x[0], -1)
MATH (exp, 1, exp (x[0]), y)
MATH (log, 1, log (x[0]), 1 / x[0])
MATH (square, 1, x[0] * x[0], 2 * x[0])
MATH (abs, 1, fabs (x[0]), (x[0] > 0) - (x[0] < 0))
MATH (relu, 1, x[0] <= 0 ? 0 : x[0], x[0] > 0)
MATH (sigmoid, 1, sigmoid_of (x[0]), y *(1 - y))
MATH (log_sigmoid, 1, log_sigmoid_of (x[0]), sigmoid_of (-x[0]))
MATH (min, 2, x[0] <= x[1] || isnan (x[0]) ? x[0] : x[1], x[0] <= x[1], x[0] > x[1])
MATH (max, 2, x[0] >= x[1] || isnan (x[0]) ? x[0] : x[1], x[0] >= x[1], x[0] < x[1])
MATH (clip, 1, clipped (x[0], p[0], p[1]), x[0] >= p[0] && x[0] <= p[1])
MATH (where, 3, x[0] > 0 ? x[1] : x[2], 0, x[0] > 0, !(x[0] > 0))

/* How far element i of an operand is from element i of the result: scalars stay where they are. */
static uint64_t at (const DpsTapeNode *operand, uint64_t i) { return operand->axis == DPS_AXIS_SCALAR ? 0 : i; }

DpsVal dps__tape_math (struct DpsTape *t, const DpsTapeMath *math, const DpsVal *args, double p0, double p1)
{
    uint32_t axis = DPS_AXIS_SCALAR;
    uint64_t n = 1;
    int active = 0;
    for (int k = 0; k < math->n_args; k++) {
        const DpsTapeNode *a = dps__tape_get (t, args[k], math->name);
        if (!a)
            return -1;
        if (axis != DPS_AXIS_SCALAR && a->axis != DPS_AXIS_SCALAR && a->axis != axis)
            return dps__tape_fail (t, DPS_ERR_SHAPE, "tape: %s of a value per %s and a value per %s: spread one of them first", math->name,
                                   dps__tape_axis_name (axis), dps__tape_axis_name (a->axis));
        if (a->axis != DPS_AXIS_SCALAR) {
            axis = a->axis;
            n = a->n;
        }
        active |= a->active;
    }
    DpsVal number;
    DpsTapeNode *node = dps__tape_new (t, axis, n, &number);
    if (!node)
        return -1;
    node->math = math;
    node->active = active;
    node->p[0] = p0;
    node->p[1] = p1;
    for (int k = 0; k < math->n_args; k++)
        node->arg[k] = args[k];
    for (uint64_t i = 0; i < n; i++) {
        double x[3] = {0};
        for (int k = 0; k < math->n_args; k++)
            x[k] = t->nodes[args[k]].value[at (&t->nodes[args[k]], i)];
        node->value[i] = math->value (x, node->p);
    }
    return number;
}

void dps__tape_math_backward (struct DpsTape *t, const DpsTapeNode *node)
{
    for (uint64_t i = 0; i < node->n; i++) {
        if (node->grad[i] == 0)
            continue;
        double x[3] = {0}, slopes[3];
        for (int k = 0; k < node->math->n_args; k++)
            x[k] = t->nodes[node->arg[k]].value[at (&t->nodes[node->arg[k]], i)];
        node->math->slopes (x, node->value[i], node->p, slopes);
        for (int k = 0; k < node->math->n_args; k++) {
            DpsTapeNode *a = &t->nodes[node->arg[k]];
            if (a->active && slopes[k] != 0)
                a->grad[at (a, i)] += node->grad[i] * slopes[k];
        }
    }
}

#define UNARY(name)                                                                                                                        \
    DpsVal dps__tape_##name (struct DpsTape *t, DpsVal x) { return dps__tape_math (t, &name##_math, &x, 0, 0); }
#define BINARY(name)                                                                                                                       \
    DpsVal dps__tape_##name (struct DpsTape *t, DpsVal a, DpsVal b) { return dps__tape_math (t, &name##_math, (DpsVal[]){a, b}, 0, 0); }
DPS_TAPE_UNARY (UNARY)
DPS_TAPE_BINARY (BINARY)

DpsVal dps__tape_clip (struct DpsTape *t, DpsVal x, double lo, double hi) { return dps__tape_math (t, &clip_math, &x, lo, hi); }

DpsVal dps__tape_where (struct DpsTape *t, DpsVal condition, DpsVal a, DpsVal b)
{
    return dps__tape_math (t, &where_math, (DpsVal[]){condition, a, b}, 0, 0);
}
