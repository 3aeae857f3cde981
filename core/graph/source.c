/* SPDX-License-Identifier: Apache-2.0 */
/*
 * source.c: one or several tensor files behind one list of Hugging Face names. A folder's shards come from model.safetensors.index.json; each
 * is a plain file name of that folder, whatever the index says. Without it, they are the files that another format's plugin knows by their ending.
 */
#include "graph/source_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/seal.h"
#include "graph/multimodal.h"
#include "graph/untie.h"
#include "graph/weight_files.h"

enum { CONFIG_LIMIT = 1 << 22 };

static DpsStatus no_memory (const char *path, DpsError *err) { return dps_fail (err, DPS_ERR_NOMEM, "%s: out of memory", path); }

DpsStatus dps__source_open_file (DpsSource *s, const char *path, DpsError *err)
{
    struct DpsFormatFile **files = dps_realloc (s->files, s->n_files + 1, sizeof *files);
    if (!files)
        return no_memory (path, err);
    s->files = files;
    DPS_TRY (s->format->open ((DpsStr){path, strlen (path)}, &files[s->n_files], err));
    s->n_files++;
    return DPS_OK;
}

DpsStatus dps__source_add (DpsSource *s, const char *name, size_t len, DpsSourceItem item, DpsError *err)
{
    if (DPS_GROW (s->items, s->n_items, s->item_capacity) || !(item.name = dps_strndup (name, len)))
        return no_memory (s->path, err);
    s->items[s->n_items++] = item;
    return DPS_OK;
}

static int by_name (const void *a, const void *b) { return strcmp (((const DpsSourceItem *)a)->name, ((const DpsSourceItem *)b)->name); }

/* shards: whose names an error gives; NULL for a single file. */
DpsStatus dps__source_sort (DpsSource *s, const char *const *shards, DpsError *err)
{
    qsort (s->items, s->n_items, sizeof *s->items, by_name);
    for (size_t i = 1; i < s->n_items; i++) {
        const DpsSourceItem *a = &s->items[i - 1], *b = &s->items[i];
        if (strcmp (a->name, b->name))
            continue;
        if (!shards || a->file == b->file)
            return dps_fail (err, DPS_ERR_FORMAT, "%s: tensor '%s' is there twice, under two spellings of its name", s->path, a->name);
        return dps_fail (
            err, DPS_ERR_FORMAT,
            "%s: tensor '%s' is in two shards, %s and %s. Hint: shards of two versions of the model: download the folder again, whole",
            s->path, a->name, shards[a->file], shards[b->file]);
    }
    return DPS_OK;
}

/* The tensors of one file of a folder. */
static DpsStatus list_file (DpsSource *s, uint32_t file, DpsError *err)
{
    uint64_t n;
    DPS_TRY (s->format->info (s->files[file], &n, NULL, err));
    for (uint64_t i = 0; i < n; i++) {
        DpsTensorInfo t = {.size = sizeof t};
        char name[1100], buffer[1200];
        DPS_TRY (s->format->tensor_info (s->files[file], i, &t, err));
        snprintf (name, sizeof name, "%.*s", (int)t.name.len, t.name.ptr);
        const char *plain = dps__text_name (name, buffer, sizeof buffer);
        DPS_TRY (dps__source_add (s, plain, strlen (plain), (DpsSourceItem){.file = file, .tensor = i}, err));
    }
    return DPS_OK;
}

static DpsStatus open_member (DpsSource *s, const char *folder, const char *name, DpsError *err)
{
    char *path = dps_path_join (folder, name);
    DpsStatus st = path ? dps__source_open_file (s, path, err) : no_memory (folder, err);
    dps_free (path);
    return st == DPS_OK ? list_file (s, (uint32_t)s->n_files - 1, err) : st;
}

/* Every tensor the index names is in the shard it names. */
static DpsStatus check_index (const DpsSource *s, const DpsShardIndex *x, const char *folder, DpsError *err)
{
    const char *tensor;
    json_t *value;
    json_object_foreach (x->map, tensor, value) {
        char buffer[1200];
        const char *shard = json_string_value (value);
        int64_t at = dps_source_find (s, dps__text_name (tensor, buffer, sizeof buffer));
        if (at < 0 || strcmp (x->names[s->items[at].file], shard))
            return dps_fail (err, DPS_ERR_FORMAT,
                             "%s/%s: no tensor '%.200s', which " DPS_SHARD_INDEX " says is here%s%s. Hint: shard and index are of two "
                             "versions of the model: download the folder again, whole",
                             folder, shard, tensor, at < 0 ? "" : "; it is in ", at < 0 ? "" : x->names[s->items[at].file]);
    }
    return DPS_OK;
}

