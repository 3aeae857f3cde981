/* SPDX-License-Identifier: Apache-2.0 */
/*
 * parity_kit.h: what the tests against the parity set share: the one list of backends that are held to it, weights and gradients from wherever
 * their device keeps them, and distances.
 */
#ifndef DPS_TESTS_PARITY_KIT_H
#define DPS_TESTS_PARITY_KIT_H

#include "base/mem.h"
#include "exec/stage.h"
#include "exec/weights.h"
#include "safetensors_mini.h"

/* A plugin may be there and no device for it: a machine without an OpenCL driver. */
static inline int parity_has_device (const DpsRegistry *reg, const char *name)
{
    DpsError err = DPS_ERROR_INIT;
    DpsDeviceInfo info = {.size = sizeof info};
    const DpsBackend *backend = dps_registry_get (reg, DPS_BACKEND_ID, name);
#ifdef __SANITIZE_ADDRESS__ /* opencl's kernels are the driver's, not ours to instrument: the ordinary build runs them */
    if (!strcmp (name, "opencl"))
        return 0;
#endif
    return backend && backend->enumerate (0, &info, &err) == DPS_OK;
}

/* The backends that are here, NULL behind the last; one that is not is said, once a program. */
static inline const char *const *parity_devices (void)
{
    static const char *const all[] = {"ref", "cpu", "opencl"};
    static const char *here[1 + sizeof all / sizeof *all];
    size_t n = 0;
    DpsError err = DPS_ERROR_INIT;
    DpsRegistry *reg;
    if (here[0])
        return here;
    CHECK_OK (dps_registry_open (NULL, &reg, &err));
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        if (parity_has_device (reg, all[i]))
            here[n++] = all[i];
        else
            printf ("\n    skipped: no %s device\n", all[i]);
    dps_registry_close (reg);
    CU_ASSERT_PTR_NOT_NULL_FATAL (here[0]);
    return here;
}

/* EACH_DEVICE (device) { … } */
#define EACH_DEVICE(device)                                                                                                                \
    for (const char *const *device##_at = parity_devices (), *device = *device##_at; device; device = *++device##_at)

/* That device and no other: what it refused would be computed by ref. */
static inline void open_device (DpsExec *ex, const DpsRegistry *reg, const char *device)
{
    DpsError err = DPS_ERROR_INIT;
    CHECK_OK (dps_exec_open (ex, reg, &device, 1, &err));
    ex->strict = 1;
}

static inline json_t *parity_json (const char *rest)
{
    json_t *j = NULL;
    DpsError err = DPS_ERROR_INIT;
    CHECK_OK (dps_json_file (parity_path (rest), 1 << 26, 0, &j, &err));
    return j;
}

/* A weight's gradient in host memory; NULL: it is frozen. Free it. */
static inline float *gradient_of (DpsWeights *w, int32_t weight)
{
    DpsError err = DPS_ERROR_INIT;
    size_t bytes = (size_t)dps_weight_elements (&w->model->weights[weight]) * sizeof (float);
    const DpsBlock *grad = &w->stores[weight].grad;
    if (!grad->buffer)
        return NULL;
    float *g = malloc (bytes);
    CU_ASSERT_PTR_NOT_NULL_FATAL (g);
    CHECK_OK (dps_weights_join_grad (w, weight, &err));
    CHECK_OK (dps_block_get (w->ex, grad, 0, g, bytes, &err));
    return g;
}

/* The tensor's numbers into the weight of that many elements; the file need not be aligned. */
static inline void set_weight (DpsWeights *w, int32_t weight, const StTensor *x)
{
    DpsError err = DPS_ERROR_INIT;
    CU_ASSERT_EQUAL_FATAL (x->n, dps_weight_elements (&w->model->weights[weight]));
    float *copy = malloc (x->bytes);
    CU_ASSERT_PTR_NOT_NULL_FATAL (copy);
    memcpy (copy, x->data, x->bytes);
    CHECK_OK (dps_weights_set (w, weight, copy, &err));
    free (copy);
}

/* Largest difference, printed with the tensor's name when it is over the limit. */
static inline void check_close (const char *name, const float *got, const StTensor *want, double limit)
{
    double worst = 0;
    for (int64_t i = 0; i < want->n; i++) {
        float expected;
        memcpy (&expected, (const char *)want->data + 4 * i, 4);
        double d = fabs ((double)got[i] - (double)expected);
        worst = !(d <= worst) ? d : worst;
    }
    if (!(worst <= limit))
        printf ("\n    %s: differs by %g, limit %g\n", name, worst, limit);
    CU_ASSERT (worst <= limit);
}

/* ‖g − want‖ / ‖want‖; a tensor without a reference must be zero. */
static inline void check_gradient (const char *name, const float *got, int64_t n, const StTensor *want, double limit)
{
    double diff = 0, norm = 0;
    for (int64_t i = 0; i < n; i++) {
        float expected = 0;
        if (want)
            memcpy (&expected, (const char *)want->data + 4 * i, 4);
        diff += ((double)got[i] - (double)expected) * ((double)got[i] - (double)expected);
        norm += (double)expected * (double)expected;
    }
    double relative = norm > 0 ? sqrt (diff / norm) : sqrt (diff);
    if (!(relative <= limit))
        printf ("\n    %s: gradient off by %g of its norm, limit %g\n", name, relative, limit);
    CU_ASSERT (relative <= limit);
}

#endif
