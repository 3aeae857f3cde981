/* SPDX-License-Identifier: Apache-2.0 */
#include "exec/stage.h"

#include <string.h>

#include "base/mem.h"
#include "exec/operands.h"
#include "exec/prepared.h"

enum { ALIGN = 64 };

static uint64_t aligned (uint64_t bytes) { return (bytes + ALIGN - 1) / ALIGN * ALIGN; }

static int shares (const DpsExecDevice *d) { return (d->info.flags & DPS_DEVICE_HOST_MEMORY) != 0; }

int dps_exec_shares (const DpsExec *ex) { return shares (&ex->devices[0]); }

DpsView dps_block_view (uint32_t dtype, uint32_t rank, const int64_t *shape, const DpsBlock *block, uint64_t offset)
{
    DpsView v = dps_view (dtype, rank, shape, block->host ? (char *)block->host + offset : NULL);
    v.buffer = block->buffer;
    v.offset = offset;
    return v;
}

/* Bytes between host memory and a buffer of a device. */
static DpsStatus move (const DpsExecDevice *d, struct DpsBuffer *buffer, uint64_t offset, void *host, uint64_t bytes, int to_host,
                       DpsError *err)
{
    int64_t n = (int64_t)bytes;
    DpsView here = dps_view (DPS_DTYPE_U8, 1, &n, host), there = dps_view (DPS_DTYPE_U8, 1, &n, NULL);
    there.buffer = buffer;
    there.offset = offset;
    return bytes ? d->backend->copy (d->info.device, to_host ? &there : &here, to_host ? &here : &there, err) : DPS_OK;
}

DpsStatus dps_block_put (DpsExec *ex, const DpsBlock *to, uint64_t offset, const void *from, uint64_t bytes, DpsError *err)
{
    if (!to->host)
        return move (&ex->devices[0], to->buffer, offset, (void *)from, bytes, 0, err);
    if (bytes && (char *)to->host + offset != from)
        memcpy ((char *)to->host + offset, from, bytes);
    return DPS_OK;
}

DpsStatus dps_block_get (DpsExec *ex, const DpsBlock *from, uint64_t offset, void *to, uint64_t bytes, DpsError *err)
{
    if (!from->host)
        return move (&ex->devices[0], from->buffer, offset, to, bytes, 1, err);
    if (bytes)
        memcpy (to, (const char *)from->host + offset, bytes);
    return DPS_OK;
}

DpsStatus dps_block_zero (DpsExec *ex, const DpsBlock *block, uint64_t offset, uint64_t bytes, DpsError *err)
{
    int64_t n = (int64_t)bytes;
    if (block->host) {
        memset ((char *)block->host + offset, 0, bytes);
        return DPS_OK;
    }
    DpsView y = dps_block_view (DPS_DTYPE_U8, 1, &n, block, offset);
    return bytes ? dps_exec_op (ex, DPS_OP_fill, (DpsOp){DPS_OUT (&y), DPS_ATTRS ({.f = 0})}, err) : DPS_OK;
}

static DpsStatus grown (void **memory, uint64_t *have, uint64_t bytes, DpsError *err)
{
    if (bytes <= *have)
        return DPS_OK;
    void *larger = dps_aligned_alloc (ALIGN, bytes, 1);
    if (!larger)
        return dps_fail (err, DPS_ERR_NOMEM, "exec: no memory for %llu bytes beside a device's", (unsigned long long)bytes);
    dps_free (*memory);
    *memory = larger;
    *have = bytes;
    return DPS_OK;
}

/* The mirror is as large as the arena, of which only what is fetched is ever touched. */
DpsStatus dps_exec_fetch (DpsExec *ex, const DpsGraph *g, DpsNode node, DpsError *err)
{
    if (node < 0 || ex->arena.host || ex->dry)
        return DPS_OK;
    const DpsTensor *t = &g->tensors[node];
    DPS_TRY (grown (&ex->mirror, &ex->mirror_bytes, ex->arena.bytes, err));
    return dps_block_get (ex, &ex->arena, t->offset, (char *)ex->mirror + t->offset, dps_tensor_bytes (t), err);
}

/* Staging. */

