/* SPDX-License-Identifier: Apache-2.0 */
#include "data/dataset.h"

#include <glib.h>
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "base/rng.h"
#include "data/order.h"

enum { INFO_MAX_BYTES = 16 << 20 };

static DpsStatus no_memory (const char *path, DpsError *err) { return dps_fail (err, DPS_ERR_NOMEM, "%s: out of memory", path); }

static const char *place_of (const DpsRecipeDataset *d) { return d->where ? d->where : d->path; }

/* The path of the split's file in a folder. */
static DpsStatus find_in_folder (const DpsRecipeDataset *d, const char *split, size_t split_len, char **out, DpsError *err)
{
    static const char *const ends[] = {".jsonl", ".json", ".ndjson", ".csv", ".tsv", ".txt"};
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) {
        char *path = dps_strf ("%s/%.*s%s", d->path, (int)split_len, split, ends[i]);
        if (!path)
            return no_memory (d->path, err);
        if (dps_is_file (path)) {
            *out = path;
            return DPS_OK;
        }
        dps_free (path);
    }
    return dps_fail (err, DPS_ERR_USAGE, "%s: the folder %s holds no %.*s.jsonl, .json, .csv or .txt", place_of (d), d->path,
                     (int)split_len, split);
}

/* "train[a:b]": a and b are counts, shares with %, from the end when negative. The whole when there is no bracket. */
static int parse_bound (const char **s, uint64_t n, uint64_t absent, uint64_t *out)
{
    char *end;
    *out = absent;
    if (**s == ':' || **s == ']')
        return 1;
    gint64 value = g_ascii_strtoll (*s, &end, 10);
    if (end == *s || value > (gint64)1 << 40 || value < -((gint64)1 << 40))
        return 0;
    if (*end == '%') {
        if (value < -100 || value > 100)
            return 0;
        value = (gint64)((double)value / 100 * (double)n + (value < 0 ? -0.5 : 0.5));
        end++;
    }
    value = value < 0 ? MAX (0, (gint64)n + value) : MIN (value, (gint64)n);
    *out = (uint64_t)value;
    *s = end;
    return 1;
}

static DpsStatus parse_split (const DpsRecipeDataset *d, uint64_t n, uint64_t *out_first, uint64_t *out_n, DpsError *err)
{
    const char *s = d->split ? strchr (d->split, '[') : NULL;
    uint64_t first = 0, last = n;
    if (s) {
        s++;
        if (!parse_bound (&s, n, 0, &first) || *s++ != ':' || !parse_bound (&s, n, n, &last) || strcmp (s, "]") || first >= last)
            return dps_fail (err, DPS_ERR_USAGE, "%s: split: '%.60s' selects none of %llu rows. Hint: train, train[:100], train[10%%:]",
                             place_of (d), d->split, (unsigned long long)n);
    }
    *out_first = first;
    *out_n = last - first;
    return DPS_OK;
}

/* One entry of LLaMA-Factory's dataset_info.json in the place of what the recipe says. `entry` stays alive in the data set. */
static DpsStatus import_info (DpsDataset *ds, const DpsRecipeDataset *d, DpsRecipeDataset *out, char **out_path, DpsError *err)
{
    json_t *all = NULL;
    if (!d->name)
        return dps_fail (err, DPS_ERR_USAGE, "%s: %s describes several data sets: say which with name", place_of (d), d->path);
    DPS_TRY (dps_json_file (d->path, INFO_MAX_BYTES, DPS_JSON_UNIQUE, &all, err));
    json_t *entry = json_object_get (all, d->name);
    const char *file = json_string_value (json_object_get (entry, "file_name"));
    DpsStatus st = DPS_OK;
    if (!entry || !file)
        st = dps_fail (err, DPS_ERR_USAGE, "%s: %s has no '%.60s' with a file_name", place_of (d), d->path, d->name);
    else if (strchr (file, '/'))
        st = dps_fail (err, DPS_ERR_USAGE, "%s: %s: file_name '%.60s' leaves its folder", place_of (d), d->path, file);
    else if ((!ds->infos && !(ds->infos = json_array ())) || json_array_append (ds->infos, entry))
        st = no_memory (d->path, err);
    json_decref (all);
    DPS_TRY (st);
    *out = *d;
    /* The recipe's own words win over the file's. */
    if (!out->columns)
        out->columns = json_object_get (entry, "columns");
    if (!out->tags)
        out->tags = json_object_get (entry, "tags");
    if (!out->type)
        out->type = (char *)json_string_value (json_object_get (entry, "formatting"));
    char *folder = g_path_get_dirname (d->path);
    *out_path = dps_path_join (folder, file);
    g_free (folder);
    return *out_path ? DPS_OK : no_memory (d->path, err);
}

static DpsStatus find_file (DpsDataset *ds, const DpsRecipeDataset *d, DpsRecipeDataset *out, char **out_path, DpsError *err)
{
    const char *split = d->split ? d->split : "train";
    size_t len = strcspn (split, "[");
    *out = *d;
    if (!len) {
        split = "train";
        len = 5;
    }
    if (strcspn (split, "/\\") < len)
        return dps_fail (err, DPS_ERR_USAGE, "%s: split: '%.60s' is no name", place_of (d), split);
    if (dps_is_dir (d->path))
        return find_in_folder (d, split, len, out_path, err);
    if (len != 5 || strncmp (split, "train", 5))
        return dps_fail (err, DPS_ERR_USAGE, "%s: split: '%.*s' names a file in a folder, but %s is a file: its only split is train",
                         place_of (d), (int)len, split, d->path);
    if (g_str_has_suffix (d->path, "dataset_info.json"))
        return import_info (ds, d, out, out_path, err);
    *out_path = dps_strdup (d->path);
    return *out_path ? DPS_OK : no_memory (d->path, err);
}

