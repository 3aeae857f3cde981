/* SPDX-License-Identifier: Apache-2.0 */
/* DoRA: PEFT's merged weights, forward against PEFT's formula with and without dropout, the start equal to the base. */
#include "adapter_kit.h"

static const DpsBuilderOps *const ops = &check_builder_ops;
static DpsError err = DPS_ERROR_INIT;

static void test_dora_merges_as_peft (void)
{
    DpsRegistry *reg = NULL;
    const DpsAdapter *dora = kit_open ("dora", &reg);
    CU_ASSERT_EQUAL (kit_check_merge (dora, "gemma3", "gemma3-dora"), 28);
    CU_ASSERT_EQUAL (kit_check_merge (dora, "llama", "llama-dora"), 21);
    dps_registry_close (reg);
}

/* PEFT: y = base (x) + (m/norm − 1)·base (x') + m/norm·s·B·A·x', x' the dropped x. */
static void check_forward (const DpsAdapter *dora, int training)
{
    struct DpsBuilder made = {.training = training}, *b = &made;
    const double num[] = {4, 6, 0.5, 0};
    void *self;
    DpsNode y;
    CHECK_OK (dora->create (num, NULL, &self, &err));
    b->w = kit_random (b, 5, 7);
    DpsNode x = kit_random (b, 3, 7), params[] = {kit_random (b, 4, 7), kit_random (b, 5, 4), kit_random (b, 1, 5)};
    CHECK_OK (dora->forward (self, ops, b, x, params, 3, &y, &err));
    CU_ASSERT_EQUAL (b->n_base, training ? 2 : 1);
    DpsNode dropped = ops->dropout (b, x, 0.5), base = ops->base (b, x), again = ops->base (b, dropped);
    DpsNode low = ops->linear (b, ops->linear (b, dropped, params[0], -1, 1), params[1], -1, 1.5);
    DpsNode ratio = ops->div (b, params[2], ops->weight_norm (b, params[0], params[1], 1.5));
    for (int i = 0; i < 15; i++) {
        double v = b->nodes[ratio].v[i % 5], want = b->nodes[base].v[i] + (v - 1) * b->nodes[again].v[i] + v * b->nodes[low].v[i];
        CHECK_NEAR (b->nodes[y].v[i], want, 1e-12);
    }
    CHECK_FAILS (dora->forward (self, ops, b, x, params, 2, &y, &err), DPS_ERR_INVALID, "magnitude");
    dora->destroy (self);
    check_builder_free (b);
}

static void test_dora_forward (void)
{
    DpsRegistry *reg = NULL;
    const DpsAdapter *dora = kit_open ("dora", &reg);
    check_forward (dora, 0);
    check_forward (dora, 1);
    dps_registry_close (reg);
}

/* B = 0 and m = ‖W‖, as attach asks for: y is the base's, and merging changes nothing beyond rounding. */
static void test_dora_starts_as_the_base (void)
{
    DpsRegistry *reg = NULL;
    const DpsAdapter *dora = kit_open ("dora", &reg);
    struct DpsBuilder made = {.training = 0}, *b = &made;
    const double num[] = {2, 4, 0, 1};
    void *self;
    DpsAdapterParam out[3] = {{.size = sizeof *out}, {.size = sizeof *out}, {.size = sizeof *out}};
    DpsAdapterParam *const list[] = {&out[0], &out[1], &out[2]};
    uint32_t n = 3;
    DpsNode y;
    CHECK_OK (dora->create (num, NULL, &self, &err));
    CHECK_OK (dora->attach (self, dps_str ("q_proj"), 5, 7, list, &n, &err));
    CU_ASSERT (n == 3 && out[1].init == DPS_INIT_ZERO && out[2].init == DPS_INIT_WEIGHT_NORM && out[2].rank == 1 && out[2].shape[0] == 5);
    CHECK_STR (out[2].suffix, "lora_magnitude_vector");
    b->w = kit_random (b, 5, 7);
    DpsNode x = kit_random (b, 3, 7), params[] = {kit_random (b, 2, 7), check_node (b, 5, 2, NULL), -1};
    params[2] = ops->weight_norm (b, params[0], params[1], 0);
    CHECK_OK (dora->forward (self, ops, b, x, params, 3, &y, &err));
    DpsNode base = ops->base (b, x);
    for (int i = 0; i < 15; i++)
        CHECK_NEAR (b->nodes[y].v[i], b->nodes[base].v[i], 1e-13);
    float w[35], a[14], zero[10] = {0}, m[5];
    const float *const host[] = {a, zero, m};
    for (int i = 0; i < 35; i++)
        w[i] = (float)b->nodes[b->w].v[i];
    for (int i = 0; i < 14; i++)
        a[i] = (float)b->nodes[params[0]].v[i];
    for (int i = 0; i < 5; i++)
        m[i] = (float)b->nodes[params[2]].v[i];
    CHECK_OK (dora->merge (self, host, 5, 7, 0, 5, w, &err));
    for (int i = 0; i < 35; i++)
        CHECK_NEAR ((double)w[i], b->nodes[b->w].v[i], 1e-6);
    n = 2;
    CHECK_FAILS (dora->attach (self, dps_str ("q_proj"), 5, 7, list, &n, &err), DPS_ERR_SHAPE, "third parameter");
    dora->destroy (self);
    check_builder_free (b);
    dps_registry_close (reg);
}

CHECK_MAIN ("algorithms.dora", T (test_dora_merges_as_peft), T (test_dora_forward), T (test_dora_starts_as_the_base))
