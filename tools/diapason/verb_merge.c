/* SPDX-License-Identifier: Apache-2.0 */
/* verb_merge.c: base and adapter as one model. */
#include <string.h>

#include "diapason/model_options.h"
#include "diapason/open_registry.h"
#include "train/merge.h"

static int run_merge (int argc, char **argv);

const DpsVerb dps_verb_merge = {
    .name = "merge",
    .summary = "a base and its adapter as one model",
    .synopsis = "--model M [--adapter A] --format safetensors --out DIR [--max-shard-size 5GB]",
    .help =
        "Writes a Hugging Face folder: model.safetensors (shards of at most --max-shard-size, 5GB), config.json, the tokenizer's files. "
        "Without an adapter the "
        "base\n"
        "itself is written, so that a GGUF becomes such a folder. --dtype: float32 or bfloat16 (default: float32 where the base is).\n\n"
        "Example: diapason merge --model model.gguf --adapter run --format safetensors --out merged",
    .run = run_merge,
};

static char *format, *out, *shard_size;
static const GOptionEntry entries[] = {
    CLI_MODEL_ENTRIES,
    {"format", 0, 0, G_OPTION_ARG_STRING, &format, "safetensors", "FORMAT"},
    {"max-shard-size", 0, 0, G_OPTION_ARG_STRING, &shard_size, "of one file: 5GB (default), 200MB, or bytes", "SIZE"},
    {"out", 'o', 0, G_OPTION_ARG_FILENAME, &out, "folder to write", "DIR"},
    {NULL, 0, 0, 0, NULL, NULL, NULL},
};

static void show (double share) { cli_progress_paced ("merging", share, 1, 0); }

static int check_format (void)
{
    static const char *const later[] = {"gguf", "onnx", "peft", "gguf-adapter", NULL};
    if (!format || !strcmp (format, "safetensors"))
        return -1;
    if (g_strv_contains (later, format))
        return cli_usage (&dps_verb_merge, "--format %s is not implemented in this version; safetensors is", format);
    return cli_usage (&dps_verb_merge, "--format is '%s', expected safetensors", format);
}

static DpsStatus find_dtype (const DpsRegistry *reg, uint32_t *out_dtype, DpsError *err)
{
    DpsExec ex = {0};
    DpsSource *source = NULL;
    DPS_TRY (dps_source_open (reg, cli_model.model, &source, err));
    DpsStatus st = dps_exec_open (&ex, reg, NULL, 0, err);
    const json_t *stored = json_object_get (dps_source_config (source), "dtype");
    stored = stored ? stored : json_object_get (dps_source_config (source), "torch_dtype");
    const char *name = json_string_value (stored); /* NULL too when it is null */
    const char *fallback = name && !strcmp (name, "float32") ? "float32" : "bfloat16";
    if (st == DPS_OK)
        st = dps_session_dtype (&ex, source, cli_model.dtype ? cli_model.dtype : fallback, out_dtype, err);
    dps_exec_close (&ex);
    dps_source_close (source);
    return st;
}

static int run_merge (int argc, char **argv)
{
    DpsError err = DPS_ERROR_INIT;
    DpsRegistry *reg = NULL;
    uint32_t dtype = 0;
    int code = cli_parse (&dps_verb_merge, entries, &argc, &argv);
    if (code < 0)
        code = check_format ();
    if (code >= 0)
        return code;
    if (argc > 1 || !cli_model.model || !out)
        return cli_usage (&dps_verb_merge, argc > 1 ? "unexpected '%s'" : "%s is missing",
                          argc > 1          ? argv[1]
                          : cli_model.model ? "--out"
                                            : "--model");
    uint64_t shard_bytes = cli_size (shard_size ? shard_size : "5GB");
    if (shard_bytes == 0)
        return cli_usage (&dps_verb_merge, "--max-shard-size is '%s', expected a size such as 5GB or 200MB", shard_size);
    const char *device = cli_model.device;
    const DpsSessionOptions o = {.model = cli_model.model,
                                 .adapter = cli_model.adapter,
                                 .devices = device ? &device : NULL,
                                 .n_devices = device ? 1 : 0,
                                 .allow_base_mismatch = cli_model.allow_base_mismatch};
    DpsStatus st = cli_open_registry (&reg, &err);
    if (st == DPS_OK)
        st = find_dtype (reg, &dtype, &err);
    if (st == DPS_OK)
        st = dps_merge (reg, &o, dtype, shard_bytes, out, show, &err);
    cli_progress_end ();
    if (reg)
        dps_registry_close (reg);
    return st == DPS_OK ? 0 : cli_fail (&dps_verb_merge, st, &err);
}
