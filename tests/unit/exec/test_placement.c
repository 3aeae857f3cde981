/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Placement: one case per kind of op and place, however often it runs; what no device takes is refused each time, in words about that call. A device
 * that takes some shapes or attributes of an op gets these and no others, whatever came before.
 */
#include "check.h"
#include "exec/exec.h"

static DpsError err = DPS_ERROR_INIT;

static DpsStatus add (DpsExec *ex, uint32_t dtype, uint32_t rank)
{
    static const int64_t shape[] = {1, 2};
    float x[2] = {1, 2}, y[2];
    const DpsView a = dps_view (dtype, rank, shape + 2 - rank, x), b = dps_view (dtype, rank, shape + 2 - rank, y);
    return dps_exec_op (ex, DPS_OP_add, (DpsOp){DPS_IN (&a, &a), DPS_OUT (&b)}, &err);
}

static void test_a_kind_of_op_is_placed_once (void)
{
    DpsRegistry *reg;
    DpsExec ex;
    const char *device = "ref";
    CHECK_OK (dps_registry_open (NULL, &reg, &err));
    CHECK_OK (dps_exec_open (&ex, reg, &device, 1, &err));
    for (int i = 0; i < 3; i++) {
        CHECK_OK (add (&ex, DPS_DTYPE_F32, 1));
        CHECK_OK (add (&ex, DPS_DTYPE_F32, 2));
        CHECK_FAILS (add (&ex, DPS_DTYPE_U8, 1), DPS_ERR_UNSUPPORTED, "add (u8, u8 → u8) runs on no device: ref: ");
    }
    CU_ASSERT_EQUAL (ex.n_cases, 3);
    CU_ASSERT (ex.cases[0].runs == 3 && ex.cases[1].runs == 3 && ex.cases[2].runs == 0);
    dps_exec_close (&ex);
    dps_registry_close (reg);
}

static const DpsBackend *ref;

/* ref where the rows are even and alpha is no 3. */
static DpsStatus run_picky (struct DpsDevice *dev, const DpsOp *op, uint32_t flags, DpsError *e)
{
    if (op->in[0]->shape[0] % 2)
        return dps_fail (e, DPS_ERR_UNSUPPORTED, "picky: %d rows", (int)op->in[0]->shape[0]);
    if (op->n_attrs && op->attrs[0].f == 3)
        return dps_fail (e, DPS_ERR_UNSUPPORTED, "picky: alpha is 3");
    return ref->run (dev, op, flags, e);
}

static DpsStatus scale (DpsExec *ex, int64_t rows, double alpha)
{
    const int64_t shape[] = {rows, 1};
    float x[4] = {1, 2, 3, 4}, y[4];
    const DpsView a = dps_view (DPS_DTYPE_F32, 2, shape, x), b = dps_view (DPS_DTYPE_F32, 2, shape, y);
    const DpsScalar attrs[] = {{.f = alpha}, {.f = 1}};
    return dps_exec_op (ex, DPS_OP_add, (DpsOp){DPS_IN (&a, &a), DPS_OUT (&b), .attrs = attrs, .n_attrs = 2}, &err);
}

static void test_a_device_gets_the_shapes_and_attributes_it_takes (void)
{
    DpsRegistry *reg;
    DpsExec ex;
    DpsBackend picky;
    const char *device = "ref";
    CHECK_OK (dps_registry_open (NULL, &reg, &err));
    CHECK_OK (dps_exec_open (&ex, reg, &device, 1, &err));
    ref = ex.devices[0].backend;
    picky = *ref;
    picky.run = run_picky;
    ex.devices[1] = ex.devices[0]; /* behind the picky one */
    ex.devices[0].backend = &picky;
    ex.devices[0].info.name = "picky:0"; /* named once, though the backend begins with its own name */
    ex.n_devices = 2;
    for (int i = 0; i < 2; i++) {
        CHECK_OK (scale (&ex, 2, 1)); /* picky */
        CHECK_OK (scale (&ex, 1, 1)); /* ref: rows */
        CHECK_OK (scale (&ex, 4, 1)); /* picky */
        CHECK_OK (scale (&ex, 4, 3)); /* ref: alpha */
    }
    CU_ASSERT_EQUAL_FATAL (ex.n_cases, 2);
    CU_ASSERT (ex.cases[0].device == 0 && ex.cases[0].runs == 4 && !ex.cases[0].reasons);
    CU_ASSERT (ex.cases[1].device == 1 && ex.cases[1].runs == 4);
    CHECK_STR (ex.cases[1].reasons, "picky:0: 1 rows");
    ex.strict = 1;
    CHECK_OK (scale (&ex, 2, 1));
    CHECK_FAILS (scale (&ex, 4, 3), DPS_ERR_UNSUPPORTED,
                 "add (f32, f32 → f32) would fall back, which strict_device refuses: picky:0: alpha is 3");
    ex.n_devices = 1;
    CHECK_FAILS (scale (&ex, 3, 1), DPS_ERR_UNSUPPORTED, "add (f32, f32 → f32) runs on no device: picky:0: 3 rows");
    dps_exec_close (&ex);
    dps_registry_close (reg);
}

CHECK_MAIN ("exec: placement", T (test_a_kind_of_op_is_placed_once), T (test_a_device_gets_the_shapes_and_attributes_it_takes))
