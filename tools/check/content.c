/* SPDX-License-Identifier: Apache-2.0 */
#include "check/content.h"

#include <signal.h>
#include <string.h>

#include "base/rng.h"
#include "check/pages.h"
#include "ckpt/sink.h"

/* One tensor of each dtype that safetensors names, an empty one, a scalar, a name that needs quoting. */
static const struct {
    const char *name, *dtype;
    uint32_t rank;
    int64_t shape[3];
    uint64_t width;
} made[] = {
    {"a.weight", "F32", 2, {3, 5}, 4}, {"b", "BF16", 1, {7}, 2},
    {"c/half", "F16", 2, {2, 3}, 2},   {"d", "F64", 1, {3}, 8},
    {"e.int", "I32", 1, {5}, 4},       {"f.long", "I64", 1, {2}, 8},
    {"g.byte", "U8", 1, {9}, 1},       {"h.signed", "I8", 3, {1, 2, 3}, 1},
    {"i.flag", "BOOL", 1, {4}, 1},     {"scalar", "F32", 0, {0}, 4},
    {"empty", "F32", 2, {0, 4}, 4},    {"\"quoted\" \xc3\xa9", "F32", 1, {2}, 4},
};

static DpsStatus make_up (CheckContext *ctx, CheckContent *c, DpsError *err)
{
    static const DpsMeta texts[] = {
        {.size = sizeof (DpsMeta), .key = {"author", 6}, .type = DPS_META_STR, .n = 1, .v.s = {"\xc3\xa9t\xc3\xa9 \"x\" \\ \n", 12}},
        {.size = sizeof (DpsMeta), .key = {"empty", 5}, .type = DPS_META_STR, .n = 1, .v.s = {"", 0}},
    };
    for (size_t i = 0; i < sizeof made / sizeof *made; i++) {
        DpsTensorInfo *t = &c->tensors[i];
        uint64_t n = 1;
        for (uint32_t k = 0; k < made[i].rank; k++)
            n *= (uint64_t)made[i].shape[k];
        *t = (DpsTensorInfo){.size = sizeof *t,
                             .name = {made[i].name, strlen (made[i].name)},
                             .dtype = {made[i].dtype, strlen (made[i].dtype)},
                             .rank = made[i].rank,
                             .shape = made[i].shape,
                             .n_elements = n,
                             .bytes = n * made[i].width};
        if (!(c->bytes[i] = dps_malloc (t->bytes, 1)))
            return dps_fail (err, DPS_ERR_NOMEM, "check: out of memory");
        for (uint64_t k = 0; k < t->bytes; k++)
            c->bytes[i][k] = (unsigned char)dps_rng_u64 (ctx->seed, i, k);
        for (uint64_t k = 0; !strcmp (made[i].dtype, "BOOL") && k < t->bytes; k++)
            c->bytes[i][k] &= 1;
        c->n_tensors++;
    }
    memcpy (c->meta, texts, sizeof texts);
    c->n_meta = sizeof texts / sizeof *texts;
    return DPS_OK;
}

static DpsStatus read_sample (CheckContext *ctx, CheckContent *c, DpsError *err)
{
    DPS_TRY (c->format->open (dps_str (ctx->sample), &c->sample, err));
    DPS_TRY (c->format->info (c->sample, &c->n_tensors, &c->n_meta, err));
    if (c->n_tensors > CHECK_MAX_TENSORS || c->n_meta > CHECK_MAX_META) {
        c->n_tensors = 0;
        return dps_fail (err, DPS_ERR_LIMIT, "%s: more than %d tensors or %d texts: a smaller sample is enough", ctx->sample,
                         CHECK_MAX_TENSORS, CHECK_MAX_META);
    }
    for (uint64_t i = 0; i < c->n_meta; i++) {
        c->meta[i].size = sizeof *c->meta;
        DPS_TRY (c->format->meta (c->sample, i, &c->meta[i], err));
    }
    for (uint64_t i = 0; i < c->n_tensors; i++) {
        DpsTensorInfo *t = &c->tensors[i];
        t->size = sizeof *t;
        DPS_TRY (c->format->tensor_info (c->sample, i, t, err));
        if (t->bytes > 1 << 26 || !(c->bytes[i] = dps_malloc (t->bytes, 1)))
            return dps_fail (err, DPS_ERR_LIMIT, "%s: a tensor of %llu bytes: a smaller sample is enough", ctx->sample,
                             (unsigned long long)t->bytes);
        DPS_TRY (c->format->read (c->sample, i, 0, t->bytes, c->bytes[i], err));
    }
    return DPS_OK;
}

