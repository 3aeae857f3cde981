/* SPDX-License-Identifier: Apache-2.0 */
/*
 * validate.c: a table's functions carry no context, so each of 32 plugins of a kind has its own set of checking functions, made by the
 * lists below: one line a slot, X (instance, type, slot, handle, tag, parameters, arguments).
 */
#include "plugin/validate.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/status.h"
#include "diapason/diapason.h"

enum { N_INSTANCES = 32, MAX_ACTIVE = 64, CANARY = 0x5a };
enum { TAG_ANY, TAG_INIT, TAG_SERIAL }; /* SERIAL: one call at a time per handle */

typedef struct Shim {
    char plugin[97]; /* "" while free */
    union {
        DpsBackend backend;
        DpsPack pack;
        DpsQueues queues;
        DpsRecorder recorder;
        DpsObjective objective;
        DpsAdapter adapter;
        DpsFormat format;
        DpsReward reward;
    } real;
} Shim;

/** One call on its way through. */
typedef struct Call {
    const Shim *shim;
    const char *slot;
    const void *handle;
    DpsError *theirs; /* the caller's, may be NULL */
    DpsError err;     /* what the plugin gets */
    unsigned char canary[64];
    int clash;
} Call;

static _Atomic uint64_t n_faults;
static pthread_t init_thread;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static const void *active[MAX_ACTIVE]; /* handles inside a serial call; under lock */

uint64_t dps_validate_faults (void) { return atomic_load (&n_faults); }

void dps__validate_count (void) { atomic_fetch_add (&n_faults, 1); }

int dps__validating (void)
{
    const char *value = getenv ("DIAPASON_VALIDATE");
    return value && *value && strcmp (value, "0");
}

static void fault (const Call *c, const char *what)
{
    atomic_fetch_add (&n_faults, 1);
    dps_log (DPS_LOG_ERROR, "validate: plugin %s: %s %s", c->shim->plugin, c->slot, what);
}

static size_t find_active (const void *handle)
{
    size_t i = 0;
    while (i < MAX_ACTIVE && active[i] != handle)
        i++;
    return i;
}

static Call begin (const Shim *shim, const char *slot, int tag, const void *handle, DpsError *theirs)
{
    Call c = {.shim = shim, .slot = slot, .theirs = theirs, .err = DPS_ERROR_INIT};
    memset (c.canary, CANARY, sizeof c.canary);
    if (tag == TAG_INIT && !pthread_equal (pthread_self (), init_thread))
        fault (&c, "is [init], and another thread than the one that opened the registry calls it");
    if (tag != TAG_SERIAL || !handle)
        return c;
    pthread_mutex_lock (&lock);
    c.clash = find_active (handle) < MAX_ACTIVE;
    size_t free_slot = find_active (NULL);
    if (!c.clash && free_slot < MAX_ACTIVE) {
        active[free_slot] = handle;
        c.handle = handle;
    }
    pthread_mutex_unlock (&lock);
    if (c.clash)
        fault (&c, "is called while another call on the same device, file or instance has not returned");
    return c;
}

static int known_code (DpsStatus st)
{
#define DPS_X(name, number, text) st == number ||
    return DPS_ERROR_CODES (DPS_X) 0;
#undef DPS_X
}

static DpsStatus end (Call *c, DpsStatus st)
{
    if (c->handle) {
        pthread_mutex_lock (&lock);
        size_t i = find_active (c->handle);
        if (i < MAX_ACTIVE)
            active[i] = NULL;
        pthread_mutex_unlock (&lock);
    }
    if (c->clash)
        return dps_fail (c->theirs, DPS_ERR_INTERNAL, "%s: %s: not called, because another call has not returned", c->shim->plugin,
                         c->slot);
    for (size_t i = 0; i < sizeof c->canary; i++)
        if (c->canary[i] != CANARY) {
            fault (c, "wrote past the end of its DpsError");
            break;
        }
    if (!known_code (st)) {
        fault (c, "returned a code that is not in DPS_ERROR_CODES");
        st = DPS_ERR_INTERNAL;
    }
    if (st != DPS_OK && !memchr (c->err.msg, '\0', sizeof c->err.msg))
        fault (c, "left its message without an end");
    else if (st != DPS_OK && !c->err.msg[0])
        fault (c, "failed without a reason");
    c->err.msg[sizeof c->err.msg - 1] = '\0';
    if (st != DPS_OK && c->theirs)
        *c->theirs = c->err;
    return st;
}

