/* SPDX-License-Identifier: Apache-2.0 */
/* completion.h: one completion as it grows: a token drawn from the logits, where it ends, and its text. Internal to the stage. */
#ifndef DPS_INFER_COMPLETION_H
#define DPS_INFER_COMPLETION_H

#include "infer/generate.h"

typedef struct DpsDrawing {
    const DpsGenerateOptions *o;
    const DpsTokenizer *tok;
    const DpsDecoder *dec;
    int64_t vocab;
    DpsCandidate *room; /* [vocab] */
    int32_t *seen;      /* the longest prompt and completion */
    float *penalised;   /* [vocab]; NULL: no token is */
} DpsDrawing;

/** A completion being made. */
typedef struct DpsGrowing {
    uint64_t number; /* among all completions: keys its draws, with options->first */
    const int32_t *prompt;
    size_t n_prompt;
    DpsCompletion *out;
    size_t ids_capacity, logp_capacity;
    int done;
} DpsGrowing;

/** longest: tokens of a prompt and its completion at most. Close it also after an error. Errors: NOMEM. */
DpsStatus dps__drawing_open (DpsDrawing *d, const DpsGenerateOptions *o, const DpsTokenizer *tok, const DpsDecoder *dec, size_t longest,
                             DpsError *err);
void dps__drawing_close (DpsDrawing *d);

/** What draws from one row of logits have in common: the likeliest token and, at that, its log-prob at the sampling's temperature. */
typedef struct DpsDrawRow {
    const float *logits; /* f32 (vocab) */
    int32_t best;
    float best_logp;
} DpsDrawRow;

/** Errors: NONFINITE. best_logp is left for the caller. */
DpsStatus dps__draw_row (const DpsDrawing *d, const float *logits, DpsDrawRow *out, DpsError *err);
/** The next token. Errors: NONFINITE, NOMEM. */
DpsStatus dps__growing_draw (DpsDrawing *d, DpsGrowing *g, const DpsDrawRow *row, DpsError *err);
/** Record the log-prob of the token drawn last. */
DpsStatus dps__growing_logp (DpsGrowing *g, float logp, DpsError *err);
/** The text, once it is done. Nothing without a tokenizer. */
DpsStatus dps__growing_text (const DpsDrawing *d, DpsGrowing *g, DpsError *err);

#endif
