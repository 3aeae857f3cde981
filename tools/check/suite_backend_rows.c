/* SPDX-License-Identifier: Apache-2.0 */
/* suite_backend_rows.c: rows that move, norms, rope and the optimizers' steps. */
#include <math.h>
#include <string.h>

#include "check/kit.h"

static DpsStatus moved_rows (Kit *k, DpsError *err)
{
    const int64_t rows = 40;
    for (int m = 0; m < 4; m++)
        KIT_EACH_SHAPE (N, D)
        {
            KitArray *x = kit_normals (k, kit_mixed (m, 0), rows, D, 1), *few = kit_normals (k, kit_mixed (m, 0), N, D, 1),
                     *at = kit_indices (k, N, rows);
            KitArray *cache = kit_normals (k, kit_mixed (m, 1), rows, D, 1), *places = kit_array (k, I32, N, -1);
            for (int64_t i = 0; i < N; i++)
                kit_put (places, i, (double)(rows - 1 - 2 * i));
            DPS_TRY (
                kit_compare (k, &(KitCall){.name = "gather_rows", .in = {x, at}, .out = {kit_array (k, kit_mixed (m, 1), N, D)}}, err));
            DPS_TRY (kit_compare (k, &(KitCall){.name = "scatter_rows", .in = {few, at}, .out = {kit_array (k, kit_mixed (m, 1), rows, D)}},
                                  err));
            DPS_TRY (kit_compare (k, &(KitCall){.name = "put_rows", .in = {few, places}, .out = {cache}}, err));
            kit_clear (k);
        }
    return DPS_OK;
}

static DpsStatus embed (Kit *k, DpsError *err)
{
    const int64_t rows = 40;
    for (int m = 0; m < 4; m++)
        KIT_EACH_SHAPE (N, D)
        {
            KitArray *table = kit_normals (k, kit_mixed (m, 0), rows, D, 1), *dy = kit_normals (k, kit_mixed (m, 0), N, D, 1),
                     *ids = kit_indices (k, N, rows);
            DPS_TRY (kit_compare (
                k,
                &(KitCall){
                    .name = "embed", .in = {table, ids}, .out = {kit_array (k, kit_mixed (m, 1), N, D)}, .attrs = {{.f = m ? 1.7 : 0}}},
                err));
            DPS_TRY (kit_compare (k,
                                  &(KitCall){.name = "embed_dw",
                                             .in = {dy, ids, kit_roots (k, N)},
                                             .out = {kit_normals (k, F32, rows, D, 1)},
                                             .attrs = {{.f = m ? 1.7 : 0}},
                                             .length = N},
                                  err));
            kit_clear (k);
        }
    return DPS_OK;
}

/* Row numbers outside the table are INVALID and name the place; nothing outside is touched. */
static DpsStatus bad_rows (Kit *k, DpsError *err)
{
    static const char *const names[] = {"gather_rows", "scatter_rows", "put_rows", "embed", "embed_dw"};
    for (int i = 0; i < 10; i++) {
        KitArray *x = kit_normals (k, F32, 3, 4, 1), *at = kit_i32s (k, 3, (const int32_t[]){0, i % 2 ? -1 : 3, 1}),
                 *y = kit_filled (k, F32, 3, 4, 0);
        KitCall c = {.name = names[i / 2], .in = {x, at, i / 2 == 4 ? kit_roots (k, 3) : NULL}, .out = {y}};
        DpsStatus st = kit_must_fail (k, &c, DPS_ERR_INVALID, err);
        k->n_compared += st == DPS_OK;
        DPS_TRY (kit_refusable (k, st));
        kit_clear (k);
    }
    return DPS_OK;
}

