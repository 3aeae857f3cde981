/* SPDX-License-Identifier: Apache-2.0 */
/*
 * checked.c: the tables of the checking layer: memory, copies, ops, plans and packing. What it looks at in an op is in checked_op.c, what it knows of
 * memory in checked_memory.c.
 */
#include "exec/checked.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "plugin/host.h"
#include "plugin/validate.h"

/* The plugin whose calls came before c's: what it left running would be found in these. NULL: there is none. */
static const char *other_writer (const Checked *c)
{
    const char *now = atomic_load (&c->shared->now);
    return now == c->layer.below.plugin->id ? atomic_load (&c->shared->before) : now;
}

static void note_caller (Checked *c)
{
    const char *id = c->layer.below.plugin->id;
    if (atomic_load (&c->shared->now) != id && strcmp (id, "dps.ref"))
        atomic_store (&c->shared->before, atomic_exchange (&c->shared->now, id));
}

static void say (const Checked *c, int blame, const char *subject, char *text, size_t cap, const char *fmt, va_list ap)
{
    size_t n = (size_t)snprintf (text, cap, "validate: %s on %s: ", subject, c->layer.below.info.name);
    if (n < cap)
        n += (size_t)vsnprintf (text + n, cap - n, fmt, ap);
    const char *other = blame == DPS_BLAME_WRITER ? other_writer (c) : NULL;
    if (n < cap)
        snprintf (text + n, cap - n, ". To blame: %s%s%s%s%s", blame == DPS_BLAME_HOST ? "the host" : "plugin ",
                  blame == DPS_BLAME_HOST ? "" : c->layer.below.plugin->id, other ? ", unless a thread that plugin " : "",
                  other ? other : "", other ? " left running wrote it" : "");
    dps__validate_count ();
}

DpsStatus dps__checked_fault (Checked *c, int blame, const char *subject, DpsError *err, const char *fmt, ...)
{
    char text[900];
    va_list ap;
    va_start (ap, fmt);
    say (c, blame, subject, text, sizeof text, fmt, ap);
    va_end (ap);
    return dps_fail (err, DPS_ERR_INVALID, "%s", text);
}

void dps__checked_log (Checked *c, int blame, const char *subject, const char *fmt, ...)
{
    char text[900];
    va_list ap;
    va_start (ap, fmt);
    say (c, blame, subject, text, sizeof text, fmt, ap);
    va_end (ap);
    dps_log (DPS_LOG_ERROR, "%s", text);
}

static Checked *of (struct DpsDevice *dev) { return (Checked *)(void *)dev; }
static struct DpsDevice *device (const Checked *c) { return c->layer.below.info.device; }

/* [device-serial]: two calls at once are a fault of the host, and the second is not made. */
static DpsStatus enter (Checked *c, const char *slot, DpsError *err)
{
    c->calls++;
    note_caller (c);
    if (!atomic_flag_test_and_set (&c->busy))
        return DPS_OK;
    return dps__checked_fault (c, DPS_BLAME_HOST, slot, err,
                               "called while another call on the device has not returned; it is [device-serial]");
}
static DpsStatus leave (Checked *c, DpsStatus st)
{
    atomic_flag_clear (&c->busy);
    return st;
}

/* Memory. */

static DpsStatus checked_alloc (struct DpsDevice *dev, uint64_t bytes, struct DpsBuffer **out, void **out_host, DpsError *err)
{
    Checked *c = of (dev);
    void *host = NULL;
    DPS_TRY (enter (c, "alloc", err));
    *out = NULL;
    if (bytes > UINT64_MAX - DPS_CHECKED_GUARD)
        return leave (c, dps_fail (err, DPS_ERR_NOMEM, "validate: no memory for %llu bytes", (unsigned long long)bytes));
    DpsStatus st = c->layer.below.backend->alloc (device (c), bytes + DPS_CHECKED_GUARD, out, &host, err);
    if (st != DPS_OK)
        return leave (c, st);
    dps__checked_lock (c);
    st = dps__checked_unlock (c, dps__checked_take (c, *out, host, bytes, err));
    if (st == DPS_OK && host)
        memset (host, 0xff, bytes + DPS_CHECKED_GUARD); /* "contents undefined": whoever reads them reads NaN */
    if (st != DPS_OK)
        *out = NULL;
    if (out_host)
        *out_host = host;
    return leave (c, st);
}

