/* SPDX-License-Identifier: Apache-2.0 */
/* suite_backend_products.c: linear, its adjoints and dora_norm, with weights as rows and packed; packing itself. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "check/kit.h"

enum { FORWARD = DPS_PACK_FORWARD, INPUT_GRAD = DPS_PACK_INPUT_GRAD };

static const struct {
    int64_t M, K, O;
} shapes[] = {{0, 5, 3},      {1, 1, 1},     {1, 3, 17},   {3, 17, 5},    {7, 16, 16},    {16, 15, 33},
              {17, 257, 31},  {31, 33, 255}, {64, 48, 64}, {65, 64, 257}, {70, 255, 259}, {129, 31, 300},
              {5, 640, 1025}, {33, 700, 17}, {2, 4099, 3}, {3, 2, 4099},  {4099, 2, 3}};
enum { N_SHAPES = sizeof shapes / sizeof *shapes };

/* The call with W as rows and, where the backend packs, with W packed: the same oracle for both. */
static DpsStatus both_forms (Kit *k, KitCall *c, uint32_t orientation, DpsError *err)
{
    KitArray *rows = c->in[1];
    int refused;
    DPS_TRY (kit_compare (k, c, err));
    DPS_TRY (kit_packed (k, rows, orientation, &c->in[1], &refused, err));
    return refused ? DPS_OK : kit_compare (k, c, err);
}

static DpsStatus linear (Kit *k, DpsError *err)
{
    for (int i = 0; i < N_SHAPES; i++)
        for (int m = 0; m < 16; m++) {
            int64_t M = shapes[i].M, K = shapes[i].K, O = shapes[i].O;
            KitArray *x = kit_normals (k, kit_mixed (m, 0), M, K, 1), *w = kit_normals (k, kit_mixed (m, 1), O, K, 1);
            KitArray *bias = m & 8 ? kit_normals (k, m & 1 ? F32 : BF16, O, -1, 1) : NULL,
                     *c = m & 8 ? kit_normals (k, m & 2 ? F32 : BF16, M, O, 1) : NULL;
            KitCall f = {.name = "linear",
                         .in = {x, w, bias, c},
                         .out = {kit_array (k, kit_mixed (m, 2), M, O)},
                         .attrs = {{.f = m & 8 ? -0.75 : 0}},
                         .length = K};
            DPS_TRY (both_forms (k, &f, FORWARD, err));
            kit_clear (k);
        }
    return DPS_OK;
}

static DpsStatus linear_dx (Kit *k, DpsError *err)
{
    for (int i = 0; i < N_SHAPES; i++)
        for (int m = 0; m < 16; m++) {
            int64_t M = shapes[i].M, K = shapes[i].K, O = shapes[i].O;
            KitArray *dy = kit_normals (k, kit_mixed (m, 0), M, O, 1), *w = kit_normals (k, kit_mixed (m, 1), O, K, 1);
            KitArray *c = m & 8 ? kit_normals (k, m & 2 ? F32 : BF16, M, K, 1) : NULL;
            KitCall f = {.name = "linear_dx",
                         .in = {dy, w, c},
                         .out = {kit_array (k, kit_mixed (m, 2), M, K)},
                         .attrs = {{.f = m & 8 ? -0.75 : 0}},
                         .length = O};
            DPS_TRY (both_forms (k, &f, INPUT_GRAD, err));
            kit_clear (k);
        }
    return DPS_OK;
}

static DpsStatus linear_dw (Kit *k, DpsError *err)
{
    for (int i = 0; i < N_SHAPES; i++)
        for (int m = 0; m < 4; m++) {
            int64_t M = shapes[i].M, K = shapes[i].K, O = shapes[i].O;
            KitArray *dy = kit_normals (k, kit_mixed (m, 0), M, O, 1), *x = kit_normals (k, kit_mixed (m, 1), M, K, 1),
                     *dw = kit_normals (k, F32, O, K, 1);
            DPS_TRY (kit_compare (
                k,
                &(KitCall){.name = "linear_dw", .in = {dy, x, kit_roots (k, M)}, .out = {dw}, .attrs = {{.f = m ? 0.5 : 0}}, .length = M},
                err));
            kit_clear (k);
        }
    return DPS_OK;
}

