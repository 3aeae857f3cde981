/* SPDX-License-Identifier: Apache-2.0 */
/* trace.c: the layer that records calls; one record a process, written as the calls are made: what is read after a crash ends with the culprit. */
#include "exec/trace.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

#include "base/json.h"
#include "base/mem.h"
#include "exec/layer.h"
#include "exec/operands.h"
#include "exec/trace_write.h"
#include "plugin/host.h"

typedef struct Tracer {
    DpsLayer layer;
    DpsBackend table;
    DpsPack pack;
    int index, announced;
} Tracer;

/** A live buffer. */
typedef struct Buffer {
    const struct DpsBuffer *handle;
    const char *host;
    uint64_t bytes, id;
    uint64_t packed_seed; /* of the rows it was packed from, 0: not packed */
    uint32_t orientation;
} Buffer;

/** A range whose contents replay has: the hash of what was there when they were last seen. */
typedef struct Known {
    uint64_t buffer, first, end, hash;
} Known;

static struct {
    uint64_t key, n_buffers;
    int ids;
    DpsQuantNames quants;
    uint32_t op_ids[DPS_OP_COUNT];
    Buffer *buffers;
    size_t n_live, buffer_capacity;
    Known *known;
    size_t n_known, known_capacity;
} r;

DpsStatus dps_trace_begin (const DpsTraceOptions *o, DpsError *err)
{
    if (dps__trace_recording ())
        return DPS_OK;
    r.ids = o->ids;
    if (dps_quant_names (dps__intern, &r.quants))
        return dps_fail (err, DPS_ERR_NOMEM, "%s: out of memory", o->path);
    for (int i = 0; i < DPS_OP_COUNT; i++)
        r.op_ids[i] = dps_intern (dps_op_name ((DpsOpCode)i));
    if (getrandom (&r.key, sizeof r.key, 0) != (ssize_t)sizeof r.key)
        return dps_fail (err, DPS_ERR_IO, "%s: no random key: %s", o->path, strerror (errno));
    DPS_TRY (dps__trace_create (o->path, o->limit ? o->limit : (uint64_t)256 << 20, err));
    dps__trace_flush (dps_buf_printf (&dps__trace_out.line,
                                      "{\"diapason_record\":%d,\"version\":\"%s\",\"contents\":\"seeds\",\"ids\":\"%s\"}",
                                      DPS_TRACE_VERSION, DIAPASON_VERSION, r.ids ? "recorded" : "synthetic"));
    return dps__trace_status (err);
}

DpsStatus dps_trace_end (DpsError *err)
{
    dps_free (r.buffers);
    dps_free (r.known);
    memset (&r, 0, sizeof r);
    return dps__trace_finish (err);
}

/* Buffers, and what is known of their contents. */

static Buffer *buffer_of (const struct DpsBuffer *handle, const void *host)
{
    const char *at = host;
    for (size_t i = r.n_live; i-- > 0;) {
        Buffer *b = &r.buffers[i];
        if (handle ? b->handle == handle : at && b->host && at >= b->host && at < b->host + b->bytes)
            return b;
    }
    return NULL;
}

