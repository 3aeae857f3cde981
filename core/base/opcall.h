/* SPDX-License-Identifier: Apache-2.0 */
/*
 * opcall.h: the operands of an op call against the op's specification, for backends. A specification writes operands as "name:SHAPE"; the letters
 * of a shape are bound at their first appearance and compared afterwards, so that the functions behind it never see operands that do not fit.
 */
#ifndef DPS_BASE_OPCALL_H
#define DPS_BASE_OPCALL_H

#include "base/quant.h"
#include "base/status.h"
#include "diapason/ops.h"

enum { DPS_OPCALL_IN = 8, DPS_OPCALL_OUT = 4, DPS_OPCALL_SCRATCH = 12 };

/** One call of an op, after its operands were checked. */
typedef struct DpsOpCall {
    const char *who; /* the backend, for messages */
    const char *name;
    const DpsOp *op;
    DpsError *err;
    const DpsQuantNames *quants;
    const DpsView *in[DPS_OPCALL_IN];   /* NULL: absent */
    const DpsView *out[DPS_OPCALL_OUT]; /* NULL: absent */
    int64_t dim[128];                   /* dim['N']: the size bound to letter N, -1: not bound */
    void *scratch[DPS_OPCALL_SCRATCH];  /* the backend's, for this call */
    uint32_t n_scratch;
} DpsOpCall;

typedef DpsStatus (*DpsOpCallFunction) (DpsOpCall *c);

/**
 * Bind and check all operands of c->op. Operands are separated by spaces: "[?]name:SHAPE[:type]", ? optional; SHAPE is letters and numbers
 * separated by commas, `*` (the same whole shape as every other *), `~` (any shape: the op looks itself) or `-` (never looked at); type is float
 * (the default), weight (a float or quantised, read by rows), i32, i64, u8 or any. data: their memory must be there too.
 * packed: a weight may be in a packed layout. Errors: SHAPE, DTYPE, UNSUPPORTED, INVALID. [any]
 */
DpsStatus dps_opcall_check (DpsOpCall *c, const char *in, const char *out, int data, int packed);

/** Attribute i as a float or an integer; 0 when it is missing. [any] */
double dps_opcall_f (const DpsOpCall *c, uint32_t i);
int64_t dps_opcall_i (const DpsOpCall *c, uint32_t i);

/** Elements of a view. [any] */
int64_t dps_view_count (const DpsView *v);
/** Operand i < n_in + n_out of an op, inputs first; NULL when absent. [any] */
static inline const DpsView *dps_op_operand (const DpsOp *op, uint32_t i) { return i < op->n_in ? op->in[i] : op->out[i - op->n_in]; }
/** 1 when rows of so many columns are heads ≥ 1 of this width: what an attribute says is multiplied nowhere before. [any] */
static inline int dps_heads_fit (int64_t columns, int64_t heads, int64_t width)
{
    return heads > 0 && width >= 0 && columns % heads == 0 && columns / heads == width;
}
/** 1 when its elements lie one behind the other, the last axis first; an axis of one element or none may have any stride. [any] */
int dps_view_contiguous (const DpsView *v);

#endif
