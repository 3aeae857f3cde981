/* SPDX-License-Identifier: Apache-2.0 */
/*
 * suite_backend_bits.c: the determinism class a device declares, measured: rows that do not depend on the other rows of a call
 * (DPS_DETERMINISM_BATCH), and ops large enough to be shared that have the same bits for any number of threads (…_THREADS), which a process
 * reads once: so each number of threads is a process of its own.
 */
#include <stdio.h>
#include <string.h>

#include "base/sha256.h"
#include "check/attention_cases.h"
#include "check/typical.h"

static uint32_t class_of (const Kit *k) { return k->backend->determinism ? k->backend->determinism (k->device) : DPS_DETERMINISM_NONE; }

static DpsStatus promises (const Kit *k, uint32_t class, const char *what, DpsError *err)
{
    return class_of (k) >= class ? DPS_OK : check_skip (err, "it declares class %u, which does not promise %s", class_of (k), what);
}

enum { WIDE = 300, IN = 83, OUT = 277 };

/* Rows [first, first + M) of a call of their own, against those of the whole. */
static DpsStatus part_of (Kit *k, const char *name, const KitArray *x, KitArray *w, const KitArray *y, int64_t first, int64_t M,
                          DpsError *err)
{
    char what[96];
    KitArray *part = kit_array (k, y->view.dtype, M, y->shape[1]);
    DPS_TRY (kit_run_moved (k, &(KitCall){.name = name, .in = {kit_rows_of (k, x, first, M), w}, .out = {part}}, err));
    snprintf (what, sizeof what, "%s, rows %lld to %lld of %d in a call of their own", name, (long long)first, (long long)(first + M - 1),
              WIDE);
    return kit_same_bits (what, part, kit_rows_of (k, y, first, M), err);
}

/* M rows of a call of 300, wherever they begin, for every M up to 70, and each row alone: products of one weight, packed where that exists. */
static DpsStatus one_product (Kit *k, const char *name, int m, DpsError *err)
{
    int back = !strcmp (name, "linear_dx"), refused;
    int64_t K = back ? OUT : IN, O = back ? IN : OUT;
    KitArray *x = kit_normals (k, kit_mixed (m, 0), WIDE, K, 1), *w = kit_normals (k, kit_mixed (m, 1), OUT, IN, 1),
             *y = kit_array (k, kit_mixed (m, 2), WIDE, O), *p;
    DPS_TRY (kit_packed (k, w, back ? DPS_PACK_INPUT_GRAD : DPS_PACK_FORWARD, &p, &refused, err));
    DPS_TRY (kit_call (k, &(KitCall){.name = name, .in = {x, p}, .out = {y}}, err));
    for (int64_t M = 1; M <= 70; M++)
        DPS_TRY (part_of (k, name, x, p, y, (M * 37) % (WIDE - M), M, err));
    for (int64_t i = 0; i < WIDE; i += 3)
        DPS_TRY (part_of (k, name, x, p, y, i, 1, err));
    return DPS_OK;
}

static DpsStatus rows_of_products (Kit *k, DpsError *err)
{
    DPS_TRY (promises (k, DPS_DETERMINISM_BATCH, "that rows are independent", err));
    for (int m = 0; m < 16; m++) {
        DpsStatus st = one_product (k, m & 8 ? "linear_dx" : "linear", m, err);
        k->n_compared += st == DPS_OK;
        DPS_TRY (kit_refusable (k, st));
        kit_clear (k);
    }
    return DPS_OK;
}

