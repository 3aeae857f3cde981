/* SPDX-License-Identifier: Apache-2.0 */
/*
 * parse.c: the header of a GGUF file, every length checked against the bytes that are there before it is used. It is walked twice: once
 * dry, which proves that everything announced is there, then again to keep it; so what is allocated is bounded by bytes that exist
 * (8 × header + 1 MiB; the worst is an array of u8, widened to u64).
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
#include "file.h"

typedef struct Cursor {
    struct DpsFormatFile *f;
    uint64_t at;
    int dry;    /* check, keep nothing */
    DpsStr key; /* of the value being read, for messages; empty elsewhere */
    DpsError *err;
} Cursor;

static const uint8_t scalar_bytes[GGUF_TYPES] = {
    [GGUF_U8] = 1,  [GGUF_I8] = 1,   [GGUF_U16] = 2, [GGUF_I16] = 2, [GGUF_U32] = 4, [GGUF_I32] = 4,
    [GGUF_F32] = 4, [GGUF_BOOL] = 1, [GGUF_U64] = 8, [GGUF_I64] = 8, [GGUF_F64] = 8};

static DpsStatus bad (Cursor *c, const char *what)
{
    if (c->key.len == 0)
        return dps_fail (c->err, DPS_ERR_FORMAT, "%s: byte %llu: %s", c->f->path, (unsigned long long)c->at, what);
    return dps_fail (c->err, DPS_ERR_FORMAT, "%s: byte %llu: key '%.*s': %s", c->f->path, (unsigned long long)c->at,
                     (int)(c->key.len < 200 ? c->key.len : 200), c->key.ptr, what);
}

static DpsStatus no_memory (Cursor *c) { return dps_fail (c->err, DPS_ERR_NOMEM, "%s: out of memory for the header", c->f->path); }

static uint64_t left (const Cursor *c) { return c->f->map.len - c->at; }

static DpsStatus take (Cursor *c, void *out, uint64_t n)
{
    if (left (c) < n)
        return bad (c, "the file is cut here");
    memcpy (out, c->f->map.data + c->at, n);
    c->at += n;
    return DPS_OK;
}

static DpsStatus take_string (Cursor *c, DpsStr *out)
{
    uint64_t n = 0;
    DPS_TRY (take (c, &n, 8));
    if (n > left (c)) {
        c->at -= 8;
        return bad (c, "a string longer than the rest of the file");
    }
    *out = (DpsStr){(const char *)c->f->map.data + c->at, n};
    c->at += n;
    return DPS_OK;
}

static DpsStatus take_name (Cursor *c, DpsStr *out)
{
    const uint64_t start = c->at;
    DPS_TRY (take_string (c, out));
    if (out->len > 0 && out->len <= MAX_NAME && dps_utf8_is_plain (out->ptr, out->len))
        return DPS_OK;
    c->at = start;
    return bad (c, out->len == 0 ? "an empty name" : "expected a name of at most 1024 bytes of UTF-8 without control characters");
}

static uint32_t wide_type (uint32_t type)
{
    switch (type) {
    case GGUF_I8:
    case GGUF_I16:
    case GGUF_I32:
    case GGUF_I64: return DPS_META_I64;
    case GGUF_F32:
    case GGUF_F64: return DPS_META_F64;
    case GGUF_BOOL: return DPS_META_BOOL;
    case GGUF_STRING: return DPS_META_STR;
    default: return DPS_META_U64;
    }
}

/* One scalar at p, widened to the 8 bytes of its wide type. */
static uint64_t widen (uint32_t type, const unsigned char *p)
{
    union {
        uint8_t u8;
        int8_t i8;
        uint16_t u16;
        int16_t i16;
        uint32_t u32;
        int32_t i32;
        float f32;
        uint64_t u64;
    } v = {0};
    union {
        uint64_t u;
        int64_t i;
        double f;
    } wide = {0};
    memcpy (&v, p, scalar_bytes[type]);
    switch (type) {
    case GGUF_U8:
    case GGUF_BOOL: wide.u = v.u8; break;
    case GGUF_I8: wide.i = v.i8; break;
    case GGUF_U16: wide.u = v.u16; break;
    case GGUF_I16: wide.i = v.i16; break;
    case GGUF_U32: wide.u = v.u32; break;
    case GGUF_I32: wide.i = v.i32; break;
    case GGUF_F32: wide.f = (double)v.f32; break;
    default: wide.u = v.u64; break;
    }
    return wide.u;
}