#define BACKEND(X, I)                                                                                                                      \
    X (I, backend, enumerate, NULL, TAG_INIT, (uint32_t i, DpsDeviceInfo * out, DpsError * err), (i, out, &c.err))                         \
    X (I, backend, alloc, dev, TAG_SERIAL, (struct DpsDevice * dev, uint64_t bytes, struct DpsBuffer * *out, void **host, DpsError *err),  \
       (dev, bytes, out, host, &c.err))                                                                                                    \
    X (I, backend, copy, dev, TAG_SERIAL, (struct DpsDevice * dev, const DpsView *from, const DpsView *to, DpsError *err),                 \
       (dev, from, to, &c.err))                                                                                                            \
    X (I, backend, run, dev, TAG_SERIAL, (struct DpsDevice * dev, const DpsOp *op, uint32_t flags, DpsError *err),                         \
       (dev, op, flags, &c.err))                                                                                                           \
    X (I, backend, prepare, dev, TAG_SERIAL, (struct DpsDevice * dev, const DpsOp *op, struct DpsPlan **out, DpsError *err),               \
       (dev, op, out, &c.err))                                                                                                             \
    X (I, backend, run_plan, dev, TAG_SERIAL, (struct DpsDevice * dev, struct DpsPlan * plan, const DpsOp *op, DpsError *err),             \
       (dev, plan, op, &c.err))                                                                                                            \
    X (I, backend, mem_info, dev, TAG_SERIAL, (struct DpsDevice * dev, uint64_t * out_free, uint64_t * total, DpsError * err),             \
       (dev, out_free, total, &c.err))

#define PACK(X, I)                                                                                                                         \
    X (I, pack, query, NULL, TAG_ANY,                                                                                                      \
       (struct DpsDevice * dev, int64_t o, int64_t k, uint32_t dtype, uint32_t turn, uint64_t * bytes, uint32_t * layout, DpsError * err), \
       (dev, o, k, dtype, turn, bytes, layout, &c.err))                                                                                    \
    X (I, pack, pack, dev, TAG_SERIAL,                                                                                                     \
       (struct DpsDevice * dev, const DpsView *from, int64_t row, uint32_t turn, const DpsView *to, DpsError *err),                        \
       (dev, from, row, turn, to, &c.err))                                                                                                 \
    X (I, pack, unpack_rows, dev, TAG_SERIAL,                                                                                              \
       (struct DpsDevice * dev, const DpsView *packed, const int32_t *ids, int64_t n, const DpsView *y, DpsError *err),                    \
       (dev, packed, ids, n, y, &c.err))

#define QUEUES(X, I)                                                                                                                       \
    X (I, queues, open, dev, TAG_SERIAL, (struct DpsDevice * dev, int32_t priority, struct DpsQueue * *out, DpsError * err),               \
       (dev, priority, out, &c.err))                                                                                                       \
    X (I, queues, run, q, TAG_SERIAL, (struct DpsQueue * q, const DpsOp *op, struct DpsPlan *plan, DpsError *err), (q, op, plan, &c.err))  \
    X (I, queues, copy, q, TAG_SERIAL, (struct DpsQueue * q, const DpsView *from, const DpsView *to, DpsError *err),                       \
       (q, from, to, &c.err))                                                                                                              \
    X (I, queues, record, q, TAG_SERIAL, (struct DpsQueue * q, struct DpsEvent * *out, DpsError * err), (q, out, &c.err))                  \
    X (I, queues, wait, q, TAG_SERIAL, (struct DpsQueue * q, struct DpsEvent * event, DpsError * err), (q, event, &c.err))                 \
    X (I, queues, query, NULL, TAG_ANY, (struct DpsEvent * event, uint32_t * out, DpsError * err), (event, out, &c.err))                   \
    X (I, queues, sync, NULL, TAG_ANY, (struct DpsEvent * event, int64_t ms, DpsError * err), (event, ms, &c.err))

