/* SPDX-License-Identifier: Apache-2.0 */
#include "base/matcher.h"

#include <string.h>

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

enum { MAX_PATTERN = 4096, DEPTH_LIMIT = 1000, HEAP_LIMIT_KIB = 1024 };

struct DpsMatcher {
    pcre2_code *code;
    pcre2_match_data *match;
    pcre2_match_context *context;
};

static void *matcher_malloc (size_t n, void *unused)
{
    (void)unused;
    return dps_malloc (n, 1);
}

static void matcher_release (void *p, void *unused)
{
    (void)unused;
    dps_free (p);
}

void dps_matcher_free (DpsMatcher *p)
{
    if (!p)
        return;
    pcre2_match_data_free (p->match);
    pcre2_match_context_free (p->context);
    pcre2_code_free (p->code);
    dps_free (p);
}

static uint32_t flags (const DpsMatcherOptions *o)
{
    return PCRE2_UTF | PCRE2_NEVER_BACKSLASH_C | (o->whole ? PCRE2_ANCHORED | PCRE2_ENDANCHORED : 0) |
           (o->ignore_case ? PCRE2_CASELESS : 0) | (o->any_bytes ? PCRE2_MATCH_INVALID_UTF : 0);
}

DpsStatus dps_matcher_new (const char *pattern, const DpsMatcherOptions *o, const char *where, DpsMatcher **out, DpsError *err)
{
    int code = 0;
    PCRE2_SIZE offset = 0;
    const char *before = o->before ? o->before : "";
    *out = NULL;
    if (strlen (pattern) > MAX_PATTERN)
        return dps_fail (err, DPS_ERR_LIMIT, "%s: a regular expression of %zu bytes; at most %d are allowed", where, strlen (pattern),
                         MAX_PATTERN);
    char *text = dps_strf ("%s%s%s", before, pattern, o->after ? o->after : "");
    DpsMatcher *p = text ? dps_calloc (1, sizeof *p) : NULL;
    pcre2_general_context *general = p ? pcre2_general_context_create (matcher_malloc, matcher_release, NULL) : NULL;
    pcre2_compile_context *compile = general ? pcre2_compile_context_create (general) : NULL;
    DpsStatus st = DPS_OK;
    if (compile) {
        p->code = pcre2_compile ((PCRE2_SPTR)text, PCRE2_ZERO_TERMINATED, flags (o), &code, &offset, compile);
        p->match = p->code ? pcre2_match_data_create_from_pattern (p->code, general) : NULL;
        p->context = p->match ? pcre2_match_context_create (general) : NULL;
    }
    if (compile && !p->code && code != PCRE2_ERROR_HEAP_FAILED) {
        PCRE2_UCHAR reason[200];
        pcre2_get_error_message (code, reason, sizeof reason);
        size_t skip = strlen (before), at = offset > skip ? offset - skip : 0;
        st = dps_fail (err, DPS_ERR_USAGE, "%s: '%.200s' is not a regular expression: at character %zu: %s", where, pattern, at + 1,
                       (char *)reason);
    } else if (!compile || !p->context)
        st = dps_fail (err, DPS_ERR_NOMEM, "%s: out of memory", where);
    pcre2_compile_context_free (compile);
    pcre2_general_context_free (general);
    dps_free (text);
    if (st != DPS_OK) {
        dps_matcher_free (p);
        return st;
    }
    pcre2_set_match_limit (p->context, o->steps ? o->steps : DPS_MATCHER_STEPS);
    pcre2_set_depth_limit (p->context, DEPTH_LIMIT);
    pcre2_set_heap_limit (p->context, HEAP_LIMIT_KIB);
    *out = p;
    return DPS_OK;
}

int dps_matcher_find (const DpsMatcher *p, const char *text, size_t len)
{
    int n = pcre2_match (p->code, (PCRE2_SPTR)text, len, 0, 0, p->match, p->context);
    return n >= 0 ? 1 : n == PCRE2_ERROR_NOMATCH ? 0 : n == PCRE2_ERROR_NOMEMORY ? -2 : -1;
}

int dps_matcher_group (const DpsMatcher *p, uint32_t k, size_t *out_start, size_t *out_end)
{
    const PCRE2_SIZE *at = pcre2_get_ovector_pointer (p->match);
    if (k >= pcre2_get_ovector_count (p->match) || at[2 * k] == PCRE2_UNSET || at[2 * k] > at[2 * k + 1])
        return 0;
    *out_start = at[2 * k];
    *out_end = at[2 * k + 1];
    return 1;
}

uint32_t dps_matcher_groups (const DpsMatcher *p) { return pcre2_get_ovector_count (p->match) - 1; }
