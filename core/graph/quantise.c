/* SPDX-License-Identifier: Apache-2.0 */
#include "graph/quantise.h"

#include <string.h>

static int is_four_bits (DpsQuantType t) { return t == DPS_QUANT_NF4 || t == DPS_QUANT_FP4; }
static int is_coded (DpsQuantType t) { return is_four_bits (t) || t == DPS_QUANT_INT8 || t == DPS_QUANT_DYNAMIC8; }

static DpsStatus choose (DpsQuantForm stored, const DpsQuantise *how, DpsQuantForm *out, const char *name, DpsError *err)
{
    int blocks = how->keep && !strcmp (how->keep, "gguf");
    *out = (DpsQuantForm){0};
    if (how->keep && !strcmp (how->keep, "none"))
        return DPS_OK;
    if (is_coded (stored.type) && how->make && is_four_bits (stored.type) != is_four_bits (how->make))
        return dps_fail (err, DPS_ERR_USAGE, "'%s' is stored in %s, and %s is asked for. Hint: leave load_in_4bit and load_in_8bit out",
                         name, dps_quant_name (stored.type), dps_quant_name (how->make));
    if (is_coded (stored.type))
        *out = stored;
    else if (how->make)
        *out = (DpsQuantForm){how->make, is_four_bits (how->make) ? DPS_QUANT_BLOCK : 0, is_four_bits (how->make) && how->nested};
    else if (blocks)
        *out = stored;
    return DPS_OK;
}

DpsStatus dps_quantise_parse (const char *name, DpsQuantise *out, DpsError *err)
{
    static const struct {
        const char *name;
        DpsQuantise how;
    } known[] = {{"auto", {"auto", DPS_QUANT_NONE, 0}}, {"none", {"none", DPS_QUANT_NONE, 0}}, {"gguf", {"gguf", DPS_QUANT_NONE, 0}},
                 {"nf4", {"auto", DPS_QUANT_NF4, 0}},   {"fp4", {"auto", DPS_QUANT_FP4, 0}},   {"int8", {"auto", DPS_QUANT_INT8, 0}}};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (!strcmp (known[i].name, name ? name : "auto")) {
            *out = known[i].how;
            return DPS_OK;
        }
    return dps_fail (err, DPS_ERR_USAGE, "quantization is '%.40s', expected auto, none, gguf, nf4, fp4 or int8", name);
}

DpsStatus dps_model_quantise (DpsModel *m, const DpsSource *src, const DpsQuantise *how, DpsError *err)
{
    static const DpsQuantise by_storage = {0};
    how = how ? how : &by_storage;
    if (how->keep && !strcmp (how->keep, "gguf") && !dps_source_is_gguf (src))
        return dps_fail (err, DPS_ERR_USAGE,
                         "%s: quantization: gguf keeps the blocks of a .gguf file, and this is a folder. Hint: load_in_4bit quantises it",
                         dps_source_path (src));
    for (size_t i = 0; i < m->n_base; i++) {
        DpsWeight *w = &m->weights[i];
        uint64_t codes, parts[DPS_QPARTS];
        int64_t at = dps_source_find (src, w->name);
        if (w->role != DPS_WEIGHT_LINEAR || at < 0)
            continue;
        DpsStatus st = choose (dps_source_form (src, (size_t)at), how, &w->form, w->name, err);
        if (st == DPS_OK && w->form.type)
            st = dps_quant_bytes (&w->form, w->shape[0], w->shape[1], &codes, parts, err);
        if (st != DPS_OK)
            return dps_error_prefix (err, "%s", dps_source_path (src));
    }
    return DPS_OK;
}

int32_t dps_model_quantised (const DpsModel *m)
{
    for (size_t i = 0; i < m->n_base; i++)
        if (m->weights[i].form.type != DPS_QUANT_NONE)
            return (int32_t)i;
    return -1;
}