DpsStatus check_content_open (CheckContext *ctx, CheckContent *out, DpsError *err)
{
    memset (out, 0, sizeof *out);
    out->format = ctx->table;
    DpsStatus st = ctx->sample ? read_sample (ctx, out, err) : make_up (ctx, out, err);
    if (st != DPS_OK)
        check_content_free (out);
    return st;
}

void check_content_free (CheckContent *c)
{
    for (size_t i = 0; i < CHECK_MAX_TENSORS; i++)
        dps_free (c->bytes[i]);
    if (c->format)
        c->format->close (c->sample);
    memset (c, 0, sizeof *c);
}

/* The host's sink, whose calls are counted and fail on demand. */

typedef struct Tap {
    DpsStream to, member;
    CheckWriting *how;
} Tap;

static DpsStatus tapped (Tap *t, DpsError *err)
{
    ++t->how->n_calls;
    if (t->how->n_calls == t->how->kill_at)
        raise (SIGKILL);
    return t->how->n_calls == t->how->fail_at ? dps_fail (err, DPS_ERR_IO, "check: the disk is full (for a test)") : DPS_OK;
}

static DpsStatus tap_write (void *ctx, const void *data, size_t len, DpsError *err)
{
    Tap *t = ctx;
    DPS_TRY (tapped (t, err));
    return t->to.write (t->to.ctx, data, len, err);
}

static DpsStatus tap_member_write (void *ctx, const void *data, size_t len, DpsError *err)
{
    Tap *t = ctx;
    DPS_TRY (tapped (t, err));
    return t->member.write (t->member.ctx, data, len, err);
}

static DpsStatus tap_open (void *ctx, DpsStr name, DpsStream *out, DpsError *err)
{
    Tap *t = ctx;
    DPS_TRY (tapped (t, err));
    t->member = (DpsStream){.size = sizeof t->member};
    DPS_TRY (t->to.open_member (t->to.ctx, name, &t->member, err));
    const DpsStream tap = {.size = sizeof tap, .ctx = t, .write = tap_member_write};
    dps_table_copy (out, out->size < sizeof tap ? out->size : sizeof tap, &tap);
    return DPS_OK;
}

static DpsStatus tap_close (void *ctx, char out_sha256[64], uint64_t *out_bytes, DpsError *err)
{
    Tap *t = ctx;
    DPS_TRY (tapped (t, err));
    return t->to.close_member (t->to.ctx, out_sha256, out_bytes, err);
}

/* All tensors, in pieces; the writer is gone afterwards. */
static DpsStatus write_tensors (const CheckContent *c, struct DpsFormatWriter *w, const CheckWriting *how, DpsError *err)
{
    DpsStatus st = DPS_OK;
    for (uint64_t i = 0; st == DPS_OK && i < c->n_tensors; i++) {
        uint64_t bytes = c->tensors[i].bytes, piece = how->piece ? how->piece : bytes;
        if (how->abandon && i == c->n_tensors / 2)
            break;
        if (i + 1 == c->n_tensors && how->miss > 0)
            bytes -= bytes < (uint64_t)how->miss ? bytes : (uint64_t)how->miss;
        for (uint64_t at = 0; st == DPS_OK && at < bytes; at += piece)
            st = c->format->write (w, c->bytes[i] + at, bytes - at < piece ? bytes - at : piece, err);
    }
    for (int64_t i = 0; st == DPS_OK && i > how->miss; i--)
        st = c->format->write (w, "x", 1, err);
    if (st == DPS_OK && !how->abandon)
        return c->format->finish (w, err);
    c->format->abandon (w);
    return st;
}

static DpsStatus write_to (const CheckContent *c, Tap *tap, int folder, DpsError *err)
{
    const DpsTensorInfo *tensors[CHECK_MAX_TENSORS];
    const DpsMeta *meta[CHECK_MAX_META];
    struct DpsFormatWriter *w = NULL;
    for (uint64_t i = 0; i < c->n_tensors; i++)
        tensors[i] = &c->tensors[i];
    for (uint64_t i = 0; i < c->n_meta; i++)
        meta[i] = &c->meta[i];
    const DpsStream stream = {.size = sizeof stream,
                              .ctx = tap,
                              .write = tap_write,
                              .open_member = folder ? tap_open : NULL,
                              .close_member = folder ? tap_close : NULL};
    DPS_TRY (c->format->create (&stream, tensors, c->n_tensors, meta, c->n_meta, &w, err));
    return write_tensors (c, w, tap->how, err);
}

