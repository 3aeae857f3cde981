/* SPDX-License-Identifier: Apache-2.0 */
/* ops.h: every kernel of one instruction set, once: X (op name, inputs, outputs, function). Operand letters: see table.c. */
#ifndef DPS_CPU_OPS_H
#define DPS_CPU_OPS_H

#include "vec.h"

#define CPU_KERNELS(X)                                                                                                                     \
    X (fill, "", "f", cpu_fill)                                                                                                            \
    X (copy, "f", "f", cpu_copy)                                                                                                           \
    X (add, "ff", "f", cpu_add)                                                                                                            \
    X (mul, "ff", "f", cpu_mul)                                                                                                            \
    X (div, "ff", "f", cpu_div)                                                                                                            \
    X (mul_cols, "ff", "f", cpu_mul_cols)                                                                                                  \
    X (add_cols, "ff", "f", cpu_add_cols)                                                                                                  \
    X (mul_cols_dv, "ffi", "F", cpu_mul_cols_dv)                                                                                           \
    X (bias_db, "fi", "F", cpu_bias_db)                                                                                                    \
    X (scale_rows, "fF", "f", cpu_scale_rows)                                                                                              \
    X (softcap, "f", "f", cpu_softcap)                                                                                                     \
    X (dropout, "fl", "f", cpu_dropout)                                                                                                    \
    X (embed, "wi", "f", cpu_embed)                                                                                                        \
    X (embed_dw, "fii", "F", cpu_embed_dw)                                                                                                 \
    X (gather_rows, "fi", "f", cpu_gather_rows)                                                                                            \
    X (scatter_rows, "fi", "f", cpu_scatter_rows)                                                                                          \
    X (put_rows, "fi", "f", cpu_put_rows)                                                                                                  \
    X (rms_norm, "ff", "f?F", cpu_rms_norm)                                                                                                \
    X (rms_norm_dx, "ffFf?f", "f", cpu_rms_norm_dx)                                                                                        \
    X (rms_norm_dw, "fFfi", "F", cpu_rms_norm_dw)                                                                                          \
    X (rope, "fsF", "f", cpu_rope)                                                                                                         \
    X (geglu, "ff", "f", cpu_geglu)                                                                                                        \
    X (swiglu, "ff", "f", cpu_swiglu)                                                                                                      \
    X (geglu_bwd, "fff", "ff", cpu_geglu_bwd)                                                                                              \
    X (swiglu_bwd, "fff", "ff", cpu_swiglu_bwd)                                                                                            \
    X (attention, "fffs", "f?F", cpu_attention)                                                                                            \
    X (attention_bwd, "ffffFfs", "fff", cpu_attention_bwd)                                                                                 \
    X (dora_norm, "rff?f", "?F?F", cpu_dora_norm)                                                                                          \
    X (sumsq, "f", "D", cpu_sumsq)                                                                                                         \
    X (adamw_step, "FFFF?h", "FFF?h", cpu_adamw_step)                                                                                      \
    X (sgd_step, "FF?F?h", "F?F?h", cpu_sgd_step)

#define X(name, in, out, f) DpsStatus ISA_NAME (f) (CpuCall * c);
CPU_KERNELS (X)
#undef X

void ISA_NAME (cpu_convert) (const void *src, uint32_t from, void *dst, uint32_t to, int64_t n);
void ISA_NAME (cpu_scale) (const void *src, uint32_t from, void *dst, uint32_t to, double alpha, int64_t n);
void ISA_NAME (cpu_tile_finish) (const CpuTile *t);
void ISA_NAME (cpu_outer_run) (const CpuOuter *p);
void ISA_NAME (cpu_panel_run) (const CpuPanelProduct *p);
void ISA_NAME (cpu_repack_run) (const CpuRectangle *r);
void ISA_NAME (cpu_nibbles_run) (const unsigned char *codes, const float level[16], int64_t n, float *out);
void ISA_NAME (cpu_softmax_rows) (const CpuSoftmax *s, int64_t row, int64_t n_rows, int64_t first, int64_t n);
void ISA_NAME (cpu_softmax_end) (const CpuSoftmax *s);
void ISA_NAME (cpu_softmax_grad) (const CpuSoftmax *s, int64_t from, int64_t n_rows, int64_t first, int64_t n, const float *dlogp,
                                  float *dz);

#endif
