/* SPDX-License-Identifier: Apache-2.0 */
/*
 * suite_backend_memory.c: what a backend allocates: a failure at the k-th allocation is NOMEM and changes nothing, and what an op takes it gives
 * back. Seen are allocations of the module's own code (alloc_hook.h), and of the device through mem_info.
 */
#include <stdio.h>
#include <string.h>

#include "check/alloc_hook.h"
#include "check/process.h"
#include "check/typical.h"

enum { MOST_FAILURES = 200, WARM_UP = 4, CALLS = 32 };

static const char *const all_ops[] = {
#define OP(name, n_in, n_out, shape, adjoint) #name,
#include "graph/ops.def"
#undef OP
};
enum { N_OPS = sizeof all_ops / sizeof *all_ops };

static DpsStatus hook (const Kit *k, DpsError *err)
{
    const void *function;
    memcpy (&function, &k->backend->run, sizeof function);
    int n = !strcmp (k->ctx->plugin->id, "dps.ref") ? 0 : alloc_hook (function);
    return n ? DPS_OK : check_skip (err, "its allocations cannot be watched (it is linked in, or calls no allocator itself)");
}

/* Allocation k of this call fails: NOMEM in words, or done without it. *out_over: the call made fewer than k. */
static DpsStatus one_failure (Kit *k, const KitCall *c, uint64_t at, int *out_over, DpsError *err)
{
    DPS_TRY (kit_upload (k, c, err));
    alloc_hook_fail_at (at);
    DpsStatus st = kit_run (k, c, 0, err);
    *out_over = alloc_hook_count () < at;
    alloc_hook_fail_at (0);
    if (st == DPS_OK || (*out_over && (st == DPS_ERR_UNSUPPORTED || st == DPS_ERR_DTYPE)))
        return DPS_OK;
    if (st != DPS_ERR_NOMEM || !err->msg[0])
        return dps_fail (err, DPS_ERR_INVALID, "%s, with its allocation %llu failing: %s%s, expected NOMEM with a message", c->name,
                         (unsigned long long)at, dps_status_name (st), err->msg[0] ? "" : " without a message");
    return DPS_OK;
}

static DpsStatus failures_of (Kit *k, const char *op, const TypicalSize *z, DpsError *err)
{
    KitCall c;
    int over = 0;
    DPS_TRY (typical_call (k, op, F32, z, &c, err));
    if (kit_run (k, &c, DPS_RUN_DRY, err) != DPS_OK) {
        snprintf (k->refusal, sizeof k->refusal, "%.390s", err->msg);
        return KIT_REFUSED;
    }
    for (uint64_t at = 1; at <= MOST_FAILURES && !over; at++)
        DPS_TRY (one_failure (k, &c, at, &over, err));
    DPS_TRY (typical_call (k, op, F32, z, &c, err)); /* and after all that the numbers are right */
    return kit_compare (k, &c, err);
}

static DpsStatus failures (Kit *k, DpsError *err)
{
    DPS_TRY (hook (k, err));
    for (int i = 0; i < N_OPS; i++) {
        DPS_TRY (kit_refusable (k, failures_of (k, all_ops[i], &typical_small, err)));
        kit_clear (k);
    }
    for (uint64_t at = 1;; at++) {
        struct DpsBuffer *buffer = NULL;
        void *host = NULL;
        int64_t live = alloc_hook_live ();
        alloc_hook_fail_at (at);
        DpsStatus st = k->backend->alloc (k->device, 1000, &buffer, &host, err);
        int over = alloc_hook_count () < at;
        alloc_hook_fail_at (0);
        if (st == DPS_OK)
            k->backend->free (k->device, buffer);
        if (st != DPS_OK && (st != DPS_ERR_NOMEM || !err->msg[0]))
            return dps_fail (err, DPS_ERR_INVALID, "alloc, with allocation %llu of its own failing: %s, expected NOMEM with a message",
                             (unsigned long long)at, dps_status_name (st));
        if (alloc_hook_live () > live)
            return dps_fail (err, DPS_ERR_INVALID, "alloc, with allocation %llu of its own failing, keeps %lld blocks",
                             (unsigned long long)at, (long long)(alloc_hook_live () - live));
        if (over)
            return DPS_OK;
    }
}

static uint64_t device_free (Kit *k)
{
    uint64_t free_bytes = 0, total = 0;
    return k->backend->mem_info && k->backend->mem_info (k->device, &free_bytes, &total, NULL) == DPS_OK ? free_bytes : 0;
}

/* After a few calls that may fill caches, further ones keep nothing. */
static DpsStatus leaks_of (Kit *k, const char *op, DpsError *err)
{
    KitCall c;
    DPS_TRY (typical_call (k, op, F32, &typical_small, &c, err));
    DPS_TRY (kit_call (k, &c, err));
    for (int i = 0; i < WARM_UP; i++)
        DPS_TRY (kit_run (k, &c, 0, err));
    int64_t live = alloc_hook_live ();
    uint64_t device = device_free (k);
    int files = check_open_files ();
    for (int i = 0; i < CALLS; i++)
        DPS_TRY (kit_run (k, &c, i % 2 ? DPS_RUN_DRY : 0, err));
    int64_t kept = alloc_hook_live () - live;
    k->n_compared++;
    if (kept > 0)
        return dps_fail (err, DPS_ERR_INVALID, "%s keeps memory: %d calls left %lld blocks more than before", op, CALLS, (long long)kept);
    if (check_open_files () > files)
        return dps_fail (err, DPS_ERR_INVALID, "%s leaves files open: %d calls left %d", op, CALLS, check_open_files () - files);
    uint64_t now = device_free (k);
    if (now + 4096 * CALLS < device)
        return dps_fail (err, DPS_ERR_INVALID, "%s keeps memory of the device: %d calls took %llu bytes", op, CALLS,
                         (unsigned long long)(device - now));
    return DPS_OK;
}

static DpsStatus leaks (Kit *k, DpsError *err)
{
    DPS_TRY (hook (k, err));
    int64_t before = alloc_hook_live ();
    for (int i = 0; i < 100; i++) {
        struct DpsBuffer *buffer = NULL;
        void *host;
        DPS_TRY (k->backend->alloc (k->device, 1000, &buffer, &host, err));
        k->backend->free (k->device, buffer);
    }
    if (alloc_hook_live () - before >= 100)
        return dps_fail (err, DPS_ERR_INVALID, "alloc and free 100 times left %lld blocks", (long long)(alloc_hook_live () - before));
    for (int i = 0; i < N_OPS; i++) {
        DPS_TRY (kit_refusable (k, leaks_of (k, all_ops[i], err)));
        kit_clear (k);
    }
    return DPS_OK;
}

KIT_CASE (failures)
KIT_CASE (leaks)

static const CheckCase cases[] = {KIT_LINE (failures, 0, 0), KIT_LINE (leaks, 0, 0)};
const CheckSuite check_suite_backend_memory = {"backend.memory", DPS_BACKEND_ID, "allocations that fail, and those that stay", cases,
                                               sizeof cases / sizeof *cases};
