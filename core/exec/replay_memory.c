/* SPDX-License-Identifier: Apache-2.0 */
#include "exec/replay_memory.h"

#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "base/quant_draw.h"
#include "base/rng.h"
#include "exec/stage.h"

enum {
    PACK_ROWS = 1024 /* a multiple of 64 (backend.h, pack) */,
    EXPONENT = 4 /* of drawn scales: 2⁻¹¹ and more, as trained weights have */
};

/** Of its own memory, since its size is the backend's: packed, or its rows where the backend packs none; or codes and parts. */
typedef struct DpsReplayWeight {
    uint64_t buffer; /* of the record */
    DpsTraceView as; /* as the record has it */
    uint32_t layout;
    DpsBlock block;
    DpsPart parts[DPS_QPARTS]; /* of a quantised one */
    const DpsPart *list[DPS_QPARTS];
    uint32_t n_parts;
} DpsReplayWeight;

/* Buffers. */

/* An error that names the record's line: "calls.jsonl:7: what number". */
static DpsStatus refuse (const DpsReplayMemory *m, DpsStatus st, DpsError *err, const char *what, uint64_t number)
{
    return dps_fail (err, st, "%s:%ld: %s %llu", m->trace.where, m->trace.line, what, (unsigned long long)number);
}

/* Buffers. */

static DpsReplayBuffer *find_buffer (const DpsReplayMemory *m, uint64_t id)
{
    for (size_t i = m->n_buffers; i-- > 0;)
        if (m->buffers[i].id == id)
            return &m->buffers[i];
    return NULL;
}

static DpsStatus count_memory (DpsReplayMemory *m, uint64_t bytes, DpsError *err)
{
    if (bytes > m->limit - m->bytes)
        return dps_fail (err, DPS_ERR_LIMIT,
                         "%s:%ld: %llu bytes more than the %llu that are live, at most %llu. Hint: --memory allows more", m->trace.where,
                         m->trace.line, (unsigned long long)bytes, (unsigned long long)m->bytes, (unsigned long long)m->limit);
    m->bytes += bytes;
    return DPS_OK;
}

/* On a device with memory of its own the record's buffers are the host's: exec stages what an op needs. */
static DpsStatus alloc_on (DpsReplaySide *s, uint64_t bytes, DpsBlock *out, DpsError *err)
{
    if (dps_exec_shares (&s->ex))
        return dps_exec_alloc (&s->ex, bytes, out, err);
    *out = (DpsBlock){.host = dps_aligned_alloc (64, bytes ? bytes : 1, 1), .bytes = bytes};
    return out->host ? DPS_OK : dps_fail (err, DPS_ERR_NOMEM, "replay: no memory for %llu bytes", (unsigned long long)bytes);
}

static void free_on (DpsReplaySide *s, DpsBlock *block)
{
    if (block->buffer)
        dps_exec_free (&s->ex, block);
    else
        dps_free (block->host);
    *block = (DpsBlock){0};
}

DpsStatus dps__replay_alloc (DpsReplayMemory *m, uint64_t id, uint64_t bytes, DpsError *err)
{
    if (find_buffer (m, id))
        return refuse (m, DPS_ERR_FORMAT, err, "an alloc of a buffer that is live:", id);
    if (DPS_GROW (m->buffers, m->n_buffers, m->capacity))
        return dps_fail (err, DPS_ERR_NOMEM, "replay: out of memory");
    DPS_TRY (count_memory (m, bytes, err));
    DpsReplayBuffer *b = &m->buffers[m->n_buffers++];
    *b = (DpsReplayBuffer){.id = id, .bytes = bytes};
    for (int s = 0; s < m->n_sides; s++) {
        DPS_TRY (alloc_on (&m->sides[s], bytes, &b->block[s], err));
        memset (b->block[s].host, 0, bytes); /* what nothing filled is the same on both sides */
    }
    return DPS_OK;
}

static void free_weights (DpsReplayMemory *m, DpsReplaySide *s, uint64_t buffer)
{
    for (size_t i = s->n_weights; i-- > 0;)
        if (s->weights[i]->buffer == buffer) {
            m->bytes -= s->weights[i]->block.bytes;
            free_on (s, &s->weights[i]->block);
            dps_free (s->weights[i]);
            s->weights[i] = s->weights[--s->n_weights];
        }
}

