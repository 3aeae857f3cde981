/* SPDX-License-Identifier: Apache-2.0 */
/*
 * operands.h: what the layers between exec and a backend know of an op's operands: their bytes, which are added to or written in place, which
 * hold indices and below what. Follows diapason/ops.h. Internal to the stage.
 */
#ifndef DPS_EXEC_OPERANDS_H
#define DPS_EXEC_OPERANDS_H

#include "base/opcall.h"
#include "exec/exec.h"

enum { DPS_OPERANDS_MAX = DPS_OP_MAX_IN + DPS_OP_MAX_OUT, DPS_BYTES_UNKNOWN = 0 };

/** "in[1] bf16 (2048,640) packed": cut to fit. Returns text. */
const char *dps__operand_text (const DpsOp *op, uint32_t i, char *text, size_t cap);

/** The graph's code of an interned op, or DPS_OP_COUNT: a vendor's own. */
DpsOpCode dps__op_code (const uint32_t ids[DPS_OP_COUNT], uint32_t id);

/** The output is added to, or only partly written: it has contents before the call. */
int dps__op_keeps_output (DpsOpCode op);
/** The output that may be the very memory of input `in` (optimizer steps), or -1. */
int dps__op_in_place (DpsOpCode op, uint32_t in);
/** 1 when finite inputs may give NaN by the op's own mathematics (the logarithm of a negative number). */
int dps__op_may_be_nan (DpsOpCode op);

/** Bytes from a view's first to behind its last element; packed: UNKNOWN. Errors: SHAPE, DTYPE in words: NULL, or what is wrong with it. */
const char *dps__view_bytes (const DpsQuantNames *quants, const DpsView *v, uint64_t *out);

/** What an integer operand holds. */
typedef enum DpsIndexKind {
    DPS_INDEX_NONE,
    DPS_INDEX_TOKENS, /* vocabulary ids: [0, limit) */
    DPS_INDEX_ROWS,   /* [0, limit) */
    DPS_INDEX_ROOTS,  /* non-decreasing offsets within limit rows */
    DPS_INDEX_SEGMENTS
} DpsIndexKind;

/** Of input `slot`: its kind, and below what its values lie (segments: query rows, and key rows or -1). */
DpsIndexKind dps__op_index (DpsOpCode op, const DpsOp *o, uint32_t slot, int64_t *out_limit, int64_t *out_keys);
/** Look at the numbers of a host-readable index operand. Errors: INVALID with the place. */
DpsStatus dps__index_check (DpsIndexKind kind, const DpsView *v, int64_t limit, int64_t keys, DpsError *err);

/** A fast hash of bytes, not a cryptographic one: to see a change. [any] */
uint64_t dps__bytes_hash (uint64_t key, const void *data, uint64_t n);

/** Of n floating numbers: the first NaN, or -1; whether all are finite; of other dtypes -1 and 1. */
int64_t dps__first_nan (uint32_t dtype, const void *x, int64_t n);
int dps__all_finite (uint32_t dtype, const void *x, int64_t n);
/** Element i of floating numbers in f64; of integers their value. */
double dps__element (uint32_t dtype, const void *x, int64_t i);
/** Element i becomes v, in the dtype's nearest number (f16: the next nearer to 0, none of its subnormals). */
void dps__put_element (uint32_t dtype, void *x, int64_t i, double v);

#endif
