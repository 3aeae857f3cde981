/* SPDX-License-Identifier: Apache-2.0 */
#include "base/mem.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static _Atomic uint64_t n_allocations;
static _Atomic uint64_t fail_at; /* 0: never */
static _Atomic int64_t n_live;
static _Atomic int environment_read, has_failed;

static void *failed (void)
{
    atomic_store_explicit (&has_failed, 1, memory_order_relaxed);
    return NULL;
}

static int must_fail (void)
{
    if (!atomic_load_explicit (&environment_read, memory_order_relaxed)) {
        const char *k = getenv ("DIAPASON_TEST_ALLOC_FAIL");
        atomic_store (&environment_read, 1);
        if (k)
            atomic_store (&fail_at, strtoull (k, NULL, 10));
    }
    uint64_t n = atomic_fetch_add_explicit (&n_allocations, 1, memory_order_relaxed) + 1;
    return n == atomic_load_explicit (&fail_at, memory_order_relaxed);
}

static void *counted (void *p)
{
    if (!p)
        return failed ();
    atomic_fetch_add_explicit (&n_live, 1, memory_order_relaxed);
    return p;
}

void *dps_calloc (size_t n, size_t size)
{
    if (must_fail ())
        return failed ();
    return counted (n && size ? calloc (n, size) : calloc (1, 1));
}

void *dps_malloc (size_t n, size_t size)
{
    size_t bytes;
    if (must_fail () || __builtin_mul_overflow (n, size, &bytes))
        return failed ();
    return counted (malloc (bytes ? bytes : 1));
}

void *dps_realloc (void *p, size_t n, size_t size)
{
    size_t bytes;
    if (must_fail () || __builtin_mul_overflow (n, size, &bytes))
        return failed ();
    void *q = realloc (p, bytes ? bytes : 1);
    return p && q ? q : counted (q);
}

void *dps_aligned_alloc (size_t align, size_t n, size_t size)
{
    size_t bytes;
    void *p = NULL;
    if (must_fail () || __builtin_mul_overflow (n, size, &bytes))
        return failed ();
    if (posix_memalign (&p, align, bytes ? bytes : 1) != 0)
        return failed ();
    return counted (p);
}

char *dps_strndup (const char *s, size_t len)
{
    if (len == SIZE_MAX)
        return NULL;
    char *copy = dps_malloc (len + 1, 1);
    if (!copy)
        return NULL;
    if (len)
        memcpy (copy, s, len);
    copy[len] = '\0';
    return copy;
}

void *dps_copy (const void *p, size_t n, size_t size)
{
    void *copy = dps_malloc (n, size);
    if (copy && n && size)
        memcpy (copy, p, n * size);
    return copy;
}

char *dps_strdup (const char *s) { return dps_strndup (s, strlen (s)); }

char *dps_strf (const char *fmt, ...)
{
    va_list ap, again;
    va_start (ap, fmt);
    va_copy (again, ap);
    int n = vsnprintf (NULL, 0, fmt, ap);
    char *s = n < 0 ? NULL : dps_malloc ((size_t)n + 1, 1);
    if (s)
        vsnprintf (s, (size_t)n + 1, fmt, again);
    va_end (again);
    va_end (ap);
    return s;
}

void dps_free (void *p)
{
    if (p)
        atomic_fetch_sub_explicit (&n_live, 1, memory_order_relaxed);
    free (p);
}

void dps_mem_fail_at (uint64_t k)
{
    atomic_store (&environment_read, 1);
    atomic_store (&n_allocations, 0);
    atomic_store (&fail_at, k);
}

uint64_t dps_mem_count (void) { return atomic_load (&n_allocations); }
int dps_mem_failed (void) { return atomic_load (&has_failed); }
int64_t dps_mem_live (void) { return atomic_load (&n_live); }

int dps_buf_reserve (DpsBuf *b, size_t extra)
{
    size_t need;
    if (__builtin_add_overflow (b->len, extra, &need) || need == SIZE_MAX)
        return -1;
    if (need + 1 <= b->capacity)
        return 0;
    size_t capacity = b->capacity ? b->capacity : 64;
    while (capacity < need + 1) {
        if (capacity > SIZE_MAX / 2) {
            capacity = need + 1;
            break;
        }
        capacity *= 2;
    }
    char *data = dps_realloc (b->data, capacity, 1);
    if (!data)
        return -1;
    b->data = data;
    b->capacity = capacity;
    return 0;
}

int dps_buf_add (DpsBuf *b, const void *data, size_t len)
{
    if (dps_buf_reserve (b, len))
        return -1;
    if (len)
        memcpy (b->data + b->len, data, len);
    b->len += len;
    b->data[b->len] = '\0';
    return 0;
}

int dps_buf_str (DpsBuf *b, const char *s) { return dps_buf_add (b, s, strlen (s)); }

int dps_buf_printf (DpsBuf *b, const char *fmt, ...)
{
    va_list ap, again;
    va_start (ap, fmt);
    va_copy (again, ap);
    int n = vsnprintf (NULL, 0, fmt, ap), bad = n < 0 || dps_buf_reserve (b, (size_t)n);
    if (!bad) {
        vsnprintf (b->data + b->len, (size_t)n + 1, fmt, again);
        b->len += (size_t)n;
    }
    va_end (again);
    va_end (ap);
    return bad ? -1 : 0;
}

void dps_buf_free (DpsBuf *b)
{
    dps_free (b->data);
    *b = (DpsBuf){0};
}

int dps__grow (void **ptr, size_t item, size_t used, size_t *cap)
{
    if (used < *cap)
        return 0;
    size_t wanted = *cap ? *cap * 2 : 8;
    if (wanted <= used)
        wanted = used + 1;
    void *p = dps_realloc (*ptr, wanted, item);
    if (!p)
        return -1;
    *ptr = p;
    *cap = wanted;
    return 0;
}
