/* SPDX-License-Identifier: Apache-2.0 */
/* suite_backend.c: the five mandatory functions: what every backend, however young, must keep. */
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "check/copy_cases.h"
#include "check/kit.h"
#include "check/plugin.h"
#include "exec/exec.h"

enum { LOOSE = 64 };

/* What a plugin may not write past: a struct of the host's size, and bytes behind it. */
typedef struct GuardedInfo {
    DpsDeviceInfo info;
    unsigned char loose[LOOSE];
} GuardedInfo;

typedef struct GuardedError {
    DpsError err;
    unsigned char loose[LOOSE];
} GuardedError;

static int is_loose (const unsigned char *loose)
{
    for (int i = 0; i < LOOSE; i++)
        if (loose[i] != KIT_BYTE)
            return 0;
    return 1;
}

/* Device i under a struct that ends after `size` bytes. */
static DpsStatus device_within (const DpsBackend *be, uint32_t i, size_t size, DpsDeviceInfo *out, DpsError *err)
{
    GuardedInfo g;
    memset (&g, KIT_BYTE, sizeof g);
    g.info.size = size;
    DPS_TRY (be->enumerate (i, &g.info, err));
    for (size_t b = size; b < sizeof g; b++)
        if (((const unsigned char *)&g)[b] != KIT_BYTE)
            return dps_fail (err, DPS_ERR_INVALID, "enumerate (%u): byte %zu of a DpsDeviceInfo of %zu bytes was written", i, b, size);
    memset (out, 0, sizeof *out);
    memcpy (out, &g.info, size < sizeof *out ? size : sizeof *out);
    return DPS_OK;
}

static DpsStatus devices (CheckContext *ctx, DpsError *err)
{
    const DpsBackend *be = ctx->table;
    DpsDeviceInfo all[DPS_DEVICES_MAX], again;
    uint32_t n = 0;
    for (DpsStatus st; (st = device_within (be, n, sizeof again, &all[n], err)) != DPS_ERR_NOT_FOUND; n++) {
        DPS_TRY (st);
        const char *what = dps_exec_device_fault (ctx->registry, be, n, &all[n]);
        if (what)
            return dps_fail (err, DPS_ERR_INVALID, "device %u %s", n, what);
        for (uint32_t k = 0; k < n; k++)
            if (!strcmp (all[k].name, all[n].name))
                return dps_fail (err, DPS_ERR_INVALID, "devices %u and %u are both called '%s'", k, n, all[n].name);
        DPS_TRY (device_within (be, n, offsetof (DpsDeviceInfo, detail), &again, err)); /* an older host's struct */
        DPS_TRY (device_within (be, n, sizeof again, &again, err));
        if (strcmp (again.name ? again.name : "", all[n].name))
            return dps_fail (err, DPS_ERR_INVALID, "device %u is called '%s', and something else when asked again", n, all[n].name);
        if (again.device != all[n].device)
            return dps_fail (err, DPS_ERR_INVALID,
                             "device %u has another handle when asked again: it must hold for the life of the process", n);
        if (n + 1 == DPS_DEVICES_MAX)
            return dps_fail (err, DPS_ERR_LIMIT, "more than %d devices: enumerate must answer NOT_FOUND past the last", DPS_DEVICES_MAX);
    }
    check_note_number (ctx, "devices", n);
    if (!n)
        return check_skip (err, "it has no device here: %s", err->msg);
    if (!err->msg[0])
        return dps_fail (err, DPS_ERR_INVALID, "enumerate past the last device gives NOT_FOUND without a message");
    return be->enumerate (n, &again, NULL) == DPS_ERR_NOT_FOUND
               ? DPS_OK
               : dps_fail (err, DPS_ERR_INVALID, "enumerate past the last device without an error");
}