#define RECORDER(X, I)                                                                                                                     \
    X (I, recorder, query, NULL, TAG_ANY, (struct DpsDevice * dev, const DpsOp *const *ops, uint64_t n, uint64_t *out, DpsError *err),     \
       (dev, ops, n, out, &c.err))                                                                                                         \
    X (I, recorder, build, dev, TAG_SERIAL,                                                                                                \
       (struct DpsDevice * dev, const DpsOp *const *ops, uint64_t n, struct DpsRecorded **out, uint64_t *bytes, DpsError *err),            \
       (dev, ops, n, out, bytes, &c.err))                                                                                                  \
    X (I, recorder, run, r, TAG_SERIAL,                                                                                                    \
       (struct DpsRecorded * r, const DpsOp *const *ops, uint64_t n, const DpsView *scratch, struct DpsQueue *q, DpsError *err),           \
       (r, ops, n, scratch, q, &c.err))

/* Slots without a result: X (instance, type, slot, handle, parameters, arguments). */
#define BACKEND_VOID(X, I)                                                                                                                 \
    X (I, backend, free, dev, (struct DpsDevice * dev, struct DpsBuffer * buffer), (dev, buffer))                                          \
    X (I, backend, plan_free, dev, (struct DpsDevice * dev, struct DpsPlan * plan), (dev, plan))
#define QUEUES_VOID(X, I)   X (I, queues, close, q, (struct DpsQueue * q), (q))
#define RECORDER_VOID(X, I) X (I, recorder, free, r, (struct DpsRecorded * r), (r))
#define PACK_VOID(X, I)
#define OBJECTIVE_VOID(X, I)
#define ADAPTER_VOID(X, I)
#define FORMAT_VOID(X, I)
#define REWARD_VOID(X, I)

#define OBJECTIVE(X, I)                                                                                                                    \
    X (I, objective, create, NULL, TAG_INIT, (const double *num, const DpsStr *str, void **out, DpsError *err), (num, str, out, &c.err))   \
    X (I, objective, score, self, TAG_ANY,                                                                                                 \
       (void *self, const DpsObjectiveBatch *step, const DpsRewards *rewards, double *const *out, const DpsMetricSink *metrics,            \
        DpsError *err),                                                                                                                    \
       (self, step, rewards, out, metrics, &c.err))                                                                                        \
    X (I, objective, loss, self, TAG_SERIAL,                                                                                               \
       (void *self, const DpsHostTape *ops, struct DpsTape *tape, const DpsObjectiveBatch *batch, const DpsVal *signals,                   \
        const DpsMetricSink *metrics, DpsVal *out, DpsError *err),                                                                         \
       (self, ops, tape, batch, signals, metrics, out, &c.err))                                                                            \
    X (I, objective, step_end, self, TAG_SERIAL, (void *self, uint64_t step, DpsError *err), (self, step, &c.err))                         \
    X (I, objective, state_save, self, TAG_SERIAL, (void *self, void *buf, size_t cap, size_t *len, DpsError *err),                        \
       (self, buf, cap, len, &c.err))                                                                                                      \
    X (I, objective, state_load, self, TAG_SERIAL, (void *self, const void *buf, size_t len, DpsError *err), (self, buf, len, &c.err))

