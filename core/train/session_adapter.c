/* SPDX-License-Identifier: Apache-2.0 */
/*
 * session_adapter.c: PEFT folders put on a model, one on top of the other. Every tensor of a file must find its weight, and every adapted weight
 * its tensor.
 */
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "plugin/params.h"
#include "train/session.h"

static int shape_of (void *ctx, const char *name, uint32_t *rank, int64_t shape[DPS_TENSOR_MAX_RANK])
{
    const DpsSession *s = ctx;
    const DpsSource *source = s->source;
    DpsTensorInfo t = {.size = sizeof t};
    int bias = !strcmp (name, DPS_VALUE_BIAS);
    if (bias || !strcmp (name, DPS_VALUE_WEIGHT) || !strcmp (name, DPS_SCORE_WEIGHT)) { /* the base need not have them */
        *rank = bias ? 1 : 2;
        shape[0] = 1;
        shape[1] = s->model.dec.hidden;
        return 1;
    }
    int64_t at = dps_source_find (source, name);
    if (at < 0 || dps_source_info (source, (size_t)at, &t, NULL) != DPS_OK || t.rank > DPS_TENSOR_MAX_RANK)
        return 0;
    *rank = t.rank;
    memcpy (shape, t.shape, t.rank * sizeof *shape);
    return 1;
}

/* One folder on its way onto the model. */
typedef struct Putting {
    DpsSession *s;
    const DpsSessionOptions *o;
    const char *path;
    DpsPeftAdapter *a; /* borrowed from the session */
    int frozen;
} Putting;

/* What it was trained on top of is what lies under it. */
static DpsStatus check_under (const Putting *p, DpsError *err)
{
    const char *here = p->s->under.data ? p->s->under.data : "", *was = p->a->under ? p->a->under : "";
    if (!strcmp (here, was))
        return DPS_OK;
    if (!*was) {
        if (p->a->base_sha256[0])
            dps_log (DPS_LOG_WARNING, "%s was trained on the base alone, and other adapters lie under it now", p->path);
        return DPS_OK;
    }
    if (p->o->allow_base_mismatch) {
        dps_log (DPS_LOG_WARNING, "%s was trained on top of other adapters than lie under it now", p->path);
        return DPS_OK;
    }
    return dps_fail (
        err, DPS_ERR_DIGEST,
        "%s: trained on top of frozen adapters (weights' digest %.12s…), and under it %s%.12s%s. Hint: name those first (--adapter "
        "FIRST --adapter %s; frozen_adapters in a recipe); --allow-base-mismatch uses it all the same",
        p->path, was, *here ? "lies " : "lies none", here, *here ? "…" : "", p->path);
}

static DpsStatus check_base (const Putting *p, DpsError *err)
{
    DpsSession *s = p->s;
    const DpsSessionOptions *o = p->o;
    const DpsDigest *base = NULL;
    const char *expected = NULL;
    if (!p->a->base_sha256[0])
        dps_log (DPS_LOG_INFO, "%s does not say which base it was trained on: only shapes were compared", p->path);
    else {
        DPS_TRY (dps_session_base (s, &base, err));
        expected = base->hex;
    }
    DpsStatus st = dps_peft_check_base (p->a, shape_of, s, o->allow_base_mismatch ? NULL : expected, err);
    if (st == DPS_ERR_DIGEST)
        dps_fail (err, st,
                  "%s: trained on the base with digest %.12s…, %s has %.12s…: the shapes fit, the weights differ. Hint: "
                  "--allow-base-mismatch (in a recipe allow_base_mismatch: true) uses it all the same",
                  p->path, p->a->base_sha256, o->model, expected);
    else if (st != DPS_OK) {
        dps_error_prefix (err, "%s", p->path);
        dps_error_hint (err, "give the model that base_model_name_or_path in its " DPS_CKPT_ADAPTER_CONFIG " names");
    }
    if (st == DPS_OK && expected && strcmp (expected, p->a->base_sha256) != 0)
        dps_log (DPS_LOG_WARNING, "%s was trained on other weights than those of %s", p->path, o->model);
    return st == DPS_OK ? check_under (p, err) : st;
}

typedef struct Lookup {
    const DpsPeftConfig *config;
    const double *dropout;
    size_t r, alpha, n; /* where the plugin has these among its n numbers; n: nowhere */
} Lookup;

