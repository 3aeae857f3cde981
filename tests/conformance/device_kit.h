/* SPDX-License-Identifier: Apache-2.0 */
/*
 * device_kit.h: one op on a device (KIT_DEVICE: cpu) and the same op, in f64, on `ref`. Arrays of the device's side stand between guard bytes, at
 * addresses that are only as aligned as their elements; every call is first asked dry, and what it may not touch is looked at afterwards. For a
 * device with memory of its own the arrays are copied there, guard bytes and all, and back after the call.
 */
#ifndef DPS_TESTS_DEVICE_KIT_H
#define DPS_TESTS_DEVICE_KIT_H

#ifndef KIT_DEVICE
#define KIT_DEVICE "cpu"
#endif

#include <stdlib.h>

#include "base/mem.h"
#include "base/rng.h"
#include "check.h"
#include "plugin/registry.h"

enum { GUARD = 192, GUARD_BYTE = 0xA5, F32 = DPS_DTYPE_F32, BF16 = DPS_DTYPE_BF16 };

typedef struct Array {
    DpsView view;
    int64_t shape[4], n;
    size_t bytes;
    unsigned char *room;     /* GUARD bytes, a gap of `skew` elements, the elements, GUARD bytes */
    unsigned char *before;   /* what the elements were when a call began */
    struct DpsBuffer *there; /* the room on a device with memory of its own, during a call */
    struct Array *next;
} Array;

static DpsError err = DPS_ERROR_INIT;
static DpsRegistry *kit_registry;
static Array *kit_arrays;
static uint64_t kit_draws;

typedef struct Device {
    const DpsBackend *be;
    struct DpsDevice *dev;
    const char *detail;
    int shares; /* the host's memory */
} Device;

static inline const Device *device_named (const char *name)
{
    static Device devices[2];
    Device *d = &devices[!strcmp (name, KIT_DEVICE)];
    if (!kit_registry)
        CHECK_OK (dps_registry_open (NULL, &kit_registry, &err));
    if (!d->be) {
        DpsDeviceInfo info = {.size = sizeof info};
        d->be = dps_registry_get (kit_registry, DPS_BACKEND_ID, name);
        DpsStatus st = d->be ? d->be->enumerate (0, &info, &err) : dps_fail (&err, DPS_ERR_NOT_FOUND, "no backend '%s'", name);
        if (st != DPS_OK && strcmp (name, "cpu") && strcmp (name, "ref")) {
            printf ("skipped: %s\n", err.msg);
            exit (77);
        }
        CHECK_OK (st);
        d->dev = info.device;
        d->detail = info.detail;
        d->shares = (info.flags & DPS_DEVICE_HOST_MEMORY) != 0;
    }
    return d;
}

static inline size_t size_of (uint32_t dtype)
{
    return dtype == DPS_DTYPE_F64 || dtype == DPS_DTYPE_I64 ? 8 : dtype == BF16 ? 2 : dtype == DPS_DTYPE_U8 ? 1 : 4;
}

static inline float from_bf16 (uint16_t h)
{
    uint32_t u = (uint32_t)h << 16;
    float f;
    memcpy (&f, &u, sizeof f);
    return f;
}

static inline uint16_t to_bf16 (float f)
{
    uint32_t u;
    memcpy (&u, &f, sizeof u);
    return f != f ? 0x7fc0 : (uint16_t)((u + 0x7fff + (u >> 16 & 1)) >> 16);
}

