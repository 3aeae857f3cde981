/* SPDX-License-Identifier: Apache-2.0 */
/* quant_parity.h: the quantised matrices of parity's bitsandbytes.safetensors as views with parts, and their numbers. A static `err` must be in scope. */
#ifndef DPS_TESTS_QUANT_PARITY_H
#define DPS_TESTS_QUANT_PARITY_H

#include "quant_kit.h"
#include "safetensors_mini.h"

/* One entry of the file by its names. */
typedef struct Entry {
    const char *base, *codes, *part_names[DPS_QPARTS];
    DpsQuantForm form;
} Entry;

static const Entry entries[] = {
#define PLAIN [DPS_QPART_ABSMAX] = "absmax", [DPS_QPART_CODE_BOOK] = "quant_map"
#define NESTED                                                                                                                             \
    PLAIN, [DPS_QPART_NESTED_ABSMAX] = "nested_absmax", [DPS_QPART_NESTED_CODE_BOOK] = "nested_quant_map",                                 \
           [DPS_QPART_NESTED_OFFSET] = "nested_offset"
    {"nf4", "packed", {PLAIN}, {DPS_QUANT_NF4, 64, 0}},
    {"fp4", "packed", {PLAIN}, {DPS_QUANT_FP4, 64, 0}},
    {"nf4_double", "packed", {NESTED}, {DPS_QUANT_NF4, 64, 1}},
    {"fp4_double", "packed", {NESTED}, {DPS_QUANT_FP4, 64, 1}},
    {"int8_dynamic64", "codes", {PLAIN}, {DPS_QUANT_DYNAMIC8, 64, 0}},
    {"int8_dynamic256", "codes", {PLAIN}, {DPS_QUANT_DYNAMIC8, 256, 0}},
    {"int8_rowwise", "codes", {[DPS_QPART_SCALES] = "absmax"}, {DPS_QUANT_INT8, 0, 0}},
};
enum { N_ENTRIES = sizeof entries / sizeof *entries };
static const char *const sizes[] = {"big", "odd"};

static inline StTensor member (const StFile *f, const char *size, const char *base, const char *name)
{
    char full[96];
    snprintf (full, sizeof full, "%s.%s.%s", size, base, name);
    return st_get (f, full);
}

static inline void copy_into (void *to, uint64_t bytes, StTensor t)
{
    CU_ASSERT_EQUAL_FATAL (bytes, t.bytes);
    memcpy (to, t.data, t.bytes);
}

/* The file's codes and parts in a view. */
static inline Quantised *load_entry (const DpsQuantNames *names, const StFile *f, const char *size, const Entry *e)
{
    char input[64];
    uint64_t bytes;
    snprintf (input, sizeof input, "%s.input", size);
    StTensor x = st_get (f, input);
    Quantised *q = quantised_room (names, e->form, x.shape[0], x.shape[1], &bytes);
    copy_into (q->view.host, bytes, member (f, size, e->base, e->codes));
    for (uint32_t p = 0; p < DPS_QPARTS; p++)
        if (e->part_names[p])
            copy_into (q->bytes[p], q->parts[p].bytes, member (f, size, e->base, e->part_names[p]));
    if (q->bytes[DPS_QPART_BLOCK])
        memcpy (q->bytes[DPS_QPART_BLOCK], &e->form.block, 4);
    return q;
}

/* 1e-6 of the block's largest value. */
static inline void check_block (const char *what, const float *got, const float *want, int64_t n, double extra)
{
    double largest = 0;
    for (int64_t i = 0; i < n; i++)
        largest = fabs ((double)want[i]) > largest ? fabs ((double)want[i]) : largest;
    for (int64_t i = 0; i < n; i++)
        if (!(fabs ((double)got[i] - (double)want[i]) <= 1e-6 * largest + extra)) {
            printf ("\n    %s: element %lld is %.9g, expected %.9g\n", what, (long long)i, (double)got[i], (double)want[i]);
            CU_FAIL ("value");
            return;
        }
}

static inline const float *want_values (const StFile *f, const char *size, const Entry *e, float *room, int64_t n)
{
    if (e->form.type != DPS_QUANT_INT8) {
        memcpy (room, member (f, size, e->base, "dequantised").data, (size_t)n * sizeof *room);
        return room;
    }
    StTensor codes = member (f, size, e->base, "codes"), absmax = member (f, size, e->base, "absmax");
    for (int64_t i = 0; i < n; i++) {
        float scale;
        memcpy (&scale, (const char *)absmax.data + i / codes.shape[1] * 4, 4);
        room[i] = (float)((double)((const int8_t *)codes.data)[i] * (double)scale / 127);
    }
    return room;
}

#endif
