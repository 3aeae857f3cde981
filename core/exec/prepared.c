/* SPDX-License-Identifier: Apache-2.0 */
#include "exec/prepared.h"

#include <string.h>

#include "base/mem.h"
#include "exec/operands.h"
#include "exec/stage.h"

/* SLOTS is a power of two, and half of it is empty, so that a search ends. */
enum { SLOTS = 2 * DPS_PREPARED_MAX, RANK = 4, VIEW_WORDS = 2 + 2 * RANK + 2 * DPS_QPARTS };

/* All that a plan depends on, in words: the device, the op, then its operands in order. */
typedef struct Form {
    uint64_t words[2 + DPS_OPERANDS_MAX * VIEW_WORDS];
    size_t n;
} Form;

typedef struct Plan {
    struct DpsPlan *plan;
    int device;
    uint64_t scratch;
    uint64_t hash;
    size_t n;
    uint64_t words[]; /* its form */
} Plan;

struct DpsPrepared {
    size_t n;
    Plan *slots[SLOTS];
};

/* A missing operand is one zero; no dtype is. */
static int put_view (Form *f, const DpsView *v)
{
    if (!v) {
        f->words[f->n++] = 0;
        return 1;
    }
    if (v->rank > RANK || v->n_parts > DPS_QPARTS)
        return 0;
    f->words[f->n++] = (uint64_t)v->dtype << 32 | v->layout;
    f->words[f->n++] = (uint64_t)v->n_parts << 32 | v->rank << 1 | (v->stride != NULL);
    for (uint32_t i = 0; i < v->rank; i++)
        f->words[f->n++] = (uint64_t)v->shape[i];
    for (uint32_t i = 0; i < v->rank && v->stride; i++)
        f->words[f->n++] = (uint64_t)v->stride[i];
    for (uint32_t i = 0; i < v->n_parts; i++) {
        f->words[f->n++] = (uint64_t)v->parts[i]->role << 32 | v->parts[i]->dtype;
        f->words[f->n++] = v->parts[i]->bytes;
    }
    return 1;
}

/* 0: an op that no graph of ours records, which has no plan. */
static int form_of (int device, const DpsOp *o, Form *f)
{
    if (o->n_in > DPS_OP_MAX_IN || o->n_out > DPS_OP_MAX_OUT || o->n_attrs > DPS_OP_MAX_ATTRS)
        return 0;
    f->words[0] = (uint64_t)o->id << 32 | (uint32_t)device;
    f->words[1] = o->n_in | o->n_out << 8 | o->n_attrs << 16;
    f->n = 2;
    for (uint32_t i = 0; i < o->n_in + o->n_out; i++)
        if (!put_view (f, dps_op_operand (o, i)))
            return 0;
    return 1;
}

static uint64_t hash_of (const Form *f)
{
    uint64_t hash = 0xcbf29ce484222325u;
    for (size_t i = 0; i < f->n; i++) {
        hash = (hash ^ f->words[i]) * 0x100000001b3u;
        hash ^= hash >> 29;
    }
    return hash;
}

static void clear (DpsExec *ex)
{
    for (size_t i = 0; i < SLOTS; i++) {
        Plan *p = ex->prepared->slots[i];
        if (p)
            ex->devices[p->device].backend->plan_free (ex->devices[p->device].info.device, p->plan);
        dps_free (p);
        ex->prepared->slots[i] = NULL;
    }
    ex->prepared->n = 0;
}

void dps__prepared_close (DpsExec *ex)
{
    if (ex->prepared)
        clear (ex);
    dps_free (ex->prepared);
    ex->prepared = NULL;
}

static Plan **slot_of (const DpsExec *ex, const Form *f, uint64_t hash)
{
    for (size_t at = hash;; at++) {
        Plan **slot = &ex->prepared->slots[at % SLOTS];
        if (!*slot || ((*slot)->hash == hash && (*slot)->n == f->n && !memcmp ((*slot)->words, f->words, f->n * sizeof *f->words)))
            return slot;
    }
}

static DpsStatus prepare (const DpsExecDevice *d, int device, const DpsOp *o, const Form *f, uint64_t hash, Plan **out, DpsError *err)
{
    Plan *p = dps_malloc (1, sizeof *p + f->n * sizeof *f->words);
    if (!p)
        return dps_fail (err, DPS_ERR_NOMEM, "exec: no memory for a plan");
    *p = (Plan){.device = device, .hash = hash, .n = f->n};
    memcpy (p->words, f->words, f->n * sizeof *f->words);
    DpsStatus st = d->backend->prepare (d->info.device, o, &p->plan, err);
    if (st == DPS_OK)
        p->scratch = d->backend->plan_info (d->info.device, p->plan);
    else {
        dps_free (p);
        p = NULL;
    }
    *out = p;
    return st;
}

/* The plan of an op, made at first sight; NULL: the device offers none. */
static DpsStatus find (DpsExec *ex, int device, const DpsOp *o, const Plan **out, DpsError *err)
{
    const DpsExecDevice *d = &ex->devices[device];
    Form f;
    *out = NULL;
    if (!d->backend->prepare || !form_of (device, o, &f))
        return DPS_OK;
    if (!ex->prepared && !(ex->prepared = dps_calloc (1, sizeof *ex->prepared)))
        return dps_fail (err, DPS_ERR_NOMEM, "exec: no memory for plans");
    uint64_t hash = hash_of (&f);
    Plan **slot = slot_of (ex, &f, hash);
    if (!*slot) {
        if (ex->prepared->n == DPS_PREPARED_MAX) {
            clear (ex);
            slot = slot_of (ex, &f, hash);
        }
        DPS_TRY (prepare (d, device, o, &f, hash, slot, err));
        ex->prepared->n++;
    }
    *out = *slot;
    return DPS_OK;
}

/* Whether the exec's scratch is this op's to use, and large enough where it may not grow. */
static int has_scratch (const DpsExec *ex, const Plan *p)
{
    return p->device == 0 && !ex->scratch_taken && (!ex->sealed || p->scratch <= ex->scratch.bytes);
}

DpsStatus dps__prepared_run (DpsExec *ex, int device, const DpsOp *o, DpsError *err)
{
    const DpsExecDevice *d = &ex->devices[device];
    const DpsView *in[DPS_OP_MAX_IN + 1];
    const Plan *p;
    DPS_TRY (find (ex, device, o, &p, err));
    if (!p || (p->scratch && !has_scratch (ex, p)))
        return d->backend->run (d->info.device, o, 0, err);
    if (!p->scratch)
        return d->backend->run_plan (d->info.device, p->plan, o, err);
    DPS_TRY (dps_exec_reserve_scratch (ex, p->scratch, err));
    ex->scratch_peak = p->scratch > ex->scratch_peak ? p->scratch : ex->scratch_peak;
    const int64_t bytes = (int64_t)p->scratch;
    DpsView scratch = dps_block_view (DPS_DTYPE_U8, 1, &bytes, &ex->scratch, 0);
    DpsOp with = *o;
    memcpy (in, o->in, o->n_in * sizeof *in);
    in[with.n_in++] = &scratch;
    with.in = in;
    return d->backend->run_plan (d->info.device, p->plan, &with, err);
}

DpsStatus dps__prepared_scratch (DpsExec *ex, int device, const DpsOp *o, uint64_t *out_bytes, DpsError *err)
{
    const Plan *p;
    DPS_TRY (find (ex, device, o, &p, err));
    *out_bytes = p && device == 0 ? p->scratch : 0;
    return DPS_OK;
}
