/* SPDX-License-Identifier: Apache-2.0 */
#include "train/merge.h"

#include <math.h>
#include <string.h>

#include "base/file.h"
#include "base/log.h"
#include "base/seal.h"
#include "ckpt/checkpoint.h"
#include "train/model_files.h"
#include "train/model_shards.h"

enum { BLOCK_ELEMENTS = 1 << 20 };

typedef struct Merge {
    DpsSession *s;
    uint32_t dtype;
    float **params; /* of the weight that is being written: those of the adapter on top, then of the one below it … */
    size_t n_params;
    int32_t weight; /* whose they are; -1: nobody's */
    char *bytes;    /* rows [first, first + n) of it, in dtype */
    int64_t first, n;
    uint64_t done, total, shard_bytes;
    void (*progress) (double share);
} Merge;

/* What the format plugin reads a tensor through. */
typedef struct Reader {
    Merge *m;
    int32_t weight;
} Reader;

static uint64_t element_size (const Merge *m) { return m->dtype == DPS_DTYPE_BF16 ? 2 : 4; }

static void free_params (Merge *m)
{
    for (size_t i = 0; i < m->n_params; i++)
        dps_free (m->params[i]);
    dps_free (m->params);
    m->params = NULL;
    m->n_params = 0;
    m->weight = -1;
}

/* The adapters' values for a weight, each adapter's in the order of its parameters. */
static DpsStatus read_params (Merge *m, int32_t weight, DpsError *err)
{
    const DpsModel *model = &m->s->model;
    size_t n = 0;
    free_params (m);
    for (const DpsSite *site = &model->sites[weight]; site; site = site->below)
        n += site->n;
    if (!(m->params = dps_calloc (n, sizeof *m->params)))
        return dps_fail (err, DPS_ERR_NOMEM, "merge: out of memory");
    for (const DpsSite *site = &model->sites[weight]; site; site = site->below)
        for (uint32_t i = 0; i < site->n; i++) {
            int64_t count = dps_weight_elements (&model->weights[site->weight[i]]);
            float *values = m->params[m->n_params++] = dps_malloc ((size_t)count, sizeof *values);
            if (!values)
                return dps_fail (err, DPS_ERR_NOMEM, "merge: out of memory");
            DPS_TRY (dps_session_adapter_values (m->s, site->weight[i], values, err));
        }
    m->weight = weight;
    return DPS_OK;
}

/* The one nearest to the weight first. */
static DpsStatus merge_site (const DpsWeight *w, const DpsSite *site, float *const *params, int64_t first, int64_t n, float *out,
                             DpsError *err)
{
    if (site->below)
        DPS_TRY (merge_site (w, site->below, params + site->n, first, n, out, err));
    if (!site->adapter->merge)
        return dps_fail (err, DPS_ERR_UNSUPPORTED, "%s: its adapter '%s' cannot be merged: the plugin has no merge", w->name,
                         site->adapter->describe ()->name);
    return site->adapter->merge (site->self, (const float *const *)params, w->shape[0], w->shape[1], first, n, out, err);
}

static uint16_t to_bf16 (float f)
{
    uint32_t u;
    memcpy (&u, &f, 4);
    if ((u & 0x7fffffff) > 0x7f800000)
        return (uint16_t)(u >> 16 | 64);
    return (uint16_t)((u + 0x7fff + (u >> 16 & 1)) >> 16);
}

static DpsStatus base_values (Merge *m, int32_t weight, uint64_t first, uint64_t n, float *out, DpsError *err)
{
    const char *name = m->s->model.weights[weight].name;
    int64_t at = dps_source_find (m->s->source, name);
    return at < 0 ? dps_fail (err, DPS_ERR_NOT_FOUND, "%s: no tensor '%s'", dps_source_path (m->s->source), name)
                  : dps_source_read (m->s->source, (size_t)at, first, n, out, err);
}

/* A module that the adapter brings whole. */
static DpsStatus saved_values (Merge *m, int32_t weight, uint64_t first, uint64_t n, float *out, DpsError *err)
{
    int64_t all = dps_weight_elements (&m->s->model.weights[weight]);
    float *whole = dps_malloc ((size_t)all, sizeof *whole);
    DpsStatus st = whole ? dps_session_adapter_values (m->s, weight, whole, err) : dps_fail (err, DPS_ERR_NOMEM, "merge: out of memory");
    if (st == DPS_OK)
        memcpy (out, whole + first, n * sizeof *out);
    dps_free (whole);
    return st;
}

/* Rows [first, first + n) of the merged weight, as f32. */
static DpsStatus merged_rows (Merge *m, int32_t weight, int64_t first, int64_t n, float *out, DpsError *err)
{
    const DpsModel *model = &m->s->model;
    const DpsWeight *w = &model->weights[weight];
    const DpsSite *site = &model->sites[weight];
    int64_t width = w->rank == 2 ? w->shape[1] : 1;
    DPS_TRY ((dps_session_adapter_has (m->s, weight) ? saved_values : base_values) (m, weight, (uint64_t)(first * width),
                                                                                    (uint64_t)(n * width), out, err));
    if (site->n == 0)
        return DPS_OK;
    if (m->weight != weight)
        DPS_TRY (read_params (m, weight, err));
    return merge_site (w, site, m->params, first, n, out, err);
}

