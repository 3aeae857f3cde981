/* SPDX-License-Identifier: Apache-2.0 */
/*
 * format.h: `dps.format/1`, how tensors and metadata are read and written: safetensors, GGUF, checkpoints, PEFT adapters.
 * A reader treats every byte as hostile: sizes are checked before they are used, memory is bounded by the header's own size.
 */
#ifndef DIAPASON_FORMAT_H
#define DIAPASON_FORMAT_H

#include "diapason/draft/types.h"

#define DPS_FORMAT_ID "dps.format/1"

struct DpsFormatFile;   /* an open file, owned by the plugin */
struct DpsFormatWriter; /* a file being written */

/** Types of a metadata value. */
enum {
    DPS_META_U64 = 1,
    DPS_META_I64 = 2,
    DPS_META_F64 = 3,
    DPS_META_BOOL = 4,
    DPS_META_STR = 5,
    DPS_META_ARRAY = 6 /* of elem_type; arrays of arrays are refused */
};

/** One metadata value. Everything it points to lives until the file is closed. */
typedef struct DpsMeta {
    size_t size;
    DpsStr key;
    uint32_t type;      /* DPS_META_* */
    uint32_t elem_type; /* of an array: DPS_META_*, widened */
    uint64_t n;         /* elements of an array, else 1 */
    union {
        uint64_t u;
        int64_t i;
        double f;
        DpsStr s;
        const void *array; /* uint64_t[], int64_t[], double[], uint8_t[] (bool), DpsStr[] */
    } v;
    uint32_t raw_type; /* the file's own type number */
    uint32_t raw_elem_type;
} DpsMeta;

/** One tensor as stored. name and shape live until the file is closed. */
typedef struct DpsTensorInfo {
    size_t size;
    DpsStr name;
    DpsStr dtype; /* "F32", "BF16", "Q4_K" …: the format's own spelling, upper case */
    uint32_t rank;
    uint32_t reserved;
    const int64_t *shape; /* row-major, outermost first: a GGUF's ne[] reversed */
    uint64_t n_elements;
    uint64_t bytes;       /* as stored */
    uint64_t file_offset; /* of its first byte, when `map` is offered */
} DpsTensorInfo;

/** A sink the exporter writes into; the host implements it (atomic file, memory, pipe). */
typedef struct DpsStream {
    size_t size;
    void *ctx;
    DpsStatus (*write) (void *ctx, const void *data, size_t len, DpsError *err);
} DpsStream;

typedef struct DpsFormat {
    size_t size;
    const char *name;       /* "gguf" */
    const char *extensions; /* ".gguf", several separated by commas */

    /** How sure the plugin is that it can open this: 0 no … 100 certain. head: the first bytes (≤ 4096), borrowed. Pure. [any] */
    int32_t (*probe) (DpsStr path, const void *head, size_t head_len);

    /**
     * Open a file for reading. path is UTF-8.
     * Owns:   *out, closed with close.
     * Errors: NOT_FOUND, IO, FORMAT (message: path, place, found, expected), LIMIT, NOMEM; *out untouched then.
     * Thread: [any]; one file is used by one thread at a time.
     */
    DpsStatus (*open) (DpsStr path, struct DpsFormatFile **out, DpsError *err);
    void (*close) (struct DpsFormatFile *file);

    /** Counts. Any out pointer may be NULL. */
    DpsStatus (*info) (struct DpsFormatFile *file, uint64_t *out_n_tensors, uint64_t *out_n_meta, DpsError *err);
    /** Tensor i < n_tensors, in file order. */
    DpsStatus (*tensor_info) (struct DpsFormatFile *file, uint64_t i, DpsTensorInfo *out, DpsError *err);
    /** Metadata value i < n_meta, in file order. */
    DpsStatus (*meta) (struct DpsFormatFile *file, uint64_t i, DpsMeta *out, DpsError *err);

    /** Copy raw stored bytes [offset, offset+len) of tensor i into dst. */
    DpsStatus (*read) (struct DpsFormatFile *file, uint64_t i, uint64_t offset, uint64_t len, void *dst, DpsError *err);

    /**
     * Decode elements [first, first+n) of tensor i, row-major, into f32. For block formats first and n need no alignment.
     * Errors: UNSUPPORTED (dtype without a reader), SHAPE (range outside), IO.
     */
    DpsStatus (*read_f32) (struct DpsFormatFile *file, uint64_t i, uint64_t first, uint64_t n, float *dst, DpsError *err);

    /** The stored bytes of tensor i in place, valid until close; NULL slot or UNSUPPORTED when the format cannot. */
    DpsStatus (*map) (struct DpsFormatFile *file, uint64_t i, const void **out, DpsError *err);

    /* Writing. All four NULL in a read-only format. */

    /** Begin: the whole list of tensors (name, dtype, rank, shape) and metadata is known in advance. Arrays are borrowed until return. */
    DpsStatus (*create) (const DpsStream *to, const DpsTensorInfo *const *tensors, uint64_t n_tensors, const DpsMeta *const *meta,
                         uint64_t n_meta, struct DpsFormatWriter **out, DpsError *err);
    /** Append raw bytes; tensors come in list order, each whole, in any number of pieces. */
    DpsStatus (*write) (struct DpsFormatWriter *w, const void *data, uint64_t len, DpsError *err);
    /** Check that everything came, and free the writer (also on error). */
    DpsStatus (*finish) (struct DpsFormatWriter *w, DpsError *err);
    /** Free an unfinished writer. */
    void (*abandon) (struct DpsFormatWriter *w);

    /** Tell the kernel that tensor i's mapped pages are not needed soon, so that they leave the resident set. May be NULL. */
    void (*release) (struct DpsFormatFile *file, uint64_t i);
} DpsFormat;

#endif
