/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pace.h: tokens per second and time left for the progress line. A moving average over about the last 20 steps: the first steps (caches,
 * packing) fade out, and one slow step does not make the estimate jump. Has no clock of its own.
 */
#ifndef DPS_OBSERVE_PACE_H
#define DPS_OBSERVE_PACE_H

#include <stddef.h>
#include <stdint.h>

/** All zeros is valid: nothing measured yet. */
typedef struct DpsPace {
    double step_s;       /* average seconds of a step */
    double step_tokens;  /* average tokens of a step */
    double weight;       /* of the averages, 0 … 1: how much of them has been measured */
    double total_s;      /* of the steps seen */
    double total_tokens; /* of the steps seen */
    uint64_t n;
} DpsPace;

/** One step took `seconds` and trained on `tokens` tokens. [any] */
void dps_pace_add (DpsPace *p, double seconds, double tokens);
/** Tokens per second now; 0 when nothing was measured. [any] */
double dps_pace_rate (const DpsPace *p);
/** Seconds that `steps` more steps will take; negative when nothing was measured. [any] */
double dps_pace_left (const DpsPace *p, uint64_t steps);
/** "312 tokens/s, 2:10 left" into buf (NUL-terminated, cut at cap); "" when nothing was measured. [any] */
void dps_pace_text (const DpsPace *p, uint64_t steps_left, char *buf, size_t cap);
/** Seconds as "0:07", "12:34", "3:05:00", "2 d 03:05". [any] */
void dps_duration_text (double seconds, char *buf, size_t cap);

#endif
