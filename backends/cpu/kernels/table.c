/* SPDX-License-Identifier: Apache-2.0 */
/* table.c: the kernels of one instruction set as a table; compiled once for each (ISA_NAME). */
#include "ops.h"

const CpuOp ISA_NAME (cpu_kernels)[] = {
#define X(name, in, out, f) {#name, in, out, ISA_NAME (f)},
    CPU_KERNELS (X)
#undef X
        {NULL, NULL, NULL, NULL}};

const CpuVector ISA_NAME (cpu_vector) = {
    .convert = ISA_NAME (cpu_convert),
    .scale = ISA_NAME (cpu_scale),
    .tile_finish = ISA_NAME (cpu_tile_finish),
    .outer = ISA_NAME (cpu_outer_run),
    .panel = ISA_NAME (cpu_panel_run),
    .repack = ISA_NAME (cpu_repack_run),
    .nibbles = ISA_NAME (cpu_nibbles_run),
    .softmax_rows = ISA_NAME (cpu_softmax_rows),
    .softmax_end = ISA_NAME (cpu_softmax_end),
    .softmax_grad = ISA_NAME (cpu_softmax_grad),
};