#define ADAPTER(X, I)                                                                                                                      \
    X (I, adapter, create, NULL, TAG_ANY, (const double *num, const DpsStr *str, void **out, DpsError *err), (num, str, out, &c.err))      \
    X (I, adapter, attach, self, TAG_ANY,                                                                                                  \
       (void *self, DpsStr name, int64_t o, int64_t k, DpsAdapterParam *const *out, uint32_t *n, DpsError *err),                           \
       (self, name, o, k, out, n, &c.err))                                                                                                 \
    X (I, adapter, forward, self, TAG_ANY,                                                                                                 \
       (void *self, const DpsBuilderOps *ops, struct DpsBuilder *b, DpsNode x, const DpsNode *params, uint32_t n, DpsNode *y,              \
        DpsError *err),                                                                                                                    \
       (self, ops, b, x, params, n, y, &c.err))                                                                                            \
    X (I, adapter, merge, self, TAG_ANY,                                                                                                   \
       (void *self, const float *const *params, int64_t o, int64_t k, int64_t row, int64_t rows, float *w, DpsError *err),                 \
       (self, params, o, k, row, rows, w, &c.err))                                                                                         \
    X (I, adapter, match, self, TAG_ANY, (void *self, DpsStr name, const int64_t *shape, uint32_t rank, uint32_t dtype, DpsError *err),    \
       (self, name, shape, rank, dtype, &c.err))                                                                                           \
    X (I, adapter, init, self, TAG_ANY, (void *self, DpsStr name, uint32_t param, const DpsAdapterRows *w, float *out, DpsError *err),     \
       (self, name, param, w, out, &c.err))

#define FORMAT(X, I)                                                                                                                       \
    X (I, format, open, NULL, TAG_ANY, (DpsStr path, struct DpsFormatFile * *out, DpsError * err), (path, out, &c.err))                    \
    X (I, format, info, f, TAG_SERIAL, (struct DpsFormatFile * f, uint64_t * tensors, uint64_t * meta, DpsError * err),                    \
       (f, tensors, meta, &c.err))                                                                                                         \
    X (I, format, tensor_info, f, TAG_SERIAL, (struct DpsFormatFile * f, uint64_t i, DpsTensorInfo * out, DpsError * err),                 \
       (f, i, out, &c.err))                                                                                                                \
    X (I, format, meta, f, TAG_SERIAL, (struct DpsFormatFile * f, uint64_t i, DpsMeta * out, DpsError * err), (f, i, out, &c.err))         \
    X (I, format, read, f, TAG_SERIAL, (struct DpsFormatFile * f, uint64_t i, uint64_t offset, uint64_t len, void *to, DpsError *err),     \
       (f, i, offset, len, to, &c.err))                                                                                                    \
    X (I, format, read_f32, f, TAG_SERIAL, (struct DpsFormatFile * f, uint64_t i, uint64_t first, uint64_t n, float *to, DpsError *err),   \
       (f, i, first, n, to, &c.err))                                                                                                       \
    X (I, format, map, f, TAG_SERIAL, (struct DpsFormatFile * f, uint64_t i, const void **out, DpsError *err), (f, i, out, &c.err))        \
    X (I, format, write, w, TAG_SERIAL, (struct DpsFormatWriter * w, const void *data, uint64_t len, DpsError *err),                       \
       (w, data, len, &c.err))                                                                                                             \
    X (I, format, finish, w, TAG_SERIAL, (struct DpsFormatWriter * w, DpsError * err), (w, &c.err))

#define REWARD(X, I)                                                                                                                       \
    X (I, reward, open, NULL, TAG_ANY, (const double *num, const DpsStr *str, void **out, DpsError *err), (num, str, out, &c.err))         \
    X (I, reward, score, self, TAG_SERIAL,                                                                                                 \
       (void *self, const DpsRewardRow *const *rows, uint64_t n, int64_t ms, double *value, uint32_t *status, double *const *tokens,       \
        DpsError *err),                                                                                                                    \
       (self, rows, n, ms, value, status, tokens, &c.err))

#define EIGHT(LIST, X, a, b, c, d, e, f, g, h)                                                                                             \
    LIST (X, a) LIST (X, b) LIST (X, c) LIST (X, d) LIST (X, e) LIST (X, f) LIST (X, g) LIST (X, h)
#define EACH(LIST, X)                                                                                                                      \
    EIGHT (LIST, X, 0, 1, 2, 3, 4, 5, 6, 7)                                                                                                \
    EIGHT (LIST, X, 8, 9, 10, 11, 12, 13, 14, 15)                                                                                          \
    EIGHT (LIST, X, 16, 17, 18, 19, 20, 21, 22, 23) EIGHT (LIST, X, 24, 25, 26, 27, 28, 29, 30, 31)