/* A parameter of a plugin that PEFT does not know. */
static int plugin_param (const DpsPeftConfig *c, const char *name, DpsParamValue *out)
{
    const json_t *v = json_object_get (c->plugin_args, name);
    *out = (DpsParamValue){.type = json_is_string (v)    ? DPS_PARAM_STR
                                   : json_is_boolean (v) ? DPS_PARAM_BOOL
                                   : json_is_integer (v) ? DPS_PARAM_I64
                                                         : DPS_PARAM_F64,
                           .num = json_is_boolean (v) ? json_is_true (v) : json_number_value (v),
                           .str = {json_string_value (v), json_string_length (v)},
                           .where = DPS_CKPT_ADAPTER_CONFIG};
    return json_is_string (v) || json_is_boolean (v) || json_is_number (v);
}

static int adapter_param (void *ctx, const char *name, DpsParamValue *out)
{
    const Lookup *l = ctx;
    const DpsPeftConfig *c = l->config;
    if (c->plugin && !(l->dropout && !strcmp (name, "dropout")))
        return plugin_param (c, name, out);
    *out = (DpsParamValue){.type = DPS_PARAM_F64, .where = DPS_CKPT_ADAPTER_CONFIG};
    if (!strcmp (name, "r")) {
        out->type = DPS_PARAM_I64;
        out->num = (double)c->r;
    } else if (!strcmp (name, "alpha"))
        out->num = c->lora_alpha;
    else if (!strcmp (name, "dropout"))
        out->num = l->dropout ? *l->dropout : c->lora_dropout;
    else if (!strcmp (name, "use_rslora")) {
        out->type = DPS_PARAM_BOOL;
        out->num = c->use_rslora;
    } else
        return 0;
    return 1;
}

/* rank_pattern and alpha_pattern; that no expression runs too long was seen when the file was opened. */
static void module_numbers (void *ctx, const char *module, double *num)
{
    const Lookup *l = ctx;
    if (l->r < l->n)
        num[l->r] = dps_pattern_map_get (l->config->ranks, module, num[l->r]);
    if (l->alpha < l->n)
        num[l->alpha] = dps_pattern_map_get (l->config->alphas, module, num[l->alpha]);
}

static DpsStatus attach (const Putting *p, DpsError *err)
{
    static const double no_dropout = 0;
    DpsSession *s = p->s;
    const DpsPeftConfig *c = &p->a->config;
    const char *name = c->plugin ? c->plugin : c->use_dora ? "dora" : "lora";
    const DpsAdapter *plugin = dps_registry_get (s->reg, DPS_ADAPTER_ID, name);
    if (!plugin)
        return dps_registry_missing (s->reg, DPS_ADAPTER_ID, name, err);
    const DpsAdapterInfo *info = plugin->describe ();
    Lookup lookup = {c, p->frozen ? &no_dropout : p->o->dropout, dps_params_index (info->params, info->n_params, "r"),
                     dps_params_index (info->params, info->n_params, "alpha"), info->n_params};
    double num[DPS_PARAMS_MAX];
    DpsStr str[DPS_PARAMS_MAX];
    if (!c->plugin && (lookup.r == lookup.n || lookup.alpha == lookup.n))
        return dps_fail (err, DPS_ERR_UNSUPPORTED, "adapter plugin '%s' has no parameters r and alpha, which adapter files give", name);
    DPS_TRY (dps_params_resolve (name, info->params, info->n_params, adapter_param, &lookup, num, str, err));
    DpsTargets *targets = NULL;
    DPS_TRY (dps_targets_new (&c->targets, &targets, err));
    const DpsAttach attach = {.adapter = plugin,
                              .num = num,
                              .str = str,
                              .targets = targets,
                              .pattern = module_numbers,
                              .ctx = &lookup,
                              .trainable = p->o->training && !p->frozen};
    DpsStatus st = dps_model_attach (&s->model, &attach, err);
    dps_targets_free (targets);
    return st;
}

/* The file's tensor of an attached weight "MODULE.SUFFIX", or -1. */
static int64_t tensor_of (const DpsPeftAdapter *a, const char *weight)
{
    char key[1200];
    if (a->config.plugin) {
        snprintf (key, sizeof key, DPS_PEFT_PREFIX "%s", weight);
        return dps_tensors_find (a->file, key);
    }
    for (size_t i = 0; i < a->n_modules; i++) {
        const DpsPeftModule *m = &a->modules[i];
        size_t n = strlen (m->path);
        if (strncmp (weight, m->path, n) != 0 || weight[n] != '.')
            continue;
        const char *suffix = weight + n + 1;
        if (!strcmp (suffix, "lora_A.weight"))
            return m->a;
        if (!strcmp (suffix, "lora_B.weight"))
            return m->b;
        if (!strcmp (suffix, "lora_magnitude_vector"))
            return m->magnitude;
    }
    return -1;
}

