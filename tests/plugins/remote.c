/* SPDX-License-Identifier: Apache-2.0 */
/*
 * remote.c: the reference backend under the name "remote", whose memory the host cannot reach, as a graphics card's: out_host is NULL, fresh memory
 * holds NaNs, and an operand that is not in its own memory is refused. DIAPASON_TEST_REMOTE="linear,attention": it takes only these ops.
 */
#include <stdlib.h>
#include <string.h>

#include "../../backends/ref/ref.h"

extern const DpsPluginEntry dps_ref_plugin_entry;

enum { POISON = 0xff /* f32 and bf16 NaN */, MAGIC = 0x4d454d52, MAX_OPERANDS = 16, MAX_PARTS = 8 };

struct DpsBuffer {
    uint32_t magic;
    uint64_t bytes;
    unsigned char *data;
};

static DpsBackend backend;
static DpsHost host;

static const DpsBackend *ref (void) { return dps_ref_plugin_entry.get_interface (dps_str (DPS_BACKEND_ID)); }

static DpsStatus enumerate (uint32_t i, DpsDeviceInfo *out, DpsError *err)
{
    DpsStatus st = ref ()->enumerate (i, out, err);
    if (st == DPS_OK) {
        out->name = "remote";
        out->flags = 0;
    }
    return st;
}

static DpsStatus alloc_buffer (struct DpsDevice *dev, uint64_t bytes, struct DpsBuffer **out, void **out_host, DpsError *err)
{
    struct DpsBuffer *b = malloc (sizeof *b);
    (void)dev;
    if (b)
        *b = (struct DpsBuffer){MAGIC, bytes, aligned_alloc (64, (bytes + 64) / 64 * 64)};
    if (!b || !b->data) {
        free (b);
        return dps_fail (err, DPS_ERR_NOMEM, "remote: no memory for %llu bytes", (unsigned long long)bytes);
    }
    memset (b->data, POISON, bytes);
    *out = b;
    *out_host = NULL;
    return DPS_OK;
}

static void free_buffer (struct DpsDevice *dev, struct DpsBuffer *b)
{
    (void)dev;
    if (!b)
        return;
    memset (b->data, POISON, b->bytes);
    b->magic = 0;
    free (b->data);
    free (b);
}

/* Where `bytes` at an offset of one of our buffers lie, or NULL. */
static unsigned char *data_of (const struct DpsBuffer *b, uint64_t offset, uint64_t bytes)
{
    return b && b->magic == MAGIC && offset <= b->bytes && bytes <= b->bytes - offset ? b->data + offset : NULL;
}

static DpsStatus copy (struct DpsDevice *dev, const DpsView *from, const DpsView *to, DpsError *err)
{
    (void)dev;
    uint64_t bytes = from->dtype == DPS_DTYPE_U8 && from->rank == 1 ? (uint64_t)from->shape[0] : 0;
    const void *a = from->buffer ? data_of (from->buffer, from->offset, bytes) : from->host;
    void *b = to->buffer ? data_of (to->buffer, to->offset, bytes) : to->host;
    if (to->dtype != from->dtype || to->rank != 1 || to->shape[0] != from->shape[0] || !from->buffer == !to->buffer || !a || !b)
        return dps_fail (err, DPS_ERR_SHAPE, "remote: copies bytes between host memory and its own only");
    memcpy (b, a, bytes);
    return DPS_OK;
}

static int listed (const char *list, DpsStr op)
{
    while (*list) {
        size_t n = strcspn (list, ",");
        if (n == op.len && !memcmp (list, op.ptr, n))
            return 1;
        list += n + (list[n] == ',');
    }
    return 0;
}

static int64_t count (const DpsView *v)
{
    int64_t n = 1;
    for (uint32_t i = 0; i < v->rank; i++)
        n *= v->shape[i];
    return n;
}

/* An operand in our memory, as ref reads it. */
static DpsStatus localise (const DpsView *v, DpsView *out, DpsPart parts[MAX_PARTS], const DpsPart *list[MAX_PARTS], DpsError *err)
{
    *out = *v;
    out->host = data_of (v->buffer, v->offset, 0);
    if (!out->host && count (v))
        return dps_fail (err, DPS_ERR_INTERNAL, "remote: was given memory that is not its own");
    for (uint32_t i = 0; i < v->n_parts && i < MAX_PARTS; i++) {
        parts[i] = *v->parts[i];
        parts[i].host = data_of (v->parts[i]->buffer, v->parts[i]->offset, v->parts[i]->bytes);
        list[i] = &parts[i];
        if (!parts[i].host)
            return dps_fail (err, DPS_ERR_INTERNAL, "remote: was given a part that is not in its memory");
    }
    out->parts = list;
    return DPS_OK;
}

static DpsStatus run (struct DpsDevice *dev, const DpsOp *op, uint32_t flags, DpsError *err)
{
    const char *only = getenv ("DIAPASON_TEST_REMOTE");
    DpsStr name = host.intern_name (op->id);
    DpsView views[MAX_OPERANDS];
    const DpsView *in[MAX_OPERANDS], *out[MAX_OPERANDS];
    DpsPart parts[MAX_OPERANDS][MAX_PARTS];
    const DpsPart *lists[MAX_OPERANDS][MAX_PARTS];
    if (only && !listed (only, name))
        return dps_fail (err, DPS_ERR_UNSUPPORTED, "remote: %.*s is not on the list", (int)name.len, name.ptr);
    if (flags & DPS_RUN_DRY)
        return ref ()->run (dev, op, flags, err);
    for (uint32_t k = 0; k < op->n_in + op->n_out; k++) {
        const DpsView *v = dps_op_operand (op, k), **to = k < op->n_in ? &in[k] : &out[k - op->n_in];
        *to = NULL;
        if (!v)
            continue;
        DPS_TRY (localise (v, &views[k], parts[k], lists[k], err));
        *to = &views[k];
    }
    DpsOp here = *op;
    here.in = in;
    here.out = out;
    return ref ()->run (dev, &here, flags, err);
}

static DpsStatus init (const DpsHost *theirs, const char *path, DpsError *err)
{
    dps_table_copy (&host, sizeof host, theirs);
    backend = *ref ();
    backend.enumerate = enumerate;
    backend.alloc = alloc_buffer;
    backend.free = free_buffer;
    backend.copy = copy;
    backend.run = run;
    return dps_ref_plugin_entry.init (theirs, path, err);
}

static const void *get_interface (DpsStr id) { return dps_str_is (id, DPS_BACKEND_ID) ? &backend : NULL; }

DPS_PLUGIN (init, NULL, get_interface);
