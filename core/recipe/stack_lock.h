/* SPDX-License-Identifier: Apache-2.0 */
/*
 * stack_lock.h: stack.lock: what a run computes with: the program, the plugins by digest with the interfaces they answered to, the libraries
 * they brought, the instruction set. Written beside recipe.lock.yaml, which says what a run computes.
 *
 *     # written by diapason; --locked refuses a difference
 *     stack_lock_version: 1
 *     stack:
 *       "diapason": "0.1.0"
 *       "abi": "0.1"
 *       "device": "cpu"
 *       "isa": "oneDNN 2.6.3, AVX512_BF16"
 *       "device.1": "ref"                        # the others it may place ops on
 *       "isa.1": ""
 *       "plugin dps.cpu": "SHA-256"              # its version
 *       "interfaces dps.cpu": "dps.backend/1,dps.pack/1"
 *       "runtime libdnnl.so.2": "libdnnl.so.2.6 BUILD-ID"
 */
#ifndef DPS_RECIPE_STACK_LOCK_H
#define DPS_RECIPE_STACK_LOCK_H

#include "recipe/lock.h"

#define DPS_STACK_LOCK "stack.lock"

/** Write it, atomically. Errors: IO, NOMEM. [any] */
DpsStatus dps_stack_lock_write (const DpsLockEntry *entries, size_t n, const char *path, DpsError *err);

/**
 * Compare with one written earlier. Every difference is logged as an error, a line each: what was expected, what was found, the next step. Errors:
 * LOCK (exit code 4) with their number, or when the file is absent or cannot be understood; IO, NOMEM. [any]
 */
DpsStatus dps_stack_lock_compare (const DpsLockEntry *entries, size_t n, const char *path, DpsError *err);

#endif
