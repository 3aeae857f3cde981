/* SPDX-License-Identifier: Apache-2.0 */
/* config.c: what the architectures share in reading config.json, in transformers 5's layout and in the classic one. */
#include <math.h>
#include <string.h>

#include "graph/decoder.h"

#define ARCH(name) extern const DpsArch dps_arch_##name;
#include "archs.inc"
#undef ARCH

static const DpsArch *const archs[] = {
#define ARCH(name) &dps_arch_##name,
#include "archs.inc"
#undef ARCH
    NULL};

/* Keys whose meaning would silently be the default if their value were of another type. */
static DpsStatus check_types (const json_t *config, DpsError *err)
{
    static const char *const bools[] = {"tie_word_embeddings", "attention_bias", "mlp_bias", "use_sliding_window",
                                        "use_bidirectional_attention"};
    for (size_t i = 0; i < sizeof bools / sizeof *bools; i++) {
        const json_t *v = json_object_get (config, bools[i]);
        if (v && !json_is_boolean (v) && !json_is_null (v))
            return dps_fail (err, DPS_ERR_FORMAT, "config.json: \"%s\" must be true, false or null", bools[i]);
    }
    static const struct {
        const char *key;
        int64_t lo;
    } ints[] = {{"sliding_window_pattern", 1}, {"_sliding_window_pattern", 1}, {"max_window_layers", 0}};
    for (size_t i = 0; i < sizeof ints / sizeof *ints; i++) {
        int64_t unused;
        DPS_TRY (dps_config_int (config, ints[i].key, ints[i].lo, 1 << 30, ints[i].lo, &unused, err));
    }
    const json_t *types = json_object_get (config, "layer_types");
    return !types || json_is_array (types) || json_is_null (types)
               ? DPS_OK
               : dps_fail (err, DPS_ERR_FORMAT, "config.json: \"layer_types\" must be a list");
}

static DpsStatus read_with (const DpsArch *arch, const json_t *config, DpsDecoder *out, DpsError *err)
{
    json_t *whole = NULL;
    memset (out, 0, sizeof *out);
    out->arch = arch->name;
    DpsStatus st = dps_json_parse (arch->defaults, strlen (arch->defaults), arch->name, 1, 0, &whole, err);
    if (st == DPS_OK)
        st = json_object_update (whole, (json_t *)config) ? dps_fail (err, DPS_ERR_NOMEM, "config.json: out of memory")
                                                          : check_types (whole, err);
    if (st == DPS_OK)
        st = arch->read (whole, out, err);
    json_decref (whole);
    return st;
}

DpsStatus dps_decoder_read (const json_t *config, DpsDecoder *out, DpsError *err)
{
    const char *type = json_string_value (json_object_get (config, "model_type"));
    char known[256] = "";
    for (int i = 0; archs[i]; i++) {
        for (const char *const *t = archs[i]->model_types; type && *t; t++)
            if (!strcmp (*t, type))
                return read_with (archs[i], config, out, err);
        size_t n = strlen (known);
        snprintf (known + n, sizeof known - n, "%s%s", n ? ", " : "", archs[i]->name);
    }
    if (!type)
        return dps_fail (err, DPS_ERR_FORMAT, "config.json: no \"model_type\"");
    return dps_fail (err, DPS_ERR_UNSUPPORTED, "config.json: model_type \"%.60s\" has no architecture here; there are: %s", type, known);
}

DpsStatus dps_config_int (const json_t *config, const char *key, int64_t lo, int64_t hi, int64_t fallback, int64_t *out, DpsError *err)
{
    const json_t *v = json_object_get (config, key);
    if (!v || json_is_null (v)) {
        *out = fallback;
        return fallback >= lo && fallback <= hi ? DPS_OK : dps_fail (err, DPS_ERR_FORMAT, "config.json: \"%s\" is missing", key);
    }
    *out = (int64_t)json_integer_value (v);
    if (!json_is_integer (v) || *out < lo || *out > hi)
        return dps_fail (err, DPS_ERR_FORMAT, "config.json: \"%s\" must be an integer in [%lld, %lld]", key, (long long)lo, (long long)hi);
    return DPS_OK;
}

static DpsStatus read_number (const json_t *config, const char *key, double fallback, double *out, DpsError *err)
{
    const json_t *v = json_object_get (config, key);
    *out = fallback;
    if (!v || json_is_null (v))
        return DPS_OK;
    *out = json_number_value (v);
    if (!json_is_number (v) || !isfinite (*out))
        return dps_fail (err, DPS_ERR_FORMAT, "config.json: \"%s\" must be a number", key);
    return DPS_OK;
}

DpsStatus dps_config_positive (const json_t *config, const char *key, double fallback, double *out, DpsError *err)
{
    DPS_TRY (read_number (config, key, fallback, out, err));
    return *out == fallback || ((float)*out > 0 && isfinite ((float)*out))
               ? DPS_OK
               : dps_fail (err, DPS_ERR_FORMAT, "config.json: \"%s\" is %g, expected a positive number of f32", key, *out);
}

