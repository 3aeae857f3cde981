/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz.h: what the fuzz targets share: start-up, promises that must hold, inputs in several parts, and files for readers that take a path. */
#ifndef DPS_TESTS_FUZZ_H
#define DPS_TESTS_FUZZ_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/json.h"

/* Before the first input; a target with more to set up has LLVMFuzzerInitialize besides. */
__attribute__ ((constructor)) static void fuzz_start (void) { dps_json_init (); }

static inline void require (int ok)
{
    if (!ok)
        __builtin_trap ();
}

/** The part of an input up to the next NUL or the end, *at moved behind it. */
static inline DpsStr fuzz_part (const uint8_t **at, const uint8_t *end)
{
    const size_t left = (size_t)(end - *at), n = left ? strnlen ((const char *)*at, left) : 0;
    const DpsStr part = {(const char *)*at, n};
    *at += n + (n < left);
    return part;
}

/** The same in a block of its own size, so that the sanitizer sees one byte too far; dps_buf_free. */
static inline DpsBuf fuzz_copy (DpsStr part)
{
    DpsBuf copy = {0};
    if (part.len) {
        copy = (DpsBuf){.data = dps_malloc (part.len, 1), .len = part.len, .capacity = part.len};
        require (copy.data != NULL);
        memcpy (copy.data, part.ptr, part.len);
    }
    return copy;
}

/** The same as JSON, or NULL. */
static inline json_t *fuzz_json (DpsStr part)
{
    json_t *value = NULL;
    return dps_json_parse (part.len ? part.ptr : "", part.len, "fuzz", 1, 0, &value, NULL) == DPS_OK ? value : NULL;
}

/** A folder of this process's own, in memory: writers sync. */
static inline const char *fuzz_folder (void)
{
    static char folder[] = "/dev/shm/diapason-fuzz-XXXXXX";
    static int made;
    if (!made)
        require (mkdtemp (folder) != NULL);
    made = 1;
    return folder;
}

/** File `name` of that folder, holding these bytes: its path, good until the next call. */
static inline const char *fuzz_file (const char *name, const void *data, size_t size)
{
    static char path[160];
    snprintf (path, sizeof path, "%s/%s", fuzz_folder (), name);
    FILE *f = fopen (path, "w");
    require (f && fwrite (data, 1, size, f) == size && fclose (f) == 0);
    return path;
}

#endif