static DpsStatus view_bytes (const DpsExec *ex, const DpsView *v, uint64_t *out, DpsError *err)
{
    uint64_t parts[DPS_QPARTS];
    DpsQuantised q;
    *out = (uint64_t)dps_view_count (v) * dps_dtype_bytes (v->dtype);
    if (v->layout != DPS_LAYOUT_ROW_MAJOR || v->stride)
        return dps_fail (err, DPS_ERR_UNSUPPORTED, "exec: an operand in a layout of '%s' on another device", ex->devices[0].info.name);
    if (dps_quant_find (&ex->quants, v->dtype) == DPS_QUANT_NONE)
        return DPS_OK;
    DPS_TRY (dps_quant_from_view (&ex->quants, v, 0, &q, err));
    return dps_quant_bytes (&q.form, q.rows, q.cols, out, parts, err);
}

static int reaches (const DpsExec *ex, int device, struct DpsBuffer *buffer, const void *host)
{
    return shares (&ex->devices[device]) ? host != NULL : device == 0 && buffer != NULL;
}

/* An operand and its parts: a copy of the view that points to the staged bytes. */
typedef struct Staged {
    const DpsView *of;
    DpsView view;
    DpsPart parts[DPS_QPARTS];
    const DpsPart *list[DPS_QPARTS];
    uint64_t at[1 + DPS_QPARTS], bytes[1 + DPS_QPARTS]; /* in the staging area: the elements, then the parts */
    int is_out;
} Staged;

typedef struct Stage {
    Staged items[DPS_OPERANDS_MAX];
    int n;
    uint64_t total;
} Stage;

static int same_place (const DpsView *a, const DpsView *b)
{
    return a->buffer == b->buffer && a->offset == b->offset && a->host == b->host;
}

/* The operand itself where the device reaches it, else its staged form: one for all operands in one place. */
static DpsStatus stage (DpsExec *ex, int device, Stage *s, const DpsView *v, int is_out, const DpsView **out, DpsError *err)
{
    *out = v;
    if (!v || dps_view_count (v) == 0 || reaches (ex, device, v->buffer, v->host))
        return DPS_OK;
    for (int i = 0; i < s->n; i++)
        if (same_place (s->items[i].of, v) && s->items[i].of->dtype == v->dtype && dps_view_count (s->items[i].of) == dps_view_count (v)) {
            s->items[i].is_out |= is_out;
            *out = &s->items[i].view;
            return DPS_OK;
        }
    Staged *item = &s->items[s->n++];
    *item = (Staged){.of = v, .view = *v, .is_out = is_out};
    DPS_TRY (view_bytes (ex, v, &item->bytes[0], err));
    for (uint32_t p = 0; p < v->n_parts && p < DPS_QPARTS; p++) {
        item->parts[p] = *v->parts[p];
        item->list[p] = &item->parts[p];
        item->bytes[1 + p] = v->parts[p]->bytes;
    }
    item->view.parts = item->list;
    for (uint32_t p = 0; p <= v->n_parts; p++) {
        item->at[p] = s->total;
        s->total += aligned (item->bytes[p]);
    }
    *out = &item->view;
    return DPS_OK;
}

/* Where the bytes of an operand (piece 0) or of its part are at home. */
static void home (const Staged *item, uint32_t piece, struct DpsBuffer **buffer, uint64_t *offset, char **host)
{
    *buffer = piece ? item->of->parts[piece - 1]->buffer : item->of->buffer;
    *offset = piece ? item->of->parts[piece - 1]->offset : item->of->offset;
    *host = piece ? item->of->parts[piece - 1]->host : item->of->host;
}

