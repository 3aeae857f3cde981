/* SPDX-License-Identifier: Apache-2.0 */
/* gguf_make.h: GGUF files for tests, good ones and lying ones, piece by piece. */
#ifndef DPS_TESTS_GGUF_MAKE_H
#define DPS_TESTS_GGUF_MAKE_H

#include "base/mem.h"
#include "check.h"

enum { GM_U8, GM_I8, GM_U16, GM_I16, GM_U32, GM_I32, GM_F32, GM_BOOL, GM_STR, GM_ARRAY, GM_U64, GM_I64, GM_F64 };
enum { GM_TENSOR_F32 = 0 };

typedef struct GgufMake {
    DpsBuf meta, infos, data;
    uint64_t n_meta, n_tensors;
    uint32_t version;   /* 0: 3 */
    uint64_t alignment; /* 0: 32 */
} GgufMake;

static inline void gm_bytes (DpsBuf *b, const void *p, size_t n) { CU_ASSERT_EQUAL_FATAL (dps_buf_add (b, p, n), 0); }
static inline void gm_u32 (DpsBuf *b, uint32_t v) { gm_bytes (b, &v, 4); }
static inline void gm_u64 (DpsBuf *b, uint64_t v) { gm_bytes (b, &v, 8); }
static inline void gm_str (DpsBuf *b, const char *s)
{
    gm_u64 (b, strlen (s));
    gm_bytes (b, s, strlen (s));
}

/** A key and its type; the value follows in m->meta. */
static inline void gm_key (GgufMake *m, const char *key, uint32_t type)
{
    gm_str (&m->meta, key);
    gm_u32 (&m->meta, type);
    m->n_meta++;
}
static inline void gm_meta (GgufMake *m, const char *key, uint32_t type, const void *value, size_t bytes)
{
    gm_key (m, key, type);
    gm_bytes (&m->meta, value, bytes);
}
static inline void gm_meta_u32 (GgufMake *m, const char *key, uint32_t v) { gm_meta (m, key, GM_U32, &v, 4); }
static inline void gm_meta_f32 (GgufMake *m, const char *key, float v) { gm_meta (m, key, GM_F32, &v, 4); }
static inline void gm_meta_str (GgufMake *m, const char *key, const char *v)
{
    gm_key (m, key, GM_STR);
    gm_str (&m->meta, v);
}
static inline void gm_array (GgufMake *m, const char *key, uint32_t type, uint64_t n, const void *values, size_t bytes)
{
    gm_key (m, key, GM_ARRAY);
    gm_u32 (&m->meta, type);
    gm_u64 (&m->meta, n);
    gm_bytes (&m->meta, values, bytes);
}

/** A tensor's entry, all of it as given. */
static inline void gm_info (GgufMake *m, const char *name, uint32_t rank, const uint64_t *ne, uint32_t type, uint64_t offset)
{
    gm_str (&m->infos, name);
    gm_u32 (&m->infos, rank);
    for (uint32_t i = 0; i < rank; i++)
        gm_u64 (&m->infos, ne[i]);
    gm_u32 (&m->infos, type);
    gm_u64 (&m->infos, offset);
    m->n_tensors++;
}

static inline void gm_pad (DpsBuf *b, uint64_t alignment)
{
    while (b->len % alignment)
        gm_bytes (b, "", 1);
}

/** A tensor with its data; ne is innermost first. */
static inline void gm_tensor (GgufMake *m, const char *name, uint32_t rank, const uint64_t *ne, uint32_t type, const void *data,
                              size_t bytes)
{
    gm_pad (&m->data, m->alignment ? m->alignment : 32);
    gm_info (m, name, rank, ne, type, m->data.len);
    gm_bytes (&m->data, data, bytes);
}

/** The whole file; frees the pieces. Returns where the data starts. */
static inline size_t gm_finish (GgufMake *m, DpsBuf *out)
{
    *out = (DpsBuf){0};
    gm_bytes (out, "GGUF", 4);
    gm_u32 (out, m->version ? m->version : 3);
    gm_u64 (out, m->n_tensors);
    gm_u64 (out, m->n_meta);
    gm_bytes (out, m->meta.data, m->meta.len);
    gm_bytes (out, m->infos.data, m->infos.len);
    size_t header = out->len;
    if (m->data.len) {
        gm_pad (out, m->alignment ? m->alignment : 32);
        header = out->len;
        gm_bytes (out, m->data.data, m->data.len);
    }
    dps_buf_free (&m->meta);
    dps_buf_free (&m->infos);
    dps_buf_free (&m->data);
    *m = (GgufMake){0};
    return header;
}

#endif
