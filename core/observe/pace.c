/* SPDX-License-Identifier: Apache-2.0 */
#include "observe/pace.h"

#include <math.h>
#include <stdio.h>

static const double KEEP = 0.95; /* of the old average at each step: a half-life of 13 steps */

void dps_pace_add (DpsPace *p, double seconds, double tokens)
{
    if (!(seconds >= 0) || !(tokens >= 0))
        return;
    p->step_s = KEEP * p->step_s + (1 - KEEP) * seconds;
    p->step_tokens = KEEP * p->step_tokens + (1 - KEEP) * tokens;
    p->weight = KEEP * p->weight + (1 - KEEP);
    p->total_s += seconds;
    p->total_tokens += tokens;
    p->n++;
}

double dps_pace_rate (const DpsPace *p) { return p->step_s > 0 ? p->step_tokens / p->step_s : 0; }

double dps_pace_left (const DpsPace *p, uint64_t steps) { return p->weight > 0 ? (double)steps * p->step_s / p->weight : -1; }

void dps_duration_text (double seconds, char *buf, size_t cap)
{
    if (!(seconds >= 0 && seconds < 1e12)) {
        snprintf (buf, cap, "?");
        return;
    }
    unsigned long long s = (unsigned long long)llround (seconds);
    if (s < 3600)
        snprintf (buf, cap, "%llu:%02llu", s / 60, s % 60);
    else if (s < 86400)
        snprintf (buf, cap, "%llu:%02llu:%02llu", s / 3600, s / 60 % 60, s % 60);
    else
        snprintf (buf, cap, "%llu d %02llu:%02llu", s / 86400, s / 3600 % 24, s / 60 % 60);
}

void dps_pace_text (const DpsPace *p, uint64_t steps_left, char *buf, size_t cap)
{
    char left[40];
    if (cap)
        buf[0] = '\0';
    if (p->n == 0)
        return;
    double rate = dps_pace_rate (p);
    dps_duration_text (dps_pace_left (p, steps_left), left, sizeof left);
    snprintf (buf, cap, rate < 10 ? "%.1f tokens/s, %s left" : "%.0f tokens/s, %s left", rate, left);
}