/* Blocks of awkward sizes, all live at once: aligned, apart, and writable to their last byte. */
static DpsStatus memory (Kit *k, DpsError *err)
{
    static const uint64_t sizes[] = {0, 1, 63, 64, 65, 4097, 1 << 20};
    enum { N = sizeof sizes / sizeof *sizes };
    struct DpsBuffer *buffers[N] = {NULL};
    void *hosts[N] = {NULL};
    DpsStatus st = DPS_OK;
    for (int i = 0; i < N && st == DPS_OK; i++) {
        st = k->backend->alloc (k->device, sizes[i], &buffers[i], &hosts[i], err);
        if (st != DPS_OK)
            break;
        if (!buffers[i])
            st = dps_fail (err, DPS_ERR_INVALID, "alloc of %llu bytes gives no buffer and no error", (unsigned long long)sizes[i]);
        else if (k->info.flags & DPS_DEVICE_HOST_MEMORY && !hosts[i])
            st = dps_fail (err, DPS_ERR_INVALID, "the device says it shares host memory, and alloc of %llu bytes gives no address",
                           (unsigned long long)sizes[i]);
        else if ((uintptr_t)hosts[i] % 64)
            st = dps_fail (err, DPS_ERR_INVALID, "alloc of %llu bytes lies at %p, expected a multiple of 64", (unsigned long long)sizes[i],
                           hosts[i]);
        else if (hosts[i])
            memset (hosts[i], i, sizes[i]);
    }
    for (int i = 0; i < N && st == DPS_OK; i++)
        for (uint64_t b = 0; hosts[i] && b < sizes[i] && st == DPS_OK; b++)
            if (((unsigned char *)hosts[i])[b] != i)
                st = dps_fail (err, DPS_ERR_INVALID, "byte %llu of a block of %llu was changed by another block", (unsigned long long)b,
                               (unsigned long long)sizes[i]);
    for (int i = 0; i < N; i++)
        if (buffers[i])
            k->backend->free (k->device, buffers[i]);
    k->backend->free (k->device, NULL);
    k->n_compared += st == DPS_OK;
    return st;
}

/* What cannot be had is NOMEM, with words; nothing is handed out. */
static DpsStatus no_memory (Kit *k, DpsError *err)
{
    static const uint64_t sizes[] = {UINT64_MAX, UINT64_MAX - 63, UINT64_MAX / 2, (uint64_t)1 << 62};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        struct DpsBuffer *buffer = NULL;
        void *host = NULL;
        err->msg[0] = '\0';
        DpsStatus st = k->backend->alloc (k->device, sizes[i], &buffer, &host, err);
        if (st != DPS_ERR_NOMEM || !err->msg[0])
            return dps_fail (err, DPS_ERR_INVALID, "alloc of 2^64 bytes and the like: %s%s, expected NOMEM with a message",
                             dps_status_name (st), err->msg[0] ? "" : " without a message");
        if (k->backend->alloc (k->device, sizes[i], &buffer, &host, NULL) == DPS_OK || buffer)
            return dps_fail (err, DPS_ERR_INVALID, "alloc failed and gave a buffer all the same");
    }
    k->n_compared++;
    return DPS_OK;
}

static DpsStatus copy (Kit *k, DpsError *err) { return copy_cases (k, err); }

static const struct {
    int64_t M, K, O;
} shapes[] = {{0, 5, 3},     {1, 1, 1},     {1, 3, 17},     {3, 17, 5},     {7, 16, 16},   {16, 15, 33},
              {17, 257, 31}, {65, 64, 257}, {70, 255, 259}, {129, 31, 300}, {33, 700, 17}, {3, 4099, 2}};
enum { N_SHAPES = sizeof shapes / sizeof *shapes };

/* The matmul of the lowest rung: y = alpha·x·Wᵀ in f32, rows as they are. */
static DpsStatus matmul (Kit *k, DpsError *err)
{
    for (int i = 0; i < N_SHAPES; i++)
        for (int scaled = 0; scaled < 2; scaled++) {
            KitArray *x = kit_normals (k, F32, shapes[i].M, shapes[i].K, 1), *w = kit_normals (k, F32, shapes[i].O, shapes[i].K, 1);
            DPS_TRY (kit_compare (k,
                                  &(KitCall){.name = "linear",
                                             .in = {x, w},
                                             .out = {kit_array (k, F32, shapes[i].M, shapes[i].O)},
                                             .attrs = {{.f = scaled ? -0.75 : 0}},
                                             .length = shapes[i].K},
                                  err));
            kit_clear (k);
        }
    return DPS_OK;
}

