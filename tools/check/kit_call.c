/* SPDX-License-Identifier: Apache-2.0 */
/* kit_call.c: a call as the backend gets it, and what it may not do. */
#include "check/kit.h"

#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "plugin/host.h"

static const char *shape_text (const KitArray *a, char *out, size_t cap)
{
    const char *dtype = dps_intern_name (a->view.dtype);
    char cols[32] = "";
    if (a->view.rank > 1)
        snprintf (cols, sizeof cols, "x%lld", (long long)a->shape[1]);
    snprintf (out, cap, "%s %lld%s%s%s", dtype && *dtype ? dtype : "?", (long long)a->shape[0], cols, a->view.stride ? " strided" : "",
              a->view.layout >= DPS_LAYOUT_PACKED ? " packed" : "");
    return out;
}

const char *kit_call_text (const KitCall *c, char *out, size_t cap)
{
    char one[64];
    size_t used = (size_t)snprintf (out, cap, "%s (", c->name);
    for (int side = 0; side < 2; side++) {
        int most = side ? KIT_MAX_OUT : KIT_MAX_IN, n = 0;
        for (int i = 0; i < most && used < cap; i++) {
            const KitArray *a = side ? c->out[i] : c->in[i];
            if (a)
                used += (size_t)snprintf (out + used, cap - used, "%s%s", n++ ? ", " : "", shape_text (a, one, sizeof one));
        }
        if (used < cap)
            used += (size_t)snprintf (out + used, cap - used, side ? ")" : " -> ");
    }
    return out;
}

/* The whole room from the host's image to the device, or back. */
static DpsStatus move (Kit *k, const KitArray *a, int up, DpsError *err)
{
    if (!a || !a->mirrored || !a->buffer)
        return DPS_OK;
    const int64_t bytes = (int64_t)a->bytes;
    const DpsView host = {.size = sizeof host, .dtype = DPS_DTYPE_U8, .rank = 1, .shape = &bytes, .host = a->room};
    const DpsView device = {.size = sizeof device, .dtype = DPS_DTYPE_U8, .rank = 1, .shape = &bytes, .buffer = a->buffer};
    DpsStatus st = k->backend->copy (k->device, up ? &host : &device, up ? &device : &host, err);
    return st == DPS_OK ? st : dps_error_prefix (err, "copying %lld bytes %s the device", (long long)bytes, up ? "to" : "from");
}

static DpsStatus move_all (Kit *k, const KitCall *c, int up, DpsError *err)
{
    if (k->failed_alloc)
        return dps_fail (err, DPS_ERR_NOMEM, "%s: no memory for the operands", c->name);
    for (int i = 0; i < KIT_MAX_IN; i++)
        DPS_TRY (move (k, c->in[i], up, err));
    for (int i = 0; i < KIT_MAX_OUT; i++)
        DPS_TRY (move (k, c->out[i], up, err));
    return DPS_OK;
}

DpsStatus kit_upload (Kit *k, const KitCall *c, DpsError *err) { return move_all (k, c, 1, err); }
DpsStatus kit_download (Kit *k, const KitCall *c, DpsError *err) { return move_all (k, c, 0, err); }

void kit_op (const KitCall *c, KitOp *o)
{
    memset (o, KIT_BYTE, sizeof *o);
    o->op = (DpsOp){.size = sizeof o->op, .id = dps_intern (c->name), .in = o->in, .out = o->out, .attrs = o->attrs};
    for (uint32_t i = 0; i < KIT_MAX_IN; i++)
        o->op.n_in = c->in[i] ? i + 1 : o->op.n_in;
    for (uint32_t i = 0; i < KIT_MAX_OUT; i++)
        o->op.n_out = c->out[i] ? i + 1 : o->op.n_out;
    for (uint32_t i = 0; i < KIT_ATTRS; i++)
        o->op.n_attrs = c->attrs[i].i ? i + 1 : o->op.n_attrs;
    for (uint32_t i = 0; i < o->op.n_in; i++)
        o->in[i] = c->in[i] ? &c->in[i]->view : NULL;
    for (uint32_t i = 0; i < o->op.n_out; i++)
        o->out[i] = c->out[i] ? &c->out[i]->view : NULL;
    if (o->op.n_attrs)
        memcpy (o->attrs, c->attrs, o->op.n_attrs * sizeof *o->attrs);
}

DpsStatus kit_run (Kit *k, const KitCall *c, uint32_t flags, DpsError *err)
{
    KitOp o;
    char text[200];
    kit_op (c, &o);
    dps_host ()->breadcrumb (dps_str (kit_call_text (c, text, sizeof text)));
    err->msg[0] = '\0';
    return k->backend->run (k->device, &o.op, flags, err);
}