static DpsStatus one_head (Kit *k, int m, int64_t V, DpsError *err)
{
    static const int64_t heights[] = {300, 70, 65, 64, 63, 49, 48, 47, 33, 32, 31, 17, 16, 15, 13, 12, 11, 7, 6, 5, 4, 3, 2, 1};
    int64_t S = V > 16384 ? 70 : WIDE, D = V > 16384 ? 17 : 40;
    int refused;
    KitArray *h = kit_normals (k, kit_mixed (m, 0), S, D, 1), *w = kit_normals (k, kit_mixed (m, 1), V, D, 0.5),
             *targets = kit_indices (k, S, V), *p, *g = NULL, *out[4];
    const DpsScalar softcap = {.f = m & 4 ? 5 : 0};
    DPS_TRY (kit_packed (k, w, DPS_PACK_FORWARD, &p, &refused, err));
    if (!refused)
        DPS_TRY (kit_packed (k, w, DPS_PACK_INPUT_GRAD, &g, &refused, err));
    for (int o = 0; o < 4; o++)
        out[o] = kit_array (k, o == 3 ? kit_mixed (m, 0) : F32, S, o == 3 ? D : -1);
    DPS_TRY (kit_call (
        k, &(KitCall){.name = "token_logprobs", .in = {h, p, targets, g}, .out = {out[0], out[1], out[2], out[3]}, .attrs = {softcap}},
        err));
    for (size_t i = 0; i<sizeof heights / sizeof *heights; i += V> 16384 ? 3 : 1) {
        int64_t M = heights[i] < S ? heights[i] : S, first = M == S ? 0 : (M * 37) % (S - M);
        KitCall c = {
            .name = "token_logprobs", .in = {kit_rows_of (k, h, first, M), p, kit_rows_of (k, targets, first, M), g}, .attrs = {softcap}};
        for (int o = 0; o < 4; o++)
            c.out[o] = kit_array (k, out[o]->view.dtype, M, o == 3 ? D : -1);
        DPS_TRY (kit_run_moved (k, &c, err));
        for (int o = 0; o < 4; o++)
            DPS_TRY (kit_same_bits ("token_logprobs, rows in a call of their own", c.out[o], kit_rows_of (k, out[o], first, M), err));
        c.out[3] = c.in[3] = NULL; /* the signals are the same without the adjoint's direction */
        DPS_TRY (kit_run_moved (k, &c, err));
        for (int o = 0; o < 3; o++)
            DPS_TRY (kit_same_bits ("token_logprobs without dir", c.out[o], kit_rows_of (k, out[o], first, M), err));
    }
    return DPS_OK;
}

static DpsStatus rows_of_the_head (Kit *k, DpsError *err)
{
    DPS_TRY (promises (k, DPS_DETERMINISM_BATCH, "that rows are independent", err));
    for (int m = 0; m < 16; m++) {
        DpsStatus st = one_head (k, m & 7, m & 8 ? 16389 : 509, err);
        k->n_compared += st == DPS_OK;
        DPS_TRY (kit_refusable (k, st));
        kit_clear (k);
    }
    return DPS_OK;
}

/* Each sequence alone, and its last tokens on a cache, have the bits they have beside others. */
static DpsStatus one_sequence (Kit *k, const AttentionCase *t, const AttentionRun *all, int64_t s, int32_t last, int m, DpsError *err)
{
    DpsSegment g = t->segments[s];
    AttentionCase alone = *t;
    alone.n = last, alone.m = g.kv_len, alone.n_segments = 1;
    alone.segments[0] = (DpsSegment){0, last, 0, g.kv_len, -1, g.q_len - last, 0, 0};
    AttentionRun r = attention_run (k, &alone, kit_mixed (m, 0), kit_mixed (m, 1));
    int64_t first = g.q_start + g.q_len - last;
    r.q = kit_rows_of (k, all->q, first, last), r.k = kit_rows_of (k, all->k, g.kv_start, g.kv_len),
    r.v = kit_rows_of (k, all->v, g.kv_start, g.kv_len);
    const KitCall c = attention_forward (&r);
    DPS_TRY (kit_run_moved (k, &c, err));
    DPS_TRY (kit_same_bits ("attention of one sequence alone", r.o, kit_rows_of (k, all->o, first, last), err));
    return kit_same_bits ("lse of one sequence alone", r.lse, kit_rows_of (k, all->lse, first, last), err);
}

static DpsStatus sequences_of_attention (Kit *k, DpsError *err)
{
    const AttentionCase *t = &attention_cases[ATTENTION_WINDOW];
    DPS_TRY (promises (k, DPS_DETERMINISM_BATCH, "that sequences are independent", err));
    for (int m = 0; m < 4; m++) {
        AttentionRun all = attention_run (k, t, kit_mixed (m, 0), kit_mixed (m, 1));
        const KitCall c = attention_forward (&all);
        DpsStatus st = kit_call (k, &c, err);
        for (int64_t s = 0; s < 2 && st == DPS_OK; s++)
            for (int32_t last = 1; last <= t->segments[s].q_len && st == DPS_OK; last += last < 4 ? 1 : 31)
                st = one_sequence (k, t, &all, s, last, m, err);
        k->n_compared += st == DPS_OK;
        DPS_TRY (kit_refusable (k, st));
        kit_clear (k);
    }
    return DPS_OK;
}

