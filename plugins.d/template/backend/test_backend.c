/* SPDX-License-Identifier: Apache-2.0 */
/* The one op against numbers worked out by hand, and the refusals people will read in `diapason explain`. */
#include "check.h"
#include "plugin/registry.h"

static DpsError err = DPS_ERROR_INIT;

static void test_linear_and_refusals (void)
{
    DpsRegistry *reg = NULL;
    DpsDeviceInfo info = {.size = sizeof info};
    CHECK_OK (dps_registry_open (NULL, &reg, &err));
    const DpsBackend *backend = dps_registry_get (reg, DPS_BACKEND_ID, "com.example.tiny");
    CU_ASSERT_PTR_NOT_NULL_FATAL (backend);
    CHECK_OK (backend->enumerate (0, &info, &err));
    CHECK_FAILS (backend->enumerate (1, &info, &err), DPS_ERR_NOT_FOUND, "one device");
    float x[] = {1, 2, 3, 4, 5, 6}, w[] = {1, 0, -1, 2, 2, 2}, y[4] = {9, 9, 9, 9};
    const int64_t x_shape[] = {2, 3}, w_shape[] = {2, 3}, y_shape[] = {2, 2};
    DpsView vx = {.size = sizeof vx, .dtype = DPS_DTYPE_F32, .rank = 2, .shape = x_shape, .host = x}, vw = vx, vy = vx;
    vw.shape = w_shape, vw.host = w;
    vy.shape = y_shape, vy.host = y;
    const DpsView *in[] = {&vx, &vw, NULL, NULL}, *out[] = {&vy};
    const DpsScalar half = {.f = 0.5};
    DpsOp op = {.size = sizeof op, .id = dps_intern ("linear"), .n_in = 4, .n_out = 1, .n_attrs = 1, .in = in, .out = out, .attrs = &half};
    CHECK_OK (backend->run (info.device, &op, DPS_RUN_DRY, &err));
    CU_ASSERT_EQUAL (y[0], 9); /* DRY writes nothing */
    CHECK_OK (backend->run (info.device, &op, 0, &err));
    CU_ASSERT (y[0] == -1 && y[1] == 6 && y[2] == -1 && y[3] == 15);
    vw.dtype = DPS_DTYPE_BF16;
    CHECK_FAILS (backend->run (info.device, &op, DPS_RUN_DRY, &err), DPS_ERR_DTYPE, "tiny: linear W has dtype 2");
    in[2] = &vy;
    CHECK_FAILS (backend->run (info.device, &op, DPS_RUN_DRY, &err), DPS_ERR_UNSUPPORTED, "with a bias");
    op.id = dps_intern ("attention");
    CHECK_FAILS (backend->run (info.device, &op, DPS_RUN_DRY, &err), DPS_ERR_UNSUPPORTED, "attention is not implemented");
    dps_registry_close (reg);
}

static void test_memory_is_aligned_and_copies (void)
{
    DpsRegistry *reg = NULL;
    struct DpsBuffer *buffer = NULL;
    void *host = NULL;
    CHECK_OK (dps_registry_open (NULL, &reg, &err));
    const DpsBackend *backend = dps_registry_get (reg, DPS_BACKEND_ID, "com.example.tiny");
    DpsDeviceInfo info = {.size = sizeof info};
    CHECK_OK (backend->enumerate (0, &info, &err));
    CHECK_OK (backend->alloc (info.device, 12, &buffer, &host, &err));
    CU_ASSERT_EQUAL ((uintptr_t)host % 64, 0);
    float values[] = {1, 2, 3};
    const int64_t shape[] = {3};
    DpsView from = {.size = sizeof from, .dtype = DPS_DTYPE_F32, .rank = 1, .shape = shape, .host = values}, to = from;
    to.buffer = buffer, to.host = host;
    CHECK_OK (backend->copy (info.device, &from, &to, &err));
    CU_ASSERT_EQUAL (memcmp (host, values, sizeof values), 0);
    CHECK_FAILS (backend->alloc (info.device, UINT64_MAX, &buffer, &host, &err), DPS_ERR_NOMEM, "tiny: no memory");
    backend->free (info.device, buffer);
    dps_registry_close (reg);
}

CHECK_MAIN ("tiny", T (test_linear_and_refusals), T (test_memory_is_aligned_and_copies))
