/* SPDX-License-Identifier: Apache-2.0 */
/* runtime.h: which builds of which shared libraries this process computes with. */
#ifndef DPS_PLUGIN_RUNTIME_H
#define DPS_PLUGIN_RUNTIME_H

#include "base/status.h"

/**
 * The program ("diapason") and the loaded libraries that do arithmetic or schedule it (oneDNN, OpenMP, libm, OpenCL, CUDA, BLAS) or of which `also`
 * says 1, in the order of their names: visit gets "libdnnl.so.2" and "libdnnl.so.2.6 8d0f…", the real file's name and its build id ("-" when it has
 * none); 0 goes on, else runtimes returns it. [init]
 */
int dps_runtimes (int (*also) (void *ctx, const char *soname), int (*visit) (void *ctx, const char *soname, const char *build), void *ctx);

#endif
