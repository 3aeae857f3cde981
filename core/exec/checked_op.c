/* SPDX-License-Identifier: Apache-2.0 */
/* checked_op.c: what the checking layer looks at before and after an op. */
#include <stdio.h>
#include <string.h>

#include "exec/checked.h"

enum { POISON = 0xff /* NaN in every floating dtype, -1 in integers */ };

/* Vendors' ops have a name and no rules known here. */
static const char *op_name (const Checked *c, const DpsOp *op)
{
    DpsOpCode code = dps__op_code (c->op_ids, op->id);
    const char *name = code < DPS_OP_COUNT ? dps_op_name (code) : dps_intern_name (op->id);
    return *name ? name : op->id ? "an unknown op" : "copy";
}

const char *dps__checked_subject (const Checked *c, const DpsOp *op, uint32_t operand, char *text, size_t cap)
{
    size_t n = (size_t)snprintf (text, cap, "%.40s ", op_name (c, op));
    if (n < cap)
        dps__operand_text (op, operand, text + n, cap - n);
    return text;
}

/* Bytes a view covers. A packed weight's are those that query names for its layout; a dtype without a size: to the end of its memory. */
static uint64_t covered (Checked *c, const DpsView *v, const Memory *m, uint64_t bytes)
{
    const DpsExecDevice *d = &c->layer.below;
    uint64_t rest = m && m->bytes > v->offset ? m->bytes - v->offset : 0;
    if (bytes != DPS_BYTES_UNKNOWN)
        return bytes;
    for (uint32_t k = 0; v->layout >= DPS_LAYOUT_PACKED && d->pack && v->rank == 2 && k < 2; k++) {
        uint64_t need = 0;
        uint32_t layout = 0;
        if (d->pack->query (d->info.device, v->shape[0], v->shape[1], v->dtype, k, &need, &layout, NULL) == DPS_OK && layout == v->layout)
            return need;
    }
    return rest;
}

static DpsStatus check_parts (Checked *c, const DpsView *v, const char *subject, DpsError *err)
{
    for (uint32_t i = 0; i < v->n_parts; i++) {
        const DpsPart *p = v->parts[i];
        const Memory *m = dps__checked_memory (c, p->buffer, p->host);
        if (p->buffer && (!m || !m->live))
            return dps__checked_fault (c, DPS_BLAME_HOST, subject, err, "part %u lies in a buffer that %s; expected a live one",
                                       (unsigned)i, m ? "was freed" : "this device never gave");
        if (m && p->buffer && (p->offset > m->bytes || p->bytes > m->bytes - p->offset))
            return dps__checked_fault (c, DPS_BLAME_HOST, subject, err,
                                       "part %u is bytes %llu + %llu of a buffer of %llu; expected within it", (unsigned)i,
                                       (unsigned long long)p->offset, (unsigned long long)p->bytes, (unsigned long long)m->bytes);
    }
    return DPS_OK;
}

/* A view that names no buffer may still lie in one. */
static DpsStatus check_bounds (Checked *c, const DpsView *v, const Memory *m, uint64_t bytes, const char *subject, DpsError *err)
{
    uint64_t at = v->buffer ? v->offset : (uint64_t)((const char *)v->host - m->host);
    if (!m->live)
        return dps__checked_fault (c, DPS_BLAME_HOST, subject, err, "lies in buffer %llu, which was freed; expected a live one",
                                   (unsigned long long)m->number);
    if (at > m->bytes || bytes > m->bytes - at)
        return dps__checked_fault (c, DPS_BLAME_HOST, subject, err,
                                   "is bytes %llu + %llu of buffer %llu, which has %llu; expected within it", (unsigned long long)at,
                                   (unsigned long long)bytes, (unsigned long long)m->number, (unsigned long long)m->bytes);
    if (v->buffer && v->host && m->host && (const char *)v->host != m->host + v->offset)
        return dps__checked_fault (c, DPS_BLAME_HOST, subject, err, "has host address %p, expected buffer + offset, %p", v->host,
                                   (void *)(m->host + v->offset));
    return DPS_OK;
}

