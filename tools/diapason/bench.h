/* SPDX-License-Identifier: Apache-2.0 */
/* bench.h: what the parts of the bench verb share. */
#ifndef DPS_TOOLS_BENCH_H
#define DPS_TOOLS_BENCH_H

#include <jansson.h>

#include "exec/weights.h"
#include "infer/batch.h"

enum { BENCH_WARM_UP = 2 }; /* steps that warm up caches and kernels, not measured */

typedef struct BenchOptions {
    const char *model, *dtype, *data, *quantization, *objective;
    int rows, tokens, scored, steps, batch;
} BenchOptions;

/** Seconds: monotonic; since this process was launched. Bytes: the largest resident set so far. */
double bench_now (void);
double bench_since_launch (void);
double bench_peak_rss (void);

/** FLOP/s of the best product of the shapes that matter, on the first device. Errors: DTYPE when it has none in this dtype. */
DpsStatus bench_matmul_peak (DpsExec *ex, uint32_t dtype, double *out_flops, DpsError *err);

DpsStatus bench_train (DpsExec *ex, DpsRegistry *reg, const BenchOptions *o, json_t *result, DpsError *err);
/** What the plugin ABI costs: the steps of bench_train again on a backend that does nothing, as a share of theirs. */
DpsStatus bench_abi (DpsExec *ex, DpsRegistry *reg, const BenchOptions *o, json_t *result, DpsError *err);
/** Steps of o->objective on o->rows units of prompts of o->tokens and answers of o->scored tokens. */
DpsStatus bench_objective (DpsExec *ex, DpsRegistry *reg, const BenchOptions *o, json_t *result, DpsError *err);
DpsStatus bench_decode (DpsExec *ex, DpsRegistry *reg, const BenchOptions *o, json_t *result, DpsError *err);

/** The rows of bench train, by number: random ones, or those of o->data ({"input_ids","labels"} a line) over and over. */
typedef struct BenchRows BenchRows;
DpsStatus bench_rows_open (const BenchOptions *o, int64_t vocab, BenchRows **out, DpsError *err);
DpsSequence bench_rows_get (const BenchRows *rows, size_t i);
void bench_rows_close (BenchRows *rows);

#endif
