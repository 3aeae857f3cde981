/* SPDX-License-Identifier: Apache-2.0 */
/* model.c: the weights of a decoder by name, and which of them train. */
#include "graph/model.h"

#include <string.h>

#include "base/mem.h"

static int32_t add_weight (DpsModel *m, DpsWeightRole role, int32_t layer, uint32_t rank, int64_t rows, int64_t cols, char *name,
                           DpsError *err)
{
    if (!name || DPS_GROW (m->weights, m->n_weights, m->weight_capacity)) {
        dps_free (name);
        dps_fail (err, DPS_ERR_NOMEM, "model: out of memory");
        return -1;
    }
    m->weights[m->n_weights] = (DpsWeight){.name = name, .role = role, .rank = rank, .shape = {rows, cols}, .layer = layer, .base = -1};
    return (int32_t)m->n_weights++;
}

typedef struct LayerField {
    size_t offset;
    DpsWeightRole role;
    const char *name;
    int64_t rows, cols; /* cols 0: a vector */
    int present;
} LayerField;

static DpsStatus add_layer (DpsModel *m, int32_t i, DpsError *err)
{
    const DpsDecoder *d = &m->dec;
    int64_t D = d->hidden, F = d->ffn, q = d->n_heads * d->head_dim, kv = d->n_kv_heads * d->head_dim, h = d->head_dim;
#define FIELD(f) offsetof (DpsLayerWeights, f)
    const LayerField fields[] = {
        {FIELD (input_norm), DPS_WEIGHT_NORM, "input_layernorm.weight", D, 0, 1},
        {FIELD (q), DPS_WEIGHT_LINEAR, "self_attn.q_proj.weight", q, D, 1},
        {FIELD (k), DPS_WEIGHT_LINEAR, "self_attn.k_proj.weight", kv, D, 1},
        {FIELD (v), DPS_WEIGHT_LINEAR, "self_attn.v_proj.weight", kv, D, 1},
        {FIELD (o), DPS_WEIGHT_LINEAR, "self_attn.o_proj.weight", D, q, 1},
        {FIELD (q_bias), DPS_WEIGHT_BIAS, "self_attn.q_proj.bias", q, 0, d->qkv_bias},
        {FIELD (k_bias), DPS_WEIGHT_BIAS, "self_attn.k_proj.bias", kv, 0, d->qkv_bias},
        {FIELD (v_bias), DPS_WEIGHT_BIAS, "self_attn.v_proj.bias", kv, 0, d->qkv_bias},
        {FIELD (o_bias), DPS_WEIGHT_BIAS, "self_attn.o_proj.bias", D, 0, d->o_bias},
        {FIELD (q_norm), DPS_WEIGHT_NORM, "self_attn.q_norm.weight", h, 0, d->qk_norm},
        {FIELD (k_norm), DPS_WEIGHT_NORM, "self_attn.k_norm.weight", h, 0, d->qk_norm},
        {FIELD (post_attention_norm), DPS_WEIGHT_NORM, "post_attention_layernorm.weight", D, 0, d->post_norms},
        {FIELD (pre_ffn_norm), DPS_WEIGHT_NORM, d->post_norms ? "pre_feedforward_layernorm.weight" : "post_attention_layernorm.weight", D,
         0, 1},
        {FIELD (post_ffn_norm), DPS_WEIGHT_NORM, "post_feedforward_layernorm.weight", D, 0, d->post_norms},
        {FIELD (gate), DPS_WEIGHT_LINEAR, "mlp.gate_proj.weight", F, D, 1},
        {FIELD (up), DPS_WEIGHT_LINEAR, "mlp.up_proj.weight", F, D, 1},
        {FIELD (down), DPS_WEIGHT_LINEAR, "mlp.down_proj.weight", D, F, 1},
        {FIELD (gate_bias), DPS_WEIGHT_BIAS, "mlp.gate_proj.bias", F, 0, d->mlp_bias},
        {FIELD (up_bias), DPS_WEIGHT_BIAS, "mlp.up_proj.bias", F, 0, d->mlp_bias},
        {FIELD (down_bias), DPS_WEIGHT_BIAS, "mlp.down_proj.bias", D, 0, d->mlp_bias},
    };
#undef FIELD
    for (size_t k = 0; k < sizeof fields / sizeof *fields; k++) {
        const LayerField *f = &fields[k];
        int32_t at = -1;
        if (f->present) {
            at = add_weight (m, f->role, i, f->cols ? 2 : 1, f->rows, f->cols, dps_strf ("model.layers.%d.%s", i, f->name), err);
            if (at < 0)
                return DPS_ERR_NOMEM;
        }
        memcpy ((char *)&m->layers[i] + f->offset, &at, sizeof at);
    }
    return DPS_OK;
}