static void checked_free (struct DpsDevice *dev, struct DpsBuffer *buffer)
{
    Checked *c = of (dev);
    DpsError err = DPS_ERROR_INIT;
    if (enter (c, "free", &err) != DPS_OK) {
        dps_log (DPS_LOG_ERROR, "%s", err.msg);
        return;
    }
    dps__checked_lock (c);
    int frees = dps__checked_release (c, buffer);
    dps__checked_unlock (c, DPS_OK);
    if (frees)
        c->layer.below.backend->free (device (c), buffer);
    leave (c, DPS_OK);
}

static DpsStatus copy_one (Checked *c, const DpsView *from, const DpsView *to, DpsError *err)
{
    const DpsOp op = {.size = sizeof op, .n_in = 1, .n_out = 1, .in = &from, .out = &to};
    DPS_TRY (dps__checked_view (c, from, "copy from", err));
    DPS_TRY (dps__checked_view (c, to, "copy to", err));
    if (dps_view_count (from) != dps_view_count (to) || from->dtype != to->dtype)
        return dps__checked_fault (c, DPS_BLAME_HOST, "copy", err,
                                   "%lld elements go to %lld, or another dtype; expected one shape and dtype",
                                   (long long)dps_view_count (from), (long long)dps_view_count (to));
    if (!from->buffer && !to->buffer)
        return dps__checked_fault (c, DPS_BLAME_HOST, "copy", err, "both sides are host memory; expected at most one");
    DPS_TRY (dps__checked_conflict (c, NULL, &op, err));
    return c->layer.below.backend->copy (device (c), from, to, err);
}

static DpsStatus checked_copy (struct DpsDevice *dev, const DpsView *from, const DpsView *to, DpsError *err)
{
    Checked *c = of (dev);
    DPS_TRY (enter (c, "copy", err));
    return leave (c, copy_one (c, from, to, err));
}

/* Ops. */

/* Nobody may write while only a question is asked. While a run is being planned there is no memory behind the views. */
static DpsStatus ask (Checked *c, const DpsOp *op, uint32_t flags, DpsError *err)
{
    uint64_t before[DPS_OPERANDS_MAX] = {0}, bytes[DPS_OPERANDS_MAX] = {0};
    uint32_t n = op->n_in + op->n_out;
    dps__checked_lock (c);
    for (uint32_t i = 0; i < n && i < DPS_OPERANDS_MAX; i++) {
        const DpsView *v = dps_op_operand (op, i);
        const Memory *m = v && v->host && v->buffer ? dps__checked_memory (c, v->buffer, NULL) : NULL;
        if (m && m->live && !dps__view_bytes (&c->quants, v, &bytes[i]) && v->offset <= m->bytes && bytes[i] <= m->bytes - v->offset)
            before[i] = dps__bytes_hash (i, v->host, bytes[i]);
    }
    dps__checked_unlock (c, DPS_OK);
    DpsStatus st = c->layer.below.backend->run (device (c), op, flags, err);
    for (uint32_t i = 0; i < n && i < DPS_OPERANDS_MAX; i++) {
        char subject[160];
        const DpsView *v = dps_op_operand (op, i);
        if (!before[i] || before[i] == dps__bytes_hash (i, v->host, bytes[i]))
            continue;
        DpsError why = DPS_ERROR_INIT; /* err is only why the op goes elsewhere */
        dps__checked_fault (c, DPS_BLAME_PLUGIN, dps__checked_subject (c, op, i, subject, sizeof subject), &why,
                            "was written by a call with DPS_RUN_DRY; expected no side effect");
        dps_log (DPS_LOG_ERROR, "%s", why.msg);
        return dps_fail (err, DPS_ERR_INVALID, "%s", why.msg);
    }
    return st;
}

/* A plan that wants scratch has it as its last input. */
static DpsStatus take_scratch (Checked *c, DpsOp *op, uint64_t bytes, DpsError *err)
{
    if (!bytes)
        return DPS_OK;
    const DpsView *v = op->n_in ? op->in[op->n_in - 1] : NULL;
    if (!v || v->dtype != DPS_DTYPE_U8 || (uint64_t)dps_view_count (v) < bytes)
        return dps__checked_fault (c, DPS_BLAME_HOST, "run_plan", err,
                                   "the last input is no scratch of %llu bytes, which the plan asked for", (unsigned long long)bytes);
    op->n_in--;
    return dps__checked_view (c, v, "run_plan scratch", err);
}