/* One norm of N rows of `groups` groups of h: forward with and without rstd, both adjoints, with and without an addend. */
static DpsStatus one_norm (Kit *k, int64_t h, int64_t groups, int64_t N, int m, DpsError *err)
{
    int64_t D = h * groups;
    const DpsScalar a[] = {{.f = m & 2 ? 0.1 : 1e-5}, {.f = m & 1}, {.i = groups > 1 ? h : 0}};
    KitArray *x = kit_normals (k, kit_mixed (m, 0), N, D, 1), *w = kit_normals (k, kit_mixed (m, 1), h, -1, 1),
             *rstd = kit_array (k, F32, N * groups, -1);
    KitCall c = {
        .name = "rms_norm", .in = {x, w}, .out = {kit_array (k, kit_mixed (m, 2), N, D), rstd}, .attrs = {a[0], a[1], a[2]}, .length = h};
    DPS_TRY (kit_compare (k, &c, err));
    c.out[0] = kit_array (k, kit_mixed (m, 2), N, D);
    c.out[1] = NULL;
    DPS_TRY (kit_compare (k, &c, err));
    KitArray *dy = kit_normals (k, kit_mixed (m, 2), N, D, 1), *want[KIT_MAX_OUT];
    c.out[1] = rstd;
    DPS_TRY (kit_oracle (k, &c, want, err)); /* a norm that only has the adjoints gets its rstd so */
    double steep = 0;
    for (int64_t i = 0; i < rstd->n; i++) {
        kit_put (rstd, i, kit_get (want[1], i));
        steep = fmax (steep, kit_get (rstd, i));
    }
    for (int added = 0; added < 2; added++)
        DPS_TRY (kit_compare (k,
                              &(KitCall){.name = "rms_norm_dx",
                                         .in = {x, w, rstd, dy, added ? kit_normals (k, kit_mixed (m, 3), N, D, 1) : NULL},
                                         .out = {kit_array (k, kit_mixed (m, 3), N, D)},
                                         .attrs = {a[0], a[1], a[2]},
                                         .length = h,
                                         .scale = steep},
                              err));
    return kit_compare (k,
                        &(KitCall){.name = "rms_norm_dw",
                                   .in = {x, rstd, dy, kit_roots (k, N)},
                                   .out = {kit_normals (k, F32, h, -1, 1)},
                                   .attrs = {a[0], a[1], a[2]},
                                   .length = N * groups},
                        err);
}

static DpsStatus rms_norm (Kit *k, DpsError *err)
{
    static const int64_t widths[] = {1, 3, 16, 17, 64, 257};
    for (size_t w = 0; w < sizeof widths / sizeof *widths; w++)
        for (int64_t groups = 1; groups <= 3; groups += 2)
            for (int r = 0; r < KIT_ROW_COUNTS; r++)
                for (int m = 0; m < 16; m++) {
                    DPS_TRY (one_norm (k, widths[w], groups, kit_row_counts[r], m, err));
                    kit_clear (k);
                }
    return DPS_OK;
}

static DpsStatus rope (Kit *k, DpsError *err)
{
    static const int64_t heads[] = {2, 6, 32, 34, 64, 130};
    for (size_t w = 0; w < sizeof heads / sizeof *heads; w++)
        for (int m = 0; m < 8; m++) {
            int64_t h = heads[w];
            /* row 8 belongs to no segment; the last segment is far from the first with m & 4 */
            const DpsSegment s[] = {{0, 5, 0, 5, -1, 0, 0, 0}, {5, 3, 5, 3, 0, 5, 0, 0}, {9, 8, 9, 8, -1, m & 4 ? 9000 : 40, 0, 0}};
            KitArray *inv_freq = kit_array (k, F32, h / 2, -1), *table = kit_segments (k, 3, s);
            for (int64_t i = 0; i < h / 2; i++)
                kit_put (inv_freq, i, pow (10000, -2.0 * (double)i / (double)h));
            for (int64_t inverse = 0; inverse < 2; inverse++)
                DPS_TRY (kit_compare (k,
                                      &(KitCall){.name = "rope",
                                                 .in = {kit_normals (k, kit_mixed (m, 0), 17, 3 * h, 1), table, inv_freq},
                                                 .out = {kit_array (k, kit_mixed (m, 1), 17, 3 * h)},
                                                 .attrs = {{.i = h}, {.i = inverse}, {.f = m & 1 ? 1.25 : 0}}},
                                      err));
            DPS_TRY (kit_compare (k,
                                  &(KitCall){.name = "rope",
                                             .in = {kit_array (k, F32, 0, h), kit_segments (k, 0, NULL), inv_freq},
                                             .out = {kit_array (k, F32, 0, h)},
                                             .attrs = {{.i = h}}},
                                  err));
            kit_clear (k);
        }
    return DPS_OK;
}

static DpsStatus optimizers (Kit *k, DpsError *err)
{
    for (int d = 0; d < KIT_SIZES; d++)
        for (int m = 0; m < 8; m++) {
            int64_t n = d ? kit_sizes[d] : 140001;
            KitArray *p = kit_normals (k, F32, n, -1, 1), *g = kit_normals (k, F32, n, -1, 0.1), *mm = kit_normals (k, F32, n, -1, 0.1);
            KitArray *v = kit_array (k, F32, n, -1), *shadow = m & 1 ? kit_normals (k, BF16, n, -1, 1) : NULL;
            for (int64_t i = 0; v && mm && i < n; i++)
                kit_put (v, i, pow (kit_get (mm, i), 2) + 1e-4);
            for (int64_t i = 0; v && mm && g && i < n && i < 2; i++) { /* of an embedding's rows that no token had */
                kit_put (g, i, 0);
                kit_put (mm, i, 0);
                kit_put (v, i, 0);
            }
            const DpsScalar eps = {.f = m & 2 ? 1e-2 : 1e-8}; /* one that counts beside √v */
            const DpsScalar scale = {.f = m & 2 ? 0.25 : 0};  /* 0 is a missing attribute: 1 */
            KitCall adam = {.name = "adamw_step",
                            .in = {p, g, mm, v, shadow},
                            .out = {p, mm, v, shadow},
                            .attrs = {{.f = 0.01}, {.f = 0.9}, {.f = 0.999}, eps, {.f = 0.1}, {.i = 3}, scale}};
            KitCall sgd = {.name = "sgd_step",
                           .in = {p, g, m & 1 ? mm : NULL, shadow},
                           .out = {p, m & 1 ? mm : NULL, shadow},
                           .attrs = {{.f = 0.01}, {.f = 0.9}, {0}, {0}, {.f = 0.1}, {0}, scale}};
            DPS_TRY (kit_compare (k, m & 4 ? &adam : &sgd, err));
            kit_clear (k);
        }
    return DPS_OK;
}