/* Packing rounds as a copy does: to nearest. */
static DpsStatus packs_in_another_dtype (Kit *k, DpsError *err)
{
    for (int m = 0; m < 4; m++) {
        const uint32_t from = kit_mixed (m, 0), in = m & 1 ? F32 : BF16;
        KitArray *w = kit_normals (k, from, 131, 67, 1), *x = kit_normals (k, in, 19, m & 2 ? 131 : 67, 1), *p;
        int refused;
        for (int64_t i = 0; w && !(m & 1) && i < w->n; i++)
            kit_put (w, i, kit_get (w, i) * 1.2345678);
        DPS_TRY (kit_packed_as (k, w, in, m & 2 ? INPUT_GRAD : FORWARD, &p, &refused, err));
        k->n_refused += refused;
        if (!refused)
            DPS_TRY (kit_compare (
                k,
                &(KitCall){
                    .name = m & 2 ? "linear_dx" : "linear", .in = {x, p}, .out = {kit_array (k, F32, 19, m & 2 ? 67 : 131)}, .length = 131},
                err));
        kit_clear (k);
    }
    return DPS_OK;
}

/* The sum of nothing is 0; or weights without a column are refused, dry and for real. */
static DpsStatus empty (Kit *k, DpsError *err)
{
    return kit_compare (
        k, &(KitCall){.name = "linear", .in = {kit_array (k, F32, 3, 0), kit_array (k, F32, 4, 0)}, .out = {kit_array (k, F32, 3, 4)}},
        err);
}

/* Operands whose rows lie apart: done right, or refused. */
static DpsStatus strided (Kit *k, DpsError *err)
{
    for (int m = 0; m < 4; m++) {
        KitArray *x = kit_array_strided (k, F32, 7, 17), *w = kit_normals (k, F32, 5, 17, 1), *y = kit_array (k, F32, 7, 5),
                 *from = kit_normals (k, F32, 7, 17, 1);
        for (int64_t i = 0; x && from && i < x->n; i++)
            kit_put (x, i, kit_get (from, i));
        if (m & 1)
            y = kit_array_strided (k, F32, 7, 5);
        DPS_TRY (kit_compare (k, &(KitCall){.name = "linear", .in = {m & 2 ? from : x, w}, .out = {y}, .length = 17}, err));
        kit_clear (k);
    }
    return DPS_OK;
}

static DpsStatus dora_norm (Kit *k, DpsError *err)
{
    for (int i = 0; i < N_SHAPES; i++)
        for (int m = 0; m < 8; m++) {
            int64_t K = shapes[i].K, O = shapes[i].O, r = 1 + m % 5;
            KitArray *w = kit_normals (k, kit_mixed (m, 0), O, K, 1), *a = kit_normals (k, kit_mixed (m, 1), r, K, 1),
                     *b = kit_normals (k, F32, O, r, 1);
            for (int64_t j = 0; m & 1 && j < K + r; j++) /* a row of zeros has no direction, and divides nothing by 0 */
                kit_put (j < K ? w : b, j < K ? j : j - K, 0);
            KitArray *magnitude = m & 4 ? kit_normals (k, F32, O, -1, 1) : NULL;
            DPS_TRY (kit_compare (k,
                                  &(KitCall){.name = "dora_norm",
                                             .in = {w, a, b, magnitude},
                                             .out = {magnitude ? kit_array (k, F32, O, -1) : NULL, kit_array (k, F32, O, -1)},
                                             .attrs = {{.f = 0.5}},
                                             .length = K},
                                  err));
            kit_clear (k);
        }
    return DPS_OK;
}

