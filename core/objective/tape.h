/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tape.h: the host's side of `dps.host.tape/1` (diapason/tape.h): values are f64 arrays recorded in the order they are made, and
 * dps_tape_backward walks the record in reverse. A gradient that is exactly 0 stops there, so a masked token gets exactly zero even
 * where a derivative is infinite.
 */
#ifndef DPS_OBJECTIVE_TAPE_H
#define DPS_OBJECTIVE_TAPE_H

#include "base/status.h"
#include "diapason/tape.h"

/** The tokens of each row and the rows of each unit; borrowed until the tape is freed. */
typedef struct DpsTapeShape {
    uint64_t n_tokens, n_rows, n_units;
    const int64_t *row_offsets;  /* [n_rows + 1], from 0 to n_tokens */
    const int64_t *unit_offsets; /* [n_units + 1], from 0 to n_rows */
} DpsTapeShape;

/** An empty tape. Owns: *out, dps_tape_free. Errors: SHAPE when offsets do not fit, NOMEM. [any] */
DpsStatus dps_tape_create (const DpsTapeShape *shape, struct DpsTape **out, DpsError *err);
void dps_tape_free (struct DpsTape *t);

/** What plugins call. Static storage. [any] */
const DpsHostTape *dps_tape_table (void);
/** Offer it to plugins as "dps.host.tape/1". [init] */
DpsStatus dps_tape_provide (DpsError *err);

/** The first error of the tape, or DPS_OK. */
DpsStatus dps_tape_status (const struct DpsTape *t, DpsError *err);

/** The axis and the values of x, borrowed until the tape is freed; NULL when there is no such value. */
const double *dps_tape_values (const struct DpsTape *t, DpsVal x, uint32_t *out_axis, uint64_t *out_n);

/**
 * Gradients of seed·Σ loss[u] in every variable, read with dps_tape_gradient. loss: scalar or per unit, made by this tape. Once per tape.
 * Errors: the tape's first error; INVALID; NOMEM.
 */
DpsStatus dps_tape_backward (struct DpsTape *t, DpsVal loss, double seed, DpsError *err);

/** d/d variable, as many values as the variable has (zeros when the loss does not depend on it). Borrowed; NULL before backward. */
const double *dps_tape_gradient (const struct DpsTape *t, DpsVal variable);

#endif
