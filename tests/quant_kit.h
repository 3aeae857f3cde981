/* SPDX-License-Identifier: Apache-2.0 */
/* quant_kit.h: quantised matrices for tests, as views with parts, and their numbers. A static `err` must be in scope. */
#ifndef DPS_TESTS_QUANT_KIT_H
#define DPS_TESTS_QUANT_KIT_H

#include <stdlib.h>

#include "base/quant_draw.h"
#include "base/rng.h"
#include "check.h"

typedef struct Quantised {
    DpsView view;
    DpsQuantForm form;
    int64_t shape[2];
    DpsPart parts[DPS_QPARTS];
    const DpsPart *list[DPS_QPARTS];
    void *bytes[DPS_QPARTS]; /* by part */
    float *values;           /* as decoded */
} Quantised;

static inline int kit_is_gguf (DpsQuantType t) { return t < DPS_QUANT_NF4; }

static int kit_exponent = 8; /* biased, of the smallest scales: 2⁻⁷; the largest are 16 times as large */

/* Normal numbers, a block of zeros and an outlier among them, in codes. */
static inline void kit_fill_codes (Quantised *q, uint64_t seed)
{
    int64_t rows = q->shape[0], cols = q->shape[1], n = rows * cols, block = q->form.block ? q->form.block : cols;
    float *x = calloc ((size_t)(n ? n : 1), sizeof *x), book[256];
    for (int64_t i = 0; i < n; i++)
        x[i] = i / block % 7 == 3 ? 0 : (float)(dps_rng_normal (seed, 3, (uint64_t)i) * (i % 97 == 5 ? 20 : 0.1));
    if (q->form.type == DPS_QUANT_INT8)
        for (int64_t r = 0; r < rows; r++)
            CHECK_OK (dps_quant_encode_row (x + r * cols, cols, (int8_t *)q->view.host + r * cols, (float *)q->bytes[DPS_QPART_SCALES] + r,
                                            &err));
    else {
        size_t levels = dps_quant_code_book (q->form.type, book);
        int64_t blocks = (n + block - 1) / block;
        float *absmax = calloc ((size_t)(blocks ? blocks : 1), sizeof *absmax);
        memcpy (q->bytes[DPS_QPART_CODE_BOOK], book, levels * sizeof *book);
        memcpy (q->bytes[DPS_QPART_BLOCK], &q->form.block, 4);
        CHECK_OK (dps_quant_encode (q->form.type, block, x, n, q->view.host, absmax, &err));
        if (q->form.nested) {
            dps_quant_code_book (DPS_QUANT_DYNAMIC8, q->bytes[DPS_QPART_NESTED_CODE_BOOK]);
            CHECK_OK (dps_quant_encode_absmax (absmax, blocks, q->bytes[DPS_QPART_ABSMAX], q->bytes[DPS_QPART_NESTED_ABSMAX],
                                               q->bytes[DPS_QPART_NESTED_OFFSET], &err));
        } else
            memcpy (q->bytes[DPS_QPART_ABSMAX], absmax, (size_t)blocks * sizeof *absmax);
        free (absmax);
    }
    free (x);
}

/* The view with memory for everything, nothing in it yet. Free with quantised_free. */
static inline Quantised *quantised_room (const DpsQuantNames *names, DpsQuantForm form, int64_t rows, int64_t cols, uint64_t *out_bytes)
{
    Quantised *q = calloc (1, sizeof *q);
    uint64_t parts[DPS_QPARTS];
    CU_ASSERT_PTR_NOT_NULL_FATAL (q);
    q->form = form;
    q->shape[0] = rows;
    q->shape[1] = cols;
    CHECK_OK (dps_quant_bytes (&form, rows, cols, out_bytes, parts, &err));
    q->view = (DpsView){
        .size = sizeof q->view, .dtype = names->dtype[form.type], .rank = 2, .shape = q->shape, .host = calloc (*out_bytes + 1, 1)};
    for (uint32_t p = 0; p < DPS_QPARTS; p++) {
        if (!parts[p])
            continue;
        uint32_t dtype = dps_quant_part_dtype (&form, (DpsQuantPart)p);
        q->bytes[p] = calloc (parts[p], 1);
        q->parts[p] = (DpsPart){.size = sizeof (DpsPart), .role = names->role[p], .dtype = dtype, .bytes = parts[p], .host = q->bytes[p]};
        q->list[q->view.n_parts++] = &q->parts[p];
    }
    q->view.parts = q->list;
    return q;
}

static inline Quantised *quantised (const DpsQuantNames *names, DpsQuantForm form, int64_t rows, int64_t cols, uint64_t seed)
{
    uint64_t bytes;
    DpsQuantised read;
    Quantised *q = quantised_room (names, form, rows, cols, &bytes);
    if (kit_is_gguf (form.type))
        CHECK_OK (dps_quant_draw (&form, rows, cols, seed, kit_exponent, q->view.host, q->bytes, &err));
    else
        kit_fill_codes (q, seed);
    q->values = calloc ((size_t)(rows * cols) + 1, sizeof *q->values);
    CHECK_OK (dps_quant_from_view (names, &q->view, 1, &read, &err));
    dps_quant_decode (&read, 0, rows * cols, q->values);
    return q;
}

static inline void quantised_free (Quantised *q)
{
    for (uint32_t p = 0; p < DPS_QPARTS; p++)
        free (q->bytes[p]);
    free (q->view.host);
    free (q->values);
    free (q);
}

/* Every form there is: GGUF's types, and the code types plain and nested. */
static const DpsQuantForm kit_forms[] = {
    {DPS_QUANT_Q4_0, 0, 0},   {DPS_QUANT_Q4_1, 0, 0},      {DPS_QUANT_Q5_0, 0, 0},       {DPS_QUANT_Q5_1, 0, 0}, {DPS_QUANT_Q8_0, 0, 0},
    {DPS_QUANT_Q2_K, 0, 0},   {DPS_QUANT_Q3_K, 0, 0},      {DPS_QUANT_Q4_K, 0, 0},       {DPS_QUANT_Q5_K, 0, 0}, {DPS_QUANT_Q6_K, 0, 0},
    {DPS_QUANT_IQ4_NL, 0, 0}, {DPS_QUANT_NF4, 64, 0},      {DPS_QUANT_NF4, 64, 1},       {DPS_QUANT_FP4, 64, 0}, {DPS_QUANT_FP4, 64, 1},
    {DPS_QUANT_NF4, 128, 0},  {DPS_QUANT_DYNAMIC8, 64, 0}, {DPS_QUANT_DYNAMIC8, 256, 0}, {DPS_QUANT_INT8, 0, 0},
};
enum { KIT_FORMS = sizeof kit_forms / sizeof *kit_forms };

#endif
