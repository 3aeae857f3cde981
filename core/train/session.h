/* SPDX-License-Identifier: Apache-2.0 */
/*
 * session.h: a model ready to work: plugins, device, weights, adapter, tokenizer. What score, generate, eval, merge and train all open
 * first.
 */
#ifndef DPS_TRAIN_SESSION_H
#define DPS_TRAIN_SESSION_H

#include "exec/weights.h"
#include "token/tokenizer.h"

/** Strings are borrowed until dps_session_open returns. */
typedef struct DpsSessionOptions {
    const char *model;    /* Hugging Face folder, .gguf file or checkpoint */
    const char *adapter;  /* PEFT folder, or NULL */
    const char *dtype;    /* "auto" (NULL): bf16 where the CPU computes in it, else f32; "float32", "bfloat16" */
    const char *const *devices; /* priority list; NULL: all */
    size_t n_devices;
    int strict_device;
    int training;         /* gradients flow: weights are packed for both directions */
    int rows;             /* keep every weight as row-major f32 too (merge) */
    int allow_base_mismatch;
} DpsSessionOptions;

typedef struct DpsSession {
    const DpsRegistry *reg; /* borrowed */
    DpsExec ex;
    DpsSource *source;
    DpsModel model;
    DpsWeights weights;
    DpsTokenizer *tok; /* NULL: the folder has none */
    uint32_t compute;
    int has_exec, has_model, has_weights;
} DpsSession;

/** Everything but the weights: enough for `plan`, and for attaching adapters. reg stays borrowed. [init] */
DpsStatus dps_session_begin (DpsSession *s, const DpsRegistry *reg, const DpsSessionOptions *o, DpsError *err);
/** The weights, then (o->adapter) the adapter's values. */
DpsStatus dps_session_load (DpsSession *s, const DpsSessionOptions *o, int n_moments, DpsError *err);
/** Both. */
DpsStatus dps_session_open (DpsSession *s, const DpsRegistry *reg, const DpsSessionOptions *o, DpsError *err);
void dps_session_close (DpsSession *s);

/** The compute dtype of a name, resolved on a device: "auto" asks it. Errors: USAGE; UNSUPPORTED. */
DpsStatus dps_session_dtype (const DpsExec *ex, const char *name, uint32_t *out, DpsError *err);

#endif