/* Elements hold guard bytes until somebody writes them. A negative second size: a vector. */
static inline Array *array (uint32_t dtype, int64_t rows, int64_t cols)
{
    Array *a = calloc (1, sizeof *a);
    CU_ASSERT_PTR_NOT_NULL_FATAL (a);
    a->shape[0] = rows;
    a->shape[1] = cols;
    a->n = cols < 0 ? rows : rows * cols;
    a->bytes = (size_t)a->n * size_of (dtype);
    size_t skew = (size_t)(++kit_draws % 5) * size_of (dtype);
    a->room = aligned_alloc (64, (2 * GUARD + skew + a->bytes + 63) / 64 * 64);
    a->before = malloc (a->bytes + 1);
    CU_ASSERT_FATAL (a->room && a->before);
    memset (a->room, GUARD_BYTE, 2 * GUARD + skew + a->bytes);
    a->view =
        (DpsView){.size = sizeof a->view, .dtype = dtype, .rank = cols < 0 ? 1 : 2, .shape = a->shape, .host = a->room + GUARD + skew};
    a->next = kit_arrays;
    return kit_arrays = a;
}

static inline void arrays_free (void)
{
    for (Array *next; kit_arrays; kit_arrays = next) {
        next = kit_arrays->next;
        free (kit_arrays->room);
        free (kit_arrays->before);
        free (kit_arrays);
    }
}

static inline double get (const Array *a, int64_t i)
{
    switch (a->view.dtype) {
    case DPS_DTYPE_F32: return (double)((const float *)a->view.host)[i];
    case DPS_DTYPE_BF16: return (double)from_bf16 (((const uint16_t *)a->view.host)[i]);
    case DPS_DTYPE_F64: return ((const double *)a->view.host)[i];
    default: return ((const int32_t *)a->view.host)[i];
    }
}

static inline void put (Array *a, int64_t i, double v)
{
    switch (a->view.dtype) {
    case DPS_DTYPE_F32: ((float *)a->view.host)[i] = (float)v; break;
    case DPS_DTYPE_BF16: ((uint16_t *)a->view.host)[i] = to_bf16 ((float)v); break;
    case DPS_DTYPE_F64: ((double *)a->view.host)[i] = v; break;
    default: ((int32_t *)a->view.host)[i] = (int32_t)v;
    }
}

static inline Array *filled (uint32_t dtype, int64_t rows, int64_t cols, double value)
{
    Array *a = array (dtype, rows, cols);
    for (int64_t i = 0; i < a->n; i++)
        put (a, i, value);
    return a;
}

/* Normal numbers times scale, each a bf16 number whatever the dtype, so that a conversion to bf16 inside the backend loses nothing. */
static inline Array *normals (uint32_t dtype, int64_t rows, int64_t cols, double scale)
{
    Array *a = array (dtype, rows, cols);
    uint64_t stream = kit_draws;
    for (int64_t i = 0; i < a->n; i++)
        put (a, i, (double)from_bf16 (to_bf16 ((float)(scale * dps_rng_normal (11, stream, (uint64_t)i)))));
    return a;
}

static inline Array *indices (int64_t n, int64_t limit)
{
    Array *a = array (DPS_DTYPE_I32, n, -1);
    uint64_t stream = kit_draws;
    for (int64_t i = 0; i < n; i++)
        put (a, i, (double)dps_rng_below (12, stream, (uint64_t)i, (uint64_t)limit));
    return a;
}

static inline Array *i32s (int64_t n, const int32_t *values)
{
    Array *a = array (DPS_DTYPE_I32, n, -1);
    if (n)
        memcpy (a->view.host, values, (size_t)n * sizeof *values);
    return a;
}

/* Roots of n rows: one empty, one of a single row, the rest in two. */
static inline Array *roots_of (int64_t n)
{
    const int32_t at[] = {0, 0, n > 0, (int32_t)(n / 2 > 1 ? n / 2 : n > 0), (int32_t)n};
    return i32s (5, at);
}

static inline Array *segment_table (int64_t n, const DpsSegment *s)
{
    Array *a = array (DPS_DTYPE_U8, n, (int64_t)sizeof *s);
    if (n)
        memcpy (a->view.host, s, (size_t)n * sizeof *s);
    return a;
}

static inline Array *copy_of (const Array *a)
{
    Array *b = array (a->view.dtype, a->shape[0], a->view.rank == 1 ? -1 : a->shape[1]);
    memcpy (b->view.host, a->view.host, a->bytes);
    return b;
}

