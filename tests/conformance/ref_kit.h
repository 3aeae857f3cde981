/* SPDX-License-Identifier: Apache-2.0 */
/* ref_kit.h: arrays, one-line op calls and finite differences for the conformance tests of the reference backend. */
#ifndef DPS_TESTS_REF_KIT_H
#define DPS_TESTS_REF_KIT_H

#include <stdlib.h>

#include "base/mem.h"
#include "base/rng.h"
#include "check.h"
#include "diapason/diapason.h"

extern const DpsPluginEntry dps_ref_plugin_entry;

/** An array the test owns, with its view. Released by arrays_free. */
typedef struct Array {
    DpsView view;
    int64_t shape[4], stride[4], n;
    void *data;
    struct Array *next;
} Array;

static Array *arrays;
static uint64_t draws; /* of random_array: each array has its own numbers */

/* A host that only interns, so that these tests need nothing of core/plugin. */
static const char *kit_names[128];

static inline uint32_t kit_intern (DpsStr name)
{
    for (uint32_t i = 0; i < 128; i++) {
        if (!kit_names[i])
            kit_names[i] = name.ptr;
        if (dps_str_is (name, kit_names[i]))
            return 100 + i;
    }
    return 0;
}

static inline const DpsBackend *ref_backend (void)
{
    static const DpsHost host = {.size = sizeof host, .intern = kit_intern};
    static const DpsBackend *backend;
    if (!backend && dps_ref_plugin_entry.init (&host, "", NULL) == DPS_OK)
        backend = dps_ref_plugin_entry.get_interface (dps_str (DPS_BACKEND_ID));
    return backend;
}

static inline struct DpsDevice *ref_device (void)
{
    DpsDeviceInfo info = {.size = sizeof info};
    return ref_backend ()->enumerate (0, &info, NULL) == DPS_OK ? info.device : NULL;
}

static inline Array *array_typed (uint32_t dtype, uint32_t rank, const int64_t *shape)
{
    Array *a = calloc (1, sizeof *a);
    CU_ASSERT_PTR_NOT_NULL_FATAL (a);
    a->n = 1;
    for (uint32_t i = 0; i < rank; i++)
        a->n *= a->shape[i] = shape[i];
    a->data = calloc ((size_t)(a->n ? a->n : 1), 8);
    CU_ASSERT_PTR_NOT_NULL_FATAL (a->data);
    a->view = (DpsView){.size = sizeof a->view, .dtype = dtype, .rank = rank, .shape = a->shape, .host = a->data};
    a->next = arrays;
    return arrays = a;
}

static inline void arrays_free (void)
{
    for (Array *next; arrays; arrays = next) {
        next = arrays->next;
        free (arrays->data);
        free (arrays);
    }
}

/* A vector (cols < 0) or a matrix of zeros, f64. */
static inline Array *zeros (int64_t rows, int64_t cols) { return array_typed (DPS_DTYPE_F64, cols < 0 ? 1 : 2, (int64_t[]){rows, cols}); }

/* Normal numbers times scale. */
static inline Array *normals (int64_t rows, int64_t cols, double scale)
{
    Array *a = zeros (rows, cols);
    draws++;
    for (int64_t i = 0; i < a->n; i++)
        ((double *)a->data)[i] = scale * dps_rng_normal (7, draws, (uint64_t)i);
    return a;
}

static inline Array *i32s (int64_t n, const int32_t *values)
{
    Array *a = array_typed (DPS_DTYPE_I32, 1, &n);
    memcpy (a->data, values, (size_t)n * sizeof *values);
    return a;
}

static inline Array *segment_table (int64_t n, const DpsSegment *s)
{
    Array *a = array_typed (DPS_DTYPE_U8, 2, (int64_t[]){n, (int64_t)sizeof *s});
    memcpy (a->data, s, (size_t)n * sizeof *s);
    return a;
}

static inline double *num (Array *a) { return a->data; }

