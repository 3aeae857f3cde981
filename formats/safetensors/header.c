/* SPDX-License-Identifier: Apache-2.0 */
/*
 * header.c: one pass over the header's bytes into flat arrays, never a tree: a hostile header costs a small multiple of its own size.
 * The grammar is the part of JSON the format uses; anything else is refused with its byte.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
#include "file.h"

typedef struct Scan {
    struct DpsFormatFile *f;
    const char *text;
    size_t at, len;
    int seen_meta;
    DpsError *err;
} Scan;

static DpsStatus bad (Scan *s, const char *what)
{
    return dps_fail (s->err, DPS_ERR_FORMAT, "%s: header byte %zu: %s", s->f->path, s->at + 8, what);
}

static DpsStatus no_memory (Scan *s) { return dps_fail (s->err, DPS_ERR_NOMEM, "%s: out of memory for the header", s->f->path); }

static void skip_space (Scan *s)
{
    while (s->at < s->len && (s->text[s->at] == ' ' || s->text[s->at] == '\n' || s->text[s->at] == '\r' || s->text[s->at] == '\t'))
        s->at++;
}

static int next_is (Scan *s, char c)
{
    skip_space (s);
    if (s->at >= s->len || s->text[s->at] != c)
        return 0;
    s->at++;
    return 1;
}

/* Append a code point to names in UTF-8. */
static int add_code_point (DpsBuf *b, uint32_t c)
{
    char u[4];
    size_t n = c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    static const unsigned char lead[] = {0, 0, 0xc0, 0xe0, 0xf0};
    for (size_t i = n; i-- > 1; c >>= 6)
        u[i] = (char)(0x80 | (c & 0x3f));
    u[0] = (char)(lead[n] | c);
    return dps_buf_add (b, u, n);
}

static int hex4 (Scan *s, uint32_t *out)
{
    *out = 0;
    for (int i = 0; i < 4; i++, s->at++) {
        char c = s->at < s->len ? s->text[s->at] : '\0';
        int d = c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
        if (d < 0)
            return -1;
        *out = *out << 4 | (uint32_t)d;
    }
    return 0;
}

static DpsStatus escape (Scan *s, DpsBuf *b)
{
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    char c = s->at < s->len ? s->text[s->at++] : '\0';
    const char *k = c ? strchr (from, c) : NULL;
    if (k)
        return dps_buf_add (b, &to[k - from], 1) ? no_memory (s) : DPS_OK;
    uint32_t u, low;
    if (c != 'u' || hex4 (s, &u) || u == 0)
        return bad (s, "bad escape in a string");
    if (u >= 0xd800 && u < 0xdc00) {
        if (s->at + 2 > s->len || s->text[s->at] != '\\' || s->text[s->at + 1] != 'u')
            return bad (s, "lone surrogate in a string");
        s->at += 2;
        if (hex4 (s, &low) || low < 0xdc00 || low > 0xdfff)
            return bad (s, "lone surrogate in a string");
        u = 0x10000 + ((u - 0xd800) << 10) + (low - 0xdc00);
    } else if (u >= 0xdc00 && u < 0xe000)
        return bad (s, "lone surrogate in a string");
    return add_code_point (b, u) ? no_memory (s) : DPS_OK;
}

/* A string, unescaped into names: its place and length there. */
static DpsStatus string (Scan *s, uint32_t *out_at, uint32_t *out_len)
{
    DpsBuf *b = &s->f->names;
    if (!next_is (s, '"'))
        return bad (s, "expected a string");
    size_t start = b->len;
    for (;;) {
        if (s->at >= s->len)
            return bad (s, "the string is cut");
        const unsigned char *p = (const unsigned char *)s->text + s->at;
        if (*p == '"')
            break;
        if (*p == '\\') {
            s->at++;
            DPS_TRY (escape (s, b));
            continue;
        }
        size_t n = dps_utf8_sequence ((const char *)p, s->len - s->at);
        if (n == 0 || *p < 0x20)
            return bad (s, "invalid UTF-8 or control character in a string");
        if (dps_buf_add (b, p, n))
            return no_memory (s);
        s->at += n;
    }
    s->at++;
    *out_at = (uint32_t)start;
    *out_len = (uint32_t)(b->len - start);
    return DPS_OK;
}

