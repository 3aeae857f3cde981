/* SPDX-License-Identifier: Apache-2.0 */
/* trace_fill.c: what a record says of a call: its kind, once for all calls alike, and seeds or integers for the operands that replay has not got. */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

#include "exec/trace_write.h"
#include "plugin/host.h"

static struct {
    uint64_t key; /* of hashes; not kept */
    int ids;
    DpsQuantNames quants;
    uint32_t op_ids[DPS_OP_COUNT];
    char **cases; /* the text behind "case":N, */
    uint64_t *case_hashes;
    size_t n_cases, case_capacity, hash_capacity;
    uint64_t *data; /* hashes of what was written as data */
    size_t n_data, data_capacity;
} r;

DpsStatus dps__fills_begin (int ids, DpsError *err)
{
    r.ids = ids;
    if (dps_quant_names (dps__intern, &r.quants))
        return dps_fail (err, DPS_ERR_LIMIT, "record: no number is left for dtypes");
    for (int i = 0; i < DPS_OP_COUNT; i++)
        r.op_ids[i] = dps_intern (dps_op_name ((DpsOpCode)i));
    if (getrandom (&r.key, sizeof r.key, 0) != (ssize_t)sizeof r.key)
        return dps_fail (err, DPS_ERR_IO, "record: no random key: %s", strerror (errno));
    return DPS_OK;
}

void dps__fills_clear (void)
{
    for (size_t i = 0; i < r.n_cases; i++)
        dps_free (r.cases[i]);
    dps_free (r.cases);
    dps_free (r.case_hashes);
    dps_free (r.data);
    memset (&r, 0, sizeof r);
}

DpsOpCode dps__fill_op (const DpsOp *op) { return dps__op_code (r.op_ids, op->id); }

/* Kinds of calls. */

static int put_dims (DpsBuf *b, const char *name, const DpsView *v, const int64_t *dims)
{
    int bad = dps_buf_printf (b, "\"%s\":[", name);
    for (uint32_t i = 0; i < v->rank && !bad; i++)
        bad = dps_buf_printf (b, "%s%lld", i ? "," : "", (long long)dims[i]);
    return bad || dps_buf_str (b, "]");
}

static int put_view (DpsBuf *b, const DpsView *v)
{
    if (!v)
        return dps_buf_str (b, "null");
    const DpsTracedBuffer *at = dps__traced_find (v->buffer, v->host);
    int bad = dps_buf_printf (b, "{\"t\":\"%s\",", dps_intern_name (v->dtype)) || put_dims (b, "s", v, v->shape);
    if (v->stride)
        bad = bad || dps_buf_str (b, ",") || put_dims (b, "stride", v, v->stride);
    if (v->layout >= DPS_LAYOUT_PACKED)
        bad = bad || dps_buf_printf (b, ",\"pack\":%u", at ? (unsigned)at->orientation : 0);
    for (uint32_t i = 0; i < v->n_parts && !bad; i++)
        bad = dps_buf_printf (b, "%s{\"role\":\"%s\",\"t\":\"%s\",\"bytes\":%llu}", i ? "," : ",\"parts\":[",
                              dps_intern_name (v->parts[i]->role), dps_intern_name (v->parts[i]->dtype),
                              (unsigned long long)v->parts[i]->bytes);
    return bad || dps_buf_str (b, v->n_parts ? "]}" : "}");
}

static int put_views (DpsBuf *b, const char *name, const DpsView *const *views, uint32_t n)
{
    int bad = dps_buf_printf (b, "\"%s\":[", name);
    for (uint32_t i = 0; i < n && !bad; i++)
        bad = dps_buf_str (b, i ? "," : "") || put_view (b, views[i]);
    return bad || dps_buf_str (b, "]");
}

