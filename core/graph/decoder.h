/* SPDX-License-Identifier: Apache-2.0 */
/*
 * decoder.h: the family of decoder-only transformers this engine runs, as one description. An architecture (arch/NAME.c) fills it from a
 * config.json; decoder.c records the ops. What differs between architectures is data here, not code there.
 */
#ifndef DPS_GRAPH_DECODER_H
#define DPS_GRAPH_DECODER_H

#include "base/json.h"
#include "graph/graph.h"

enum { DPS_MAX_LAYERS = 512, DPS_MAX_ROPES = 2, DPS_MAX_ENDS = 32 };

/** One rope table; see parity/README "rope types". */
typedef struct DpsRope {
    double theta;
    enum { DPS_ROPE_DEFAULT, DPS_ROPE_LINEAR, DPS_ROPE_LLAMA3 } type;
    double factor;                            /* linear: positions ÷ factor; llama3: of the long wavelengths */
    double low_freq_factor, high_freq_factor; /* llama3 */
    double original_max_position;             /* llama3 */
} DpsRope;

typedef struct DpsLayer {
    int32_t window; /* 0: full attention; W: token i sees i-W+1 … i */
    int32_t rope;   /* index into ropes */
} DpsLayer;

typedef struct DpsDecoder {
    const char *arch; /* "gemma3" */
    int64_t vocab, hidden, ffn, n_layers, n_heads, n_kv_heads, head_dim, max_position;
    double eps;
    double norm_offset;                 /* weights of norms are stored minus this: 1 for Gemma */
    double embed_scale;                 /* what embeddings are multiplied by */
    double attn_scale;                  /* of q·k */
    double attn_softcap, final_softcap; /* 0: none */
    DpsOpCode gate;                     /* DPS_OP_geglu or DPS_OP_swiglu */
    uint8_t post_norms;                 /* Gemma: a norm after attention and after the feed-forward, before they are added */
    uint8_t qk_norm;                    /* per head, before rope */
    uint8_t qkv_bias, o_bias, mlp_bias;
    uint8_t tied;     /* the output head is the embedding */
    int32_t bos, eos; /* -1: not said */
    uint32_t n_more_ends;
    int32_t more_ends[DPS_MAX_ENDS]; /* other tokens that end an answer: eos_token_id may be a list */
    uint32_t n_ropes;
    DpsRope ropes[DPS_MAX_ROPES];
    DpsLayer layers[DPS_MAX_LAYERS];
} DpsDecoder;

/** An architecture: which model_types it answers to, and how it reads their config.json. */
typedef struct DpsArch {
    const char *name;
    const char *const *model_types; /* NULL-terminated */
    const char *defaults;           /* JSON object: what transformers' configuration class assumes for keys that config.json leaves out */
    DpsStatus (*read) (const json_t *config, DpsDecoder *out, DpsError *err);
} DpsArch;

/** Fill a description from a configuration object by its model_type. Errors: UNSUPPORTED (lists the known ones), FORMAT (key, value). [any] */
DpsStatus dps_decoder_read (const json_t *config, DpsDecoder *out, DpsError *err);

/* What arch files share: typed reading of config.json, each error naming the key. A missing key gives `fallback`. */
DpsStatus dps_config_int (const json_t *config, const char *key, int64_t lo, int64_t hi, int64_t fallback, int64_t *out, DpsError *err);
/** The fallback, or a number that is finite and above 0 in f32 too, in which it is computed with. */
DpsStatus dps_config_positive (const json_t *config, const char *key, double fallback, double *out, DpsError *err);
int dps_config_bool (const json_t *config, const char *key, int fallback);
/** The activation under `key` (absent: `wanted`) is one of the names of `wanted`. Errors: UNSUPPORTED with both. */
DpsStatus dps_config_activation (const json_t *config, const char *key, const char *const *wanted, DpsError *err);
/** Shapes, heads, eps, tying, token ids: what every architecture has under the same keys; and one rope table of theta/scaling. */
DpsStatus dps_config_common (const json_t *config, DpsDecoder *out, DpsError *err);
/** One rope table from a rope_parameters object (transformers 5) or the classic rope_theta + rope_scaling. */
DpsStatus dps_config_rope (const json_t *config, const json_t *parameters, double default_theta, DpsRope *out, DpsError *err);
/** Windows per layer from layer_types (transformers 5), else by `is_sliding` with the classic keys. window 0: there is none. */
DpsStatus dps_config_layers (const json_t *config, int64_t window, int (*is_sliding) (const json_t *config, int64_t layer), DpsDecoder *out,
                             DpsError *err);

/** What else ends an answer: an id or a list of ids; what is none of the vocabulary is left out. [any] */
void dps_decoder_add_ends (DpsDecoder *dec, const json_t *ids);

/** Inverse frequencies of rope table r: out[head_dim/2], computed in f32 as PyTorch does. Pure. [any] */
void dps_rope_table (const DpsRope *r, int64_t head_dim, float *out);

#endif
