/* SPDX-License-Identifier: Apache-2.0 */
/*
 * model.h: a decoder with names for its weights, the adapters attached to it, and the recording of its forward pass. It holds no
 * numbers: exec/weights.h stores them.
 */
#ifndef DPS_GRAPH_MODEL_H
#define DPS_GRAPH_MODEL_H

#include "base/quant.h"
#include "graph/decoder.h"
#include "graph/targets.h"

typedef enum DpsWeightRole {
    DPS_WEIGHT_EMBED, /* (V,D); the head too when tied */
    DPS_WEIGHT_HEAD,
    DPS_WEIGHT_LINEAR,
    DPS_WEIGHT_NORM,
    DPS_WEIGHT_BIAS,
    DPS_WEIGHT_ADAPTER, /* a tensor an adapter added */
    DPS_WEIGHT_SCORE    /* (1,D): a head of one number, score or value, added like an adapter's tensor */
} DpsWeightRole;

typedef struct DpsWeight {
    char *name; /* Hugging Face's: "model.layers.0.self_attn.q_proj.weight"; adapters: module path + "." + suffix */
    DpsWeightRole role;
    uint32_t rank;
    int64_t shape[2];
    int32_t layer; /* -1 outside layers */
    uint8_t trainable;
    uint8_t needs_rows; /* an op reads it as a row-major matrix (DoRA's norm) */
    uint32_t init;      /* adapters: DPS_INIT_* */
    double init_scale;
    int32_t base;      /* adapters: the linear weight they belong to */
    uint8_t frozen;    /* adapters: of one that another is put on (dps_model_freeze) */
    DpsQuantForm form; /* what it is kept in while it does not train; NONE: numbers of the compute dtype */
} DpsWeight;

/** What an adapter put on one linear weight: the numbers of its parameters. */
typedef struct DpsSite {
    uint32_t n;
    int32_t weight[8];
    void *self;                /* the adapter's instance that serves this weight */
    const DpsAdapter *adapter; /* borrowed from the registry */
    struct DpsSite *below;     /* the adapter that it was put on, and that is its base; NULL: the weight itself */
} DpsSite;

/** One instance of an adapter plugin. */
typedef struct DpsInstance {
    const DpsAdapter *adapter;
    void *self;
} DpsInstance;

typedef struct DpsLayerWeights {
    int32_t input_norm, q, k, v, o, q_bias, k_bias, v_bias, o_bias, q_norm, k_norm;
    int32_t post_attention_norm, pre_ffn_norm, post_ffn_norm, gate, up, down, gate_bias, up_bias, down_bias;
} DpsLayerWeights;

typedef struct DpsModel {
    DpsDecoder dec;
    DpsWeight *weights;
    size_t n_weights, weight_capacity;
    size_t n_base; /* weights of the pretrained model: the first n_base */
    DpsLayerWeights *layers;
    int32_t embed, head, final_norm; /* head == embed when tied */
    int32_t score;                   /* -1: no score head */
    int32_t value, value_bias;       /* -1: no value head */
    DpsSite *sites;                  /* [n_base], n 0 where nothing is attached; the one attached last */
    DpsInstance *instances;          /* destroyed with the model */
    size_t n_instances;
    int n_frozen; /* calls of dps_model_freeze */
} DpsModel;

/** A model from its configuration, everything frozen. Release with dps_model_free. [any] */
DpsStatus dps_model_init (DpsModel *m, const json_t *config, DpsError *err);
void dps_model_free (DpsModel *m);

/** The number of a weight by name, or -1. */
int32_t dps_model_find (const DpsModel *m, const char *name);

/** Give the model a score head, transformers' "score.weight" of a sequence classifier with one label. Fresh: N(0, 0.02²). */
#define DPS_SCORE_WEIGHT "score.weight"
DpsStatus dps_model_add_score (DpsModel *m, int trainable, DpsError *err);

/** Give the model a value head, "value.weight" (1,D) and "value.bias" (1) of the policy that PPO trains. Fresh: zeros, so that a run starts at V = 0. */
#define DPS_VALUE_WEIGHT "value.weight"
#define DPS_VALUE_BIAS   "value.bias"
DpsStatus dps_model_add_value (DpsModel *m, int trainable, DpsError *err);

