/* SPDX-License-Identifier: Apache-2.0 */
#include "optim/step.h"

#include <math.h>

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
        const float *g = dps_weights_grad (w, (int32_t)i);
        if (!g)
            continue;
        double one = 0; /* written by the op */
        int64_t n = dps_weight_elements (&w->model->weights[i]), scalar = 1;
        DpsView x = dps_view (DPS_DTYPE_F32, 1, &n, g), y = dps_view (DPS_DTYPE_F64, 1, &scalar, &one);
        DPS_TRY (dps_exec_op (w->ex, DPS_OP_sumsq, (const DpsView *[]){&x}, 1, (const DpsView *[]){&y}, 1, NULL, 0, err));
        sum += one;
    }
    *out = sqrt (sum);
    return DPS_OK;
}

static DpsStatus update (DpsOptim *o, DpsWeights *w, int32_t i, double lr, double scale, DpsError *err)
{
    const DpsWeight *spec = &w->model->weights[i];
    const DpsStore *s = &w->stores[i];
    int64_t n = dps_weight_elements (spec);
    int decays = spec->role != DPS_WEIGHT_NORM && spec->role != DPS_WEIGHT_BIAS;
    DpsView p = dps_view (DPS_DTYPE_F32, 1, &n, dps_weights_master (w, i)), g = dps_view (DPS_DTYPE_F32, 1, &n, s->grad.host),
            m = dps_view (DPS_DTYPE_F32, 1, &n, s->m.host), v = dps_view (DPS_DTYPE_F32, 1, &n, s->v.host);
    DpsScalar attrs[] = {{.f = lr},
                         {.f = o->kind == DPS_OPTIM_SGD ? o->momentum : o->beta1},
                         {.f = o->beta2},
                         {.f = o->epsilon},
                         {.f = decays ? o->weight_decay : 0},
                         {.i = (int64_t)o->t},
                         {.f = scale}};
    if (o->kind == DPS_OPTIM_ADAMW)
        return dps_exec_op (w->ex, DPS_OP_adamw_step, (const DpsView *[]){&p, &g, &m, &v, NULL}, 5, (const DpsView *[]){&p, &m, &v, NULL},
                            4, attrs, 7, err);
    const DpsView *moment = s->m.host ? &m : NULL;
    return dps_exec_op (w->ex, DPS_OP_sgd_step, (const DpsView *[]){&p, &g, moment, NULL}, 4, (const DpsView *[]){&p, moment, NULL}, 3,
                        attrs, 7, err);
}

DpsStatus dps_optim_step (DpsOptim *o, DpsWeights *w, double lr, double grad_norm, DpsError *err)
{
    double scale = dps_clip_factor (grad_norm, o->max_grad_norm);
    o->t++;
    for (size_t i = 0; i < w->model->n_weights; i++)
        if (w->stores[i].grad.host)
            DPS_TRY (update (o, w, (int32_t)i, lr, scale, err));
    return dps_weights_refresh (w, err);
}