static DpsStatus add_all (DpsModel *m, DpsError *err)
{
    const DpsDecoder *d = &m->dec;
    m->layers = dps_calloc ((size_t)d->n_layers, sizeof *m->layers);
    if (!m->layers)
        return dps_fail (err, DPS_ERR_NOMEM, "model: out of memory");
    m->embed = add_weight (m, DPS_WEIGHT_EMBED, -1, 2, d->vocab, d->hidden, dps_strdup ("model.embed_tokens.weight"), err);
    if (m->embed < 0)
        return DPS_ERR_NOMEM;
    for (int32_t i = 0; i < (int32_t)d->n_layers; i++)
        DPS_TRY (add_layer (m, i, err));
    m->final_norm = add_weight (m, DPS_WEIGHT_NORM, -1, 1, d->hidden, 0, dps_strdup ("model.norm.weight"), err);
    m->head = d->tied ? m->embed : add_weight (m, DPS_WEIGHT_HEAD, -1, 2, d->vocab, d->hidden, dps_strdup ("lm_head.weight"), err);
    if (m->final_norm < 0 || m->head < 0)
        return DPS_ERR_NOMEM;
    m->n_base = m->n_weights;
    m->sites = dps_calloc (m->n_base, sizeof *m->sites);
    return m->sites ? DPS_OK : dps_fail (err, DPS_ERR_NOMEM, "model: out of memory");
}

DpsStatus dps_model_init (DpsModel *m, const json_t *config, DpsError *err)
{
    *m = (DpsModel){.score = -1, .value = -1, .value_bias = -1};
    DPS_TRY (dps_decoder_read (config, &m->dec, err));
    DpsStatus st = add_all (m, err);
    if (st != DPS_OK)
        dps_model_free (m);
    return st;
}

void dps_model_free (DpsModel *m)
{
    for (size_t i = 0; i < m->n_instances; i++)
        m->instances[i].adapter->destroy (m->instances[i].self);
    for (size_t i = 0; m->sites && i < m->n_base; i++)
        for (DpsSite *s = m->sites[i].below, *below; s; s = below) {
            below = s->below;
            dps_free (s);
        }
    for (size_t i = 0; i < m->n_weights; i++)
        dps_free (m->weights[i].name);
    dps_free (m->instances);
    dps_free (m->sites);
    dps_free (m->weights);
    dps_free (m->layers);
    *m = (DpsModel){0};
}

int32_t dps_model_find (const DpsModel *m, const char *name)
{
    for (size_t i = 0; i < m->n_weights; i++)
        if (!strcmp (m->weights[i].name, name))
            return (int32_t)i;
    return -1;
}

DpsStatus dps_model_add_score (DpsModel *m, int trainable, DpsError *err)
{
    if (m->score < 0)
        m->score = add_weight (m, DPS_WEIGHT_SCORE, -1, 2, 1, m->dec.hidden, dps_strdup (DPS_SCORE_WEIGHT), err);
    if (m->score < 0)
        return DPS_ERR_NOMEM;
    DpsWeight *w = &m->weights[m->score];
    w->trainable = (uint8_t)trainable;
    w->init = DPS_INIT_NORMAL;
    w->init_scale = 0.02;
    return DPS_OK;
}

