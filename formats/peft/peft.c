/* SPDX-License-Identifier: Apache-2.0 */
/*
 * peft.c: dps.format/1 over a PEFT adapter folder: the tensors and metadata of adapter_model.safetensors, and the text of adapter_config.json
 * as metadata "adapter_config.json". What the configuration means is the host's business; adapter_model.bin is refused, a pickle runs code.
 */
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "diapason/diapason.h"
#include "diapason/sdk.h"

#define CONFIG  "adapter_config.json"
#define WEIGHTS "adapter_model.safetensors"
#define PREFIX  "base_model.model."

enum { CONFIG_LIMIT = 4 << 20 };

struct DpsFormatFile {
    const DpsFormat *format; /* of the weights */
    struct DpsFormatFile *weights;
    DpsBuf config;
    uint64_t n_meta; /* of the weights */
};

struct DpsFormatWriter {
    DpsStream to;
    const DpsFormat *format;
    struct DpsFormatWriter *weights;
    DpsBuf config;
};

static DpsHost host;

static DpsStatus find_safetensors (const DpsFormat **out, DpsError *err)
{
    *out = dps_sdk_format (&host, "safetensors");
    return *out ? DPS_OK : dps_fail (err, DPS_ERR_NOT_FOUND, "peft: the safetensors plugin, which it is built on, is not loaded");
}

/* ---- reading ---- */

/* *out: dir has a file of that name. Errors: NOMEM. */
static DpsStatus look_for (const char *dir, const char *name, int *out, DpsError *err)
{
    char *path = dps_path_join (dir, name);
    *out = path && dps_is_file (path);
    dps_free (path);
    return path ? DPS_OK : dps_fail (err, DPS_ERR_NOMEM, "%s: out of memory", dir);
}

static int32_t probe (DpsStr path, const void *head, size_t head_len)
{
    char *dir = dps_strndup (path.ptr, path.len);
    int there = 0;
    if (!head && !head_len && dir)
        (void)look_for (dir, CONFIG, &there, NULL);
    dps_free (dir);
    return there ? 90 : 0;
}

static void close_file (struct DpsFormatFile *f)
{
    if (!f)
        return;
    if (f->weights)
        f->format->close (f->weights);
    dps_buf_free (&f->config);
    dps_free (f);
}

static DpsStatus check_files (const char *dir, DpsError *err)
{
    if (!dps_is_dir (dir))
        return dps_fail (err, DPS_ERR_NOT_FOUND, "%s: no such adapter folder%s", dir,
                         dps_is_file (dir) ? ". Hint: it is a file: name the folder that holds it" : "");
    int config, weights, pickle;
    DPS_TRY (look_for (dir, CONFIG, &config, err));
    DPS_TRY (look_for (dir, WEIGHTS, &weights, err));
    DPS_TRY (look_for (dir, "adapter_model.bin", &pickle, err));
    if (!config)
        return dps_fail (err, DPS_ERR_NOT_FOUND, "%s/" CONFIG ": missing: not a PEFT adapter folder", dir);
    if (weights)
        return DPS_OK;
    if (pickle)
        return dps_fail (
            err, DPS_ERR_POLICY,
            "%s/adapter_model.bin: a pickle can run code when it is opened, so it never is. Hint: in a sandbox, load it with PEFT "
            "and save_pretrained it again, which writes " WEIGHTS,
            dir);
    return dps_fail (err, DPS_ERR_NOT_FOUND, "%s/" WEIGHTS ": missing", dir);
}

static DpsStatus check_names (struct DpsFormatFile *f, const char *dir, DpsError *err)
{
    const size_t prefix = sizeof PREFIX - 1;
    uint64_t n = 0;
    DPS_TRY (f->format->info (f->weights, &n, &f->n_meta, err));
    for (uint64_t i = 0; i < n; i++) {
        DpsTensorInfo t = {.size = sizeof t};
        DPS_TRY (f->format->tensor_info (f->weights, i, &t, err));
        if (t.name.len <= prefix || memcmp (t.name.ptr, PREFIX, prefix) != 0)
            return dps_fail (err, DPS_ERR_FORMAT, "%s/" WEIGHTS ": tensor '%.*s': expected a name that starts with '" PREFIX "'", dir,
                             (int)(t.name.len < 200 ? t.name.len : 200), t.name.ptr);
    }
    return DPS_OK;
}