/* A device is used by one thread at a time, not always by the same. */
typedef struct Elsewhere {
    Kit *k;
    KitCall call;
    DpsStatus st;
    DpsError err;
} Elsewhere;

static void *run_elsewhere (void *arg)
{
    Elsewhere *e = arg;
    e->st = kit_compare (e->k, &e->call, &e->err);
    return NULL;
}

static DpsStatus any_thread (Kit *k, DpsError *err)
{
    for (int i = 0; i < 3; i++) {
        KitArray *x = kit_normals (k, F32, 33, 31, 1), *w = kit_normals (k, F32, 17, 31, 1);
        Elsewhere e = {
            .k = k, .call = {.name = "linear", .in = {x, w}, .out = {kit_array (k, F32, 33, 17)}, .length = 31}, .err = DPS_ERROR_INIT};
        pthread_t thread;
        DPS_TRY (kit_compare (k, &e.call, err));
        if (pthread_create (&thread, NULL, run_elsewhere, &e))
            return dps_fail (err, DPS_ERR_LIMIT, "no thread");
        pthread_join (thread, NULL);
        if (e.st != DPS_OK)
            return dps_fail (err, e.st, "from another thread, one call at a time: %.800s", e.err.msg);
        kit_clear (k);
    }
    return DPS_OK;
}

/* The same call has the same bits, if the device says so much. */
static DpsStatus repeatable (Kit *k, DpsError *err)
{
    uint32_t class = k->backend->determinism ? k->backend->determinism (k->device) : DPS_DETERMINISM_NONE;
    if (class > DPS_DETERMINISM_BATCH)
        return dps_fail (err, DPS_ERR_INVALID, "determinism says %u, expected one of DPS_DETERMINISM_* (0 to %d)", class,
                         DPS_DETERMINISM_BATCH);
    check_note_number (k->ctx, "determinism", class);
    if (class < DPS_DETERMINISM_RUN)
        return check_skip (err, "it promises nothing about bits (DPS_DETERMINISM_NONE)");
    KitArray *x = kit_normals (k, F32, 133, 257, 1), *w = kit_normals (k, F32, 301, 257, 1), *first = kit_array (k, F32, 133, 301);
    DpsStatus st = kit_call (k, &(KitCall){.name = "linear", .in = {x, w}, .out = {first}}, err);
    for (int i = 0; i < 20 && st == DPS_OK; i++) {
        KitArray *y = kit_array (k, F32, 133, 301);
        st = kit_run_moved (k, &(KitCall){.name = "linear", .in = {x, w}, .out = {y}}, err);
        if (st == DPS_OK)
            st = kit_same_bits ("linear, the same call again", y, first, err);
    }
    k->n_compared++;
    return st;
}

