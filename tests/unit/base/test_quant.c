/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Quantised matrices: the numbers of every entry of parity's bitsandbytes.safetensors, from any element to any; our own codes at its rule (a
 * level nearest to x/absmax); what a view with missing or misshapen parts is told.
 */
#include "base/quant.h"

#include "safetensors_mini.h"

static DpsError err = DPS_ERROR_INIT;
#include "quant_parity.h"

static DpsQuantNames names;

static uint32_t intern (DpsStr name)
{
    static const char *known[64];
    for (uint32_t i = 0; i < 64; i++) {
        if (!known[i])
            known[i] = name.ptr;
        if (dps_str_is (name, known[i]))
            return 100 + i;
    }
    return 0;
}

static void open_names (void) { CU_ASSERT_EQUAL_FATAL (dps_quant_names (intern, &names), 0); }

static void test_parity_values (void)
{
    StFile f;
    open_names ();
    st_open (&f, parity_path ("quant/bitsandbytes.safetensors"));
    for (int s = 0; s < 2; s++)
        for (int i = 0; i < N_ENTRIES; i++) {
            DpsQuantised q;
            Quantised *x = load_entry (&names, &f, sizes[s], &entries[i]);
            int64_t n = x->shape[0] * x->shape[1], block = x->form.block ? x->form.block : x->shape[1];
            float *room = calloc ((size_t)n, sizeof *room), *got = calloc ((size_t)n, sizeof *got),
                  *part = calloc ((size_t)n, sizeof *part);
            const float *want = want_values (&f, sizes[s], &entries[i], room, n);
            CHECK_OK (dps_quant_from_view (&names, &x->view, 1, &q, &err));
            dps_quant_decode (&q, 0, n, got);
            for (int64_t first = 0; first < n; first += block)
                check_block (entries[i].base, got + first, want + first, n - first < block ? n - first : block, 0);
            for (int64_t first = 0; first < n; first += 1 + first / 5)
                for (int64_t len = 0; len <= n - first; len = 2 * len + 1) {
                    dps_quant_decode (&q, first, len, part);
                    CU_ASSERT_EQUAL (memcmp (part, got + first, (size_t)len * sizeof *part), 0);
                }
            free (room);
            free (got);
            free (part);
            quantised_free (x);
        }
    st_close (&f);
}

/* |value − x| ≤ |its value − x| + 3e-5·absmax, for its every kind; a code of int8 may be off by one where x·127/absmax is half-way. */
static void test_our_codes_are_nearest (void)
{
    StFile f;
    open_names ();
    st_open (&f, parity_path ("quant/bitsandbytes.safetensors"));
    for (int s = 0; s < 2; s++)
        for (int i = 0; i < N_ENTRIES; i++) {
            const Entry *e = &entries[i];
            if (e->form.nested || e->form.type == DPS_QUANT_INT8)
                continue;
            char name[64];
            snprintf (name, sizeof name, "%s.input", sizes[s]);
            StTensor input = st_get (&f, name);
            Quantised *theirs = load_entry (&names, &f, sizes[s], e);
            int64_t n = input.n, blocks = (n + e->form.block - 1) / e->form.block;
            float *x = malloc (input.bytes), *absmax = calloc ((size_t)blocks, sizeof *absmax), *its = malloc (input.bytes),
                  *ours = malloc (input.bytes), book[256];
            unsigned char *codes = calloc ((size_t)n, 1);
            DpsQuantised q;
            memcpy (x, input.data, input.bytes);
            CHECK_OK (dps_quant_from_view (&names, &theirs->view, 1, &q, &err));
            dps_quant_decode (&q, 0, n, its);
            CHECK_OK (dps_quant_encode (e->form.type, e->form.block, x, n, codes, absmax, &err));
            dps_quant_code_book (e->form.type, book);
            q.codes = codes;
            q.absmax = absmax;
            q.code_book = book;
            dps_quant_decode (&q, 0, n, ours);
            for (int64_t k = 0; k < n; k++) {
                double mine = fabs ((double)ours[k] - (double)x[k]), other = fabs ((double)its[k] - (double)x[k]);
                CU_ASSERT (mine <= other + 3e-5 * (double)absmax[k / e->form.block]);
            }
            free (x);
            free (absmax);
            free (its);
            free (ours);
            free (codes);
            quantised_free (theirs);
        }
    st_close (&f);
}