/* Weights [first, …) of the model are what this adapter brought. */
static DpsStatus map_attached (const Putting *p, size_t first, DpsError *err)
{
    DpsSession *s = p->s;
    const DpsPeftAdapter *a = p->a;
    for (size_t i = first; i < s->model.n_weights; i++) {
        const DpsWeight *w = &s->model.weights[i];
        if (dps_model_is_head (&s->model, (int32_t)i))
            continue; /* map_saved */
        s->tensors[i] = (DpsAdapterTensor){a, tensor_of (a, w->name)};
        if (s->tensors[i].tensor < 0)
            return dps_fail (err, DPS_ERR_FORMAT, "%s: no tensor '" DPS_PEFT_PREFIX "%s', though target_modules selects its module",
                             p->path, w->name);
        const DpsTensorInfo *t = dps_tensors_at (a->file, (size_t)s->tensors[i].tensor);
        int same = t->n_elements == (uint64_t)dps_weight_elements (w) && (!a->config.plugin || t->rank == w->rank);
        if (!same || (a->config.plugin && w->rank == 2 && t->shape[0] != w->shape[0]))
            return dps_fail (err, DPS_ERR_SHAPE, "%s: '%.*s' has %llu numbers, expected %lld", p->path, (int)t->name.len, t->name.ptr,
                             (unsigned long long)t->n_elements, (long long)dps_weight_elements (w));
    }
    for (size_t i = 0; i < a->n_modules; i++) {
        char name[1100];
        snprintf (name, sizeof name, "%.1000s.weight", a->modules[i].path);
        const int32_t base = dps_model_find (&s->model, name);
        if (base < 0 || !dps_model_site (&s->model, (size_t)base))
            return dps_fail (err, DPS_ERR_UNSUPPORTED,
                             "%s: adapts '%.300s', which is not one of the linear maps of the layers; adapters on other modules are not "
                             "implemented",
                             p->path, a->modules[i].path);
    }
    return DPS_OK;
}

static int is_value (const char *name) { return !strcmp (name, DPS_VALUE_WEIGHT) || !strcmp (name, DPS_VALUE_BIAS); }

/* modules_to_save: whole weights that replace the base's, or those of an adapter below. */
static DpsStatus map_saved (const Putting *p, DpsError *err)
{
    DpsSession *s = p->s;
    const DpsPeftAdapter *a = p->a;
    for (size_t i = 0; i < a->n_saved; i++) {
        int32_t w = dps_model_find (&s->model, a->saved[i].name);
        if (w < 0 && is_value (a->saved[i].name)) {
            dps_log (DPS_LOG_INFO, "%s: its value head ('%s') is left aside: only a policy that is trained reads it", p->path,
                     a->saved[i].name);
            continue;
        }
        if (w < 0 || ((size_t)w >= s->model.n_base && !dps_model_is_head (&s->model, w)))
            return dps_fail (err, DPS_ERR_UNSUPPORTED, "%s: replaces '%.300s', which a %s model of this shape does not have", p->path,
                             a->saved[i].name, s->model.dec.arch);
        s->tensors[w] = (DpsAdapterTensor){a, a->saved[i].tensor};
        s->model.weights[w].trainable = p->o->training && !p->frozen;
    }
    return DPS_OK;
}

static int has_score (const DpsPeftAdapter *a)
{
    for (size_t i = 0; i < a->n_saved; i++)
        if (!strcmp (a->saved[i].name, DPS_SCORE_WEIGHT))
            return 1;
    return 0;
}

static int is_gguf (const char *path)
{
    size_t n = strlen (path);
    return n > 5 && !strcmp (path + n - 5, ".gguf");
}

static DpsStatus grow_tensors (DpsSession *s, DpsError *err)
{
    size_t n = s->model.n_weights;
    DpsAdapterTensor *grown = dps_realloc (s->tensors, n, sizeof *grown);
    if (!grown)
        return dps_fail (err, DPS_ERR_NOMEM, "adapter: out of memory");
    for (size_t i = s->n_tensors; i < n; i++)
        grown[i] = (DpsAdapterTensor){0};
    s->tensors = grown;
    s->n_tensors = n;
    return DPS_OK;
}

/* The adapter that has been opened, onto the model. */
static DpsStatus put_on (const Putting *p, DpsError *err)
{
    DpsSession *s = p->s;
    size_t first = s->model.n_weights;
    DPS_TRY (check_base (p, err));
    if (p->frozen && has_score (p->a))
        return dps_fail (err, DPS_ERR_UNSUPPORTED, "%s: a reward model's adapter cannot lie under another", p->path);
    if (p->a->n_modules)
        DPS_TRY (attach (p, err));
    if (!p->frozen && (p->o->score || (!p->o->training && has_score (p->a))))
        DPS_TRY (dps_model_add_score (&s->model, p->o->training, err));
    if (!p->frozen && p->o->value)
        DPS_TRY (dps_model_add_value (&s->model, p->o->training, err));
    DPS_TRY (grow_tensors (s, err));
    DPS_TRY (map_attached (p, first, err));
    return map_saved (p, err);
}