/* The values of an f64 array in another float dtype, cast by the copy op. */
static inline Array *cast (Array *a, uint32_t dtype)
{
    Array *b = array_typed (dtype, a->view.rank, a->shape);
    CU_ASSERT_EQUAL_FATAL (ref_backend ()->copy (ref_device (), &a->view, &b->view, NULL), DPS_OK);
    return b;
}

/** One op call: operands in the order of ops.h, NULL where absent. */
typedef struct Call {
    const char *name;
    Array *in[8], *out[4];
    DpsScalar attrs[8];
} Call;

static inline DpsStatus call_flags (const Call *c, uint32_t flags, DpsError *err)
{
    const DpsView *in[8], *out[4];
    DpsOp op = {.size = sizeof op, .id = kit_intern (dps_str (c->name)), .n_attrs = 8, .in = in, .out = out, .attrs = c->attrs};
    for (uint32_t i = 0; i < 8; i++) {
        in[i] = c->in[i] ? &c->in[i]->view : NULL;
        op.n_in = c->in[i] ? i + 1 : op.n_in;
    }
    for (uint32_t i = 0; i < 4; i++) {
        out[i] = c->out[i] ? &c->out[i]->view : NULL;
        op.n_out = c->out[i] ? i + 1 : op.n_out;
    }
    return ref_backend ()->run (ref_device (), &op, flags, err);
}

static inline void call (const Call *c)
{
    DpsError err = DPS_ERROR_INIT;
    CHECK_OK (call_flags (c, DPS_RUN_DRY, &err));
    CHECK_OK (call_flags (c, 0, &err));
}

static inline double weighted (const Call *c, int k, Array *weight)
{
    double sum = 0;
    call (c);
    for (int64_t i = 0; i < weight->n; i++)
        sum += num (weight)[i] * num (c->out[k])[i];
    return sum;
}

/**
 * grad must be the gradient of Σ weight·out[k] in every element of x (one of c's inputs): ‖grad − differences‖ ≤ 1e-6·‖grad‖, with the
 * noise of the differences themselves (1e-9 per element) allowed where the gradient vanishes.
 */
static inline void check_gradient (const Call *c, int k, Array *weight, Array *x, Array *grad)
{
    double wrong = 0, norm = 0;
    CU_ASSERT_EQUAL_FATAL (x->n, grad->n);
    for (int64_t i = 0; i < x->n; i++) {
        double *at = &num (x)[i], keep = *at, step = 1e-5 * fmax (1, fabs (keep));
        *at = keep + step;
        double up = weighted (c, k, weight);
        *at = keep - step;
        double down = weighted (c, k, weight);
        *at = keep;
        double slope = (up - down) / (2 * step), got = num (grad)[i];
        wrong += (slope - got) * (slope - got);
        norm += got * got;
    }
    call (c);
    if (!(sqrt (wrong) <= 1e-6 * sqrt (norm) + 1e-9 * sqrt ((double)x->n)))
        printf ("\n    %s: gradient off by %g of %g\n", c->name, sqrt (wrong), sqrt (norm));
    CU_ASSERT (sqrt (wrong) <= 1e-6 * sqrt (norm) + 1e-9 * sqrt ((double)x->n));
}

static inline void check_same_bits (const Array *a, const Array *b)
{
    size_t bytes = a->view.dtype == DPS_DTYPE_F64 ? 8 : a->view.dtype == DPS_DTYPE_F32 || a->view.dtype == DPS_DTYPE_I32 ? 4 : 2;
    CU_ASSERT_EQUAL_FATAL (a->n, b->n);
    CU_ASSERT_EQUAL_FATAL (a->view.dtype, b->view.dtype);
    CU_ASSERT_EQUAL (memcmp (a->data, b->data, (size_t)a->n * bytes), 0);
}

static inline void check_close (Array *got, Array *want, double tolerance)
{
    CU_ASSERT_EQUAL_FATAL (got->n, want->n);
    for (int64_t i = 0; i < got->n; i++)
        CHECK_NEAR (num (got)[i], num (want)[i], tolerance);
}

#endif
