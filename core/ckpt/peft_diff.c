/* SPDX-License-Identifier: Apache-2.0 */
/*
 * peft_diff.c: ⟨B₁A₁, B₂A₂⟩ = Σ (B₁ᵀB₂) ∘ (A₁A₂ᵀ), so norms and products of updates need r₁ × r₂ numbers. ‖Δ₁ − Δ₂‖² = ‖Δ₁‖² + ‖Δ₂‖² − 2⟨Δ₁, Δ₂⟩:
 * exactly 0 for equal adapters, and good to about 1e-8 of the norms otherwise.
 */
#include "ckpt/peft_diff.h"

#include <math.h>
#include <string.h>

/* The factors of one module in f32. */
typedef struct Factors {
    float *a, *b; /* (r, in), (out, r) */
    int64_t r, in, out;
    double scale;
} Factors;

static DpsStatus read_tensor (const DpsPeftAdapter *from, int64_t tensor, float **out, uint64_t *n, DpsError *err)
{
    *n = dps_tensors_at (from->file, (size_t)tensor)->n_elements;
    *out = dps_malloc (*n, sizeof **out);
    return *out ? dps_tensors_read_f32 (from->file, (size_t)tensor, *out, *n, err)
                : dps_fail (err, DPS_ERR_NOMEM, "adapters: out of memory");
}

static DpsStatus read_factors (const DpsPeftAdapter *from, const DpsPeftModule *m, Factors *f, DpsError *err)
{
    uint64_t n;
    *f = (Factors){.r = m->r, .in = m->in, .out = m->out, .scale = m->scale};
    DPS_TRY (read_tensor (from, m->a, &f->a, &n, err));
    return read_tensor (from, m->b, &f->b, &n, err);
}

static void free_factors (Factors *f)
{
    dps_free (f->a);
    dps_free (f->b);
    *f = (Factors){0};
}

/* ⟨s₁·B₁A₁, s₂·B₂A₂⟩ */
static double product (const Factors *x, const Factors *y)
{
    double sum = 0;
    for (int64_t i = 0; i < x->r; i++)
        for (int64_t j = 0; j < y->r; j++) {
            double bb = 0, aa = 0;
            for (int64_t o = 0; o < x->out; o++)
                bb += (double)x->b[o * x->r + i] * (double)y->b[o * y->r + j];
            for (int64_t k = 0; k < x->in; k++)
                aa += (double)x->a[i * x->in + k] * (double)y->a[j * y->in + k];
            sum += bb * aa;
        }
    return x->scale * y->scale * sum;
}

static double vector_difference (const float *x, const float *y, uint64_t n)
{
    double sum = 0;
    for (uint64_t i = 0; i < n; i++) {
        double d = (x ? (double)x[i] : 0) - (y ? (double)y[i] : 0);
        sum += d * d;
    }
    return sqrt (sum);
}

static DpsStatus other_shape (const char *module, DpsError *err)
{
    return dps_fail (err, DPS_ERR_SHAPE, "adapters: '%.300s' is of another size in the second: they belong to different models", module);
}

static DpsStatus magnitudes (const DpsPeftAdapter *a, const DpsPeftModule *x, const DpsPeftAdapter *b, const DpsPeftModule *y, double *out,
                             DpsError *err)
{
    float *u = NULL, *v = NULL;
    uint64_t n, m;
    DpsStatus st = read_tensor (a, x->magnitude, &u, &n, err);
    if (st == DPS_OK)
        st = read_tensor (b, y->magnitude, &v, &m, err);
    if (st == DPS_OK)
        *out = vector_difference (u, v, n);
    dps_free (u);
    dps_free (v);
    return st;
}

