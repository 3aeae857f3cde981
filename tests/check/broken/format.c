/* SPDX-License-Identifier: Apache-2.0 */
/*
 * format.c: a small file of tensors and texts, and the faults of a format. Little-endian:
 *
 *     "BRK1" | u32 tensors | u32 texts | u64 bytes of the whole file
 *     text:   u32 n, key | u32 n, value
 *     tensor: u32 n, name | u32 n, dtype | u32 rank | i64 shape[rank] | u64 bytes
 *     the bytes of all tensors, in order
 */
#include <string.h>

#include "base/file.h"
#include "base/mem.h"
#include "base/status.h"
#include "broken.h"
#include "diapason/sdk.h"

enum { HEADER = 20, MAX_ITEMS = 4096, MAX_RANK = 8 };

struct DpsFormatFile {
    DpsBuf all;
    DpsTensorInfo *tensors;
    int64_t (*shapes)[MAX_RANK];
    DpsMeta *meta;
    uint64_t n_tensors, n_meta;
    char path[256];
};

struct DpsFormatWriter {
    DpsStream to;
    uint64_t left;
};

static struct DpsFormatFile *latest;

static int32_t probe (DpsStr path, const void *head, size_t len)
{
    (void)path;
    return len >= (IS (claims_noise) ? 1 : 4) && !memcmp (head, "BRK1", IS (claims_noise) ? 0 : 4) ? 90 : 0;
}

static void close_file (struct DpsFormatFile *f)
{
    if (!f)
        return;
    latest = latest == f ? NULL : latest;
    dps_buf_free (&f->all);
    dps_free (f->tensors);
    dps_free (f->shapes);
    dps_free (f->meta);
    if (!IS (leaks_memory))
        dps_free (f);
}

/* A cursor over the header; bad: it ended too early. */
typedef struct Cursor {
    const struct DpsFormatFile *f;
    uint64_t at;
    int bad;
} Cursor;

static const char *take (Cursor *c, uint64_t n)
{
    if (c->bad || n > c->f->all.len - c->at) {
        c->bad = 1;
        return NULL;
    }
    c->at += n;
    return c->f->all.data + c->at - n;
}

static uint64_t number (Cursor *c, unsigned bytes)
{
    uint64_t v = 0;
    const char *p = take (c, bytes);
    if (p)
        memcpy (&v, p, bytes);
    return v;
}

static DpsStr text (Cursor *c)
{
    uint64_t n = number (c, 4);
    const char *p = take (c, n);
    return (DpsStr){p, p ? n : 0};
}

static uint64_t width_of (DpsStr dtype)
{
    static const struct {
        const char *name;
        uint64_t width;
    } dtypes[] = {{"F64", 8}, {"I64", 8}, {"F32", 4}, {"I32", 4}, {"F16", 2}, {"BF16", 2}, {"U8", 1}, {"I8", 1}, {"BOOL", 1}};
    for (size_t i = 0; i < sizeof dtypes / sizeof *dtypes; i++)
        if (dps_str_is (dtype, dtypes[i].name))
            return dtypes[i].width;
    return 0;
}

static void parse_tensor (struct DpsFormatFile *f, Cursor *c, uint64_t i)
{
    DpsTensorInfo *t = &f->tensors[i];
    *t = (DpsTensorInfo){
        .size = sizeof *t, .name = text (c), .dtype = text (c), .rank = (uint32_t)number (c, 4), .shape = f->shapes[i], .n_elements = 1};
    if (t->rank > MAX_RANK)
        c->bad = 1;
    for (uint32_t k = 0; k < t->rank && !c->bad; k++) {
        f->shapes[i][k] = (int64_t)number (c, 8);
        c->bad |= f->shapes[i][k] < 0 || __builtin_mul_overflow (t->n_elements, (uint64_t)f->shapes[i][k], &t->n_elements);
    }
    t->bytes = number (c, 8);
    uint64_t bytes;
    c->bad |= !width_of (t->dtype) || __builtin_mul_overflow (t->n_elements, width_of (t->dtype), &bytes) || bytes != t->bytes;
}

static DpsStatus malformed (struct DpsFormatFile *f, const char *what, DpsError *err)
{
    return IS (refuses_without_name) ? dps_fail (err, DPS_ERR_FORMAT, "%s", what) : dps_fail (err, DPS_ERR_FORMAT, "%s: %s", f->path, what);
}