/* Gradients of parameters are summed root by root: a batch that is split at roots adds up to the same bits. */
static DpsStatus one_split (Kit *k, const char *op, int at, uint32_t dtype, DpsError *err)
{
    static const TypicalSize size = {75, 66, 35, 41, 2, 1, 6};
    static const int32_t roots[] = {0, 13, 13, 40, 75}, part[] = {0, 13, 40, 75};
    KitCall c;
    DPS_TRY (typical_call (k, op, dtype, &size, &c, err));
    KitArray *sum = kit_copy (k, c.out[0]);
    c.in[at] = kit_i32s (k, sizeof roots / sizeof *roots, roots);
    DPS_TRY (kit_call (k, &c, err));
    for (int p = 0; p < 3; p++) {
        KitCall piece = c;
        const int32_t n = part[p + 1] - part[p], whole[] = {0, n};
        for (int i = 0; i < KIT_MAX_IN; i++) /* all that has a row for each of the batch's */
            if (c.in[i] && i != at && c.in[i]->shape[0] == size.N)
                piece.in[i] = kit_rows_of (k, c.in[i], part[p], n);
        piece.in[at] = kit_i32s (k, 2, whole);
        piece.out[0] = sum;
        DPS_TRY (kit_run_moved (k, &piece, err));
    }
    return kit_same_bits (op, sum, c.out[0], err) == DPS_OK
               ? DPS_OK
               : dps_error_prefix (err, "a batch split at its roots, one call after the other, against the whole");
}

static DpsStatus roots (Kit *k, DpsError *err)
{
    static const struct {
        const char *op;
        int at;
    } ops[] = {{"mul_cols_dv", 2}, {"embed_dw", 2}, {"rms_norm_dw", 3}, {"linear_dw", 2}, {"bias_db", 1}, {"token_logprobs_dw", 4}};
    DPS_TRY (promises (k, DPS_DETERMINISM_BATCH, "that a batch may be split", err));
    for (size_t i = 0; i < sizeof ops / sizeof *ops; i++)
        for (int m = 0; m < 2; m++) {
            DpsStatus st = one_split (k, ops[i].op, ops[i].at, kit_mixed (m, 0), err);
            k->n_compared += st == DPS_OK;
            DPS_TRY (kit_refusable (k, st));
            kit_clear (k);
        }
    return DPS_OK;
}

/* The head goes by in chunks of the vocabulary: more than one of them. */
static const TypicalSize long_head = {333, 64, 1, 16500, 1, 1, 2};
/* Sums long enough to be shared among threads themselves. */
static const TypicalSize long_sum = {40, 9001, 17, 1, 1, 1, 2};

static const char *const all_ops[] = {
#define OP(name, n_in, n_out, shape, adjoint) #name,
#include "graph/ops.def"
#undef OP
};

/* The digest of a typical call's outputs, into the notes. A refused one has none. */
static DpsStatus note (Kit *k, const char *op, uint32_t dtype, const TypicalSize *z, DpsError *err)
{
    char key[96];
    KitCall c;
    DpsDigest d;
    DPS_TRY (typical_call (k, op, dtype, &typical_small, &c, err)); /* what is refused needs no large operands */
    DpsStatus st = kit_run (k, &c, DPS_RUN_DRY, err);
    snprintf (k->refusal, sizeof k->refusal, "%.390s", err->msg);
    if (st != DPS_OK)
        return kit_refusable (k, KIT_REFUSED);
    kit_clear (k);
    DPS_TRY (typical_call (k, op, dtype, z, &c, err));
    st = kit_call (k, &c, err);
    if (st != DPS_OK)
        return kit_refusable (k, st);
    DpsHasher *h = dps_hasher_new ();
    if (!h)
        return dps_fail (err, DPS_ERR_NOMEM, "out of memory");
    for (int i = 0; i < KIT_MAX_OUT; i++)
        if (c.out[i])
            dps_hasher_add (h, kit_data (c.out[i]), c.out[i]->span);
    DPS_TRY (dps_hasher_final (h, &d, err));
    snprintf (key, sizeof key, "%s (%s, %lld rows of %lld)", op, dps_dtype_name (dtype), (long long)z->N, (long long)z->D);
    json_object_set_new (json_object_get (k->ctx->notes, "hashes"), key, json_string (d.hex));
    k->n_compared++;
    return DPS_OK;
}