static DpsStatus read_files (struct DpsFormatFile *f, const char *dir, DpsError *err)
{
    char *config = dps_path_join (dir, CONFIG), *weights = dps_path_join (dir, WEIGHTS);
    json_t *json = NULL;
    DpsStatus st =
        config && weights ? dps_file_read (config, CONFIG_LIMIT, &f->config, err) : dps_fail (err, DPS_ERR_NOMEM, "%s: out of memory", dir);
    if (st == DPS_OK)
        st = f->format->open (dps_str (weights), &f->weights, err);
    if (st == DPS_OK && f->config.len && memchr (f->config.data, '\0', f->config.len))
        st = dps_fail (err, DPS_ERR_FORMAT, "%s: a NUL byte, expected JSON", config);
    if (st == DPS_OK) /* what was cut off is no JSON */
        st = dps_json_parse (f->config.len ? f->config.data : "", f->config.len, config, 1, DPS_JSON_WIDE, &json, err);
    json_decref (json);
    dps_free (config);
    dps_free (weights);
    return st == DPS_OK ? check_names (f, dir, err) : st;
}

static DpsStatus open_file (DpsStr path, struct DpsFormatFile **out, DpsError *err)
{
    struct DpsFormatFile *f = dps_calloc (1, sizeof *f);
    char *dir = dps_strndup (path.ptr, path.len);
    DpsStatus st = f && dir ? check_files (dir, err) : dps_fail (err, DPS_ERR_NOMEM, "%.*s: out of memory", (int)path.len, path.ptr);
    if (st == DPS_OK)
        st = find_safetensors (&f->format, err);
    if (st == DPS_OK)
        st = read_files (f, dir, err);
    dps_free (dir);
    if (st != DPS_OK) {
        close_file (f);
        return st;
    }
    *out = f;
    return DPS_OK;
}

static DpsStatus info (struct DpsFormatFile *f, uint64_t *out_n_tensors, uint64_t *out_n_meta, DpsError *err)
{
    if (out_n_meta)
        *out_n_meta = f->n_meta + 1; /* the configuration comes first */
    return f->format->info (f->weights, out_n_tensors, NULL, err);
}

static DpsStatus tensor_info (struct DpsFormatFile *f, uint64_t i, DpsTensorInfo *out, DpsError *err)
{
    return f->format->tensor_info (f->weights, i, out, err);
}

static DpsStatus meta (struct DpsFormatFile *f, uint64_t i, DpsMeta *out, DpsError *err)
{
    if (i > 0)
        return f->format->meta (f->weights, i - 1, out, err);
    DpsMeta m = {.size = sizeof m, .key = dps_str (CONFIG), .type = DPS_META_STR, .n = 1};
    m.v.s = (DpsStr){f->config.data, f->config.len};
    dps_table_copy (out, out->size < sizeof m ? out->size : sizeof m, &m);
    return DPS_OK;
}

static DpsStatus read_raw (struct DpsFormatFile *f, uint64_t i, uint64_t offset, uint64_t len, void *dst, DpsError *err)
{
    return f->format->read (f->weights, i, offset, len, dst, err);
}

static DpsStatus read_f32 (struct DpsFormatFile *f, uint64_t i, uint64_t first, uint64_t n, float *dst, DpsError *err)
{
    return f->format->read_f32 (f->weights, i, first, n, dst, err);
}

static DpsStatus map_tensor (struct DpsFormatFile *f, uint64_t i, const void **out, DpsError *err)
{
    if (!f->format->map)
        return dps_fail (err, DPS_ERR_UNSUPPORTED, "peft: tensors cannot be mapped");
    return f->format->map (f->weights, i, out, err);
}

static void release (struct DpsFormatFile *f, uint64_t i)
{
    if (f->format->release)
        f->format->release (f->weights, i);
}

/* ---- writing: the weights as they come, then the configuration, so that a folder with one has its weights ---- */

