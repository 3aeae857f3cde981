/* SPDX-License-Identifier: Apache-2.0 */
/* tape_record.h: what tape.c (memory, axes, the walk back) and tape_math.c (elementwise functions) share. */
#ifndef DPS_OBJECTIVE_TAPE_RECORD_H
#define DPS_OBJECTIVE_TAPE_RECORD_H

#include "objective/tape.h"

/** One elementwise function of up to three operands x and two constants p. */
typedef struct DpsTapeMath {
    const char *name;
    int n_args;
    double (*value) (const double *x, const double *p);
    /** out[k] = ∂y/∂x[k]; y is the value. */
    void (*slopes) (const double *x, double y, const double *p, double *out);
} DpsTapeMath;

typedef struct DpsTapeNode {
    uint32_t axis;
    int active; /* a gradient flows through it */
    uint64_t n;
    double *value;
    double *grad;  /* [n], made by backward; NULL: none arrived */
    DpsVal arg[3]; /* -1: none */
    double p[2];   /* constants of an elementwise function; p[0] the row number of pick */
    const DpsTapeMath *math;
    int across; /* ACROSS_* of tape.c, 0 for elementwise functions and leaves */
} DpsTapeNode;

struct DpsTape {
    DpsTapeShape shape;
    DpsTapeNode *nodes;
    size_t n_nodes, capacity;
    DpsStatus status;
    DpsError err;
    int walked; /* backward has run */
};

/** Remember the first error; returns -1. */
DpsVal dps__tape_fail (struct DpsTape *t, DpsStatus code, const char *fmt, ...) __attribute__ ((format (printf, 3, 4)));
/** A new value of `n` elements along `axis`, zeroed; NULL after an error. *out its number. */
DpsTapeNode *dps__tape_new (struct DpsTape *t, uint32_t axis, uint64_t n, DpsVal *out);
/** Value x, or NULL after an error or when there is no such value (which becomes the tape's error). */
DpsTapeNode *dps__tape_get (struct DpsTape *t, DpsVal x, const char *who);
/** Record math over the arguments; scalars broadcast. */
DpsVal dps__tape_math (struct DpsTape *t, const DpsTapeMath *math, const DpsVal *args, double p0, double p1);
/** The gradients of a node's arguments from its own. Arguments' grad arrays exist where active. */
void dps__tape_math_backward (struct DpsTape *t, const DpsTapeNode *node);
const char *dps__tape_axis_name (uint32_t axis);

/* The elementwise slots of the table, in tape_math.c. */
#define DPS_TAPE_UNARY(F)  F (neg) F (exp) F (log) F (square) F (abs) F (relu) F (sigmoid) F (log_sigmoid)
#define DPS_TAPE_BINARY(F) F (add) F (sub) F (mul) F (div) F (min) F (max)
#define DPS_X(name)        DpsVal dps__tape_##name (struct DpsTape *t, DpsVal x);
DPS_TAPE_UNARY (DPS_X)
#undef DPS_X
#define DPS_X(name) DpsVal dps__tape_##name (struct DpsTape *t, DpsVal a, DpsVal b);
DPS_TAPE_BINARY (DPS_X)
#undef DPS_X
DpsVal dps__tape_clip (struct DpsTape *t, DpsVal x, double lo, double hi);
DpsVal dps__tape_where (struct DpsTape *t, DpsVal condition, DpsVal a, DpsVal b);

#endif
