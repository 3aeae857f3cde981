/* SPDX-License-Identifier: Apache-2.0 */
/* chart.c: picture units are 1/640 of the chart's width; y grows downwards, as in SVG. */
#include "observe/chart.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "observe/html.h"

enum { WIDTH = 640, HEIGHT = 250, LEFT = 58, RIGHT = 16, TOP = 14, BOTTOM = 26 };
enum { MAX_DRAWN = 1200, MAX_TIPS = 240, MIN_SMOOTHED = 24 };

typedef struct Axis {
    double min, max; /* shown range */
    double step;     /* between ticks */
} Axis;

typedef struct Plot {
    const DpsChart *chart;
    Axis x, y;
} Plot;

static double px (const Plot *p, double x) { return LEFT + (WIDTH - LEFT - RIGHT) * (x - p->x.min) / (p->x.max - p->x.min); }
static double py (const Plot *p, double y) { return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (y - p->y.min) / (p->y.max - p->y.min); }

/* 1, 2 or 5 times a power of ten, near span / n. */
static double nice_step (double span, double n)
{
    double raw = span / n, power = pow (10, floor (log10 (raw))), f = raw / power;
    return power * (f <= 1 ? 1 : f <= 2 ? 2 : f <= 5 ? 5 : 10);
}

static Axis axis_for (double min, double max, double n_ticks, int widen)
{
    if (!(max > min)) {
        double pad = min != 0 ? fabs (min) * 0.1 : 1;
        min -= widen ? pad : 0;
        max += pad;
    }
    Axis a = {.step = nice_step (max - min, n_ticks)};
    a.min = widen ? floor (min / a.step) * a.step : min;
    a.max = widen ? ceil (max / a.step) * a.step : max;
    return a;
}

static int is_point (const DpsSeries *s, size_t i) { return isfinite (s->x[i]) && isfinite (s->y[i]) && fabs (s->y[i]) < 1e30; }

size_t dps__chart_points (const DpsChart *c)
{
    size_t n = 0;
    for (size_t k = 0; k < c->n_series; k++)
        for (size_t i = 0; i < c->series[k].n; i++)
            n += is_point (&c->series[k], i) != 0;
    return n;
}

static Plot layout (const DpsChart *c)
{
    double x0 = INFINITY, x1 = -INFINITY, y0 = c->from_zero ? 0 : INFINITY, y1 = c->from_zero ? 0 : -INFINITY;
    for (size_t k = 0; k < c->n_series; k++)
        for (size_t i = 0; i < c->series[k].n; i++) {
            if (!is_point (&c->series[k], i))
                continue;
            x0 = fmin (x0, c->series[k].x[i]);
            x1 = fmax (x1, c->series[k].x[i]);
            y0 = fmin (y0, c->series[k].y[i]);
            y1 = fmax (y1, c->series[k].y[i]);
        }
    if (!isfinite (x0) || !isfinite (y0))
        x0 = y0 = 0, x1 = y1 = 1;
    if (x0 >= 0 && x0 < 0.2 * x1)
        x0 = 0; /* steps start at 0 unless the first ones are missing */
    return (Plot){c, axis_for (x0, x1, 6, 0), axis_for (y0, y1, 4, 1)};
}

void dps__chart_number (double v, char *buf, size_t cap)
{
    double a = fabs (v);
    char text[40];
    if (a >= 1e9 || (a > 0 && a < 1e-2)) { /* 2.00e-04 → 2e-4 */
        snprintf (text, sizeof text, "%.2e", v);
        char *e = strchr (text, 'e'), *end = e;
        while (end && end > text && end[-1] == '0')
            end--;
        if (end && end > text && end[-1] == '.')
            end--;
        snprintf (buf, cap, "%.*se%d", (int)(end - text), text, (int)strtol (e + 1, NULL, 10));
        return;
    }
    const char *suffix = a >= 1e6 ? "M" : a >= 1e4 ? "k" : "";
    snprintf (buf, cap, "%.4g%s", a >= 1e6 ? v / 1e6 : a >= 1e4 ? v / 1e3 : v, suffix);
}

static int add_axes (DpsBuf *out, const Plot *p)
{
    char text[40];
    int bad = 0;
    for (int i = 0; i <= 12 && !bad; i++) {
        double v = p->y.min + i * p->y.step, y = py (p, v);
        if (v > p->y.max + p->y.step * 1e-6)
            break;
        dps__chart_number (fabs (v) < p->y.step * 1e-9 ? 0 : v, text, sizeof text);
        bad = dps_buf_printf (out, "<path class=\"grid\" d=\"M%d %.1fH%d\"/><text x=\"%d\" y=\"%.1f\" class=\"tick end\">%s</text>", LEFT,
                              y, WIDTH - RIGHT, LEFT - 8, y + 4, text);
    }
    double first = ceil (p->x.min / p->x.step) * p->x.step;
    for (int i = 0; i <= 14 && !bad; i++) {
        double v = first + i * p->x.step;
        if (v > p->x.max + p->x.step * 1e-6)
            break;
        if (p->x.step < 1 && fabs (v - round (v)) > 1e-6)
            continue; /* there are no half steps */
        dps__chart_number (v, text, sizeof text);
        bad = dps_buf_printf (out, "<text x=\"%.1f\" y=\"%d\" class=\"tick mid\">%s</text>", px (p, v), HEIGHT - BOTTOM + 18, text);
    }
    return bad || dps_buf_printf (out, "<text x=\"%d\" y=\"%d\" class=\"tick end\">step</text>", LEFT - 8, HEIGHT - BOTTOM + 18);
}