DpsStatus dps__replay_drop (DpsReplayMemory *m, uint64_t id, DpsError *err)
{
    DpsReplayBuffer *b = find_buffer (m, id);
    if (!b)
        return refuse (m, DPS_ERR_FORMAT, err, "a free of a buffer that is not live:", id);
    for (int s = 0; s < m->n_sides; s++) {
        free_on (&m->sides[s], &b->block[s]);
        free_weights (m, &m->sides[s], id);
    }
    m->bytes -= b->bytes;
    *b = m->buffers[--m->n_buffers];
    return DPS_OK;
}

/* Contents. */

static double number (const DpsTraceFill *f, uint64_t i)
{
    double x = f->kind == DPS_FILL_ZERO ? 0 : f->rms * dps__trace_draw (f->seed, i);
    return f->kind == DPS_FILL_POSITIVE ? fabs (x) : f->kind == DPS_FILL_NAN && i == 0 ? (double)NAN : x;
}

DpsStatus dps__replay_fill (const DpsReplayMemory *m, const DpsTraceFill *f, const DpsView *v, uint64_t bytes, DpsError *err)
{
    int64_t n = dps_view_count (v);
    const DpsTraceData *d = f->kind == DPS_FILL_DATA ? &m->trace.data[f->seed] : NULL;
    if (d && d->n != bytes)
        return refuse (m, DPS_ERR_FORMAT, err, "data of another size than its operand's bytes,", bytes);
    if (d)
        memcpy (v->host, d->bytes, bytes);
    for (int64_t i = 0; !d && i < n; i++)
        if (f->kind == DPS_FILL_TOKENS)
            ((int32_t *)v->host)[i] = (int32_t)dps_rng_below (f->seed, 0, (uint64_t)i, (uint64_t)f->limit);
        else
            dps__put_element (v->dtype, v->host, i, number (f, (uint64_t)i));
    return DPS_OK;
}

/* Weights. */

static DpsStatus pack_rows (DpsReplaySide *s, DpsReplayWeight *w, const DpsTraceFill *f, DpsError *err)
{
    const DpsExecDevice *d = &s->ex.devices[0];
    const int64_t *shape = w->as.shape;
    float *rows = dps_malloc ((size_t)PACK_ROWS, (size_t)shape[1] * sizeof *rows);
    DpsStatus st = rows ? DPS_OK : dps_fail (err, DPS_ERR_NOMEM, "replay: out of memory");
    for (int64_t row = 0; st == DPS_OK && row < shape[0]; row += PACK_ROWS) {
        int64_t n = shape[0] - row < PACK_ROWS ? shape[0] - row : PACK_ROWS, piece[2] = {n, shape[1]};
        for (int64_t i = 0; i < n * shape[1]; i++)
            rows[i] = (float)number (f, (uint64_t)(row * shape[1] + i));
        DpsView from = dps_view (DPS_DTYPE_F32, 2, piece, rows), to = dps_view (w->as.dtype, 2, shape, w->block.host);
        to.buffer = w->block.buffer;
        to.layout = w->layout;
        if (w->layout)
            st = d->pack->pack (d->info.device, &from, row, (uint32_t)w->as.pack, &to, err);
        else
            for (int64_t i = 0; i < n * shape[1]; i++)
                dps__put_element (w->as.dtype, w->block.host, row * shape[1] + i, (double)rows[i]);
    }
    dps_free (rows);
    return st;
}

static uint64_t aligned (uint64_t bytes) { return (bytes + 63) / 64 * 64; }

