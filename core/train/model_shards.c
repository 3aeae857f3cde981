/* SPDX-License-Identifier: Apache-2.0 */
#include "train/model_shards.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "base/mem.h"
#include "graph/shard_index.h"
#include "graph/weight_files.h"
#include "train/model_files.h"

static DpsStatus no_memory (DpsError *err) { return dps_fail (err, DPS_ERR_NOMEM, "merge: out of memory"); }

DpsStatus dps__shards_format (const DpsRegistry *reg, const char *name, const DpsFormat **out, DpsError *err)
{
    name = name ? name : "safetensors";
    const DpsFormat *format = dps_registry_get (reg, DPS_FORMAT_ID, name);
    if (!format)
        return dps_registry_missing (reg, DPS_FORMAT_ID, name, err);
    if (!format->create || !format->extensions || !*format->extensions || format->graph)
        return dps_fail (err, DPS_ERR_USAGE, "merge: format '%s' %s. Hint: --format safetensors", name,
                         !format->create ? "is only read: its plugin has no writer"
                         : format->graph ? "stores a model's graph, which merge does not give it"
                                         : "is a folder, not the files of a model");
    *out = format;
    return DPS_OK;
}

static int is_safetensors (const DpsModelShards *s) { return s->format == dps_registry_get (s->reg, DPS_FORMAT_ID, "safetensors"); }

static int has_index (const DpsModelShards *s) { return s->n > 1 && is_safetensors (s); }

/* "model.npy", "model-00001-of-00003.npy": the first ending the format names. */
static char *shard_name (const DpsModelShards *s, size_t shard)
{
    const char *end = s->format->extensions;
    int n = (int)strcspn (end, ",");
    return s->n == 1 ? dps_strf ("model%.*s", n, end) : dps_strf ("model-%05zu-of-%05zu%.*s", shard + 1, s->n, n, end);
}

/* What transformers looks for in safetensors; no other format was promised it. */
static size_t meta_of (const DpsModelShards *s, DpsTensorMeta *out)
{
    *out = (DpsTensorMeta){.key = "format", .value = "pt"};
    return is_safetensors (s) ? 1 : 0;
}

DpsStatus dps__shards_check (const DpsModelShards *s, DpsError *err)
{
    DpsTensorMeta meta;
    size_t n_meta = meta_of (s, &meta), first = 0;
    if (s->n > DPS_WEIGHT_FILES_MAX)
        return dps_fail (err, DPS_ERR_USAGE, "merge: %zu shards, at most %d are read back. Hint: a larger --max-shard-size", s->n,
                         DPS_WEIGHT_FILES_MAX);
    for (size_t k = 0; k < s->n; first = s->end[k++])
        DPS_TRY (dps_tensors_check (s->format, s->tensors + first, s->end[k] - first, &meta, n_meta, err));
    return DPS_OK;
}

static DpsStatus write_index (const DpsModelShards *s, const char *dir, DpsError *err)
{
    json_t *map = json_object (), *index = json_pack ("{s:{s:I}, s:O}", "metadata", "total_size", (json_int_t)s->bytes, "weight_map", map);
    size_t first = 0;
    int bad = !index;
    for (size_t k = 0; k < s->n && !bad; k++) {
        char *name = shard_name (s, k);
        bad = !name;
        for (size_t i = first; i < s->end[k] && !bad; i++)
            bad = json_object_set_new (map, s->tensors[i].name, json_string (name));
        first = s->end[k];
        dps_free (name);
    }
    char *path = dps_path_join (dir, DPS_SHARD_INDEX), *text = bad ? NULL : json_dumps (index, JSON_INDENT (2));
    DpsStatus st = path && text ? dps_file_write (path, text, strlen (text), err) : no_memory (err);
    dps_free (path);
    dps_free (text);
    json_decref (map);
    json_decref (index);
    return st;
}

static DpsStatus write_shards (const DpsModelShards *s, const char *dir, DpsError *err)
{
    DpsTensorMeta meta;
    size_t n_meta = meta_of (s, &meta), first = 0;
    for (size_t k = 0; k < s->n; first = s->end[k++]) {
        char *name = shard_name (s, k), *path = name ? dps_path_join (dir, name) : NULL;
        DpsStatus st =
            path ? dps_tensors_write (s->format, path, s->tensors + first, s->end[k] - first, &meta, n_meta, err) : no_memory (err);
        dps_free (name);
        dps_free (path);
        DPS_TRY (st);
    }
    return has_index (s) ? write_index (s, dir, err) : DPS_OK;
}

static DpsStatus remove_file (const char *dir, const char *name, DpsError *err)
{
    char *path = dps_path_join (dir, name);
    DpsStatus st = path ? dps_remove_tree (path, err) : no_memory (err);
    dps_free (path);
    return st;
}

/* Is it "model" or "model-00002-of-00003", and then the ending of a format that writes? */
static int is_shard (const DpsModelShards *s, const char *name)
{
    const DpsFormat *format;
    int stem = 0, is_one = 0;
    (void)sscanf (name, "model-%*5u-of-%*5u%n", &stem);
    if (stem == 0 && !strncmp (name, "model", 5))
        stem = 5;
    for (size_t k = 0; stem && name[stem] && !is_one && (format = dps_registry_nth (s->reg, DPS_FORMAT_ID, k, NULL)); k++)
        is_one = format->create && strlen (name + stem) == dps__format_ending (format, name);
    return is_one;
}

/* 0 or 1; -1: out of memory. */
static int is_ours (const DpsModelShards *s, const char *name)
{
    size_t k = 0;
    if (s->n > 1 && (sscanf (name, "model-%5zu", &k) != 1 || k < 1 || k > s->n))
        return 0;
    char *ours = shard_name (s, k ? k - 1 : 0);
    int same = ours ? !strcmp (ours, name) : -1;
    dps_free (ours);
    return same;
}

/* What an earlier merge left under other names: of its index or whole file this model would be read, its shards would lie there for nothing. */
static DpsStatus remove_others (const DpsModelShards *s, const char *dir, DpsError *err)
{
    if (!has_index (s))
        DPS_TRY (remove_file (dir, DPS_SHARD_INDEX, err));
    DIR *d = opendir (dir);
    DpsStatus st = d ? DPS_OK : dps_fail (err, DPS_ERR_IO, "%s: cannot be read: %s", dir, strerror (errno));
    for (const struct dirent *e; st == DPS_OK && (e = readdir (d));) {
        int ours = is_shard (s, e->d_name) ? is_ours (s, e->d_name) : 1;
        if (ours < 1)
            st = ours < 0 ? no_memory (err) : remove_file (dir, e->d_name, err);
    }
    if (d)
        closedir (d);
    return st;
}

DpsStatus dps__shards_write (const DpsModelShards *s, const char *dir, DpsError *err)
{
    DPS_TRY (write_shards (s, dir, err));
    return remove_others (s, dir, err);
}

DpsStatus dps__shards_seal (const DpsModelShards *s, const char *dir, DpsError *err)
{
    char **names = dps_calloc (s->n, sizeof *names);
    DpsStatus st = names ? DPS_OK : no_memory (err);
    for (size_t k = 0; st == DPS_OK && k < s->n; k++)
        if (!(names[k] = shard_name (s, k)))
            st = no_memory (err);
    if (st == DPS_OK)
        st = dps_model_files_seal (dir, names, s->n, err);
    for (size_t k = 0; names && k < s->n; k++)
        dps_free (names[k]);
    dps_free (names);
    return st;
}
