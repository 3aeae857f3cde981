/* SPDX-License-Identifier: Apache-2.0 */
/*
 * suite_backend_perf.c: how near each op comes to what this machine can do, measured in the same process: products and attention against the best
 * packed product (as `diapason bench matmul` has it) of this device, or of cpu where both share the host's memory; everything else against the
 * bandwidth of a copy. The shapes are those of a step of Gemma 3 270M.
 */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "check/typical.h"
#include "diapason/bench.h"
#include "plugin/host.h"

enum { COPY_PIECES = 64, COPY_BYTES = 1 << 20, LEAST_RUNS = 3 };
static const double most_s = 0.4; /* of one op */

typedef struct Peaks {
    double flops[2]; /* f32, bf16; 0: none */
    double bytes;    /* a second */
} Peaks;

/* The larger of what is known and what products reach on the device of that name. */
static DpsStatus product_peak (const Kit *k, const char *device, double flops[2], DpsError *err)
{
    DpsExec ex;
    double reached = 0;
    const char *const names[] = {device};
    DPS_TRY (dps_exec_open (&ex, k->ctx->registry, names, 1, err));
    for (int m = 0; m < 2 && ex.devices[0].pack; m++)
        if (bench_matmul_peak (&ex, kit_mixed (m, 0), &reached, err) == DPS_OK)
            flops[m] = fmax (flops[m], reached);
    dps_exec_close (&ex);
    return DPS_OK;
}

typedef struct Copy {
    unsigned char *from, *to;
} Copy;

static void copy_piece (void *ctx, uint64_t i)
{
    const Copy *c = ctx;
    memcpy (c->to + i * COPY_BYTES, c->from + i * COPY_BYTES, COPY_BYTES);
}

/* Bytes read and written a second by a copy that no cache holds, on all threads. */
static double host_bandwidth (void)
{
    Copy c = {dps_calloc (COPY_PIECES, COPY_BYTES), dps_calloc (COPY_PIECES, COPY_BYTES)};
    double best = INFINITY;
    for (int i = 0; c.from && c.to && i < 8; i++) {
        double start = bench_now ();
        dps_parallel_run (COPY_PIECES, copy_piece, &c);
        best = fmin (best, bench_now () - start);
    }
    dps_free (c.from);
    dps_free (c.to);
    return 2.0 * COPY_PIECES * COPY_BYTES / best;
}

/* The shortest of several runs, seconds; < 0: refused. */
static double time_call (Kit *k, const KitCall *c, DpsError *err)
{
    double best = INFINITY, begin = bench_now ();
    if (kit_run (k, c, DPS_RUN_DRY, err) != DPS_OK || kit_upload (k, c, err) != DPS_OK)
        return -1;
    for (int i = 0; i < LEAST_RUNS || bench_now () - begin < most_s; i++) {
        double start = bench_now ();
        if (kit_run (k, c, 0, err) != DPS_OK)
            return -1;
        best = fmin (best, bench_now () - start);
        if (bench_now () - begin > 20 * most_s)
            break; /* a slow oracle runs once */
    }
    return best;
}

static DpsStatus find_peaks (Kit *k, Peaks *p, DpsError *err)
{
    int shares = (k->info.flags & DPS_DEVICE_HOST_MEMORY) != 0;
    KitCall copy;
    *p = (Peaks){.bytes = shares ? host_bandwidth () : 0};
    DPS_TRY (product_peak (k, k->info.name, p->flops, err));
    if (shares && dps_registry_get (k->ctx->registry, DPS_BACKEND_ID, "cpu"))
        DPS_TRY (product_peak (k, "cpu", p->flops, err));
    DPS_TRY (typical_call (k, "copy", F32, &typical_step, &copy, err));
    double s = shares ? -1 : time_call (k, &copy, err);
    p->bytes = s > 0 ? fmax (p->bytes, typical_bytes (&copy) / s) : p->bytes;
    kit_clear (k);
    check_note_number (k->ctx, "peak_f32_gflops", p->flops[0] / 1e9);
    check_note_number (k->ctx, "peak_bf16_gflops", p->flops[1] / 1e9);
    check_note_number (k->ctx, "peak_gbytes", p->bytes / 1e9);
    return DPS_OK;
}

/* A call: its precision's place in Peaks.flops, seconds, and what it computes and moves. flops 0: memory bounds it. s < 0: refused. */
typedef struct Timed {
    int m;
    double s, flops, bytes;
} Timed;

/* Notes "linear.f32": its share of the peak; and what that is made of, in "rates". */
static void note_rate (Kit *k, const Peaks *p, const char *key, const Timed *t, json_t *rates, const DpsError *err)
{
    double peak = t->flops > 0 ? p->flops[t->m] : p->bytes, rate = (t->flops > 0 ? t->flops : t->bytes) / t->s;
    if (t->s <= 0) {
        k->n_refused++;
        snprintf (k->refusal, sizeof k->refusal, "%.390s", err->msg);
        return;
    }
    if (peak > 0)
        check_note_number (k->ctx, key, rate / peak);
    json_object_set_new (rates, key,
                         json_pack ("{s:f, s:s, s:f}", "seconds", t->s, "bound_by", t->flops > 0 ? "arithmetic" : "memory",
                                    t->flops > 0 ? "gflops" : "gbytes", rate / 1e9));
    k->n_compared++;
}

static DpsStatus measure (Kit *k, const Peaks *p, const char *op, int m, json_t *rates, DpsError *err)
{
    char key[64];
    KitCall c;
    DPS_TRY (typical_call (k, op, kit_mixed (m, 0), &typical_step, &c, err));
    const Timed t = {.m = m, .s = time_call (k, &c, err), .flops = typical_flops (op, &typical_step), .bytes = typical_bytes (&c)};
    kit_clear (k);
    snprintf (key, sizeof key, "%s.%s", op, dps_dtype_name (kit_mixed (m, 0)));
    note_rate (k, p, key, &t, rates, err);
    return DPS_OK;
}

