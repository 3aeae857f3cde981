/* SPDX-License-Identifier: Apache-2.0 */
/* trace.c: the layer that records calls; one record a process. */
#include "exec/trace.h"

#include <string.h>

#include "base/json.h"
#include "exec/layer.h"
#include "exec/trace_write.h"
#include "plugin/host.h"

typedef struct Tracer {
    DpsCallLayer layer;
    DpsBackend table;
    DpsPack pack;
    int index, announced;
} Tracer;

DpsStatus dps_trace_begin (const DpsTraceOptions *o, DpsError *err)
{
    if (dps__trace_is_on ())
        return DPS_OK;
    DPS_TRY (dps__fills_begin (o->ids, err));
    DPS_TRY (dps__trace_file_begin (o->path, o->limit ? o->limit : (uint64_t)256 << 20, err));
    DpsTraceFile *f = &dps__trace_file;
    dps__trace_flush (dps_buf_printf (&f->line, "{\"diapason_record\":%d,\"version\":\"%s\",\"contents\":\"seeds\",\"ids\":\"%s\"}",
                                      DPS_TRACE_VERSION, DIAPASON_VERSION, o->ids ? "recorded" : "synthetic"));
    return f->status == DPS_OK ? DPS_OK : dps_fail (err, f->status, "%s", f->err.msg);
}

DpsStatus dps_trace_end (DpsError *err)
{
    DpsStatus st = dps__trace_file_end (err);
    dps__traced_clear ();
    dps__fills_clear ();
    return st;
}

static void announce (Tracer *t)
{
    const DpsExecDevice *d = &t->layer.below;
    t->announced = 1;
    const char *detail = d->info.detail ? d->info.detail : "";
    dps__trace_flush (dps_buf_printf (&dps__trace_file.line,
                                      "{\"device\":%d,\"name\":\"%s\",\"plugin\":\"%s\",\"sha256\":\"%s\",\"detail\":", t->index,
                                      d->info.name, d->plugin->id, d->plugin->digest.hex) ||
                      dps_json_quote (&dps__trace_file.line, detail, strlen (detail)) || dps_buf_str (&dps__trace_file.line, "}"));
}

static int put_places (const DpsOp *op)
{
    int bad = dps_buf_str (&dps__trace_file.line, "\"at\":[");
    for (uint32_t i = 0; i < op->n_in + op->n_out && !bad; i++) {
        const DpsView *v = dps_op_operand (op, i);
        const DpsTracedBuffer *b = v ? dps__traced_find (v->buffer, v->host) : NULL;
        bad = dps_buf_str (&dps__trace_file.line, i ? "," : "");
        if (!v)
            bad = bad || dps_buf_str (&dps__trace_file.line, "null");
        else if (!b)
            bad = bad || dps_buf_str (&dps__trace_file.line, "[0,0]");
        else
            bad = bad || dps_buf_printf (&dps__trace_file.line, "[%llu,%llu]", (unsigned long long)b->id,
                                         (unsigned long long)dps__traced_place (v, b));
    }
    return bad || dps_buf_str (&dps__trace_file.line, "]");
}

static void write_call (const Tracer *t, const DpsOp *op, int64_t number, const DpsFillText *fills)
{
    int bad = dps_buf_printf (&dps__trace_file.line, "{\"call\":%llu,\"case\":%lld,\"on\":%d,", (unsigned long long)dps__trace_file.n_calls,
                              (long long)number, t->index) ||
              put_places (op) || dps_buf_str (&dps__trace_file.line, ",\"attrs\":[");
    for (uint32_t i = 0; i < op->n_attrs && !bad; i++)
        bad = dps_buf_printf (&dps__trace_file.line, "%s%lld", i ? "," : "", (long long)op->attrs[i].i);
    bad = bad || dps_buf_str (&dps__trace_file.line, "],\"fill\":[");
    const char *gap = "";
    for (uint32_t i = 0; i < op->n_in + op->n_out && !bad; i++)
        if (fills[i].text[0]) {
            bad = dps_buf_printf (&dps__trace_file.line, "%s%s", gap, fills[i].text);
            gap = ",";
        }
    dps__trace_flush (bad || dps_buf_str (&dps__trace_file.line, "]}"));
}