/* Between home and the staging area in host memory, and between that and the device where it does not share it. */
static DpsStatus transfer (DpsExec *ex, int device, const Stage *s, int back, DpsError *err)
{
    const DpsExecDevice *d = &ex->devices[device];
    struct DpsBuffer *there = shares (d) ? NULL : ex->staged[device].buffer;
    for (int i = 0; i < s->n; i++)
        for (uint32_t p = 0; p <= (back ? 0 : s->items[i].of->n_parts); p++) {
            const Staged *item = &s->items[i];
            struct DpsBuffer *buffer;
            uint64_t offset, bytes = item->bytes[p];
            char *host, *here = (char *)ex->stage + item->at[p];
            if (back && !item->is_out)
                continue;
            home (item, p, &buffer, &offset, &host);
            if (back && there)
                DPS_TRY (move (d, there, item->at[p], here, bytes, 1, err));
            if (host && bytes)
                memcpy (back ? host : here, back ? here : host, bytes);
            else if (!host)
                DPS_TRY (move (&ex->devices[0], buffer, offset, here, bytes, !back, err));
            if (!back && there)
                DPS_TRY (move (d, there, item->at[p], here, bytes, 0, err));
        }
    return DPS_OK;
}

DpsStatus dps__stage_room (DpsExec *ex, int device, uint64_t bytes, DpsBlock **out, DpsError *err)
{
    const DpsExecDevice *d = &ex->devices[device];
    DpsBlock *there = *out = &ex->staged[device];
    if (there->bytes >= bytes)
        return DPS_OK;
    if (there->buffer)
        d->backend->free (d->info.device, there->buffer);
    *there = (DpsBlock){0};
    DPS_TRY (d->backend->alloc (d->info.device, bytes, &there->buffer, &there->host, err));
    there->bytes = bytes;
    return DPS_OK;
}

static DpsStatus make_room (DpsExec *ex, int device, Stage *s, DpsError *err)
{
    const DpsExecDevice *d = &ex->devices[device];
    DpsBlock *there = &ex->staged[device];
    DPS_TRY (grown (&ex->stage, &ex->stage_bytes, s->total, err));
    if (!shares (d))
        DPS_TRY (dps__stage_room (ex, device, s->total, &there, err));
    for (int i = 0; i < s->n; i++)
        for (uint32_t p = 0; p <= s->items[i].of->n_parts; p++) {
            Staged *item = &s->items[i];
            void *host = shares (d) ? (char *)ex->stage + item->at[p] : NULL;
            struct DpsBuffer *buffer = shares (d) ? NULL : there->buffer;
            *(p ? &item->parts[p - 1].host : &item->view.host) = host;
            *(p ? &item->parts[p - 1].buffer : &item->view.buffer) = buffer;
            *(p ? &item->parts[p - 1].offset : &item->view.offset) = shares (d) ? 0 : item->at[p];
        }
    return DPS_OK;
}

DpsStatus dps__exec_call (DpsExec *ex, int device, const DpsOp *o, uint32_t flags, DpsError *err)
{
    const DpsExecDevice *d = &ex->devices[device];
    const DpsView *in[DPS_OP_MAX_IN], *out[DPS_OP_MAX_OUT];
    Stage s;
    s.n = 0;
    s.total = 0;
    if (flags & DPS_RUN_DRY || o->n_in > DPS_OP_MAX_IN || o->n_out > DPS_OP_MAX_OUT)
        return d->backend->run (d->info.device, o, flags, err);
    for (uint32_t i = 0; i < o->n_out; i++)
        DPS_TRY (stage (ex, device, &s, o->out[i], 1, &out[i], err));
    for (uint32_t i = 0; i < o->n_in; i++)
        DPS_TRY (stage (ex, device, &s, o->in[i], 0, &in[i], err));
    if (s.n == 0)
        return dps__prepared_run (ex, device, o, err);
    DPS_TRY (make_room (ex, device, &s, err));
    DPS_TRY (transfer (ex, device, &s, 0, err));
    DpsOp there = *o;
    there.in = in;
    there.out = out;
    DPS_TRY (dps__prepared_run (ex, device, &there, err));
    return transfer (ex, device, &s, 1, err);
}

void dps__stage_note (DpsExec *ex, int device, uint64_t bytes)
{
    ex->most_staged[device] = bytes > ex->most_staged[device] ? bytes : ex->most_staged[device];
}

