/* SPDX-License-Identifier: Apache-2.0 */
/*
 * suite_backend_table.c: every op of ops.def in every floating dtype at awkward sizes, by the table that typical.c is: what the device takes is
 * compared, so that no op and no dtype is left to the other suites' choice of cases. An op without a line in typical.c fails here.
 */
#include <stdio.h>
#include <string.h>

#include "check/typical.h"

static const char *const all_ops[] = {
#define OP(name, n_in, n_out, shape, adjoint) #name,
#include "graph/ops.def"
#undef OP
};
enum { N_OPS = sizeof all_ops / sizeof *all_ops };

/* Of one row; of fewer than a vector; past vectors and blocks, no size a multiple of anything. */
static const TypicalSize sizes[] = {
    {1, 1, 1, 1, 1, 1, 2}, {3, 17, 5, 29, 2, 1, 6}, {7, 18, 13, 29, 2, 1, 6}, {33, 255, 31, 257, 4, 2, 34}, {65, 67, 129, 131, 3, 3, 80},
};
enum { N_SIZES = sizeof sizes / sizeof *sizes };

static DpsStatus one_op (Kit *k, const char *op, uint32_t dtype, DpsError *err)
{
    for (int i = 0; i < N_SIZES; i++) {
        const TypicalSize *z = &sizes[i];
        KitCall c;
        DPS_TRY (typical_call (k, op, dtype, z, &c, err));
        c.length = z->N + z->D + z->O + z->V;
        c.scale = 8; /* normals of any sign stand where a forward pass would leave other numbers: differences cancel more */
        DPS_TRY (kit_compare (k, &c, err));
        kit_clear (k);
    }
    return DPS_OK;
}

/* The ops it takes in that dtype go into the notes: what the device declares is what was compared. */
static DpsStatus every_op (Kit *k, uint32_t dtype, DpsError *err)
{
    json_t *taken = json_array ();
    DpsStatus st = DPS_OK;
    for (int i = 0; i < N_OPS && st == DPS_OK; i++) {
        long before = k->n_compared;
        st = one_op (k, all_ops[i], dtype, err);
        if (k->n_compared > before)
            json_array_append_new (taken, json_string (all_ops[i]));
    }
    json_object_set_new (k->ctx->notes, "taken", taken);
    return st;
}

/* Matrices whose rows lie apart, in every op: done right, or refused. */
static DpsStatus strided (Kit *k, DpsError *err)
{
    k->apart = 1;
    DPS_TRY (every_op (k, F32, err));
    return every_op (k, BF16, err);
}

static DpsStatus f32 (Kit *k, DpsError *err) { return every_op (k, F32, err); }
static DpsStatus bf16 (Kit *k, DpsError *err) { return every_op (k, BF16, err); }
static DpsStatus f16 (Kit *k, DpsError *err) { return every_op (k, F16, err); }
static DpsStatus f64 (Kit *k, DpsError *err) { return every_op (k, F64, err); }

KIT_CASE (f32)
KIT_CASE (bf16)
KIT_CASE (f16)
KIT_CASE (f64)
KIT_CASE (strided)

static const CheckCase cases[] = {
    KIT_LINE (f32, 3, CHECK_REQUIRED), KIT_LINE (bf16, 3, CHECK_REQUIRED), KIT_LINE (f16, 3, 0), KIT_LINE (f64, 3, 0),
    KIT_LINE (strided, 3, 0),
};
const CheckSuite check_suite_backend_table = {"backend.table", DPS_BACKEND_ID, "every op in every dtype", cases,
                                              sizeof cases / sizeof *cases};