static DpsStatus take_strings (Cursor *c, uint64_t n, const void **out)
{
    if (n > left (c) / 8)
        return bad (c, "an array with more strings than the file has room for");
    DpsStr ignored, *s = c->dry ? &ignored : dps_malloc (n, sizeof *s);
    if (!s)
        return no_memory (c);
    for (uint64_t i = 0; i < n; i++) {
        DpsStatus st = take_string (c, c->dry ? s : &s[i]);
        if (st != DPS_OK) { /* only of a file that changes under our feet: the dry walk has read it */
            if (!c->dry)
                dps_free (s);
            return st;
        }
    }
    *out = c->dry ? NULL : s;
    return DPS_OK;
}

static DpsStatus take_array (Cursor *c, DpsMeta *m)
{
    DPS_TRY (take (c, &m->raw_elem_type, 4));
    DPS_TRY (take (c, &m->n, 8));
    if (m->raw_elem_type >= GGUF_TYPES || m->raw_elem_type == GGUF_ARRAY)
        return bad (c, m->raw_elem_type == GGUF_ARRAY ? "an array of arrays, which has no reader" : "an array of an unknown type");
    m->elem_type = wide_type (m->raw_elem_type);
    if (m->raw_elem_type == GGUF_STRING)
        return take_strings (c, m->n, &m->v.array);
    uint64_t size = scalar_bytes[m->raw_elem_type];
    if (m->n > left (c) / size)
        return bad (c, "an array longer than the rest of the file");
    const unsigned char *from = c->f->map.data + c->at;
    c->at += m->n * size;
    m->v.array = from;
    if (m->raw_elem_type == GGUF_BOOL || c->dry)
        return DPS_OK;
    uint64_t *wide = dps_malloc (m->n, sizeof *wide);
    if (!wide) {
        m->v.array = NULL;
        return no_memory (c);
    }
    for (uint64_t i = 0; i < m->n; i++)
        wide[i] = widen (m->raw_elem_type, from + i * size);
    m->v.array = wide;
    return DPS_OK;
}

static DpsStatus take_value (Cursor *c, DpsMeta *m)
{
    DPS_TRY (take (c, &m->raw_type, 4));
    if (m->raw_type >= GGUF_TYPES)
        return bad (c, "a value of an unknown type");
    if (m->raw_type == GGUF_ARRAY) {
        m->type = DPS_META_ARRAY;
        return take_array (c, m);
    }
    m->type = wide_type (m->raw_type);
    if (m->raw_type == GGUF_STRING)
        return take_string (c, &m->v.s);
    unsigned char raw[8];
    DPS_TRY (take (c, raw, scalar_bytes[m->raw_type]));
    m->v.u = widen (m->raw_type, raw);
    return DPS_OK;
}

static DpsStatus take_meta (Cursor *c, DpsMeta *m)
{
    *m = (DpsMeta){.size = sizeof *m, .n = 1};
    DPS_TRY (take_name (c, &m->key));
    c->key = m->key;
    DpsStatus st = take_value (c, m);
    c->key = (DpsStr){0};
    return st;
}

__attribute__ ((format (printf, 4, 5))) static DpsStatus tensor_fail (Cursor *c, const Tensor *t, DpsStatus code, const char *fmt, ...)
{
    char what[300];
    va_list ap;
    va_start (ap, fmt);
    vsnprintf (what, sizeof what, fmt, ap);
    va_end (ap);
    return dps_fail (c->err, code, "%s: tensor '%.*s' %s", c->f->path, (int)(t->name.len < 200 ? t->name.len : 200), t->name.ptr, what);
}

/* The name of a type that exists but has no reader here, or NULL. */
static const char *type_known (uint32_t id)
{
    static const char *const names[] = {
        [9] = "Q8_1",   [15] = "Q8_K",   [16] = "IQ2_XXS", [17] = "IQ2_XS", [18] = "IQ3_XXS", [19] = "IQ1_S", [21] = "IQ3_S",
        [22] = "IQ2_S", [23] = "IQ4_XS", [29] = "IQ1_M",   [34] = "TQ1_0",  [35] = "TQ2_0",   [39] = "MXFP4"};
    return id < sizeof names / sizeof *names ? names[id] : NULL;
}

static DpsStatus take_type (Cursor *c, Tensor *t)
{
    uint32_t id = 0;
    DPS_TRY (take (c, &id, 4));
    t->type = dps_block_type (id);
    if (t->type)
        return DPS_OK;
    const char *known = type_known (id);
    if (known)
        return tensor_fail (c, t, DPS_ERR_UNSUPPORTED, "is %s, which has no reader. Hint: re-quantise to Q4_K.", known);
    return tensor_fail (c, t, DPS_ERR_FORMAT, "has type number %u, which does not exist", id);
}