static void test_int8_rows (void)
{
    StFile f;
    st_open (&f, parity_path ("quant/bitsandbytes.safetensors"));
    for (int s = 0; s < 2; s++) {
        StTensor input = member (&f, sizes[s], "int8_rowwise", "input"), want = member (&f, sizes[s], "int8_rowwise", "codes"),
                 absmax = member (&f, sizes[s], "int8_rowwise", "absmax");
        const DpsBlockType *f16 = dps_block_type_named (dps_str ("F16"));
        float *x = calloc ((size_t)input.n, sizeof *x), scale, its;
        int8_t *codes = calloc ((size_t)input.n, 1);
        f16->decode (input.data, (uint64_t)input.n, x);
        for (int64_t r = 0; r < input.shape[0]; r++) {
            CHECK_OK (dps_quant_encode_row (x + r * input.shape[1], input.shape[1], codes, &scale, &err));
            memcpy (&its, (const char *)absmax.data + 4 * r, 4);
            CHECK_NEAR ((double)scale, (double)its, 0);
            for (int64_t k = 0; k < input.shape[1]; k++) {
                double exact = its > 0 ? (double)x[r * input.shape[1] + k] * 127 / (double)its : 0;
                int difference = abs (codes[k] - ((const int8_t *)want.data)[r * input.shape[1] + k]);
                CU_ASSERT (difference == 0 || (difference == 1 && fabs (fabs (exact - floor (exact)) - 0.5) < 1e-4));
            }
        }
        free (x);
        free (codes);
    }
    st_close (&f);
}

/* The absmax of blocks in 8 bits: within half a step of dynamic8's coarsest part. */
static void test_nested_absmax (void)
{
    enum { N = 700 };
    float absmax[N], kept[N], nested[3], offset, book[256];
    unsigned char codes[N];
    for (int i = 0; i < N; i++)
        kept[i] = absmax[i] = (float)fabs (dps_rng_normal (5, 1, (uint64_t)i)) + 0.01f;
    CHECK_OK (dps_quant_encode_absmax (absmax, N, codes, nested, &offset, &err));
    CU_ASSERT_EQUAL (dps_quant_code_book (DPS_QUANT_DYNAMIC8, book), 256);
    for (int i = 0; i < N; i++)
        CHECK_NEAR ((double)(book[codes[i]] * nested[i / 256] + offset), (double)kept[i], 0.0071 * (double)nested[i / 256]);
}

static void test_not_finite (void)
{
    const float bad[] = {NAN, INFINITY, -INFINITY};
    for (int i = 0; i < 3; i++) {
        float x[64] = {[7] = bad[i]}, absmax;
        unsigned char codes[64];
        int8_t row[64];
        CHECK_FAILS (dps_quant_encode (DPS_QUANT_NF4, 64, x, 64, codes, &absmax, &err), DPS_ERR_NONFINITE, "not finite");
        CHECK_FAILS (dps_quant_encode_row (x, 64, row, &absmax, &err), DPS_ERR_NONFINITE, "not finite");
    }
}

static void test_views_are_checked (void)
{
    DpsQuantised read;
    open_names ();
    Quantised *q = quantised (&names, (DpsQuantForm){DPS_QUANT_NF4, 64, 1}, 7, 13, 1);
    DpsView v = q->view;
    const DpsPart *parts[DPS_QPARTS];
    for (uint32_t drop = 0; drop < v.n_parts; drop++) { /* each part is missed */
        uint32_t n = 0;
        for (uint32_t i = 0; i < v.n_parts; i++)
            if (i != drop)
                parts[n++] = q->list[i];
        v = q->view;
        v.parts = parts;
        v.n_parts = n;
        DpsStatus st = dps_quant_from_view (&names, &v, 1, &read, &err);
        CU_ASSERT (st == DPS_ERR_INVALID || st == DPS_ERR_DTYPE);
        v.n_parts = q->view.n_parts;
    }
    q->parts[DPS_QPART_ABSMAX].bytes++;
    CHECK_FAILS (dps_quant_from_view (&names, &q->view, 1, &read, &err), DPS_ERR_INVALID, "part absmax has 3 bytes, expected 2");
    q->parts[DPS_QPART_ABSMAX].bytes--;
    q->parts[DPS_QPART_CODE_BOOK].bytes = 60;
    CHECK_FAILS (dps_quant_from_view (&names, &q->view, 1, &read, &err), DPS_ERR_INVALID, "part code_book has 60 bytes, expected 64");
    q->parts[DPS_QPART_CODE_BOOK].bytes = 64;
    memset (q->bytes[DPS_QPART_BLOCK], 0, 4);
    CHECK_FAILS (dps_quant_from_view (&names, &q->view, 1, &read, &err), DPS_ERR_SHAPE, "blocks of 0 elements");
    q->parts[DPS_QPART_ABSMAX].host = NULL;
    CHECK_FAILS (dps_quant_from_view (&names, &q->view, 1, &read, &err), DPS_ERR_INVALID, "absmax has no host memory");
    quantised_free (q);
    q = quantised (&names, (DpsQuantForm){DPS_QUANT_Q4_K, 0, 0}, 2, 256, 1);
    q->shape[1] = 255;
    CHECK_FAILS (dps_quant_from_view (&names, &q->view, 1, &read, &err), DPS_ERR_SHAPE, "no whole number of Q4_K blocks of 256");
    q->view.dtype = DPS_DTYPE_F32;
    CHECK_FAILS (dps_quant_from_view (&names, &q->view, 1, &read, &err), DPS_ERR_DTYPE, "no quantised one");
    quantised_free (q);
}

CHECK_MAIN ("quant", T (test_parity_values), T (test_our_codes_are_nearest), T (test_int8_rows), T (test_nested_absmax),
            T (test_not_finite), T (test_views_are_checked))