/* Where in its buffer a view begins. A view may have the host's copy of what a device's own memory holds beside it. */
static uint64_t place_of (const DpsView *v, const Buffer *b)
{
    return v->buffer || !b->host ? v->offset : (uint64_t)((const char *)v->host - b->host);
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

static void forget (uint64_t buffer, uint64_t first, uint64_t end)
{
    size_t kept = 0;
    for (size_t i = 0; i < r.n_known; i++)
        if (r.known[i].buffer != buffer || r.known[i].end <= first || end <= r.known[i].first)
            r.known[kept++] = r.known[i];
    r.n_known = kept;
}

static const Known *find_known (uint64_t buffer, uint64_t first, uint64_t end)
{
    for (size_t i = r.n_known; i-- > 0;)
        if (r.known[i].buffer == buffer && r.known[i].first == first && r.known[i].end == end)
            return &r.known[i];
    return NULL;
}

static void know (uint64_t buffer, uint64_t first, uint64_t end, uint64_t hash)
{
    forget (buffer, first, end);
    if (DPS_GROW (r.known, r.n_known, r.known_capacity))
        return; /* it is filled once more */
    r.known[r.n_known++] = (Known){buffer, first, end, hash};
}

/* Cases. */

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
    const Buffer *at = buffer_of (v->buffer, v->host);
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

static int64_t case_of (const DpsOp *op)
{
    DpsBuf text = {0};
    int bad = dps_buf_printf (&text, "\"op\":\"%s\",", dps_intern_name (op->id)) || put_views (&text, "in", op->in, op->n_in) ||
              dps_buf_str (&text, ",") || put_views (&text, "out", op->out, op->n_out);
    if (bad) {
        dps_buf_free (&text);
        dps__trace_give_up (DPS_ERR_NOMEM, "out of memory");
        return -1;
    }
    return dps__trace_case (&text);
}

/* What an operand is filled with. */

typedef struct Fill {
    char text[96]; /* F of the format, "" when none is needed */
} Fill;

static void fill_floats (const DpsView *v, uint32_t operand, uint64_t seed, Fill *f)
{
    int64_t n = dps__view_count (v), bad = 0;
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
static void fill_operand (const DpsOp *op, uint32_t i, const DpsView *v, DpsOpCode code, uint64_t hash, uint64_t bytes, Fill *f)
{
    int64_t limit, keys;
    DpsIndexKind kind = i < op->n_in ? dps__op_index (code, op, i, &limit, &keys) : DPS_INDEX_NONE;
    if (v->dtype >= DPS_DTYPE_F32 && v->dtype <= DPS_DTYPE_F64)
        fill_floats (v, i, hash, f);
    else if (kind == DPS_INDEX_TOKENS && !r.ids)
        snprintf (f->text, sizeof f->text, "[%u,\"tokens\",%llu,%lld]", i, (unsigned long long)(hash >> 1), (long long)limit);
    else if (v->dtype < DPS_DTYPE_I32 || v->dtype > DPS_DTYPE_BOOL)
        snprintf (f->text, sizeof f->text, "[%u,\"normal\",%llu,\"1\"]", i,
                  (unsigned long long)(hash >> 1)); /* codes of a quantised weight */
    else {
        int64_t data = dps__trace_data (hash, v->host, bytes);
        snprintf (f->text, sizeof f->text, "[%u,\"data\",%lld]", i, (long long)data);
    }
}

static void look_at (const DpsOp *op, uint32_t i, const DpsView *v, DpsOpCode code, Fill *f)
{
    uint64_t bytes = 0, hash;
    if ((!v->host && v->layout < DPS_LAYOUT_PACKED) || !dps__view_contiguous (v) || dps__view_bytes (&r.quants, v, &bytes))
        return;
    Buffer *b = buffer_of (v->buffer, v->host);
    uint64_t first = b ? place_of (v, b) : 0;
    if (v->layout >= DPS_LAYOUT_PACKED) {
        hash = b ? b->packed_seed : 1;
        bytes = b ? b->bytes : 0;
    } else
        hash = dps__bytes_hash (r.key, v->host, bytes);
    const Known *k = b ? find_known (b->id, first, first + bytes) : NULL;
    if (k && k->hash == hash)
        return;
    if (v->layout >= DPS_LAYOUT_PACKED)
        snprintf (f->text, sizeof f->text, "[%u,\"normal\",%llu,\"0.05\"]", i, (unsigned long long)(hash >> 1));
    else if (bytes)
        fill_operand (op, i, v, code, hash, bytes, f);
    if (b)
        know (b->id, first, first + bytes, hash);
}

/* The same, with the bytes where they can be looked at. */
static void look (const Tracer *t, const DpsOp *op, uint32_t i, DpsOpCode code, Fill *f)
{
    const DpsView *v = dps__operand (op, i);
    void *here = fetched (&t->layer.below, v);
    f->text[0] = '\0';
    if (!v)
        return;
    DpsView seen = *v;
    seen.host = here ? here : v->host;
    look_at (op, i, &seen, code, f);
    dps_free (here);
}

/* After a call: replay has what it wrote. */
static void wrote (const Tracer *t, const DpsView *v)
{
    uint64_t bytes = 0;
    const Buffer *b = v ? buffer_of (v->buffer, v->host) : NULL;
    if (!b || dps__view_bytes (&r.quants, v, &bytes) || !bytes)
        return;
    void *here = fetched (&t->layer.below, v);
    const void *at = here ? here : v->host;
    if (at)
        know (b->id, place_of (v, b), place_of (v, b) + bytes, dps__bytes_hash (r.key, at, bytes));
    dps_free (here);
}

/* Calls. */

static void announce (Tracer *t)
{
    const DpsExecDevice *d = &t->layer.below;
    t->announced = 1;
    const char *detail = d->info.detail ? d->info.detail : "";
    dps__trace_flush (dps_buf_printf (&dps__trace_out.line,
                                      "{\"device\":%d,\"name\":\"%s\",\"plugin\":\"%s\",\"sha256\":\"%s\",\"detail\":", t->index,
                                      d->info.name, d->plugin->id, d->plugin->digest.hex) ||
                      dps_json_quote (&dps__trace_out.line, detail, strlen (detail)) || dps_buf_str (&dps__trace_out.line, "}"));
}

static int put_places (const DpsOp *op)
{
    int bad = dps_buf_str (&dps__trace_out.line, "\"at\":[");
    for (uint32_t i = 0; i < op->n_in + op->n_out && !bad; i++) {
        const DpsView *v = dps__operand (op, i);
        const Buffer *b = v ? buffer_of (v->buffer, v->host) : NULL;
        bad = dps_buf_str (&dps__trace_out.line, i ? "," : "");
        if (!v)
            bad = bad || dps_buf_str (&dps__trace_out.line, "null");
        else if (!b)
            bad = bad || dps_buf_str (&dps__trace_out.line, "[0,0]");
        else
            bad =
                bad || dps_buf_printf (&dps__trace_out.line, "[%llu,%llu]", (unsigned long long)b->id, (unsigned long long)place_of (v, b));
    }
    return bad || dps_buf_str (&dps__trace_out.line, "]");
}

static void write_call (const Tracer *t, const DpsOp *op, int64_t number, const Fill *fills)
{
    int bad = dps_buf_printf (&dps__trace_out.line, "{\"call\":%llu,\"case\":%lld,\"on\":%d,", (unsigned long long)dps__trace_out.n_calls,
                              (long long)number, t->index) ||
              put_places (op) || dps_buf_str (&dps__trace_out.line, ",\"attrs\":[");
    for (uint32_t i = 0; i < op->n_attrs && !bad; i++)
        bad = dps_buf_printf (&dps__trace_out.line, "%s%lld", i ? "," : "", (long long)op->attrs[i].i);
    bad = bad || dps_buf_str (&dps__trace_out.line, "],\"fill\":[");
    const char *gap = "";
    for (uint32_t i = 0; i < op->n_in + op->n_out && !bad; i++)
        if (fills[i].text[0]) {
            bad = dps_buf_printf (&dps__trace_out.line, "%s%s", gap, fills[i].text);
            gap = ",";
        }
    dps__trace_flush (bad || dps_buf_str (&dps__trace_out.line, "]}"));
}

static DpsStatus run_traced (Tracer *t, const DpsOp *op, DpsError *err)
{
    const DpsExecDevice *d = &t->layer.below;
    DpsOpCode code = dps__op_code (r.op_ids, op->id);
    Fill fills[DPS_OPERANDS_MAX];
    DpsError why = DPS_ERROR_INIT;
    if (!t->announced)
        announce (t);
    int64_t number = case_of (op);
    for (uint32_t i = 0; i < op->n_in + op->n_out; i++) {
        fills[i].text[0] = '\0';
        if (i < op->n_in || dps__op_keeps_output (code))
            look (t, op, i, code, &fills[i]);
    }
    if (dps__trace_recording ())
        write_call (t, op, number, fills);
    DpsStatus st = d->backend->run (d->info.device, op, 0, &why);
    for (uint32_t i = 0; i < op->n_out && dps__trace_recording (); i++)
        wrote (t, op->out[i]);
    if (st != DPS_OK && dps__trace_recording ())
        dps__trace_flush (dps_buf_printf (&dps__trace_out.line, "{\"failed\":%llu,\"status\":\"%s\",\"message\":",
                                          (unsigned long long)dps__trace_out.n_calls, dps_status_name (st)) ||
                          dps_json_quote (&dps__trace_out.line, why.msg, strlen (why.msg)) || dps_buf_str (&dps__trace_out.line, "}"));
    dps__trace_out.n_calls++;
    return st == DPS_OK ? DPS_OK : dps_fail (err, st, "%s", why.msg);
}

static Tracer *of (struct DpsDevice *dev) { return (Tracer *)(void *)dev; }
static struct DpsDevice *device (const Tracer *t) { return t->layer.below.info.device; }

static DpsStatus traced_run (struct DpsDevice *dev, const DpsOp *op, uint32_t flags, DpsError *err)
{
    Tracer *t = of (dev);
    if (flags & DPS_RUN_DRY || !dps__trace_recording () || op->n_in + op->n_out > DPS_OPERANDS_MAX)
        return t->layer.below.backend->run (device (t), op, flags, err);
    return run_traced (t, op, err);
}

static DpsStatus traced_alloc (struct DpsDevice *dev, uint64_t bytes, struct DpsBuffer **out, void **out_host, DpsError *err)
{
    Tracer *t = of (dev);
    void *host = NULL;
    DPS_TRY (t->layer.below.backend->alloc (device (t), bytes, out, &host, err));
    if (out_host)
        *out_host = host;
    if (!dps__trace_recording ())
        return DPS_OK;
    if (DPS_GROW (r.buffers, r.n_live, r.buffer_capacity)) {
        dps__trace_give_up (DPS_ERR_NOMEM, "out of memory");
        return DPS_OK;
    }
    r.buffers[r.n_live++] = (Buffer){.handle = *out, .host = host, .bytes = bytes, .id = ++r.n_buffers};
    dps__trace_flush (dps_buf_printf (&dps__trace_out.line, "{\"alloc\":%llu,\"bytes\":%llu}", (unsigned long long)r.n_buffers,
                                      (unsigned long long)bytes));
    return DPS_OK;
}

static void traced_free (struct DpsDevice *dev, struct DpsBuffer *buffer)
{
    Tracer *t = of (dev);
    Buffer *b = buffer ? buffer_of (buffer, NULL) : NULL;
    if (b) {
        if (dps__trace_recording ())
            dps__trace_flush (dps_buf_printf (&dps__trace_out.line, "{\"free\":%llu}", (unsigned long long)b->id));
        forget (b->id, 0, UINT64_MAX);
        *b = r.buffers[--r.n_live];
    }
    t->layer.below.backend->free (device (t), buffer);
}

static DpsStatus traced_copy (struct DpsDevice *dev, const DpsView *from, const DpsView *to, DpsError *err)
{
    DPS_TRY (of (dev)->layer.below.backend->copy (device (of (dev)), from, to, err));
    const Buffer *b = dps__trace_recording () ? buffer_of (to->buffer, to->host) : NULL;
    if (b)
        forget (b->id, 0, UINT64_MAX); /* it is filled when it is read next */
    return DPS_OK;
}

static DpsStatus traced_mem_info (struct DpsDevice *dev, uint64_t *out_free, uint64_t *out_total, DpsError *err)
{
    return of (dev)->layer.below.backend->mem_info (device (of (dev)), out_free, out_total, err);
}

static uint32_t traced_determinism (struct DpsDevice *dev) { return of (dev)->layer.below.backend->determinism (device (of (dev))); }

static DpsStatus traced_query (struct DpsDevice *dev, int64_t o, int64_t k, uint32_t dtype, uint32_t orientation, uint64_t *bytes,
                               uint32_t *layout, DpsError *err)
{
    return of (dev)->layer.below.pack->query (device (of (dev)), o, k, dtype, orientation, bytes, layout, err);
}

/* A packed weight's seed is that of its rows, so that both orientations of one weight have the same. */
static DpsStatus traced_pack (struct DpsDevice *dev, const DpsView *from, int64_t row, uint32_t orientation, const DpsView *to,
                              DpsError *err)
{
    uint64_t bytes = 0;
    Buffer *b = dps__trace_recording () ? buffer_of (to->buffer, to->host) : NULL;
    if (b && from->host && !dps__view_bytes (&r.quants, from, &bytes)) {
        b->packed_seed = row ? b->packed_seed : r.key;
        b->packed_seed = dps__bytes_hash (b->packed_seed, from->host, bytes) | 1;
        b->orientation = orientation;
    }
    return of (dev)->layer.below.pack->pack (device (of (dev)), from, row, orientation, to, err);
}

static DpsStatus traced_unpack_rows (struct DpsDevice *dev, const DpsView *packed, const int32_t *ids, int64_t n, const DpsView *y,
                                     DpsError *err)
{
    return of (dev)->layer.below.pack->unpack_rows (device (of (dev)), packed, ids, n, y, err);
}

static void traced_close (DpsLayer *layer) { dps_free (layer); }

DpsStatus dps__trace_add (DpsExecDevice *d, int index, DpsError *err)
{
    if (!dps__trace_recording ())
        return DPS_OK;
    Tracer *t = dps_calloc (1, sizeof *t);
    if (!t)
        return dps_fail (err, DPS_ERR_NOMEM, "record: out of memory");
    t->layer = (DpsLayer){.below = *d, .close = traced_close};
    t->index = index;
    t->table = (DpsBackend){.size = sizeof t->table,
                            .enumerate = d->backend->enumerate,
                            .alloc = traced_alloc,
                            .free = traced_free,
                            .copy = traced_copy,
                            .run = traced_run,
                            .mem_info = d->backend->mem_info ? traced_mem_info : NULL,
                            .determinism = d->backend->determinism ? traced_determinism : NULL};
    if (d->pack)
        t->pack = (DpsPack){.size = sizeof t->pack,
                            .query = traced_query,
                            .pack = traced_pack,
                            .unpack_rows = d->pack->unpack_rows ? traced_unpack_rows : NULL};
    d->backend = &t->table;
    d->pack = d->pack ? &t->pack : NULL;
    d->info.device = (struct DpsDevice *)(void *)t;
    d->layer = &t->layer;
    return DPS_OK;
}