static DpsStatus unsigned_number (Scan *s, uint64_t *out)
{
    skip_space (s);
    size_t start = s->at;
    *out = 0;
    while (s->at < s->len && s->text[s->at] >= '0' && s->text[s->at] <= '9') {
        uint64_t d = (uint64_t)(s->text[s->at++] - '0');
        if (*out > (INT64_MAX - d) / 10)
            return bad (s, "the number does not fit 63 bits");
        *out = *out * 10 + d;
    }
    int leading_zero = s->at > start + 1 && s->text[start] == '0';
    return s->at == start || leading_zero ? bad (s, "expected a whole number") : DPS_OK;
}

static DpsStatus shape (Scan *s, Entry *e)
{
    struct DpsFormatFile *f = s->f;
    e->shape = (uint32_t)f->n_shapes;
    if (!next_is (s, '['))
        return bad (s, "expected the shape, an array");
    if (next_is (s, ']'))
        return DPS_OK;
    do {
        uint64_t d;
        DPS_TRY (unsigned_number (s, &d));
        if (e->rank == MAX_RANK)
            return bad (s, "more than 8 dimensions");
        if (DPS_GROW (f->shapes, f->n_shapes, f->shape_capacity))
            return no_memory (s);
        f->shapes[f->n_shapes++] = (int64_t)d;
        e->rank++;
    } while (next_is (s, ','));
    return next_is (s, ']') ? DPS_OK : bad (s, "expected ',' or ']' in the shape");
}

static DpsStatus offsets (Scan *s, Entry *e)
{
    if (!next_is (s, '['))
        return bad (s, "expected data_offsets, an array of two");
    DPS_TRY (unsigned_number (s, &e->begin));
    if (!next_is (s, ','))
        return bad (s, "expected data_offsets, an array of two");
    DPS_TRY (unsigned_number (s, &e->end));
    return next_is (s, ']') ? DPS_OK : bad (s, "expected data_offsets, an array of two");
}

static DpsStatus dtype (Scan *s, Entry *e)
{
    uint32_t at, len;
    DPS_TRY (string (s, &at, &len));
    int d = dtype_find (s->f->names.data + at, len);
    if (d < 0) {
        char list[128] = "";
        const Dtype *known;
        for (size_t i = 0, n = 0; (known = dtype_at (i)); i++, n = strlen (list))
            snprintf (list + n, sizeof list - n, "%s%s", i ? ", " : "", known->name);
        return dps_fail (s->err, DPS_ERR_UNSUPPORTED, "%s: tensor '%.*s' has dtype '%.*s', which has no reader; there are: %s", s->f->path,
                         (int)(e->name_len < 200 ? e->name_len : 200), s->f->names.data + e->name, (int)(len < 40 ? len : 40),
                         s->f->names.data + at, list);
    }
    s->f->names.len = at;
    e->dtype = (uint8_t)d;
    return DPS_OK;
}

static DpsStatus tensor (Scan *s, uint32_t name, uint32_t name_len)
{
    struct DpsFormatFile *f = s->f;
    Entry e = {.name = name, .name_len = name_len};
    unsigned seen = 0;
    if (name_len == 0 || name_len > MAX_NAME || !dps_utf8_is_plain (f->names.data + name, name_len))
        return bad (s, "expected a tensor name of 1 to 1024 bytes without control characters");
    if (!next_is (s, '{'))
        return bad (s, "expected an object describing the tensor");
    do {
        uint32_t key, len;
        DPS_TRY (string (s, &key, &len));
        const char *k = f->names.data + key;
        unsigned bit = len == 5 && !memcmp (k, "dtype", 5)            ? 1
                       : len == 5 && !memcmp (k, "shape", 5)          ? 2
                       : len == 12 && !memcmp (k, "data_offsets", 12) ? 4
                                                                      : 0;
        f->names.len = key;
        if (!bit || (seen & bit))
            return bad (s, "expected dtype, shape and data_offsets, each once");
        seen |= bit;
        if (!next_is (s, ':'))
            return bad (s, "expected ':'");
        DPS_TRY (bit == 1 ? dtype (s, &e) : bit == 2 ? shape (s, &e) : offsets (s, &e));
    } while (next_is (s, ','));
    if (seen != 7 || !next_is (s, '}'))
        return bad (s, "expected dtype, shape and data_offsets, each once");
    if (DPS_GROW (f->entries, f->n_entries, f->entry_capacity))
        return no_memory (s);
    f->entries[f->n_entries++] = e;
    return DPS_OK;
}

