/* SPDX-License-Identifier: Apache-2.0 */
/* adapter.c: LoRA without dropout: y = W·x + (alpha/r) · B·(A·x), A (r,K) and B (O,r). arXiv:2106.09685 eq. 3. */
#include "base/mem.h"
#include "base/status.h"
#include "diapason/diapason.h"
#include "diapason/sdk.h"

typedef struct Adapter {
    int64_t r;
    double scale; /* alpha / r */
} Adapter;

static const DpsParam rank = {
    .size = sizeof (DpsParam), .name = "r", .type = DPS_PARAM_I64, .def = 8, .min = 1, .max = 4096, .help = "rank"};
static const DpsParam alpha = {
    .size = sizeof (DpsParam), .name = "alpha", .type = DPS_PARAM_F64, .def = 16, .min = 0, .max = 1e6, .help = "scale is alpha / r"};
static const DpsParam *const params[] = {&rank, &alpha};

static const DpsAdapterInfo info = {.size = sizeof info,
                                    .name = "tiny-lora",
                                    .summary = "LoRA without dropout",
                                    .reference = "arXiv:2106.09685",
                                    .params = params,
                                    .n_params = 2};

static const DpsAdapterInfo *describe (void) { return &info; }

static DpsStatus create (const double *num, const DpsStr *str, void **out, DpsError *err)
{
    (void)str;
    Adapter *a = dps_calloc (1, sizeof *a);
    if (!a)
        return dps_fail (err, DPS_ERR_NOMEM, "tiny-lora: out of memory");
    a->r = (int64_t)num[0];
    a->scale = num[1] / num[0];
    *out = a;
    return DPS_OK;
}

static void destroy (void *self) { dps_free (self); }

static DpsStatus attach (void *self, DpsStr name, int64_t out_features, int64_t in_features, DpsAdapterParam *const *out, uint32_t *n,
                         DpsError *err)
{
    const Adapter *a = self;
    if (*n < 2)
        return dps_fail (err, DPS_ERR_INVALID, "tiny-lora: room for %u parameters, needs 2", *n);
    if (a->r > out_features || a->r > in_features)
        return dps_fail (err, DPS_ERR_SHAPE, "tiny-lora: r = %lld is larger than '%.*s' (%lld, %lld)", (long long)a->r, (int)name.len,
                         name.ptr, (long long)out_features, (long long)in_features);
    dps_sdk_adapter_param (out[0], "lora_A.weight", DPS_INIT_KAIMING_UNIFORM, a->r, in_features);
    dps_sdk_adapter_param (out[1], "lora_B.weight", DPS_INIT_ZERO, out_features, a->r);
    *n = 2;
    return DPS_OK;
}

static DpsStatus forward (void *self, const DpsBuilderOps *ops, struct DpsBuilder *b, DpsNode x, const DpsNode *p, uint32_t n_params,
                          DpsNode *out_y, DpsError *err)
{
    const Adapter *a = self;
    if (n_params != 2)
        return dps_fail (err, DPS_ERR_INVALID, "tiny-lora: %u parameters, expected lora_A and lora_B", n_params);
    DpsNode low = ops->linear (b, x, p[0], -1, 1.0);
    *out_y = ops->linear (b, low, p[1], ops->base (b, x), a->scale);
    return *out_y < 0 ? dps_fail (err, DPS_ERR_SHAPE, "tiny-lora: the graph refused a linear") : DPS_OK;
}

static DpsStatus merge (void *self, const float *const *p, int64_t out_features, int64_t in_features, int64_t row, int64_t rows, float *w,
                        DpsError *err)
{
    const Adapter *a = self;
    (void)err;
    (void)out_features;
    for (int64_t o = 0; o < rows; o++)
        for (int64_t k = 0; k < in_features; k++) {
            double sum = 0;
            for (int64_t i = 0; i < a->r; i++)
                sum += (double)p[1][(row + o) * a->r + i] * p[0][i * in_features + k];
            w[o * in_features + k] += (float)(a->scale * sum);
        }
    return DPS_OK;
}

static const DpsAdapter adapter = {.size = sizeof adapter,
                                   .describe = describe,
                                   .create = create,
                                   .destroy = destroy,
                                   .attach = attach,
                                   .forward = forward,
                                   .merge = merge};

DPS_PLUGIN_ONE (DPS_ADAPTER_ID, adapter);