DpsStatus kit_run_moved (Kit *k, const KitCall *c, DpsError *err)
{
    DPS_TRY (kit_upload (k, c, err));
    DPS_TRY (kit_run (k, c, 0, err));
    return kit_download (k, c, err);
}

static int is_output (const KitCall *c, const KitArray *a)
{
    for (int i = 0; i < KIT_MAX_OUT; i++)
        if (c->out[i] == a)
            return 1;
    return 0;
}

/* The first byte that changed and must not have; -1: none. */
static int64_t changed_at (const KitArray *a, int elements_may)
{
    size_t end = a->first + a->span;
    if (!a->view.stride && elements_may && !memcmp (a->room, a->before, a->first) &&
        !memcmp (a->room + end, a->before + end, a->bytes - end))
        return -1;
    size_t row = a->view.stride ? (size_t)a->shape[1] * a->item : a->span,
           pitch = a->view.stride ? (size_t)a->stride[0] * a->item : a->span;
    for (size_t i = 0; i < a->bytes; i++) {
        int inside = i >= a->first && i < a->first + a->span && pitch && (i - a->first) % pitch < row;
        if (a->room[i] != a->before[i] && !(inside && elements_may))
            return (int64_t)i;
    }
    return -1;
}

static DpsStatus untouched (const KitCall *c, const char *what, const KitArray *a, int elements_may, DpsError *err)
{
    char text[200];
    if (!a || (!elements_may && !memcmp (a->room, a->before, a->bytes)))
        return DPS_OK;
    int64_t at = changed_at (a, elements_may), first = (int64_t)a->first, end = (int64_t)(a->first + a->span);
    if (at < 0)
        return DPS_OK;
    const char *where = at < first     ? "before the start of"
                        : at >= end    ? "past the end of"
                        : elements_may ? "in the gap between rows of"
                                       : "in";
    return dps_fail (err, DPS_ERR_INVALID, "%s: %s wrote %s an operand of %lld numbers (byte %lld from its first)",
                     kit_call_text (c, text, sizeof text), what, where, (long long)a->n, (long long)(at - first));
}

static DpsStatus all_untouched (const KitCall *c, const char *what, int outputs_may, DpsError *err)
{
    for (int i = 0; i < KIT_MAX_IN; i++)
        DPS_TRY (untouched (c, what, c->in[i], outputs_may && c->in[i] && is_output (c, c->in[i]), err));
    for (int i = 0; i < KIT_MAX_OUT; i++)
        DPS_TRY (untouched (c, what, c->out[i], outputs_may, err));
    return DPS_OK;
}

static void remember (const KitCall *c)
{
    for (int i = 0; i < KIT_MAX_IN; i++)
        if (c->in[i])
            memcpy (c->in[i]->before, c->in[i]->room, c->in[i]->bytes);
    for (int i = 0; i < KIT_MAX_OUT; i++)
        if (c->out[i])
            memcpy (c->out[i]->before, c->out[i]->room, c->out[i]->bytes);
}

/* A refusal is UNSUPPORTED or DTYPE with words that can be printed. */
static DpsStatus is_polite (Kit *k, const KitCall *c, DpsStatus st, DpsError *err)
{
    char text[200];
    kit_call_text (c, text, sizeof text);
    if (st != DPS_ERR_UNSUPPORTED && st != DPS_ERR_DTYPE) {
        char said[300];
        snprintf (said, sizeof said, "%.290s", err->msg);
        return dps_fail (err, DPS_ERR_INVALID, "%s: a dry call answered %s (%s), expected OK, UNSUPPORTED or DTYPE", text,
                         dps_status_name (st), said);
    }
    if (!err->msg[0])
        return dps_fail (err, DPS_ERR_INVALID, "%s: refused with %s and no reason; 'diapason explain' prints the reason", text,
                         dps_status_name (st));
    snprintf (k->refusal, sizeof k->refusal, "%.390s", err->msg);
    return DPS_OK;
}

