/* SPDX-License-Identifier: Apache-2.0 */
#include "train/model_files.h"

#include <string.h>

#include "base/file.h"
#include "base/seal.h"
#include "infer/tokenizer_source.h"
#include "token/tokenizer_folder.h"

static const char *const names[] = {"generation_config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json",
                                    DPS_CHAT_FILE};

static DpsStatus no_memory (DpsError *err) { return dps_fail (err, DPS_ERR_NOMEM, "config.json: out of memory"); }

/* The configuration as it is to be written; a new reference, NULL when out of memory. */
static json_t *config_of (const DpsSource *s, const char *dtype)
{
    json_t *config = json_copy (dps_source_config (s));
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

static DpsStatus copy_file (const char *from_dir, const char *to_dir, const char *name, DpsError *err)
{
    char *from = dps_path_join (from_dir, name), *to = dps_path_join (to_dir, name);
    DpsBuf bytes = {0};
    DpsStatus st = from && to ? DPS_OK : no_memory (err);
    if (st == DPS_OK && dps_is_file (from)) {
        st = dps_file_read (from, (size_t)1 << 30, &bytes, err);
        if (st == DPS_OK)
            st = dps_file_write (to, bytes.data, bytes.len, err);
    }
    dps_buf_free (&bytes);
    dps_free (from);
    dps_free (to);
    return st;
}

/* The template for tools, in its folder. */
static DpsStatus copy_tool_template (const char *from_dir, const char *to_dir, DpsError *err)
{
    char *from = dps_path_join (from_dir, DPS_CHAT_TOOL_FILE), *folder = dps_path_join (to_dir, DPS_CHAT_FOLDER);
    DpsStatus st = from && folder ? DPS_OK : no_memory (err);
    if (st == DPS_OK && dps_is_file (from)) {
        st = dps_mkdirs (folder, err);
        if (st == DPS_OK)
            st = copy_file (from_dir, to_dir, DPS_CHAT_TOOL_FILE, err);
    }
    dps_free (from);
    dps_free (folder);
    return st;
}

DpsStatus dps_model_files_write (const DpsSource *source, const char *dtype, const char *dir, DpsError *err)
{
    json_t *config = config_of (source, dtype);
    char *path = dps_path_join (dir, "config.json"), *text = config ? json_dumps (config, JSON_INDENT (2)) : NULL;
    DpsStatus st = text && path ? dps_file_write (path, text, strlen (text), err) : no_memory (err);
    dps_free (text);
    dps_free (path);
    json_decref (config);
    for (size_t i = 0; st == DPS_OK && !dps_source_is_gguf (source) && i < sizeof names / sizeof *names; i++)
        st = copy_file (dps_source_path (source), dir, names[i], err);
    return st == DPS_OK && !dps_source_is_gguf (source) ? copy_tool_template (dps_source_path (source), dir, err) : st;
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

DpsStatus dps_model_files_add (const DpsSource *source, DpsCheckpointWriter *into, DpsError *err)
{
    if (!dps_source_is_gguf (source))
        return dps_ckpt_add_model_files (into, dps_source_path (source), err);
    json_t *config = config_of (source, NULL);
    DpsStatus st = dps_ckpt_add_json (into, "config.json", config, err);
    json_decref (config);
    return st;
}
