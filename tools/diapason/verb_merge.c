/* SPDX-License-Identifier: Apache-2.0 */
/* verb_merge.c: base and adapter as one model. */
#include <string.h>

#include "diapason/model_options.h"
#include "diapason/open_registry.h"
#include "train/merge.h"

static int run_merge (int argc, char **argv);

const DpsVerb dps_verb_merge = {
    .name = "merge",
    .summary = "a base and its adapters as one model",
    .synopsis = "--model M [--adapter A …] [--format NAME] --out DIR [--max-shard-size 5GB]",
    .help =
        "Writes a Hugging Face folder: model.safetensors (shards of at most --max-shard-size, 5GB), config.json, the tokenizer's files. "
        "Without an adapter the "
        "base\n"
        "itself is written, so that a GGUF becomes such a folder. --dtype: float32 or bfloat16 (default: float32 where the base is).\n"
        "--format NAME: the weights in the format of another plugin; every verb reads the folder while that plugin is there.\n"
        "An earlier merge in DIR is written over; a model of another make, or an adapter, is not.\n\n"
        "Example: diapason merge --model model.gguf --adapter run --format safetensors --out merged",
    .run = run_merge,
};

static char *format, *out, *shard_size;
static const GOptionEntry entries[] = {
    CLI_MODEL_ENTRIES,
    {"format", 0, 0, G_OPTION_ARG_STRING, &format, "safetensors (default), or a format plugin that writes tensors", "NAME"},
    {"max-shard-size", 0, 0, G_OPTION_ARG_STRING, &shard_size, "of one file: 5GB (default), 200MB, or bytes", "SIZE"},
    {"out", 'o', 0, G_OPTION_ARG_FILENAME, &out, "folder to write", "DIR"},
    {NULL, 0, 0, 0, NULL, NULL, NULL},
};

static void show (double share) { cli_progress_paced ("merging", share, 1, 0); }

static int run_merge (int argc, char **argv)
{
    DpsError err = DPS_ERROR_INIT;
    DpsRegistry *reg = NULL;
    uint32_t dtype = 0;
    int code = cli_parse (&dps_verb_merge, entries, &argc, &argv);
    if (code >= 0)
        return code;
    if (argc > 1 || !cli_model.model || !out)
        return cli_usage (&dps_verb_merge, argc > 1 ? "unexpected '%s'" : "%s is missing",
                          argc > 1          ? argv[1]
                          : cli_model.model ? "--out"
                                            : "--model");
    uint64_t shard_bytes = shard_size ? cli_size (shard_size) : DPS_MERGE_SHARD_BYTES;
    if (shard_bytes == 0)
        return cli_usage (&dps_verb_merge, "--max-shard-size is '%s', expected a size such as 5GB or 200MB", shard_size);
    const DpsSessionOptions o = cli_session_options ();
    DpsStatus st = cli_open_registry (&reg, &err);
    if (st == DPS_OK)
        st = dps_merge_check (reg, &o, format, out, &err);
    if (st == DPS_OK)
        st = dps_merge_dtype (reg, cli_model.model, cli_model.dtype, &dtype, &err);
    const DpsMergeOptions how = {.format = format, .dtype = dtype, .shard_bytes = shard_bytes, .progress = show};
    if (st == DPS_OK)
        st = dps_merge (reg, &o, &how, out, &err);
    cli_progress_end ();
    if (reg)
        dps_registry_close (reg);
    return st == DPS_OK ? 0 : cli_fail (&dps_verb_merge, st, &err);
}