static DpsStatus sumsq (Kit *k, DpsError *err)
{
    for (int m = 0; m < 2; m++)
        for (int d = 0; d <= KIT_SIZES; d++) {
            KitArray *x = kit_normals (k, kit_mixed (m, 0), d < KIT_SIZES ? kit_sizes[d] : 200001, -1, 1);
            DPS_TRY (kit_compare (k, &(KitCall){.name = "sumsq", .in = {x}, .out = {kit_array (k, F64, 1, -1)}}, err));
            kit_clear (k);
        }
    return DPS_OK;
}

/* The ops that decompositions are made of besides arithmetic: a backend that has them can run what it lacks whole. */
static DpsStatus simple (Kit *k, DpsError *err)
{
    const DpsSegment s[] = {{0, 5, 0, 5, -1, 0, 0, 0}, {5, 3, 5, 3, 0, 5, 0, 0}, {9, 8, 9, 8, -1, 40, 0, 0}};
    for (int m = 0; m < 4; m++)
        KIT_EACH_SHAPE (N, D)
        {
            KitArray *x = kit_normals (k, kit_mixed (m, 0), N, D, 1);
            if (D)
                DPS_TRY (kit_compare (k,
                                      &(KitCall){.name = "row_max",
                                                 .in = {x},
                                                 .out = {kit_array (k, kit_mixed (m, 1), N, 1), m & 2 ? NULL : kit_array (k, I32, N, -1)}},
                                      err));
            if (D)
                DPS_TRY (kit_compare (
                    k, &(KitCall){.name = "one_hot", .in = {kit_indices (k, N, D)}, .out = {kit_array (k, kit_mixed (m, 1), N, D)}}, err));
            DPS_TRY (
                kit_compare (k, &(KitCall){.name = "range", .out = {kit_array (k, I32, N, -1)}, .attrs = {{.i = 3}, {.i = m - 1}}}, err));
            kit_clear (k);
        }
    for (int m = 0; m < 4; m++) {
        KitArray *table = kit_segments (k, 3, s), *inv_freq = kit_normals (k, F32, 9, -1, 0.5);
        DPS_TRY (kit_compare (
            k,
            &(KitCall){
                .name = "segment_mask", .in = {table}, .out = {kit_array (k, kit_mixed (m, 0), 17, 17)}, .attrs = {{.i = m & 2 ? 2 : 0}}},
            err));
        DPS_TRY (kit_compare (k,
                              &(KitCall){.name = "rope_angles",
                                         .in = {table, inv_freq},
                                         .out = {kit_array (k, kit_mixed (m, 0), 17, 9), kit_array (k, kit_mixed (m, 1), 17, 9)}},
                              err));
        kit_clear (k);
    }
    return DPS_OK;
}

KIT_CASE (moved_rows)
KIT_CASE (embed)
KIT_CASE (bad_rows)
KIT_CASE (rms_norm)
KIT_CASE (rope)
KIT_CASE (optimizers)
KIT_CASE (sumsq)
KIT_CASE (simple)

static const CheckCase cases[] = {
    KIT_LINE (moved_rows, 3, CHECK_REQUIRED),
    KIT_LINE (embed, 3, CHECK_REQUIRED),
    KIT_LINE (bad_rows, 3, 0),
    KIT_LINE (rms_norm, 3, CHECK_REQUIRED),
    KIT_LINE (rope, 3, CHECK_REQUIRED),
    KIT_LINE (optimizers, 3, CHECK_REQUIRED),
    KIT_LINE (sumsq, 3, CHECK_REQUIRED),
    KIT_LINE (simple, 3, 0),
};
const CheckSuite check_suite_backend_rows = {"backend.rows", DPS_BACKEND_ID, "rows that move, norms, rope, optimizers", cases,
                                             sizeof cases / sizeof *cases};
