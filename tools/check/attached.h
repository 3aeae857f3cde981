/* SPDX-License-Identifier: Apache-2.0 */
/* attached.h: the adapter under test, attached to one weight, and its forward on a builder that computes at once. */
#ifndef DPS_CHECK_ATTACHED_H
#define DPS_CHECK_ATTACHED_H

#include "check/builder.h"
#include "check/plugin.h"

enum { N = 3, SHORT = 36, LONG = 40 }; /* above the ranks that adapters have by default */
enum { MOST_Y = N * LONG, MOST_X = N * LONG, AREA = SHORT * LONG };

/** The weight's rows and columns: wide, and where attached_case has gone through that, tall. */
extern int64_t O, K;

/* Of the weight it is attached to. */
extern const char attached_name[];

/** An adapter attached to one weight, with values for all it asked for. */
typedef struct Attached {
    const CheckContext *ctx;
    const DpsAdapter *table;
    void *self;
    DpsAdapterParam layout[CHECK_MAX_PARAMS], *list[CHECK_MAX_PARAMS];
    uint32_t n;
    float *values[CHECK_MAX_PARAMS];
    float w[AREA];
    double x[MOST_X];
    int has_own; /* a parameter starts as the adapter says */
} Attached;

int64_t attached_elements (const DpsAdapterParam *p);

/**
 * Variant 0 is the adapter with --args or its defaults, 1 and on have one parameter at another value; `name` says which. fresh: parameters as a new run
 * starts, else anywhere. Errors: NOT_FOUND past the last; the plugin's. End with drop.
 */
DpsStatus attached_begin (const CheckContext *ctx, size_t variant, int fresh, Attached *a, char *name, size_t cap, DpsError *err);
void attached_drop (Attached *a);

/** Ask attach for the parameters: a->layout. Errors: the plugin's; INVALID for shapes that cannot be. */
DpsStatus attached_again (Attached *a, DpsError *err);
/** Values for them. */
DpsStatus attached_fill (Attached *a, uint64_t seed, int fresh, DpsError *err);
/** W by ranges, as the host gives it: a range outside is refused. */
DpsAdapterRows attached_rows (Attached *a);

/** Rows [first, first+rows) of x through forward, y (rows, O). b: prepared by the caller, freed here. */
DpsStatus attached_forward_with (const Attached *a, struct DpsBuilder *b, int64_t first, int64_t rows, double *y, DpsError *err);
/** All rows, y (N,O). */
DpsStatus attached_forward (const Attached *a, double *y, DpsError *err);

/** Gradients of a number that y makes: of x (N,K), and of each parameter. */
typedef struct AttachedGrads {
    float x[MOST_X];
    float *params[CHECK_MAX_PARAMS];
} AttachedGrads;

/**
 * What training would make of it: gradients of Σ rows[n]·y[n,o]·cols[o] by the adjoints of the host's own graph, run on ref; dropout left out. End with
 * drop, also after an error. Errors: what the graph refuses; NOMEM. (attached_graph.c)
 */
DpsStatus attached_gradients (const Attached *a, const float *rows, const float *cols, AttachedGrads *out, DpsError *err);
void attached_gradients_drop (AttachedGrads *g);

/** A case that looks at one attached adapter: ATTACHED_LOOK (name, …), and the function is name_look. */
typedef struct AttachedLook {
    DpsStatus (*look) (Attached *a, DpsError *err);
    int fresh;    /* values as a new run starts */
    int variants; /* with each parameter at another value too */
} AttachedLook;

DpsStatus attached_case (CheckContext *ctx, DpsError *err);

#define ATTACHED_LOOK(name_, fresh_, variants_)                                                                                            \
    {                                                                                                                                      \
        .name = #name_, .run = attached_case, .data = &(const AttachedLook) { name_##_look, fresh_, variants_ }                            \
    }

#endif
