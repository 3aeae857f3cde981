/* SPDX-License-Identifier: Apache-2.0 */
/*
 * builder.h: a graph builder that computes at once, in f64, so that an adapter's forward can be looked at alone. A fresh one for each forward.
 * Shapes: W (O,K), x (N,K), y (N,O).
 */
#ifndef DPS_CHECK_BUILDER_H
#define DPS_CHECK_BUILDER_H

#include <stdint.h>

#include "base/status.h"
#include "diapason/adapter.h"

enum { CHECK_MAX_NODES = 64, CHECK_MAX_PARAMS = 8, CHECK_MAX_HELD = 1 << 12 };

typedef struct CheckNode {
    int64_t rows, cols; /* a vector is one row */
    double *v;
} CheckNode;

/** What a graph takes for constants: divisors and weight norms. They are kept in one forward, and stay so in others: differences then see what adjoints see. */
typedef struct CheckHeld {
    double v[CHECK_MAX_HELD];
    size_t n;
    int keep; /* this forward's, else give those of the forward that kept them */
} CheckHeld;

struct DpsBuilder {
    CheckNode nodes[CHECK_MAX_NODES];
    int n;
    DpsNode w;         /* the base weight */
    int training;      /* dropout is active */
    uint64_t n_ops;    /* calls so far */
    int n_base;        /* of those, of base */
    uint64_t fail_at;  /* this call and all after it answer -1; 0: none */
    uint64_t other_at; /* before this call, `meanwhile` runs */
    void (*meanwhile) (void *ctx);
    void *ctx;
    CheckHeld *held;    /* NULL: nothing is held */
    const char *misuse; /* a call that no graph would take; NULL: none */
};

extern const DpsBuilderOps check_builder_ops;

/** A node with these numbers (NULL: zeros). Dropout keeps the same numbers of a node each time. -1: no memory or no room. */
DpsNode check_node (struct DpsBuilder *b, int64_t rows, int64_t cols, const double *v);
DpsNode check_node_f32 (struct DpsBuilder *b, int64_t rows, int64_t cols, const float *v);
void check_builder_free (struct DpsBuilder *b);

#endif