static DpsStatus measure_all (Kit *k, const char *const *ops, DpsError *err)
{
    Peaks p;
    DPS_TRY (find_peaks (k, &p, err));
    json_t *rates = json_object ();
    DpsStatus st = DPS_OK;
    for (; *ops && st == DPS_OK; ops++)
        for (int m = 0; m < 2 && st == DPS_OK; m++)
            st = measure (k, &p, *ops, m, rates, err);
    json_object_set_new (k->ctx->notes, "rates", rates);
    return st;
}

static DpsStatus products (Kit *k, DpsError *err)
{
    return measure_all (k, (const char *const[]){"linear", "linear_dx", "linear_dw", "dora_norm", NULL}, err);
}

/* A product whose W is in a form that models come in: many rows of x, which arithmetic bounds, and one, which reading W does. */
static DpsStatus measure_form (Kit *k, const Peaks *p, const char *op, const DpsQuantForm *form, int64_t rows, int m, json_t *rates,
                               DpsError *err)
{
    char key[96];
    const TypicalSize z = {.N = rows, .D = typical_step.D, .O = typical_step.O};
    int back = !strcmp (op, "linear_dx");
    KitArray *x = kit_normals (k, kit_mixed (m, 0), rows, back ? z.O : z.D, 1),
             *y = kit_array (k, kit_mixed (m, 0), rows, back ? z.D : z.O);
    KitCall c = {.name = op, .in = {x}, .out = {y}};
    DPS_TRY (kit_quantised (k, form, z.O, z.D, kit_mixed (m, 0), &c.in[1], err));
    const Timed t = {.m = m, .s = time_call (k, &c, err), .flops = rows > 1 ? typical_flops (op, &z) : 0, .bytes = typical_bytes (&c)};
    kit_clear (k);
    snprintf (key, sizeof key, "%s.%s.%s%s", op, dps_dtype_name (kit_mixed (m, 0)), dps_quant_name (form->type),
              rows > 1 ? "" : ".one_row");
    note_rate (k, p, key, &t, rates, err);
    return DPS_OK;
}

static DpsStatus quantised (Kit *k, DpsError *err)
{
    static const DpsQuantForm forms[] = {
        {DPS_QUANT_Q8_0, 0, 0}, {DPS_QUANT_Q4_K, 0, 0}, {DPS_QUANT_Q6_K, 0, 0}, {DPS_QUANT_NF4, 64, 1}, {DPS_QUANT_INT8, 0, 0}};
    Peaks p;
    DPS_TRY (find_peaks (k, &p, err));
    json_t *rates = json_object ();
    DpsStatus st = DPS_OK;
    for (size_t f = 0; f < sizeof forms / sizeof *forms; f++)
        for (int m = 0; m < 2 && st == DPS_OK; m++) {
            st = measure_form (k, &p, "linear", &forms[f], typical_step.N, m, rates, err);
            if (st == DPS_OK)
                st = measure_form (k, &p, "linear", &forms[f], 1, m, rates, err);
            if (st == DPS_OK)
                st = measure_form (k, &p, "linear_dx", &forms[f], typical_step.N, m, rates, err);
        }
    json_object_set_new (k->ctx->notes, "rates", rates);
    return st;
}

static DpsStatus attention (Kit *k, DpsError *err)
{
    return measure_all (k, (const char *const[]){"attention", "attention_bwd", "rope", NULL}, err);
}

static DpsStatus head (Kit *k, DpsError *err)
{
    return measure_all (k, (const char *const[]){"token_logprobs", "token_logprobs_dw", "row_logprobs", "scale_rows", NULL}, err);
}

static DpsStatus rows (Kit *k, DpsError *err)
{
    static const char *const ops[] = {"rms_norm", "rms_norm_dx", "rms_norm_dw", "embed",   "embed_dw", "gather_rows", "scatter_rows",
                                      "put_rows", "bias_db",     "mul_cols_dv", "row_max", "one_hot",  NULL};
    return measure_all (k, ops, err);
}

static DpsStatus elementwise (Kit *k, DpsError *err)
{
    static const char *const ops[] = {"fill",     "copy",    "add",   "mul",        "div",      "exp",        "log",
                                      "sqrt",     "softcap", "geglu", "geglu_bwd",  "swiglu",   "swiglu_bwd", "mul_cols",
                                      "add_cols", "dropout", "sumsq", "adamw_step", "sgd_step", NULL};
    return measure_all (k, ops, err);
}

KIT_CASE (products)
KIT_CASE (quantised)
KIT_CASE (attention)
KIT_CASE (head)
KIT_CASE (rows)
KIT_CASE (elementwise)

enum { MEASURES = CHECK_PERF | CHECK_ALL_PLUGINS };
static const CheckCase cases[] = {
    KIT_LINE (products, 0, MEASURES, .timeout_s = 300),  KIT_LINE (quantised, 0, MEASURES, .timeout_s = 300),
    KIT_LINE (attention, 0, MEASURES, .timeout_s = 300), KIT_LINE (head, 0, MEASURES, .timeout_s = 600),
    KIT_LINE (rows, 0, MEASURES, .timeout_s = 300),      KIT_LINE (elementwise, 0, MEASURES, .timeout_s = 300),
};
const CheckSuite check_suite_backend_perf = {"backend.perf", DPS_BACKEND_ID, "each op against this machine's peak", cases,
                                             sizeof cases / sizeof *cases};