/* Codes, and behind them the parts. */
static void place_parts (const DpsReplaySide *s, DpsReplayWeight *w, uint64_t codes, const uint64_t bytes[DPS_QPARTS])
{
    uint64_t at = aligned (codes);
    for (uint32_t p = 0; p < DPS_QPARTS; p++) {
        if (!bytes[p])
            continue;
        w->parts[p] = (DpsPart){.size = sizeof *w->parts,
                                .role = s->ex.quants.role[p],
                                .dtype = dps_quant_part_dtype (&w->as.form, (DpsQuantPart)p),
                                .buffer = w->block.buffer,
                                .offset = w->block.buffer ? at : 0,
                                .bytes = bytes[p],
                                .host = (char *)w->block.host + at};
        w->list[w->n_parts++] = &w->parts[p];
        at += aligned (bytes[p]);
    }
}

static DpsStatus draw_weight (DpsReplaySide *s, DpsReplayWeight *w, const DpsTraceFill *f, DpsError *err)
{
    void *parts[DPS_QPARTS];
    if (w->as.form.type == DPS_QUANT_NONE)
        return pack_rows (s, w, f, err);
    for (uint32_t p = 0; p < DPS_QPARTS; p++)
        parts[p] = w->parts[p].host;
    return dps_quant_draw (&w->as.form, w->as.shape[0], w->as.shape[1], f->seed, EXPONENT, w->block.host, parts, err);
}

static DpsStatus alloc_weight (DpsReplayMemory *m, DpsReplaySide *s, DpsReplayWeight *w, DpsError *err)
{
    const DpsExecDevice *d = &s->ex.devices[0];
    const DpsTraceView *v = &w->as;
    uint64_t bytes = 0, codes, parts[DPS_QPARTS] = {0};
    if (v->form.type != DPS_QUANT_NONE) {
        DPS_TRY (dps_quant_bytes (&v->form, v->shape[0], v->shape[1], &codes, parts, err));
        bytes = aligned (codes);
        for (uint32_t p = 0; p < DPS_QPARTS; p++)
            bytes += aligned (parts[p]);
    } else if (!d->pack ||
               d->pack->query (d->info.device, v->shape[0], v->shape[1], v->dtype, (uint32_t)v->pack, &bytes, &w->layout, NULL) != DPS_OK) {
        w->layout = 0;
        bytes = (uint64_t)(v->shape[0] * v->shape[1]) * dps_dtype_bytes (v->dtype);
    }
    DPS_TRY (count_memory (m, bytes, err));
    DpsStatus st = w->layout ? dps_exec_alloc (&s->ex, bytes, &w->block, err) : alloc_on (s, bytes, &w->block, err);
    w->block.bytes = bytes;
    if (st == DPS_OK && v->form.type != DPS_QUANT_NONE)
        place_parts (s, w, codes, parts);
    return st;
}

static int is_weight (const DpsReplayWeight *w, uint64_t buffer, const DpsTraceView *v)
{
    return w->buffer == buffer && w->as.dtype == v->dtype && w->as.pack == v->pack && w->as.shape[0] == v->shape[0] &&
           w->as.shape[1] == v->shape[1] && w->as.form.block == v->form.block && w->as.form.nested == v->form.nested;
}

/* Drawn again in place when the call says so: another operand of the call may be the same. */
static DpsStatus weight_of (DpsReplayMemory *m, DpsReplaySide *s, const DpsTraceCall *c, uint32_t i, DpsReplayWeight **out, DpsError *err)
{
    const DpsTraceFill usual = {.kind = DPS_FILL_NORMAL, .seed = 1, .rms = 0.05},
                       *given = c->fill[i].kind == DPS_FILL_NONE ? NULL : &c->fill[i];
    for (size_t k = 0; k < s->n_weights; k++)
        if (is_weight (s->weights[k], c->at[i].buffer, &c->kind->views[i])) {
            *out = s->weights[k];
            return given ? draw_weight (s, *out, given, err) : DPS_OK;
        }
    DpsReplayWeight *w = dps_calloc (1, sizeof *w);
    if (!w || DPS_GROW (s->weights, s->n_weights, s->capacity)) {
        dps_free (w);
        return dps_fail (err, DPS_ERR_NOMEM, "replay: out of memory");
    }
    *out = s->weights[s->n_weights++] = w;
    *w = (DpsReplayWeight){.buffer = c->at[i].buffer, .as = c->kind->views[i]};
    DPS_TRY (alloc_weight (m, s, w, err));
    return draw_weight (s, w, given ? given : &usual, err);
}

