/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gguf_mini.h: test-only reader of a GGUF file's metadata as DpsMeta values, so that tokenizer tests need no plugin. It trusts the file:
 * the models it reads are pinned by digest.
 */
#ifndef DPS_TESTS_GGUF_MINI_H
#define DPS_TESTS_GGUF_MINI_H

#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "diapason/format.h"

typedef struct GgufMini {
    DpsMap map;
    size_t at, n;
    DpsMeta *values;
    const DpsMeta **list;
} GgufMini;

static uint64_t gguf_take (GgufMini *g, size_t bytes)
{
    uint64_t v = 0;
    if (g->at + bytes <= g->map.len)
        memcpy (&v, g->map.data + g->at, bytes);
    g->at += bytes;
    return v;
}

static DpsStr gguf_string (GgufMini *g)
{
    DpsStr s = {.len = gguf_take (g, 8)};
    s.ptr = (const char *)g->map.data + g->at;
    g->at += s.len;
    return s;
}

/* One scalar of a GGUF type, widened; returns its DPS_META type. */
static uint32_t gguf_scalar (GgufMini *g, uint32_t type, DpsMeta *m)
{
    static const unsigned char width[] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
    if (type == 8) {
        m->v.s = gguf_string (g);
        return DPS_META_STR;
    }
    uint64_t raw = gguf_take (g, width[type]);
    uint32_t bits = (uint32_t)raw;
    float f;
    switch (type) {
    case 1: m->v.i = (int8_t)raw; return DPS_META_I64;
    case 3: m->v.i = (int16_t)raw; return DPS_META_I64;
    case 5: m->v.i = (int32_t)raw; return DPS_META_I64;
    case 11: m->v.i = (int64_t)raw; return DPS_META_I64;
    case 6:
        memcpy (&f, &bits, 4);
        m->v.f = (double)f;
        return DPS_META_F64;
    case 12: memcpy (&m->v.f, &raw, 8); return DPS_META_F64;
    case 7: m->v.u = raw; return DPS_META_BOOL;
    default: m->v.u = raw; return DPS_META_U64;
    }
}

static void gguf_array (GgufMini *g, DpsMeta *m)
{
    m->type = DPS_META_ARRAY;
    m->raw_elem_type = (uint32_t)gguf_take (g, 4);
    m->n = gguf_take (g, 8);
    char *data = dps_calloc (m->n + 1, m->raw_elem_type == 8 ? sizeof (DpsStr) : 8);
    for (uint64_t i = 0; i < m->n; i++) {
        DpsMeta one = {0};
        m->elem_type = gguf_scalar (g, m->raw_elem_type, &one);
        if (m->elem_type == DPS_META_STR)
            memcpy (data + i * sizeof (DpsStr), &one.v.s, sizeof (DpsStr));
        else if (m->elem_type == DPS_META_BOOL)
            data[i] = (char)one.v.u;
        else
            memcpy (data + i * 8, &one.v, 8);
    }
    m->v.array = data;
}

static inline DpsStatus gguf_mini_open (GgufMini *g, const char *path, DpsError *err)
{
    *g = (GgufMini){0};
    DPS_TRY (dps_map_open (path, &g->map, err));
    g->at = 16;
    g->n = gguf_take (g, 8);
    g->values = dps_calloc (g->n, sizeof *g->values);
    g->list = dps_calloc (g->n, sizeof *g->list);
    for (size_t i = 0; i < g->n; i++) {
        DpsMeta *m = &g->values[i];
        *m = (DpsMeta){.size = sizeof *m, .n = 1};
        m->key = gguf_string (g);
        m->raw_type = (uint32_t)gguf_take (g, 4);
        if (m->raw_type == 9)
            gguf_array (g, m);
        else
            m->type = gguf_scalar (g, m->raw_type, m);
        g->list[i] = m;
    }
    return DPS_OK;
}

static inline void gguf_mini_close (GgufMini *g)
{
    for (size_t i = 0; i < g->n; i++)
        if (g->values[i].type == DPS_META_ARRAY)
            dps_free ((void *)(uintptr_t)g->values[i].v.array);
    dps_free (g->values);
    dps_free ((void *)g->list);
    dps_map_close (&g->map);
}

/* Path of a cached model, or NULL with a message: tests that need it then return 77. */
static inline const char *cached_model (const char *file)
{
    static char path[4096];
    const char *cache = getenv ("DIAPASON_CACHE"), *home = getenv ("HOME");
    if (cache)
        snprintf (path, sizeof path, "%s/models/%s", cache, file);
    else
        snprintf (path, sizeof path, "%s/.cache/diapason/models/%s", home ? home : "/root", file);
    if (dps_is_file (path))
        return path;
    printf ("skipped: %s is not there; tools/fetch brings it\n", path);
    return NULL;
}

#endif
