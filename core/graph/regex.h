/* SPDX-License-Identifier: Apache-2.0 */
/* regex.h: regular expressions from strangers, on module paths: PCRE2 within fixed limits, allocating through base/mem.h. */
#ifndef DPS_GRAPH_REGEX_H
#define DPS_GRAPH_REGEX_H

#include "base/mem.h"
#include "base/status.h"

/* A module path has a few dozen characters: an honest expression needs a few hundred steps. */
enum { DPS__REGEX_STEPS = 100000 };

typedef struct DpsRegex DpsRegex;

/**
 * Compile before + pattern + after, to match whole strings only. `where` names the source in errors.
 * Errors: USAGE with the place and reason, LIMIT (over 4 KiB), NOMEM. [any]
 */
DpsStatus dps__regex_new (const char *before, const char *pattern, const char *after, const char *where, DpsRegex **out, DpsError *err);
void dps__regex_free (DpsRegex *r);

/** 1 match, 0 none, -1 past a limit or out of memory. [any, one at a time per object] */
int dps__regex_match (const DpsRegex *r, const char *path);

#endif