DpsStatus dps_model_add_value (DpsModel *m, int trainable, DpsError *err)
{
    if (m->value < 0)
        m->value = add_weight (m, DPS_WEIGHT_SCORE, -1, 2, 1, m->dec.hidden, dps_strdup (DPS_VALUE_WEIGHT), err);
    if (m->value >= 0 && m->value_bias < 0)
        m->value_bias = add_weight (m, DPS_WEIGHT_BIAS, -1, 1, 1, 0, dps_strdup (DPS_VALUE_BIAS), err);
    if (m->value < 0 || m->value_bias < 0)
        return DPS_ERR_NOMEM;
    m->weights[m->value].trainable = m->weights[m->value_bias].trainable = (uint8_t)trainable;
    return DPS_OK;
}

int dps_model_is_head (const DpsModel *m, int32_t weight)
{
    return weight >= 0 && (weight == m->score || weight == m->value || weight == m->value_bias);
}

void dps_model_train_all (DpsModel *m)
{
    for (size_t i = 0; i < m->n_base; i++)
        m->weights[i].trainable = 1;
}

int dps_module_is (const char *name, const char *module)
{
    const char *dot = strrchr (name, '.');
    size_t n = dot ? (size_t)(dot - name) : strlen (name), k = strlen (module);
    return k > 0 && k <= n && !strncmp (name + n - k, module, k);
}

DpsStatus dps_model_train_module (DpsModel *m, const char *module, DpsError *err)
{
    int found = 0;
    for (size_t i = 0; i < m->n_base; i++) {
        if (!dps_module_is (m->weights[i].name, module))
            continue;
        if (m->sites && m->sites[i].n)
            return dps_fail (err, DPS_ERR_USAGE, "modules_to_save: '%s' also ends the name of '%s', which gets an adapter; name it in full",
                             module, m->weights[i].name);
        m->weights[i].trainable = (uint8_t)(found = 1);
    }
    found |= m->score >= 0 && m->weights[m->score].trainable && dps_module_is (DPS_SCORE_WEIGHT, module);
    found |= m->value >= 0 && m->weights[m->value].trainable && dps_module_is (DPS_VALUE_WEIGHT, module);
    if (found)
        return DPS_OK;
    return dps_fail (err, DPS_ERR_NOT_FOUND, "modules_to_save: no module '%s' in this %s model", module, m->dec.arch);
}

DpsStatus dps_model_freeze (DpsModel *m, DpsError *err)
{
    for (size_t i = m->n_base; i < m->n_weights; i++) {
        DpsWeight *w = &m->weights[i];
        if (w->role != DPS_WEIGHT_ADAPTER || w->frozen)
            continue;
        char *name = dps_strf ("frozen[%d].%s", m->n_frozen, w->name);
        if (!name)
            return dps_fail (err, DPS_ERR_NOMEM, "model: out of memory");
        dps_free (w->name);
        w->name = name;
        w->frozen = 1;
        w->trainable = 0;
    }
    m->n_frozen++;
    return DPS_OK;
}

const DpsSite *dps_model_site (const DpsModel *m, size_t i)
{
    const DpsSite *s = &m->sites[i];
    return s->n && !m->weights[s->weight[0]].frozen ? s : NULL;
}

/* Room for one more adapter on a weight: what is there goes below. */
static DpsStatus push_site (DpsModel *m, int32_t weight, DpsSite **out, DpsError *err)
{
    DpsSite *site = *out = &m->sites[weight], *below = NULL;
    if (site->n) {
        if (!(below = dps_malloc (1, sizeof *below)))
            return dps_fail (err, DPS_ERR_NOMEM, "model: out of memory");
        *below = *site;
    }
    *site = (DpsSite){.below = below};
    return DPS_OK;
}

