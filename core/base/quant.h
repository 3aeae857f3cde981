/* SPDX-License-Identifier: Apache-2.0 */
/*
 * quant.h: matrices that stay quantised in memory: GGUF's blocks, bitsandbytes' 4-bit and 8-bit codes. How a view of one is read (ops.h,
 * "Quantised weights"), and how numbers become codes. It converts ranges of elements; who multiplies decides how many at a time.
 */
#ifndef DPS_BASE_QUANT_H
#define DPS_BASE_QUANT_H

#include "base/blocks.h"
#include "base/status.h"

/** Every dtype of a quantised weight: X (constant, name, codes: bits of a code, 0 for GGUF's blocks). */
#define DPS_QUANTS(X)                                                                                                                      \
    X (Q4_0, "Q4_0", 0)                                                                                                                    \
    X (Q4_1, "Q4_1", 0)                                                                                                                    \
    X (Q5_0, "Q5_0", 0)                                                                                                                    \
    X (Q5_1, "Q5_1", 0)                                                                                                                    \
    X (Q8_0, "Q8_0", 0)                                                                                                                    \
    X (Q2_K, "Q2_K", 0)                                                                                                                    \
    X (Q3_K, "Q3_K", 0)                                                                                                                    \
    X (Q4_K, "Q4_K", 0)                                                                                                                    \
    X (Q5_K, "Q5_K", 0)                                                                                                                    \
    X (Q6_K, "Q6_K", 0)                                                                                                                    \
    X (IQ4_NL, "IQ4_NL", 0)                                                                                                                \
    X (NF4, "NF4", 4)                                                                                                                      \
    X (FP4, "FP4", 4)                                                                                                                      \
    X (DYNAMIC8, "DYNAMIC8", 8)                                                                                                            \
    X (INT8, "INT8", 8)

typedef enum DpsQuantType {
    DPS_QUANT_NONE,
#define DPS_X(id, name, bits) DPS_QUANT_##id,
    DPS_QUANTS (DPS_X)
#undef DPS_X
        DPS_QUANT_TYPES
} DpsQuantType;

/** Roles of the parts. */
#define DPS_QUANT_PARTS(X)                                                                                                                 \
    X (ABSMAX, absmax)                                                                                                                     \
    X (CODE_BOOK, code_book)                                                                                                               \
    X (BLOCK, block_elements)                                                                                                              \
    X (NESTED_ABSMAX, nested_absmax)                                                                                                       \
    X (NESTED_CODE_BOOK, nested_code_book)                                                                                                 \
    X (NESTED_OFFSET, nested_offset)                                                                                                       \
    X (SCALES, scales)

typedef enum DpsQuantPart {
#define DPS_X(id, name) DPS_QPART_##id,
    DPS_QUANT_PARTS (DPS_X)
#undef DPS_X
        DPS_QPARTS
} DpsQuantPart;

enum { DPS_QUANT_BLOCK = 64 /* bitsandbytes' own */, DPS_QUANT_NESTED = 256 /* blocks that share a nested absmax */ };

/** The form of a matrix: what it takes to know its bytes. */
typedef struct DpsQuantForm {
    DpsQuantType type; /* DPS_QUANT_NONE: plain numbers */
    int32_t block;     /* elements that share an absmax; 0 for GGUF's blocks and int8 */
    int32_t nested;    /* absmax is itself in 8-bit codes */
} DpsQuantForm;

/** A quantised matrix by its bytes: all borrowed. */
typedef struct DpsQuantised {
    DpsQuantForm form;
    const DpsBlockType *blocks; /* of GGUF's types */
    int64_t rows, cols;
    const unsigned char *codes;
    const float *absmax, *code_book, *nested_absmax, *nested_code_book, *scales;
    const unsigned char *absmax_codes;
    float nested_offset;
} DpsQuantised;

/** The numbers a process gave to the names above. */
typedef struct DpsQuantNames {
    uint32_t dtype[DPS_QUANT_TYPES], role[DPS_QPARTS];
} DpsQuantNames;

/** "NF4": the dtype's name; "none". Static. [any] */
const char *dps_quant_name (DpsQuantType type);
const char *dps_quant_part_name (DpsQuantPart part);
/** The type of that name, or NONE. [any] */
DpsQuantType dps_quant_named (DpsStr name);

/** Intern all names. 0, or -1 when the host has no number left. [init] */
int dps_quant_names (uint32_t (*intern) (DpsStr), DpsQuantNames *out);
/** The type of a dtype number, or NONE. [any] */
DpsQuantType dps_quant_find (const DpsQuantNames *names, uint32_t dtype);

/** Bytes of the codes of a (rows, cols) matrix, and of each part (0: it has none). Errors: SHAPE (cols is not a whole number of blocks). [any] */
DpsStatus dps_quant_bytes (const DpsQuantForm *form, int64_t rows, int64_t cols, uint64_t *out_codes, uint64_t out_parts[DPS_QPARTS],
                           DpsError *err);

/**
 * A quantised view, its parts checked against its shape. data: their memory must be there too; without it the form only is filled in.
 * Errors: DTYPE (not a quantised one), SHAPE, INVALID (a part is missing, or has another size). [any]
 */
DpsStatus dps_quant_from_view (const DpsQuantNames *names, const DpsView *v, int data, DpsQuantised *out, DpsError *err);

/** Elements [first, first + n) in row-major order. [any] */
void dps_quant_decode (const DpsQuantised *q, int64_t first, int64_t n, float *out);
/** out[i] = level of code i, n codes of 4 bits, the high half of a byte first. */
typedef void (*DpsNibbles) (const unsigned char *codes, const float level[16], int64_t n, float *out);
/** The same elements, by a caller's own way for codes of 4 bits. */
void dps_quant_decode_by (const DpsQuantised *q, int64_t first, int64_t n, DpsNibbles nibbles, float *out);

/* quant_encode.c: numbers to codes, as bitsandbytes has them. */

/** The levels of a type with a code book, by code: returns how many, 16 or 256. [any] */
size_t dps_quant_code_book (DpsQuantType type, float out[256]);

/**
 * n numbers of a matrix, `form.block` at a time (the last block may be shorter), to codes and one absmax a block. Each code is a nearest level.
 * n is even but at the end of the matrix. Errors: NONFINITE. [any]
 */
DpsStatus dps_quant_encode (DpsQuantType type, int64_t block, const float *x, int64_t n, unsigned char *codes, float *absmax,
                            DpsError *err);

/** The absmax of all blocks to 8-bit codes: absmax - offset in dynamic8, the offset their mean. absmax is overwritten. [any] */
DpsStatus dps_quant_encode_absmax (float *absmax, int64_t n, unsigned char *codes, float *nested_absmax, float *out_offset, DpsError *err);

/** One row to int8 and its scale. Errors: NONFINITE. [any] */
DpsStatus dps_quant_encode_row (const float *x, int64_t n, int8_t *codes, float *out_scale, DpsError *err);

#endif
