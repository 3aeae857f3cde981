/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mem.h: the only door to the heap. Every allocation can fail and every caller handles it; tests make the k-th one fail.
 * Sizes are products computed with overflow checks. GLib's aborting allocator is never sized from input.
 */
#ifndef DPS_BASE_MEM_H
#define DPS_BASE_MEM_H

#include <stddef.h>
#include <stdint.h>

/** n × size zeroed bytes, or NULL (also on overflow). n × size == 0 gives a unique non-NULL pointer. Free with dps_free. [any] */
void *dps_calloc (size_t n, size_t size);

/** n × size uninitialised bytes, or NULL. Free with dps_free. [any] */
void *dps_malloc (size_t n, size_t size);

/** Resize to n × size bytes; the old block is untouched when NULL comes back. [any] */
void *dps_realloc (void *p, size_t n, size_t size);

/** n × size bytes aligned to `align` (a power of two ≥ 16), or NULL. Free with dps_free. [any] */
void *dps_aligned_alloc (size_t align, size_t n, size_t size);

/** A copy of n × size bytes, or NULL. Free with dps_free. [any] */
void *dps_copy (const void *p, size_t n, size_t size);

/** A NUL-terminated copy of s[0..len), or NULL. Free with dps_free. [any] */
char *dps_strndup (const char *s, size_t len);
char *dps_strdup (const char *s);

/** A printf-formatted NUL-terminated string, or NULL. Free with dps_free. [any] */
char *dps_strf (const char *fmt, ...) __attribute__ ((format (printf, 1, 2)));

void dps_free (void *p);

/** Test hook: the k-th allocation from now on fails (once), k ≥ 1; 0 switches it off. Also set by DIAPASON_TEST_ALLOC_FAIL=k. [any] */
void dps_mem_fail_at (uint64_t k);

/** Allocations made since the process started (or since dps_mem_fail_at). [any] */
uint64_t dps_mem_count (void);

/** Has any allocation of this process failed? [any] */
int dps_mem_failed (void);

/** Blocks now live: 0 at the end of a leak-free test. [any] */
int64_t dps_mem_live (void);

/** A growable byte buffer; all zeros is a valid empty one. data is NUL-terminated past len after any append. */
typedef struct DpsBuf {
    char *data;
    size_t len;
    size_t capacity;
} DpsBuf;

/** Append; 0 on success, -1 when out of memory (the buffer keeps its content). [any] */
int dps_buf_add (DpsBuf *b, const void *data, size_t len);
int dps_buf_str (DpsBuf *b, const char *s);
int dps_buf_printf (DpsBuf *b, const char *fmt, ...) __attribute__ ((format (printf, 2, 3)));
/** Make room for `extra` more bytes. */
int dps_buf_reserve (DpsBuf *b, size_t extra);
void dps_buf_free (DpsBuf *b);

/**
 * Grow a typed array so that index `used` is writable, doubling. Evaluates to 0, or -1 when out of memory.
 * `ptr` and `cap` are lvalues; cap is size_t.
 */
#define DPS_GROW(ptr, used, cap) dps__grow ((void **)&(ptr), sizeof *(ptr), (used), &(cap))
int dps__grow (void **ptr, size_t item, size_t used, size_t *cap);

#endif
