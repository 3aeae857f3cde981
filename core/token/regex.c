/* SPDX-License-Identifier: Apache-2.0 */
#include "token/regex.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <string.h>

enum {
    LONGEST_PATTERN = 16384, /* bytes */
    MATCH_STEPS = 200000,    /* PCRE2's backtracking count for one match: a few milliseconds */
    MATCH_DEPTH = 20000,
    MATCH_HEAP_KIB = 20480,
    NESTING = 100 /* parentheses */
};

struct DpsRegex {
    pcre2_code *code;
    pcre2_general_context *general;
    char *literal; /* plain text is searched without PCRE2 */
    size_t literal_len;
};

static void *regex_malloc (size_t n, void *ctx)
{
    (void)ctx;
    return dps_malloc (n, 1);
}

static void regex_free (void *p, void *ctx)
{
    (void)ctx;
    dps_free (p);
}

/* What Oniguruma means by a class escape, written for the inside of brackets; negated forms only where one class suffices. */
static const char *class_body (char escape, int in_brackets)
{
    switch (escape) {
    case 's': return "\\p{White_Space}";
    case 'S': return "\\P{White_Space}";
    case 'd': return "\\p{Nd}";
    case 'D': return "\\P{Nd}";
    case 'w': return in_brackets ? "\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}" : "[\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}]";
    case 'W': return in_brackets ? NULL : "[^\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}]";
    case 'h': return in_brackets ? "0-9a-fA-F" : "[0-9a-fA-F]"; /* Oniguruma's hexadecimal digit, not PCRE's horizontal space */
    default: return NULL;
    }
}

/* Rewrite the class escapes of a pattern; everything else is passed on. */
static DpsStatus translate (const char *pattern, size_t len, DpsBuf *out, DpsError *err)
{
    int in_brackets = 0, bad = 0;
    for (size_t i = 0; i < len && !bad; i++) {
        char c = pattern[i];
        if (c == '\\' && i + 1 < len) {
            const char *body = class_body (pattern[i + 1], in_brackets);
            bad = body ? dps_buf_str (out, body) : dps_buf_add (out, pattern + i, 2);
            i++;
            continue;
        }
        if (c == '[' && !in_brackets) {
            in_brackets = 1;
            size_t head = i + 1 < len && pattern[i + 1] == '^' ? 2 : 1;
            head += i + head < len && pattern[i + head] == ']'; /* a first ] stands for itself */
            bad = dps_buf_add (out, pattern + i, head);
            i += head - 1;
            continue;
        }
        if (c == ']')
            in_brackets = 0;
        bad = dps_buf_add (out, &c, 1);
    }
    return bad ? dps_fail (err, DPS_ERR_NOMEM, "out of memory for a regular expression") : DPS_OK;
}

static DpsStatus compile (DpsRegex *re, const char *pattern, size_t len, DpsError *err)
{
    pcre2_compile_context *context = pcre2_compile_context_create (re->general);
    if (!context)
        return dps_fail (err, DPS_ERR_NOMEM, "out of memory for a regular expression");
    pcre2_set_parens_nest_limit (context, NESTING);
    int code;
    PCRE2_SIZE place;
    uint32_t options = PCRE2_UTF | PCRE2_UCP | PCRE2_NEVER_BACKSLASH_C | PCRE2_DOLLAR_ENDONLY;
    re->code = pcre2_compile ((PCRE2_SPTR)pattern, len, options, &code, &place, context);
    pcre2_compile_context_free (context);
    if (re->code) {
        pcre2_jit_compile (re->code, PCRE2_JIT_COMPLETE); /* where it cannot, the interpreter matches */
        return DPS_OK;
    }
    if (code == PCRE2_ERROR_NOMEMORY || code == 121 /* ERR21: heap */)
        return dps_fail (err, DPS_ERR_NOMEM, "out of memory for a regular expression");
    PCRE2_UCHAR reason[160] = "";
    pcre2_get_error_message (code, reason, sizeof reason);
    return dps_fail (err, DPS_ERR_FORMAT, "the regular expression \"%.100s\" does not compile at offset %zu: %s", pattern, (size_t)place,
                     (const char *)reason);
}