static DpsStatus write_file (const CheckContent *c, const char *path, CheckWriting *how, DpsError *err)
{
    DpsSink sink;
    Tap tap = {.how = how};
    DPS_TRY (dps__sink_file (&sink, path, &tap.to, err));
    DpsStatus st = write_to (c, &tap, 0, err);
    if (st == DPS_OK && !how->abandon)
        return dps__sink_commit (&sink, NULL, NULL, err);
    dps__sink_discard (&sink);
    return st;
}

DpsStatus check_content_write (const CheckContent *c, const char *path, CheckWriting *how, int *out_folder, DpsError *err)
{
    DpsSink sink;
    Tap tap = {.how = how};
    how->n_calls = 0;
    *out_folder = 0;
    DpsStatus st = write_file (c, path, how, err);
    if (st != DPS_ERR_UNSUPPORTED)
        return st;
    *out_folder = 1;
    how->n_calls = 0;
    DPS_TRY (dps_mkdirs (path, err));
    dps__sink_folder (&sink, path, &tap.to);
    st = write_to (c, &tap, 1, err);
    dps__sink_discard (&sink);
    if (st != DPS_OK || how->abandon)
        dps_remove_tree (path, NULL);
    return st;
}

/* Reading. */

static int same_str (DpsStr a, DpsStr b) { return a.len == b.len && (!a.len || !memcmp (a.ptr, b.ptr, a.len)); }

static int same_meta (const DpsMeta *a, const DpsMeta *b)
{
    if (!same_str (a->key, b->key) || a->type != b->type || a->n != b->n)
        return 0;
    switch (a->type) {
    case DPS_META_STR: return same_str (a->v.s, b->v.s);
    case DPS_META_F64: return !memcmp (&a->v.f, &b->v.f, sizeof a->v.f);
    case DPS_META_ARRAY: return a->elem_type == b->elem_type;
    default: return a->v.u == b->v.u;
    }
}

static DpsStatus compare_tensor (const CheckContent *c, struct DpsFormatFile *f, uint64_t i, DpsError *err)
{
    const DpsTensorInfo *want = &c->tensors[i];
    DpsTensorInfo got = {.size = sizeof got};
    DPS_TRY (c->format->tensor_info (f, i, &got, err));
    int same = same_str (got.name, want->name) && same_str (got.dtype, want->dtype) && got.rank == want->rank && got.bytes == want->bytes &&
               got.n_elements == want->n_elements;
    for (uint32_t k = 0; same && k < got.rank; k++)
        same = got.shape[k] == want->shape[k];
    if (!same)
        return dps_fail (err, DPS_ERR_INVALID,
                         "tensor %llu was written as '%.*s' (%.*s, %llu bytes) and is read as '%.*s' (%.*s, %llu bytes)",
                         (unsigned long long)i, (int)want->name.len, want->name.ptr, (int)want->dtype.len, want->dtype.ptr,
                         (unsigned long long)want->bytes, (int)got.name.len, got.name.ptr, (int)got.dtype.len, got.dtype.ptr,
                         (unsigned long long)got.bytes);
    unsigned char *all = check_pages (NULL, got.bytes, CHECK_GUARD_BEHIND, 0);
    const void *mapped = NULL;
    if (!all)
        return dps_fail (err, DPS_ERR_NOMEM, "check: out of memory");
    /* Backwards, in pieces that share no boundary with anything. */
    for (uint64_t left = got.bytes; left;) {
        uint64_t piece = left < 7 ? left : left > 1 << 16 ? 1 << 16 : 7;
        DPS_TRY (c->format->read (f, i, left - piece, piece, all + left - piece, err));
        left -= piece;
    }
    if (got.bytes && memcmp (all, c->bytes[i], got.bytes))
        return dps_fail (err, DPS_ERR_INVALID, "the bytes of '%.*s' (%.*s) are others than were written", (int)got.name.len, got.name.ptr,
                         (int)got.dtype.len, got.dtype.ptr);
    if (c->format->map && c->format->map (f, i, &mapped, err) == DPS_OK && got.bytes && memcmp (mapped, all, got.bytes))
        return dps_fail (err, DPS_ERR_INVALID, "map gives other bytes of '%.*s' than read", (int)got.name.len, got.name.ptr);
    return DPS_OK;
}

