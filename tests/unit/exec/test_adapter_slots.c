/* SPDX-License-Identifier: Apache-2.0 */
/* The optional slots of dps.adapter/1 as the host uses them: match refuses with the plugin's reason, init reads W by ranges and its values stay. */
#include "unit/infer/parity.h"

static DpsError err = DPS_ERROR_INIT;

/* y = W·x; two vectors per weight that start as the first column of W plus the parameter's number. */
static const DpsAdapterInfo info = {.size = sizeof info, .name = "columns", .summary = "for this test"};
static int with_init, n_inits;

static const DpsAdapterInfo *describe (void) { return &info; }
static DpsStatus create (const double *num, const DpsStr *str, void **out, DpsError *e)
{
    (void)num, (void)str, (void)e;
    *out = NULL;
    return DPS_OK;
}
static void destroy (void *self) { (void)self; }

static DpsStatus match (void *self, DpsStr name, const int64_t *shape, uint32_t rank, uint32_t dtype, DpsError *e)
{
    (void)self, (void)dtype;
    if (rank == 2 && shape[0] >= shape[1])
        return DPS_OK;
    return dps_fail (e, DPS_ERR_UNSUPPORTED, "columns: '%.*s' (%lld, %lld) is wider than tall", (int)name.len, name.ptr,
                     (long long)shape[0], (long long)shape[1]);
}

static DpsStatus attach (void *self, DpsStr name, int64_t o, int64_t k, DpsAdapterParam *const *out, uint32_t *n, DpsError *e)
{
    (void)self, (void)name, (void)e, (void)k;
    CU_ASSERT_FATAL (*n >= 2 && out[0]->size == sizeof **out && out[1]->size == sizeof **out);
    for (int i = 0; i < 2; i++) {
        out[i]->suffix = i ? "second" : "first";
        out[i]->rank = 1;
        out[i]->init = DPS_INIT_OWN;
        out[i]->shape[0] = o;
    }
    *n = 2;
    return DPS_OK;
}

static DpsStatus init (void *self, DpsStr name, uint32_t param, const DpsAdapterRows *w, float *out, DpsError *e)
{
    float row[512];
    (void)self;
    CU_ASSERT (!memcmp (name.ptr + name.len - 4, "proj", 4));
    CU_ASSERT_FATAL (w->in_features <= 512);
    CU_ASSERT_EQUAL (w->read (w->ctx, w->out_features - 1, 2, row, e), DPS_ERR_SHAPE);
    CU_ASSERT_EQUAL (w->read (w->ctx, -1, 1, row, e), DPS_ERR_SHAPE);
    for (int64_t o = 0; o < w->out_features; o++) {
        DPS_TRY (w->read (w->ctx, o, 1, row, e));
        out[o] = row[0] + (float)param;
    }
    n_inits++;
    return DPS_OK;
}

static DpsStatus forward (void *self, const DpsBuilderOps *ops, struct DpsBuilder *b, DpsNode x, const DpsNode *p, uint32_t n, DpsNode *y,
                          DpsError *e)
{
    (void)self, (void)p, (void)n, (void)e;
    *y = ops->base (b, x);
    return DPS_OK;
}

static DpsStatus open_with (Tiny *t, const char *device, const char *module)
{
    static DpsAdapter adapter;
    DpsTargets *targets;
    adapter = (DpsAdapter){.size = sizeof adapter,
                           .describe = describe,
                           .create = create,
                           .destroy = destroy,
                           .attach = attach,
                           .forward = forward,
                           .match = match,
                           .init = with_init ? init : NULL};
    tiny_open (t, "gemma3", "config.json", device);
    CHECK_OK (dps_targets_new (&(DpsTargetSpec){.modules = {&module, 1}}, &targets, &err));
    DpsStatus st = dps_model_attach (&t->model, &(DpsAttach){.adapter = &adapter, .targets = targets, .trainable = 1}, &err);
    dps_targets_free (targets);
    return st;
}

static void check_values (const Tiny *t)
{
    size_t n_seen = 0;
    for (size_t i = t->model.n_base; i < t->model.n_weights; i++, n_seen++) {
        const DpsWeight *w = &t->model.weights[i];
        StTensor base = st_get ((StFile *)&t->file, t->model.weights[w->base].name);
        float got[512];
        float add = strstr (w->name, ".second") ? 1 : 0;
        CU_ASSERT_FATAL (w->shape[0] <= 512);
        CHECK_OK (dps_weights_get (&t->weights, (int32_t)i, got, &err));
        for (int64_t o = 0; o < w->shape[0]; o++)
            CU_ASSERT_EQUAL (got[o], ((const float *)base.data)[o * base.shape[1]] + add);
    }
    CU_ASSERT (n_seen >= 2 && n_inits == (int)n_seen);
}

static void test_init_reads_the_base_by_rows (void)
{
    Tiny t;
    with_init = 1;
    n_inits = 0;
    CHECK_OK (open_with (&t, "ref", "gate_proj"));
    tiny_load (&t, 1);
    CHECK_OK (dps_weights_init (&t.weights, 7, &err));
    check_values (&t);
    tiny_close (&t);
}

static void test_match_refuses_with_its_reason (void)
{
    Tiny t;
    with_init = 1;
    CHECK_FAILS (open_with (&t, "ref", "down_proj"), DPS_ERR_UNSUPPORTED,
                 "columns: 'model.layers.0.mlp.down_proj' (32, 40) is wider than tall");
    tiny_close (&t);
}

static void test_own_start_without_init_is_refused (void)
{
    Tiny t;
    with_init = 0;
    CHECK_OK (open_with (&t, "ref", "gate_proj"));
    tiny_load (&t, 1);
    CHECK_FAILS (dps_weights_init (&t.weights, 7, &err), DPS_ERR_UNSUPPORTED, "the plugin has no init");
    tiny_close (&t);
}

CHECK_MAIN ("exec.adapter_slots", T (test_init_reads_the_base_by_rows), T (test_match_refuses_with_its_reason),
            T (test_own_start_without_init_is_refused))