/** 1 for a weight of one of these heads: no adapter's, and not the pretrained model's. */
int dps_model_is_head (const DpsModel *m, int32_t weight);

/** Mark every pretrained weight trainable (full fine-tuning). */
void dps_model_train_all (DpsModel *m);
/** 1 when the module of a weight's name, "model.embed_tokens" of "model.embed_tokens.weight", ends with `module`, be it within a word, as in PEFT. [any] */
int dps_module_is (const char *weight, const char *module);
/** Mark whole modules trainable ("lm_head", "embed_tokens", "model.norm"). Errors: NOT_FOUND names the module. */
DpsStatus dps_model_train_module (DpsModel *m, const char *module, DpsError *err);

/** May change the numbers (rank_pattern) for a module: it receives a copy of them [n_params]. */
typedef void (*DpsPattern) (void *ctx, const char *module, double *num);

/** An adapter and where it goes. */
typedef struct DpsAttach {
    const DpsAdapter *adapter;
    const double *num; /* [n_params] its parameters, as dps_params_resolve gives them; NULL: it has none */
    const DpsStr *str;
    const DpsTargets *targets;
    DpsPattern pattern; /* NULL: none */
    void *ctx;          /* of pattern */
    int trainable;
} DpsAttach;
/** Attach an adapter to every linear weight that its targets select. Errors: NOT_FOUND when no module matches; the plugin's. */
DpsStatus dps_model_attach (DpsModel *m, const DpsAttach *a, DpsError *err);

/**
 * What is attached becomes part of the model: its weights are called "frozen[K].NAME" and do not train, and the next adapter is put on top, its
 * base map being the adapted one: y = W·x + s₁·B₁·A₁·x + s₂·B₂·A₂·x. One that starts from the values of its weight (DoRA) cannot be put on top.
 * Errors: NOMEM. [any]
 */
DpsStatus dps_model_freeze (DpsModel *m, DpsError *err);
/** The adapter on weight i that is not frozen, or NULL. [any] */
const DpsSite *dps_model_site (const DpsModel *m, size_t i);

/** What to record. Counts fix the shapes of the inputs (graph.h DpsInput). */
typedef struct DpsForward {
    int64_t n_tokens, n_segments, n_roots;
    int64_t n_scored;   /* rows of `scored` */
    int logprobs;       /* record token_logprobs on the scored rows */
    int logits;         /* record logits of the scored rows instead */
    int scores;         /* record the score head on the scored rows instead */
    int values;         /* record the value head on the scored rows too */
    double temperature; /* of token_logprobs; 0: 1 */
    int64_t cache_rows; /* > 0: keys and values go to and are read from state tensors 2·layer, 2·layer+1 of that many rows */
    uint64_t dropout_seed;
    int keep_layers; /* keep every layer's output for the host */
} DpsForward;

typedef struct DpsForwardOut {
    DpsNode logp, entropy, hit, logits, score, value;
    DpsNode products;                      /* with logits: those before the softcap, the same node without one */
    DpsNode hidden;                        /* scored rows after the final norm */
    DpsNode layer_out[DPS_MAX_LAYERS + 1]; /* with keep_layers: [0] the scaled embeddings, then the layers */
} DpsForwardOut;

DpsStatus dps_model_forward (const DpsModel *m, DpsGraph *g, const DpsForward *f, DpsForwardOut *out, DpsError *err);

/** Useful FLOPs of one training step over these counts (issue's definition: see tools/diapason/verb_bench.c). */
double dps_model_linear_params (const DpsModel *m);

/* One linear map with its adapter, if any, and bias. Internal to the stage. */
DpsNode dps__model_linear (const DpsModel *m, DpsGraph *g, const DpsForward *f, int32_t weight, int32_t bias, DpsNode x);
/* The graph node of a weight. */
DpsNode dps__model_weight (const DpsModel *m, DpsGraph *g, int32_t weight);

#endif
