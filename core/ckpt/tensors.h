/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tensors.h: lists of tensors to and from a file, through a format plugin (safetensors, checkpoint, peft). Whoever saves hands over names, shapes and bytes;
 * nothing here knows a graph.
 */
#ifndef DPS_CKPT_TENSORS_H
#define DPS_CKPT_TENSORS_H

#include "base/sha256.h"
#include "diapason/format.h"

enum { DPS_TENSOR_MAX_RANK = 8 };

/** One tensor to save. Borrowed until the call returns. */
typedef struct DpsTensorOut {
    const char *name;
    uint32_t dtype; /* DPS_DTYPE_F32, BF16, F16, F64, I64, I32, I16, I8, U8 or BOOL */
    uint32_t rank;
    int64_t shape[DPS_TENSOR_MAX_RANK]; /* row-major, outermost first */
    const void *data;                   /* its bytes, little-endian; NULL: read gives them */
    /** Copy bytes [offset, offset + len) into dst. */
    DpsStatus (*read) (void *ctx, uint64_t offset, uint64_t len, void *dst, DpsError *err);
    void *ctx;
} DpsTensorOut;

/** A name and value in the file's metadata. */
typedef struct DpsTensorMeta {
    const char *key, *value; /* value NULL: `number`, a U64 */
    size_t len;              /* of value; 0: up to its NUL */
    uint64_t number;
} DpsTensorMeta;

/**
 * Write a tensor file, or into a folder that exists, each file atomically and durably (sink.h).
 * Errors: those of the plugin, IO, DTYPE, SHAPE, NOMEM; nothing is left at a file's path then. [any]
 */
DpsStatus dps_tensors_write (const DpsFormat *format, const char *path, const DpsTensorOut *tensors, size_t n, const DpsTensorMeta *meta,
                             size_t n_meta, DpsError *err);

/** Would the format write such a file? Its writer is begun on a stream that keeps nothing, and abandoned. Errors: the plugin's, UNSUPPORTED, DTYPE, SHAPE, NOMEM. [any] */
DpsStatus dps_tensors_check (const DpsFormat *format, const DpsTensorOut *tensors, size_t n, const DpsTensorMeta *meta, size_t n_meta,
                             DpsError *err);

/** A tensor file open for reading. */
typedef struct DpsTensorFile DpsTensorFile;

DpsStatus dps_tensors_open (const DpsFormat *format, const char *path, DpsTensorFile **out, DpsError *err);
void dps_tensors_close (DpsTensorFile *f);
size_t dps_tensors_count (const DpsTensorFile *f);
/** Tensor i: name, dtype ("F32"), shape; valid until close. */
const DpsTensorInfo *dps_tensors_at (const DpsTensorFile *f, size_t i);
/** Index by name, or -1. */
int64_t dps_tensors_find (const DpsTensorFile *f, const char *name);
/** A metadata string, copied; NULL when absent or out of memory. Free with dps_free. */
char *dps_tensors_meta (DpsTensorFile *f, const char *key);
/** All stored bytes of tensor i, exactly `bytes` of them. Errors: SHAPE when it has another size; the plugin's. */
DpsStatus dps_tensors_read (DpsTensorFile *f, size_t i, void *dst, uint64_t bytes, DpsError *err);
/** Tensor i's elements in f32, exactly n of them. Errors: SHAPE; the plugin's. */
DpsStatus dps_tensors_read_f32 (DpsTensorFile *f, size_t i, float *dst, uint64_t n, DpsError *err);
/** SHA-256 of what is held, whatever file it is in: every tensor's name, dtype, shape and bytes, by name; metadata is no part of it. */
DpsStatus dps_tensors_digest (DpsTensorFile *f, DpsDigest *out, DpsError *err);
/** Those tensors of an open file or folder whose names begin "PART/", as a file of their own; `file` must outlive it. Shows as path/PART. */
DpsStatus dps__tensors_part (const DpsFormat *format, const char *path, struct DpsFormatFile *file, const char *part, DpsTensorFile **out,
                             DpsError *err);
/** The number of metadata key part + key, or -1; no value is read. */
int64_t dps__format_meta (const DpsFormat *format, struct DpsFormatFile *file, const char *part, const char *key);

#endif
