/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cpu.h: what the files of the cpu backend share. oneDNN does the large matrix products (dnnl.c) where it is fit to (product.h), kernels/ does
 * everything else, compiled once per instruction set and chosen at run time.
 *
 * Bits: a row's result is one fixed sequence of operations, whatever other rows are in the call and however many threads run. Sums over
 * rows go root by root. Nothing is reduced across threads.
 */
#ifndef DPS_CPU_H
#define DPS_CPU_H

#include "base/mem.h"
#include "base/quant.h"
#include "base/status.h"
#include "diapason/diapason.h"

enum { CPU_SERIAL_WORK = 1 << 17 }; /* element operations below which an op stays on one thread (about 0.05 ms) */

/** One call: the op and where its temporary memory comes from. */
typedef struct CpuCall {
    const char *name;
    const DpsOp *op;
    DpsError *err;
} CpuCall;

static inline const DpsView *cpu_in (const CpuCall *c, uint32_t i) { return i < c->op->n_in ? c->op->in[i] : NULL; }
static inline const DpsView *cpu_out (const CpuCall *c, uint32_t i) { return i < c->op->n_out ? c->op->out[i] : NULL; }
static inline double cpu_f (const CpuCall *c, uint32_t i) { return i < c->op->n_attrs ? c->op->attrs[i].f : 0; }
static inline int64_t cpu_i (const CpuCall *c, uint32_t i) { return i < c->op->n_attrs ? c->op->attrs[i].i : 0; }

static inline int64_t cpu_count (const DpsView *v)
{
    int64_t n = 1;
    for (uint32_t i = 0; i < v->rank; i++)
        n *= v->shape[i];
    return n;
}
static inline int64_t cpu_rows (const DpsView *v) { return v->rank > 1 ? v->shape[0] : 1; }
static inline int64_t cpu_cols (const DpsView *v)
{
    int64_t n = 1;
    for (uint32_t i = v->rank > 1; i < v->rank; i++)
        n *= v->shape[i];
    return n;
}

typedef DpsStatus (*CpuFunction) (CpuCall *c);

typedef struct CpuOp {
    const char *name;
    const char *in,
        *out; /* operands: one letter each: f float, F f32, D f64, i i32, l i64, s segments, w weight (packed or rows), q weight (packed, rows or quantised), r weight (rows or quantised), g f32 gradient; upper-case ? before: optional */
    CpuFunction run;
} CpuOp;

/** The kernels of one instruction set: NULL name ends it. */
extern const CpuOp cpu_kernels_base[], cpu_kernels_avx2[], cpu_kernels_avx512[];

struct CpuSoftmax;

/** One tile of a matrix product on its way to the output. */
typedef struct CpuTile {
    const float *sum;       /* (rows, cols), dense */
    int64_t rows, cols, ld; /* elements from row to row of c and y */
    const void *bias, *c;   /* [cols]; (rows, ld); NULL: none. c may be y */
    void *y;
    int bias_bf16, c_bf16, y_bf16;
    float alpha;
} CpuTile;

/** C (M,N) += alpha·A (K,M)ᵀ·B (K,N) for each of n_roots runs of rows roots[i] … roots[i+1], all f32. */
typedef struct CpuOuter {
    int64_t M, N, lda, ldb, ldc;
    const int32_t *roots; /* [n_roots + 1] */
    int64_t n_roots;
    const float *a, *b;
    float *c, alpha;
} CpuOuter;

/** C (M,N) = A (M,K)·B on the calling thread; B packed in strips of 16 columns, see kernels/panel.c. C is dense. */
typedef struct CpuPanelProduct {
    int64_t M, N, K, lda;
    const void *a, *b;
    int is_bf16; /* both */
    float *wide; /* [M·K], for A as f32 where it is bf16 */
    float *c;
} CpuPanelProduct;

/**
 * Rows × columns of a weight, element (i,k) at from[i·ld + k], into a packed panel B, at row_offset[i] + column_offset[k]. B's columns are the weight's,
 * or with `across` its rows. step: how far apart CPU_RUN of B's columns lie, from any multiple of CPU_RUN on: 1; 2, with bf16 of two rows of B in turn;
 * 0: anywhere.
 */
enum { CPU_RUN = 16 };
typedef struct CpuRectangle {
    const void *from;
    int64_t ld, rows, columns;
    const int64_t *row_offset, *column_offset;
    void *panel;
    int from_bf16, to_bf16, across, step;
} CpuRectangle;