/** One op call: operands in the order of ops.h, NULL where absent. */
typedef struct Call {
    const char *name;
    Array *in[8], *out[4];
    DpsScalar attrs[8];
} Call;

/* The parts of a quantised weight, which are read only: to the device, or freed there. */
static inline void move_parts (const Device *d, const DpsView *v, int back)
{
    for (uint32_t i = 0; i < v->n_parts; i++) {
        DpsPart *p = (DpsPart *)v->parts[i];
        int64_t bytes = (int64_t)p->bytes;
        DpsView here = {.size = sizeof here, .dtype = DPS_DTYPE_U8, .rank = 1, .shape = &bytes, .host = p->host}, there = here;
        if (back) {
            d->be->free (d->dev, p->buffer);
            p->buffer = NULL;
            continue;
        }
        if (p->buffer) /* of another operand too */
            continue;
        CHECK_OK (d->be->alloc (d->dev, p->bytes, &p->buffer, NULL, &err));
        there.host = NULL;
        there.buffer = p->buffer;
        CHECK_OK (d->be->copy (d->dev, &here, &there, &err));
    }
}

/* Every array's whole room, to the device or (back) from it. */
static inline void move_rooms (const Device *d, const Call *c, int back)
{
    for (int i = 0; i < 12; i++) {
        Array *a = i < 8 ? c->in[i] : c->out[i - 8];
        if (!a || (a->there && !back) || (back && !a->there))
            continue;
        int64_t bytes = (unsigned char *)a->view.host - a->room + (int64_t)a->bytes + GUARD;
        DpsView here = {.size = sizeof here, .dtype = DPS_DTYPE_U8, .rank = 1, .shape = &bytes, .host = a->room}, there = here;
        if (!back)
            CHECK_OK (d->be->alloc (d->dev, (uint64_t)bytes, &a->there, NULL, &err));
        there.host = NULL;
        there.buffer = a->there;
        CHECK_OK (d->be->copy (d->dev, back ? &there : &here, back ? &here : &there, &err));
        a->view.buffer = back ? NULL : a->there;
        a->view.offset = back ? 0 : (uint64_t)((unsigned char *)a->view.host - a->room);
        move_parts (d, &a->view, back);
        if (back) {
            d->be->free (d->dev, a->there);
            a->there = NULL;
        }
    }
}

static inline DpsStatus call_on (const char *device, const Call *c, uint32_t flags, DpsError *e)
{
    const DpsView *in[8], *out[4];
    const Device *d = device_named (device);
    DpsOp op = {.size = sizeof op, .id = dps_intern (c->name), .n_attrs = 8, .in = in, .out = out, .attrs = c->attrs};
    for (uint32_t i = 0; i < 8; i++) {
        in[i] = c->in[i] ? &c->in[i]->view : NULL;
        op.n_in = c->in[i] ? i + 1 : op.n_in;
    }
    for (uint32_t i = 0; i < 4; i++) {
        out[i] = c->out[i] ? &c->out[i]->view : NULL;
        op.n_out = c->out[i] ? i + 1 : op.n_out;
    }
    if (!d->shares)
        move_rooms (d, c, 0);
    DpsStatus st = d->be->run (d->dev, &op, flags, e);
    if (!d->shares)
        move_rooms (d, c, 1);
    return st;
}

static inline int is_output (const Call *c, const Array *a)
{
    for (int i = 0; i < 4; i++)
        if (c->out[i] == a)
            return 1;
    return 0;
}

/* Guard bytes stand; with `elements` the elements are also as they were. */
static inline void check_untouched (const char *name, const Array *a, int elements)
{
    const unsigned char *first = a->view.host;
    int ok = !elements || !a->bytes || !memcmp (first, a->before, a->bytes);
    for (const unsigned char *p = a->room; p < first; p++)
        ok &= *p == GUARD_BYTE;
    for (int i = 0; i < GUARD; i++)
        ok &= first[a->bytes + (size_t)i] == GUARD_BYTE;
    if (!ok)
        printf ("\n    %s wrote where it must not (%lld x %lld)\n", name, (long long)a->shape[0], (long long)a->shape[1]);
    CU_ASSERT (ok);
}

