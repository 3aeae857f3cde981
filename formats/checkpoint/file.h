/* SPDX-License-Identifier: Apache-2.0 */
/*
 * file.h: what the parts of the checkpoint plugin share. A checkpoint is one list of tensors and one of metadata:
 *
 *     tensor  "FILE/NAME"  tensor NAME of the safetensors file FILE
 *     meta    "FILE/KEY"   string, KEY of that file's own metadata
 *     meta    "FILE"       string, the bytes of any other file
 *     meta    "step"       u64
 */
#ifndef DPS_CHECKPOINT_FILE_H
#define DPS_CHECKPOINT_FILE_H

#include "base/digests.h"
#include "diapason/diapason.h"

/* The longest file that is handed over as one metadata value: a trainer_state.json with the history of a million steps. */
#define MAX_TEXT ((size_t)1 << 30)

/** The host's safetensors, through which all tensor files go. Errors: NOT_FOUND. */
DpsStatus checkpoint_safetensors (const DpsFormat **out, DpsError *err);

/** Length of the FILE in "FILE/NAME"; 0 when there is no '/' or nothing on one side of it. */
size_t checkpoint_split (DpsStr name);

/* read.c */
DpsStatus reader_open (DpsStr path, struct DpsFormatFile **out, DpsError *err);
void reader_close (struct DpsFormatFile *f);
DpsStatus reader_info (struct DpsFormatFile *f, uint64_t *out_n_tensors, uint64_t *out_n_meta, DpsError *err);
DpsStatus reader_tensor_info (struct DpsFormatFile *f, uint64_t i, DpsTensorInfo *out, DpsError *err);
DpsStatus reader_meta (struct DpsFormatFile *f, uint64_t i, DpsMeta *out, DpsError *err);
DpsStatus reader_read (struct DpsFormatFile *f, uint64_t i, uint64_t offset, uint64_t len, void *dst, DpsError *err);
DpsStatus reader_read_f32 (struct DpsFormatFile *f, uint64_t i, uint64_t first, uint64_t n, float *dst, DpsError *err);
DpsStatus reader_map (struct DpsFormatFile *f, uint64_t i, const void **out, DpsError *err);
void reader_release (struct DpsFormatFile *f, uint64_t i);

/* check.c: every file of a manifest is there, whole, with its digest; a damaged tensor is named. Errors: NOT_FOUND, FORMAT, DIGEST, IO, NOMEM. */
DpsStatus check_files (const char *dir, const DpsDigests *m, const DpsFormat *safetensors, DpsError *err);

/* write.c */
DpsStatus writer_create (const DpsStream *to, const DpsTensorInfo *const *tensors, uint64_t n_tensors, const DpsMeta *const *meta,
                         uint64_t n_meta, struct DpsFormatWriter **out, DpsError *err);
DpsStatus writer_write (struct DpsFormatWriter *w, const void *data, uint64_t len, DpsError *err);
DpsStatus writer_finish (struct DpsFormatWriter *w, DpsError *err);
void writer_abandon (struct DpsFormatWriter *w);

#endif
