/* SPDX-License-Identifier: Apache-2.0 */
#include "train/model_files.h"

#include <string.h>

#include "base/file.h"
#include "base/seal.h"
#include "infer/tokenizer_source.h"
#include "token/tokenizer_folder.h"

/* Copied as they are, but for the templates where some lie in a folder. */
static const char *const names[] = {"generation_config.json",  "tokenizer.json",    DPS_TOKENIZER_CONFIG, "tokenizer.model",
                                    "special_tokens_map.json", "added_tokens.json", "vocab.json",         "merges.txt",
                                    "chat_template.json",      DPS_CHAT_FILE};

/* Where files go: one of the two. */
typedef struct To {
    const char *dir;
    DpsCheckpointWriter *checkpoint;
} To;

static DpsStatus no_memory (DpsError *err) { return dps_fail (err, DPS_ERR_NOMEM, "config.json: out of memory"); }

/* The configuration as it is to be written; a new reference, NULL when out of memory. */
static json_t *config_of (const DpsSource *s, const char *dtype)
{
    json_t *config = dps_json_copy (dps_source_config (s), 0);
    int bad = !config;
    if (!bad && dps_source_is_gguf (s))
        bad = json_object_set_new (config, DPS_CONFIG_TOKENIZER, json_string (dps_source_path (s)));
    if (!bad)
        json_object_del (config, "quantization_config"); /* what is written here is numbers */
    if (!bad && dtype)
        bad = json_object_set_new (config, json_object_get (config, "dtype") ? "dtype" : "torch_dtype", json_string (dtype));
    if (!bad)
        return config;
    json_decref (config);
    return NULL;
}

static DpsStatus put_text (const To *to, const char *name, const DpsBuf *text, DpsError *err)
{
    if (to->checkpoint)
        return dps_ckpt_add_bytes (to->checkpoint, name, text->data, text->len, err);
    char *path = dps_path_join (to->dir, name);
    DpsStatus st = path ? dps_file_write (path, text->data, text->len, err) : no_memory (err);
    dps_free (path);
    return st;
}

static DpsStatus put_copy (const To *to, const char *name, const char *from, DpsError *err)
{
    DpsBuf bytes = {0};
    if (to->checkpoint)
        return dps_ckpt_add_copy (to->checkpoint, name, from, err);
    DpsStatus st = dps_file_read (from, (size_t)1 << 30, &bytes, err);
    if (st == DPS_OK)
        st = put_text (to, name, &bytes, err);
    dps_buf_free (&bytes);
    return st;
}

/* What a folder held before of a name that this model does not have: it would be read as this model's. A checkpoint is new. */
static DpsStatus put_nothing (const To *to, const char *name, DpsError *err)
{
    if (to->checkpoint)
        return DPS_OK;
    char *path = dps_path_join (to->dir, name);
    DpsStatus st = path ? dps_remove_tree (path, err) : no_memory (err);
    dps_free (path);
    return st;
}

static DpsStatus put_config (const To *to, const DpsSource *source, const char *dtype, DpsError *err)
{
    DpsBuf text = {0};
    json_t *config = config_of (source, dtype);
    DpsStatus st = config && !dps_json_write (&text, config, 2) && !dps_buf_str (&text, "\n") ? put_text (to, "config.json", &text, err)
                                                                                              : no_memory (err);
    dps_buf_free (&text);
    json_decref (config);
    return st;
}

static DpsStatus put_files (const To *to, const DpsSource *source, DpsError *err)
{
    DpsBuf chats = {0};
    const char *from_dir = dps_source_is_gguf (source) ? NULL : dps_source_path (source);
    DpsStatus st = from_dir ? dps_tokenizer_gather_chats (from_dir, &chats, err) : DPS_OK;
    for (size_t i = 0; st == DPS_OK && i < sizeof names / sizeof *names; i++) {
        char *from = from_dir ? dps_path_join (from_dir, names[i]) : NULL;
        if (from_dir && !from)
            st = no_memory (err);
        else if (chats.len && !strcmp (names[i], DPS_TOKENIZER_CONFIG))
            st = put_text (to, names[i], &chats, err);
        else if (from && dps_is_file (from) && !(chats.len && !strcmp (names[i], DPS_CHAT_FILE)))
            st = put_copy (to, names[i], from, err);
        else
            st = put_nothing (to, names[i], err);
        dps_free (from);
    }
    dps_buf_free (&chats);
    return st == DPS_OK ? put_nothing (to, DPS_CHAT_FOLDER, err) : st;
}

DpsStatus dps_model_files_write (const DpsSource *source, const char *dtype, const char *dir, DpsError *err)
{
    const To to = {.dir = dir};
    DPS_TRY (put_files (&to, source, err));
    return put_config (&to, source, dtype, err); /* last: without it the folder is no model */
}

DpsStatus dps_model_files_add (const DpsSource *source, DpsCheckpointWriter *into, DpsError *err)
{
    const To to = {.checkpoint = into};
    DPS_TRY (put_config (&to, source, NULL, err));
    return put_files (&to, source, err);
}

DpsStatus dps_model_files_seal (const char *dir, char *const *weights, size_t n, DpsError *err)
{
    const size_t n_names = sizeof names / sizeof *names;
    const char **all = dps_calloc (n + n_names + 2, sizeof *all);
    if (!all)
        return no_memory (err);
    for (size_t i = 0; i < n; i++)
        all[i] = weights[i];
    all[n] = "model.safetensors.index.json";
    all[n + 1] = "config.json";
    memcpy (all + n + 2, names, sizeof names);
    DpsStatus st = dps_seal_write (dir, all, n + n_names + 2, err);
    dps_free (all);
    return st;
}