/* On the device: a dry call changes nothing; a call changes its outputs alone. */
static inline void call (const Call *c)
{
    Array *const *operands[] = {c->in, c->out};
    const int n[] = {8, 4};
    for (int side = 0; side < 2; side++)
        for (int i = 0; i < n[side]; i++)
            if (operands[side][i] && operands[side][i]->bytes)
                memcpy (operands[side][i]->before, operands[side][i]->view.host, operands[side][i]->bytes);
    for (uint32_t flags = DPS_RUN_DRY;; flags = 0) {
        CHECK_OK (call_on (KIT_DEVICE, c, flags, &err));
        for (int side = 0; side < 2; side++)
            for (int i = 0; i < n[side]; i++)
                if (operands[side][i])
                    check_untouched (c->name, operands[side][i], flags == DPS_RUN_DRY || !is_output (c, operands[side][i]));
        if (!flags)
            break;
    }
}

/**
 * What a comparison allows: |got − want| ≤ relative·|want| + absolute·max |want| + floor; a bf16 output may also be rounded. The floor is for
 * differences of numbers much larger than themselves.
 */
typedef struct Budget {
    double relative, absolute, floor;
} Budget;

static inline void check_close (const char *name, const Array *got, const Array *want, Budget b)
{
    double most = 0, worst = 0, half_ulp = got->view.dtype == BF16 ? 0x1p-8 : 0x1p-23;
    int64_t at = -1;
    CU_ASSERT_EQUAL_FATAL (got->n, want->n);
    for (int64_t i = 0; i < want->n; i++)
        most = fabs (get (want, i)) > most ? fabs (get (want, i)) : most;
    for (int64_t i = 0; i < want->n; i++) {
        double g = get (got, i), w = get (want, i), room = (b.relative + half_ulp) * fabs (w) + b.absolute * most + b.floor;
        double over = g != g && w != w ? 0 : !(fabs (g - w) <= room) ? fabs (g - w) / (room > 0 ? room : 1e-300) : 0;
        if (over > worst || over != over) {
            worst = over != over ? INFINITY : over;
            at = i;
        }
    }
    if (at >= 0)
        printf ("\n    %s: element %lld of %lld x %lld is %.9g, ref has %.9g: %.3g times the budget\n", name, (long long)at,
                (long long)got->shape[0], (long long)got->shape[1], get (got, at), get (want, at), worst);
    CU_ASSERT (at < 0);
}

/* An output of ref: f64, with what the device's held before (parameters and gradients are added to in place). */
static inline Array *twin (const Array *a)
{
    if (a->view.dtype == DPS_DTYPE_I32 || a->view.dtype == DPS_DTYPE_F64)
        return copy_of (a);
    Array *t = array (DPS_DTYPE_F64, a->shape[0], a->view.rank == 1 ? -1 : a->shape[1]);
    for (int64_t i = 0; i < a->n; i++)
        put (t, i, get (a, i));
    return t;
}

static inline void compare (const Call *c, Budget b)
{
    Call want = *c;
    for (int i = 0; i < 4; i++) {
        want.out[i] = c->out[i] ? twin (c->out[i]) : NULL;
        for (int k = 0; k < 8; k++)
            if (c->out[i] && c->in[k] == c->out[i])
                want.in[k] = want.out[i];
    }
    CHECK_OK (call_on ("ref", &want, 0, &err));
    call (c);
    for (int i = 0; i < 4; i++)
        if (c->out[i])
            check_close (c->name, c->out[i], want.out[i], b);
}

static inline void kit_close (void)
{
    arrays_free ();
    dps_registry_close (kit_registry);
    kit_registry = NULL;
}

#endif