int64_t dps__trace_case (const DpsOp *op)
{
    DpsBuf text = {0};
    int bad = dps_buf_printf (&text, "\"op\":\"%s\",", dps_intern_name (op->id)) || put_views (&text, "in", op->in, op->n_in) ||
              dps_buf_str (&text, ",") || put_views (&text, "out", op->out, op->n_out);
    if (bad) {
        dps_buf_free (&text);
        dps__trace_give_up (DPS_ERR_NOMEM, "out of memory");
        return -1;
    }
    uint64_t hash = dps__bytes_hash (0, text.data, text.len);
    for (size_t i = 0; i < r.n_cases; i++)
        if (r.case_hashes[i] == hash && !strcmp (r.cases[i], text.data)) {
            dps_buf_free (&text);
            return (int64_t)i;
        }
    if (DPS_GROW (r.cases, r.n_cases, r.case_capacity) || DPS_GROW (r.case_hashes, r.n_cases, r.hash_capacity)) {
        dps_buf_free (&text);
        dps__trace_give_up (DPS_ERR_NOMEM, "out of memory");
        return -1;
    }
    r.cases[r.n_cases] = text.data;
    r.case_hashes[r.n_cases] = hash;
    dps__trace_flush (dps_buf_printf (&dps__trace_file.line, "{\"case\":%zu,%s}", r.n_cases, text.data));
    return (int64_t)r.n_cases++;
}

/* What an operand is filled with. */

/* Integers, once each. Returns their number, or -1. */
static int64_t put_data (uint64_t hash, const unsigned char *bytes, uint64_t n)
{
    static const char hex[] = "0123456789abcdef";
    char pair[2];
    for (size_t i = 0; i < r.n_data; i++)
        if (r.data[i] == hash)
            return (int64_t)i;
    if (DPS_GROW (r.data, r.n_data, r.data_capacity)) {
        dps__trace_give_up (DPS_ERR_NOMEM, "out of memory");
        return -1;
    }
    for (uint64_t at = 0; at < n && dps__trace_is_on (); at += DPS_TRACE_PIECE) {
        int bad = dps_buf_printf (&dps__trace_file.line, "{\"data\":%zu,\"at\":%llu,\"bytes\":%llu,\"hex\":\"", r.n_data,
                                  (unsigned long long)at, (unsigned long long)n);
        for (uint64_t i = at; i < n && i < at + DPS_TRACE_PIECE && !bad; i++) {
            pair[0] = hex[bytes[i] >> 4];
            pair[1] = hex[bytes[i] & 15];
            bad = dps_buf_add (&dps__trace_file.line, pair, sizeof pair);
        }
        dps__trace_flush (bad || dps_buf_str (&dps__trace_file.line, "\"}"));
    }
    r.data[r.n_data] = hash;
    return (int64_t)r.n_data++;
}

static void fill_floats (const DpsView *v, uint32_t operand, uint64_t seed, DpsFillText *f)
{
    int64_t n = dps_view_count (v), bad = 0;
    double square = 0, least = 0, largest = 0;
    for (int64_t i = 0; i < n; i++) {
        double x = dps__element (v->dtype, v->host, i);
        if (!isfinite (x)) {
            bad++;
            continue;
        }
        square += x * x;
        least = fmin (least, x);
        largest = fmax (largest, fabs (x));
    }
    const char *kind = bad ? "nan" : largest == 0 ? "zero" : least >= 0 ? "positive" : "normal";
    snprintf (f->text, sizeof f->text, "[%u,\"%s\",%llu,\"%.4g\"]", operand, kind, (unsigned long long)(seed >> 1),
              n > bad ? sqrt (square / (double)(n - bad)) : 0.0);
}

/* Replay has not got what operand i reads: say what to put there. */
static void fill_operand (const DpsOp *op, uint32_t i, const DpsView *v, uint64_t hash, uint64_t bytes, DpsFillText *f)
{
    int64_t limit, keys;
    DpsIndexKind kind = i < op->n_in ? dps__op_index (dps__fill_op (op), op, i, &limit, &keys) : DPS_INDEX_NONE;
    if (v->dtype >= DPS_DTYPE_F32 && v->dtype <= DPS_DTYPE_F64)
        fill_floats (v, i, hash, f);
    else if (kind == DPS_INDEX_TOKENS && !r.ids)
        snprintf (f->text, sizeof f->text, "[%u,\"tokens\",%llu,%lld]", i, (unsigned long long)(hash >> 1), (long long)limit);
    else if (v->dtype < DPS_DTYPE_I32 || v->dtype > DPS_DTYPE_BOOL)
        snprintf (f->text, sizeof f->text, "[%u,\"normal\",%llu,\"1\"]", i,
                  (unsigned long long)(hash >> 1)); /* codes of a quantised weight */
    else {
        int64_t data = put_data (hash, v->host, bytes);
        snprintf (f->text, sizeof f->text, "[%u,\"data\",%lld]", i, (long long)data);
    }
}

