/* SPDX-License-Identifier: Apache-2.0 */
/* ref.c: the reference backend as a plugin: one device that is the host itself, the table of ops, and their dispatch. */
#include "ref.h"

#include "base/host_buffer.h"

static const DpsRefOp ops[] = {
    {"fill", "", "y:*:any", NULL, dps__ref_fill},
    {"copy", "x:*:any", "y:*:any", NULL, dps__ref_copy},
    {"add", "a:* b:*", "y:*", NULL, dps__ref_add},
    {"mul", "a:* b:*", "y:*", NULL, dps__ref_mul},
    {"div", "a:* b:*", "y:*", NULL, dps__ref_div},
    {"softcap", "x:*", "y:*", NULL, dps__ref_softcap},
    {"mul_cols", "x:N,D v:D", "y:N,D", NULL, dps__ref_mul_cols},
    {"add_cols", "x:N,D v:D", "y:N,D", NULL, dps__ref_add_cols},
    {"mul_cols_dv", "x:N,D dy:N,D roots:R:i32", "dv:D", NULL, dps__ref_mul_cols_dv},
    {"scale_rows", "x:S,D v:S", "y:S,D", NULL, dps__ref_scale_rows},
    {"dropout", "x:N,D keys:N:i64", "y:N,D", NULL, dps__ref_dropout},
    {"embed", "table:V,D:weight ids:N:i32", "y:N,D", NULL, dps__ref_embed},
    {"embed_dw", "dy:N,D ids:N:i32 roots:R:i32", "dtable:V,D", NULL, dps__ref_embed_dw},
    {"gather_rows", "x:N,D rows:S:i32", "y:S,D", NULL, dps__ref_gather_rows},
    {"scatter_rows", "dy:S,D rows:S:i32", "dx:N,D", NULL, dps__ref_scatter_rows},
    {"put_rows", "x:N,D rows:N:i32", "y:M,D", NULL, dps__ref_put_rows},
    {"rms_norm", "x:N,D w:h", "y:N,D ?rstd:~", dps__ref_rms_norm_check, dps__ref_rms_norm},
    {"rms_norm_dx", "x:N,D w:h rstd:~ dy:N,D ?c:N,D", "dx:N,D", dps__ref_rms_norm_check, dps__ref_rms_norm_dx},
    {"rms_norm_dw", "x:N,D rstd:~ dy:N,D roots:R:i32", "dw:h", dps__ref_rms_norm_dw_check, dps__ref_rms_norm_dw},
    {"linear", "x:N,K W:O,K:weight ?bias:O ?c:N,O", "y:N,O", NULL, dps__ref_linear},
    {"linear_dx", "dy:N,O W:O,K:weight ?c:N,K", "dx:N,K", NULL, dps__ref_linear_dx},
    {"linear_dw", "dy:N,O x:N,K roots:R:i32", "dW:O,K", NULL, dps__ref_linear_dw},
    {"bias_db", "dy:N,O roots:R:i32", "db:O", NULL, dps__ref_bias_db},
    {"dora_norm", "W:O,K:weight A:r,K B:O,r ?m:O", "?v:O ?norm:O", dps__ref_dora_norm_check, dps__ref_dora_norm},
    {"rope", "x:N,Q segments:n,s:u8 inv_freq:f", "y:N,Q", dps__ref_rope_check, dps__ref_rope},
    {"attention", "q:N,Q k:M,P v:M,P segments:n,s:u8", "o:N,Q ?lse:N,H", dps__ref_attention_check, dps__ref_attention},
    {"attention_bwd", "q:N,Q k:M,P v:M,P o:N,Q lse:N,H do:N,Q segments:n,s:u8", "dq:N,Q dk:M,P dv:M,P", dps__ref_attention_check,
     dps__ref_attention_bwd},
    {"geglu", "gate:N,D up:N,D", "y:N,D", NULL, dps__ref_geglu},
    {"swiglu", "gate:N,D up:N,D", "y:N,D", NULL, dps__ref_swiglu},
    {"geglu_bwd", "gate:N,D up:N,D dy:N,D", "dgate:N,D dup:N,D", NULL, dps__ref_geglu_bwd},
    {"swiglu_bwd", "gate:N,D up:N,D dy:N,D", "dgate:N,D dup:N,D", NULL, dps__ref_swiglu_bwd},
    {"token_logprobs", "h:S,D W:V,D:weight targets:S:i32 ?pack:-", "logp:S ?entropy:S ?hit:S ?dir:S,D", NULL, dps__ref_token_logprobs},
    {"row_logprobs", "z:S,V targets:S:i32", "logp:S", NULL, dps__ref_row_logprobs},
    {"token_logprobs_dw", "h:S,D W:V,D targets:S:i32 dlogp:S roots:R:i32", "dW:V,D", NULL, dps__ref_token_logprobs_dw},
    {"exp", "x:*", "y:*", NULL, dps__ref_exp},
    {"log", "x:*", "y:*", NULL, dps__ref_log},
    {"sqrt", "x:*", "y:*", NULL, dps__ref_sqrt},
    {"range", "", "y:n:i32", NULL, dps__ref_range},
    {"row_max", "x:N,D", "y:N,1 ?at:N:i32", NULL, dps__ref_row_max},
    {"one_hot", "ids:N:i32", "y:N,V", NULL, dps__ref_one_hot},
    {"segment_mask", "segments:n,s:u8", "y:N,M", NULL, dps__ref_segment_mask},
    {"rope_angles", "segments:n,s:u8 inv_freq:f", "cos:N,f sin:N,f", NULL, dps__ref_rope_angles},
    {"sumsq", "x:~", "y:1", NULL, dps__ref_sumsq},
    {"adamw_step", "p:* g:* m:* v:* ?shadow:*", "p:* m:* v:* ?shadow:*", NULL, dps__ref_adamw_step},
    {"sgd_step", "p:* g:* ?m:* ?shadow:*", "p:* ?m:* ?shadow:*", NULL, dps__ref_sgd_step},
};
enum { N_OPS = sizeof ops / sizeof *ops };

