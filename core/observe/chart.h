/* SPDX-License-Identifier: Apache-2.0 */
/* chart.h: line charts as inline SVG: no script, colours from the page's style so that they follow light and dark. */
#ifndef DPS_OBSERVE_CHART_H
#define DPS_OBSERVE_CHART_H

#include "base/mem.h"

/** One line. A value that is not finite leaves a gap. Borrowed. */
typedef struct DpsSeries {
    const char *name; /* in the legend and the tooltips */
    const double *x;  /* [n], rising */
    const double *y;  /* [n] */
    size_t n;
    int smooth; /* draw a moving average over the pale line itself */
} DpsSeries;

typedef struct DpsChart {
    const char *label; /* read out instead of the picture */
    DpsSeries series[2];
    size_t n_series;
    int from_zero; /* the vertical axis starts at 0 */
} DpsChart;

/** Points with a finite value, all series together: a chart of fewer than 2 is not worth drawing. [any] */
size_t dps__chart_points (const DpsChart *c);

/** Append the <svg> element. 0 or -1 (no memory). [any] */
int dps__chart_svg (DpsBuf *out, const DpsChart *c);

/** A number as axes show it: "0.0002" is "2e-4", "1250000" is "1.25M". [any] */
void dps__chart_number (double v, char *buf, size_t cap);

#endif
