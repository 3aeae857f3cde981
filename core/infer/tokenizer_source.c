/* SPDX-License-Identifier: Apache-2.0 */
#include "infer/tokenizer_source.h"

#include "base/file.h"
#include "base/json.h"
#include "base/log.h"
#include "base/seal.h"

static DpsStatus from_gguf (const DpsSource *source, DpsTokenizer **out, DpsError *err)
{
    size_t n;
    const DpsMeta *const *meta = dps_source_meta (source, &n);
    return dps_tokenizer_from_meta (meta, n, dps_source_path (source), out, err);
}

static DpsStatus from_folder (const DpsRegistry *reg, const DpsSource *source, DpsTokenizer **out, DpsError *err)
{
    const char *folder = dps_source_path (source),
               *named = json_string_value (json_object_get (dps_source_config (source), DPS_CONFIG_TOKENIZER));
    char *file = dps_path_join (folder, "tokenizer.json");
    if (!file)
        return dps_fail (err, DPS_ERR_NOMEM, "%s: out of memory", folder);
    int there = dps_is_file (file);
    dps_free (file);
    if (there)
        return dps_tokenizer_from_folder (folder, out, err);
    if (!named)
        return DPS_OK;
    DpsSource *other;
    DpsStatus st = dps_source_open (reg, named, &other, err);
    if (st == DPS_OK) {
        st = dps_source_is_gguf (other)
                 ? from_gguf (other, out, err)
                 : dps_fail (err, DPS_ERR_FORMAT, "%s: %s names %s, which is no GGUF file", folder, DPS_CONFIG_TOKENIZER, named);
        dps_source_close (other);
    }
    return st;
}

static DpsStatus find (const DpsRegistry *reg, const DpsSource *source, DpsTokenizer **out, DpsError *err)
{
    *out = NULL;
    DpsStatus st = dps_source_is_gguf (source) ? from_gguf (source, out, err) : from_folder (reg, source, out, err);
    return st == DPS_ERR_UNSUPPORTED ? st : dps_error_hint_files (err, st, "tokenizer");
}

DpsStatus dps_tokenizer_from_source (const DpsRegistry *reg, const DpsSource *source, DpsTokenizer **out, DpsError *err)
{
    DpsStatus st = find (reg, source, out, err);
    if (st != DPS_ERR_UNSUPPORTED && st != DPS_ERR_NOT_FOUND)
        return st;
    dps_log (DPS_LOG_WARNING, "%s; only rows of ids can be used", err ? err->msg : "the tokenizer cannot be read");
    return DPS_OK;
}

static DpsStatus require (const DpsRegistry *reg, const char *model, DpsTokenizer **out, DpsError *err)
{
    DpsSource *source;
    DPS_TRY (dps_source_open (reg, model, &source, err));
    DpsStatus st = find (reg, source, out, err);
    if (st == DPS_OK && !*out)
        st = dps_fail (err, DPS_ERR_NOT_FOUND,
                       "%s has no tokenizer. Hint: score, generate and train take rows of input_ids, which need none", model);
    dps_source_close (source);
    return st;
}

DpsStatus dps_tokenizer_open (const DpsRegistry *reg, const char *model, DpsTokenizer **out, DpsError *err)
{
    *out = NULL;
    char *file = dps_path_join (model, "tokenizer.json");
    DpsStatus st = file ? DPS_OK : dps_fail (err, DPS_ERR_NOMEM, "%s: out of memory", model);
    int there = file && dps_is_file (file);
    dps_free (file);
    if (st == DPS_OK && there)
        st = dps_seal_check (model, err);
    if (st == DPS_OK)
        st = there ? dps_error_hint_files (err, dps_tokenizer_from_folder (model, out, err), "tokenizer") : require (reg, model, out, err);
    if (st == DPS_ERR_UNSUPPORTED)
        dps_error_hint (err, "score, generate and train take rows of input_ids, which need none");
    return st;
}
