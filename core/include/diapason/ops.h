/* SPDX-License-Identifier: Apache-2.0 */
/*
 * ops.h: one operation as a backend receives it, and the specification of every op of ABI 0.1, since which each is there.
 *
 * A backend need not have them all: what it refuses runs on the same device as simple ops (exp, row_max, linear … : graph/decompose.h)
 * where there is such a decomposition, else on `ref`.
 *
 * Shapes: N tokens of all segments, D width, H query heads, G key/value heads, h head width, V vocabulary, S scored positions,
 * K/O input/output width of a linear map, R roots.
 * Unless said otherwise: dtypes f32 or bf16 mixed freely, arithmetic and accumulation in f32 (ref: f64), inputs never written,
 * outputs wholly overwritten, no aliasing. Rows are independent: row n of an output depends on row n of the inputs only
 * (attention: on its own segment and ancestors), and has the same bits whatever other rows are in the call.
 *
 * `roots`: i32 (R+1,) row offsets of the roots of this call. An op that reduces over rows into a parameter gradient (marked +=)
 * makes one f32 partial per root and adds the partials to the output in root order, so that splitting a batch at roots changes no bit.
 *
 * Scalars are read by index from DpsOp.attrs; a missing one is 0.
 *
 *  id                 in                                  out                        attrs
 *  fill               -                                   y any                      0 f:value
 *  copy               x                                   y (same shape, any dtype; casts, round to nearest even)
 *  add                a, b                                y                          0 f:alpha 1 f:beta   y = alpha·a + beta·b (0 both: 1, 1)
 *  mul                a, b                                y                          a·b elementwise
 *  mul_cols           x (N,D), v (D)                      y                          y[n,d] = x[n,d]·v[d]
 *  add_cols           x (N,D), v (D)                      y                          y[n,d] = x[n,d] + v[d]
 *  mul_cols_dv        x, dy, roots                        += dv (D)                  Σ_n x·dy per root
 *  embed              table (V,D), ids i32 (N)            y (N,D)                    0 f:scale (0: 1)
 *  embed_dw           dy (N,D), ids, roots                += dtable (V,D)            0 f:scale (0: 1)  (rows added in order)
 *  rms_norm           x (N,D), w (D)                      y, rstd f32 (N·D/h)        0 f:eps 1 f:offset 2 i:h
 *                     over consecutive groups of h = attr 2 (0: D) elements; w has h elements; y = x·rstd·(w + offset)
 *  rms_norm_dx        x, w, rstd, dy, [c]                 dx (+ c when given)        same attrs
 *  rms_norm_dw        x, rstd, dy, roots                  += dw (h)                  same attrs
 *  linear             x (N,K), W (O,K), [bias O], [c]     y (N,O)                    0 f:alpha  y = alpha·x·Wᵀ + bias + c  (alpha 0: 1)
 *  linear_dx          dy (N,O), W (O,K), [c]              dx (N,K)                   0 f:alpha  dx = alpha·dy·W + c
 *  linear_dw          dy (N,O), x (N,K), roots            += dW (O,K)                0 f:alpha  dW += alpha·Σ_roots dy_rᵀ·x_r
 *  bias_db            dy (N,O), roots                     += db (O)
 *  rope               x (N,H·h), segments, inv_freq f32 (h/2) y                      0 i:h 1 i:inverse 2 f:scale (0: 1)
 *                     rotates halves (x[i], x[i+h/2]) by position·inv_freq[i]; inverse: the transpose; y multiplied by scale
 *  attention          q (N,H·h), k (Nkv,G·h), v, segments o (N,H·h), lse f32 (N,H)   0 i:H 1 i:G 2 i:h 3 f:scale 4 i:window 5 f:softcap
 *                     token at position p of a segment sees positions max(0,p-window+1)…p (window 0: all) of its own segment and of
 *                     its ancestors; scores s = scale·q·k, softcapped (cap·tanh(s/cap)) before the mask
 *  attention_bwd      q, k, v, o, lse, do, segments       dq, dk, dv                 same attrs; children added to parents in table order
 *  geglu, swiglu      gate (N,D), up                      y                          gelu_tanh(gate)·up; silu(gate)·up
 *  geglu_bwd, swiglu_bwd  gate, up, dy                    dgate, dup                 gelu_tanh(x) = x/(1 + exp(-√(8/π)·(x + 0.044715·x³)))
 *  gather_rows        x (N,D), rows i32 (S)               y (S,D)
 *  scatter_rows       dy (S,D), rows i32 (S)              dx (N,D), zero elsewhere; duplicates added in order
 *  softcap            x                                   y = cap·tanh(x/cap)        0 f:cap
 *  dropout            x (N,D), keys i64 (N)               y                          0 f:p 1 i:seed 2 i:site
 *                     keep when uniform(seed; site, key[n]·2^20 + d) ≥ p, then ÷ (1-p); the adjoint is the same op
 *  put_rows           x (N,D), rows i32 (N)               y (M,D) in place: y[rows[n]] = x[n], other rows kept (a cache grows so)
 *  token_logprobs     h (S,D), W (V,D), targets i32 (S), [W packed for input gradients]
 *                                                         logp f32 (S), entropy f32 (S), hit f32 (S), dir (S,D) | NULL
 *                                                         0 f:softcap 1 f:temperature (0: 1)
 *                     z = softcap(h·Wᵀ)/temperature; logp = z[t] - lse(z); entropy = lse - Σ p·z; hit = 1 when t is the arg max
 *                     (first on ties); dir = d logp / d h, saved for the adjoint; entropy, hit, dir may be NULL
 *                     in[3] comes with a packed in[1] whenever dir is wanted
 *                     h·Wᵀ is rounded as linear's f32 output is (not at all when h or W is f64)
 *  row_logprobs       z f32 (S,V), targets i32 (S)        logp f32 (S)               same attrs
 *                     what token_logprobs gives for rows whose h·Wᵀ is z: the same bits on one device
 *  scale_rows         x (S,D), v f32 (S)                  y = x·v[row]               the adjoint of token_logprobs in h
 *  token_logprobs_dw  h, W, targets, dlogp f32 (S), roots += dW (V,D)                same attrs
 *  dora_norm          W (O,K), A (r,K), B (O,r), [m (O)]  [v f32 (O)], norm f32 (O)  0 f:s   norm = ‖W + s·B·A‖ per row, ≥ 2⁻¹²⁶; v = m/norm
 *  div                a, b                                y = a/b
 *  sumsq              x any                               y f64 (1)                  Σ x², chunks of 65536 elements added in order
 *  exp, log, sqrt     x                                   y                          elementwise
 *  range              -                                   y i32 (n)                  0 i:first 1 i:step   y[i] = first + step·i
 *  row_max            x (N,D)                             y (N,1), [at i32 (N)]      the largest of a row, and its column (first on ties)
 *  one_hot            ids i32 (N)                         y (N,V)                    1 in column ids[n], 0 elsewhere
 *  segment_mask       segments                            y (N,M)                    0 i:window   1 where query row n of attention sees key
 *                     row m, else 0
 *  rope_angles        segments, inv_freq f32 (f)          cos (N,f), sin (N,f)       of position·inv_freq; rows of no segment: 0, 0
 *  adamw_step         p f32, g f32, m f32, v f32, [shadow bf16] → in place           0 f:lr 1 f:beta1 2 f:beta2 3 f:eps 4 f:weight_decay
 *                     5 i:t (from 1) 6 f:grad_scale; outputs p, m, v, [shadow = bf16(p)]     formula: parity/README "optim"
 *  sgd_step           p f32, g f32, [m f32], [shadow]     in place                   0 f:lr 1 f:momentum 4 f:weight_decay 6 f:grad_scale
 *                     g ← grad_scale·g + weight_decay·p; m ← momentum·m + g (without m: no momentum); p ← p - lr·m; as torch.optim.SGD
 *
 * Quantised weights. W of linear, linear_dx, token_logprobs and dora_norm, and the table of embed, may be a matrix whose dtype is the interned
 * name of a block format; a number of it is first an f32 as below, then a bf16 where x (dx, h) is bf16.
 *   Q4_0 Q4_1 Q5_0 Q5_1 Q8_0 IQ4_NL Q2_K … Q6_K   GGUF's blocks, row after row; a row is a whole number of blocks
 *   NF4, FP4     codes of 4 bits over the elements in row-major order, the first in the high half of a byte; blocks cross rows.
 *                Parts: code_book f32 (16); absmax f32, one a block; block_elements i32 (1). value = code_book[code]·absmax[block]
 *   DYNAMIC8     the same with codes of a byte and code_book f32 (256)
 *                with nested_absmax f32 (one for 256 blocks), nested_code_book f32 (256), nested_offset f32 (1), absmax is u8:
 *                the block's is nested_code_book[absmax]·nested_absmax + nested_offset
 *   INT8         signed bytes. Part: scales f32, one a row. value = code·scale/127
 *
 * grad_scale 0 (a missing attribute) is 1. Rows of no segment: rope and attention give zeros, and lse 0, as for a query that sees no key.
 * A window of a bidirectional segment reaches equally far both ways.
 */
