/* SPDX-License-Identifier: Apache-2.0 */
/* Placement: one case per kind of op, however often it runs; what no device takes is refused each time, in the same words. */
#include "check.h"
#include "exec/exec.h"

static DpsError err = DPS_ERROR_INIT;

static DpsStatus add (DpsExec *ex, uint32_t dtype, uint32_t rank)
{
    static const int64_t shape[] = {1, 2};
    float x[2] = {1, 2}, y[2];
    const DpsView a = dps_view (dtype, rank, shape + 2 - rank, x), b = dps_view (dtype, rank, shape + 2 - rank, y);
    return dps_exec_op (ex, DPS_OP_add, (const DpsView *[]){&a, &a}, 2, (const DpsView *[]){&b}, 1, NULL, 0, &err);
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

CHECK_MAIN ("exec: placement", T (test_a_kind_of_op_is_placed_once))
