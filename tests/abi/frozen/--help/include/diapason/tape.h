/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tape.h: `dps.host.tape/1`, the small differentiable language objectives write their loss in.
 *
 * Values are f64 arrays of one of four shapes: scalar (1), per token (T), per row (R), per unit (U): a unit is a row, a pair (2 rows:
 * chosen, rejected) or a group. Elementwise functions broadcast scalar → anything; row and unit values reach tokens by spread.
 * A function returns the number of a new value, or -1 after an error (kept in the tape: every later call returns -1, so code needs
 * one check at its end). The host owns all values until the tape is released; nothing is freed by the objective.
 * Thread: [any], one tape per call of DpsObjective.loss. Since: ABI 0.1.
 */
#ifndef DIAPASON_TAPE_H
#define DIAPASON_TAPE_H

#include "diapason/types.h"

#define DPS_TAPE_ID "dps.host.tape/1"

typedef int32_t DpsVal;
struct DpsTape;

enum { DPS_AXIS_SCALAR = 0, DPS_AXIS_TOKEN = 1, DPS_AXIS_ROW = 2, DPS_AXIS_UNIT = 3 };

typedef struct DpsHostTape {
    size_t size;

    /* Sources. */
    DpsVal (*constant) (struct DpsTape *t, double value);
    /** A copy of data, `n` values along `axis`; no gradient flows to it. */
    DpsVal (*input) (struct DpsTape *t, uint32_t axis, const double *data, uint64_t n);
    /** A copy of data to which the host will read the gradient (a declared differentiable signal). */
    DpsVal (*variable) (struct DpsTape *t, uint32_t axis, const double *data, uint64_t n);
    /** x with the gradient stopped. */
    DpsVal (*detach) (struct DpsTape *t, DpsVal x);

    /* Elementwise. NaN in, NaN out: of a and b in min and max, of the chosen one in where. */
    DpsVal (*add) (struct DpsTape *t, DpsVal a, DpsVal b);
    DpsVal (*sub) (struct DpsTape *t, DpsVal a, DpsVal b);
    DpsVal (*mul) (struct DpsTape *t, DpsVal a, DpsVal b);
    DpsVal (*div) (struct DpsTape *t, DpsVal a, DpsVal b);
    DpsVal (*neg) (struct DpsTape *t, DpsVal x);
    DpsVal (*exp) (struct DpsTape *t, DpsVal x);
    DpsVal (*log) (struct DpsTape *t, DpsVal x);
    DpsVal (*square) (struct DpsTape *t, DpsVal x);
    DpsVal (*abs) (struct DpsTape *t, DpsVal x);
    DpsVal (*relu) (struct DpsTape *t, DpsVal x);
    DpsVal (*sigmoid) (struct DpsTape *t, DpsVal x);
    DpsVal (*log_sigmoid) (struct DpsTape *t, DpsVal x);
    DpsVal (*min) (struct DpsTape *t, DpsVal a, DpsVal b);                     /* ties: gradient to a */
    DpsVal (*max) (struct DpsTape *t, DpsVal a, DpsVal b);                     /* ties: gradient to a */
    DpsVal (*clip) (struct DpsTape *t, DpsVal x, double lo, double hi);        /* gradient passes inside and on the bounds */
    DpsVal (*where) (struct DpsTape *t, DpsVal condition, DpsVal a, DpsVal b); /* condition > 0 */

    /* Across axes. */
    DpsVal (*sum_rows) (struct DpsTape *t, DpsVal x);              /* token → row: Σ over the row's tokens */
    DpsVal (*mean_rows) (struct DpsTape *t, DpsVal x);             /* token → row: mean; a row without tokens gives 0 */
    DpsVal (*count_rows) (struct DpsTape *t);                      /* row: number of tokens */
    DpsVal (*spread) (struct DpsTape *t, DpsVal x, uint32_t axis); /* row or unit → token or row: repeat */
    DpsVal (*sum_units) (struct DpsTape *t, DpsVal x);             /* token or row → unit: Σ */
    DpsVal (*pick) (struct DpsTape *t, DpsVal x, int64_t k);       /* row → unit: the k-th row of each unit (0 chosen, 1 rejected) */
    DpsVal (*sum) (struct DpsTape *t, DpsVal x);                   /* any → scalar */
    DpsVal (*last) (struct DpsTape *t, DpsVal x);                  /* token → row: the row's last token; 0 when it has none */

    /* Reading back: data borrowed until the tape is released; n values. NULL after an error. */
    const double *(*data) (struct DpsTape *t, DpsVal x, uint64_t *out_n);
} DpsHostTape;

#endif