static DpsStatus open_shards (DpsSource *s, const char *folder, const DpsShardIndex *x, DpsError *err)
{
    uint64_t bytes = 0;
    for (size_t i = 0; i < x->n_names; i++)
        DPS_TRY (open_member (s, folder, x->names[i], err));
    DPS_TRY (dps__source_sort (s, x->names, err));
    DPS_TRY (check_index (s, x, folder, err));
    for (size_t i = 0; i < s->n_items; i++) {
        DpsTensorInfo t = {.size = sizeof t};
        DPS_TRY (dps_source_info (s, i, &t, err));
        bytes += t.bytes;
    }
    dps__shard_index_compare (x, folder, bytes);
    return DPS_OK;
}

/* A folder without safetensors: what another format's plugin finds there. */
static DpsStatus open_others (DpsSource *s, const DpsRegistry *reg, const char *folder, DpsError *err)
{
    DpsWeightFiles files;
    DpsStatus st = dps__weight_files_find (reg, folder, &files, err);
    if (st == DPS_OK && !files.format)
        st =
            dps_fail (err, DPS_ERR_NOT_FOUND,
                      "%s: neither model.safetensors nor " DPS_SHARD_INDEX ", nor a file that another format's plugin reads. Hint: pickled "
                      "weights (pytorch_model.bin) are not read; save the model as safetensors",
                      folder);
    if (st == DPS_OK)
        s->format = files.format;
    for (size_t i = 0; st == DPS_OK && i < files.n; i++)
        st = open_member (s, folder, files.names[i], err);
    if (st == DPS_OK)
        st = dps__source_sort (s, (const char *const *)files.names, err);
    dps__weight_files_close (&files);
    return st;
}

static DpsStatus open_tensors (DpsSource *s, const DpsRegistry *reg, const char *folder, DpsError *err)
{
    char *single = dps_path_join (folder, "model.safetensors"), *index = dps_path_join (folder, DPS_SHARD_INDEX);
    DpsStatus st = single && index ? DPS_OK : no_memory (folder, err);
    if (st == DPS_OK && dps_is_file (single)) { /* first, as transformers has it */
        st = open_member (s, folder, "model.safetensors", err);
        if (st == DPS_OK)
            st = dps__source_sort (s, NULL, err);
    } else if (st == DPS_OK && dps_is_file (index)) {
        DpsShardIndex x;
        st = dps__shard_index_open (folder, &x, err);
        if (st == DPS_OK)
            st = open_shards (s, folder, &x, err);
        dps__shard_index_close (&x);
    } else if (st == DPS_OK)
        st = open_others (s, reg, folder, err);
    dps_free (single);
    dps_free (index);
    return st;
}

/* Nothing is left out in silence. */
static void tell_unread (const DpsSource *s)
{
    size_t n = 0;
    const char *first = "";
    for (size_t i = 0; i < s->n_items; i++) {
        int is_text = dps__text_is_part (s->items[i].name);
        first = is_text || n ? first : s->items[i].name;
        n += !is_text;
    }
    if (n)
        dps_log (DPS_LOG_INFO, "%s: a multimodal model: its text part is read, %zu tensors of other parts are not ('%s', ...)", s->path, n,
                 first);
}

static DpsStatus open_folder (DpsSource *s, const DpsRegistry *reg, const char *folder, DpsError *err)
{
    s->format = dps_registry_get (reg, DPS_FORMAT_ID, "safetensors");
    if (!s->format)
        return dps_registry_missing (reg, DPS_FORMAT_ID, "safetensors", err);
    DPS_TRY (dps_seal_check (folder, err));
    char *path = dps_path_join (folder, "config.json");
    DpsStatus st = path ? dps_json_file (path, CONFIG_LIMIT, DPS_JSON_WIDE, &s->config, err) : no_memory (folder, err);
    dps_free (path);
    if (st == DPS_ERR_NOT_FOUND)
        return dps__source_no_model (folder, err);
    DPS_TRY (st);
    int nested = dps__text_config (&s->config);
    if (nested < 0)
        return no_memory (folder, err);
    if (!json_is_object (s->config))
        return dps_fail (err, DPS_ERR_FORMAT, "%s/config.json: expected an object", folder);
    DPS_TRY (open_tensors (s, reg, folder, err));
    DPS_TRY (dps__source_fold (s, err));
    if (nested)
        tell_unread (s);
    return dps__source_untie (s, err);
}