/* F32 is stored as it is; whatever the dtype, a range of values is that part of all of them. */
static DpsStatus compare_values (const CheckContent *c, struct DpsFormatFile *f, uint64_t i, DpsError *err)
{
    const DpsTensorInfo *t = &c->tensors[i];
    uint64_t n = t->n_elements, part = n / 3;
    float *all = check_pages (NULL, n * sizeof *all, CHECK_GUARD_BEHIND, 0),
          *some = check_pages (NULL, (n - part) * sizeof *some, CHECK_GUARD_BEHIND, 0);
    if (!all || !some)
        return dps_fail (err, DPS_ERR_NOMEM, "check: out of memory");
    DpsStatus st = c->format->read_f32 (f, i, 0, n, all, err);
    if (st == DPS_ERR_UNSUPPORTED)
        return DPS_OK; /* a dtype without a reader */
    DPS_TRY (st);
    if (dps_str_is (t->dtype, "F32") && n && memcmp (all, c->bytes[i], n * sizeof *all))
        return dps_fail (err, DPS_ERR_INVALID, "read_f32 of '%.*s' (F32) gives other bits than are stored", (int)t->name.len, t->name.ptr);
    DPS_TRY (c->format->read_f32 (f, i, part, n - part, some, err));
    if (n > part && memcmp (all + part, some, (n - part) * sizeof *all))
        return dps_fail (err, DPS_ERR_INVALID, "read_f32 of elements %llu to %llu of '%.*s' gives other values than read_f32 of all",
                         (unsigned long long)part, (unsigned long long)n, (int)t->name.len, t->name.ptr);
    return DPS_OK;
}

DpsStatus check_content_compare (const CheckContent *c, const char *path, DpsError *err)
{
    struct DpsFormatFile *f = NULL;
    uint64_t n_tensors = 0, n_meta = 0;
    DPS_TRY (c->format->open (dps_str (path), &f, err));
    DpsStatus st = c->format->info (f, &n_tensors, &n_meta, err);
    if (st == DPS_OK && (n_tensors != c->n_tensors || n_meta != c->n_meta))
        st = dps_fail (err, DPS_ERR_INVALID, "%llu tensors and %llu texts were written, %llu and %llu are read",
                       (unsigned long long)c->n_tensors, (unsigned long long)c->n_meta, (unsigned long long)n_tensors,
                       (unsigned long long)n_meta);
    for (uint64_t i = 0; st == DPS_OK && i < n_tensors; i++) {
        st = compare_tensor (c, f, i, err);
        if (st == DPS_OK)
            st = compare_values (c, f, i, err);
    }
    for (uint64_t i = 0; st == DPS_OK && i < n_meta; i++) {
        DpsMeta got = {.size = sizeof got};
        int found = 0;
        st = c->format->meta (f, i, &got, err);
        for (uint64_t k = 0; k < c->n_meta; k++)
            found |= same_meta (&got, &c->meta[k]);
        if (st == DPS_OK && !found)
            st = dps_fail (err, DPS_ERR_INVALID, "text '%.*s' is not as it was written", (int)got.key.len, got.key.ptr);
    }
    c->format->close (f);
    return st;
}

DpsStatus check_content_compare_both (const CheckContent *a, const char *a_path, const CheckContent *b, const char *b_path, DpsError *err)
{
    struct DpsFormatFile *f = NULL, *g = NULL;
    DPS_TRY (a->format->open (dps_str (a_path), &f, err));
    DpsStatus st = a->format->open (dps_str (b_path), &g, err);
    for (uint64_t i = 0; st == DPS_OK && i < a->n_tensors; i++) {
        st = compare_tensor (a, f, i, err);
        if (st == DPS_OK)
            st = compare_tensor (b, g, i, err);
        if (st == DPS_OK)
            st = compare_values (a, f, i, err);
    }
    a->format->close (f);
    if (st == DPS_OK && b->n_tensors)
        st = compare_tensor (b, g, 0, err); /* the other is still open */
    a->format->close (g);
    return st;
}

static void add_sum (uint64_t *sum, const void *data, size_t n)
{
    for (size_t i = 0; i < n; i++)
        *sum = (*sum ^ ((const unsigned char *)data)[i]) * 0x100000001B3u;
}

