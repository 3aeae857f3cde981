/* SPDX-License-Identifier: Apache-2.0 */
/*
 * suite_backend_collective.c: `dps.collective/1` in a group of one, which every machine can have: each call leaves every number as it was, in host
 * memory and on a queue; what does not fit is refused; and after abort nothing waits. (Several ranks: suite_collective.c.)
 */
#include <string.h>

#include "check/kit.h"

enum { IDENTIFIER = 256, MOST_WAIT_MS = 20000 };

typedef struct Group {
    const DpsCollective *table;
    struct DpsComm *comm;
} Group;

static DpsStatus join (Kit *k, Group *g, DpsError *err)
{
    unsigned char id[IDENTIFIER + 1];
    size_t n = 0;
    g->table = dps_registry_get (k->ctx->registry, DPS_COLLECTIVE_ID, k->ctx->plugin->id);
    memset (id, KIT_BYTE, sizeof id);
    DPS_TRY (g->table->unique_id (id, IDENTIFIER, &n, err));
    if (!n || n > IDENTIFIER || id[IDENTIFIER] != KIT_BYTE)
        return dps_fail (err, DPS_ERR_INVALID, "unique_id gives %zu bytes with room for %d", n, IDENTIFIER);
    DPS_TRY (g->table->init (id, n, 0, 1, &g->comm, err));
    return g->comm ? DPS_OK : dps_fail (err, DPS_ERR_INVALID, "init gives no communicator and no error");
}

/* What is sent to a group of one comes back. */
static DpsStatus call (const Group *g, int which, const DpsView *in, const DpsView *out, struct DpsQueue *q, DpsError *err)
{
    const DpsCollective *t = g->table;
    switch (which) {
    case 0: return t->all_reduce (g->comm, in, out, DPS_REDUCE_SUM, q, err);
    case 1: return t->all_reduce (g->comm, in, out, DPS_REDUCE_MAX, q, err);
    case 2: return t->all_reduce (g->comm, in, out, DPS_REDUCE_MIN, q, err);
    case 3: return t->reduce_scatter (g->comm, in, out, DPS_REDUCE_SUM, q, err);
    case 4: return t->all_gather (g->comm, in, out, q, err);
    case 5: return t->all_to_all (g->comm, in, out, q, err);
    default: return t->broadcast (g->comm, out, 0, q, err);
    }
}
static const char *const names[] = {"all_reduce (sum)", "all_reduce (max)", "all_reduce (min)", "reduce_scatter",
                                    "all_gather",       "all_to_all",       "broadcast"};
enum { N_CALLS = sizeof names / sizeof *names };

static DpsStatus wait (const DpsQueues *queues, struct DpsQueue *q, DpsError *err)
{
    struct DpsEvent *event = NULL;
    DPS_TRY (queues->record (q, &event, err));
    DpsStatus st = queues->sync (event, MOST_WAIT_MS, err);
    queues->event_free (event);
    return st;
}

/* q NULL: in host memory, ended on return. */
static DpsStatus one_call (Kit *k, const Group *g, int which, uint32_t dtype, int64_t n, const DpsQueues *queues, struct DpsQueue *q,
                           DpsError *err)
{
    k->host_only = q == NULL;
    KitArray *in = kit_normals (k, dtype, n, -1, 1), *out = which == N_CALLS - 1 ? kit_copy (k, in) : kit_array (k, dtype, n, -1);
    k->host_only = 0;
    const KitCall moved = {.name = names[which], .in = {in}, .out = {out}};
    if (q)
        DPS_TRY (kit_upload (k, &moved, err));
    DpsStatus st = call (g, which, &in->view, &out->view, q, err);
    if ((st == DPS_ERR_UNSUPPORTED || st == DPS_ERR_DTYPE) && err->msg[0])
        return KIT_REFUSED;
    if (st == DPS_OK && q)
        st = wait (queues, q, err);
    if (st == DPS_OK && q)
        st = kit_download (k, &moved, err);
    if (st != DPS_OK)
        return dps_error_prefix (err, "%s of %lld %s", names[which], (long long)n, dps_dtype_name (dtype));
    k->n_compared++;
    return kit_same_bits (names[which], out, in, err);
}

