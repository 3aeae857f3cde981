/* SPDX-License-Identifier: Apache-2.0 */
/*
 * alloc_hook.h: what the module under test allocates, counted and made to fail, and the clock that it reads: the entries of its relocation table for malloc, time and their kin are
 * pointed here. It sees calls from that module's own code, not those of libraries it uses. ELF with RELA tables only (x86-64, AArch64).
 */
#ifndef DPS_TOOLS_CHECK_ALLOC_HOOK_H
#define DPS_TOOLS_CHECK_ALLOC_HOOK_H

#include "base/status.h"

/** Hook the module that `function` lies in. Returns the number of entries found; 0: it allocates nothing, or cannot be hooked. */
int alloc_hook (const void *function);
/** The k-th allocation from now on fails, once; 0: none. Resets the count. */
void alloc_hook_fail_at (uint64_t k);
/** Allocations since alloc_hook_fail_at; blocks allocated and not freed since alloc_hook. */
uint64_t alloc_hook_count (void);
int64_t alloc_hook_live (void);
/** What it is told of the time of day is so many seconds ahead from now on; 0: the truth. Clocks that only measure go on as they are. */
void alloc_hook_shift_clock (int64_t seconds);

#endif
