/* SPDX-License-Identifier: Apache-2.0 */
/*
 * types.h: the plain data every Diapason interface shares: error values, string views, dtypes, tensor views.
 * Nothing here allocates, and nothing here refers to the host's own libraries. Since: ABI 0.1.
 */
#ifndef DIAPASON_TYPES_H
#define DIAPASON_TYPES_H

#include <stddef.h>
#include <stdint.h>

/** Error codes: frozen set; a code a host does not know counts as INTERNAL. X(name, number, text). */
#define DPS_ERROR_CODES(X)                                                                                                                 \
    X (OK, 0, "ok")                                                                                                                        \
    X (INTERNAL, 1, "internal error")                                                                                                      \
    X (INVALID, 2, "invalid argument")                                                                                                     \
    X (SHAPE, 3, "shape mismatch")                                                                                                         \
    X (DTYPE, 4, "unsupported dtype")                                                                                                      \
    X (UNSUPPORTED, 5, "unsupported")                                                                                                      \
    X (NOMEM, 6, "out of memory")                                                                                                          \
    X (IO, 7, "input/output error")                                                                                                        \
    X (FORMAT, 8, "malformed file")                                                                                                        \
    X (NOT_FOUND, 9, "not found")                                                                                                          \
    X (EXISTS, 10, "already exists")                                                                                                       \
    X (NONFINITE, 11, "non-finite value")                                                                                                  \
    X (LIMIT, 12, "limit exceeded")                                                                                                        \
    X (VERSION, 13, "version mismatch")                                                                                                    \
    X (DIGEST, 14, "digest mismatch")                                                                                                      \
    X (POLICY, 15, "refused by policy")                                                                                                    \
    X (CANCELLED, 16, "cancelled")                                                                                                         \
    X (TIMEOUT, 17, "deadline passed")                                                                                                     \
    X (DEVICE, 18, "device error")                                                                                                         \
    X (USAGE, 19, "usage or recipe error")                                                                                                 \
    X (LOCK, 20, "lock mismatch")                                                                                                          \
    X (DATA, 21, "bad training data")                                                                                                      \
    X (INTERRUPTED, 22, "interrupted")

enum {
#define DPS_X(name, number, text) DPS_ERR_##name = number,
    DPS_ERROR_CODES (DPS_X)
#undef DPS_X
};
#define DPS_OK DPS_ERR_OK

/** What every fallible call returns: 0 or a DPS_ERR_ code. */
typedef int32_t DpsStatus;

/**
 * A caller-owned error. Nothing in it needs freeing. A callee writes it only when it returns a code other than DPS_OK;
 * every function accepts a NULL error.
 */
typedef struct DpsError {
    size_t size;         /* sizeof (DpsError) of whoever declared it */
    int32_t code;        /* DPS_ERR_* */
    int32_t vendor_code; /* the plugin's own number, as its interface says; 0 when there is none */
    uint32_t flags;      /* reserved, 0 */
    uint32_t reserved;   /* 0 */
    char msg[1000];      /* UTF-8, NUL-terminated: what was found, what was expected, the next step */
} DpsError;

/** A UTF-8 string by pointer and length, not NUL-terminated. Frozen. */
typedef struct DpsStr {
    const char *ptr;
    size_t len;
} DpsStr;

/**
 * Dtypes are strings, interned per process by the host (`dps.host/1` intern), so that a vendor can add one.
 * The numbers below are what every host interns these names to; they never change.
 */
#define DPS_DTYPES(X)                                                                                                                      \
    X (F32, 1, "f32", 4)                                                                                                                   \
    X (BF16, 2, "bf16", 2)                                                                                                                 \
    X (F16, 3, "f16", 2)                                                                                                                   \
    X (F64, 4, "f64", 8)                                                                                                                   \
    X (I32, 5, "i32", 4)                                                                                                                   \
    X (I64, 6, "i64", 8)                                                                                                                   \
    X (U8, 7, "u8", 1)                                                                                                                     \
    X (I8, 8, "i8", 1)                                                                                                                     \
    X (I16, 9, "i16", 2)                                                                                                                   \
    X (BOOL, 10, "bool", 1)

enum {
#define DPS_X(name, number, text, bytes) DPS_DTYPE_##name = number,
    DPS_DTYPES (DPS_X)
#undef DPS_X
};

/** Weight layouts of DpsView.layout. A backend's packed layouts start at DPS_LAYOUT_PACKED. */
enum { DPS_LAYOUT_ROW_MAJOR = 0, DPS_LAYOUT_PACKED = 16 };

struct DpsBuffer; /* a backend's allocation, opaque to everybody else */

/** One companion buffer of a view: absmax, nested absmax, code book, block scales. */
typedef struct DpsPart {
    size_t size;
    uint32_t role;  /* interned "absmax", "nested_absmax", "code_book", "scales" … */
    uint32_t dtype; /* interned dtype */
    struct DpsBuffer *buffer;
    uint64_t offset; /* bytes */
    uint64_t bytes;
    void *host; /* as DpsView.host */
} DpsPart;

/**
 * A tensor as a backend sees it: a typed window on a buffer. Borrowed for the duration of one call.
 * Shapes and strides are in elements, outermost first; rank ≤ 4. A missing operand is a NULL view. On a device with memory of its own, `host` of
 * a call's inputs (ids, segments, roots …) may be the host's copy of the same bytes, only to be looked at.
 */
typedef struct DpsView {
    size_t size;
    uint32_t dtype;
    uint32_t rank;
    const int64_t *shape;     /* [rank] */
    const int64_t *stride;    /* [rank], or NULL for row-major contiguous */
    struct DpsBuffer *buffer; /* the backend's own; NULL: host memory, at `host` */
    void *host;               /* the bytes themselves when the device shares the host's memory, else NULL; includes offset */
    uint64_t offset;          /* bytes from the start of buffer */
    uint32_t layout;          /* DPS_LAYOUT_ROW_MAJOR, or a packed layout of the backend */
    uint32_t n_parts;
    const DpsPart *const *parts;
} DpsView;

#endif