static DpsStatus metadata (Scan *s)
{
    struct DpsFormatFile *f = s->f;
    if (s->seen_meta++ || !next_is (s, '{'))
        return bad (s, "expected one __metadata__ object");
    if (next_is (s, '}'))
        return DPS_OK;
    do {
        Pair p;
        DPS_TRY (string (s, &p.key, &p.key_len));
        if (!next_is (s, ':'))
            return bad (s, "expected ':'");
        skip_space (s);
        if (s->at < s->len && s->text[s->at] != '"')
            return bad (s, "a value of __metadata__ is not a string");
        DPS_TRY (string (s, &p.value, &p.value_len));
        if (f->n_meta == MAX_META)
            return bad (s, "more than 65536 values in __metadata__");
        if (DPS_GROW (f->meta, f->n_meta, f->meta_capacity))
            return no_memory (s);
        f->meta[f->n_meta++] = p;
    } while (next_is (s, ','));
    return next_is (s, '}') ? DPS_OK : bad (s, "expected ',' or '}'");
}

static DpsStatus scan (Scan *s)
{
    if (s->at < s->len && s->text[s->at] != '{')
        return bad (s, "the header does not start with '{'");
    if (!next_is (s, '{'))
        return bad (s, "the header is empty");
    if (!next_is (s, '}')) {
        do {
            uint32_t name, len;
            DPS_TRY (string (s, &name, &len));
            if (!next_is (s, ':'))
                return bad (s, "expected ':'");
            int is_meta = len == 12 && !memcmp (s->f->names.data + name, "__metadata__", 12);
            DPS_TRY (is_meta ? metadata (s) : tensor (s, name, len));
        } while (next_is (s, ','));
        if (!next_is (s, '}'))
            return bad (s, "expected ',' or '}'");
    }
    skip_space (s);
    return s->at == s->len ? DPS_OK : bad (s, "bytes after the end of the header's object");
}

static int by_place (const void *a, const void *b)
{
    const Entry *x = a, *y = b;
    if (x->begin != y->begin)
        return x->begin < y->begin ? -1 : 1;
    return (x->end > y->end) - (x->end < y->end);
}

static int by_name (const void *a, const void *b, void *names)
{
    const Entry *x = *(const Entry *const *)a, *y = *(const Entry *const *)b;
    uint32_t n = x->name_len < y->name_len ? x->name_len : y->name_len;
    int order = memcmp ((char *)names + x->name, (char *)names + y->name, n);
    return order ? order : (x->name_len > y->name_len) - (x->name_len < y->name_len);
}

/* What is wrong with a tensor whose name has been checked. */
__attribute__ ((format (printf, 4, 5))) static DpsStatus tensor_fail (const struct DpsFormatFile *f, const Entry *e, DpsError *err,
                                                                      const char *fmt, ...)
{
    char what[300];
    va_list ap;
    va_start (ap, fmt);
    vsnprintf (what, sizeof what, fmt, ap);
    va_end (ap);
    return dps_fail (err, DPS_ERR_FORMAT, "%s: tensor '%.*s' (data_offsets [%llu, %llu]) %s", f->path,
                     (int)(e->name_len < 200 ? e->name_len : 200), f->names.data + e->name, (unsigned long long)e->begin,
                     (unsigned long long)e->end, what);
}

static DpsStatus check_size (const struct DpsFormatFile *f, const Entry *e, DpsError *err)
{
    uint64_t n = dtype_at (e->dtype)->bytes;
    if (e->end < e->begin || e->end > f->data_bytes)
        return tensor_fail (f, e, err, "lies outside the file's %llu bytes of data: the file is cut or damaged. Hint: download it again",
                            (unsigned long long)f->data_bytes);
    for (int i = 0; i < e->rank; i++)
        if (__builtin_mul_overflow (n, (uint64_t)f->shapes[e->shape + i], &n))
            return tensor_fail (f, e, err, "has a shape whose size in bytes does not fit 64 bits");
    if (n != e->end - e->begin)
        return tensor_fail (f, e, err, "takes %llu bytes by its shape and dtype %s", (unsigned long long)n, dtype_at (e->dtype)->name);
    return DPS_OK;
}