/** Helpers of one instruction set that the matrix ops use. */
typedef struct CpuVector {
    /** dst = src as bf16 or f32, n elements; threads inside. */
    void (*convert) (const void *src, uint32_t from, void *dst, uint32_t to, int64_t n);
    /** dst = src · alpha. */
    void (*scale) (const void *src, uint32_t from, void *dst, uint32_t to, double alpha, int64_t n);
    /** y = alpha·sum + bias + c, on the calling thread. */
    void (*tile_finish) (const CpuTile *t);
    void (*outer) (const CpuOuter *p);
    void (*panel) (const CpuPanelProduct *p);
    /** On the calling thread. */
    void (*repack) (const CpuRectangle *r);
    DpsNibbles nibbles;
    /** Rows [row, row + n_rows) of one vocabulary chunk of token_logprobs, on the calling thread; see kernels/softmax.c. */
    void (*softmax_rows) (const struct CpuSoftmax *s, int64_t row, int64_t n_rows, int64_t first, int64_t n);
    void (*softmax_end) (const struct CpuSoftmax *s);
    /** p = (onehot − softmax)·dlogp of one chunk, transposed use: for the gradient of the head. */
    void (*softmax_grad) (const struct CpuSoftmax *s, int64_t row, int64_t n_rows, int64_t first, int64_t n, const float *dlogp, float *dz);
} CpuVector;
extern const CpuVector cpu_vector_base, cpu_vector_avx2, cpu_vector_avx512;

/** State of token_logprobs between chunks. S rows. */
typedef struct CpuSoftmax {
    int64_t S, D;
    const int32_t *targets;
    double softcap, temperature;
    const float *z; /* (S, chunk) raw products of the chunk: what points at row 0 */
    int64_t ld;     /* elements from row to row of z and p */
    void *p;        /* (S, chunk) weights for the second product, in p_dtype; NULL: none */
    uint32_t p_dtype;
    float *max, *sum, *sum_z, *target, *best; /* [S] running values */
    int32_t *best_id;
    float *target_factor; /* [S] d(capped)/d(raw)/temperature at the target */
    float *acc;           /* (S, D): Σ p·W so far, rescaled to the running max */
    float *logp, *entropy, *hit;
} CpuSoftmax;

/** What this machine has. */
typedef struct CpuMachine {
    const char *isa; /* "avx512", "avx2", "x86-64" */
    int has_avx512;
    int has_bf16; /* matrix products in bf16 are native */
    const CpuOp *kernels;
    const CpuVector *vector;
} CpuMachine;
const CpuMachine *cpu_machine (void);

/** Scratch number `slot` of at least `bytes`, kept and grown between calls: bounded by the largest call. NULL: out of memory. [device-serial] */
void *cpu_scratch (int slot, uint64_t bytes);
enum {
    CPU_SLOT_TILES,
    CPU_SLOT_A,
    CPU_SLOT_B,
    CPU_SLOT_C,
    CPU_SLOT_D,
    CPU_SLOT_E,
    CPU_SLOT_F,
    CPU_SLOT_G,
    CPU_SLOT_TAIL,
    CPU_SLOT_FORWARD,
    CPU_SLOT_GRAD,
    CPU_SLOT_UNQUANTISED,
    CPU_SLOT_ROWS,
    CPU_SLOTS
};

/** Threads a parallel region may use, at most `most`; and the number of the calling one in it. */
int cpu_threads (int most);
int cpu_thread (void);

/** Interned in init. */
extern DpsQuantNames cpu_quants;
static inline int cpu_is_quantised (const DpsView *v) { return dps_quant_find (&cpu_quants, v->dtype) != DPS_QUANT_NONE; }

/* pack.c */
extern const DpsPack cpu_pack;
/** Copy rows ids[0..n) of a FORWARD pack into f32 or bf16 rows y. */
DpsStatus cpu_unpack_rows (const DpsView *packed, const int32_t *ids, int64_t n, const DpsView *y, DpsError *err);

/* matmul.c: the ops that are matrix products */
DpsStatus cpu_linear (CpuCall *c);
DpsStatus cpu_linear_dx (CpuCall *c);
DpsStatus cpu_linear_dw (CpuCall *c);
DpsStatus cpu_token_logprobs (CpuCall *c);
DpsStatus cpu_row_logprobs (CpuCall *c);
DpsStatus cpu_token_logprobs_dw (CpuCall *c);
DpsStatus cpu_embed_packed (CpuCall *c);

#endif