int dps_config_bool (const json_t *config, const char *key, int fallback)
{
    const json_t *v = json_object_get (config, key);
    return json_is_boolean (v) ? json_is_true (v) : fallback;
}

DpsStatus dps_config_activation (const json_t *config, const char *key, const char *const *wanted, DpsError *err)
{
    const json_t *v = json_object_get (config, key);
    if (!v || json_is_null (v))
        return DPS_OK;
    for (const char *const *w = wanted; *w; w++)
        if (json_is_string (v) && !strcmp (json_string_value (v), *w))
            return DPS_OK;
    return dps_fail (err, DPS_ERR_UNSUPPORTED, "config.json: \"%s\" is \"%.60s\", expected \"%s\"", key,
                     json_is_string (v) ? json_string_value (v) : "not a name", wanted[0]);
}

/* eos may be a list: the first one. */
static int32_t token_id (const json_t *config, const char *key)
{
    const json_t *v = json_object_get (config, key);
    if (json_is_array (v))
        v = json_array_get (v, 0);
    json_int_t id = json_is_integer (v) ? json_integer_value (v) : -1;
    return id >= 0 && id < INT32_MAX ? (int32_t)id : -1;
}

static int is_end (const DpsDecoder *dec, json_int_t id)
{
    for (uint32_t i = 0; i < dec->n_more_ends; i++)
        if (dec->more_ends[i] == id)
            return 1;
    return dec->eos == id;
}

void dps_decoder_add_ends (DpsDecoder *dec, const json_t *ids)
{
    size_t n = json_is_array (ids) ? json_array_size (ids) : 1;
    for (size_t i = 0; i < n && dec->n_more_ends < DPS_MAX_ENDS; i++) {
        const json_t *v = json_is_array (ids) ? json_array_get (ids, i) : ids;
        json_int_t id = json_is_integer (v) ? json_integer_value (v) : -1;
        if (id >= 0 && id < dec->vocab && !is_end (dec, id))
            dec->more_ends[dec->n_more_ends++] = (int32_t)id;
    }
}

DpsStatus dps_config_common (const json_t *config, DpsDecoder *out, DpsError *err)
{
    const int64_t big = 1 << 24;
    DPS_TRY (dps_config_int (config, "vocab_size", 1, big, -1, &out->vocab, err));
    DPS_TRY (dps_config_int (config, "hidden_size", 1, 1 << 20, -1, &out->hidden, err));
    DPS_TRY (dps_config_int (config, "intermediate_size", 1, 1 << 22, -1, &out->ffn, err));
    DPS_TRY (dps_config_int (config, "num_hidden_layers", 1, DPS_MAX_LAYERS, -1, &out->n_layers, err));
    DPS_TRY (dps_config_int (config, "num_attention_heads", 1, 4096, -1, &out->n_heads, err));
    DPS_TRY (dps_config_int (config, "num_key_value_heads", 1, 4096, out->n_heads, &out->n_kv_heads, err));
    DPS_TRY (dps_config_int (config, "head_dim", 1, 8192, out->hidden / out->n_heads, &out->head_dim, err));
    DPS_TRY (dps_config_int (config, "max_position_embeddings", 1, 1 << 30, 1 << 17, &out->max_position, err));
    DPS_TRY (read_number (config, "rms_norm_eps", 1e-6, &out->eps, err));
    if (out->n_heads % out->n_kv_heads)
        return dps_fail (err, DPS_ERR_FORMAT, "config.json: \"num_attention_heads\" %lld is not a multiple of \"num_key_value_heads\" %lld",
                         (long long)out->n_heads, (long long)out->n_kv_heads);
    if (out->eps < 0)
        return dps_fail (err, DPS_ERR_FORMAT, "config.json: \"rms_norm_eps\" must not be negative");
    if (out->head_dim % 2)
        return dps_fail (err, DPS_ERR_FORMAT, "config.json: \"head_dim\" %lld is odd: rope rotates pairs", (long long)out->head_dim);
    out->embed_scale = 1;
    out->attn_scale = 1 / sqrt ((double)out->head_dim);
    out->gate = DPS_OP_swiglu;
    out->tied = (uint8_t)dps_config_bool (config, "tie_word_embeddings", 0);
    out->bos = token_id (config, "bos_token_id");
    out->eos = token_id (config, "eos_token_id");
    dps_decoder_add_ends (out, json_object_get (config, "eos_token_id"));
    return DPS_OK;
}

static DpsStatus whole_rotation (const json_t *object, DpsError *err)
{
    double part;
    DPS_TRY (read_number (object, "partial_rotary_factor", 1, &part, err));
    return part == 1 ? DPS_OK
                     : dps_fail (err, DPS_ERR_UNSUPPORTED,
                                 "config.json: \"partial_rotary_factor\" is %g: heads rotated in part only are "
                                 "not implemented",
                                 part);
}

