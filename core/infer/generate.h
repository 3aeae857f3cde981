/* SPDX-License-Identifier: Apache-2.0 */
/*
 * generate.h: prompts continued, each several times, with a key/value cache. A prompt is computed once for all its completions; a completion
 * that ends gives its place in the batch to the next one. What a completion gets does not depend on the others: the arithmetic is
 * row-independent and its draws are keyed by (seed, number, position).
 */
#ifndef DPS_INFER_GENERATE_H
#define DPS_INFER_GENERATE_H

#include "exec/weights.h"
#include "infer/sample.h"
#include "recipe/recipe.h"
#include "token/tokenizer.h"

typedef struct DpsGenerateOptions {
    DpsSampling sampling;
    int64_t max_tokens;
    int64_t n_samples;       /* K completions of each prompt; 0: 1 */
    int want_logp;           /* record the log-prob of every token drawn */
    uint64_t first;          /* number of the first completion: draws are keyed by (seed, first + prompt·K + k, position) */
    int64_t batch;           /* completions decoded together; 0: 16 */
    int ignore_end;          /* go on past end tokens */
    const char *const *stop; /* strings that end a completion; not part of its text. None is empty */
    size_t n_stop;
    int (*should_stop) (void);                                     /* polled between steps; may be NULL */
    void (*on_token) (void *ctx, uint64_t completion, int32_t id); /* may be NULL */
    void *ctx;
} DpsGenerateOptions;

/** How a recipe samples K completions of a prompt. The stop strings are borrowed from it. [any] */
void dps_generate_options (const DpsRecipe *r, size_t per_prompt, DpsGenerateOptions *out);

typedef struct DpsCompletion {
    int32_t *ids; /* without the prompt; an end token that stopped it is the last one */
    size_t n;
    float *logp; /* [n] log_softmax (logits / temperature)[id], of all the vocabulary whatever the filters left; NULL unless want_logp */
    char *text;  /* decoded without special tokens, cut at a stop string; NULL without a tokenizer. NUL-terminated, len bytes */
    size_t len;
    int stopped; /* 1: "stop", 0: "length" */
} DpsCompletion;

/**
 * Continue n prompts K times each. tok may be NULL (ids only; end tokens from the configuration then). out[n·K] is filled, prompt by prompt; free
 * each with dps_completion_free, also after an error.
 * Ensures: logp has the bits a training pass with DpsPassOptions.temperature = sampling.temperature gives for the same tokens (0, greedy: 1).
 * Errors: INVALID (empty prompt, empty stop string, id outside the vocabulary), CANCELLED, LIMIT, NONFINITE, NOMEM. [device-serial]
 */
DpsStatus dps_generate (DpsWeights *w, const DpsTokenizer *tok, const int32_t *const *prompts, const size_t *lengths, size_t n,
                        const DpsGenerateOptions *options, DpsCompletion *out, DpsError *err);
/** What dps_generate needs beside the weights, in bytes. */
typedef struct DpsGenerateBytes {
    uint64_t arena, scratch; /* of exec's, shared with whatever else runs */
    uint64_t cache;          /* keys and values; allocated for the time of the call */
} DpsGenerateBytes;

/**
 * For n prompts of at most `longest` tokens. Weights may be an outline. Best fit is not monotonic: calls of fewer tokens or completions can need
 * a few KiB more of the arena. Errors: NOMEM, those of placement. [device-serial]
 */
DpsStatus dps_generate_measure (DpsWeights *w, size_t longest, size_t n, const DpsGenerateOptions *options, DpsGenerateBytes *out,
                                DpsError *err);
void dps_completion_free (DpsCompletion *c);

#endif