static DpsStatus run_traced (Tracer *t, const DpsOp *op, DpsError *err)
{
    const DpsExecDevice *d = &t->layer.below;
    DpsOpCode code = dps__fill_op (op);
    DpsFillText fills[DPS_OPERANDS_MAX];
    DpsError why = DPS_ERROR_INIT;
    if (!t->announced)
        announce (t);
    int64_t number = dps__trace_case (op);
    for (uint32_t i = 0; i < op->n_in + op->n_out; i++) {
        fills[i].text[0] = '\0';
        if (i < op->n_in || dps__op_keeps_output (code))
            dps__fill_look (d, op, i, &fills[i]);
    }
    if (dps__trace_is_on ())
        write_call (t, op, number, fills);
    DpsStatus st = d->backend->run (d->info.device, op, 0, &why);
    for (uint32_t i = 0; i < op->n_out && dps__trace_is_on (); i++)
        dps__fill_wrote (d, op->out[i]);
    if (st != DPS_OK && dps__trace_is_on ())
        dps__trace_flush (dps_buf_printf (&dps__trace_file.line, "{\"failed\":%llu,\"status\":\"%s\",\"message\":",
                                          (unsigned long long)dps__trace_file.n_calls, dps_status_name (st)) ||
                          dps_json_quote (&dps__trace_file.line, why.msg, strlen (why.msg)) || dps_buf_str (&dps__trace_file.line, "}"));
    dps__trace_file.n_calls++;
    return st == DPS_OK ? DPS_OK : dps_fail (err, st, "%s", why.msg);
}

static Tracer *of (struct DpsDevice *dev) { return (Tracer *)(void *)dev; }
static struct DpsDevice *device (const Tracer *t) { return t->layer.below.info.device; }

static DpsStatus traced_run (struct DpsDevice *dev, const DpsOp *op, uint32_t flags, DpsError *err)
{
    Tracer *t = of (dev);
    if (flags & DPS_RUN_DRY || !dps__trace_is_on () || op->n_in + op->n_out > DPS_OPERANDS_MAX)
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
    if (!dps__trace_is_on ())
        return DPS_OK;
    const DpsTracedBuffer *b = dps__traced_add (*out, host, bytes);
    if (b)
        dps__trace_flush (dps_buf_printf (&dps__trace_file.line, "{\"alloc\":%llu,\"bytes\":%llu}", (unsigned long long)b->id,
                                          (unsigned long long)bytes));
    else
        dps__trace_give_up (DPS_ERR_NOMEM, "out of memory");
    return DPS_OK;
}

static void traced_free (struct DpsDevice *dev, struct DpsBuffer *buffer)
{
    Tracer *t = of (dev);
    DpsTracedBuffer *b = buffer ? dps__traced_find (buffer, NULL) : NULL;
    if (b) {
        if (dps__trace_is_on ())
            dps__trace_flush (dps_buf_printf (&dps__trace_file.line, "{\"free\":%llu}", (unsigned long long)b->id));
        dps__traced_drop (b);
    }
    t->layer.below.backend->free (device (t), buffer);
}

static DpsStatus traced_copy (struct DpsDevice *dev, const DpsView *from, const DpsView *to, DpsError *err)
{
    DPS_TRY (of (dev)->layer.below.backend->copy (device (of (dev)), from, to, err));
    const DpsTracedBuffer *b = dps__trace_is_on () ? dps__traced_find (to->buffer, to->host) : NULL;
    if (b)
        dps__known_forget (b->id, 0, UINT64_MAX); /* it is filled when it is read next */
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
    DpsTracedBuffer *b = dps__trace_is_on () ? dps__traced_find (to->buffer, to->host) : NULL;
    if (b)
        dps__fill_packed (b, from, row, orientation);
    return of (dev)->layer.below.pack->pack (device (of (dev)), from, row, orientation, to, err);
}

static DpsStatus traced_unpack_rows (struct DpsDevice *dev, const DpsView *packed, const int32_t *ids, int64_t n, const DpsView *y,
                                     DpsError *err)
{
    return of (dev)->layer.below.pack->unpack_rows (device (of (dev)), packed, ids, n, y, err);
}

static void traced_close (DpsCallLayer *layer) { dps_free (layer); }

DpsStatus dps__trace_add (DpsExecDevice *d, int index, DpsError *err)
{
    if (!dps__trace_is_on ())
        return DPS_OK;
    Tracer *t = dps_calloc (1, sizeof *t);
    if (!t)
        return dps_fail (err, DPS_ERR_NOMEM, "record: out of memory");
    t->layer = (DpsCallLayer){.below = *d, .close = traced_close};
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