/* Fill m->bytes with the rows from `row` on. */
static DpsStatus fill_block (Merge *m, int32_t weight, int64_t row, DpsError *err)
{
    const DpsWeight *w = &m->s->model.weights[weight];
    int64_t width = w->rank == 2 ? w->shape[1] : 1, room = BLOCK_ELEMENTS / width > 0 ? BLOCK_ELEMENTS / width : 1;
    int64_t n = w->shape[0] - row < room ? w->shape[0] - row : room, count = n * width;
    float *values = dps_malloc ((size_t)count, sizeof *values);
    dps_free (m->bytes);
    m->bytes = dps_malloc ((size_t)count, element_size (m));
    DpsStatus st =
        values && m->bytes ? merged_rows (m, weight, row, n, values, err) : dps_fail (err, DPS_ERR_NOMEM, "merge: out of memory");
    for (int64_t i = 0; st == DPS_OK && i < count; i++)
        if (!isfinite (values[i]))
            st = dps_fail (err, DPS_ERR_FORMAT,
                           "%s: row %lld is not finite (%g) when merged. Hint: the base's file or an adapter's is damaged", w->name,
                           (long long)(row + i / width), (double)values[i]);
        else if (m->dtype == DPS_DTYPE_BF16)
            ((uint16_t *)m->bytes)[i] = to_bf16 (values[i]);
        else
            ((float *)m->bytes)[i] = values[i];
    dps_free (values);
    m->first = row;
    m->n = st == DPS_OK ? n : 0;
    return st;
}

static DpsStatus read_bytes (void *ctx, uint64_t offset, uint64_t len, void *dst, DpsError *err)
{
    Reader *r = ctx;
    Merge *m = r->m;
    const DpsWeight *w = &m->s->model.weights[r->weight];
    uint64_t row_bytes = (uint64_t)(w->rank == 2 ? w->shape[1] : 1) * element_size (m);
    if (offset == 0)
        m->n = 0; /* the block at hand is another weight's */
    while (len) {
        int64_t row = (int64_t)(offset / row_bytes);
        if (row < m->first || row >= m->first + m->n)
            DPS_TRY (fill_block (m, r->weight, row, err));
        uint64_t from = offset - (uint64_t)m->first * row_bytes, left = (uint64_t)m->n * row_bytes - from, n = len < left ? len : left;
        memcpy (dst, m->bytes + from, n);
        dst = (char *)dst + n;
        offset += n;
        len -= n;
        m->done += n;
    }
    if (m->progress)
        m->progress ((double)m->done / (double)m->total);
    return DPS_OK;
}

/* ---- files ---- */

typedef struct Files {
    DpsTensorOut *tensors;
    Reader *readers;
    size_t *shard_end; /* [n_shards] number of the first tensor of the next shard */
    size_t n_shards;
} Files;

static uint64_t tensor_bytes (const Merge *m, size_t i)
{
    return (uint64_t)dps_weight_elements (&m->s->model.weights[i]) * element_size (m);
}

static DpsStatus list_tensors (Merge *m, Files *f, DpsError *err)
{
    const DpsModel *model = &m->s->model;
    uint64_t bytes = 0;
    f->tensors = dps_calloc (model->n_base, sizeof *f->tensors);
    f->readers = dps_calloc (model->n_base, sizeof *f->readers);
    f->shard_end = dps_calloc (model->n_base, sizeof *f->shard_end);
    if (!f->tensors || !f->readers || !f->shard_end)
        return dps_fail (err, DPS_ERR_NOMEM, "merge: out of memory");
    for (size_t i = 0; i < model->n_base; i++) {
        const DpsWeight *w = &model->weights[i];
        f->readers[i] = (Reader){m, (int32_t)i};
        f->tensors[i] = (DpsTensorOut){.name = w->name,
                                       .dtype = m->dtype,
                                       .rank = w->rank,
                                       .shape = {w->shape[0], w->shape[1]},
                                       .read = read_bytes,
                                       .ctx = &f->readers[i]};
        if (bytes && bytes + tensor_bytes (m, i) > m->shard_bytes) {
            f->shard_end[f->n_shards++] = i;
            bytes = 0;
        }
        bytes += tensor_bytes (m, i);
        m->total += tensor_bytes (m, i);
    }
    f->shard_end[f->n_shards++] = model->n_base;
    return DPS_OK;
}

static DpsStatus remove_config (const char *dir, DpsError *err)
{
    char *path = dps_path_join (dir, "config.json");
    DpsStatus st = path ? dps_remove_tree (path, err) : dps_fail (err, DPS_ERR_NOMEM, "merge: out of memory");
    dps_free (path);
    return st;
}