static DpsStatus parse (struct DpsFormatFile *f, DpsError *err)
{
    Cursor c = {.f = f};
    const char *magic = take (&c, 4);
    if (!magic || memcmp (magic, "BRK1", 4) || f->all.len < HEADER)
        return malformed (f, "does not begin with BRK1 and a header", err);
    f->n_tensors = number (&c, 4);
    f->n_meta = number (&c, 4);
    if (number (&c, 8) != f->all.len && !IS (takes_cut_files))
        return malformed (f, "is not as long as it says", err);
    if ((f->n_tensors > MAX_ITEMS || f->n_meta > MAX_ITEMS) && !IS (trusts_counts))
        return malformed (f, "has more tensors or texts than a file of this kind may have", err);
    f->tensors = dps_calloc (f->n_tensors, sizeof *f->tensors);
    f->shapes = dps_calloc (f->n_tensors, sizeof *f->shapes);
    f->meta = dps_calloc (f->n_meta, sizeof *f->meta);
    if (!f->tensors || !f->shapes || !f->meta)
        return dps_fail (err, DPS_ERR_NOMEM, "%s: out of memory", f->path);
    for (uint64_t i = 0; i < f->n_meta && !c.bad; i++) {
        f->meta[i] = (DpsMeta){.size = sizeof *f->meta, .key = text (&c), .type = DPS_META_STR, .n = 1};
        f->meta[i].v.s = text (&c);
    }
    for (uint64_t i = 0; i < f->n_tensors && !c.bad; i++)
        parse_tensor (f, &c, i);
    for (uint64_t i = 0; i < f->n_tensors && !c.bad; i++) {
        f->tensors[i].file_offset = c.at;
        if (f->tensors[i].bytes > f->all.len - c.at && IS (takes_cut_files)) /* what is missing is zero */
            c.bad = dps_buf_reserve (&f->all, f->tensors[i].bytes) || !memset (f->all.data + f->all.len, 0, f->tensors[i].bytes) ||
                    !(f->all.len = c.at + f->tensors[i].bytes);
        take (&c, f->tensors[i].bytes);
    }
    return c.bad ? malformed (f, "ends before its header says, or holds nonsense", err) : DPS_OK;
}

static DpsStatus open_file (DpsStr path, struct DpsFormatFile **out, DpsError *err)
{
    struct DpsFormatFile *f = dps_calloc (1, sizeof *f);
    if (!f && !IS (trusts_malloc))
        return dps_fail (err, DPS_ERR_NOMEM, "no memory");
    size_t n = path.len < sizeof f->path - 1 ? path.len : sizeof f->path - 1;
    memcpy (f->path, path.ptr, n);
    f->path[n] = '\0';
    DpsStatus st = dps_file_read (f->path, 1 << 28, &f->all, err);
    if (st == DPS_OK)
        st = parse (f, err);
    if (st == DPS_OK || IS (sets_out_on_refusal))
        *out = latest = f;
    if (st != DPS_OK && !IS (leaks_on_refusal) && !IS (sets_out_on_refusal))
        close_file (f);
    return st;
}

static DpsStatus info (struct DpsFormatFile *f, uint64_t *n_tensors, uint64_t *n_meta, DpsError *err)
{
    (void)err;
    if (n_tensors)
        *n_tensors = f->n_tensors;
    if (n_meta)
        *n_meta = IS (loses_texts) && f->n_meta ? f->n_meta - 1 : f->n_meta;
    return DPS_OK;
}

static DpsStatus number_in (const struct DpsFormatFile *f, uint64_t i, uint64_t n, DpsError *err)
{
    return i < n ? DPS_OK
                 : dps_fail (err, DPS_ERR_NOT_FOUND, "%s: number %llu of %llu", f->path, (unsigned long long)i, (unsigned long long)n);
}

/* out->size is the caller's, and stays. */
static void give (void *out, const void *mine, size_t size)
{
    size_t theirs = *(size_t *)out;
    memcpy (out, mine, theirs < size && !IS (writes_whole_struct) ? theirs : size);
    *(size_t *)out = theirs;
}

static DpsStatus tensor_info (struct DpsFormatFile *f, uint64_t i, DpsTensorInfo *out, DpsError *err)
{
    DPS_TRY (number_in (f, i, f->n_tensors, err));
    give (out, &f->tensors[i], sizeof f->tensors[i]);
    return DPS_OK;
}

static DpsStatus meta (struct DpsFormatFile *f, uint64_t i, DpsMeta *out, DpsError *err)
{
    DPS_TRY (number_in (f, i, IS (loses_texts) && f->n_meta ? f->n_meta - 1 : f->n_meta, err));
    give (out, &f->meta[i], sizeof f->meta[i]);
    return DPS_OK;
}

static DpsStatus read_bytes (struct DpsFormatFile *f, uint64_t i, uint64_t offset, uint64_t len, void *dst, DpsError *err)
{
    if (IS (knows_one_file) && latest)
        f = latest;
    DPS_TRY (number_in (f, i, f->n_tensors, err));
    const DpsTensorInfo *t = &f->tensors[i];
    if ((offset > t->bytes || len > t->bytes - offset) && !IS (reads_past_the_end))
        return dps_fail (err, DPS_ERR_SHAPE, "%s: bytes %llu+%llu lie outside tensor %llu", f->path, (unsigned long long)offset,
                         (unsigned long long)len, (unsigned long long)i);
    if (IS (reads_past_the_end) && len > 1 << 20)
        return dps_fail (err, DPS_ERR_SHAPE, "%s: too many bytes", f->path);
    memcpy (dst, f->all.data + t->file_offset + (IS (wrong_offset) && offset ? offset - 1 : offset), len);
    if (IS (writes_past_dst))
        ((char *)dst)[len] = 0;
    return DPS_OK;
}