DpsStatus dps_source_open (const DpsRegistry *reg, const char *path, DpsSource **out, DpsError *err)
{
    DpsSource *s = dps_calloc (1, sizeof *s);
    if (!s || !(s->path = dps_strdup (path))) {
        dps_free (s);
        return no_memory (path, err);
    }
    size_t n = strlen (path);
    DpsStatus st;
    if (dps_is_dir (path))
        st = open_folder (s, reg, path, err);
    else if (!dps_is_file (path))
        st = dps__source_no_such (path, err);
    else if (n > 12 && !strcmp (path + n - 12, ".safetensors"))
        st = dps_fail (err, DPS_ERR_INVALID, "%s: give the folder that holds it and its config.json", path);
    else
        st = dps__source_open_gguf (s, reg, err);
    if (st != DPS_OK) {
        dps_source_close (s);
        return dps_error_hint_files (err, st, "model");
    }
    *out = s;
    return DPS_OK;
}

void dps_source_close (DpsSource *s)
{
    if (!s)
        return;
    for (size_t i = 0; i < s->n_files; i++)
        s->format->close (s->files[i]);
    for (size_t i = 0; i < s->n_items; i++) {
        dps_free (s->items[i].codes);
        dps_free (s->items[i].name);
    }
    dps_free (s->items);
    dps_free (s->files);
    dps_free (s->meta);
    dps_free (s->meta_list);
    dps_free (s->path);
    json_decref (s->config);
    dps_free (s);
}

json_t *dps_source_config (const DpsSource *s) { return s->config; }
const char *dps_source_path (const DpsSource *s) { return s->path; }
const DpsFormat *dps_source_format (const DpsSource *s) { return s->format; }
int dps_source_is_gguf (const DpsSource *s) { return s->is_gguf; }
size_t dps_source_count (const DpsSource *s) { return s->n_items; }

const DpsMeta *const *dps_source_meta (const DpsSource *s, size_t *out_n)
{
    *out_n = s->n_meta;
    return s->meta_list;
}

int64_t dps_source_find (const DpsSource *s, const char *hf_name)
{
    DpsSourceItem key = {.name = (char *)hf_name};
    const DpsSourceItem *at = s->n_items ? bsearch (&key, s->items, s->n_items, sizeof key, by_name) : NULL;
    if (!at && s->head_is_embed && !strcmp (hf_name, "lm_head.weight"))
        return dps_source_find (s, "model.embed_tokens.weight");
    return at ? at - s->items : -1;
}

DpsStatus dps_source_info (const DpsSource *s, size_t i, DpsTensorInfo *out, DpsError *err)
{
    if (i >= s->n_items)
        return dps_fail (err, DPS_ERR_NOT_FOUND, "%s: tensor %zu of %zu", s->path, i, s->n_items);
    DPS_TRY (s->format->tensor_info (s->files[s->items[i].file], s->items[i].tensor, out, err));
    out->name = (DpsStr){s->items[i].name, strlen (s->items[i].name)};
    if (s->items[i].codes)
        dps__source_codes_info (s->items[i].codes, out);
    return DPS_OK;
}

/* Stored row (head, i, half) is row (head, half, i) here, i < width/2, half in {0, 1}. */
DpsStatus dps__source_stored_row (const DpsSource *s, const DpsSourceItem *item, int64_t rows, int64_t row, int64_t *out, DpsError *err)
{
    int64_t heads = item->is_key ? s->kv_heads : s->heads;
    *out = row;
    if (item->fix != DPS_GGUF_UNPERMUTE)
        return DPS_OK;
    if (heads <= 0 || rows % heads || rows / heads % 2)
        return dps_fail (err, DPS_ERR_FORMAT, "%s: '%s' has %lld rows, which %lld heads do not divide evenly", s->path, item->name,
                         (long long)rows, (long long)heads);
    int64_t width = rows / heads, half = width / 2, in_head = row % width;
    *out = row / width * width + in_head % half * 2 + in_head / half;
    return DPS_OK;
}

