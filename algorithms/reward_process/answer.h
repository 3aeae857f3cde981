/* SPDX-License-Identifier: Apache-2.0 */
/* answer.h: what one line of a judging program says. */
#ifndef DPS_REWARD_PROCESS_ANSWER_H
#define DPS_REWARD_PROCESS_ANSWER_H

#include "base/status.h"

typedef struct Answer {
    int out_of_step; /* it has the id of another row: nothing else is said */
    uint32_t status; /* DPS_SCORE_OK, _NOT_JUDGED or _FAILED */
    double score;    /* NaN but when OK */
    char why[300];   /* it FAILED; "" otherwise */
} Answer;

/** Whatever the line is, it is an answer to row `id`. Errors: NOMEM. [any] */
DpsStatus answer_read (const char *line, size_t len, uint64_t id, Answer *out, DpsError *err);

#endif
