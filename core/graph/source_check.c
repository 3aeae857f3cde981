/* SPDX-License-Identifier: Apache-2.0 */
#include "graph/source_check.h"

#include <string.h>

#include "base/mem.h"
#include "graph/gguf_names.h"

/* "I32", "U8", "BOOL"; not the blocks "IQ4_NL". */
static int is_whole (DpsStr dtype)
{
    return dps_str_is (dtype, "BOOL") || (dtype.len > 1 && strchr ("IU", dtype.ptr[0]) && dtype.ptr[1] >= '0' && dtype.ptr[1] <= '9');
}

static DpsStatus check_weight (const DpsSource *src, const DpsModel *m, const DpsWeight *w, uint8_t *used, DpsError *err)
{
    DpsTensorInfo t = {.size = sizeof t};
    int64_t at = dps_source_find (src, w->name);
    if (at < 0)
        return dps_fail (err, DPS_ERR_FORMAT, "%s: no tensor '%s', which a %s model needs", dps_source_path (src), w->name, m->dec.arch);
    used[at] = 1;
    DPS_TRY (dps_source_info (src, (size_t)at, &t, err));
    if (is_whole (t.dtype))
        return dps_fail (err, DPS_ERR_DTYPE, "%s: tensor '%s' is %.*s: a weight has no whole numbers", dps_source_path (src), w->name,
                         (int)t.dtype.len, t.dtype.ptr);
    if (t.rank == w->rank && t.shape[0] == w->shape[0] && (w->rank < 2 || t.shape[1] == w->shape[1]))
        return DPS_OK;
    return dps_fail (err, DPS_ERR_SHAPE, "%s: tensor '%s' is (%lld, %lld), expected (%lld, %lld) from the configuration",
                     dps_source_path (src), w->name, (long long)(t.rank ? t.shape[0] : 0), (long long)(t.rank > 1 ? t.shape[1] : 1),
                     (long long)w->shape[0], (long long)(w->rank > 1 ? w->shape[1] : 1));
}

static int ends_with (DpsStr s, const char *end)
{
    size_t n = strlen (end);
    return s.len >= n && !memcmp (s.ptr + s.len - n, end, n);
}

/* Tables that old files store and readers compute. */
static int is_derived (DpsStr name)
{
    return ends_with (name, "rotary_emb.inv_freq") || ends_with (name, "attn_rot_embd") || ends_with (name, "attn_rot_embd.weight");
}

static int in_layers (DpsStr name)
{
    static const char *const starts[] = {"model.layers.", "blk."};
    for (size_t i = 0; i < sizeof starts / sizeof *starts; i++)
        if (name.len > strlen (starts[i]) && !memcmp (name.ptr, starts[i], strlen (starts[i])))
            return 1;
    return 0;
}

DpsStatus dps_source_check (const DpsSource *src, const DpsModel *model, DpsError *err)
{
    size_t n = dps_source_count (src);
    uint8_t *used = dps_calloc (n ? n : 1, 1);
    DpsStatus st = used ? DPS_OK : dps_fail (err, DPS_ERR_NOMEM, "%s: out of memory", dps_source_path (src));
    for (size_t i = 0; st == DPS_OK && i < model->n_base; i++)
        st = check_weight (src, model, &model->weights[i], used, err);
    for (size_t i = 0; st == DPS_OK && i < n; i++) {
        DpsTensorInfo t = {.size = sizeof t};
        used[i] |= (uint8_t)dps_source_is_part (src, i);
        st = used[i] ? DPS_OK : dps_source_info (src, i, &t, err);
        if (st == DPS_OK && !used[i] && in_layers (t.name) && !is_derived (t.name))
            st = dps_fail (err, DPS_ERR_FORMAT,
                           "%s: tensor '%.*s' has no place in the %s model of %lld layers that the configuration describes",
                           dps_source_path (src), (int)(t.name.len < 200 ? t.name.len : 200), t.name.ptr, model->dec.arch,
                           (long long)model->dec.n_layers);
    }
    dps_free (used);
    if (st == DPS_ERR_FORMAT || st == DPS_ERR_SHAPE || st == DPS_ERR_DTYPE)
        dps_error_hint (err, "%s: fetch or copy the model again",
                        dps_source_is_gguf (src) ? "the file was not written whole, or was edited"
                                                 : "config.json and weights are of two models, or were edited");
    return st;
}

DpsStatus dps_source_model (const DpsSource *src, DpsModel *out, DpsError *err)
{
    DpsStatus st = dps_model_init (out, dps_source_config (src), err);
    size_t n;
    const DpsMeta *const *meta = dps_source_meta (src, &n), *arch = dps__gguf_find (meta, n, "general.architecture");
    if (st != DPS_OK && err && arch) /* a GGUF, which has one: it was opened */
        dps__gguf_reword (arch->v.s, err);
    if (st != DPS_OK)
        dps_error_prefix (err, "%s", dps_source_path (src));
    return dps_error_hint_files (err, st, "model");
}
