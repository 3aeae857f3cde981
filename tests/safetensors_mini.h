/* SPDX-License-Identifier: Apache-2.0 */
/*
 * safetensors_mini.h: parity files for tests, read apart from the format plugin under test. A missing tensor or file fails the test at
 * once, by name. Bytes of the file: u64 length of the JSON header, header, data.
 */
#ifndef DPS_TESTS_SAFETENSORS_MINI_H
#define DPS_TESTS_SAFETENSORS_MINI_H

#include <stdlib.h>

#include "base/file.h"
#include "base/json.h"
#include "check.h"

typedef struct StFile {
    const char *path;
    DpsBuf bytes;
    json_t *header;
    const unsigned char *data;
    size_t data_len;
} StFile;

/** One tensor, borrowed from its file. */
typedef struct StTensor {
    const char *name;
    const char *dtype; /* "F32" */
    uint32_t rank;
    int64_t shape[4];
    int64_t n;
    const void *data;
    size_t bytes;
} StTensor;

static inline void st_close (StFile *f)
{
    dps_buf_free (&f->bytes);
    json_decref (f->header);
    *f = (StFile){0};
}

static inline void st_open (StFile *f, const char *path)
{
    DpsError err = DPS_ERROR_INIT;
    *f = (StFile){.path = path};
    CHECK_OK (dps_file_read (path, (size_t)1 << 30, &f->bytes, &err));
    uint64_t header = 0;
    CU_ASSERT_FATAL (f->bytes.len >= 8);
    memcpy (&header, f->bytes.data, 8);
    CU_ASSERT_FATAL (header <= f->bytes.len - 8);
    CHECK_OK (dps_json_parse (f->bytes.data + 8, (size_t)header, path, 1, 0, &f->header, &err));
    f->data = (const unsigned char *)f->bytes.data + 8 + header;
    f->data_len = f->bytes.len - 8 - (size_t)header;
}

/* 1 and *out when the file has tensor `name`. */
static inline int st_find (const StFile *f, const char *name, StTensor *out)
{
    json_t *entry = json_object_get (f->header, name), *dim;
    if (!entry || !strcmp (name, "__metadata__"))
        return 0;
    json_t *shape = json_object_get (entry, "shape"), *range = json_object_get (entry, "data_offsets");
    size_t i, first = (size_t)json_integer_value (json_array_get (range, 0)), end = (size_t)json_integer_value (json_array_get (range, 1));
    *out = (StTensor){.name = name, .dtype = json_string_value (json_object_get (entry, "dtype")), .n = 1};
    CU_ASSERT_FATAL (json_array_size (shape) <= 4 && first <= end && end <= f->data_len);
    json_array_foreach (shape, i, dim)
        out->n *= out->shape[out->rank++] = json_integer_value (dim);
    out->data = f->data + first;
    out->bytes = end - first;
    return 1;
}

static inline StTensor st_get (const StFile *f, const char *name)
{
    StTensor t = {0};
    if (!st_find (f, name, &t))
        printf ("\n    %s has no tensor '%s'\n", f->path, name);
    CU_ASSERT_PTR_NOT_NULL_FATAL (t.data);
    return t;
}

/* The elements of an F32 tensor, borrowed. */
static inline const float *st_f32 (const StFile *f, const char *name, int64_t *out_n)
{
    StTensor t = st_get (f, name);
    CU_ASSERT_FATAL (!strcmp (t.dtype, "F32") && t.bytes == (size_t)t.n * 4);
    *out_n = t.n;
    return (const float *)t.data;
}

/* A scalar: shape [1], F32. */
static inline double st_scalar (const StFile *f, const char *name)
{
    int64_t n;
    const float *v = st_f32 (f, name, &n);
    CU_ASSERT_FATAL (n == 1);
    return (double)v[0];
}

/* for every tensor of the file: ST_EACH (&file, t) { … } with StTensor t. */
#define ST_EACH(f, t)                                                                                                                      \
    for (struct {                                                                                                                          \
             void *it;                                                                                                                     \
             StTensor tensor;                                                                                                              \
         } st_at_ = {json_object_iter ((f)->header), {0}};                                                                                 \
         st_at_.it; st_at_.it = json_object_iter_next ((f)->header, st_at_.it))                                                            \
        if (st_find ((f), json_object_iter_key (st_at_.it), &st_at_.tensor))                                                               \
            for (StTensor t = st_at_.tensor; t.data; t.data = NULL)

/* tests/data/parity/RELATIVE in a static buffer (four in turn). */
static inline const char *parity_path (const char *relative)
{
    static char paths[4][512];
    static unsigned turn;
    char *p = paths[turn++ % 4];
    snprintf (p, sizeof paths[0], "%s/parity/%s", DPS_TEST_DATA, relative);
    return p;
}

#endif
