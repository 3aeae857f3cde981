/* SPDX-License-Identifier: Apache-2.0 */
/*
 * regex.h: the regular expressions of tokenizer.json, through PCRE2 within fixed limits: an expression that backtracks without end is
 * a LIMIT error, not a hang. Classes mean what Oniguruma means by them: \s is White_Space, \w and \d are Unicode's.
 */
#ifndef DPS_TOKEN_REGEX_H
#define DPS_TOKEN_REGEX_H

#include "base/mem.h"
#include "base/status.h"

typedef struct DpsRegex DpsRegex;

/** Compile. literal: the pattern is plain text. Errors: FORMAT (place and reason), LIMIT (too long), NOMEM. */
DpsStatus dps_regex_new (const char *pattern, size_t len, int literal, DpsRegex **out, DpsError *err);
void dps_regex_free (DpsRegex *re);

/**
 * The first match in s[from..len): *out_found, and [*out_start, *out_end), possibly empty. s is valid UTF-8.
 * Errors: LIMIT when matching passes its step limit; NOMEM. [any], several threads at once.
 */
DpsStatus dps_regex_find (const DpsRegex *re, const char *s, size_t len, size_t from, int *out_found, size_t *out_start, size_t *out_end,
                          DpsError *err);

#endif