#define KINDS(K)                                                                                                                           \
    K (BACKEND, backend, DpsBackend, DPS_BACKEND_ID)                                                                                       \
    K (QUEUES, queues, DpsQueues, DPS_STREAM_ID)                                                                                           \
    K (RECORDER, recorder, DpsRecorder, DPS_SEGMENT_ID)                                                                                    \
    K (PACK, pack, DpsPack, DPS_PACK_ID)                                                                                                   \
    K (OBJECTIVE, objective, DpsObjective, DPS_OBJECTIVE_ID)                                                                               \
    K (ADAPTER, adapter, DpsAdapter, DPS_ADAPTER_ID)                                                                                       \
    K (FORMAT, format, DpsFormat, DPS_FORMAT_ID)                                                                                           \
    K (REWARD, reward, DpsReward, DPS_REWARD_ID)

#define SHIMS(LIST, kind, type, id) static Shim kind##_shims[N_INSTANCES];
KINDS (SHIMS)

#define CHECKED(I, kind, slot, handle, tag, parameters, arguments)                                                                         \
    static DpsStatus kind##_##slot##_##I parameters                                                                                        \
    {                                                                                                                                      \
        Call c = begin (&kind##_shims[I], #slot, tag, handle, err);                                                                        \
        return end (&c, c.clash ? DPS_ERR_INTERNAL : kind##_shims[I].real.kind.slot arguments);                                            \
    }
#define CHECKED_VOID(I, kind, slot, handle, parameters, arguments)                                                                         \
    static void kind##_##slot##_##I parameters                                                                                             \
    {                                                                                                                                      \
        Call c = begin (&kind##_shims[I], #slot, TAG_SERIAL, handle, NULL);                                                                \
        if (!c.clash)                                                                                                                      \
            kind##_shims[I].real.kind.slot arguments;                                                                                      \
        end (&c, DPS_OK);                                                                                                                  \
    }
#define CHECKED_KIND(LIST, kind, type, id) EACH (LIST, CHECKED) EACH (LIST##_VOID, CHECKED_VOID)
KINDS (CHECKED_KIND)

#define PUT(I, kind, slot, handle, tag, parameters, arguments)                                                                             \
    if (instance == I && t->slot)                                                                                                          \
        t->slot = kind##_##slot##_##I;
#define PUT_VOID(I, kind, slot, handle, parameters, arguments) PUT (I, kind, slot, handle, TAG_SERIAL, parameters, arguments)
#define PUT_KIND(LIST, kind, type, id)                                                                                                     \
    static void put_##kind (void *table, size_t instance)                                                                                  \
    {                                                                                                                                      \
        type *t = table;                                                                                                                   \
        EACH (LIST, PUT)                                                                                                                   \
        EACH (LIST##_VOID, PUT_VOID)                                                                                                       \
    }
KINDS (PUT_KIND)

void dps__validate_table (const char *id, void *table, const char *plugin)
{
    static const struct {
        const char *id;
        Shim *shims;
        size_t size;
        void (*put) (void *table, size_t instance);
    } kinds[] = {
#define ROW(LIST, kind, type, interface_id) {interface_id, kind##_shims, sizeof (type), put_##kind},
        KINDS (ROW)
#undef ROW
    };
    init_thread = pthread_self ();
    for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++) {
        size_t i = 0;
        if (strcmp (kinds[k].id, id))
            continue;
        while (i < N_INSTANCES && kinds[k].shims[i].plugin[0] && strcmp (kinds[k].shims[i].plugin, plugin))
            i++;
        if (i == N_INSTANCES) {
            dps_log (DPS_LOG_WARNING, "validate: plugin %s is not checked: %d of its kind already are", plugin, N_INSTANCES);
            return;
        }
        snprintf (kinds[k].shims[i].plugin, sizeof kinds[k].shims[i].plugin, "%s", plugin);
        memcpy (&kinds[k].shims[i].real, table, kinds[k].size);
        kinds[k].put (table, i);
    }
}
