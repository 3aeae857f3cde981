/* SPDX-License-Identifier: Apache-2.0 */
/*
 * intern.c: names ↔ small numbers, one table per process. Storage is static and names are never removed, so a name handed out stays
 * valid and reading needs no lock. Dtypes come first, with the numbers types.h fixes.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

#include "plugin/host.h"

enum { MAX_NAMES = 4096, MAX_TEXT = 1 << 17, MAX_NAME = 255, N_SLOTS = 2 * MAX_NAMES };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char text[MAX_TEXT];              /* the names, each NUL-terminated */
static size_t text_used;                 /* under lock */
static const char *names[MAX_NAMES + 1]; /* by number; [0] stays empty */
static _Atomic uint32_t n_names;         /* published after names[] */
static uint16_t slots[N_SLOTS];          /* open addressing: number, 0 free; under lock */

/* FNV-1a. The table cannot be flooded: it is full after MAX_NAMES, and half its slots stay free. */
static uint32_t hash (DpsStr s)
{
    uint32_t h = 2166136261u;
    for (size_t i = 0; i < s.len; i++)
        h = (h ^ (unsigned char)s.ptr[i]) * 16777619u;
    return h;
}

static uint32_t find_or_add (DpsStr name, uint32_t number)
{
    size_t at = hash (name) % N_SLOTS;
    for (; slots[at]; at = (at + 1) % N_SLOTS)
        if (dps_str_is (name, names[slots[at]]))
            return slots[at];
    if (number > MAX_NAMES || MAX_TEXT - text_used < name.len + 1)
        return 0;
    char *copy = text + text_used;
    memcpy (copy, name.ptr, name.len);
    text_used += name.len + 1;
    names[number] = copy;
    slots[at] = (uint16_t)number;
    if (number > atomic_load (&n_names))
        atomic_store (&n_names, number);
    return number;
}

static void add_dtypes (void)
{
#define DPS_X(name, number, text, bytes) find_or_add (dps_str (text), number);
    DPS_DTYPES (DPS_X)
#undef DPS_X
}

static pthread_once_t dtypes_once = PTHREAD_ONCE_INIT;

uint32_t dps__intern (DpsStr name)
{
    if (!name.ptr || !name.len || name.len > MAX_NAME || memchr (name.ptr, '\0', name.len))
        return 0;
    pthread_once (&dtypes_once, add_dtypes);
    pthread_mutex_lock (&lock);
    uint32_t number = find_or_add (name, atomic_load (&n_names) + 1);
    pthread_mutex_unlock (&lock);
    return number;
}

uint32_t dps_intern (const char *name) { return dps__intern (dps_str (name)); }

const char *dps_intern_name (uint32_t number)
{
    pthread_once (&dtypes_once, add_dtypes);
    const char *name = number <= atomic_load (&n_names) ? names[number] : NULL;
    return name ? name : "";
}
