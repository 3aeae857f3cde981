/* SPDX-License-Identifier: Apache-2.0 */
/*
 * With x = frequency/2π (turns per position) the scaling depends on two numbers only, a = original/(high − low) and b = low/(high − low):
 *
 *     s = a·x − b      divisor 1 where s > 1, F where s < 0, else 1/((1 − s)/F + s)
 *
 * so every (low, high, original) with these a and b is as good as the one that was meant: original is set to 8192. Two frequencies in between
 * give the line; one or none leave room, and any line that puts the others on their sides of it will do.
 */
#include "graph/rope_fit.h"

#include <math.h>

enum { ORIGINAL = 8192 };

typedef struct Fit {
    const float *divisors;
    int64_t n, first, last; /* frequencies [first, last) lie in between; those before keep theirs, those after are divided by F */
    double theta, factor;
} Fit;

static double turns (const Fit *f, int64_t i) { return pow (f->theta, -(double)i / (double)f->n) / (2 * 3.14159265358979323846); }

static double position (const Fit *f, int64_t i) { return (1 / (double)f->divisors[i] - 1 / f->factor) / (1 - 1 / f->factor); }

static void line (const Fit *f, double *a, double *b)
{
    double x = turns (f, f->first), s;
    if (f->last - f->first > 1) {
        *a = (position (f, f->first) - position (f, f->last - 1)) / (x - turns (f, f->last - 1));
        *b = *a * x - position (f, f->first);
        return;
    }
    double above = f->first > 0 ? turns (f, f->first - 1) : 2 * x, below = f->last < f->n ? turns (f, f->last) : 0;
    if (f->last > f->first) {
        s = position (f, f->first);
        *a = fmax ((1 - s) / (above - x), s / (x - below));
        *b = *a * x - s;
    } else { /* s is 1 at the last kept one and 0 at the first divided one */
        *a = 1 / (above - below);
        *b = *a * below;
    }
}

static int reproduces (const Fit *f, const DpsRope *r)
{
    float table[4096];
    DpsRope plain = {.theta = r->theta, .factor = 1};
    float base[4096];
    dps_rope_table (r, 2 * f->n, table);
    dps_rope_table (&plain, 2 * f->n, base);
    for (int64_t i = 0; i < f->n; i++)
        if (!(fabs ((double)base[i] / (double)f->divisors[i] / (double)table[i] - 1) < 1e-5))
            return 0;
    return 1;
}

DpsStatus dps__rope_fit (const float *divisors, int64_t n, DpsRope *out, DpsError *err)
{
    Fit f = {.divisors = divisors, .n = n, .theta = out->theta, .factor = n > 0 ? (double)divisors[n - 1] : 1};
    if (n < 1 || n > 4096 || !(f.factor >= 1))
        return dps_fail (err, DPS_ERR_FORMAT, "%lld divisors of rope frequencies, the last %g", (long long)n, f.factor);
    out->factor = f.factor;
    if (f.factor == 1) {
        out->type = DPS_ROPE_DEFAULT;
        return reproduces (&f, out) ? DPS_OK : dps_fail (err, DPS_ERR_FORMAT, "the divisors are not those of llama 3's scaling");
    }
    out->type = DPS_ROPE_LLAMA3;
    out->low_freq_factor = 1;
    out->high_freq_factor = 4;
    out->original_max_position = ORIGINAL;
    if (reproduces (&f, out))
        return DPS_OK;
    while (f.first < n && divisors[f.first] == 1)
        f.first++;
    for (f.last = f.first; f.last < n && (double)divisors[f.last] < f.factor; f.last++)
        ;
    double a, b;
    line (&f, &a, &b);
    out->low_freq_factor = ORIGINAL * b / a;
    out->high_freq_factor = ORIGINAL * (1 + b) / a;
    if (a > 0 && b > 0 && reproduces (&f, out))
        return DPS_OK;
    return dps_fail (err, DPS_ERR_FORMAT, "the divisors are not those of llama 3's scaling");
}
