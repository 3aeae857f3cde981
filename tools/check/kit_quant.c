/* SPDX-License-Identifier: Apache-2.0 */
/* kit_quant.c: weights in block formats: codes and parts in one room, so that guard bytes stand around all of them. */
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "base/quant_draw.h"
#include "check/kit.h"
#include "plugin/host.h"

enum { EXPONENT = 8 /* scales of 2⁻⁷ and more: numbers of the order of 1 */ };

const DpsQuantForm kit_forms[KIT_FORMS] = {
    {DPS_QUANT_Q4_0, 0, 0},   {DPS_QUANT_Q4_1, 0, 0},      {DPS_QUANT_Q5_0, 0, 0},       {DPS_QUANT_Q5_1, 0, 0}, {DPS_QUANT_Q8_0, 0, 0},
    {DPS_QUANT_Q2_K, 0, 0},   {DPS_QUANT_Q3_K, 0, 0},      {DPS_QUANT_Q4_K, 0, 0},       {DPS_QUANT_Q5_K, 0, 0}, {DPS_QUANT_Q6_K, 0, 0},
    {DPS_QUANT_IQ4_NL, 0, 0}, {DPS_QUANT_NF4, 64, 0},      {DPS_QUANT_NF4, 64, 1},       {DPS_QUANT_FP4, 64, 0}, {DPS_QUANT_FP4, 64, 1},
    {DPS_QUANT_NF4, 128, 0},  {DPS_QUANT_DYNAMIC8, 64, 0}, {DPS_QUANT_DYNAMIC8, 256, 0}, {DPS_QUANT_INT8, 0, 0},
};

static uint64_t aligned (uint64_t bytes) { return (bytes + 63) / 64 * 64; }

/* The parts behind the codes. A device with memory of its own sees them by buffer and offset. */
static void place_parts (KitArray *a, const DpsQuantNames *names, const DpsQuantForm *f, uint64_t codes, const uint64_t bytes[DPS_QPARTS],
                         void *out[DPS_QPARTS])
{
    uint64_t at = aligned (codes);
    uint32_t n = 0;
    for (uint32_t p = 0; p < DPS_QPARTS; p++) {
        out[p] = bytes[p] ? kit_data (a) + at : NULL;
        if (!bytes[p])
            continue;
        a->parts[p] = (DpsPart){.size = sizeof (DpsPart),
                                .role = names->role[p],
                                .dtype = dps_quant_part_dtype (f, (DpsQuantPart)p),
                                .buffer = a->buffer,
                                .offset = a->first + at,
                                .bytes = bytes[p],
                                .host = a->mirrored && p != DPS_QPART_BLOCK ? NULL : out[p]};
        a->list[n++] = &a->parts[p];
        at += aligned (bytes[p]);
    }
    a->view.parts = a->list;
    a->view.n_parts = n;
}

static DpsStatus decode (Kit *k, KitArray *a, const DpsQuantNames *names, uint32_t dtype, DpsError *err)
{
    DpsQuantised q;
    DpsView host = a->view;
    DpsPart parts[DPS_QPARTS];
    const DpsPart *list[DPS_QPARTS];
    host.host = kit_data (a);
    host.parts = list;
    for (uint32_t p = 0; p < host.n_parts; p++) {
        parts[p] = *a->list[p];
        parts[p].host = a->room + parts[p].offset;
        list[p] = &parts[p];
    }
    KitArray *rows = kit_array (k, dtype, a->shape[0], a->shape[1]);
    float *values = dps_malloc ((size_t)(a->shape[0] * a->shape[1]) + 1, sizeof *values);
    DpsStatus st = rows && values ? DPS_OK : dps_fail (err, DPS_ERR_NOMEM, "no memory for a weight's numbers");
    if (st == DPS_OK)
        st = dps_quant_from_view (names, &host, 1, &q, err);
    if (st == DPS_OK)
        dps_quant_decode (&q, 0, rows->n, values);
    for (int64_t i = 0; st == DPS_OK && i < rows->n; i++)
        kit_put (rows, i, (double)values[i]);
    dps_free (values);
    a->plain = rows;
    return st;
}

DpsStatus kit_quantised (Kit *k, const DpsQuantForm *form, int64_t O, int64_t K, uint32_t dtype, KitArray **out, DpsError *err)
{
    uint64_t codes, bytes[DPS_QPARTS], all;
    void *parts[DPS_QPARTS];
    DpsQuantNames names;
    *out = NULL;
    if (dps_quant_bytes (form, O, K, &codes, bytes, NULL) != DPS_OK)
        return DPS_OK;
    if (dps_quant_names (dps__intern, &names))
        return dps_fail (err, DPS_ERR_LIMIT, "no number is left for the dtypes of quantised weights");
    all = aligned (codes);
    for (uint32_t p = 0; p < DPS_QPARTS; p++)
        all += aligned (bytes[p]);
    KitArray *a = kit_bytes (k, all, 64);
    if (!a)
        return dps_fail (err, DPS_ERR_NOMEM, "no memory for a quantised weight");
    a->view.dtype = names.dtype[form->type];
    a->view.rank = 2;
    a->shape[0] = O;
    a->shape[1] = K;
    a->n = 0; /* its elements are nobody's to read */
    place_parts (a, &names, form, codes, bytes, parts);
    DPS_TRY (dps_quant_draw (form, O, K, k->seed + k->draws, EXPONENT, kit_data (a), parts, err));
    DPS_TRY (decode (k, a, &names, dtype, err));
    *out = a;
    return DPS_OK;
}