static void look_at (const DpsOp *op, uint32_t i, const DpsView *v, DpsFillText *f)
{
    uint64_t bytes = 0, hash;
    if ((!v->host && v->layout < DPS_LAYOUT_PACKED) || !dps_view_contiguous (v) || dps__view_bytes (&r.quants, v, &bytes))
        return;
    DpsTracedBuffer *b = dps__traced_find (v->buffer, v->host);
    uint64_t first = b ? dps__traced_place (v, b) : 0;
    if (v->layout >= DPS_LAYOUT_PACKED) {
        hash = b ? b->packed_seed : 1;
        bytes = b ? b->bytes : 0;
    } else
        hash = dps__bytes_hash (r.key, v->host, bytes);
    if (b && dps__known_is (b->id, first, first + bytes, hash))
        return;
    if (v->layout >= DPS_LAYOUT_PACKED)
        snprintf (f->text, sizeof f->text, "[%u,\"normal\",%llu,\"0.05\"]", i, (unsigned long long)(hash >> 1));
    else if (bytes)
        fill_operand (op, i, v, hash, bytes, f);
    if (b)
        dps__known_put (b->id, first, first + bytes, hash);
}

/* The bytes of a view that is in a device's own memory, in memory that is the caller's; NULL: there are none, or they cannot be had. */
static void *fetched (const DpsExecDevice *d, const DpsView *v)
{
    uint64_t bytes = 0;
    if (!v || v->host || !v->buffer || v->layout >= DPS_LAYOUT_PACKED || dps__view_bytes (&r.quants, v, &bytes) || !bytes)
        return NULL;
    int64_t n = (int64_t)bytes;
    void *here = dps_malloc (bytes, 1);
    DpsView from = dps_view (DPS_DTYPE_U8, 1, &n, NULL), to = dps_view (DPS_DTYPE_U8, 1, &n, here);
    from.buffer = v->buffer;
    from.offset = v->offset;
    if (here && d->backend->copy (d->info.device, &from, &to, NULL) == DPS_OK)
        return here;
    dps_free (here);
    return NULL;
}

void dps__fill_look (const DpsExecDevice *d, const DpsOp *op, uint32_t i, DpsFillText *f)
{
    const DpsView *v = dps_op_operand (op, i);
    void *here = fetched (d, v);
    f->text[0] = '\0';
    if (!v)
        return;
    DpsView seen = *v;
    seen.host = here ? here : v->host;
    look_at (op, i, &seen, f);
    dps_free (here);
}

void dps__fill_wrote (const DpsExecDevice *d, const DpsView *v)
{
    uint64_t bytes = 0;
    const DpsTracedBuffer *b = v ? dps__traced_find (v->buffer, v->host) : NULL;
    if (!b || dps__view_bytes (&r.quants, v, &bytes) || !bytes)
        return;
    void *here = fetched (d, v);
    const void *at = here ? here : v->host;
    if (at)
        dps__known_put (b->id, dps__traced_place (v, b), dps__traced_place (v, b) + bytes, dps__bytes_hash (r.key, at, bytes));
    dps_free (here);
}

void dps__fill_packed (DpsTracedBuffer *b, const DpsView *from, int64_t row, uint32_t orientation)
{
    uint64_t bytes = 0;
    if (!from->host || dps__view_bytes (&r.quants, from, &bytes))
        return;
    b->packed_seed = row ? b->packed_seed : r.key;
    b->packed_seed = dps__bytes_hash (b->packed_seed, from->host, bytes) | 1;
    b->orientation = orientation;
}
