/* SPDX-License-Identifier: Apache-2.0 */
/* write.c: header first (names in the caller's order, padded to 8 bytes with spaces), then the data as it comes. */
#include "base/json.h"
#include "base/utf8.h"
#include "file.h"

struct DpsFormatWriter {
    DpsStream to;
    uint64_t left; /* data bytes still to come */
};

static int add_meta (DpsBuf *b, const DpsMeta *const *meta, uint64_t n)
{
    int fails = dps_buf_str (b, "\"__metadata__\":{");
    for (uint64_t i = 0; i < n && !fails; i++) {
        if (i)
            fails |= dps_buf_str (b, ",");
        fails |= dps_json_quote (b, meta[i]->key.ptr, meta[i]->key.len) || dps_buf_str (b, ":") ||
                 dps_json_quote (b, meta[i]->v.s.ptr, meta[i]->v.s.len);
    }
    return fails || dps_buf_str (b, "}");
}

static DpsStatus add_tensor (DpsBuf *b, const DpsTensorInfo *t, uint64_t *at, DpsError *err)
{
    int d = dtype_find (t->dtype.ptr, t->dtype.len);
    if (!dps_utf8_is_plain (t->name.ptr, t->name.len)) /* would be written as another name */
        return dps_fail (err, DPS_ERR_INVALID, "safetensors: '%.*s' is not UTF-8 without control characters", (int)t->name.len,
                         t->name.ptr);
    if (d < 0)
        return dps_fail (err, DPS_ERR_DTYPE, "safetensors: '%.*s' has dtype '%.*s', which the format does not know", (int)t->name.len,
                         t->name.ptr, (int)t->dtype.len, t->dtype.ptr);
    uint64_t bytes = dtype_at ((size_t)d)->bytes;
    int fails =
        dps_json_quote (b, t->name.ptr, t->name.len) || dps_buf_printf (b, ":{\"dtype\":\"%s\",\"shape\":[", dtype_at ((size_t)d)->name);
    for (uint32_t i = 0; i < t->rank && !fails; i++) {
        fails = dps_buf_printf (b, i ? ",%lld" : "%lld", (long long)t->shape[i]);
        if (t->shape[i] < 0 || __builtin_mul_overflow (bytes, (uint64_t)t->shape[i], &bytes))
            return dps_fail (err, DPS_ERR_SHAPE, "safetensors: '%.*s' has an impossible shape", (int)t->name.len, t->name.ptr);
    }
    if (*at > INT64_MAX || bytes > INT64_MAX - *at)
        return dps_fail (err, DPS_ERR_LIMIT, "safetensors: '%.*s' ends past 2^63 bytes", (int)t->name.len, t->name.ptr);
    fails = fails || dps_buf_printf (b, "],\"data_offsets\":[%llu,%llu]}", (unsigned long long)*at, (unsigned long long)(*at + bytes));
    *at += bytes;
    return fails ? dps_fail (err, DPS_ERR_NOMEM, "safetensors: out of memory for the header") : DPS_OK;
}

static DpsStatus build_header (DpsBuf *b, const DpsTensorInfo *const *tensors, uint64_t n_tensors, const DpsMeta *const *meta,
                               uint64_t n_meta, uint64_t *out_data, DpsError *err)
{
    for (uint64_t i = 0; i < n_meta; i++)
        if (meta[i]->type != DPS_META_STR)
            return dps_fail (err, DPS_ERR_INVALID, "safetensors: metadata '%.*s' is not a string, the only kind the format has",
                             (int)(meta[i]->key.len < 200 ? meta[i]->key.len : 200), meta[i]->key.ptr);
    int fails = dps_buf_add (b, "\0\0\0\0\0\0\0\0{", 9) || (n_meta && add_meta (b, meta, n_meta));
    for (uint64_t i = 0; i < n_tensors && !fails; i++) {
        if (i || n_meta)
            fails = dps_buf_str (b, ",");
        DPS_TRY (add_tensor (b, tensors[i], out_data, err));
    }
    fails = fails || dps_buf_str (b, "}");
    while (b->len % 8 && !fails)
        fails = dps_buf_str (b, " ");
    if (fails)
        return dps_fail (err, DPS_ERR_NOMEM, "safetensors: out of memory for the header");
    if (b->len - 8 > MAX_HEADER)
        return dps_fail (err, DPS_ERR_LIMIT, "safetensors: a header of %zu bytes, at most %d are allowed", b->len - 8, MAX_HEADER);
    for (int i = 0; i < 8; i++)
        b->data[i] = (char)((uint64_t)(b->len - 8) >> (8 * i));
    return DPS_OK;
}

/* What the reader would refuse (a name twice, too many dimensions, …) is not written. */
static DpsStatus read_back (const DpsBuf *header, uint64_t data_bytes, DpsError *err)
{
    static char path[] = "safetensors header to be written";
    struct DpsFormatFile f = {.path = path,
                              .map = {.data = (const unsigned char *)header->data, .len = header->len + data_bytes, .fd = -1}};
    DpsStatus st = header_parse (&f, err);
    header_free (&f);
    return st;
}

DpsStatus writer_create (const DpsStream *to, const DpsTensorInfo *const *tensors, uint64_t n_tensors, const DpsMeta *const *meta,
                         uint64_t n_meta, struct DpsFormatWriter **out, DpsError *err)
{
    DpsBuf header = {0};
    struct DpsFormatWriter *w = dps_calloc (1, sizeof *w);
    if (!w)
        return dps_fail (err, DPS_ERR_NOMEM, "safetensors: out of memory");
    dps_table_copy (&w->to, sizeof w->to, to);
    DpsStatus st = build_header (&header, tensors, n_tensors, meta, n_meta, &w->left, err);
    if (st == DPS_OK)
        st = read_back (&header, w->left, err);
    if (st == DPS_OK)
        st = w->to.write (w->to.ctx, header.data, header.len, err);
    dps_buf_free (&header);
    if (st != DPS_OK) {
        dps_free (w);
        return st;
    }
    *out = w;
    return DPS_OK;
}

DpsStatus writer_write (struct DpsFormatWriter *w, const void *data, uint64_t len, DpsError *err)
{
    if (len > w->left)
        return dps_fail (err, DPS_ERR_SHAPE, "safetensors: %llu bytes more than the header announced", (unsigned long long)(len - w->left));
    w->left -= len;
    return w->to.write (w->to.ctx, data, len, err);
}

DpsStatus writer_finish (struct DpsFormatWriter *w, DpsError *err)
{
    uint64_t left = w->left;
    dps_free (w);
    return left ? dps_fail (err, DPS_ERR_SHAPE, "safetensors: %llu bytes fewer than the header announced", (unsigned long long)left)
                : DPS_OK;
}

void writer_abandon (struct DpsFormatWriter *w) { dps_free (w); }