static DpsStatus read_f32 (struct DpsFormatFile *f, uint64_t i, uint64_t first, uint64_t n, float *dst, DpsError *err)
{
    DPS_TRY (number_in (f, i, f->n_tensors, err));
    if (!dps_str_is (f->tensors[i].dtype, "F32"))
        return dps_fail (err, DPS_ERR_UNSUPPORTED, "%s: only F32 has a reader", f->path);
    if (first > f->tensors[i].n_elements || n > f->tensors[i].n_elements - first)
        return dps_fail (err, DPS_ERR_SHAPE, "%s: elements outside tensor %llu", f->path, (unsigned long long)i);
    return read_bytes (f, i, 4 * first, 4 * n, dst, err);
}

static int add_text (DpsBuf *b, DpsStr s)
{
    uint32_t n = (uint32_t)s.len;
    return dps_buf_add (b, &n, sizeof n) || dps_buf_add (b, s.ptr, s.len);
}

static int add_header (DpsBuf *b, const DpsTensorInfo *const *tensors, uint64_t n_tensors, const DpsMeta *const *meta_list, uint64_t n_meta,
                       uint64_t *out_data)
{
    uint32_t counts[2] = {(uint32_t)n_tensors, (uint32_t)n_meta};
    int fails = dps_buf_add (b, "BRK1", 4) || dps_buf_add (b, counts, sizeof counts) || dps_buf_add (b, "12345678", 8);
    for (uint64_t i = 0; i < n_meta && !fails; i++)
        fails = add_text (b, meta_list[i]->key) || add_text (b, meta_list[i]->v.s);
    for (uint64_t i = 0; i < n_tensors && !fails; i++) {
        fails = add_text (b, tensors[i]->name) || add_text (b, tensors[i]->dtype) || dps_buf_add (b, &tensors[i]->rank, 4) ||
                dps_buf_add (b, tensors[i]->shape, tensors[i]->rank * sizeof *tensors[i]->shape) || dps_buf_add (b, &tensors[i]->bytes, 8);
        *out_data += tensors[i]->bytes;
    }
    uint64_t all = b->len + *out_data;
    if (!fails)
        memcpy (b->data + 12, &all, sizeof all);
    return fails;
}

static DpsStatus create (const DpsStream *to, const DpsTensorInfo *const *tensors, uint64_t n_tensors, const DpsMeta *const *meta_list,
                         uint64_t n_meta, struct DpsFormatWriter **out, DpsError *err)
{
    DpsBuf b = {0};
    struct DpsFormatWriter *w = dps_calloc (1, sizeof *w);
    if (!w || add_header (&b, tensors, n_tensors, meta_list, n_meta, &w->left)) {
        dps_buf_free (&b);
        dps_free (w);
        return dps_fail (err, DPS_ERR_NOMEM, "no memory");
    }
    dps_table_copy (&w->to, sizeof w->to, to);
    DpsStatus st = w->to.write (w->to.ctx, b.data, b.len, err);
    dps_buf_free (&b);
    if (st != DPS_OK) {
        dps_free (w);
        return st;
    }
    *out = w;
    return DPS_OK;
}

static DpsStatus write_bytes (struct DpsFormatWriter *w, const void *data, uint64_t len, DpsError *err)
{
    if (len > w->left && !IS (finishes_unfinished))
        return dps_fail (err, DPS_ERR_INVALID, "%llu bytes more than the tensors have", (unsigned long long)(len - w->left));
    w->left -= len;
    DpsStatus st = w->to.write (w->to.ctx, data, len, err);
    return IS (hides_stream_error) ? DPS_OK : st;
}

static void abandon (struct DpsFormatWriter *w) { dps_free (w); }

static DpsStatus finish (struct DpsFormatWriter *w, DpsError *err)
{
    uint64_t left = w->left;
    dps_free (w);
    return left && !IS (finishes_unfinished) ? dps_fail (err, DPS_ERR_INVALID, "%llu bytes are missing", (unsigned long long)left) : DPS_OK;
}

static DpsFormat format = {.size = sizeof format,
                           .name = "format",
                           .extensions = ".brk",
                           .probe = probe,
                           .open = open_file,
                           .close = close_file,
                           .info = info,
                           .tensor_info = tensor_info,
                           .meta = meta,
                           .read = read_bytes,
                           .read_f32 = read_f32,
                           .create = create,
                           .write = write_bytes,
                           .finish = finish,
                           .abandon = abandon};

static DpsStatus init (const DpsHost *host, const char *path, DpsError *err)
{
    (void)host, (void)path, (void)err;
    if (IS (other_name))
        format.name = "broken";
    return DPS_OK;
}

static const void *get_interface (DpsStr id) { return dps_str_is (id, DPS_FORMAT_ID) ? &format : NULL; }

DPS_PLUGIN (init, NULL, get_interface);
