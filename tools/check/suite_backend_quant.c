/* SPDX-License-Identifier: Apache-2.0 */
/*
 * suite_backend_quant.c: weights in block formats (ops.h) in every op that may get one: the numbers are those that the decoded rows give in f64, for
 * every form, where blocks cross rows too, for any number of rows of x. Whether the bits are those of decoded rows on the same device is no promise
 * of the ABI: it is noted ("as_decoded": the share of calls).
 */
#include <stdio.h>
#include <string.h>

#include "check/kit.h"

static const struct {
    int64_t M, K, O;
} shapes[] = {{1, 1, 1}, {3, 13, 7}, {17, 67, 63}, {5, 100, 65}, {33, 32, 130}, {64, 256, 16}, {70, 256, 259}, {2, 768, 600}};
enum { N_SHAPES = sizeof shapes / sizeof *shapes };

static long n_calls, n_as_decoded;

/* The call against the oracle, then with the decoded rows in W's place on the same device. */
static DpsStatus compare (Kit *k, KitCall *c, int w, DpsError *err)
{
    char form[64];
    long before = k->n_compared;
    KitArray *quantised = c->in[w], *out[KIT_MAX_OUT];
    snprintf (form, sizeof form, "%s", dps_intern_name (quantised->view.dtype));
    if (kit_compare (k, c, err) != DPS_OK)
        return dps_error_prefix (err, "%s", form);
    if (k->n_compared == before)
        return DPS_OK;
    memcpy (out, c->out, sizeof out);
    c->in[w] = quantised->plain;
    for (int o = 0; o < KIT_MAX_OUT; o++)
        c->out[o] = out[o] ? kit_array (k, out[o]->view.dtype, out[o]->shape[0], out[o]->view.rank == 1 ? -1 : out[o]->shape[1]) : NULL;
    DpsStatus st = kit_call (k, c, err);
    if (st == KIT_REFUSED)
        return DPS_OK;
    DPS_TRY (st);
    int same = 1;
    for (int o = 0; o < KIT_MAX_OUT; o++)
        same &= !out[o] || kit_same_bits (form, c->out[o], out[o], err) == DPS_OK;
    n_calls++;
    n_as_decoded += same;
    return DPS_OK;
}

static DpsStatus finish (Kit *k)
{
    if (n_calls)
        check_note_number (k->ctx, "as_decoded", (double)n_as_decoded / (double)n_calls);
    return DPS_OK;
}

/* Bits of m: x in bf16, the rest of linear's operands. */
static DpsStatus one_product (Kit *k, const char *op, int f, int i, int m, DpsError *err)
{
    int back = !strcmp (op, "linear_dx"), extras = m & 2;
    int64_t M = shapes[i].M, in = back ? shapes[i].O : shapes[i].K, out = back ? shapes[i].K : shapes[i].O;
    KitArray *w, *x = kit_normals (k, kit_mixed (m, 0), M, in, 1), *c = extras ? kit_normals (k, F32, M, out, 1) : NULL;
    /* rounded to bf16 where x, and backwards dx, is bf16 */
    DPS_TRY (kit_quantised (k, &kit_forms[f], shapes[i].O, shapes[i].K, back && extras ? F32 : kit_mixed (m, 0), &w, err));
    if (!w)
        return DPS_OK;
    KitCall call = {.name = op,
                    .in = {x, w, back ? c : NULL, back ? NULL : c},
                    .out = {kit_array (k, extras ? F32 : kit_mixed (m, 0), M, out)},
                    .attrs = {{.f = extras ? -0.75 : 0}},
                    .length = in};
    if (extras && !back)
        call.in[2] = kit_normals (k, F32, out, -1, 1);
    return compare (k, &call, 1, err);
}

static DpsStatus products (Kit *k, const char *op, DpsError *err)
{
    for (int f = 0; f < KIT_FORMS; f++)
        for (int i = 0; i < N_SHAPES; i++)
            for (int m = 0; m < 4; m++) {
                DPS_TRY (one_product (k, op, f, i, m, err));
                kit_clear (k);
            }
    return finish (k);
}

static DpsStatus linear (Kit *k, DpsError *err) { return products (k, "linear", err); }
static DpsStatus linear_dx (Kit *k, DpsError *err) { return products (k, "linear_dx", err); }

static DpsStatus dora_norm (Kit *k, DpsError *err)
{
    for (int f = 0; f < KIT_FORMS; f++)
        for (int i = 0; i < N_SHAPES; i++) {
            int64_t O = shapes[i].O, K = shapes[i].K;
            KitArray *w;
            DPS_TRY (kit_quantised (k, &kit_forms[f], O, K, F32, &w, err));
            KitCall c = {.name = "dora_norm",
                         .in = {w, kit_normals (k, F32, 4, K, 1), kit_normals (k, F32, O, 4, 1), kit_normals (k, F32, O, -1, 1)},
                         .out = {kit_array (k, F32, O, -1), kit_array (k, F32, O, -1)},
                         .attrs = {{.f = 0.5}},
                         .length = K};
            if (w)
                DPS_TRY (compare (k, &c, 0, err));
            kit_clear (k);
        }
    return finish (k);
}