static DpsStatus llama3_rope (const json_t *scaling, const json_t *config, DpsRope *out, DpsError *err)
{
    double max_position;
    out->type = DPS_ROPE_LLAMA3;
    DPS_TRY (read_number (config, "max_position_embeddings", 8192, &max_position, err));
    DPS_TRY (read_number (scaling, "low_freq_factor", 1, &out->low_freq_factor, err));
    DPS_TRY (read_number (scaling, "high_freq_factor", 4, &out->high_freq_factor, err));
    DPS_TRY (read_number (scaling, "original_max_position_embeddings", max_position, &out->original_max_position, err));
    if (!(out->high_freq_factor > out->low_freq_factor && out->low_freq_factor > 0 && out->original_max_position > 0))
        return dps_fail (err, DPS_ERR_FORMAT,
                         "config.json: llama3 rope scaling needs 0 < low_freq_factor < high_freq_factor and "
                         "original_max_position_embeddings > 0");
    return DPS_OK;
}

DpsStatus dps_config_rope (const json_t *config, const json_t *parameters, double default_theta, DpsRope *out, DpsError *err)
{
    if (parameters && !json_is_object (parameters) && !json_is_null (parameters))
        return dps_fail (err, DPS_ERR_FORMAT, "config.json: \"rope_parameters\" must be an object");
    parameters = json_is_object (parameters) ? parameters : NULL;
    const json_t *scaling = parameters ? parameters : json_object_get (config, "rope_scaling");
    double theta;
    *out = (DpsRope){.factor = 1};
    DPS_TRY (whole_rotation (config, err));
    DPS_TRY (whole_rotation (parameters, err));
    DPS_TRY (dps_config_positive (config, "rope_theta", default_theta, &theta, err));
    DPS_TRY (dps_config_positive (parameters, "rope_theta", theta, &out->theta, err));
    if (!json_is_object (scaling))
        return !scaling || json_is_null (scaling) ? DPS_OK
                                                  : dps_fail (err, DPS_ERR_FORMAT, "config.json: \"rope_scaling\" must be an object");
    const json_t *type = json_object_get (scaling, "rope_type");
    const char *name = json_string_value (type ? type : json_object_get (scaling, "type"));
    DPS_TRY (dps_config_positive (scaling, "factor", 1, &out->factor, err));
    if (!name || !strcmp (name, "default"))
        return DPS_OK;
    if (!strcmp (name, "linear"))
        out->type = DPS_ROPE_LINEAR;
    else if (!strcmp (name, "llama3"))
        return llama3_rope (scaling, config, out, err);
    else
        return dps_fail (err, DPS_ERR_UNSUPPORTED, "config.json: rope type \"%.60s\" is not supported; there are: default, linear, llama3",
                         name);
    return DPS_OK;
}

DpsStatus dps_config_layers (const json_t *config, int64_t window, int (*is_sliding) (const json_t *config, int64_t layer), DpsDecoder *out,
                             DpsError *err)
{
    const json_t *types = json_object_get (config, "layer_types");
    if (json_is_array (types) && (int64_t)json_array_size (types) != out->n_layers)
        return dps_fail (err, DPS_ERR_FORMAT, "config.json: \"layer_types\" has %zu entries, expected num_hidden_layers %lld",
                         json_array_size (types), (long long)out->n_layers);
    for (int64_t i = 0; i < out->n_layers; i++) {
        int sliding = is_sliding ? is_sliding (config, i) : 0;
        if (json_is_array (types)) {
            const char *type = json_string_value (json_array_get (types, (size_t)i));
            if (!type || (strcmp (type, "sliding_attention") && strcmp (type, "full_attention")))
                return dps_fail (err, DPS_ERR_UNSUPPORTED,
                                 "config.json: layer_types[%lld] is \"%.60s\", expected full_attention or sliding_attention", (long long)i,
                                 type ? type : "?");
            sliding = type[0] == 's';
        }
        if (sliding && window == 0)
            return dps_fail (err, DPS_ERR_FORMAT, "config.json: layer %lld slides, but there is no \"sliding_window\"%s", (long long)i,
                             json_is_false (json_object_get (config, "use_sliding_window")) ? " (\"use_sliding_window\" is false)" : "");
        out->layers[i].window = sliding ? (int32_t)window : 0;
    }
    return DPS_OK;
}

void dps_rope_table (const DpsRope *r, int64_t head_dim, float *out)
{
    for (int64_t i = 0; i < head_dim / 2; i++) {
        float exponent = (float)(2 * i) / (float)head_dim;
        float f = 1.0f / powf ((float)r->theta, exponent);
        if (r->type == DPS_ROPE_LINEAR)
            f = f / (float)r->factor;
        if (r->type == DPS_ROPE_LLAMA3) {
            double wavelength = 2 * 3.14159265358979323846 / (double)f;
            double low = r->original_max_position / r->low_freq_factor, high = r->original_max_position / r->high_freq_factor;
            double smooth = (r->original_max_position / wavelength - r->low_freq_factor) / (r->high_freq_factor - r->low_freq_factor);
            if (wavelength > low)
                f = (float)((double)f / r->factor);
            else if (wavelength >= high)
                f = (float)((1 - smooth) * (double)f / r->factor + smooth * (double)f);
        }
        out[i] = f;
    }
}