/* A NaN is in the numbers that depend on it, and in its own row alone. */
static DpsStatus nan_stays (Kit *k, DpsError *err)
{
    for (int m = 0; m < 8; m++) {
        KitArray *x = kit_normals (k, kit_mixed (m, 0), 20, 35, 1), *w = kit_normals (k, kit_mixed (m, 1), 40, 35, 1),
                 *dy = kit_normals (k, kit_mixed (m, 0), 20, 40, 1);
        KitArray *y = kit_array (k, F32, 20, 40), *dx = kit_array (k, F32, 20, 35), *dw = kit_filled (k, F32, 40, 35, 0);
        kit_put (m & 4 ? w : x, 3 * 35 + 2, (double)NAN);
        kit_put (dy, 3 * 40 + 2, (double)NAN);
        const KitCall calls[] = {{.name = "linear", .in = {x, w}, .out = {y}},
                                 {.name = "linear_dx", .in = {dy, w}, .out = {dx}},
                                 {.name = "linear_dw", .in = {dy, x, kit_roots (k, 20)}, .out = {dw}}};
        const int64_t at[] = {3 * 40 + 3, 3 * 35 + 1, 2 * 35 + 1};
        for (int i = 0; i < 3; i++) {
            DpsStatus st = kit_call (k, &calls[i], err);
            if (st == DPS_OK && !isnan (kit_get (calls[i].out[0], at[i])))
                return dps_fail (err, DPS_ERR_INVALID, "%s: a NaN in an operand is gone from the output", calls[i].name);
            if (st == DPS_OK && i == 0 && !(m & 4) && isnan (kit_get (y, 4 * 40 + 3)))
                return dps_fail (err, DPS_ERR_INVALID, "linear: a NaN of row 3 is in row 4 too");
            k->n_compared += st == DPS_OK;
            DPS_TRY (kit_refusable (k, st));
        }
        kit_clear (k);
    }
    return DPS_OK;
}

/* Rows of a packed weight come back as they were, and an embedding reads them out of the packed table. */
static DpsStatus unpack_rows (Kit *k, DpsError *err)
{
    if (!k->pack->unpack_rows)
        return check_skip (err, "its dps.pack/1 has no unpack_rows");
    for (int m = 0; m < 2; m++)
        for (int64_t O = 1; O < 20000; O = O * 5 + 3) {
            KitArray *w = kit_normals (k, kit_mixed (m, 0), O, 19, 1), *p, *ids = kit_indices (k, 21, O),
                     *y = kit_array (k, kit_mixed (m, 0), 21, 19);
            int refused;
            DPS_TRY (kit_packed (k, w, FORWARD, &p, &refused, err));
            k->n_refused += refused;
            if (!refused) {
                const KitCall moved = {.name = "unpack_rows", .in = {p, y}};
                DPS_TRY (kit_upload (k, &moved, err));
                DPS_TRY (k->pack->unpack_rows (k->device, &p->view, (const int32_t *)(const void *)kit_data (ids), 21, &y->view, err));
                DPS_TRY (kit_download (k, &moved, err));
                for (int64_t i = 0; i < 21 * 19; i++)
                    if (kit_get (y, i) != kit_get (w, (int64_t)kit_get (ids, i / 19) * 19 + i % 19))
                        return dps_fail (err, DPS_ERR_INVALID, "unpack_rows: row %lld of %lld is not what was packed",
                                         (long long)kit_get (ids, i / 19), (long long)O);
                DPS_TRY (kit_compare (
                    k, &(KitCall){.name = "embed", .in = {p, ids}, .out = {kit_array (k, F32, 21, 19)}, .attrs = {{.f = 3}}}, err));
                k->n_compared++;
            }
            kit_clear (k);
        }
    return DPS_OK;
}

KIT_CASE (linear)
KIT_CASE (linear_dx)
KIT_CASE (linear_dw)
KIT_CASE (empty)
KIT_CASE (strided)
KIT_CASE (dora_norm)
KIT_CASE (nan_stays)
KIT_CASE (packs_in_another_dtype)
KIT_CASE (unpack_rows)

static const CheckCase cases[] = {
    KIT_LINE (linear, 3, CHECK_REQUIRED),
    KIT_LINE (linear_dx, 3, CHECK_REQUIRED),
    KIT_LINE (linear_dw, 3, CHECK_REQUIRED),
    KIT_LINE (empty, 0, 0),
    KIT_LINE (strided, 0, 0),
    KIT_LINE (dora_norm, 3, 0),
    KIT_LINE (nan_stays, 0, 0),
    KIT_LINE (packs_in_another_dtype, 3, 0, .needs = DPS_PACK_ID),
    KIT_LINE (unpack_rows, 3, 0, .needs = DPS_PACK_ID),
};
const CheckSuite check_suite_backend_products = {"backend.products", DPS_BACKEND_ID, "matrix products and packed weights", cases,
                                                 sizeof cases / sizeof *cases};