static DpsStatus add_file (DpsDataset *ds, const DpsRecipeDataset *given, const char *text_field, DpsError *err)
{
    DpsRecipeDataset d;
    char *path = NULL;
    DPS_TRY (find_file (ds, given, &d, &path, err));
    if (DPS_GROW (ds->files, ds->n_files, ds->capacity)) {
        dps_free (path);
        return no_memory (given->path, err);
    }
    DpsDatasetFile *f = &ds->files[ds->n_files];
    memset (f, 0, sizeof *f);
    ds->n_files++;
    DpsStatus st = dps_row_map_init (&d, text_field, &f->map, err);
    if (st == DPS_OK)
        st = dps_rows_open (path, &f->rows, err);
    if (st == DPS_ERR_NOT_FOUND && d.where)
        st = dps_fail (err, st, "%s: datasets: no file %s, beside the recipe or in the current folder", d.where, path);
    if (st == DPS_OK && !dps_rows_count (f->rows))
        st = dps_fail (err, DPS_ERR_DATA, "%s: no row in it", path);
    dps_free (path);
    DPS_TRY (st);
    f->name = dps_strdup (given->as_given && given->path && g_str_has_suffix (dps_rows_path (f->rows), given->as_given)
                              ? given->as_given
                              : dps_rows_path (f->rows));
    if (!f->name)
        return no_memory (given->path, err);
    DPS_TRY (parse_split (&d, dps_rows_count (f->rows), &f->first, &f->n, err));
    double wanted = (double)f->n * d.fraction + 0.5;
    f->n_per_epoch = wanted < 1 ? 1 : (uint64_t)wanted;
    f->offset = ds->n_rows;
    ds->n_rows += f->n_per_epoch;
    return DPS_OK;
}

DpsStatus dps_dataset_open (const DpsDatasetOptions *options, DpsDataset **out, DpsError *err)
{
    DpsDataset *ds = dps_calloc (1, sizeof *ds);
    *out = NULL;
    if (!ds)
        return no_memory ("datasets", err);
    ds->seed = options->seed;
    ds->shuffle = options->shuffle;
    DpsStatus st =
        options->sets->n ? DPS_OK : dps_fail (err, DPS_ERR_USAGE, "datasets: none is given. Hint: datasets: [{path: rows.jsonl}]");
    for (size_t i = 0; i < options->sets->n && st == DPS_OK; i++)
        st = add_file (ds, &options->sets->items[i], options->text_field, err);
    if (st != DPS_OK) {
        dps_dataset_close (ds);
        return st;
    }
    *out = ds;
    return DPS_OK;
}

DpsStatus dps_dataset_from_recipe (const DpsRecipe *recipe, int eval, DpsDataset **out, DpsError *err)
{
    const DpsDatasetOptions options = {.sets = eval ? &recipe->eval_datasets : &recipe->datasets,
                                       .text_field = recipe->dataset_text_field,
                                       .seed = (uint64_t)recipe->data_seed,
                                       .shuffle = !eval && recipe->shuffle};
    return dps_dataset_open (&options, out, err);
}

DpsStatus dps_dataset_from_file (const char *path, DpsDataset **out, DpsError *err)
{
    DpsRecipeDataset one = {.path = (char *)path, .as_given = (char *)path, .fraction = 1};
    const DpsRecipeDatasets sets = {.items = &one, .n = 1};
    return dps_dataset_open (&(DpsDatasetOptions){.sets = &sets}, out, err);
}

void dps_dataset_close (DpsDataset *ds)
{
    for (size_t i = 0; ds && i < ds->n_files; i++) {
        dps_rows_close (ds->files[i].rows);
        dps_row_map_clear (&ds->files[i].map);
        dps_free (ds->files[i].name);
    }
    if (ds) {
        dps_free (ds->files);
        json_decref (ds->infos);
    }
    dps_free (ds);
}

void dps_dataset_place (const DpsDataset *ds, uint64_t epoch, uint64_t k, size_t *out_file, uint64_t *out_row)
{
    uint64_t at = ds->shuffle ? dps_order_permute (ds->seed, dps_rng_stream ("data.mixture"), epoch, ds->n_rows, k) : k;
    size_t i = ds->n_files - 1;
    while (at < ds->files[i].offset)
        i--;
    const DpsDatasetFile *f = &ds->files[i];
    /* All draws from this file since the run began form passes over it; each pass has an order of its own. */
    uint64_t draw = epoch * f->n_per_epoch + (at - f->offset), pass = draw / f->n, place = draw % f->n;
    if (ds->shuffle)
        place = dps_order_permute (ds->seed, dps_rng_stream ("data.shuffle") + i, pass, f->n, place);
    *out_file = i;
    *out_row = f->first + place;
}

DpsStatus dps_dataset_file_row (const DpsDatasetFile *file, uint64_t row, DpsRow *out, DpsError *err)
{
    uint64_t line = 0;
    json_t *object = NULL;
    memset (out, 0, sizeof *out);
    DPS_TRY (dps_rows_get (file->rows, row, &object, &line, err));
    return dps_row_parse (object, &file->map, dps_rows_path (file->rows), line, row, out, err);
}

DpsStatus dps_dataset_row (const DpsDataset *ds, uint64_t epoch, uint64_t k, DpsRow *out, DpsError *err)
{
    size_t file;
    uint64_t row;
    memset (out, 0, sizeof *out);
    if (k >= ds->n_rows)
        return dps_fail (err, DPS_ERR_INVALID, "no place %llu in an epoch of %llu rows", (unsigned long long)k,
                         (unsigned long long)ds->n_rows);
    dps_dataset_place (ds, epoch, k, &file, &row);
    return dps_dataset_file_row (&ds->files[file], row, out, err);
}
