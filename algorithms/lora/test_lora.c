/* SPDX-License-Identifier: Apache-2.0 */
/* LoRA and rsLoRA: PEFT's merged weights, forward against its formula, parameters. */
#include "adapter_kit.h"

static const DpsBuilderOps *const ops = &check_builder_ops;
static DpsError err = DPS_ERROR_INIT;

static void test_lora_merges_as_peft (void)
{
    DpsRegistry *reg = NULL;
    const DpsAdapter *lora = kit_open ("lora", &reg);
    CU_ASSERT_EQUAL (kit_check_merge (lora, "gemma3", "gemma3-lora"), 28);
    CU_ASSERT_EQUAL (kit_check_merge (lora, "gemma3", "gemma3-rslora"), 28);
    CU_ASSERT_EQUAL (kit_check_merge (lora, "llama", "llama-lora"), 21);
    CU_ASSERT_EQUAL (kit_check_merge (lora, "llama", "llama-rslora"), 21);
    dps_registry_close (reg);
}

/* Rows longer than a block of the merge, and not a multiple of it. */
static void test_lora_merges_long_rows (void)
{
    enum { O = 2, K = 2 * 256 + 37, R = 3 };
    DpsRegistry *reg = NULL;
    const DpsAdapter *lora = kit_open ("lora", &reg);
    const double num[] = {R, 6, 0, 0};
    static float w[O * K], old[O * K], a[R * K], b[O * R];
    const float *const host[] = {a, b};
    void *self;
    for (int i = 0; i < O * K; i++)
        w[i] = old[i] = (float)dps_rng_normal (1, 1, (uint64_t)i);
    for (int i = 0; i < R * K; i++)
        a[i] = (float)dps_rng_normal (1, 2, (uint64_t)i);
    for (int i = 0; i < O * R; i++)
        b[i] = (float)dps_rng_normal (1, 3, (uint64_t)i);
    CHECK_OK (lora->create (num, NULL, &self, &err));
    CHECK_OK (lora->merge (self, host, O, K, 0, O, w, &err));
    for (int i = 0; i < O * K; i++) {
        double want = (double)old[i];
        for (int r = 0; r < R; r++)
            want += 2 * (double)b[i / K * R + r] * (double)a[r * K + i % K];
        CHECK_NEAR ((double)w[i], want, 1e-6);
    }
    lora->destroy (self);
    dps_registry_close (reg);
}

/* y = W·x + s·B·A·drop (x), in training and outside, for both scales. */
static void check_forward (const DpsAdapter *lora, int training, int rslora)
{
    struct DpsBuilder made = {.training = training}, *b = &made;
    const double num[] = {4, 6, 0.5, rslora}, s = rslora ? 3 : 1.5;
    void *self;
    DpsNode y;
    CHECK_OK (lora->create (num, NULL, &self, &err));
    b->w = kit_random (b, 5, 7);
    DpsNode x = kit_random (b, 3, 7), params[] = {kit_random (b, 4, 7), kit_random (b, 5, 4)};
    CHECK_OK (lora->forward (self, ops, b, x, params, 2, &y, &err));
    CU_ASSERT_EQUAL (b->n_base, 1);
    DpsNode dropped = ops->dropout (b, x, 0.5);
    DpsNode low = ops->linear (b, ops->linear (b, dropped, params[0], -1, 1), params[1], -1, s);
    DpsNode want = ops->add (b, ops->base (b, x), low);
    for (int i = 0; i < 15; i++)
        CHECK_NEAR (b->nodes[y].v[i], b->nodes[want].v[i], 1e-13);
    CHECK_FAILS (lora->forward (self, ops, b, x, params, 1, &y, &err), DPS_ERR_INVALID, "A and B");
    lora->destroy (self);
    check_builder_free (b);
}

static void test_lora_forward (void)
{
    DpsRegistry *reg = NULL;
    const DpsAdapter *lora = kit_open ("lora", &reg);
    for (int i = 0; i < 4; i++)
        check_forward (lora, i & 1, i >> 1);
    dps_registry_close (reg);
}

static void test_lora_parameters (void)
{
    DpsRegistry *reg = NULL;
    const DpsAdapter *lora = kit_open ("lora", &reg);
    const DpsAdapterInfo *info = lora->describe ();
    double num[8];
    DpsStr str[8];
    CHECK_OK (dps_params_resolve ("lora", info->params, info->n_params, NULL, NULL, num, str, &err));
    CU_ASSERT (num[0] == 16 && num[1] == 32 && num[2] == 0.05 && num[3] == 0);
    void *self;
    DpsAdapterParam out[2] = {{.size = sizeof *out}, {.size = sizeof *out}}, *const list[] = {&out[0], &out[1]};
    uint32_t n = 2;
    CHECK_OK (lora->create (num, NULL, &self, &err));
    CHECK_OK (lora->attach (self, dps_str ("model.layers.0.self_attn.q_proj"), 10, 6, list, &n, &err));
    CHECK_STR (out[0].suffix, "lora_A.weight");
    CHECK_STR (out[1].suffix, "lora_B.weight");
    CU_ASSERT (n == 2 && out[0].init == DPS_INIT_KAIMING_UNIFORM && out[1].init == DPS_INIT_ZERO);
    CU_ASSERT (out[0].shape[0] == 16 && out[0].shape[1] == 6 && out[1].shape[0] == 10 && out[1].shape[1] == 16);
    n = 1;
    CHECK_FAILS (lora->attach (self, dps_str ("x"), 10, 6, list, &n, &err), DPS_ERR_SHAPE, "room for two parameters");
    n = 2;
    CHECK_FAILS (lora->attach (self, dps_str ("x"), 0, 6, list, &n, &err), DPS_ERR_SHAPE, "a matrix");
    lora->destroy (self);
    dps_registry_close (reg);
}

CHECK_MAIN ("algorithms.lora", T (test_lora_merges_as_peft), T (test_lora_merges_long_rows), T (test_lora_forward),
            T (test_lora_parameters))
