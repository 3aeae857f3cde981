/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ref.h: what the files of the reference backend share. It is the oracle: plain C, f64 arithmetic, one file per family of ops, written to
 * be read. Operands are loaded into f64 rows, computed on, and rounded once when stored; with f64 storage nothing is rounded, so that
 * finite differences work. It promises no speed.
 *
 * An op is a row of the table in ref.c: its operands written as "name:SHAPE", and a function that computes. The letters of a shape are
 * bound at their first appearance and compared afterwards (base/opcall.h), so the functions below never see operands that do not fit.
 */
#ifndef DPS_BACKENDS_REF_H
#define DPS_BACKENDS_REF_H

#include "base/mem.h"
#include "base/opcall.h"
#include "diapason/diapason.h"

/** One call of an op, after its operands were checked; its scratch is freed when the call returns. */
typedef DpsOpCall DpsRefCall;
typedef DpsOpCallFunction DpsRefFunction;

/** One op: its operands as dps_opcall_check reads them. */
typedef struct DpsRefOp {
    const char *name;
    const char *in;
    const char *out;
    DpsRefFunction check; /* what letters cannot say, no side effects; NULL: nothing */
    DpsRefFunction run;
} DpsRefOp;

/** Attribute i as a float or an integer; 0 when it is missing. */
static inline double dps__ref_f (const DpsRefCall *c, uint32_t i) { return dps_opcall_f (c, i); }
static inline int64_t dps__ref_i (const DpsRefCall *c, uint32_t i) { return dps_opcall_i (c, i); }

/* view.c: a view as rows of f64. A view of shape (…, D) has Π(…) rows of D columns; a vector is one row. */

static inline int64_t dps__ref_count (const DpsView *v) { return dps_view_count (v); }
int64_t dps__ref_cols (const DpsView *v);
int64_t dps__ref_rows (const DpsView *v);
void *dps__ref_data (const DpsView *v);
/** Interned in init. */
extern DpsQuantNames dps__ref_quants;
/** Row `row` to or from f64; of a quantised matrix through f32. Storing rounds to nearest even. */
void dps__ref_load (const DpsView *v, int64_t row, double *dst);
void dps__ref_store (const DpsView *v, int64_t row, const double *src);
/** Row `row` of a weight: of a quantised one in bf16 where x (dx, h) is. */
void dps__ref_load_weight (const DpsView *w, int64_t row, const DpsView *x, double *dst);
int dps__ref_quantised (const DpsView *v);
/** Element i of a vector of any integer type (ids, rows, offsets, keys). */
int64_t dps__ref_index (const DpsView *v, int64_t i);
/** Element i of a float vector. */
double dps__ref_at (const DpsView *v, int64_t i);
void dps__ref_put (const DpsView *v, int64_t i, double value);
/** Row `row` of v += partial, where the partial is first rounded to v's dtype: the rule of ops.h for parameter gradients. */
void dps__ref_add_partial (const DpsView *v, int64_t row, const double *partial, double *tmp);

/** n zeroed f64 (or bytes) that live until the call returns. Errors: NOMEM. */
DpsStatus dps__ref_scratch (DpsRefCall *c, int64_t n, double **out);
DpsStatus dps__ref_scratch_bytes (DpsRefCall *c, int64_t n, int64_t size, void **out);
/** All rows of v as one contiguous f64 matrix in scratch. */
DpsStatus dps__ref_matrix (DpsRefCall *c, const DpsView *v, double **out);
/** Offsets of roots: count R in *out_n, non-decreasing and within `rows`. Errors: INVALID. */
DpsStatus dps__ref_roots (DpsRefCall *c, const DpsView *roots, int64_t rows, int64_t *out_n);
/** Every one of n indices must be in [0, limit). Errors: INVALID with the place. */
DpsStatus dps__ref_indices (DpsRefCall *c, const DpsView *v, const char *what, int64_t limit);

/** Σ a·b. Four interleaved sums: one fixed order, whatever the batch. */
double dps__ref_dot (const double *a, const double *b, int64_t n);

/* segments.c */

/** The segment table copied into scratch and checked against N query rows and n_kv key rows. Errors: INVALID with the segment. */
DpsStatus dps__ref_segments (DpsRefCall *c, const DpsView *view, int64_t n_q, int64_t n_kv, const DpsSegment **out, int64_t *out_n);
/**
 * The key rows that query i of segment s sees, ancestors first, in position order: fills rows[], returns how many.
 * rows has room for every key row of the call.
 */
