/* SPDX-License-Identifier: Apache-2.0 */
/*
 * peft.h: a PEFT adapter folder: adapter_config.json and adapter_model.safetensors. Keys are "base_model.model." + module path +
 * ".lora_A.weight" [r,in], ".lora_B.weight" [out,r], ".lora_magnitude_vector" [out] (DoRA), or ".weight"/".bias" of a module in
 * modules_to_save. Which base an adapter belongs to is in the weight file's metadata (PEFT warns about keys it does not know in the
 * configuration, and ignores metadata).
 */
#ifndef DPS_CKPT_PEFT_H
#define DPS_CKPT_PEFT_H

#include "base/sha256.h"
#include "ckpt/checkpoint.h"
#include "ckpt/peft_config.h"

#define DPS_PEFT_PREFIX    "base_model.model."
#define DPS_PEFT_TIED_HEAD "lm_head.weight" /* beside embed_tokens in modules_to_save, where the two are one */
/** Metadata key: the base's identity (dps_source_digest). */
#define DPS_PEFT_BASE_KEY "diapason.base_sha256"
/** Metadata key: what lay between the base and the adapter while it was trained: their digests (dps_tensors_digest), separated by ','. */
#define DPS_PEFT_UNDER_KEY "diapason.on_adapters_sha256"

/* ---- writing ---- */

/** An adapter to write. */
typedef struct DpsPeftOut {
    const DpsPeftConfig *config;
    const DpsTensorOut *tensors; /* [n] full keys; written sorted by name, so that the same adapter gives the same bytes */
    size_t n;
    const char *base_sha256; /* 64 hex digits, or NULL */
    const char *under;       /* the value of DPS_PEFT_UNDER_KEY, or NULL */
} DpsPeftOut;

/**
 * Write both files: into the checkpoint `into` when it is not NULL, else into folder `dir`, each file atomically, through `format` (peft; not used
 * with `into`). Errors: as dps_tensors_write. [any]
 */
DpsStatus dps_peft_write (const DpsPeftOut *a, const char *dir, DpsCheckpointWriter *into, const DpsFormat *format, DpsError *err);

/* ---- reading ---- */

/** One adapted linear map. */
typedef struct DpsPeftModule {
    char *path; /* "model.layers.0.self_attn.q_proj" */
    int64_t out, in, r;
    double scale;            /* alpha/r or alpha/√r, patterns applied */
    int64_t a, b, magnitude; /* tensor indices in `file`; magnitude -1 without DoRA; all -1, and the numbers 0, of another plugin */
} DpsPeftModule;

/** One tensor of a module trained whole. */
typedef struct DpsPeftSaved {
    char *name; /* "lm_head.weight": the base's name for it */
    int64_t tensor;
} DpsPeftSaved;

typedef struct DpsPeftAdapter {
    DpsPeftConfig config;
    DpsTensorFile *file;
    DpsPeftModule *modules; /* sorted by path */
    size_t n_modules, modules_capacity;
    DpsPeftSaved *saved;
    size_t n_saved, saved_capacity;
    char base_sha256[65]; /* "" when the file does not say */
    char *under;          /* DPS_PEFT_UNDER_KEY; NULL: it lay on the base */
} DpsPeftAdapter;

/**
 * Open an adapter folder and check it as far as it goes without the base: pairs complete, shapes consistent, ranks as configured, nothing
 * unexpected. format: `peft`, which finds the files, and refuses adapter_model.bin with advice: a pickle can run code.
 * Errors: NOT_FOUND, FORMAT, SHAPE, UNSUPPORTED, POLICY, LIMIT, NOMEM, each naming file and tensor. Free with dps_peft_close. [any]
 */
DpsStatus dps_peft_open (const char *dir, const DpsFormat *format, DpsPeftAdapter **out, DpsError *err);
void dps_peft_close (DpsPeftAdapter *a);

/** SHA-256 of an adapter folder's weight file as it lies there. Errors: NOT_FOUND, IO, NOMEM. [any] */
DpsStatus dps_peft_digest (const char *dir, DpsDigest *out, DpsError *err);

/** The shape of the base's tensor `name` ("model.layers.0.self_attn.q_proj.weight"): 1 and (rank, shape), or 0 when it has none. */
typedef int (*DpsPeftShapeOf) (void *ctx, const char *name, uint32_t *rank, int64_t shape[DPS_TENSOR_MAX_RANK]);

/**
 * Check the adapter against its base: every module exists there with these dimensions. base_sha256 ("" or NULL: unknown) must be the one
 * the adapter was trained on, when both say. Errors: DIGEST, SHAPE, INVALID, naming module and shapes. [any]
 */
DpsStatus dps_peft_check_base (const DpsPeftAdapter *a, DpsPeftShapeOf shape_of, void *ctx, const char *base_sha256, DpsError *err);

#endif
