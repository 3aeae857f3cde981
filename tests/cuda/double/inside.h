/* SPDX-License-Identifier: Apache-2.0 */
/* inside.h: what the files of the driver's double share. One lock over everything; kernels and copies run under it, blocking calls do not. */
#ifndef DPS_TESTS_CUDA_INSIDE_H
#define DPS_TESTS_CUDA_INSIDE_H

#include "backends/cuda/api.h"
#include "double.h"

enum { GUARD = 256, GUARD_BYTE = 0xA5, POISON = 0xFF, BURIED = 0xDD };
enum { CU_INVALID_CONTEXT = 201, CU_INVALID_HANDLE = 400, CU_ILLEGAL_STATE = 401, CU_CAPTURE_INVALIDATED = 901 };

typedef enum BlockKind { BLOCK_DEVICE, BLOCK_MANAGED, BLOCK_PINNED, BLOCK_REGISTERED } BlockKind;

typedef struct Block {
    unsigned char *data, *room; /* room: GUARD bytes, data, GUARD bytes; NULL of registered memory */
    uint64_t bytes;
    BlockKind kind;
    int live;
    struct Block *next;
} Block;

void double_lock (void);
void double_unlock (void);
/** Wait until another thread has moved some stream on. */
void double_wait_for_others (void);
void double_wake_others (void);

/* memory.c: all under the lock */
Block *double_block_new (uint64_t bytes, BlockKind kind, void *registered);
CuResult double_block_free (void *p, BlockKind kind, int any_device_kind);
/** The live block that holds p, NULL after a breach. */
Block *double_block_of (const void *p, const char *who);
int double_is_block (const void *p);
/** Look at all guards. */
void double_check_guards (void);
/** The device was lost: the driver took everything back. */
void double_forget_blocks (void);

/* kernels.c: all under the lock */
enum { DOUBLE_MAX_ARGS = 64 };
typedef struct Launch {
    struct CUfunc_st *function;
    unsigned int grid[3], block[3];
    uint64_t values[DOUBLE_MAX_ARGS];
} Launch;
CuResult double_module_new (const void *image, CuModule *out);
void double_module_free (CuModule m);
CuResult double_module_function (CuModule m, const char *name, CuFunction *out);
/** Copy the arguments' values; INVALID_VALUE for a geometry the real driver would refuse. */
CuResult double_launch_prepare (Launch *l, CuFunction f, const unsigned int grid[3], const unsigned int block[3], void **args);
void double_launch_run (void *launch);

#endif