/* Rows are fetched one at a time, each whole; a range that starts or ends within a row takes the part it needs. */
static DpsStatus read_unpermuted (DpsSource *s, const DpsSourceItem *item, uint64_t first, uint64_t n, float *dst, DpsError *err)
{
    DpsTensorInfo t = {.size = sizeof t};
    DPS_TRY (s->format->tensor_info (s->files[0], item->tensor, &t, err));
    int64_t cols = t.rank > 1 ? t.shape[1] : 1;
    while (n) {
        int64_t row = (int64_t)first / cols, skip = (int64_t)first % cols, stored;
        DPS_TRY (dps__source_stored_row (s, item, t.shape[0], row, &stored, err));
        uint64_t len = (uint64_t)(cols - skip) < n ? (uint64_t)(cols - skip) : n;
        DPS_TRY (s->format->read_f32 (s->files[0], item->tensor, (uint64_t)(stored * cols + skip), len, dst, err));
        first += len;
        dst += len;
        n -= len;
    }
    return DPS_OK;
}

DpsStatus dps_source_read (DpsSource *s, size_t i, uint64_t first, uint64_t n, float *dst, DpsError *err)
{
    if (i >= s->n_items)
        return dps_fail (err, DPS_ERR_NOT_FOUND, "%s: tensor %zu of %zu", s->path, i, s->n_items);
    const DpsSourceItem *item = &s->items[i];
    if (item->codes)
        return dps__source_codes_read (s, item, first, n, dst, err);
    if (item->fix == DPS_GGUF_UNPERMUTE)
        return read_unpermuted (s, item, first, n, dst, err);
    DPS_TRY (s->format->read_f32 (s->files[item->file], item->tensor, first, n, dst, err));
    for (uint64_t k = 0; item->fix == DPS_GGUF_MINUS_ONE && k < n; k++)
        dst[k] -= 1;
    return DPS_OK;
}

void dps_source_release (DpsSource *s, size_t i)
{
    if (i < s->n_items && s->format->release)
        s->format->release (s->files[s->items[i].file], s->items[i].tensor);
}

/* The stored bytes of a tensor, in place where the format maps, else in pieces. */
static DpsStatus hash_bytes (DpsSource *s, const DpsSourceItem *item, uint64_t bytes, DpsHasher *h, DpsError *err)
{
    enum { PIECE = 1 << 20 };
    struct DpsFormatFile *file = s->files[item->file];
    const void *all = NULL;
    DpsStatus st = s->format->map ? s->format->map (file, item->tensor, &all, err) : DPS_ERR_UNSUPPORTED;
    if (st != DPS_ERR_UNSUPPORTED) {
        dps_hasher_add (h, all, st == DPS_OK ? bytes : 0);
        return st;
    }
    char *piece = dps_malloc (PIECE, 1);
    st = piece ? DPS_OK : no_memory (s->path, err);
    for (uint64_t at = 0; st == DPS_OK && at < bytes; at += PIECE) {
        uint64_t n = bytes - at < PIECE ? bytes - at : PIECE;
        if ((st = s->format->read (file, item->tensor, at, n, piece, err)) == DPS_OK)
            dps_hasher_add (h, piece, n);
    }
    dps_free (piece);
    return st;
}

DpsStatus dps_source_digest (DpsSource *s, DpsDigest *out, DpsError *err)
{
    DpsHasher *h = dps_hasher_new ();
    if (!h)
        return no_memory (s->path, err);
    DpsStatus st = DPS_OK;
    for (size_t i = 0; st == DPS_OK && i < s->n_items; i++) {
        DpsTensorInfo t = {.size = sizeof t};
        char line[1400];
        if ((st = dps_source_info (s, i, &t, err)) != DPS_OK)
            break;
        int n = snprintf (line, sizeof line, "%s %.*s", s->items[i].name, (int)t.dtype.len, t.dtype.ptr);
        dps_hasher_add (h, line, (size_t)n + 1);
        dps_hasher_add (h, t.shape, t.rank * sizeof *t.shape);
        st = hash_bytes (s, &s->items[i], t.bytes, h, err);
        dps_source_release (s, i);
    }
    DpsStatus done = dps_hasher_final (h, out, st == DPS_OK ? err : NULL);
    return st == DPS_OK ? done : st;
}
