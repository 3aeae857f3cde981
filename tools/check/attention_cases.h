/* SPDX-License-Identifier: Apache-2.0 */
/* attention_cases.h: the segment tables that attention is tried on, and one call on each. */
#ifndef DPS_TOOLS_CHECK_ATTENTION_CASES_H
#define DPS_TOOLS_CHECK_ATTENTION_CASES_H

#include "check/kit.h"

enum { ATTENTION_SEGMENTS = 6 };

typedef struct AttentionCase {
    const char *what;
    int64_t H, G, h, window;
    double cap;
    int64_t n, m; /* rows of q and of k, v */
    int64_t n_segments;
    DpsSegment segments[ATTENTION_SEGMENTS];
} AttentionCase;

extern const AttentionCase attention_cases[];
extern const int n_attention_cases;
enum {
    ATTENTION_WINDOW = 4, /* the one with a window, a softcap and two sequences */
    ATTENTION_SHARP = 15  /* the one with scores of a hundred and more, whose exponentials no f32 holds */
};

typedef struct AttentionRun {
    KitArray *q, *k, *v, *segments, *o, *lse, *d_o, *dq, *dk, *dv;
    DpsScalar attrs[6];
    int64_t length; /* the longest row of keys */
    double wide;    /* √h: what do·v is as large as, of which the adjoint takes differences */
} AttentionRun;

AttentionRun attention_run (Kit *k, const AttentionCase *t, uint32_t in, uint32_t out);
KitCall attention_forward (const AttentionRun *r);
KitCall attention_backward (const AttentionRun *r);

#endif