static void abandon (struct DpsFormatWriter *w)
{
    if (!w)
        return;
    if (w->weights)
        w->format->abandon (w->weights);
    dps_buf_free (&w->config);
    dps_free (w);
}

static DpsStatus begin (struct DpsFormatWriter *w, const DpsTensorInfo *const *tensors, uint64_t n_tensors, const DpsMeta *const *meta_list,
                        uint64_t n_meta, DpsError *err)
{
    DpsStream member = {.size = sizeof member};
    uint64_t config = 0;
    DPS_TRY (find_safetensors (&w->format, err));
    while (config < n_meta && !(meta_list[config]->type == DPS_META_STR && dps_str_is (meta_list[config]->key, CONFIG)))
        config++;
    if (config == n_meta || !w->format->create)
        return dps_fail (err, DPS_ERR_INVALID, "peft: %s",
                         config == n_meta ? "no metadata '" CONFIG "' with the configuration" : "the safetensors plugin cannot write");
    const DpsMeta **rest = dps_calloc (n_meta, sizeof *rest);
    if (!rest || dps_buf_add (&w->config, meta_list[config]->v.s.ptr, meta_list[config]->v.s.len)) {
        dps_free (rest);
        return dps_fail (err, DPS_ERR_NOMEM, "peft: out of memory");
    }
    for (uint64_t i = 0, n = 0; i < n_meta; i++)
        if (i != config)
            rest[n++] = meta_list[i];
    DpsStatus st = w->to.open_member (w->to.ctx, dps_str (WEIGHTS), &member, err);
    if (st == DPS_OK)
        st = w->format->create (&member, tensors, n_tensors, rest, n_meta - 1, &w->weights, err);
    dps_free (rest);
    return st;
}

static DpsStatus create (const DpsStream *to, const DpsTensorInfo *const *tensors, uint64_t n_tensors, const DpsMeta *const *meta_list,
                         uint64_t n_meta, struct DpsFormatWriter **out, DpsError *err)
{
    struct DpsFormatWriter *w = dps_calloc (1, sizeof *w);
    if (!w)
        return dps_fail (err, DPS_ERR_NOMEM, "peft: out of memory");
    dps_table_copy (&w->to, sizeof w->to, to);
    DpsStatus st = w->to.open_member && w->to.close_member
                       ? begin (w, tensors, n_tensors, meta_list, n_meta, err)
                       : dps_fail (err, DPS_ERR_UNSUPPORTED, "peft: an adapter is a folder of files and cannot be written into one file");
    if (st != DPS_OK) {
        abandon (w);
        return st;
    }
    *out = w;
    return DPS_OK;
}

static DpsStatus write_bytes (struct DpsFormatWriter *w, const void *data, uint64_t len, DpsError *err)
{
    return w->format->write (w->weights, data, len, err);
}

static DpsStatus finish (struct DpsFormatWriter *w, DpsError *err)
{
    DpsStream member = {.size = sizeof member};
    struct DpsFormatWriter *weights = w->weights;
    w->weights = NULL;
    DpsStatus st = w->format->finish (weights, err);
    if (st == DPS_OK)
        st = w->to.close_member (w->to.ctx, NULL, NULL, err);
    if (st == DPS_OK)
        st = w->to.open_member (w->to.ctx, dps_str (CONFIG), &member, err);
    if (st == DPS_OK)
        st = member.write (member.ctx, w->config.data, w->config.len, err);
    if (st == DPS_OK)
        st = w->to.close_member (w->to.ctx, NULL, NULL, err);
    abandon (w);
    return st;
}

static const DpsFormat format = {
    .size = sizeof (DpsFormat),
    .name = "peft",
    .extensions = "",
    .probe = probe,
    .open = open_file,
    .close = close_file,
    .info = info,
    .tensor_info = tensor_info,
    .meta = meta,
    .read = read_raw,
    .read_f32 = read_f32,
    .map = map_tensor,
    .create = create,
    .write = write_bytes,
    .finish = finish,
    .abandon = abandon,
    .release = release,
};

DPS_PLUGIN_ONE_OF_HOST (DPS_FORMAT_ID, format, host);