static DpsStatus hashes (Kit *k, DpsError *err)
{
    json_object_set_new (k->ctx->notes, "hashes", json_object ());
    for (size_t i = 0; i < sizeof all_ops / sizeof *all_ops; i++)
        for (int m = 0; m < 2; m++) {
            DPS_TRY (note (k, all_ops[i], kit_mixed (m, 0), &typical_large, err));
            kit_clear (k);
            if (!strcmp (all_ops[i], "linear"))
                DPS_TRY (note (k, all_ops[i], kit_mixed (m, 0), &long_sum, err));
            kit_clear (k);
            if (strncmp (all_ops[i], "token_logprobs", 14) != 0)
                continue;
            DPS_TRY (note (k, all_ops[i], kit_mixed (m, 0), &long_head, err));
            kit_clear (k);
        }
    return DPS_OK;
}

/* The first op whose digest is another one. */
static DpsStatus same_hashes (const json_t *one, const json_t *other, const char *threads, DpsError *err)
{
    const char *key;
    json_t *want;
    json_object_foreach ((json_t *)(uintptr_t)json_object_get (one, "hashes"), key, want)
        if (!json_equal (want, json_object_get (json_object_get (other, "hashes"), key)))
            return dps_fail (err, DPS_ERR_INVALID, "%s has other bits with %s threads than with 1", key, threads);
    return DPS_OK;
}

/* In the variables that OpenMP and PoCL read once, at start. */
static DpsStatus with_threads (CheckContext *ctx, const char *threads, json_t **out, DpsError *err)
{
    char omp[40], pocl[48], old[48];
    snprintf (omp, sizeof omp, "OMP_NUM_THREADS=%s", threads);
    snprintf (pocl, sizeof pocl, "POCL_CPU_MAX_CU_COUNT=%s", threads);
    snprintf (old, sizeof old, "POCL_MAX_PTHREAD_COUNT=%s", threads);
    return check_again (ctx, "hashes", (const char *const[]){omp, pocl, old, "OMP_WAIT_POLICY=passive", NULL}, out, err);
}

static DpsStatus threads (Kit *k, DpsError *err)
{
    static const char *const counts[] = {"2", "5"};
    json_t *one = NULL;
    DPS_TRY (promises (k, DPS_DETERMINISM_THREADS, "the same bits for any number of threads", err));
    DpsStatus st = with_threads (k->ctx, "1", &one, err);
    for (int i = 0; i < 2 && st == DPS_OK; i++) {
        json_t *other = NULL;
        st = with_threads (k->ctx, counts[i], &other, err);
        if (st == DPS_OK)
            st = same_hashes (one, other, counts[i], err);
        json_decref (other);
    }
    if (st == DPS_OK)
        check_note_number (k->ctx, "ops_compared", (double)json_object_size (json_object_get (one, "hashes")));
    json_decref (one);
    k->n_compared += st == DPS_OK;
    return st;
}

KIT_CASE (rows_of_products)
KIT_CASE (rows_of_the_head)
KIT_CASE (sequences_of_attention)
KIT_CASE (roots)
KIT_CASE (hashes)
KIT_CASE (threads)

static const CheckCase cases[] = {
    KIT_LINE (rows_of_products, 0, 0),       KIT_LINE (rows_of_the_head, 3, CHECK_LONG),
    KIT_LINE (sequences_of_attention, 3, 0), KIT_LINE (roots, 3, 0),
    KIT_LINE (hashes, 0, CHECK_HIDDEN),      KIT_LINE (threads, 0, CHECK_LONG, .timeout_s = 300),
};
const CheckSuite check_suite_backend_bits = {"backend.bits", DPS_BACKEND_ID, "the determinism class that is declared", cases,
                                             sizeof cases / sizeof *cases};