/* The views of a plan that has no memory yet: the answer is the same. */
static DpsStatus dry_without_memory (Kit *k, const KitCall *c, DpsStatus with, DpsError *err)
{
    KitOp o;
    DpsView views[KIT_MAX_IN + KIT_MAX_OUT];
    char text[200];
    kit_op (c, &o);
    for (uint32_t i = 0; i < o.op.n_in + o.op.n_out; i++) {
        const DpsView **at = i < o.op.n_in ? &o.in[i] : &o.out[i - o.op.n_in];
        if (!*at)
            continue;
        views[i] = **at;
        views[i].buffer = NULL;
        views[i].host = NULL;
        *at = &views[i];
    }
    DpsStatus st = k->backend->run (k->device, &o.op, DPS_RUN_DRY, err);
    return st == with
               ? DPS_OK
               : dps_fail (err, DPS_ERR_INVALID, "%s: a dry call answers %s, and %s where its views have neither buffer nor host yet",
                           kit_call_text (c, text, sizeof text), dps_status_name (with), dps_status_name (st));
}

/* KIT_REFUSED after a refusal that held for the real call too. */
static DpsStatus dry (Kit *k, const KitCall *c, DpsError *err)
{
    char text[200];
    DPS_TRY (kit_upload (k, c, err));
    remember (c);
    DpsStatus st = kit_run (k, c, DPS_RUN_DRY, err);
    if (st != DPS_OK)
        DPS_TRY (is_polite (k, c, st, err));
    DPS_TRY (dry_without_memory (k, c, st, err));
    DPS_TRY (kit_download (k, c, err));
    DPS_TRY (all_untouched (c, "a dry call", 0, err));
    if (st == DPS_OK)
        return DPS_OK;
    if (kit_run (k, c, 0, err) == DPS_OK)
        return dps_fail (err, DPS_ERR_INVALID, "%s: a dry call refuses (%s) what a real one then does",
                         kit_call_text (c, text, sizeof text), k->refusal);
    DPS_TRY (kit_download (k, c, err));
    DPS_TRY (all_untouched (c, "a refused call", 0, err));
    return KIT_REFUSED;
}

static DpsStatus real (Kit *k, const KitCall *c, DpsError *err)
{
    char text[200], said[400];
    DpsStatus st = kit_run (k, c, 0, err);
    if (st != DPS_OK) {
        snprintf (said, sizeof said, "%.290s", err->msg);
        return dps_fail (err, DPS_ERR_INVALID, "%s: a dry call says yes, the real one %s: %s", kit_call_text (c, text, sizeof text),
                         dps_status_name (st), said);
    }
    DPS_TRY (kit_download (k, c, err));
    return all_untouched (c, "a call", 1, err);
}

DpsStatus kit_call (Kit *k, const KitCall *c, DpsError *err)
{
    DPS_TRY (dry (k, c, err));
    return real (k, c, err);
}

DpsStatus kit_refusable (Kit *k, DpsStatus st)
{
    k->n_refused += st == KIT_REFUSED;
    return st == KIT_REFUSED ? DPS_OK : st;
}

DpsStatus kit_compare (Kit *k, const KitCall *c, DpsError *err)
{
    KitArray *want[KIT_MAX_OUT];
    DpsStatus st = dry (k, c, err);
    if (st != DPS_OK)
        return kit_refusable (k, st);
    DPS_TRY (kit_oracle (k, c, want, err)); /* before an op in place changes its inputs */
    DPS_TRY (real (k, c, err));
    for (int i = 0; i < KIT_MAX_OUT; i++)
        if (c->out[i])
            DPS_TRY (kit_close_to (k, c, i, c->out[i], want[i], err));
    k->n_compared++;
    json_t *n = json_object_get (k->ops, c->name);
    json_object_set_new (k->ops, c->name, json_integer (json_integer_value (n) + 1));
    return DPS_OK;
}

DpsStatus kit_must_fail (Kit *k, const KitCall *c, DpsStatus code, DpsError *err)
{
    char text[200];
    DPS_TRY (kit_upload (k, c, err));
    remember (c);
    DpsStatus st = kit_run (k, c, DPS_RUN_DRY, err);
    if (st == DPS_ERR_UNSUPPORTED || st == DPS_ERR_DTYPE) {
        snprintf (k->refusal, sizeof k->refusal, "%.390s", err->msg);
        return KIT_REFUSED;
    }
    st = kit_run (k, c, 0, err);
    kit_call_text (c, text, sizeof text);
    if (st == DPS_OK)
        return dps_fail (err, DPS_ERR_INVALID, "%s: it was done, expected a refusal with %s", text, dps_status_name (code));
    if (st != code)
        return dps_fail (err, DPS_ERR_INVALID, "%s: refused with %s, expected %s", text, dps_status_name (st), dps_status_name (code));
    if (!err->msg[0])
        return dps_fail (err, DPS_ERR_INVALID, "%s: refused with %s and no reason", text, dps_status_name (st));
    DPS_TRY (kit_download (k, c, err));
    return all_untouched (c, "a call that failed", 1, err);
}
