/* SPDX-License-Identifier: Apache-2.0 */
/* optim.c: AdamW, SGD, Σ x², and DoRA's weight norm. AdamW's formula: parity/README "optim". */
#include <float.h>

#include "ops.h"

enum { BLOCK = 65536 };

static void shadow (const DpsView *to, int64_t i, float p)
{
    if (!to)
        return;
    store_n (to->host, i, 1, splat (p), 1);
}

/* 0 is a missing attribute: gradients as they are. */
static float grad_scale (const CpuCall *c) { return cpu_f (c, 6) == 0 ? 1 : (float)cpu_f (c, 6); }

DpsStatus ISA_NAME (cpu_adamw_step) (CpuCall *c)
{
    const float *g = cpu_in (c, 1)->host, *p_in = cpu_in (c, 0)->host, *m_in = cpu_in (c, 2)->host, *v_in = cpu_in (c, 3)->host;
    float *p = cpu_out (c, 0)->host, *m = cpu_out (c, 1)->host, *v = cpu_out (c, 2)->host;
    const DpsView *to = cpu_out (c, 3);
    double t = (double)cpu_i (c, 5), b1 = cpu_f (c, 1), b2 = cpu_f (c, 2);
    float lr = (float)cpu_f (c, 0), beta1 = (float)b1, beta2 = (float)b2, eps = (float)cpu_f (c, 3), scale = grad_scale (c);
    float decay = (float)(1 - cpu_f (c, 0) * cpu_f (c, 4)), c1 = (float)(1 / (1 - pow (b1, t))), c2 = (float)(1 / (1 - pow (b2, t)));
    int64_t n = cpu_count (cpu_out (c, 0));
    float one1 = (float)(1 - b1), one2 = (float)(1 - b2);
    PARALLEL_FOR (i, n, n)
    {
        float gk = g[i] * scale, mk = beta1 * m_in[i] + one1 * gk, vk = beta2 * v_in[i] + one2 * gk * gk;
        m[i] = mk;
        v[i] = vk;
        p[i] = p_in[i] * decay - lr * (mk * c1) / (sqrtf (vk * c2) + eps);
        shadow (to, i, p[i]);
    }
    return DPS_OK;
}

DpsStatus ISA_NAME (cpu_sgd_step) (CpuCall *c)
{
    const float *g = cpu_in (c, 1)->host, *p_in = cpu_in (c, 0)->host, *m_in = cpu_in (c, 2) ? cpu_in (c, 2)->host : NULL;
    float *p = cpu_out (c, 0)->host, *m = cpu_out (c, 1) ? cpu_out (c, 1)->host : NULL;
    float lr = (float)cpu_f (c, 0), momentum = (float)cpu_f (c, 1), decay = (float)cpu_f (c, 4), scale = grad_scale (c);
    int64_t n = cpu_count (cpu_out (c, 0));
    for (int64_t i = 0; i < n; i++) {
        float d = g[i] * scale + decay * p_in[i];
        if (m_in && m)
            d = m[i] = momentum * m_in[i] + d;
        p[i] = p_in[i] - lr * d;
        shadow (cpu_out (c, 2), i, p[i]);
    }
    return DPS_OK;
}

DpsStatus ISA_NAME (cpu_sumsq) (CpuCall *c)
{
    const DpsView *x = cpu_in (c, 0);
    int64_t total = cpu_count (x);
    double sum = 0;
    for (int64_t first = 0; first < total; first += BLOCK) {
        double part[LANES] = {0}, chunk = 0;
        int64_t end = first + BLOCK < total ? first + BLOCK : total;
        for (int64_t i = first; i < end; i += LANES) {
            int64_t n = end - i < LANES ? end - i : LANES;
            vf v = load_n (x->host, i, IS_BF (x), n);
            for (int l = 0; l < LANES; l++)
                part[l] += (double)v[l] * (double)v[l];
        }
        for (int l = 0; l < LANES; l++)
            chunk += part[l];
        sum += chunk;
    }
    *(double *)cpu_out (c, 0)->host = sum;
    return DPS_OK;
}

enum { DECODED = 16 * LANES };

/* One output row: Σ (W + s·B·A)², r small. q: W's codes, NULL where it is kept in numbers. */
static double norm_row (const DpsView *w, const DpsQuantised *q, const DpsView *a, const DpsView *b, double s, int64_t o)
{
    int64_t K = w->shape[1], r = a->shape[0];
    float decoded[DECODED];
    double sum = 0;
    for (int64_t k = 0; k < K; k += LANES) {
        int64_t n = K - k < LANES ? K - k : LANES;
        if (q && k % DECODED == 0)
            dps_quant_decode (q, o * K + k, K - k < DECODED ? K - k : DECODED, decoded);
        vf v = q ? load_n (decoded, k % DECODED, 0, n) : load_n (w->host, o * K + k, IS_BF (w), n), delta = splat (0);
        for (int64_t j = 0; j < r; j++) {
            vf bj = splat (load_n (b->host, o * r + j, IS_BF (b), 1)[0]);
            delta += bj * load_n (a->host, j * K + k, IS_BF (a), n);
        }
        v += splat ((float)s) * delta;
        for (int l = 0; l < LANES; l++)
            sum += (double)v[l] * (double)v[l];
    }
    return sum < (double)FLT_MIN * FLT_MIN ? FLT_MIN : sqrt (sum);
}

DpsStatus ISA_NAME (cpu_dora_norm) (CpuCall *c)
{
    const DpsView *w = cpu_in (c, 0), *a = cpu_in (c, 1), *b = cpu_in (c, 2), *m = cpu_in (c, 3), *v = cpu_out (c, 0),
                  *norm = cpu_out (c, 1);
    int64_t O = w->shape[0];
    double s = cpu_f (c, 0);
    DpsQuantised codes;
    const DpsQuantised *q = cpu_is_quantised (w) ? &codes : NULL;
    if (q)
        DPS_TRY (dps_quant_from_view (&cpu_quants, w, 1, &codes, c->err));
    PARALLEL_FOR (o, O, O * w->shape[1] * (a->shape[0] + 1))
    {
        float f = (float)norm_row (w, q, a, b, s, o);
        if (norm)
            ((float *)norm->host)[o] = f;
        if (v && m)
            ((float *)v->host)[o] = load_n (m->host, o, IS_BF (m), 1)[0] / f;
    }
    return DPS_OK;
}