static DpsStatus check_view (Checked *c, const DpsView *v, const char *subject, DpsError *err)
{
    uint64_t bytes, size = dps_dtype_bytes (v->dtype);
    const char *wrong = dps__view_bytes (&c->quants, v, &bytes);
    if (wrong)
        return dps__checked_fault (c, DPS_BLAME_HOST, subject, err, "%s; expected a tensor of rank 0 to 4", wrong);
    Memory *m = dps__checked_memory (c, v->buffer, v->host);
    if (v->buffer && !m)
        return dps__checked_fault (c, DPS_BLAME_HOST, subject, err,
                                   "lies in a buffer that this device never gave; expected one of its own");
    bytes = covered (c, v, m, bytes);
    if (m)
        DPS_TRY (check_bounds (c, v, m, bytes, subject, err));
    else if (!v->host && bytes)
        return dps__checked_fault (c, DPS_BLAME_HOST, subject, err, "has neither buffer nor host memory; expected %llu bytes of one",
                                   (unsigned long long)bytes);
    if (size && v->layout < DPS_LAYOUT_PACKED && (v->offset % size || (uintptr_t)v->host % size))
        return dps__checked_fault (c, DPS_BLAME_HOST, subject, err, "begins at byte %llu, expected a multiple of its element's %llu",
                                   (unsigned long long)v->offset, (unsigned long long)size);
    return check_parts (c, v, subject, err);
}

DpsStatus dps__checked_view (Checked *c, const DpsView *v, const char *subject, DpsError *err)
{
    dps__checked_lock (c);
    return dps__checked_unlock (c, check_view (c, v, subject, err));
}

/* Do the operands fit each other? ref says, asked without packed layouts, which it has none of. */
static DpsStatus check_shapes (Checked *c, const DpsOp *op, DpsOpCode code, DpsError *err)
{
    DpsView views[DPS_OPERANDS_MAX];
    const DpsView *list[DPS_OPERANDS_MAX];
    DpsError why = DPS_ERROR_INIT;
    char subject[64];
    if (!c->ref || code == DPS_OP_COUNT)
        return DPS_OK;
    for (uint32_t i = 0; i < op->n_in + op->n_out; i++) {
        const DpsView *v = dps_op_operand (op, i);
        list[i] = v ? &views[i] : NULL;
        if (v)
            views[i] = *v;
        if (v && v->layout >= DPS_LAYOUT_PACKED)
            views[i].layout = DPS_LAYOUT_ROW_MAJOR;
    }
    DpsOp asked = *op;
    asked.in = list;
    asked.out = list + op->n_in;
    DpsStatus st = c->ref->run (c->ref_device, &asked, DPS_RUN_DRY, &why);
    if (st != DPS_ERR_SHAPE && st != DPS_ERR_INVALID)
        return DPS_OK;
    snprintf (subject, sizeof subject, "%.40s", op_name (c, op));
    return dps__checked_fault (c, DPS_BLAME_HOST, subject, err, "%.600s; expected the shapes of ops.h", why.msg);
}

static DpsStatus check_overlap (Checked *c, const DpsOp *op, const Watch *w, DpsError *err)
{
    for (uint32_t o = op->n_in; o < op->n_in + op->n_out; o++) {
        const DpsView *out = dps_op_operand (op, o);
        const char *a = out ? out->host : NULL;
        for (uint32_t i = 0; a && i < o; i++) {
            const DpsView *v = dps_op_operand (op, i);
            const char *b = v ? v->host : NULL;
            char subject[160];
            if (!b || !w->bytes[i] || !w->bytes[o] || a >= b + w->bytes[i] || b >= a + w->bytes[o])
                continue;
            if (i < op->n_in && dps__op_in_place (w->code, i) == (int)(o - op->n_in) && a == b && w->bytes[i] == w->bytes[o])
                continue;
            return dps__checked_fault (c, DPS_BLAME_HOST, dps__checked_subject (c, op, o, subject, sizeof subject), err,
                                       "shares memory with %s[%u]; expected memory of its own", i < op->n_in ? "in" : "out",
                                       (unsigned)(i < op->n_in ? i : i - op->n_in));
        }
    }
    return DPS_OK;
}

