/* SPDX-License-Identifier: Apache-2.0 */
/*
 * double.h: a driver, a cuBLASLt and an NCCL that run on the CPU, under the sonames the cuda backend opens. Kernels are those of backends/dialect,
 * executed by an OpenCL device (PoCL); nothing of NVIDIA's is in it.
 *
 * It is stricter than the real thing. Work is executed only when somebody waits for it, so whoever looks too early finds poison. Device memory lies
 * between guard bytes and is full of NaNs until written; what is freed stays out of use. Breaches are counted with a message each (double_breaches).
 */
#ifndef DPS_TESTS_CUDA_DOUBLE_H
#define DPS_TESTS_CUDA_DOUBLE_H

#include <stddef.h>
#include <stdint.h>

/* What tests steer it with, found by dlsym in libcuda.so.1. The same by environment: DOUBLE_CUDA_DEVICES, DOUBLE_CUDA_LOSE_AT, DOUBLE_CUDA_FAIL_AT;
 * DOUBLE_CUDA_VERSION (12040: a driver of CUDA 12.4, older than the compiler, 13.0); DOUBLE_CUDA_NO_MANAGED (the host reads no device memory, as of a
 * virtual GPU); DOUBLE_CUDA_REPORT: a file that gets "breaches N, live N, launches N" when the process ends, then the breaches. */

/** The k-th call from now on that takes memory or makes an object fails with CUDA_ERROR_OUT_OF_MEMORY; 0: none. */
void double_fail_at (uint64_t k);
/** From the k-th call from now on every call fails with CUDA_ERROR_LAUNCH_FAILED, for good; 0: none, and the device is back. */
void double_lose_at (uint64_t k);
/** 1: queries make no progress, as if the work took long. */
void double_hold (int hold);
/** Calls so far; kernels launched so far. */
uint64_t double_calls (void);
uint64_t double_launches (void);
/** Things done wrong so far; text of the last one. */
uint64_t double_breaches (void);
const char *double_last_breach (void);
/** Objects not yet given back: blocks, streams, events, modules, graphs. */
int64_t double_live (void);
/** Graphs that were changed in place, and made. */
uint64_t double_graph_updates (void);
uint64_t double_graph_instances (void);

/* What the doubles of cuBLASLt and NCCL use of it. */

struct CUstream_st;
/** Queue f (arg) in a stream (or a graph that is captured from it); arg is bytes long and copied. alone: f may block and is called without locks. */
int double_enqueue (struct CUstream_st *s, void (*f) (void *arg), const void *arg, size_t bytes, int alone);
/** n bytes at p lie in one live block: else a breach is noted and 0 comes back. */
int double_holds (const void *p, uint64_t bytes, const char *who);
void double_breach (const char *format, ...) __attribute__ ((format (printf, 1, 2)));
/** Count a call; not 0: the error it has to fail with. takes: it may be the one that fails for memory. */
uint32_t double_call (int takes);
void double_object (int delta);

#endif
