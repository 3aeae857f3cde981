/* SPDX-License-Identifier: Apache-2.0 */
#include "graph/regex.h"

#include <string.h>

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

enum { MAX_PATTERN = 4096, DEPTH_LIMIT = 1000, HEAP_LIMIT_KIB = 1024 };

struct DpsRegex {
    pcre2_code *code;
    pcre2_match_data *match;
    pcre2_match_context *context;
};

static void *regex_malloc (size_t n, void *unused)
{
    (void)unused;
    return dps_malloc (n, 1);
}

static void regex_release (void *p, void *unused)
{
    (void)unused;
    dps_free (p);
}

void dps__regex_free (DpsRegex *r)
{
    if (!r)
        return;
    pcre2_match_data_free (r->match);
    pcre2_match_context_free (r->context);
    pcre2_code_free (r->code);
    dps_free (r);
}

DpsStatus dps__regex_new (const char *before, const char *pattern, const char *after, const char *where, DpsRegex **out, DpsError *err)
{
    int code = 0;
    PCRE2_SIZE offset = 0;
    if (strlen (pattern) > MAX_PATTERN)
        return dps_fail (err, DPS_ERR_LIMIT, "%s: a regular expression of %zu bytes; at most %d are allowed", where, strlen (pattern),
                         MAX_PATTERN);
    char *text = dps_strf ("%s%s%s", before, pattern, after);
    DpsRegex *r = text ? dps_calloc (1, sizeof *r) : NULL;
    pcre2_general_context *general = r ? pcre2_general_context_create (regex_malloc, regex_release, NULL) : NULL;
    pcre2_compile_context *compile = general ? pcre2_compile_context_create (general) : NULL;
    DpsStatus st = DPS_OK;
    if (compile) {
        r->code = pcre2_compile ((PCRE2_SPTR)text, PCRE2_ZERO_TERMINATED,
                                 PCRE2_UTF | PCRE2_ANCHORED | PCRE2_ENDANCHORED | PCRE2_NEVER_BACKSLASH_C, &code, &offset, compile);
        r->match = r->code ? pcre2_match_data_create_from_pattern (r->code, general) : NULL;
        r->context = r->match ? pcre2_match_context_create (general) : NULL;
    }
    if (compile && !r->code && code != PCRE2_ERROR_HEAP_FAILED) {
        PCRE2_UCHAR reason[200];
        pcre2_get_error_message (code, reason, sizeof reason);
        size_t skip = strlen (before), at = offset > skip ? offset - skip : 0;
        st = dps_fail (err, DPS_ERR_USAGE, "%s: '%.200s' is not a regular expression: at character %zu: %s", where, pattern, at + 1,
                       (char *)reason);
    } else if (!compile || !r->context)
        st = dps_fail (err, DPS_ERR_NOMEM, "%s: out of memory", where);
    pcre2_compile_context_free (compile);
    pcre2_general_context_free (general);
    dps_free (text);
    if (st != DPS_OK) {
        dps__regex_free (r);
        return st;
    }
    pcre2_set_match_limit (r->context, DPS__REGEX_STEPS);
    pcre2_set_depth_limit (r->context, DEPTH_LIMIT);
    pcre2_set_heap_limit (r->context, HEAP_LIMIT_KIB);
    *out = r;
    return DPS_OK;
}

int dps__regex_match (const DpsRegex *r, const char *path)
{
    int n = pcre2_match (r->code, (PCRE2_SPTR)path, PCRE2_ZERO_TERMINATED, 0, 0, r->match, r->context);
    return n >= 0 ? 1 : n == PCRE2_ERROR_NOMATCH ? 0 : -1;
}