/* One of x and y may be NULL. */
static DpsStatus compare (const DpsPeftAdapter *a, const DpsPeftModule *x, const DpsPeftAdapter *b, const DpsPeftModule *y,
                          DpsPeftDelta *out, DpsError *err)
{
    Factors f = {0}, g = {0};
    *out = (DpsPeftDelta){.module = x ? x->path : y->path, .magnitude = NAN, .in_a = x != NULL, .in_b = y != NULL};
    if (x && y && (x->in != y->in || x->out != y->out))
        return other_shape (x->path, err);
    DpsStatus st = x ? read_factors (a, x, &f, err) : DPS_OK;
    if (st == DPS_OK && y)
        st = read_factors (b, y, &g, err);
    if (st == DPS_OK) {
        double aa = x ? product (&f, &f) : 0, bb = y ? product (&g, &g) : 0, ab = x && y ? product (&f, &g) : 0;
        out->a = sqrt (aa);
        out->b = sqrt (bb);
        out->difference = sqrt (fmax (0, aa + bb - 2 * ab));
    }
    if (st == DPS_OK && x && y && x->magnitude >= 0 && y->magnitude >= 0)
        st = magnitudes (a, x, b, y, &out->magnitude, err);
    free_factors (&f);
    free_factors (&g);
    return st;
}

static DpsStatus compare_saved (const DpsPeftAdapter *a, const DpsPeftSaved *x, const DpsPeftAdapter *b, const DpsPeftSaved *y,
                                DpsPeftDelta *out, DpsError *err)
{
    float *u = NULL, *v = NULL;
    uint64_t n = 0, m = 0;
    *out = (DpsPeftDelta){.module = x ? x->name : y->name, .magnitude = NAN, .in_a = x != NULL, .in_b = y != NULL};
    DpsStatus st = x ? read_tensor (a, x->tensor, &u, &n, err) : DPS_OK;
    if (st == DPS_OK && y)
        st = read_tensor (b, y->tensor, &v, &m, err);
    if (st == DPS_OK && x && y && n != m)
        st = other_shape (x->name, err);
    if (st == DPS_OK) {
        out->a = vector_difference (u, NULL, u ? n : 0);
        out->b = vector_difference (v, NULL, v ? m : 0);
        out->difference = vector_difference (u, v, u ? n : m);
    }
    dps_free (u);
    dps_free (v);
    return st;
}

static const DpsPeftSaved *find_saved (const DpsPeftAdapter *in, const char *name)
{
    for (size_t i = 0; i < in->n_saved; i++)
        if (!strcmp (in->saved[i].name, name))
            return &in->saved[i];
    return NULL;
}

DpsStatus dps_peft_diff (const DpsPeftAdapter *a, const DpsPeftAdapter *b, DpsPeftDelta **out, size_t *out_n, DpsError *err)
{
    const char *other = a->config.plugin ? a->config.plugin : b->config.plugin;
    if (other)
        return dps_fail (err, DPS_ERR_UNSUPPORTED, "adapters: what '%.100s' adds to a module is only known to its plugin", other);
    DpsPeftDelta *list = dps_calloc (a->n_modules + b->n_modules + a->n_saved + b->n_saved, sizeof *list);
    DpsStatus st = list ? DPS_OK : dps_fail (err, DPS_ERR_NOMEM, "adapters: out of memory");
    size_t n = 0;
    for (size_t i = 0, k = 0; st == DPS_OK && (i < a->n_modules || k < b->n_modules);) { /* both are sorted by path */
        const DpsPeftModule *x = i < a->n_modules ? &a->modules[i] : NULL, *y = k < b->n_modules ? &b->modules[k] : NULL;
        int order = x && y ? strcmp (x->path, y->path) : x ? -1 : 1;
        st = compare (a, order <= 0 ? x : NULL, b, order >= 0 ? y : NULL, &list[n++], err);
        i += order <= 0;
        k += order >= 0;
    }
    for (size_t i = 0; st == DPS_OK && i < a->n_saved; i++)
        st = compare_saved (a, &a->saved[i], b, find_saved (b, a->saved[i].name), &list[n++], err);
    for (size_t i = 0; st == DPS_OK && i < b->n_saved; i++)
        if (!find_saved (a, b->saved[i].name))
            st = compare_saved (a, NULL, b, &b->saved[i], &list[n++], err);
    if (st != DPS_OK) {
        dps_free (list);
        return st;
    }
    *out = list;
    *out_n = n;
    return DPS_OK;
}