/* An op nobody knows, and a NULL error: UNSUPPORTED with a reason, dry and for real, and nothing is written past the error. */
static DpsStatus unknown_op (Kit *k, DpsError *err)
{
    KitArray *x = kit_normals (k, F32, 3, 5, 1), *y = kit_array (k, F32, 3, 5);
    const KitCall c = {.name = "com.example.no_such_op", .in = {x}, .out = {y}};
    GuardedError g;
    for (uint32_t flags = 0; flags <= DPS_RUN_DRY; flags++) {
        memset (&g, KIT_BYTE, sizeof g);
        g.err.size = sizeof g.err;
        DpsStatus st = kit_run (k, &c, flags, &g.err);
        if (st != DPS_ERR_UNSUPPORTED || !g.err.msg[0] || !memchr (g.err.msg, 0, sizeof g.err.msg))
            return dps_fail (err, DPS_ERR_INVALID, "an unknown op: %s%s, expected UNSUPPORTED with a reason", dps_status_name (st),
                             g.err.msg[0] ? "" : " without a message");
        if (!is_loose (g.loose))
            return dps_fail (err, DPS_ERR_INVALID, "an unknown op: bytes past the DpsError were written");
    }
    GuardedError other = {.err = DPS_ERROR_INIT};
    memset (&g, KIT_BYTE, sizeof g);
    if (kit_run (k, &c, 0, &other.err) != DPS_ERR_UNSUPPORTED)
        return dps_fail (err, DPS_ERR_INVALID, "an unknown op is refused once, and then not");
    for (size_t i = 0; i < sizeof g; i++)
        if (((const unsigned char *)&g)[i] != KIT_BYTE)
            return dps_fail (err, DPS_ERR_INVALID, "an unknown op: the DpsError of the call before was written: its pointer was kept");
    const DpsOp op = {.size = sizeof op, .id = dps_intern (c.name)};
    if (k->backend->run (k->device, &op, DPS_RUN_DRY, NULL) != DPS_ERR_UNSUPPORTED ||
        k->backend->run (k->device, &op, 0, NULL) != DPS_ERR_UNSUPPORTED)
        return dps_fail (err, DPS_ERR_INVALID, "an unknown op without a DpsError: expected UNSUPPORTED");
    k->n_compared++;
    return DPS_OK;
}

/* Each device by itself: memory, the matmul, and memory of two devices at the same time. */
static DpsStatus every_device (CheckContext *ctx, DpsError *err)
{
    const DpsBackend *be = ctx->table;
    const char *names[DPS_DEVICES_MAX];
    uint32_t n = 0;
    DpsDeviceInfo info = {.size = sizeof info};
    for (; n < DPS_DEVICES_MAX && be->enumerate (n, &info, err) == DPS_OK; n++)
        names[n] = info.name;
    if (n < 2)
        return check_skip (err, "it has %u device%s here", n, n == 1 ? "" : "s");
    DpsStatus st = DPS_OK;
    for (uint32_t i = 0; i < n && st == DPS_OK; i++) {
        CheckContext other = *ctx;
        Kit k;
        other.device = names[i];
        st = kit_open (&k, &other, err);
        if (st == DPS_OK)
            st = memory (&k, err);
        if (st == DPS_OK)
            st = matmul (&k, err);
        st = kit_close (&k, st, err);
    }
    return st;
}

/* Bytes free and in all, where it tells. */
static DpsStatus mem_info (Kit *k, DpsError *err)
{
    uint64_t free_bytes = 0, total = 0;
    if (!k->backend->mem_info)
        return check_skip (err, "it has no mem_info");
    DPS_TRY (k->backend->mem_info (k->device, &free_bytes, &total, err));
    k->n_compared++;
    return free_bytes <= total ? DPS_OK
                               : dps_fail (err, DPS_ERR_INVALID, "mem_info: %llu bytes free of %llu", (unsigned long long)free_bytes,
                                           (unsigned long long)total);
}

KIT_CASE (memory)
KIT_CASE (no_memory)
KIT_CASE (copy)
KIT_CASE (matmul)
KIT_CASE (any_thread)
KIT_CASE (repeatable)
KIT_CASE (unknown_op)
KIT_CASE (mem_info)

static const CheckCase cases[] = {
    CHECK_CASE (devices, 0, CHECK_REQUIRED | CHECK_ALL_PLUGINS),
    KIT_LINE (memory, 0, CHECK_REQUIRED),
    KIT_LINE (no_memory, 0, CHECK_REQUIRED),
    KIT_LINE (copy, 0, CHECK_REQUIRED),
    KIT_LINE (matmul, 0, CHECK_REQUIRED),
    KIT_LINE (any_thread, 0, CHECK_REQUIRED),
    KIT_LINE (unknown_op, 0, CHECK_REQUIRED),
    KIT_LINE (repeatable, 0, 0),
    KIT_LINE (mem_info, 0, 0),
    CHECK_CASE (every_device, 0, 0),
};
const CheckSuite check_suite_backend = {"backend", DPS_BACKEND_ID, "the five mandatory functions", cases, sizeof cases / sizeof *cases};
