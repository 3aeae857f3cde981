/* SPDX-License-Identifier: Apache-2.0 */
/* suite_backend_head.c: log-probs of scored rows without their logits in memory, and their adjoints. */
#include <math.h>
#include <string.h>

#include "check/kit.h"

/* The last two vocabularies are longer than a chunk of any backend here. */
static const struct {
    int64_t S, D, V;
} heads[] = {{0, 5, 7}, {1, 1, 1}, {1, 3, 2}, {3, 17, 5}, {17, 33, 255}, {65, 16, 257}, {70, 64, 300}, {19, 31, 16385}, {5, 24, 17409}};
enum { N_HEADS = sizeof heads / sizeof *heads };

typedef struct Scored {
    KitArray *h, *w, *targets, *out[4];
    DpsScalar attrs[2];
} Scored;

/* Head i; bits of m: dtypes of h and W, softcap with temperature, dir wanted. */
static Scored scored (Kit *k, int i, int m)
{
    int64_t S = heads[i].S, D = heads[i].D, V = heads[i].V;
    Scored s = {kit_normals (k, kit_mixed (m, 0), S, D, 1),
                kit_normals (k, kit_mixed (m, 1), V, D, 0.5),
                kit_indices (k, S, V),
                {NULL},
                {{0}, {0}}};
    s.attrs[0].f = m & 4 && i % 3 != 2 ? 3 : 0; /* together, and each alone */
    s.attrs[1].f = m & 4 && i % 3 != 1 ? 0.7 : 0;
    for (int o = 0; o < 3; o++)
        s.out[o] = kit_array (k, F32, S, -1);
    s.out[3] = m & 8 ? kit_array (k, kit_mixed (m, 0), S, D) : NULL;
    return s;
}

static KitCall call_of (const Scored *s)
{
    return (KitCall){.name = "token_logprobs",
                     .in = {s->h, s->w, s->targets},
                     .out = {s->out[0], s->out[1], s->out[2], s->out[3]},
                     .attrs = {s->attrs[0], s->attrs[1]}};
}

/* W, and where dir is wanted W for input gradients too, packed. */
static DpsStatus pack_head (Kit *k, KitCall *c, int *out_refused, DpsError *err)
{
    KitArray *rows = c->in[1];
    DPS_TRY (kit_packed (k, rows, DPS_PACK_FORWARD, &c->in[1], out_refused, err));
    if (!*out_refused && c->out[3])
        DPS_TRY (kit_packed (k, rows, DPS_PACK_INPUT_GRAD, &c->in[3], out_refused, err));
    return DPS_OK;
}

static DpsStatus token_logprobs (Kit *k, DpsError *err)
{
    for (int i = 0; i < N_HEADS; i++)
        for (int m = heads[i].V > 16384 ? 8 : 0; m < 16; m++) {
            Scored s = scored (k, i, m);
            KitCall c = call_of (&s);
            int refused;
            DPS_TRY (kit_compare (k, &c, err));
            DPS_TRY (pack_head (k, &c, &refused, err));
            if (!refused)
                DPS_TRY (kit_compare (k, &c, err));
            kit_clear (k);
        }
    return DPS_OK;
}

static DpsStatus token_logprobs_dw (Kit *k, DpsError *err)
{
    for (int i = 0; i < N_HEADS; i++)
        for (int m = 0; m < 8; m++) {
            Scored s = scored (k, i, m);
            KitArray *dlogp = kit_normals (k, F32, heads[i].S, -1, 1), *dw = kit_normals (k, F32, heads[i].V, heads[i].D, 0.1);
            DPS_TRY (kit_compare (k,
                                  &(KitCall){.name = "token_logprobs_dw",
                                             .in = {s.h, s.w, s.targets, dlogp, kit_roots (k, heads[i].S)},
                                             .out = {dw},
                                             .attrs = {s.attrs[0], s.attrs[1]}},
                                  err));
            kit_clear (k);
        }
    return DPS_OK;
}

/* Logits of one device's linear give the bits that its token_logprobs gives for the states, in one call or row by row. */
static DpsStatus one_row_logprobs (Kit *k, int i, int m, DpsError *err)
{
    Scored s = scored (k, i, m);
    int64_t S = heads[i].S, V = heads[i].V;
    KitArray *z = kit_array (k, F32, S, V), *rows = kit_array (k, F32, S, -1);
    KitCall c = call_of (&s);
    int refused;
    DPS_TRY (pack_head (k, &c, &refused, err));
    DPS_TRY (kit_call (k, &c, err));
    DPS_TRY (kit_call (k, &(KitCall){.name = "linear", .in = {s.h, c.in[1]}, .out = {z}}, err));
    KitCall f = {.name = "row_logprobs", .in = {z, s.targets}, .out = {rows}, .attrs = {s.attrs[0], s.attrs[1]}};
    long before = k->n_compared;
    DPS_TRY (kit_compare (k, &f, err));
    if (k->n_compared == before)
        return KIT_REFUSED;
    DPS_TRY (kit_same_bits ("row_logprobs of linear's logits, against token_logprobs", rows, s.out[0], err));
    for (int64_t r = 0; r < S; r += 7) {
        f.in[0] = kit_rows_of (k, z, r, 1);
        f.in[1] = kit_rows_of (k, s.targets, r, 1);
        f.out[0] = kit_array (k, F32, 1, -1);
        DPS_TRY (kit_call (k, &f, err));
        DPS_TRY (kit_same_bits ("row_logprobs of one row alone", f.out[0], kit_rows_of (k, rows, r, 1), err));
    }
    return DPS_OK;
}