/* A polyline, broken where there is no value. When there are more points than pixels, of each run of points the lowest and the highest. */
static int add_line (DpsBuf *out, const Plot *p, const DpsSeries *s, const double *y, const char *css)
{
    size_t bucket = s->n > MAX_DRAWN ? (s->n * 2 + MAX_DRAWN - 1) / MAX_DRAWN : 1;
    int pen = 0, bad = dps_buf_printf (out, "<path class=\"%s\" d=\"", css);
    for (size_t start = 0; start < s->n && !bad; start += bucket) {
        size_t end = start + bucket < s->n ? start + bucket : s->n, low = SIZE_MAX, high = SIZE_MAX;
        for (size_t i = start; i < end; i++) {
            if (!is_point (s, i) || !isfinite (y[i]))
                continue;
            low = low == SIZE_MAX || y[i] < y[low] ? i : low;
            high = high == SIZE_MAX || y[i] > y[high] ? i : high;
        }
        size_t two[2] = {low < high ? low : high, low < high ? high : low};
        if (low == SIZE_MAX) {
            pen = 0;
            continue;
        }
        for (int k = 0; k < (two[0] == two[1] ? 1 : 2) && !bad; k++) {
            bad = dps_buf_printf (out, "%c%.1f %.1f", pen ? 'L' : 'M', px (p, s->x[two[k]]), py (p, y[two[k]]));
            pen = 1;
        }
    }
    return bad || dps_buf_str (out, "\"/>");
}

/* Centred, so that a falling curve is not drawn late: over a thirtieth of the run, at least 4 points either side. */
static double *moving_average (const DpsSeries *s)
{
    double *y = dps_calloc (s->n, sizeof *y), sum = 0;
    size_t half = s->n / 60 > 4 ? s->n / 60 : 4, inside = 0;
    for (size_t i = 0; y && i < s->n + half; i++) { /* i enters the window of i - half, i - 2·half - 1 leaves it */
        size_t leaves = i - 2 * half - 1;
        if (i < s->n && is_point (s, i)) {
            sum += s->y[i];
            inside++;
        }
        if (i > 2 * half && is_point (s, leaves)) {
            sum -= s->y[leaves];
            inside--;
        }
        if (i >= half)
            y[i - half] = inside ? sum / (double)inside : NAN;
    }
    return y;
}

/* Transparent discs with a tooltip each: what a pointer finds without any script. */
static int add_tips (DpsBuf *out, const Plot *p, const DpsSeries *s, size_t index)
{
    size_t stride = s->n > MAX_TIPS ? (s->n + MAX_TIPS - 1) / MAX_TIPS : 1;
    int bad = 0, dots = s->n <= 32;
    for (size_t i = 0; i < s->n && !bad; i += stride) {
        char text[40];
        if (!is_point (s, i))
            continue;
        dps__chart_number (s->y[i], text, sizeof text);
        double x = px (p, s->x[i]), y = py (p, s->y[i]);
        bad = (dots && dps_buf_printf (out, "<circle class=\"dot s%zu\" cx=\"%.1f\" cy=\"%.1f\" r=\"2.6\"/>", index, x, y)) ||
              dps_buf_printf (out, "<circle class=\"tip\" cx=\"%.1f\" cy=\"%.1f\" r=\"8\"><title>step %.0f: ", x, y, s->x[i]) ||
              dps__html_text (out, s->name) || dps_buf_printf (out, " %s</title></circle>", text);
    }
    return bad;
}

static int add_series (DpsBuf *out, const Plot *p, size_t k)
{
    const DpsSeries *s = &p->chart->series[k];
    char css[40];
    int smooth = s->smooth && s->n >= MIN_SMOOTHED;
    snprintf (css, sizeof css, "line s%zu%s", k, smooth ? " pale" : "");
    int bad = add_line (out, p, s, s->y, css);
    if (smooth && !bad) {
        double *y = moving_average (s);
        snprintf (css, sizeof css, "line s%zu", k);
        bad = !y || add_line (out, p, s, y, css);
        dps_free (y);
    }
    return bad || add_tips (out, p, s, k);
}

int dps__chart_svg (DpsBuf *out, const DpsChart *c)
{
    Plot p = layout (c);
    int bad = dps_buf_printf (out, "<svg viewBox=\"0 0 %d %d\" role=\"img\" aria-label=\"", WIDTH, HEIGHT) ||
              dps__html_text (out, c->label) || dps_buf_str (out, "\">") || add_axes (out, &p);
    for (size_t k = 0; k < c->n_series && !bad; k++)
        bad = add_series (out, &p, k);
    return bad || dps_buf_str (out, "</svg>\n") ? -1 : 0;
}