static DpsStatus run_checked (Checked *c, struct DpsPlan *plan, const DpsOp *op, uint32_t flags, DpsError *err)
{
    const DpsBackend *real = c->layer.below.backend;
    Watch w;
    if (!plan && flags & DPS_RUN_DRY)
        return ask (c, op, flags, err);
    DPS_TRY (dps__checked_conflict (c, NULL, op, err));
    DpsOp bare = *op; /* without a plan's scratch, of which nothing is promised */
    if (plan)
        DPS_TRY (take_scratch (c, &bare, real->plan_info (device (c), plan), err));
    DPS_TRY (dps__checked_before (c, &bare, &w, err));
    DPS_TRY (plan ? real->run_plan (device (c), plan, op, err) : real->run (device (c), op, flags, err));
    return dps__checked_after (c, &bare, &w, err);
}

static DpsStatus checked_run (struct DpsDevice *dev, const DpsOp *op, uint32_t flags, DpsError *err)
{
    Checked *c = of (dev);
    DPS_TRY (enter (c, "run", err));
    return leave (c, run_checked (c, NULL, op, flags, err));
}

static DpsStatus checked_prepare (struct DpsDevice *dev, const DpsOp *op, struct DpsPlan **out, DpsError *err)
{
    Checked *c = of (dev);
    DPS_TRY (enter (c, "prepare", err));
    DpsStatus st = c->layer.below.backend->prepare (device (c), op, out, err);
    c->plans += st == DPS_OK;
    return leave (c, st);
}

static uint64_t checked_plan_info (struct DpsDevice *dev, const struct DpsPlan *plan)
{
    return of (dev)->layer.below.backend->plan_info (device (of (dev)), plan);
}

static DpsStatus checked_run_plan (struct DpsDevice *dev, struct DpsPlan *plan, const DpsOp *op, DpsError *err)
{
    Checked *c = of (dev);
    DPS_TRY (enter (c, "run_plan", err));
    return leave (c, run_checked (c, plan, op, 0, err));
}

static void checked_plan_free (struct DpsDevice *dev, struct DpsPlan *plan)
{
    of (dev)->plans -= plan && of (dev)->plans;
    of (dev)->layer.below.backend->plan_free (device (of (dev)), plan);
}

static DpsStatus checked_mem_info (struct DpsDevice *dev, uint64_t *out_free, uint64_t *out_total, DpsError *err)
{
    return of (dev)->layer.below.backend->mem_info (device (of (dev)), out_free, out_total, err);
}

static uint32_t checked_determinism (struct DpsDevice *dev) { return of (dev)->layer.below.backend->determinism (device (of (dev))); }

/* Packing. */

static DpsStatus checked_query (struct DpsDevice *dev, int64_t o, int64_t k, uint32_t dtype, uint32_t orientation, uint64_t *bytes,
                                uint32_t *layout, DpsError *err)
{
    return of (dev)->layer.below.pack->query (device (of (dev)), o, k, dtype, orientation, bytes, layout, err);
}

static DpsStatus pack_one (Checked *c, const DpsView *from, int64_t row, uint32_t orientation, const DpsView *to, DpsError *err)
{
    DPS_TRY (dps__checked_view (c, from, "pack from", err));
    DPS_TRY (dps__checked_view (c, to, "pack to", err));
    if (from->rank != 2 || to->rank != 2 || from->shape[1] != to->shape[1] || row < 0 || row > to->shape[0] - from->shape[0])
        return dps__checked_fault (c, DPS_BLAME_HOST, "pack", err, "rows %lld + %lld do not lie in the weight; expected them to",
                                   (long long)row, from->rank ? (long long)from->shape[0] : 0);
    if (row % 64 || (from->shape[0] % 64 && row + from->shape[0] != to->shape[0]))
        return dps__checked_fault (c, DPS_BLAME_HOST, "pack", err, "rows %lld + %lld; expected pieces of multiples of 64 rows but the last",
                                   (long long)row, (long long)from->shape[0]);
    return c->layer.below.pack->pack (device (c), from, row, orientation, to, err);
}

static DpsStatus checked_pack (struct DpsDevice *dev, const DpsView *from, int64_t row, uint32_t orientation, const DpsView *to,
                               DpsError *err)
{
    Checked *c = of (dev);
    DPS_TRY (enter (c, "pack", err));
    return leave (c, pack_one (c, from, row, orientation, to, err));
}

static DpsStatus checked_unpack_rows (struct DpsDevice *dev, const DpsView *packed, const int32_t *ids, int64_t n, const DpsView *y,
                                      DpsError *err)
{
    Checked *c = of (dev);
    DPS_TRY (enter (c, "unpack_rows", err));
    DpsStatus st = dps__checked_view (c, packed, "unpack_rows from", err);
    if (st == DPS_OK)
        st = dps__checked_view (c, y, "unpack_rows to", err);
    return leave (c, st == DPS_OK ? c->layer.below.pack->unpack_rows (device (c), packed, ids, n, y, err) : st);
}

