/* SPDX-License-Identifier: Apache-2.0 */
/*
 * format_kit.h: what every reader of a file format is put through: each cut of a good file, each flipped bit of its header, each failed
 * allocation, an address-space limit. The plugin's sources are linked into the test, so both share one allocator.
 */
#ifndef DPS_TESTS_FORMAT_KIT_H
#define DPS_TESTS_FORMAT_KIT_H

#include <stdlib.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/file.h"
#include "check.h"
#include "diapason/diapason.h"

extern const DpsPluginEntry dps_plugin_entry;

static inline const DpsFormat *kit_format (void) { return dps_plugin_entry.get_interface (dps_str (DPS_FORMAT_ID)); }

/** A file in memory with these bytes; its path. One at a time: the next call replaces its content. */
static inline const char *kit_file (const void *data, size_t len)
{
    static int fd = -1;
    static char path[64];
    if (fd < 0)
        fd = memfd_create ("kit", 0);
    CU_ASSERT_FATAL (fd >= 0);
    snprintf (path, sizeof path, "/proc/self/fd/%d", fd);
    CU_ASSERT_EQUAL_FATAL (ftruncate (fd, 0), 0);
    CU_ASSERT_EQUAL_FATAL (pwrite (fd, data, len, 0), (ssize_t)len);
    return path;
}

static inline DpsStatus kit_open (const void *data, size_t len, struct DpsFormatFile **out, DpsError *err)
{
    return kit_format ()->open (dps_str (kit_file (data, len)), out, err);
}

/** Use everything a file offers, whatever it says; only crashes and sanitizers complain. */
static inline void kit_use (struct DpsFormatFile *f)
{
    const DpsFormat *format = kit_format ();
    DpsError err = DPS_ERROR_INIT;
    uint64_t n_tensors = 0, n_meta = 0;
    float values[300];
    unsigned char raw[64];
    CHECK_OK (format->info (f, &n_tensors, &n_meta, &err));
    for (uint64_t i = 0; i <= n_meta; i++) {
        DpsMeta m = {.size = sizeof m};
        CU_ASSERT_EQUAL (format->meta (f, i, &m, &err) == DPS_OK, i < n_meta);
        for (uint64_t k = 0; m.type == DPS_META_ARRAY && m.elem_type == DPS_META_STR && k < m.n; k++) {
            DpsStr s = ((const DpsStr *)m.v.array)[k];
            values[0] = s.len ? (float)s.ptr[s.len - 1] : 0;
        }
    }
    for (uint64_t i = 0; i <= n_tensors; i++) {
        DpsTensorInfo t = {.size = sizeof t};
        const void *bytes = NULL;
        CU_ASSERT_EQUAL (format->tensor_info (f, i, &t, &err) == DPS_OK, i < n_tensors);
        if (i == n_tensors)
            break;
        uint64_t part = t.n_elements < 300 ? t.n_elements : 300;
        (void)format->read_f32 (f, i, 0, part, values, &err);
        (void)format->read_f32 (f, i, t.n_elements - part, part, values, &err);
        CU_ASSERT_NOT_EQUAL (format->read_f32 (f, i, t.n_elements, 1, values, &err), DPS_OK);
        CU_ASSERT_NOT_EQUAL (format->read_f32 (f, i, UINT64_MAX, 2, values, &err), DPS_OK);
        CHECK_OK (format->read (f, i, 0, t.bytes < 64 ? t.bytes : 64, raw, &err));
        CU_ASSERT_NOT_EQUAL (format->read (f, i, t.bytes, 1, raw, &err), DPS_OK);
        CU_ASSERT_NOT_EQUAL (format->read (f, i, 1, UINT64_MAX, raw, &err), DPS_OK);
        CHECK_OK (format->map (f, i, &bytes, &err));
        CU_ASSERT (t.bytes == 0 || memcmp (bytes, raw, t.bytes < 64 ? t.bytes : 64) == 0);
        format->release (f, i);
    }
}