static DpsStatus every_call (Kit *k, const Group *g, struct DpsQueue *q, DpsError *err)
{
    static const uint32_t dtypes[] = {F32, BF16, F16, F64, I32, DPS_DTYPE_I64, DPS_DTYPE_U8};
    const DpsQueues *queues = dps_registry_get (k->ctx->registry, DPS_STREAM_ID, k->ctx->plugin->id);
    for (int which = 0; which < N_CALLS; which++)
        for (size_t t = 0; t < sizeof dtypes / sizeof *dtypes; t++)
            for (int i = 1; i < KIT_SIZES; i += 3) {
                DpsStatus st = one_call (k, g, which, dtypes[t], kit_sizes[i], queues, q, err);
                kit_clear (k);
                DPS_TRY (kit_refusable (k, st));
            }
    return DPS_OK;
}

static DpsStatus alone (Kit *k, DpsError *err)
{
    const DpsQueues *queues = dps_registry_get (k->ctx->registry, DPS_STREAM_ID, k->ctx->plugin->id);
    struct DpsQueue *q = NULL;
    Group g;
    DPS_TRY (join (k, &g, err));
    DpsStatus st = every_call (k, &g, NULL, err);
    if (st == DPS_OK && queues)
        st = queues->open (k->device, 0, &q, err);
    if (st == DPS_OK && q)
        st = every_call (k, &g, q, err);
    if (q)
        queues->close (q);
    g.table->destroy (g.comm);
    g.table->destroy (NULL);
    return st;
}

/* Another shape for out than for in, and a root that is no rank. */
static DpsStatus refusals (Kit *k, DpsError *err)
{
    Group g;
    DPS_TRY (join (k, &g, err));
    k->host_only = 1;
    KitArray *in = kit_normals (k, F32, 8, -1, 1), *out = kit_array (k, F32, 7, -1);
    k->host_only = 0;
    DpsStatus shape = g.table->all_reduce (g.comm, &in->view, &out->view, DPS_REDUCE_SUM, NULL, err), root = DPS_OK;
    if (shape == DPS_ERR_SHAPE && err->msg[0])
        root = g.table->broadcast (g.comm, &in->view, 1, NULL, err);
    g.table->destroy (g.comm);
    k->n_compared++;
    if (shape != DPS_ERR_SHAPE)
        return dps_fail (err, DPS_ERR_INVALID, "all_reduce of 8 numbers into 7: %s, expected SHAPE", dps_status_name (shape));
    return root == DPS_ERR_INVALID
               ? DPS_OK
               : dps_fail (err, DPS_ERR_INVALID, "broadcast from rank 1 of 1: %s, expected INVALID", dps_status_name (root));
}

/* After abort, which may come twice, a call is CANCELLED at once, and destroy waits for nobody. */
static DpsStatus aborted (Kit *k, DpsError *err)
{
    Group g;
    DPS_TRY (join (k, &g, err));
    k->host_only = 1;
    KitArray *in = kit_normals (k, F32, 8, -1, 1), *out = kit_array (k, F32, 8, -1);
    k->host_only = 0;
    g.table->abort (g.comm);
    g.table->abort (g.comm);
    DpsStatus st = g.table->all_reduce (g.comm, &in->view, &out->view, DPS_REDUCE_SUM, NULL, err);
    g.table->destroy (g.comm);
    k->n_compared++;
    return st == DPS_ERR_CANCELLED
               ? DPS_OK
               : dps_fail (err, DPS_ERR_INVALID, "all_reduce after abort: %s, expected CANCELLED", dps_status_name (st));
}

KIT_CASE (alone)
KIT_CASE (refusals)
KIT_CASE (aborted)

static const CheckCase cases[] = {
    KIT_LINE (alone, 5, CHECK_REQUIRED, .needs = DPS_COLLECTIVE_ID),
    KIT_LINE (refusals, 5, 0, .needs = DPS_COLLECTIVE_ID),
    KIT_LINE (aborted, 5, 0, .needs = DPS_COLLECTIVE_ID),
};
const CheckSuite check_suite_backend_collective = {"backend.collective", DPS_BACKEND_ID, "communication in a group of one", cases,
                                                   sizeof cases / sizeof *cases};