static DpsStatus attach_one (DpsModel *m, int32_t weight, const char *module, DpsInstance by, int trainable, DpsError *err)
{
    enum { ROOM = sizeof m->sites->weight / sizeof *m->sites->weight };
    DpsAdapterParam params[ROOM], *list[ROOM];
    uint32_t n = ROOM;
    DpsWeight w = m->weights[weight];
    for (size_t i = 0; i < ROOM; i++) {
        params[i] = (DpsAdapterParam){.size = sizeof *params};
        list[i] = &params[i];
    }
    DpsStr name = {module, strlen (module)};
    if (by.adapter->match)
        DPS_TRY (by.adapter->match (by.self, name, w.shape, w.rank, 0, err));
    DPS_TRY (by.adapter->attach (by.self, name, w.shape[0], w.shape[1], list, &n, err));
    if (n > ROOM)
        return dps_fail (err, DPS_ERR_INTERNAL, "adapter: %u parameters for '%s', there is room for %d", n, module, (int)ROOM);
    DpsSite *site;
    DPS_TRY (push_site (m, weight, &site, err));
    site->self = by.self;
    site->adapter = by.adapter;
    for (uint32_t i = 0; i < n; i++) {
        int reads = params[i].init == DPS_INIT_WEIGHT_NORM || params[i].init == DPS_INIT_OWN;
        if (reads && site->below)
            return dps_fail (err, DPS_ERR_UNSUPPORTED,
                             "adapter: '%s' starts from the values of '%s', which a frozen adapter changes; on top of one this is not "
                             "implemented. Hint: merge the frozen adapter, or put a lora on top",
                             by.adapter->describe ()->name, module);
        int32_t at = add_weight (m, DPS_WEIGHT_ADAPTER, w.layer, params[i].rank, params[i].shape[0], params[i].shape[1],
                                 dps_strf ("%s.%s", module, params[i].suffix), err);
        if (at < 0)
            return DPS_ERR_NOMEM;
        DpsWeight *a = &m->weights[at];
        a->base = weight;
        a->trainable = (uint8_t)trainable;
        a->init = params[i].init;
        a->init_scale = params[i].init_scale;
        if (reads)
            m->weights[weight].needs_rows = 1;
        site->weight[site->n++] = at;
    }
    return DPS_OK;
}

static DpsStatus new_instance (DpsModel *m, const double *num, const DpsStr *str, DpsInstance *out, DpsError *err)
{
    DpsInstance *grown = dps_realloc (m->instances, m->n_instances + 1, sizeof *grown);
    if (!grown)
        return dps_fail (err, DPS_ERR_NOMEM, "model: out of memory");
    m->instances = grown;
    DPS_TRY (out->adapter->create (num, str, &out->self, err));
    m->instances[m->n_instances++] = *out;
    return DPS_OK;
}

DpsStatus dps_model_attach (DpsModel *m, const DpsAttach *a, DpsError *err)
{
    uint32_t n_params = a->adapter->describe ()->n_params;
    double *numbers = dps_malloc (n_params ? n_params : 1, sizeof *numbers);
    if (!numbers)
        return dps_fail (err, DPS_ERR_NOMEM, "model: out of memory");
    DpsInstance shared = {.adapter = a->adapter};
    size_t matched = 0;
    DpsStatus st = new_instance (m, a->num, a->str, &shared, err);
    for (size_t i = 0; st == DPS_OK && i < m->n_base; i++) {
        char module[256];
        const char *name = m->weights[i].name;
        size_t n = strlen (name) - strlen (".weight");
        if (m->weights[i].role != DPS_WEIGHT_LINEAR || n >= sizeof module)
            continue;
        memcpy (module, name, n);
        module[n] = '\0';
        if (!dps_targets_match (a->targets, module))
            continue;
        DpsInstance by = shared;
        if (n_params)
            memcpy (numbers, a->num, n_params * sizeof *numbers);
        if (a->pattern)
            a->pattern (a->ctx, module, numbers);
        if (n_params && memcmp (numbers, a->num, n_params * sizeof *numbers))
            st = new_instance (m, numbers, a->str, &by, err);
        if (st == DPS_OK)
            st = attach_one (m, (int32_t)i, module, by, a->trainable, err);
        matched++;
    }
    dps_free (numbers);
    if (st == DPS_OK && matched == 0)
        st = dps_targets_check (a->targets, err); /* names the setting */
    if (st == DPS_OK && matched == 0)
        return dps_fail (
            err, DPS_ERR_NOT_FOUND,
            "adapter: the target modules match no linear map of this %s model. Hint: all-linear, or names among " DPS_LINEAR_NAMES,
            m->dec.arch);
    return st;
}

double dps_model_linear_params (const DpsModel *m)
{
    double n = 0;
    for (size_t i = 0; i < m->n_base; i++)
        if (m->weights[i].role == DPS_WEIGHT_LINEAR)
            n += (double)m->weights[i].shape[0] * (double)m->weights[i].shape[1];
    return n;
}