/** A file cut anywhere is refused, by name, and nothing leaks. */
static inline void kit_every_cut (const void *data, size_t len)
{
    DpsError err = DPS_ERROR_INIT;
    struct DpsFormatFile *f = NULL;
    int64_t live = dps_mem_live ();
    for (size_t cut = 0; cut < len; cut++) {
        DpsStatus st = kit_open (data, cut, &f, &err);
        if (st == DPS_OK || !strstr (err.msg, "/proc/self/fd/"))
            printf ("\n    cut at %zu of %zu: %s \"%s\"\n", cut, len, dps_status_name (st), err.msg);
        CU_ASSERT_EQUAL (st, DPS_ERR_FORMAT);
        CU_ASSERT_PTR_NOT_NULL (strstr (err.msg, "/proc/self/fd/"));
        CU_ASSERT_PTR_NULL_FATAL (f);
    }
    CU_ASSERT_EQUAL (dps_mem_live (), live);
}

/** Every bit of data[0, header) flipped: read or refused, never worse. */
static inline void kit_every_flip (const void *data, size_t len, size_t header)
{
    DpsError err = DPS_ERROR_INIT;
    unsigned char *copy = malloc (len);
    int64_t live = dps_mem_live ();
    CU_ASSERT_PTR_NOT_NULL_FATAL (copy);
    memcpy (copy, data, len);
    for (size_t bit = 0; bit < 8 * header; bit++) {
        struct DpsFormatFile *f = NULL;
        copy[bit / 8] ^= (unsigned char)(1 << bit % 8);
        err.msg[0] = '\0';
        if (kit_open (copy, len, &f, &err) == DPS_OK) {
            kit_use (f);
            kit_format ()->close (f);
        } else
            CU_ASSERT_NOT_EQUAL (err.msg[0], '\0');
        copy[bit / 8] ^= (unsigned char)(1 << bit % 8);
    }
    CU_ASSERT_EQUAL (dps_mem_live (), live);
    free (copy);
}

/** Each allocation of an open fails once: NOMEM, nothing leaks. */
static inline void kit_every_allocation (const void *data, size_t len)
{
    DpsError err = DPS_ERROR_INIT;
    int64_t live = dps_mem_live ();
    for (uint64_t k = 1;; k++) {
        struct DpsFormatFile *f = NULL;
        const char *path = kit_file (data, len);
        dps_mem_fail_at (k);
        DpsStatus st = kit_format ()->open (dps_str (path), &f, &err);
        uint64_t made = dps_mem_count ();
        dps_mem_fail_at (0);
        if (made < k) {
            CU_ASSERT_EQUAL (st, DPS_OK);
            kit_format ()->close (f);
            CU_ASSERT (k > 2);
            break;
        }
        CU_ASSERT_EQUAL (st, DPS_ERR_NOMEM);
        CU_ASSERT_EQUAL (dps_mem_live (), live);
    }
    CU_ASSERT_EQUAL (dps_mem_live (), live);
}

/**
 * Open in a child that may take 8 × header + 1 MiB more address space than it has, besides the mapping of the file; its status must be
 * `expected`, in particular not NOMEM. Sanitizers map what they like, so nothing is measured under them.
 */
static inline void kit_memory (const void *data, size_t len, size_t header, DpsStatus expected)
{
    const char *path = kit_file (data, len);
    pid_t child = fork ();
    CU_ASSERT_FATAL (child >= 0);
    if (child == 0) {
        DpsError err = DPS_ERROR_INIT;
        struct DpsFormatFile *f = NULL;
#ifndef __SANITIZE_ADDRESS__
        unsigned long pages = 0;
        FILE *statm = fopen ("/proc/self/statm", "r");
        if (!statm || fscanf (statm, "%lu", &pages) != 1)
            _exit (99);
        fclose (statm);
        rlim_t most = pages * (rlim_t)sysconf (_SC_PAGESIZE) + len + 8 * header + (1 << 20);
        setrlimit (RLIMIT_AS, &(struct rlimit){most, most});
#else
        (void)header;
#endif
        DpsStatus st = kit_format ()->open (dps_str (path), &f, &err);
        if (st != expected)
            fprintf (stderr, "\n    %s\n", st ? err.msg : "opened");
        _exit (st);
    }
    int status = -1;
    CU_ASSERT_EQUAL_FATAL (waitpid (child, &status, 0), child);
    CU_ASSERT (WIFEXITED (status));
    CU_ASSERT_EQUAL (WEXITSTATUS (status), expected);
}

static inline double kit_seconds (void)
{
    struct timespec t;
    clock_gettime (CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

#endif