static DpsStatus check_indices (Checked *c, const DpsOp *op, const Watch *w, DpsError *err)
{
    for (uint32_t i = 0; i < op->n_in; i++) {
        int64_t limit, keys;
        char subject[160];
        DpsError why = DPS_ERROR_INIT;
        DpsIndexKind kind = op->in[i] ? dps__op_index (w->code, op, i, &limit, &keys) : DPS_INDEX_NONE;
        if (kind != DPS_INDEX_NONE && w->bytes[i] && dps_view_contiguous (op->in[i]) &&
            dps__index_check (kind, op->in[i], limit, keys, &why) != DPS_OK)
            return dps__checked_fault (c, DPS_BLAME_HOST, dps__checked_subject (c, op, i, subject, sizeof subject), err, "%s", why.msg);
    }
    return DPS_OK;
}

static int updated (const DpsOp *op, const Watch *w, uint32_t i)
{
    int out = dps__op_in_place (w->code, i);
    return out >= 0 && (uint32_t)out < op->n_out && op->out[out] && op->in[i] && op->out[out]->host == op->in[i]->host;
}

/* The numbers of an operand can be read here, one after the other. */
static int readable (const DpsView *v, const Watch *w, uint32_t i)
{
    return v && w->bytes[i] && v->layout < DPS_LAYOUT_PACKED && dps_view_contiguous (v) && dps_dtype_bytes (v->dtype);
}

/* Is everything that this op reads finite? What is only bytes here (packed, quantised) was made of finite numbers, one assumes. */
static int reads_finite (const DpsOp *op, const Watch *w)
{
    int keeps = dps__op_keeps_output (w->code);
    for (uint32_t i = 0; i < op->n_in + (keeps ? op->n_out : 0); i++) {
        const DpsView *v = dps_op_operand (op, i);
        if (readable (v, w, i) && !dps__all_finite (v->dtype, v->host, dps_view_count (v)))
            return 0;
    }
    return 1;
}

/* The bytes just before and behind an output, as far as they are its memory's and no other output's: whoever writes too far changes them. */
static uint64_t fringe (Checked *c, const DpsOp *op, const Watch *w, uint32_t i)
{
    const DpsView *v = dps_op_operand (op, i);
    const Memory *m = v && w->bytes[i] ? dps__checked_memory (c, v->buffer, v->host) : NULL;
    char near[2 * DPS_CHECKED_GUARD];
    size_t n = 0;
    if (!m || !m->host || !dps_view_contiguous (v))
        return 0;
    const char *first = v->host, *end = first + w->bytes[i], *from = m->host, *to = m->host + m->bytes + DPS_CHECKED_GUARD;
    from = first - from > DPS_CHECKED_GUARD ? first - DPS_CHECKED_GUARD : from;
    to = to - end > DPS_CHECKED_GUARD ? end + DPS_CHECKED_GUARD : to;
    for (const char *p = from; p < to; p = p + 1 == first ? end : p + 1) {
        int written = p >= first && p < end;
        for (uint32_t k = op->n_in; k < op->n_in + op->n_out && !written; k++) {
            const char *other = dps_op_operand (op, k) ? dps_op_operand (op, k)->host : NULL;
            written = other && p >= other && p < other + w->bytes[k];
        }
        if (!written)
            near[n++] = *p;
    }
    return dps__bytes_hash (i, near, n);
}