/* The whole folder, sealed. */
static DpsStatus write_folder (Merge *m, const DpsModelShards *shards, const char *dir, DpsError *err)
{
    DPS_TRY (dps__shards_check (shards, err)); /* before an earlier merge is touched */
    DPS_TRY (dps_mkdirs (dir, err));
    DPS_TRY (dps_ckpt_sweep (dir, err)); /* a merge that was killed here left up to a shard, whose room this one may need */
    DPS_TRY (dps_seal_break (dir, err));
    DPS_TRY (remove_config (dir, err)); /* until the end no model, should this be killed */
    DPS_TRY (dps__shards_write (shards, dir, err));
    DPS_TRY (dps_model_files_write (m->s->source, m->dtype == DPS_DTYPE_BF16 ? "bfloat16" : "float32", dir, err));
    return dps__shards_seal (shards, dir, err);
}

static DpsStatus check_folder (const DpsSessionOptions *o, const char *dir, DpsError *err)
{
    if (dps_same_file (o->model, dir))
        return dps_fail (err, DPS_ERR_USAGE, "merge: %s is the model itself. Hint: give another folder", dir);
    int is_adapter = o->adapter && dps_same_file (o->adapter, dir);
    for (size_t i = 0; i < o->n_frozen; i++)
        is_adapter |= dps_same_file (o->frozen[i], dir);
    return is_adapter ? dps_fail (err, DPS_ERR_USAGE, "merge: %s is the adapter itself. Hint: give another folder", dir) : DPS_OK;
}

DpsStatus dps_merge_check (const DpsRegistry *reg, const DpsSessionOptions *o, const char *format, const char *dir, DpsError *err)
{
    const DpsFormat *writer;
    static const char *const names[] = {"config.json", DPS_SEAL_NAME, DPS_CKPT_ADAPTER_CONFIG};
    int there[3];
    DPS_TRY (dps__shards_format (reg, format, &writer, err));
    DPS_TRY (check_folder (o, dir, err));
    for (int i = 0; i < 3; i++) {
        char *path = dps_path_join (dir, names[i]);
        if (!path)
            return dps_fail (err, DPS_ERR_NOMEM, "merge: out of memory");
        there[i] = dps_is_file (path);
        dps_free (path);
    }
    if (there[2] || (there[0] && !there[1]))
        return dps_fail (err, DPS_ERR_USAGE, "merge: %s holds %s. Hint: give another folder, or remove that one", dir,
                         there[2] ? "an adapter, which PEFT would put on top of a model beside it" : "a model that no merge wrote");
    if (there[0])
        dps_log (DPS_LOG_INFO, "merge: the model in %s is written over", dir);
    return DPS_OK;
}

DpsStatus dps_merge_dtype (const DpsRegistry *reg, const char *model, const char *name, uint32_t *out, DpsError *err)
{
    DpsExec ex = {0};
    DpsSource *source = NULL;
    DPS_TRY (dps_source_open (reg, model, &source, err));
    DpsStatus st = dps_exec_open (&ex, reg, NULL, 0, err);
    const json_t *stored = json_object_get (dps_source_config (source), "dtype");
    stored = stored ? stored : json_object_get (dps_source_config (source), "torch_dtype");
    const char *text = json_string_value (stored); /* NULL too when it is null */
    const char *fallback = text && !strcmp (text, "float32") ? "float32" : "bfloat16";
    if (st == DPS_OK)
        st = dps_session_dtype (&ex, source, name ? name : fallback, out, err);
    dps_exec_close (&ex);
    dps_source_close (source);
    return st;
}

DpsStatus dps_merge (const DpsRegistry *reg, const DpsSessionOptions *o, const DpsMergeOptions *how, const char *dir, DpsError *err)
{
    DpsSession s;
    Merge m = {.s = &s,
               .dtype = how->dtype,
               .weight = -1,
               .shard_bytes = how->shard_bytes ? how->shard_bytes : DPS_MERGE_SHARD_BYTES,
               .progress = how->progress};
    Files f = {0};
    DpsModelShards shards = {.reg = reg};
    DPS_TRY (check_folder (o, dir, err));
    DPS_TRY (dps__shards_format (reg, how->format, &shards.format, err));
    DpsStatus st = dps_session_begin (&s, reg, o, err);
    if (st == DPS_OK && s.model.score >= 0)
        st = dps_fail (err, DPS_ERR_UNSUPPORTED, "merge: %s is a reward model: merging its score head is not implemented",
                       o->adapter ? o->adapter : o->model);
    if (st == DPS_OK && dps_model_quantised (&s.model) >= 0)
        dps_log (DPS_LOG_INFO, "%s is quantised (%s): what is written is numbers, %s", o->model,
                 dps_quant_name (s.model.weights[dps_model_quantised (&s.model)].form.type), dps_dtype_name (m.dtype));
    if (st == DPS_OK)
        st = list_tensors (&m, &f, err);
    if (st == DPS_OK) {
        shards.tensors = f.tensors;
        shards.end = f.shard_end;
        shards.n = f.n_shards;
        shards.bytes = m.total;
        st = write_folder (&m, &shards, dir, err);
    }
    free_params (&m);
    dps_free (m.bytes);
    dps_free (f.tensors);
    dps_free (f.readers);
    dps_free (f.shard_end);
    dps_session_close (&s);
    return st;
}
