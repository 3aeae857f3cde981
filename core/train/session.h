/* SPDX-License-Identifier: Apache-2.0 */
/*
 * session.h: a model ready to work: devices, weights, adapter, tokenizer. What score, generate, eval, merge, explain and train open first.
 *
 *     dps_session_begin   devices, model, tokenizer; the adapter checked against its base and attached; no weight is read
 *     (train attaches a fresh adapter here)
 *     dps_session_load    the weights, then the adapter's values
 */
#ifndef DPS_TRAIN_SESSION_H
#define DPS_TRAIN_SESSION_H

#include "ckpt/peft.h"
#include "exec/weights.h"
#include "graph/quantise.h"
#include "recipe/recipe.h"
#include "token/tokenizer.h"

/** All zeros but `model` is a session for inference on whatever devices there are. Strings are borrowed until the call returns. */
typedef struct DpsSessionOptions {
    const char *model;         /* Hugging Face folder, .gguf file or checkpoint */
    const char *adapter;       /* PEFT folder, or NULL */
    const char *const *frozen; /* PEFT folders under it, the one nearest to the base first; they never train */
    size_t n_frozen;
    const char *dtype;          /* dps_session_dtype; NULL: "auto" */
    const char *const *devices; /* in order of preference; NULL: all there are */
    size_t n_devices;
    const json_t *op_devices; /* {op: device}, or NULL: dps_exec_prefer */
    int strict_device;        /* refuse what the first device does not run, instead of falling back */
    int score;                /* give the model a score head, trained with `training`, unless it has one */
    int own_head;             /* an output head that is tied to the embedding becomes a weight of its own: dps_source_own_head */
    int value;                /* the same of a value head; a value head that is not asked for is left aside */
    int training;             /* the adapter's weights train, and weights are packed for both directions */
    const double *dropout;    /* of the adapter's input while training; NULL: what its configuration says */
    DpsQuantise quantise;     /* what stays quantised */
    int allow_base_mismatch;  /* take an adapter that was trained on other weights of the same shapes */
    const DpsRecipe *recipe;  /* that names all of these, for errors; NULL: the command line does */
} DpsSessionOptions;

/** A tensor of an adapter's file; adapter NULL: none. */
typedef struct DpsAdapterTensor {
    const DpsPeftAdapter *adapter;
    int64_t tensor;
} DpsAdapterTensor;

typedef struct DpsSession {
    const DpsRegistry *reg; /* borrowed */
    DpsExec ex;
    DpsSource *source;
    DpsModel model;
    DpsWeights weights;      /* .stores NULL until load */
    DpsTokenizer *tok;       /* NULL: the model has none */
    DpsPeftAdapter *adapter; /* the one on top; NULL: none */
    DpsPeftAdapter **frozen; /* [n_frozen] */
    size_t n_frozen;
    DpsBuf under;              /* digests of the frozen adapters' tensors, separated by ',': what the top one is bound to */
    uint8_t *fresh;            /* [model.n_weights] 1: a head that neither model nor adapter has values for: dps_session_init_heads */
    DpsAdapterTensor *tensors; /* [n_tensors] of the first weights of the model; the others have no file */
    size_t n_tensors;
    uint32_t compute; /* DPS_DTYPE_F32 or BF16 */
    DpsDigest base;   /* dps_session_base; hex "" until asked */
} DpsSession;

/**
 * Everything but the weights. *s is filled from zeros; close it, also after an error.
 * Errors: NOT_FOUND (model, device, adapter, plugin), those of the formats; for the adapter SHAPE, DIGEST, FORMAT with the module's
 * name. [init]
 */
DpsStatus dps_session_begin (DpsSession *s, const DpsRegistry *reg, const DpsSessionOptions *o, DpsError *err);

/**
 * The weights, then the adapter file's values. n_moments: as dps_weights_load. What was attached after begin has no values yet:
 * dps_weights_init. [init]
 */
DpsStatus dps_session_load (DpsSession *s, const DpsSessionOptions *o, int n_moments, DpsError *err);

/** Values of the heads that load found none for, from `seed`. [init] */
DpsStatus dps_session_init_heads (DpsSession *s, uint64_t seed, DpsError *err);

/** begin, then load without moments. [init] */
DpsStatus dps_session_open (DpsSession *s, const DpsRegistry *reg, const DpsSessionOptions *o, DpsError *err);
void dps_session_close (DpsSession *s);

/** The base's identity, computed once: dps_source_digest. [init] */
DpsStatus dps_session_base (DpsSession *s, const DpsDigest **out, DpsError *err);

/** 1 when an adapter file has values for a weight. [any] */
int dps_session_adapter_has (const DpsSession *s, int32_t weight);
/** The adapter file's values of one weight in f32, n elements. Errors: NOT_FOUND when the file has none; the format's. [any] */
DpsStatus dps_session_adapter_values (DpsSession *s, int32_t weight, float *out, DpsError *err);

/**
 * The compute dtype of a name: "float32" ("fp32", "f32"), "bfloat16" ("bf16"), or "auto" (NULL): bf16 where the first device computes in it
 * and the model is not stored in float32, else f32. source may be NULL. Errors: USAGE. [any]
 */
DpsStatus dps_session_dtype (const DpsExec *ex, const DpsSource *source, const char *name, uint32_t *out, DpsError *err);

/* session_adapter.c: open, and say whether one of them unties the output head; check, attach; and after the weights are there, set the values. */
DpsStatus dps__session_open_adapters (DpsSession *s, const DpsSessionOptions *o, int *out_unties, DpsError *err);
DpsStatus dps__session_attach (DpsSession *s, const DpsSessionOptions *o, DpsError *err);
DpsStatus dps__session_adapter_load (DpsSession *s, DpsError *err);

#endif
