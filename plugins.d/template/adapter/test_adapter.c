/* SPDX-License-Identifier: Apache-2.0 */
/* Forward on a builder that computes at once, and the equivalence that matters: the merged weight gives what the adapter gives. */
#include "check.h"
#include "plugin/registry.h"

enum { N = 3, K = 5, O = 4, R = 2 };

static DpsError err = DPS_ERROR_INIT;

/** Nodes are matrices of up to 8 × 8; 0 is x. */
struct DpsBuilder {
    double node[16][N][8];
    const double *w, *p[2];
    int n;
};

static DpsNode multiply (struct DpsBuilder *b, DpsNode x, const double *m, int rows, int columns, DpsNode add, double alpha)
{
    for (int i = 0; i < N; i++)
        for (int o = 0; o < rows; o++) {
            double sum = 0;
            for (int k = 0; k < columns; k++)
                sum += b->node[x][i][k] * m[o * columns + k];
            b->node[b->n][i][o] = alpha * sum + (add >= 0 ? b->node[add][i][o] : 0);
        }
    return b->n++;
}

static DpsNode base (struct DpsBuilder *b, DpsNode x) { return multiply (b, x, b->w, O, K, -1, 1); }
static DpsNode linear (struct DpsBuilder *b, DpsNode x, DpsNode p, DpsNode c, double alpha)
{
    return multiply (b, x, b->p[p - 100], p == 100 ? R : O, p == 100 ? K : R, c, alpha);
}

static void test_merged_weight_equals_adapter (void)
{
    static const DpsBuilderOps ops = {.size = sizeof ops, .base = base, .linear = linear};
    static const double params[] = {R, 6};
    double w[O * K], a[R * K], b[O * R];
    float w32[O * K], a32[R * K], b32[O * R];
    struct DpsBuilder graph = {.w = w, .p = {a, b}, .n = 1}, merged = {.w = w, .n = 1};
    for (int i = 0; i < O * K; i++)
        w[i] = w32[i] = (float)((i * 7 % 11) - 5) / 8;
    for (int i = 0; i < R * K; i++)
        a[i] = a32[i] = (float)((i * 5 % 7) - 3) / 4;
    for (int i = 0; i < O * R; i++)
        b[i] = b32[i] = (float)((i * 3 % 5) - 2) / 4;
    for (int i = 0; i < N * K; i++)
        merged.node[0][i / K][i % K] = graph.node[0][i / K][i % K] = (i * 13 % 9) - 4;
    DpsRegistry *reg = NULL;
    void *self = NULL;
    CHECK_OK (dps_registry_open (NULL, &reg, &err));
    const DpsAdapter *adapter = dps_registry_get (reg, DPS_ADAPTER_ID, "com.example.tiny-lora");
    CU_ASSERT_PTR_NOT_NULL_FATAL (adapter);
    CHECK_OK (adapter->create (params, NULL, &self, &err));
    const DpsNode nodes[] = {100, 101};
    DpsNode y = -1;
    CHECK_OK (adapter->forward (self, &ops, &graph, 0, nodes, 2, &y, &err));
    const float *const values[] = {a32, b32};
    CHECK_OK (adapter->merge (self, values, O, K, 0, 1, w32, &err)); /* in two ranges of rows */
    CHECK_OK (adapter->merge (self, values, O, K, 1, O - 1, w32 + K, &err));
    for (int i = 0; i < O * K; i++)
        w[i] = w32[i];
    DpsNode z = base (&merged, 0);
    for (int i = 0; i < N * O; i++)
        CHECK_NEAR (graph.node[y][i / O][i % O], merged.node[z][i / O][i % O], 1e-5);
    adapter->destroy (self);
    dps_registry_close (reg);
}

static void test_parameters_are_peft_s (void)
{
    static const double params[] = {R, 6};
    DpsRegistry *reg = NULL;
    void *self = NULL;
    DpsAdapterParam p[2] = {{.size = sizeof *p}, {.size = sizeof *p}}, *const out[] = {&p[0], &p[1]};
    uint32_t n = 2;
    CHECK_OK (dps_registry_open (NULL, &reg, &err));
    const DpsAdapter *adapter = dps_registry_get (reg, DPS_ADAPTER_ID, "com.example.tiny-lora");
    CHECK_OK (adapter->create (params, NULL, &self, &err));
    CHECK_OK (adapter->attach (self, dps_str ("q_proj"), O, K, out, &n, &err));
    CU_ASSERT_EQUAL (n, 2);
    CHECK_STR (p[0].suffix, "lora_A.weight");
    CU_ASSERT (p[0].shape[0] == R && p[0].shape[1] == K && p[1].shape[0] == O && p[1].shape[1] == R);
    CU_ASSERT_EQUAL (p[1].init, DPS_INIT_ZERO);
    CHECK_FAILS (adapter->attach (self, dps_str ("thin"), 1, K, out, &n, &err), DPS_ERR_SHAPE, "r = 2 is larger than 'thin' (1, 5)");
    adapter->destroy (self);
    dps_registry_close (reg);
}

CHECK_MAIN ("tiny-lora", T (test_merged_weight_equals_adapter), T (test_parameters_are_peft_s))
