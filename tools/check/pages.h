/* SPDX-License-Identifier: Apache-2.0 */
/* pages.h: memory that ends at a page nobody may touch, or begins behind one: a byte too far is a crash, at once. */
#ifndef DPS_CHECK_PAGES_H
#define DPS_CHECK_PAGES_H

#include <stddef.h>

enum { CHECK_GUARD_BEHIND = 0, CHECK_GUARD_BEFORE = 1 };

/** A copy of `bytes` bytes (NULL: zeros) with a forbidden page right behind it or right before it; read-only if asked. NULL: no memory. Stays for good. */
void *check_pages (const void *data, size_t bytes, int guard, int read_only);

#endif