static DpsStatus take_tensor (Cursor *c, Tensor *t)
{
    uint64_t ne[MAX_DIMS] = {0};
    *t = (Tensor){.n = 1};
    DPS_TRY (take_name (c, &t->name));
    DPS_TRY (take (c, &t->rank, 4));
    if (t->rank > MAX_DIMS)
        return tensor_fail (c, t, DPS_ERR_FORMAT, "has %u dimensions, at most %d are allowed", t->rank, MAX_DIMS);
    DPS_TRY (take (c, ne, 8 * (uint64_t)t->rank));
    DPS_TRY (take_type (c, t));
    DPS_TRY (take (c, &t->offset, 8));
    for (uint32_t i = 0; i < t->rank; i++) {
        if (ne[i] > INT64_MAX || __builtin_mul_overflow (t->n, ne[i], &t->n))
            return tensor_fail (c, t, DPS_ERR_FORMAT, "has dimensions whose product does not fit 64 bits");
        t->shape[t->rank - 1 - i] = (int64_t)ne[i];
    }
    if ((t->rank ? ne[0] : 1) % t->type->elements)
        return tensor_fail (c, t, DPS_ERR_FORMAT, "has rows of %llu elements, no whole number of %s's blocks of %u",
                            (unsigned long long)ne[0], t->type->name, t->type->elements);
    if (__builtin_mul_overflow (t->n / t->type->elements, (uint64_t)t->type->bytes, &t->bytes))
        return tensor_fail (c, t, DPS_ERR_FORMAT, "has dimensions whose size in bytes does not fit 64 bits");
    return DPS_OK;
}

static int str_order (DpsStr a, DpsStr b)
{
    int order = memcmp (a.ptr, b.ptr, a.len < b.len ? a.len : b.len);
    return order ? order : (a.len > b.len) - (a.len < b.len);
}

static int by_text (const void *a, const void *b) { return str_order (*(const DpsStr *)a, *(const DpsStr *)b); }

static DpsStatus check_unique (Cursor *c, DpsStr *names, size_t n, const char *what)
{
    qsort (names, n, sizeof *names, by_text);
    for (size_t i = 1; i < n; i++)
        if (str_order (names[i - 1], names[i]) == 0)
            return dps_fail (c->err, DPS_ERR_FORMAT, "%s: %s '%.*s' stands twice", c->f->path, what,
                             (int)(names[i].len < 200 ? names[i].len : 200), names[i].ptr);
    return DPS_OK;
}

static DpsStatus check_names (Cursor *c)
{
    struct DpsFormatFile *f = c->f;
    size_t most = f->n_meta > f->n_tensors ? f->n_meta : f->n_tensors;
    DpsStr *names = dps_malloc (most, sizeof *names);
    if (!names)
        return no_memory (c);
    for (size_t i = 0; i < f->n_meta; i++)
        names[i] = f->meta[i].key;
    DpsStatus st = check_unique (c, names, f->n_meta, "key");
    for (size_t i = 0; i < f->n_tensors; i++)
        names[i] = f->tensors[i].name;
    if (st == DPS_OK)
        st = check_unique (c, names, f->n_tensors, "tensor");
    dps_free (names);
    return st;
}

static DpsStatus find_alignment (Cursor *c, uint64_t *out)
{
    *out = 32;
    for (size_t i = 0; i < c->f->n_meta; i++) {
        const DpsMeta *m = &c->f->meta[i];
        if (!dps_str_is (m->key, "general.alignment"))
            continue;
        *out = m->v.u;
        if (m->raw_type != GGUF_U32 || *out == 0 || *out > 1 << 20 || (*out & (*out - 1)))
            return dps_fail (c->err, DPS_ERR_FORMAT, "%s: general.alignment must be a u32 and a power of two up to 2^20", c->f->path);
    }
    return DPS_OK;
}

static int by_offset (const void *a, const void *b)
{
    const Tensor *x = *(const Tensor *const *)a, *y = *(const Tensor *const *)b;
    if (x->offset != y->offset)
        return x->offset < y->offset ? -1 : 1;
    return (x->bytes > y->bytes) - (x->bytes < y->bytes);
}