static DpsStatus row_logprobs (Kit *k, DpsError *err)
{
    for (int i = 0; i < N_HEADS; i++)
        for (int m = 0; m < 16; m++) {
            DPS_TRY (kit_refusable (k, one_row_logprobs (k, i, m, err)));
            kit_clear (k);
        }
    return DPS_OK;
}

/* Logits of hundreds, whose exponentials no f32 holds: the largest is taken off first. */
static DpsStatus large_logits (Kit *k, DpsError *err)
{
    for (int m = 0; m < 4; m++) {
        KitArray *h = kit_normals (k, kit_mixed (m, 0), 17, 33, 1), *w = kit_normals (k, kit_mixed (m, 1), 255, 33, 40),
                 *z = kit_normals (k, F32, 17, 255, 200), *targets = kit_indices (k, 17, 255);
        DPS_TRY (kit_compare (k, &(KitCall){.name = "token_logprobs", .in = {h, w, targets}, .out = {kit_array (k, F32, 17, -1)}}, err));
        DPS_TRY (kit_compare (k, &(KitCall){.name = "row_logprobs", .in = {z, targets}, .out = {kit_array (k, F32, 17, -1)}}, err));
        kit_clear (k);
    }
    return DPS_OK;
}

/* Targets outside the vocabulary are INVALID. */
static DpsStatus bad_targets (Kit *k, DpsError *err)
{
    for (int32_t bad = -1; bad <= 3; bad += 4) {
        KitCall c = {.name = "token_logprobs",
                     .in = {kit_normals (k, F32, 1, 4, 1), kit_normals (k, F32, 3, 4, 1), kit_i32s (k, 1, &bad)},
                     .out = {kit_array (k, F32, 1, -1)}};
        KitCall r = {
            .name = "row_logprobs", .in = {kit_normals (k, F32, 1, 3, 1), kit_i32s (k, 1, &bad)}, .out = {kit_array (k, F32, 1, -1)}};
        DpsStatus st = kit_must_fail (k, &c, DPS_ERR_INVALID, err);
        k->n_compared += st == DPS_OK;
        DPS_TRY (kit_refusable (k, st));
        st = kit_must_fail (k, &r, DPS_ERR_INVALID, err);
        k->n_compared += st == DPS_OK;
        DPS_TRY (kit_refusable (k, st));
        const KitCall d = {.name = "token_logprobs_dw",
                           .in = {c.in[0], c.in[1], c.in[2], kit_normals (k, F32, 1, -1, 1), kit_roots (k, 1)},
                           .out = {kit_filled (k, F32, 3, 4, 0)}};
        st = kit_must_fail (k, &d, DPS_ERR_INVALID, err);
        k->n_compared += st == DPS_OK;
        DPS_TRY (kit_refusable (k, st));
        kit_clear (k);
    }
    return DPS_OK;
}

static DpsStatus nan_stays (Kit *k, DpsError *err)
{
    for (int m = 0; m < 8; m++) {
        KitArray *h = kit_normals (k, kit_mixed (m, 0), 20, 35, 1), *w = kit_normals (k, kit_mixed (m, 1), 40, 35, 1);
        KitArray *logp = kit_array (k, F32, 20, -1), *entropy = kit_array (k, F32, 20, -1);
        kit_put (m & 4 ? w : h, 3 * 35 + 2, (double)NAN);
        DpsStatus st =
            kit_call (k, &(KitCall){.name = "token_logprobs", .in = {h, w, kit_indices (k, 20, 40)}, .out = {logp, entropy}}, err);
        if (st == DPS_OK && (!isnan (kit_get (logp, 3)) || !isnan (kit_get (entropy, 3))))
            return dps_fail (err, DPS_ERR_INVALID, "token_logprobs: a NaN in %s is gone from the log-prob", m & 4 ? "W" : "h");
        if (st == DPS_OK && !(m & 4) && isnan (kit_get (logp, 4)))
            return dps_fail (err, DPS_ERR_INVALID, "token_logprobs: a NaN of row 3 is in row 4 too");
        k->n_compared += st == DPS_OK;
        DPS_TRY (kit_refusable (k, st));
        kit_clear (k);
    }
    return DPS_OK;
}

KIT_CASE (token_logprobs)
KIT_CASE (token_logprobs_dw)
KIT_CASE (row_logprobs)
KIT_CASE (large_logits)
KIT_CASE (bad_targets)
KIT_CASE (nan_stays)

static const CheckCase cases[] = {
    KIT_LINE (token_logprobs, 3, CHECK_REQUIRED),
    KIT_LINE (token_logprobs_dw, 3, CHECK_LONG),
    KIT_LINE (row_logprobs, 3, CHECK_LONG),
    KIT_LINE (large_logits, 3, CHECK_REQUIRED),
    KIT_LINE (bad_targets, 3, 0),
    KIT_LINE (nan_stays, 3, 0),
};
const CheckSuite check_suite_backend_head = {"backend.head", DPS_BACKEND_ID, "log-probs of scored rows", cases,
                                             sizeof cases / sizeof *cases};