int64_t dps__ref_visible (const DpsSegment *table, int64_t s, int64_t i, int64_t window, int64_t *rows);

/* Ops, by file. */

/* elementwise.c */
DpsStatus dps__ref_fill (DpsRefCall *c);
DpsStatus dps__ref_copy (DpsRefCall *c);
DpsStatus dps__ref_add (DpsRefCall *c);
DpsStatus dps__ref_mul (DpsRefCall *c);
DpsStatus dps__ref_div (DpsRefCall *c);
DpsStatus dps__ref_softcap (DpsRefCall *c);
DpsStatus dps__ref_mul_cols (DpsRefCall *c);
DpsStatus dps__ref_add_cols (DpsRefCall *c);
DpsStatus dps__ref_mul_cols_dv (DpsRefCall *c);
DpsStatus dps__ref_scale_rows (DpsRefCall *c);
DpsStatus dps__ref_dropout (DpsRefCall *c);

DpsStatus dps__ref_exp (DpsRefCall *c);
DpsStatus dps__ref_log (DpsRefCall *c);
DpsStatus dps__ref_sqrt (DpsRefCall *c);

/* simple.c */
DpsStatus dps__ref_range (DpsRefCall *c);
DpsStatus dps__ref_row_max (DpsRefCall *c);
DpsStatus dps__ref_one_hot (DpsRefCall *c);
DpsStatus dps__ref_segment_mask (DpsRefCall *c);
DpsStatus dps__ref_rope_angles (DpsRefCall *c);

/* rows.c */
DpsStatus dps__ref_embed (DpsRefCall *c);
DpsStatus dps__ref_embed_dw (DpsRefCall *c);
DpsStatus dps__ref_gather_rows (DpsRefCall *c);
DpsStatus dps__ref_scatter_rows (DpsRefCall *c);
DpsStatus dps__ref_put_rows (DpsRefCall *c);

/* norm.c */
DpsStatus dps__ref_rms_norm_check (DpsRefCall *c);
DpsStatus dps__ref_rms_norm (DpsRefCall *c);
DpsStatus dps__ref_rms_norm_dx (DpsRefCall *c);
DpsStatus dps__ref_rms_norm_dw_check (DpsRefCall *c);
DpsStatus dps__ref_rms_norm_dw (DpsRefCall *c);

/* linear.c */
DpsStatus dps__ref_linear (DpsRefCall *c);
DpsStatus dps__ref_linear_dx (DpsRefCall *c);
DpsStatus dps__ref_linear_dw (DpsRefCall *c);
DpsStatus dps__ref_bias_db (DpsRefCall *c);
DpsStatus dps__ref_dora_norm_check (DpsRefCall *c);
DpsStatus dps__ref_dora_norm (DpsRefCall *c);

/* rope.c */
DpsStatus dps__ref_rope_check (DpsRefCall *c);
DpsStatus dps__ref_rope (DpsRefCall *c);

/* attention.c */
DpsStatus dps__ref_attention_check (DpsRefCall *c);
DpsStatus dps__ref_attention (DpsRefCall *c);
DpsStatus dps__ref_attention_bwd (DpsRefCall *c);

/* gates.c */
DpsStatus dps__ref_geglu (DpsRefCall *c);
DpsStatus dps__ref_swiglu (DpsRefCall *c);
DpsStatus dps__ref_geglu_bwd (DpsRefCall *c);
DpsStatus dps__ref_swiglu_bwd (DpsRefCall *c);

/* logprobs.c */
DpsStatus dps__ref_token_logprobs (DpsRefCall *c);
DpsStatus dps__ref_row_logprobs (DpsRefCall *c);
DpsStatus dps__ref_token_logprobs_dw (DpsRefCall *c);

/* optim.c */
DpsStatus dps__ref_sumsq (DpsRefCall *c);
DpsStatus dps__ref_adamw_step (DpsRefCall *c);
DpsStatus dps__ref_sgd_step (DpsRefCall *c);

/** The plugin itself, linked in: dps.backend/1. */
extern const DpsPluginEntry dps_ref_plugin_entry;

#endif