/* The table of embed and the head's W: as a tied embedding has both. */
static DpsStatus tables (Kit *k, DpsError *err)
{
    const int64_t S = 7, V = 300, D = 256;
    for (int f = 0; f < KIT_FORMS; f++)
        for (int m = 0; m < 2; m++) {
            KitArray *w, *ids = kit_indices (k, S, V);
            DPS_TRY (kit_quantised (k, &kit_forms[f], V, D, F32, &w, err));
            KitCall e = {.name = "embed", .in = {w, ids}, .out = {kit_array (k, kit_mixed (m, 0), S, D)}, .attrs = {{.f = 1.7}}};
            DPS_TRY (compare (k, &e, 0, err));
            DPS_TRY (kit_quantised (k, &kit_forms[f], V, D, kit_mixed (m, 0), &w, err));
            KitCall h = {.name = "token_logprobs",
                         .in = {kit_normals (k, kit_mixed (m, 0), S, D, 0.1), w, ids},
                         .out = {kit_array (k, F32, S, -1), kit_array (k, F32, S, -1), kit_array (k, F32, S, -1),
                                 kit_array (k, kit_mixed (m, 0), S, D)}};
            DPS_TRY (compare (k, &h, 1, err));
            kit_clear (k);
        }
    return finish (k);
}

/* Any rows of a call have the bits of a call of their own. */
static DpsStatus rows_alone (Kit *k, DpsError *err)
{
    enum { ROWS = 90 };
    const DpsQuantForm form = {DPS_QUANT_NF4, 64, 1};
    if (!k->backend->determinism || k->backend->determinism (k->device) < DPS_DETERMINISM_BATCH)
        return check_skip (err, "it does not promise that rows are independent (DPS_DETERMINISM_BATCH)");
    for (int m = 0; m < 4; m++) {
        const char *op = m & 2 ? "linear_dx" : "linear";
        int64_t in = m & 2 ? 130 : 77, out = m & 2 ? 77 : 130;
        KitArray *w, *x = kit_normals (k, kit_mixed (m, 0), ROWS, in, 1), *y = kit_array (k, kit_mixed (m, 0), ROWS, out);
        DPS_TRY (kit_quantised (k, &form, 130, 77, kit_mixed (m, 0), &w, err));
        DpsStatus st = kit_call (k, &(KitCall){.name = op, .in = {x, w}, .out = {y}}, err);
        for (int64_t n = 1; n <= 66 && st == DPS_OK; n++) {
            int64_t first = n * 37 % (ROWS - n);
            KitArray *part = kit_array (k, kit_mixed (m, 0), n, out);
            st = kit_run_moved (k, &(KitCall){.name = op, .in = {kit_rows_of (k, x, first, n), w}, .out = {part}}, err);
            if (st == DPS_OK)
                st = kit_same_bits ("rows of a quantised product in a call of their own", part, kit_rows_of (k, y, first, n), err);
        }
        k->n_compared += st == DPS_OK;
        DPS_TRY (kit_refusable (k, st));
        kit_clear (k);
    }
    return DPS_OK;
}

/* A part that is too short or missing is INVALID; an op that takes no weight says DTYPE or UNSUPPORTED. */
static DpsStatus bad_parts (Kit *k, DpsError *err)
{
    const DpsQuantForm form = {DPS_QUANT_NF4, 64, 0};
    for (int how = 0; how < 3; how++) {
        KitArray *w, *x = kit_normals (k, F32, 2, 40, 1), *y = kit_array (k, F32, 2, 4);
        KitCall c = {.name = "linear", .in = {x, NULL}, .out = {y}};
        DPS_TRY (kit_quantised (k, &form, 4, 40, F32, &c.in[1], err));
        w = c.in[1];
        if (kit_run (k, &c, DPS_RUN_DRY, err) != DPS_OK) {
            snprintf (k->refusal, sizeof k->refusal, "%.390s", err->msg);
            return KIT_REFUSED;
        }
        if (how == 0)
            w->parts[DPS_QPART_ABSMAX].bytes -= 4;
        else if (how == 1)
            w->view.n_parts = 0;
        else
            c = (KitCall){.name = "add", .in = {w, w}, .out = {kit_array (k, F32, 4, 40)}};
        DPS_TRY (kit_upload (k, &c, err));
        DpsStatus st = kit_run (k, &c, 0, err);
        int right = how < 2 ? st == DPS_ERR_INVALID : st == DPS_ERR_DTYPE || st == DPS_ERR_UNSUPPORTED || st == DPS_ERR_SHAPE;
        if (!right || !err->msg[0])
            return dps_fail (err, DPS_ERR_INVALID, "%s of a quantised weight %s: %s, expected %s with a reason", c.name,
                             how == 0   ? "whose absmax is too short"
                             : how == 1 ? "without its parts"
                                        : "where none may stand",
                             dps_status_name (st), how < 2 ? "INVALID" : "DTYPE");
        k->n_compared++;
        kit_clear (k);
    }
    return DPS_OK;
}

KIT_CASE (linear)
KIT_CASE (linear_dx)
KIT_CASE (dora_norm)
KIT_CASE (tables)
KIT_CASE (rows_alone)
KIT_CASE (bad_parts)

static const CheckCase cases[] = {
    KIT_LINE (linear, 5, CHECK_REQUIRED), KIT_LINE (linear_dx, 5, CHECK_REQUIRED),
    KIT_LINE (dora_norm, 5, 0),           KIT_LINE (tables, 5, 0),
    KIT_LINE (rows_alone, 5, 0),          KIT_LINE (bad_parts, 5, 0),
};
const CheckSuite check_suite_backend_quant = {"backend.quant", DPS_BACKEND_ID, "weights in block formats", cases,
                                              sizeof cases / sizeof *cases};