/* Turn offset into one from the start of the file; the tensor lies inside it. */
static DpsStatus place (Cursor *c, Tensor *t, uint64_t alignment)
{
    const uint64_t len = c->f->map.len, data = c->f->data, room = data < len ? len - data : 0;
    if (t->offset % alignment)
        return tensor_fail (c, t, DPS_ERR_FORMAT, "has offset %llu, no multiple of the alignment %llu", (unsigned long long)t->offset,
                            (unsigned long long)alignment);
    if (t->offset > room || t->bytes > room - t->offset)
        return tensor_fail (c, t, DPS_ERR_FORMAT,
                            "takes %llu bytes from offset %llu, but only %llu bytes of data are there: the file is cut or damaged",
                            (unsigned long long)t->bytes, (unsigned long long)t->offset, (unsigned long long)room);
    t->offset = t->bytes ? t->offset + data : 0;
    return DPS_OK;
}

static DpsStatus check_places (Cursor *c, uint64_t alignment)
{
    struct DpsFormatFile *f = c->f;
    const Tensor **order = dps_malloc (f->n_tensors, sizeof *order);
    if (!order)
        return no_memory (c);
    DpsStatus st = DPS_OK;
    for (size_t i = 0; i < f->n_tensors && st == DPS_OK; i++) {
        order[i] = &f->tensors[i];
        st = place (c, &f->tensors[i], alignment);
    }
    if (st == DPS_OK)
        qsort (order, f->n_tensors, sizeof *order, by_offset);
    for (size_t i = 1; i < f->n_tensors && st == DPS_OK; i++)
        if (order[i - 1]->offset + order[i - 1]->bytes > order[i]->offset)
            st = tensor_fail (c, order[i], DPS_ERR_FORMAT, "overlaps tensor '%.*s'",
                              (int)(order[i - 1]->name.len < 100 ? order[i - 1]->name.len : 100), order[i - 1]->name.ptr);
    dps_free (order);
    return st;
}

/* Everything announced is there, whatever it holds. */
static DpsStatus walk_dry (Cursor c, uint64_t n_meta, uint64_t n_tensors)
{
    DpsMeta m;
    Tensor t;
    c.dry = 1;
    for (uint64_t i = 0; i < n_meta; i++)
        DPS_TRY (take_meta (&c, &m));
    for (uint64_t i = 0; i < n_tensors; i++)
        DPS_TRY (take_tensor (&c, &t));
    return DPS_OK;
}

static DpsStatus take_head (Cursor *c, uint64_t *n_meta, uint64_t *n_tensors)
{
    char magic[4] = "";
    uint32_t version = 0;
    DPS_TRY (take (c, magic, 4));
    if (memcmp (magic, "GGUF", 4))
        return dps_fail (c->err, DPS_ERR_FORMAT, "%s: does not start with \"GGUF\": no GGUF file", c->f->path);
    DPS_TRY (take (c, &version, 4));
    if (version != 2 && version != 3)
        return dps_fail (c->err, DPS_ERR_VERSION, "%s: GGUF version %u%s; versions 2 and 3, little-endian, have a reader", c->f->path,
                         version, version && (version & 0xffff) == 0 ? " (a big-endian file?)" : "");
    DPS_TRY (take (c, n_tensors, 8));
    return take (c, n_meta, 8);
}

DpsStatus gguf_parse (struct DpsFormatFile *f, DpsError *err)
{
    Cursor c = {.f = f, .err = err};
    uint64_t n_meta = 0, n_tensors = 0, alignment;
    DPS_TRY (take_head (&c, &n_meta, &n_tensors));
    DPS_TRY (walk_dry (c, n_meta, n_tensors));
    f->meta = dps_calloc (n_meta, sizeof *f->meta);
    f->tensors = dps_calloc (n_tensors, sizeof *f->tensors);
    if (!f->meta || !f->tensors)
        return no_memory (&c);
    while (f->n_meta < n_meta)
        DPS_TRY (take_meta (&c, &f->meta[f->n_meta++])); /* counted first: gguf_free then frees it whatever state it is in */
    for (; f->n_tensors < n_tensors; f->n_tensors++)
        DPS_TRY (take_tensor (&c, &f->tensors[f->n_tensors]));
    DPS_TRY (find_alignment (&c, &alignment));
    f->data = (c.at + alignment - 1) / alignment * alignment;
    DPS_TRY (check_names (&c));
    return check_places (&c, alignment);
}

void gguf_free (struct DpsFormatFile *f)
{
    for (size_t i = 0; i < f->n_meta; i++)
        if (f->meta[i].type == DPS_META_ARRAY && f->meta[i].raw_elem_type != GGUF_BOOL)
            dps_free ((void *)f->meta[i].v.array);
    dps_free (f->meta);
    dps_free (f->tensors);
}
