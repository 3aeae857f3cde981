/* SPDX-License-Identifier: Apache-2.0 */
/* adapter.c: y = W·x + B·A·x with a scale per output, s: y = s ⊙ (W·x + B·A·x); rank 2. And the faults an adapter can have. */
#include <string.h>

#include "base/mem.h"
#include "broken.h"
#include "diapason/sdk.h"

enum { R = 2, A = 0, B = 1, S = 2, N_PARTS = 3 };

static const DpsParam gain = DPS_SDK_PARAM ("gain", DPS_PARAM_F64, 1, 0.5, 2, NULL, "scale of the update");
static const DpsParam *const params[] = {&gain};
static DpsAdapterInfo info = {.size = sizeof info,
                              .name = "adapter",
                              .summary = "for the tests of diapason check",
                              .reference = "none",
                              .params = params,
                              .n_params = 1};

static const DpsAdapterInfo *describe (void)
{
    info.name = IS (other_name) ? "broken" : "adapter";
    return &info;
}

static DpsStatus create (const double *num, const DpsStr *str, void **out, DpsError *err)
{
    (void)str;
    *out = dps_copy (num, 1, sizeof *num);
    if (!*out && IS (trusts_malloc))
        return *(volatile double *)*out > 0 ? DPS_OK : DPS_ERR_INVALID;
    return *out ? DPS_OK : IS (says_nothing) ? DPS_ERR_NOMEM : dps_sdk_fail (err, DPS_ERR_NOMEM, "no memory");
}

static void destroy (void *self)
{
    if (!IS (leaks_memory))
        dps_free (self);
}

static DpsStatus attach (void *self, DpsStr name, int64_t out_features, int64_t in_features, DpsAdapterParam *const *out, uint32_t *n,
                         DpsError *err)
{
    (void)self, (void)name;
    if (*n < N_PARTS && !IS (overruns_room))
        return dps_sdk_fail (err, DPS_ERR_SHAPE, "no room for three parameters");
    dps_sdk_adapter_param (out[A], "a.weight", IS (starts_at_rest) ? DPS_INIT_ZERO : DPS_INIT_KAIMING_UNIFORM, R, in_features);
    dps_sdk_adapter_param (out[B], IS (same_name_twice) ? "a.weight" : "b.weight", DPS_INIT_ZERO, out_features, R);
    dps_sdk_adapter_param (out[S], "scale", IS (not_identity) ? DPS_INIT_NORMAL : DPS_INIT_OWN, out_features, 0);
    out[S]->init_scale = 0.1;
    *n = N_PARTS;
    return DPS_OK;
}

/* s starts at 1; what is read of W is thrown away. */
static DpsStatus init (void *self, DpsStr name, uint32_t param, const DpsAdapterRows *w, float *out, DpsError *err)
{
    (void)self, (void)name, (void)param;
    float *row = dps_malloc ((size_t)w->in_features * 2, sizeof *row);
    if (!row)
        return dps_sdk_fail (err, DPS_ERR_NOMEM, "no memory");
    DpsStatus st = w->read (w->ctx, w->out_features - 1, IS (init_reads_too_far) ? 2 : 1, row, err);
    dps_free (row);
    for (int64_t o = 0; o < w->out_features; o++)
        out[o] = 1;
    return st;
}

/* y · s with s constant: two divisions, since what div divides by is detached. */
static DpsNode scaled_by_constant (const DpsBuilderOps *ops, struct DpsBuilder *b, DpsNode y, DpsNode s)
{
    return ops->div (b, y, ops->div (b, y, ops->mul_cols (b, y, s)));
}

static DpsNode scaled (const DpsBuilderOps *ops, struct DpsBuilder *b, DpsNode y, DpsNode s)
{
    if (IS (ignores_parameter))
        return y;
    if (IS (never_trained))
        return scaled_by_constant (ops, b, y, s);
    if (IS (vector_is_no_parameter))
        s = ops->sub (b, ops->add (b, s, s), s);
    DpsNode z = ops->mul_cols (b, y, s);
    if (!IS (wrong_sign))
        return z;
    DpsNode constant = scaled_by_constant (ops, b, y, s);
    return ops->sub (b, ops->add (b, constant, constant), z);
}

static DpsStatus forward (void *self, const DpsBuilderOps *ops, struct DpsBuilder *b, DpsNode x, const DpsNode *p, uint32_t n_params,
                          DpsNode *out_y, DpsError *err)
{
    static DpsNode low;
    static unsigned n_calls;
    const double g = *(const double *)self;
    if (n_params != N_PARTS)
        return dps_sdk_fail (err, DPS_ERR_INVALID, "expected three parameters");
    double alpha = IS (other_each_time) ? g + 1e-6 * (n_calls++ % 3) : g;
    low = ops->linear (b, x, p[IS (wrong_shape) ? B : A], -1, 1);
    DpsNode mine = low, base = ops->base (b, x);
    DpsNode sum = ops->linear (b, IS (shares_memory) ? low : mine, p[B], base, alpha);
    *out_y = scaled (ops, b, sum, p[S]);
    if (IS (goes_on_after_failure) && *out_y < 0)
        *(volatile DpsNode *)NULL = 0;
    return *out_y < 0 ? dps_sdk_fail (err, DPS_ERR_SHAPE, "the graph refused an op") : DPS_OK;
}

static DpsStatus merge (void *self, const float *const *p, int64_t out_features, int64_t in_features, int64_t row, int64_t rows, float *w,
                        DpsError *err)
{
    const double g = *(const double *)self;
    volatile float unused = 0;
    (void)err;
    if (IS (reads_too_far))
        unused = p[B][out_features * R];
    if (IS (writes_too_far))
        w[rows * in_features] = unused;
    for (int64_t o = 0; o < rows; o++)
        for (int64_t k = 0; k < in_features; k++) {
            int64_t at = IS (merges_from_row_0) ? o : row + o;
            double sum = (double)w[o * in_features + k];
            for (int64_t i = 0; i < R; i++)
                sum += g * (double)p[B][at * R + i] * (double)p[A][i * in_features + k];
            int otherwise = IS (merges_otherwise) || (IS (merges_wide_ones_only) && out_features > in_features);
            w[o * in_features + k] = (float)(sum * (otherwise ? 1 : (double)p[S][at]));
        }
    return DPS_OK;
}

static const DpsAdapter adapter = {.size = sizeof adapter,
                                   .describe = describe,
                                   .create = create,
                                   .destroy = destroy,
                                   .attach = attach,
                                   .forward = forward,
                                   .merge = merge,
                                   .init = init};

DPS_PLUGIN_ONE (DPS_ADAPTER_ID, adapter);