#ifndef DIAPASON_OPS_H
#define DIAPASON_OPS_H

#include "diapason/types.h"

/** One attribute. Which member counts is the op's specification. Frozen. */
typedef union DpsScalar {
    int64_t i;
    double f;
} DpsScalar;

/**
 * One row of the segment table, passed as a u8 view of n·stride bytes: shape (n, stride). The table may grow: read `stride` bytes a row.
 * A segment is a run of tokens at rows [q_start, q_start+q_len) of q and [kv_start, kv_start+kv_len) of k and v. Its first query token is
 * at position `position`; key row kv_start+j is at position `position + q_len - kv_len + j` (training: kv_len = q_len).
 * A segment with parent ≥ 0 also attends to the parent's keys (and its ancestors'); `position` continues after them. Parents come first.
 * A cache page is a segment with q_len 0.
 */
typedef struct DpsSegment {
    int32_t q_start, q_len;
    int32_t kv_start, kv_len;
    int32_t parent; /* row of the table, or -1 */
    int32_t position;
    int32_t adapter; /* index of the adapter that applies to these rows */
    uint32_t flags;  /* DPS_SEGMENT_* */
} DpsSegment;

enum { DPS_SEGMENT_BIDIRECTIONAL = 1 };

/** One operation. Borrowed for the call. in/out hold NULL where an optional operand is absent. */
typedef struct DpsOp {
    size_t size;
    uint32_t id; /* interned op name */
    uint32_t n_in;
    uint32_t n_out;
    uint32_t n_attrs;
    const DpsView *const *in;
    const DpsView *const *out;
    const DpsScalar *attrs;
} DpsOp;

#endif
