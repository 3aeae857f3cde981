/* SPDX-License-Identifier: Apache-2.0 */
/*
 * checkpoint.h: folders OUTPUT/checkpoint-N that are whole or not there.
 *
 * What is in the folder, and that every digest holds, is the business of the `checkpoint` format plugin (formats/checkpoint). Writing: a hidden
 * folder .checkpoint-N.tmp-PID → each file written and fsynced → manifest.json with all digests → fsync → rename to checkpoint-N → fsync of OUTPUT. A crash, a full disk or a failed fsync at any point leaves the older checkpoints as they were; a failed
 * fsync is never tried again. Reading: every digest is checked before a byte is used; a damaged folder is named and passed over.
 */
#ifndef DPS_CKPT_CHECKPOINT_H
#define DPS_CKPT_CHECKPOINT_H

#include "base/json.h"
#include "ckpt/tensors.h"

/* Names in a checkpoint; the rest are copies of the model's own files. */
#define DPS_CKPT_MODEL          "model.safetensors"
#define DPS_CKPT_ADAPTER        "adapter_model.safetensors"
#define DPS_CKPT_ADAPTER_CONFIG "adapter_config.json"
#define DPS_CKPT_OPTIMIZER      "optimizer.safetensors"
#define DPS_CKPT_STATE          "trainer_state.json"
#define DPS_CKPT_RUN            "run_state.json" /* seed, data cursor, guard, ISA: what Hugging Face keeps in rng_state.pth and scheduler.pt */
#define DPS_CKPT_OBJECTIVE      "objective.bin" /* what the objective keeps between steps, as its plugin writes it */
#define DPS_CKPT_LOCK           "recipe.lock.yaml"
#define DPS_CKPT_MANIFEST       "manifest.json" /* the format's own */

/* ---- writing ---- */

typedef struct DpsCheckpointWriter DpsCheckpointWriter;

/** Begin OUTPUT/checkpoint-`step`; format: `checkpoint`. Errors: UNSUPPORTED (no format), IO, NOMEM. Thread: [any], one at a time per output folder. */
DpsStatus dps_ckpt_begin (const DpsFormat *format, const char *output_dir, uint64_t step, DpsCheckpointWriter **out, DpsError *err);

/*
 * Add one file. name: a plain file name, each once. Nothing is written before commit: bytes and names are copied, copied files must stay as they
 * are, and tensors' data, read and ctx must live until then. Errors: INVALID (name), IO, NOMEM. After an error: discard.
 */
DpsStatus dps_ckpt_add_bytes (DpsCheckpointWriter *w, const char *name, const void *data, size_t len, DpsError *err);
/** value NULL counts as out of memory, so that a json_pack can be handed in unchecked. Not stolen. */
DpsStatus dps_ckpt_add_json (DpsCheckpointWriter *w, const char *name, const json_t *value, DpsError *err);
DpsStatus dps_ckpt_add_copy (DpsCheckpointWriter *w, const char *name, const char *from_path, DpsError *err);
DpsStatus dps_ckpt_add_tensors (DpsCheckpointWriter *w, const char *name, const DpsTensorOut *tensors, size_t n, const DpsTensorMeta *meta,
                                size_t n_meta, DpsError *err);

/** Write it, make it durable and visible; frees the writer, also on error. An older checkpoint of the same step is replaced in one step. */
DpsStatus dps_ckpt_commit (DpsCheckpointWriter *w, DpsError *err);
/** Throw it away. NULL is fine. */
void dps_ckpt_discard (DpsCheckpointWriter *w);

/**
 * Delete the oldest checkpoints until `limit` are left (0: keep all). Never the newest, never `best` ("checkpoint-40", may be NULL), which
 * counts as one; so with limit 1 two may stay, as with the Hugging Face Trainer. To be called after the newest is committed.
 */
DpsStatus dps_ckpt_rotate (const char *output_dir, uint64_t limit, const char *best, DpsError *err);

/** Delete every checkpoint of an output folder. An absent folder is fine. Errors: IO, NOMEM. */
DpsStatus dps_ckpt_clear (const char *output_dir, DpsError *err);

/** Remove what killed processes left in an output folder: hidden unfinished checkpoints, NAME.tmp-PID files. An absent folder is fine. */
DpsStatus dps_ckpt_sweep (const char *output_dir, DpsError *err);

/* ---- reading ---- */

typedef struct DpsCheckpoint DpsCheckpoint;

/**
 * Open a checkpoint folder, every digest checked by its format (`checkpoint`).
 * Errors: NOT_FOUND, UNSUPPORTED (format is NULL), FORMAT, DIGEST, VERSION, IO, NOMEM; each message names folder, file and, where it can, the tensor. [any]
 */
DpsStatus dps_ckpt_open (const char *dir, const DpsFormat *format, DpsCheckpoint **out, DpsError *err);

/**
 * What --resume means. where NULL, "", "auto" or "true": the newest sound checkpoint of output_dir; each damaged one on the way is logged as
 * a warning. Else a checkpoint folder, or an output folder in which to look so. A named checkpoint that is damaged is an error
 * which names the newest sound one beside it.
 * Errors: NOT_FOUND when there is no checkpoint at all (message says where it looked); DIGEST when all are damaged; else as dps_ckpt_open.
 */
DpsStatus dps_ckpt_resume (const char *output_dir, const char *where, const DpsFormat *format, DpsCheckpoint **out, DpsError *err);

const char *dps_ckpt_path (const DpsCheckpoint *c);
uint64_t dps_ckpt_step (const DpsCheckpoint *c);
/** 1 when it holds the file. */
int dps_ckpt_has (const DpsCheckpoint *c, const char *name);
/** A file's bytes (not a tensor file's), its digest checked again on what was read. Errors: NOT_FOUND, DIGEST, LIMIT, IO, NOMEM. */
DpsStatus dps_ckpt_read (const DpsCheckpoint *c, const char *name, size_t limit, DpsBuf *out, DpsError *err);
DpsStatus dps_ckpt_read_json (const DpsCheckpoint *c, const char *name, json_t **out, DpsError *err);
/** One of its tensor files; close it before the checkpoint. */
DpsStatus dps_ckpt_tensors (const DpsCheckpoint *c, const char *name, DpsTensorFile **out, DpsError *err);
void dps_ckpt_close (DpsCheckpoint *c);

/** Steps of the checkpoint folders of an output folder, rising; sound or not. Free *out with dps_free. An absent folder has none. */
DpsStatus dps_ckpt_list (const char *output_dir, uint64_t **out, size_t *n, DpsError *err);

/**
 * That a folder may become a run's: it is absent, or empty but for what lies beside a recipe (rows, a GGUF file, scripts, logs), or holds marks of a run
 * already. Errors: USAGE names the first entry that is somebody else's; IO.
 */
DpsStatus dps_ckpt_check_own (const char *output_dir, DpsError *err);

#endif