static DpsStatus open_folder (const DpsSession *s, const char *path, DpsPeftAdapter **out, DpsError *err)
{
    const DpsFormat *format = dps_registry_get (s->reg, DPS_FORMAT_ID, "peft");
    if (!format)
        return dps_registry_missing (s->reg, DPS_FORMAT_ID, "peft", err);
    if (is_gguf (path))
        return dps_fail (err, DPS_ERR_UNSUPPORTED, "%s: GGUF adapters are not implemented; give a PEFT folder", path);
    return dps_peft_open (path, format, out, err);
}

/* As PEFT has it: unless it ties them, an adapter that brings embedding or head leaves the other as it was. */
static int unties (const DpsPeftAdapter *a)
{
    for (size_t i = 0; i < a->n_saved && !a->config.ensure_weight_tying; i++)
        if (!strcmp (a->saved[i].name, DPS_PEFT_TIED_HEAD) || !strcmp (a->saved[i].name, "model.embed_tokens.weight"))
            return 1;
    return 0;
}

DpsStatus dps__session_open_adapters (DpsSession *s, const DpsSessionOptions *o, int *out_unties, DpsError *err)
{
    *out_unties = 0;
    s->frozen = dps_calloc (o->n_frozen, sizeof *s->frozen);
    if (!s->frozen)
        return dps_fail (err, DPS_ERR_NOMEM, "adapter: out of memory");
    for (; s->n_frozen < o->n_frozen; s->n_frozen++) {
        DPS_TRY (dps_recipe_named (o->recipe, DPS_KEY_frozen_adapters,
                                   open_folder (s, o->frozen[s->n_frozen], &s->frozen[s->n_frozen], err), err));
        *out_unties |= unties (s->frozen[s->n_frozen]);
    }
    if (o->adapter) {
        DPS_TRY (dps_recipe_named (o->recipe, DPS_KEY_adapter_init, open_folder (s, o->adapter, &s->adapter, err), err));
        *out_unties |= unties (s->adapter);
    }
    return DPS_OK;
}

static DpsStatus put_frozen (DpsSession *s, const DpsSessionOptions *o, size_t i, DpsError *err)
{
    DpsDigest digest;
    const char *path = o->frozen[i];
    DPS_TRY (put_on (&(const Putting){.s = s, .o = o, .path = path, .a = s->frozen[i], .frozen = 1}, err));
    DPS_TRY (dps_tensors_digest (s->frozen[i]->file, &digest, err));
    if (dps_buf_str (&s->under, s->under.len ? "," : "") || dps_buf_str (&s->under, digest.hex))
        return dps_fail (err, DPS_ERR_NOMEM, "adapter: out of memory");
    return dps_model_freeze (&s->model, err);
}

DpsStatus dps__session_attach (DpsSession *s, const DpsSessionOptions *o, DpsError *err)
{
    for (size_t i = 0; i < s->n_frozen; i++)
        DPS_TRY (put_frozen (s, o, i, err));
    return s->adapter ? put_on (&(const Putting){.s = s, .o = o, .path = o->adapter, .a = s->adapter}, err) : DPS_OK;
}

int dps_session_adapter_has (const DpsSession *s, int32_t weight) { return (size_t)weight < s->n_tensors && s->tensors[weight].adapter; }

DpsStatus dps_session_adapter_values (DpsSession *s, int32_t weight, float *out, DpsError *err)
{
    const DpsWeight *w = &s->model.weights[weight];
    if (!dps_session_adapter_has (s, weight))
        return dps_fail (err, DPS_ERR_NOT_FOUND, "adapter: no values for '%s'", w->name);
    const DpsAdapterTensor *t = &s->tensors[weight];
    return dps_tensors_read_f32 (t->adapter->file, (size_t)t->tensor, out, (uint64_t)dps_weight_elements (w), err);
}

DpsStatus dps__session_adapter_load (DpsSession *s, DpsError *err)
{
    for (size_t i = 0; i < s->n_tensors; i++) {
        if (!s->tensors[i].adapter)
            continue;
        float *values = dps_malloc ((size_t)dps_weight_elements (&s->model.weights[i]), sizeof *values);
        if (!values)
            return dps_fail (err, DPS_ERR_NOMEM, "adapter: out of memory for '%s'", s->model.weights[i].name);
        DpsStatus st = dps_session_adapter_values (s, (int32_t)i, values, err);
        if (st == DPS_OK)
            st = dps_weights_set (&s->weights, (int32_t)i, values, err);
        s->fresh[i] = 0;
        dps_free (values);
        DPS_TRY (st);
    }
    return DPS_OK;
}
