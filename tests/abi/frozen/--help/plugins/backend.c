/* SPDX-License-Identifier: Apache-2.0 */
/*
 * backend.c: the bottom rung of the ladder: five synchronous functions, one op (linear, f32, row-major) on host memory. Whatever it
 * refuses runs on the next backend, and `diapason explain` prints the refusal: so every refusal says what was asked and what is known.
 */
#include <string.h>

#include "base/mem.h"
#include "base/status.h"
#include "diapason/diapason.h"

struct DpsBuffer {
    void *bytes;
};
struct DpsDevice {
    int unused;
};

static struct DpsDevice only_device;
static DpsHost host;
static uint32_t op_linear; /* interned once: ops are numbers afterwards */

static DpsStatus enumerate (uint32_t i, DpsDeviceInfo *out, DpsError *err)
{
    if (i > 0)
        return dps_fail (err, DPS_ERR_NOT_FOUND, "tiny: one device, asked for number %u", i);
    const DpsDeviceInfo mine = {.size = sizeof mine,
                                .device = &only_device,
                                .name = "tiny",
                                .detail = "template backend: f32 linear",
                                .flags = DPS_DEVICE_HOST_MEMORY};
    size_t theirs = out->size;
    memcpy (out, &mine, theirs < sizeof mine ? theirs : sizeof mine);
    out->size = theirs;
    return DPS_OK;
}

static DpsStatus alloc_buffer (struct DpsDevice *dev, uint64_t bytes, struct DpsBuffer **out, void **out_host, DpsError *err)
{
    (void)dev;
    struct DpsBuffer *b = dps_calloc (1, sizeof *b);
    if (b && bytes <= PTRDIFF_MAX)
        b->bytes = dps_aligned_alloc (64, (size_t)bytes, 1);
    if (!b || !b->bytes) {
        dps_free (b);
        return dps_fail (err, DPS_ERR_NOMEM, "tiny: no memory for %llu bytes", (unsigned long long)bytes);
    }
    *out = b;
    *out_host = b->bytes;
    return DPS_OK;
}

static void free_buffer (struct DpsDevice *dev, struct DpsBuffer *buffer)
{
    (void)dev;
    if (buffer)
        dps_free (buffer->bytes);
    dps_free (buffer);
}

/* Whether a view is a contiguous f32 matrix of that shape. */
static DpsStatus check (const DpsView *v, const char *name, int64_t rows, int64_t columns, DpsError *err)
{
    if (v->dtype != DPS_DTYPE_F32)
        return dps_fail (err, DPS_ERR_DTYPE, "tiny: linear %s has dtype %u, only f32 is known", name, v->dtype);
    if (v->layout != DPS_LAYOUT_ROW_MAJOR || v->n_parts)
        return dps_fail (err, DPS_ERR_UNSUPPORTED, "tiny: linear %s is packed or quantised, only row-major is known", name);
    if (v->rank != 2 || v->shape[0] != rows || v->shape[1] != columns)
        return dps_fail (err, DPS_ERR_SHAPE, "tiny: linear %s has another shape than (%lld, %lld)", name, (long long)rows,
                         (long long)columns);
    if (v->stride && (v->stride[1] != 1 || v->stride[0] != columns))
        return dps_fail (err, DPS_ERR_UNSUPPORTED, "tiny: linear %s has strides, only contiguous is known", name);
    return DPS_OK;
}

/* y (N,O) = alpha · x (N,K) · W (O,K)ᵀ. Each y is one sum over k in order: a row's bits do not depend on the other rows. */
static void linear (const float *x, const float *w, float *y, int64_t n, int64_t out, int64_t k, double alpha)
{
    for (int64_t i = 0; i < n; i++)
        for (int64_t o = 0; o < out; o++) {
            float sum = 0;
            for (int64_t j = 0; j < k; j++)
                sum += x[i * k + j] * w[o * k + j];
            y[i * out + o] = (float)alpha * sum;
        }
}

static DpsStatus run (struct DpsDevice *dev, const DpsOp *op, uint32_t flags, DpsError *err)
{
    (void)dev;
    DpsStr name = host.intern_name (op->id);
    if (op->id != op_linear)
        return dps_fail (err, DPS_ERR_UNSUPPORTED, "tiny: %.*s is not implemented, only linear is", (int)name.len, name.ptr);
    for (uint32_t i = 2; i < op->n_in; i++)
        if (op->in[i])
            return dps_fail (err, DPS_ERR_UNSUPPORTED, "tiny: linear with a bias or an addend is not implemented");
    if (op->n_in < 2 || op->n_out < 1 || !op->in[0] || !op->in[1] || !op->out[0] || op->in[0]->rank != 2 || op->in[1]->rank != 2)
        return dps_fail (err, DPS_ERR_SHAPE, "tiny: linear needs x (N,K), W (O,K) and y (N,O)");
    const DpsView *x = op->in[0], *w = op->in[1], *y = op->out[0];
    int64_t n = x->shape[0], k = x->shape[1], o = w->shape[0];
    DPS_TRY (check (x, "x", n, k, err));
    DPS_TRY (check (w, "W", o, k, err));
    DPS_TRY (check (y, "y", n, o, err));
    if (!(flags & DPS_RUN_DRY))
        linear (x->host, w->host, y->host, n, o, k, op->n_attrs && op->attrs[0].f != 0 ? op->attrs[0].f : 1);
    return DPS_OK;
}

static uint32_t determinism (struct DpsDevice *dev)
{
    (void)dev;
    return DPS_DETERMINISM_BATCH;
}

/* Bytes of a contiguous view; 0 when it is not one, or of a dtype this backend does not know. */
static uint64_t bytes_of (const DpsView *v)
{
    static const uint8_t width[] = {
#define DPS_X(id, number, text, bytes) [number] = bytes,
        DPS_DTYPES (DPS_X)
#undef DPS_X
    };
    uint64_t n = v->dtype < sizeof width ? width[v->dtype] : 0;
    for (uint32_t i = 0; i < v->rank; i++)
        if (v->shape[i] < 0 || __builtin_mul_overflow (n, (uint64_t)v->shape[i], &n))
            return 0;
    return v->stride ? 0 : n;
}

static DpsStatus copy (struct DpsDevice *dev, const DpsView *from, const DpsView *to, DpsError *err)
{
    (void)dev;
    uint64_t bytes = bytes_of (from);
    if (from->dtype != to->dtype || bytes_of (to) != bytes || (bytes && (!from->host || !to->host)))
        return dps_fail (err, DPS_ERR_SHAPE, "tiny: copy between views of different size, or with strides");
    if (bytes)
        memcpy (to->host, from->host, (size_t)bytes);
    return DPS_OK;
}

static const DpsBackend backend = {.size = sizeof backend,
                                   .enumerate = enumerate,
                                   .alloc = alloc_buffer,
                                   .free = free_buffer,
                                   .copy = copy,
                                   .run = run,
                                   .determinism = determinism};

static DpsStatus init (const struct DpsHost *theirs, const char *path, DpsError *err)
{
    (void)path;
    dps_table_copy (&host, sizeof host, theirs); /* slots an older host lacks are NULL */
    if (!host.intern || !host.intern_name)
        return dps_fail (err, DPS_ERR_VERSION, "tiny: this host cannot intern op names");
    op_linear = host.intern (dps_str ("linear"));
    return DPS_OK;
}

static const void *get_interface (DpsStr id) { return dps_str_is (id, DPS_BACKEND_ID) ? &backend : NULL; }

DPS_PLUGIN (init, NULL, get_interface);