/* Outlines lie nowhere: all of an op that leaves the first device counts, unless both are host memory. */
DpsStatus dps__stage_measure (DpsExec *ex, int device, const DpsOp *o, DpsError *err)
{
    uint64_t total = 0;
    if (device == 0 || (dps_exec_shares (ex) && shares (&ex->devices[device])))
        return DPS_OK;
    for (uint32_t i = 0; i < o->n_in + o->n_out; i++) {
        const DpsView *v = dps_op_operand (o, i);
        uint64_t bytes = 0;
        if (v)
            DPS_TRY (view_bytes (ex, v, &bytes, err));
        total += aligned (bytes);
        for (uint32_t p = 0; v && p < v->n_parts; p++)
            total += aligned (v->parts[p]->bytes);
    }
    ex->most_staged_host = total > ex->most_staged_host ? total : ex->most_staged_host;
    if (!shares (&ex->devices[device]))
        dps__stage_note (ex, device, total);
    return DPS_OK;
}

uint64_t dps_exec_staged (const DpsExec *ex)
{
    uint64_t total = ex->stage_bytes;
    for (int i = 0; i < ex->n_devices; i++)
        total += ex->staged[i].bytes;
    return total;
}

uint64_t dps_exec_staging (DpsExec *ex)
{
    uint64_t total = ex->most_staged_host;
    ex->most_staged_host = 0;
    for (int i = 0; i < ex->n_devices; i++) {
        total += ex->most_staged[i];
        ex->most_staged[i] = 0;
    }
    return total;
}

DpsStatus dps__exec_moves (DpsExec *ex, DpsCase *c, const DpsOp *o, DpsError *err)
{
    const DpsView *staged;
    Stage s;
    s.n = 0;
    s.total = 0;
    for (uint32_t i = 0; i < o->n_out && i < DPS_OP_MAX_OUT; i++)
        DPS_TRY (stage (ex, c->device, &s, o->out[i], 1, &staged, err));
    for (uint32_t i = 0; i < o->n_in && i < DPS_OP_MAX_IN; i++)
        DPS_TRY (stage (ex, c->device, &s, o->in[i], 0, &staged, err));
    for (int i = 0; i < s.n; i++) {
        for (uint32_t p = 0; p <= s.items[i].of->n_parts; p++)
            c->in_bytes += s.items[i].bytes[p];
        c->out_bytes += s.items[i].is_out ? s.items[i].bytes[0] : 0;
    }
    return DPS_OK;
}

DpsStatus dps__exec_inputs (DpsExec *ex, const DpsGraph *g, const DpsBindings *b, DpsError *err)
{
    const DpsExecDevice *d = &ex->devices[0];
    uint64_t bytes[DPS_INPUT_COUNT] = {0}, total = 0;
    if (shares (d) || ex->dry)
        return DPS_OK;
    for (size_t i = 0; i < g->n_tensors; i++) {
        const DpsTensor *t = &g->tensors[i];
        if (t->kind == DPS_TENSOR_INPUT && b->inputs[t->index] && dps_tensor_bytes (t) > bytes[t->index])
            bytes[t->index] = dps_tensor_bytes (t);
    }
    for (int i = 0; i < DPS_INPUT_COUNT; i++) {
        ex->input_at[i] = total;
        total += aligned (bytes[i]);
    }
    if (total > ex->inputs.bytes) {
        if (ex->inputs.buffer)
            d->backend->free (d->info.device, ex->inputs.buffer);
        ex->inputs = (DpsBlock){0};
        DPS_TRY (d->backend->alloc (d->info.device, total, &ex->inputs.buffer, &ex->inputs.host, err));
        ex->inputs.bytes = total;
    }
    for (int i = 0; i < DPS_INPUT_COUNT; i++)
        if (bytes[i])
            DPS_TRY (dps_block_put (ex, &ex->inputs, ex->input_at[i], b->inputs[i], bytes[i], err));
    return DPS_OK;
}

void dps__stage_close (DpsExec *ex)
{
    for (int i = 0; i < ex->n_devices; i++)
        if (ex->staged[i].buffer)
            ex->devices[i].backend->free (ex->devices[i].info.device, ex->staged[i].buffer);
    if (ex->inputs.buffer)
        ex->devices[0].backend->free (ex->devices[0].info.device, ex->inputs.buffer);
    dps_free (ex->mirror);
    dps_free (ex->stage);
}