static uint32_t op_ids[N_OPS]; /* interned once in init, read-only afterwards */

struct DpsDevice {
    uint32_t unused;
};
static struct DpsDevice the_device;

void *dps__ref_data (const DpsView *v)
{
    if (v->host)
        return v->host;
    return v->buffer ? v->buffer->data + v->offset : NULL;
}

static DpsStatus enumerate (uint32_t i, DpsDeviceInfo *out, DpsError *err)
{
    if (i > 0)
        return dps_fail (err, DPS_ERR_NOT_FOUND, "ref has one device");
    const DpsDeviceInfo info = {
        .size = sizeof info, .device = &the_device, .name = "ref", .detail = "plain C, f64 arithmetic", .flags = DPS_DEVICE_HOST_MEMORY};
    dps_table_copy (out, out->size < sizeof info ? out->size : sizeof info, &info);
    return DPS_OK;
}

static DpsStatus run_op (const DpsRefOp *spec, const DpsOp *op, uint32_t flags, DpsError *err)
{
    DpsRefCall c = {.who = "ref", .name = spec->name, .op = op, .err = err, .quants = &dps__ref_quants};
    int dry = (flags & DPS_RUN_DRY) != 0;
    DpsStatus st = dps_opcall_check (&c, spec->in, spec->out, !dry, 0);
    if (st == DPS_OK && spec->check)
        st = spec->check (&c);
    if (st == DPS_OK && !dry)
        st = spec->run (&c);
    for (uint32_t i = 0; i < c.n_scratch; i++)
        dps_free (c.scratch[i]);
    return st;
}

static DpsStatus run (struct DpsDevice *dev, const DpsOp *op, uint32_t flags, DpsError *err)
{
    (void)dev;
    for (int i = 0; i < N_OPS; i++)
        if (op_ids[i] && op_ids[i] == op->id)
            return run_op (&ops[i], op, flags, err);
    return dps_fail (err, DPS_ERR_UNSUPPORTED, "ref: op number %u is not one of the %d it knows", (unsigned)op->id, (int)N_OPS);
}

static DpsStatus copy_views (struct DpsDevice *dev, const DpsView *from, const DpsView *to, DpsError *err)
{
    (void)dev;
    static const DpsRefOp copy = {"copy", "x:*:any", "y:*:any", NULL, dps__ref_copy};
    const DpsOp op = {.size = sizeof op, .n_in = 1, .n_out = 1, .in = &from, .out = &to};
    return run_op (&copy, &op, 0, err);
}

static uint32_t determinism (struct DpsDevice *dev)
{
    (void)dev;
    return DPS_DETERMINISM_BATCH;
}

static const DpsBackend backend = {
    .size = sizeof backend,
    .enumerate = enumerate,
    .alloc = dps_host_buffer_alloc,
    .free = dps_host_buffer_free,
    .copy = copy_views,
    .run = run,
    .determinism = determinism,
};

static DpsStatus init (const DpsHost *host, const char *path, DpsError *err)
{
    (void)path;
    for (int i = 0; i < N_OPS; i++) {
        op_ids[i] = host->intern (dps_str (ops[i].name));
        if (!op_ids[i])
            return dps_fail (err, DPS_ERR_LIMIT, "ref: the host has no number left for op '%s'", ops[i].name);
    }
    if (dps_quant_names (host->intern, &dps__ref_quants))
        return dps_fail (err, DPS_ERR_LIMIT, "ref: the host has no number left for the quantised dtypes");
    return DPS_OK;
}

static const void *get_interface (DpsStr id) { return dps_str_is (id, DPS_BACKEND_ID) ? &backend : NULL; }

const DpsPluginEntry dps_ref_plugin_entry = {
    .magic = DPS_PLUGIN_MAGIC,
    .size = sizeof (DpsPluginEntry),
    .abi_major = DPS_ABI_MAJOR,
    .abi_minor = DPS_ABI_MINOR,
    .sdk_version = DPS_SDK_VERSION,
    .init = init,
    .get_interface = get_interface,
};
