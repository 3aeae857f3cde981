/* SPDX-License-Identifier: Apache-2.0 */
/* cpu.h: what the kernel says this CPU can do, for a manifest's `isa` and for `diapason doctor`. */
#ifndef DPS_PLUGIN_CPU_H
#define DPS_PLUGIN_CPU_H

#include <stddef.h>

/** 1 when the kernel offers feature `name` to programs, spelled as in /proc/cpuinfo ("avx2", "avx512_bf16", "amx_tile"). [any] */
int dps_cpu_has (const char *name, size_t len);

/** "AMD EPYC 9R14", or the architecture's name when the kernel gives no model. Static storage. [any] */
const char *dps_cpu_model (void);

/** CPUs this process may run on. [any] */
unsigned dps_cpu_count (void);

#endif
