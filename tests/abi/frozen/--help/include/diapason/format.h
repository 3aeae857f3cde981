/* SPDX-License-Identifier: Apache-2.0 */
/*
 * format.h: `dps.format/1`, how tensors and metadata are read and written: safetensors, GGUF, checkpoints, PEFT adapters.
 * A reader treats every byte as hostile: sizes are checked before they are used, memory is bounded by the header's own size.
 * A format is one file or a folder of files. A folder's reader opens its members itself, or through other formats (DpsHostFormats in host.h);
 * its writer asks the host for each member, so that the host decides what is durable, atomic and where. Since: ABI 0.1.
 */
#ifndef DIAPASON_FORMAT_H
#define DIAPASON_FORMAT_H

#include "diapason/ops.h"

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

/**
 * A sink a format writes into; the host implements it (atomic file, memory, pipe, folder). Copy it (dps_table_copy): the struct is borrowed
 * until create returns, what it refers to lives until finish or abandon returns. One thread at a time.
 */
typedef struct DpsStream {
    size_t size;
    void *ctx;
    /** Append bytes. Errors: IO, NOMEM; UNSUPPORTED for a folder; the writer passes them on as they are. */
    DpsStatus (*write) (void *ctx, const void *data, size_t len, DpsError *err);

    /* A folder: NULL where the sink is one file. */

    /**
     * Begin member `name`, a plain file name, each once; *out is its stream, good until close_member. One member at a time.
     * Errors: INVALID (name), EXISTS, IO, NOMEM.
     */
    DpsStatus (*open_member) (void *ctx, DpsStr name, struct DpsStream *out, DpsError *err);
    /**
     * The member is whole: the host makes it durable. out_sha256 (64 hex digits, no NUL) and out_bytes may be NULL. A member that is
     * never closed is thrown away with the writer. Errors: IO, NOMEM.
     */
    DpsStatus (*close_member) (void *ctx, char out_sha256[64], uint64_t *out_bytes, DpsError *err);
} DpsStream;

/** One value of a model's graph: an input, a weight (then `name` is the tensor's) or what an op computes. */
typedef struct DpsGraphValue {
    size_t size;
    DpsStr name;    /* empty: no name */
    uint32_t dtype; /* interned dtype */
    uint32_t rank;
    const int64_t *shape; /* -1: the number of tokens or rows, free */
} DpsGraphValue;

/** One op of a model's graph: DpsOp (ops.h) with value numbers in place of views; -1 where an optional operand is absent. */
typedef struct DpsGraphOp {
    size_t size;
    DpsStr id; /* "rms_norm" */
    uint32_t n_in, n_out, n_attrs;
    uint32_t reserved;
    const int32_t *in, *out;
    const DpsScalar *attrs;
} DpsGraphOp;

/** The forward graph, ops in the order they run. Borrowed for one call. */
typedef struct DpsGraphInfo {
    size_t size;
    const DpsGraphValue *const *values;
    uint64_t n_values;
    const DpsGraphOp *const *ops;
    uint64_t n_ops;
} DpsGraphInfo;

