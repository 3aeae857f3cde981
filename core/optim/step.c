/* SPDX-License-Identifier: Apache-2.0 */
#include "optim/step.h"

#include <math.h>

#include "exec/stage.h"
#include "optim/schedule.h"

int dps_optim_moments (const DpsOptim *o)
{
    if (o->kind == DPS_OPTIM_ADAMW)
        return 2;
    return o->momentum != 0;
}

DpsStatus dps_optim_grad_norm (DpsWeights *w, double *out, DpsError *err)
{
    double sum = 0;
    for (size_t i = 0; i < w->model->n_weights; i++) {
        if (!w->stores[i].grad.buffer)
            continue;
        DPS_TRY (dps_weights_join_grad (w, (int32_t)i, err));
        double one = 0; /* written by the op */
        int64_t n = dps_weight_elements (&w->model->weights[i]), scalar = 1;
        DpsView x = dps_block_view (DPS_DTYPE_F32, 1, &n, &w->stores[i].grad, 0), y = dps_view (DPS_DTYPE_F64, 1, &scalar, &one);
        DPS_TRY (dps_exec_op (w->ex, DPS_OP_sumsq, (DpsOp){DPS_IN (&x), DPS_OUT (&y)}, err));
        sum += one;
    }
    *out = sqrt (sum);
    return DPS_OK;
}

/* out_scratch: only ask what the update needs of the scratch. */
static DpsStatus update (const DpsOptim *o, DpsWeights *w, int32_t i, double lr, double scale, uint64_t *out_scratch, DpsError *err)
{
    const DpsWeight *spec = &w->model->weights[i];
    const DpsStore *s = &w->stores[i];
    int64_t n = dps_weight_elements (spec);
    int decays = spec->role != DPS_WEIGHT_NORM && spec->role != DPS_WEIGHT_BIAS;
    DpsView p = dps_block_view (DPS_DTYPE_F32, 1, &n, dps_weights_master_block (w, i), 0),
            g = dps_block_view (DPS_DTYPE_F32, 1, &n, &s->grad, 0), m = dps_block_view (DPS_DTYPE_F32, 1, &n, &s->m, 0),
            v = dps_block_view (DPS_DTYPE_F32, 1, &n, &s->v, 0);
    DpsScalar attrs[] = {{.f = lr},
                         {.f = o->kind == DPS_OPTIM_SGD ? o->momentum : o->beta1},
                         {.f = o->beta2},
                         {.f = o->epsilon},
                         {.f = decays ? o->weight_decay : 0},
                         {.i = (int64_t)o->t},
                         {.f = scale}};
    int is_adamw = o->kind == DPS_OPTIM_ADAMW;
    DpsOpCode op = is_adamw ? DPS_OP_adamw_step : DPS_OP_sgd_step;
    const DpsView *moment = dps_optim_moments (o) ? &m : NULL;
    DpsOp call = {DPS_IN (&p, &g, moment, is_adamw ? &v : NULL, NULL), DPS_OUT (&p, moment, is_adamw ? &v : NULL, NULL), .attrs = attrs,
                  .n_attrs = sizeof attrs / sizeof *attrs};
    if (!is_adamw) {
        call.n_in = 4;
        call.n_out = 3;
    }
    return out_scratch ? dps_exec_op_scratch (w->ex, op, call, out_scratch, err) : dps_exec_op (w->ex, op, call, err);
}

DpsStatus dps_optim_measure (const DpsOptim *o, DpsWeights *w, uint64_t *out_scratch, DpsError *err)
{
    DpsOptim first = *o;
    first.t = 1;
    *out_scratch = 0;
    for (size_t i = 0; i < w->model->n_weights; i++) {
        uint64_t bytes = 0;
        if (w->model->weights[i].trainable)
            DPS_TRY (update (&first, w, (int32_t)i, 0, 1, &bytes, err));
        *out_scratch = bytes > *out_scratch ? bytes : *out_scratch;
    }
    return DPS_OK;
}

DpsStatus dps_optim_step (DpsOptim *o, DpsWeights *w, double lr, double grad_norm, DpsError *err)
{
    double scale = dps_clip_factor (grad_norm, o->max_grad_norm);
    o->t++;
    for (size_t i = 0; i < w->model->n_weights; i++)
        if (w->stores[i].grad.buffer)
            DPS_TRY (update (o, w, (int32_t)i, lr, scale, NULL, err));
    return dps_weights_refresh (w, err);
}