static DpsStatus look_before (Checked *c, const DpsOp *op, Watch *w, DpsError *err)
{
    char subject[160];
    uint32_t n = op->n_in + op->n_out;
    *w = (Watch){.code = dps__op_code (c->op_ids, op->id), .finite = -1};
    if (n > DPS_OPERANDS_MAX)
        return dps__checked_fault (c, DPS_BLAME_HOST, op_name (c, op), err, "has %u operands, expected at most %d", (unsigned)n,
                                   DPS_OPERANDS_MAX);
    for (uint32_t i = 0; i < n; i++) {
        const DpsView *v = dps_op_operand (op, i);
        if (!v)
            continue;
        DPS_TRY (dps__checked_view (c, v, dps__checked_subject (c, op, i, subject, sizeof subject), err));
        dps__view_bytes (&c->quants, v, &w->bytes[i]);
        w->bytes[i] = v->host ? covered (c, v, dps__checked_memory (c, v->buffer, v->host), w->bytes[i]) : 0;
    }
    DPS_TRY (check_shapes (c, op, w->code, err));
    DPS_TRY (check_overlap (c, op, w, err));
    DPS_TRY (check_indices (c, op, w, err));
    if (dps__op_keeps_output (w->code))
        w->finite = reads_finite (op, w);
    for (uint32_t i = 0; i < op->n_in; i++)
        if (op->in[i] && w->bytes[i] && !updated (op, w, i))
            w->digest[i] = dps__bytes_hash (i, op->in[i]->host, w->bytes[i]);
    for (uint32_t i = op->n_in; i < n && w->code < DPS_OP_COUNT && !dps__op_keeps_output (w->code); i++)
        if (dps_op_operand (op, i) && w->bytes[i] && dps_view_contiguous (dps_op_operand (op, i)))
            memset (dps_op_operand (op, i)->host, POISON, w->bytes[i]);
    for (uint32_t i = op->n_in; i < n; i++)
        w->digest[i] = fringe (c, op, w, i);
    return DPS_OK;
}

static int is_poison (const DpsView *v, int64_t at)
{
    const unsigned char *p = (const unsigned char *)v->host + (uint64_t)at * dps_dtype_bytes (v->dtype);
    for (uint64_t i = 0; i < dps_dtype_bytes (v->dtype); i++)
        if (p[i] != POISON)
            return 0;
    return 1;
}

static DpsStatus check_output (Checked *c, const DpsOp *op, Watch *w, uint32_t i, DpsError *err)
{
    const DpsView *v = dps_op_operand (op, i);
    char subject[160];
    int64_t at = readable (v, w, i) ? dps__first_nan (v->dtype, v->host, dps_view_count (v)) : -1;
    if (at < 0)
        return DPS_OK;
    if (w->finite < 0)
        w->finite = reads_finite (op, w);
    if (!w->finite)
        return DPS_OK;
    dps__checked_subject (c, op, i, subject, sizeof subject);
    if (!dps__op_keeps_output (w->code) && is_poison (v, at))
        return dps__checked_fault (c, DPS_BLAME_PLUGIN, subject, err,
                                   "element %lld was not written: it is still what it was filled with; expected outputs wholly written",
                                   (long long)at);
    return dps__checked_fault (c, DPS_BLAME_PLUGIN, subject, err,
                               "element %lld is NaN, and every input is finite; expected a number (or numbers that overflow on the way)",
                               (long long)at);
}

static DpsStatus look_after (Checked *c, const DpsOp *op, Watch *w, DpsError *err)
{
    char subject[160];
    for (uint32_t i = op->n_in; i < op->n_in + op->n_out; i++)
        if (w->digest[i] != fringe (c, op, w, i))
            return dps__checked_fault (c, DPS_BLAME_WRITER, dps__checked_subject (c, op, i, subject, sizeof subject), err,
                                       "memory within %d bytes of it was written; expected nothing beside the output to be",
                                       DPS_CHECKED_GUARD);
    for (uint32_t i = 0; i < op->n_in; i++)
        if (op->in[i] && w->bytes[i] && !updated (op, w, i) && w->digest[i] != dps__bytes_hash (i, op->in[i]->host, w->bytes[i]))
            return dps__checked_fault (c, DPS_BLAME_WRITER, dps__checked_subject (c, op, i, subject, sizeof subject), err,
                                       "an input was written; expected it unchanged");
    for (uint32_t i = op->n_in; i < op->n_in + op->n_out && !dps__op_may_be_nan (w->code); i++)
        if (dps_op_operand (op, i))
            DPS_TRY (check_output (c, op, w, i, err));
    return DPS_OK;
}

DpsStatus dps__checked_before (Checked *c, const DpsOp *op, Watch *w, DpsError *err)
{
    dps__checked_lock (c);
    return dps__checked_unlock (c, look_before (c, op, w, err));
}

DpsStatus dps__checked_after (Checked *c, const DpsOp *op, Watch *w, DpsError *err)
{
    dps__checked_lock (c);
    return dps__checked_unlock (c, look_after (c, op, w, err));
}