typedef struct DpsFormat {
    size_t size;
    const char *name;       /* "gguf" */
    const char *extensions; /* ".gguf", several separated by commas */

    /**
     * How sure the plugin is that it can open this: 0 no … 100 certain. head: the first bytes (≤ 4096), borrowed; NULL for a folder, where
     * the plugin may look which files are there. Changes nothing. [any]
     */
    int32_t (*probe) (DpsStr path, const void *head, size_t head_len);

    /**
     * Open a file or folder for reading. path is UTF-8, borrowed until return.
     * Owns:   *out, closed with close.
     * Errors: NOT_FOUND, IO, FORMAT (message: path, place, found, expected), LIMIT, NOMEM; *out untouched then.
     * Thread: [any]; one file is used by one thread at a time.
     */
    DpsStatus (*open) (DpsStr path, struct DpsFormatFile **out, DpsError *err);
    void (*close) (struct DpsFormatFile *file); /* NULL is fine; everything info, meta and map gave ends with it. [any] */

    /* Reading: one thread at a time per file. */

    /** How many tensors and metadata values there are. Any out pointer may be NULL. Errors: none of its own. */
    DpsStatus (*info) (struct DpsFormatFile *file, uint64_t *out_n_tensors, uint64_t *out_n_meta, DpsError *err);
    /** Tensor i < n_tensors, in file order; out->size set by the caller. Errors: NOT_FOUND. */
    DpsStatus (*tensor_info) (struct DpsFormatFile *file, uint64_t i, DpsTensorInfo *out, DpsError *err);
    /**
     * Metadata value i < n_meta, in file order; out->size set by the caller: one that ends before `v` asks for the key alone, and no value is
     * read. Errors: NOT_FOUND; IO, LIMIT, NOMEM, DIGEST where it is read now.
     */
    DpsStatus (*meta) (struct DpsFormatFile *file, uint64_t i, DpsMeta *out, DpsError *err);

    /** Copy raw stored bytes [offset, offset+len) of tensor i into dst. Errors: NOT_FOUND, SHAPE (range outside), IO. */
    DpsStatus (*read) (struct DpsFormatFile *file, uint64_t i, uint64_t offset, uint64_t len, void *dst, DpsError *err);

    /**
     * Decode elements [first, first+n) of tensor i, row-major, into f32. For block formats first and n need no alignment.
     * Errors: UNSUPPORTED (dtype without a reader), SHAPE (range outside), IO.
     */
    DpsStatus (*read_f32) (struct DpsFormatFile *file, uint64_t i, uint64_t first, uint64_t n, float *dst, DpsError *err);

    /** The stored bytes of tensor i in place, valid until close; NULL slot or UNSUPPORTED when the format cannot. Errors: NOT_FOUND. */
    DpsStatus (*map) (struct DpsFormatFile *file, uint64_t i, const void **out, DpsError *err);

    /* Writing. All four NULL in a read-only format. One thread at a time per writer. */

    /**
     * Begin: the whole list of tensors (name, dtype, rank, shape) and metadata is known in advance. Arrays are borrowed until return.
     * Owns: *out, freed with finish or abandon. Errors: INVALID, DTYPE, SHAPE, LIMIT, NOMEM; UNSUPPORTED when `to` is a file and the format
     * a folder or the other way round; what the stream gave.
     */
    DpsStatus (*create) (const DpsStream *to, const DpsTensorInfo *const *tensors, uint64_t n_tensors, const DpsMeta *const *meta,
                         uint64_t n_meta, struct DpsFormatWriter **out, DpsError *err);
    /** Append raw bytes, borrowed until return; tensors come in list order, each whole, in any number of pieces. Errors: SHAPE (too many); the stream's. */
    DpsStatus (*write) (struct DpsFormatWriter *w, const void *data, uint64_t len, DpsError *err);
    /** Check that everything came, and free the writer (also on error). Errors: SHAPE (too few); the stream's. */
    DpsStatus (*finish) (struct DpsFormatWriter *w, DpsError *err);
    /** Free an unfinished writer; what the stream has is the host's to throw away. NULL is fine. */
    void (*abandon) (struct DpsFormatWriter *w);

    /** Tell the kernel that tensor i's mapped pages are not needed soon, so that they leave the resident set. NULL slot: nothing. As reading. */
    void (*release) (struct DpsFormatFile *file, uint64_t i);

    /**
     * Exporters only: the graph of the model whose tensors are written, once, between create and the first write. Names of weights are those of
     * create's list. NULL slot: the format stores tensors and no graph. Errors: UNSUPPORTED (names the op), NOMEM, the stream's.
     */
    DpsStatus (*graph) (struct DpsFormatWriter *w, const DpsGraphInfo *graph, DpsError *err);
} DpsFormat;

#endif