DpsStatus dps_regex_new (const char *pattern, size_t len, int literal, DpsRegex **out, DpsError *err)
{
    *out = NULL;
    if (len > LONGEST_PATTERN || len == 0)
        return dps_fail (err, len ? DPS_ERR_LIMIT : DPS_ERR_FORMAT, "a pattern of %zu bytes, expected 1 to %d", len, LONGEST_PATTERN);
    DpsRegex *re = dps_calloc (1, sizeof *re);
    DpsBuf text = {0};
    DpsStatus st = re ? DPS_OK : dps_fail (err, DPS_ERR_NOMEM, "out of memory for a regular expression");
    if (st == DPS_OK && literal) {
        re->literal = dps_strndup (pattern, len);
        re->literal_len = len;
        st = re->literal ? DPS_OK : dps_fail (err, DPS_ERR_NOMEM, "out of memory for a pattern");
    } else if (st == DPS_OK) {
        re->general = pcre2_general_context_create (regex_malloc, regex_free, NULL);
        st = re->general ? translate (pattern, len, &text, err) : dps_fail (err, DPS_ERR_NOMEM, "out of memory for a regular expression");
        if (st == DPS_OK)
            st = compile (re, text.data, text.len, err);
    }
    dps_buf_free (&text);
    if (st == DPS_OK)
        *out = re;
    else
        dps_regex_free (re);
    return st;
}

void dps_regex_free (DpsRegex *re)
{
    if (!re)
        return;
    pcre2_code_free (re->code);
    pcre2_general_context_free (re->general);
    dps_free (re->literal);
    dps_free (re);
}

static DpsStatus match (const DpsRegex *re, const char *s, size_t len, size_t from, pcre2_match_data *data, int *out_rc, DpsError *err)
{
    pcre2_match_context *context = pcre2_match_context_create (re->general);
    if (!context)
        return dps_fail (err, DPS_ERR_NOMEM, "out of memory for matching");
    pcre2_set_match_limit (context, MATCH_STEPS);
    pcre2_set_depth_limit (context, MATCH_DEPTH);
    pcre2_set_heap_limit (context, MATCH_HEAP_KIB);
    *out_rc = pcre2_match (re->code, (PCRE2_SPTR)s, len, from, PCRE2_NO_UTF_CHECK, data, context);
    if (*out_rc == PCRE2_ERROR_JIT_STACKLIMIT) /* a long but honest match: the interpreter keeps its stack on the heap */
        *out_rc = pcre2_match (re->code, (PCRE2_SPTR)s, len, from, PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT, data, context);
    pcre2_match_context_free (context);
    if (*out_rc >= 0 || *out_rc == PCRE2_ERROR_NOMATCH)
        return DPS_OK;
    if (*out_rc == PCRE2_ERROR_NOMEMORY)
        return dps_fail (err, DPS_ERR_NOMEM, "out of memory for matching");
    return dps_fail (err, DPS_ERR_LIMIT,
                     "a regular expression of the tokenizer backtracks without end on this text (PCRE2 error %d). "
                     "Hint: another tokenizer, or leave the text out",
                     *out_rc);
}

DpsStatus dps_regex_find (const DpsRegex *re, const char *s, size_t len, size_t from, int *out_found, size_t *out_start, size_t *out_end,
                          DpsError *err)
{
    *out_found = 0;
    if (re->literal) {
        const char *hit = from < len ? memmem (s + from, len - from, re->literal, re->literal_len) : NULL;
        if (hit) {
            *out_found = 1;
            *out_start = (size_t)(hit - s);
            *out_end = *out_start + re->literal_len;
        }
        return DPS_OK;
    }
    pcre2_match_data *data = pcre2_match_data_create_from_pattern (re->code, re->general);
    if (!data)
        return dps_fail (err, DPS_ERR_NOMEM, "out of memory for matching");
    int rc = 0;
    DpsStatus st = match (re, s, len, from, data, &rc, err);
    if (st == DPS_OK && rc >= 0) {
        const PCRE2_SIZE *pair = pcre2_get_ovector_pointer (data);
        *out_found = 1;
        *out_start = pair[0];
        *out_end = pair[1] < pair[0] ? pair[0] : pair[1]; /* \K in a lookahead can end before it starts */
    }
    pcre2_match_data_free (data);
    return st;
}