/* The offsets cover the data exactly: no hole, no overlap, nothing behind. Entries are left in the order of their data. */
static DpsStatus check_cover (struct DpsFormatFile *f, DpsError *err)
{
    uint64_t at = 0;
    if (f->n_entries) /* qsort takes no NULL */
        qsort (f->entries, f->n_entries, sizeof *f->entries, by_place);
    for (size_t i = 0; i < f->n_entries; i++) {
        if (f->entries[i].begin != at)
            return tensor_fail (f, &f->entries[i], err, "%s: the data before it ends at %llu",
                                f->entries[i].begin < at ? "overlaps another tensor" : "leaves a hole before it", (unsigned long long)at);
        at = f->entries[i].end;
    }
    if (at != f->data_bytes)
        return dps_fail (err, DPS_ERR_FORMAT, "%s: %llu bytes after the last tensor, whose data ends at %llu", f->path,
                         (unsigned long long)(f->data_bytes - at), (unsigned long long)at);
    return DPS_OK;
}

static DpsStatus check_names (const struct DpsFormatFile *f, DpsError *err)
{
    const Entry **order = dps_malloc (f->n_entries + 1, sizeof *order);
    if (!order)
        return dps_fail (err, DPS_ERR_NOMEM, "%s: out of memory", f->path);
    for (size_t i = 0; i < f->n_entries; i++)
        order[i] = &f->entries[i];
    qsort_r (order, f->n_entries, sizeof *order, by_name, f->names.data);
    DpsStatus st = DPS_OK;
    for (size_t i = 1; st == DPS_OK && i < f->n_entries; i++)
        if (by_name (&order[i - 1], &order[i], f->names.data) == 0)
            st = tensor_fail (f, order[i], err, "stands twice in the header");
    dps_free (order);
    return st;
}

DpsStatus header_parse (struct DpsFormatFile *f, DpsError *err)
{
    static const char lfs[] = "version https://git-lfs";
    uint64_t n = 0;
    if (f->map.len < 8)
        return dps_fail (err, DPS_ERR_FORMAT,
                         "%s: %zu bytes are too few for a safetensors file (8 of length, then a header). Hint: download it again", f->path,
                         f->map.len);
    for (int i = 0; i < 8; i++)
        n |= (uint64_t)f->map.data[i] << (8 * i);
    if (f->map.len > sizeof lfs && !memcmp (f->map.data, lfs, sizeof lfs - 1))
        return dps_fail (err, DPS_ERR_FORMAT, "%s: a Git LFS pointer, not the file it stands for. Hint: git lfs pull", f->path);
    if (n > MAX_HEADER)
        return dps_fail (err, DPS_ERR_LIMIT, "%s: a header of %llu bytes, at most %d are allowed", f->path, (unsigned long long)n,
                         MAX_HEADER);
    if (n > f->map.len - 8)
        return dps_fail (err, DPS_ERR_FORMAT,
                         "%s: a header of %llu bytes in a file of %zu: the file is cut or not safetensors. Hint: download it again",
                         f->path, (unsigned long long)n, f->map.len);
    f->data = f->map.data + 8 + n;
    f->data_bytes = f->map.len - 8 - n;
    if (dps_buf_reserve (&f->names, 64))
        return dps_fail (err, DPS_ERR_NOMEM, "%s: out of memory", f->path);
    Scan s = {.f = f, .text = (const char *)f->map.data + 8, .len = (size_t)n, .err = err};
    DPS_TRY (scan (&s));
    for (size_t i = 0; i < f->n_entries; i++)
        DPS_TRY (check_size (f, &f->entries[i], err));
    DPS_TRY (check_cover (f, err));
    return check_names (f, err);
}

void header_free (struct DpsFormatFile *f)
{
    dps_free (f->entries);
    dps_free (f->meta);
    dps_free (f->shapes);
    dps_buf_free (&f->names);
}