/* Operands. */

static int is_special (const DpsTraceView *v) { return v->pack >= 0 || v->form.type != DPS_QUANT_NONE; }

static DpsStatus place_operand (DpsReplayMemory *m, int side, const DpsTraceCall *c, uint32_t i, DpsReplayOperands *to, DpsError *err)
{
    const DpsTraceView *v = &c->kind->views[i];
    DpsView *view = &to->views[i];
    *view = dps_view (v->dtype, v->rank, v->shape, NULL);
    view->stride = v->has_stride ? v->stride : NULL;
    to->list[i] = view;
    dps__view_bytes (&m->trace.quants, view, &to->bytes[i]);
    if (is_special (v)) {
        DpsReplayWeight *w = NULL;
        DPS_TRY (weight_of (m, &m->sides[side], c, i, &w, err));
        view->buffer = w->block.buffer;
        view->host = w->block.host;
        view->layout = w->layout;
        view->parts = w->list;
        view->n_parts = w->n_parts;
        if (v->pack >= 0 && !w->layout && c->kind->op == DPS_OP_token_logprobs && i == 3) /* no second pack: the op has the rows in in[1] */
            to->list[i] = NULL;
        return DPS_OK;
    }
    const DpsReplayBuffer *b = c->at[i].buffer ? find_buffer (m, c->at[i].buffer) : NULL;
    if (c->at[i].buffer && (!b || c->at[i].offset > b->bytes || to->bytes[i] > b->bytes - c->at[i].offset))
        return refuse (m, DPS_ERR_FORMAT, err, "an operand lies outside every live buffer: operand", i);
    if (b) {
        view->buffer = b->block[side].buffer;
        view->offset = view->buffer ? c->at[i].offset : 0;
        view->host = (char *)b->block[side].host + c->at[i].offset;
        if (c->at[i].offset % dps_dtype_bytes (v->dtype))
            return refuse (m, DPS_ERR_FORMAT, err, "an operand begins within an element: operand", i);
        return DPS_OK;
    }
    if (to->bytes[i] > m->limit)
        return refuse (m, DPS_ERR_LIMIT, err, "an operand of more bytes than --memory allows:", to->bytes[i]);
    view->host = to->own[i] = dps_calloc (to->bytes[i] ? to->bytes[i] : 1, 1);
    return view->host ? DPS_OK : dps_fail (err, DPS_ERR_NOMEM, "replay: out of memory for %llu bytes", (unsigned long long)to->bytes[i]);
}

DpsStatus dps__replay_place (DpsReplayMemory *m, int side, const DpsTraceCall *c, DpsReplayOperands *to, DpsError *err)
{
    uint32_t n = c->kind->n_in + c->kind->n_out;
    memset (to, 0, sizeof *to);
    for (uint32_t i = 0; i < n; i++)
        if (c->kind->views[i].present)
            DPS_TRY (place_operand (m, side, c, i, to, err));
    for (uint32_t i = 0; i < n; i++)
        if (c->fill[i].kind != DPS_FILL_NONE && to->list[i] && !is_special (&c->kind->views[i]) && dps_view_contiguous (&to->views[i]))
            DPS_TRY (dps__replay_fill (m, &c->fill[i], &to->views[i], to->bytes[i], err));
    return DPS_OK;
}

void dps__replay_release (DpsReplayOperands *x)
{
    for (uint32_t i = 0; i < DPS_OPERANDS_MAX; i++)
        dps_free (x->own[i]);
}

void dps__replay_close (DpsReplayMemory *m)
{
    for (int s = 0; s < m->n_sides; s++) {
        DpsReplaySide *side = &m->sides[s];
        for (size_t i = 0; i < m->n_buffers; i++)
            free_on (side, &m->buffers[i].block[s]);
        for (size_t i = 0; i < side->n_weights; i++) {
            free_on (side, &side->weights[i]->block);
            dps_free (side->weights[i]);
        }
        dps_free (side->weights);
        dps_exec_close (&side->ex);
    }
    dps_free (m->buffers);
    dps__trace_close (&m->trace);
}
