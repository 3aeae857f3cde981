/* SPDX-License-Identifier: Apache-2.0 */
/*
 * matcher.h: regular expressions from strangers on text from strangers: PCRE2 within fixed limits, allocating through base/mem.h. A plugin
 * that uses it links pcre2-8.
 */
#ifndef DPS_BASE_MATCHER_H
#define DPS_BASE_MATCHER_H

#include "base/mem.h"
#include "base/status.h"

/* A module path has a few dozen characters: an honest expression needs a few hundred steps. */
enum { DPS_MATCHER_STEPS = 100000 };

typedef struct DpsMatcher DpsMatcher;

/** All zeros: found anywhere in valid UTF-8 text. */
typedef struct DpsMatcherOptions {
    const char *before, *after; /* put around the expression; NULL: nothing */
    int whole;                  /* match whole texts only */
    int ignore_case;
    int any_bytes;  /* the text may hold invalid UTF-8, which nothing matches */
    uint32_t steps; /* 0: DPS_MATCHER_STEPS */
} DpsMatcherOptions;

/** Compile. `where` names the source in errors. Errors: USAGE with the place and reason, LIMIT (over 4 KiB), NOMEM. [any] */
DpsStatus dps_matcher_new (const char *pattern, const DpsMatcherOptions *options, const char *where, DpsMatcher **out, DpsError *err);
void dps_matcher_free (DpsMatcher *p);

/** 1 found, 0 not, -1 past a limit, -2 out of memory. [any, one at a time per object] */
int dps_matcher_find (const DpsMatcher *p, const char *text, size_t len);

/** Where group k of the last successful find lies in its text: 1, or 0 when the group took no part or does not exist. 0: all of it. */
int dps_matcher_group (const DpsMatcher *p, uint32_t k, size_t *out_start, size_t *out_end);

/** The number of groups. */
uint32_t dps_matcher_groups (const DpsMatcher *p);

#endif