/* Opening and closing. */

static void checked_close (DpsCallLayer *layer)
{
    Checked *c = (Checked *)(void *)layer;
    for (size_t i = 0; i < c->shared->n_memory; i++)
        if (c->shared->memory[i].live && c->shared->memory[i].owner == c)
            dps__checked_log (c, DPS_BLAME_HOST, "close", "buffer %llu of %llu bytes was never freed",
                              (unsigned long long)c->shared->memory[i].number, (unsigned long long)c->shared->memory[i].bytes);
    if (c->plans)
        dps__checked_log (c, DPS_BLAME_HOST, "close", "%llu prepared plans were never freed", (unsigned long long)c->plans);
    if (c->queues_open || c->events_open)
        dps__checked_log (c, DPS_BLAME_HOST, "close", "%llu queues and %llu events were never freed", (unsigned long long)c->queues_open,
                          (unsigned long long)c->events_open);
    dps_log (DPS_LOG_INFO, "validate: %s: %llu calls checked, %llu rules broken in the process so far", c->layer.below.info.name,
             (unsigned long long)c->calls, (unsigned long long)dps_validate_faults ());
    if (!--c->shared->users) {
        pthread_mutex_destroy (&c->shared->lock);
        dps_free (c->shared->flights);
        dps_free (c->shared->memory);
        dps_free (c->shared);
    }
    dps_free (c);
}

static void put_tables (Checked *c)
{
    const DpsBackend *b = c->layer.below.backend;
    const DpsPack *p = c->layer.below.pack;
    int plans = b->prepare && b->plan_info && b->run_plan && b->plan_free;
    c->table = (DpsBackend){.size = sizeof c->table,
                            .enumerate = b->enumerate,
                            .alloc = checked_alloc,
                            .free = checked_free,
                            .copy = checked_copy,
                            .run = checked_run,
                            .prepare = plans ? checked_prepare : NULL,
                            .plan_info = plans ? checked_plan_info : NULL,
                            .run_plan = plans ? checked_run_plan : NULL,
                            .plan_free = plans ? checked_plan_free : NULL,
                            .mem_info = b->mem_info ? checked_mem_info : NULL,
                            .determinism = b->determinism ? checked_determinism : NULL};
    if (p)
        c->pack = (DpsPack){.size = sizeof c->pack,
                            .query = checked_query,
                            .pack = checked_pack,
                            .unpack_rows = p->unpack_rows ? checked_unpack_rows : NULL};
}

static CheckedShared *new_shared (void)
{
    CheckedShared *s = dps_calloc (1, sizeof *s);
    pthread_mutexattr_t recursive;
    if (s && pthread_mutexattr_init (&recursive) == 0) {
        pthread_mutexattr_settype (&recursive, PTHREAD_MUTEX_RECURSIVE);
        pthread_mutex_init (&s->lock, &recursive);
        pthread_mutexattr_destroy (&recursive);
    }
    return s;
}

DpsStatus dps__checked_add (DpsExecDevice *d, const DpsBackend *ref, CheckedShared **shared, DpsError *err)
{
    Checked *c = dps_calloc (1, sizeof *c);
    DpsDeviceInfo info = {.size = sizeof info};
    *shared = *shared ? *shared : new_shared ();
    if (!c || !*shared) {
        dps_free (c);
        if (*shared && !(*shared)->users)
            dps_free (*shared);
        return dps_fail (err, DPS_ERR_NOMEM, "validate: out of memory");
    }
    c->shared = *shared;
    c->shared->users++;
    c->layer = (DpsCallLayer){.below = *d, .close = checked_close};
    atomic_flag_clear (&c->busy);
    for (int i = 0; i < DPS_OP_COUNT; i++)
        c->op_ids[i] = dps_intern (dps_op_name ((DpsOpCode)i));
    int named = dps_quant_names (dps__intern, &c->quants) == 0; /* exec has the same names already */
    c->ref = named && ref && ref->enumerate (0, &info, NULL) == DPS_OK ? ref : NULL;
    c->ref_device = info.device;
    put_tables (c);
    d->backend = &c->table;
    d->pack = d->pack ? &c->pack : NULL;
    d->info.device = (struct DpsDevice *)(void *)c;
    d->layer = &c->layer;
    return DPS_OK;
}
