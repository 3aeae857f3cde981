/* SPDX-License-Identifier: Apache-2.0 */
/*
 * generate.h: several prompts continued at once with a key/value cache. What a prompt gets does not depend on the others in the batch: the
 * arithmetic is row-independent and its draws are keyed by (seed, prompt, position).
 */
#ifndef DPS_INFER_GENERATE_H
#define DPS_INFER_GENERATE_H

#include "exec/weights.h"
#include "infer/sample.h"
#include "token/tokenizer.h"

typedef struct DpsGenerateOptions {
    DpsSampling sampling;
    int64_t max_tokens;
    uint64_t first;          /* number of the first prompt: draws are keyed by (seed, number, position) */
    int64_t batch;           /* prompts decoded together; 0: 16 */
    int ignore_end;          /* go on past end tokens */
    const char *const *stop; /* strings that end a completion; not part of its text */
    size_t n_stop;
    int (*should_stop) (void);                               /* polled between steps; may be NULL */
    void (*on_token) (void *ctx, size_t prompt, int32_t id); /* may be NULL */
    void *ctx;
} DpsGenerateOptions;

typedef struct DpsCompletion {
    int32_t *ids; /* without the prompt; an end token that stopped it is the last one */
    size_t n;
    char *text; /* decoded without special tokens, cut at a stop string; NULL without a tokenizer. NUL-terminated, len bytes */
    size_t len;
    int stopped; /* 1: "stop", 0: "length" */
} DpsCompletion;

/**
 * Continue n prompts. tok may be NULL (ids only; end tokens from the configuration then). out[n] is filled; free each with
 * dps_completion_free, also after an error. Errors: INVALID (empty prompt, id outside the vocabulary), CANCELLED, NOMEM. [device-serial]
 */
DpsStatus dps_generate (DpsWeights *w, const DpsTokenizer *tok, const int32_t *const *prompts, const size_t *lengths, size_t n,
                        const DpsGenerateOptions *options, DpsCompletion *out, DpsError *err);
void dps_completion_free (DpsCompletion *c);

#endif