/* Bounded: a header may promise anything. */
static DpsStatus use_tensor (const DpsFormat *format, struct DpsFormatFile *f, uint64_t i, uint64_t *sum, DpsError *err)
{
    enum { MOST = 1 << 16 };
    static unsigned char *room;
    DpsTensorInfo t = {.size = sizeof t};
    const void *bytes = NULL;
    DpsError unused = DPS_ERROR_INIT;
    if (!room && !(room = check_pages (NULL, MOST, CHECK_GUARD_BEHIND, 0)))
        return dps_fail (err, DPS_ERR_NOMEM, "check: out of memory");
    DPS_TRY (format->tensor_info (f, i, &t, err));
    add_sum (sum, t.name.ptr, t.name.len);
    add_sum (sum, t.shape, t.rank * sizeof *t.shape);
    for (uint64_t at = 0; at < t.bytes && at < 64 * MOST; at += MOST) {
        uint64_t n = t.bytes - at < MOST ? t.bytes - at : MOST;
        DPS_TRY (format->read (f, i, at, n, room + MOST - n, err));
        add_sum (sum, room + MOST - n, n);
    }
    uint64_t part = t.n_elements < MOST / 4 ? t.n_elements : MOST / 4;
    (void)format->read_f32 (f, i, 0, part, (float *)(void *)(room + MOST - 4 * part), &unused);
    (void)format->read_f32 (f, i, t.n_elements - part, part, (float *)(void *)(room + MOST - 4 * part), &unused);
    if (format->read_f32 (f, i, t.n_elements, 1, (float *)(void *)(room + MOST - 4), &unused) == DPS_OK ||
        format->read_f32 (f, i, UINT64_MAX, 2, (float *)(void *)(room + MOST - 8), &unused) == DPS_OK ||
        format->read (f, i, t.bytes, 1, room, &unused) == DPS_OK || format->read (f, i, 1, UINT64_MAX, room, &unused) == DPS_OK)
        return dps_fail (err, DPS_ERR_INTERNAL, "a range past the end of '%.*s' was read", (int)t.name.len, t.name.ptr);
    if (format->map && format->map (f, i, &bytes, &unused) == DPS_OK)
        add_sum (sum, bytes, t.bytes < MOST ? t.bytes : MOST);
    if (format->release)
        format->release (f, i);
    return DPS_OK;
}

static DpsStatus use (const DpsFormat *format, struct DpsFormatFile *f, uint64_t *sum, DpsError *err)
{
    uint64_t n_tensors = 0, n_meta = 0;
    DpsTensorInfo t = {.size = sizeof t};
    DpsMeta m = {.size = sizeof m};
    DPS_TRY (format->info (f, NULL, NULL, err));
    DPS_TRY (format->info (f, &n_tensors, &n_meta, err));
    for (uint64_t i = 0; i < n_meta; i++) {
        m.size = sizeof m;
        DPS_TRY (format->meta (f, i, &m, err));
        add_sum (sum, m.key.ptr, m.key.len);
        size_t n = m.type == DPS_META_STR ? m.v.s.len : 0;
        while (n && strchr (" \n\r\t", m.v.s.ptr[n - 1])) /* white space at the end of a text says nothing */
            n--;
        if (n)
            add_sum (sum, m.v.s.ptr, n);
        for (uint64_t k = 0; m.type == DPS_META_ARRAY && m.elem_type == DPS_META_STR && k < m.n; k++)
            add_sum (sum, ((const DpsStr *)m.v.array)[k].ptr, ((const DpsStr *)m.v.array)[k].len);
    }
    for (uint64_t i = 0; i < n_tensors; i++)
        DPS_TRY (use_tensor (format, f, i, sum, err));
    if (format->tensor_info (f, n_tensors, &t, err) == DPS_OK || format->tensor_info (f, UINT64_MAX, &t, err) == DPS_OK ||
        format->meta (f, n_meta, &m, err) == DPS_OK)
        return dps_fail (err, DPS_ERR_INTERNAL, "a tensor or text past the last was given");
    return DPS_OK;
}

DpsStatus check_content_use (const DpsFormat *format, const char *path, uint64_t *out_sum, DpsError *err)
{
    struct DpsFormatFile *f = NULL;
    DpsStatus st = format->open (dps_str (path), &f, err);
    *out_sum = 0xCBF29CE484222325u;
    if (st != DPS_OK)
        return f ? dps_fail (err, DPS_ERR_INTERNAL, "open failed and gave a file all the same") : st;
    st = use (format, f, out_sum, err);
    format->close (f);
    return st;
}
