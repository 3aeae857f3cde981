/* SPDX-License-Identifier: Apache-2.0 */
#include "base/judge.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/utf8.h"

int64_t dps_judge_now_ms (void)
{
    struct timespec t;
    clock_gettime (CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

DpsStatus dps_judge_rows (DpsJudge judge, void *self, const DpsRewardRow *const *rows, uint64_t n_rows, int64_t deadline_ms, double *value,
                          uint32_t *status, double *const *token_values, DpsError *err)
{
    const int64_t end = deadline_ms > 0 ? dps_judge_now_ms () + deadline_ms : INT64_MAX;
    DpsError why = DPS_ERROR_INIT;
    uint64_t n_failed = 0;
    for (uint64_t i = 0; i < n_rows; i++) {
        DpsStatus st = DPS_OK;
        value[i] = NAN;
        status[i] = DPS_SCORE_OK;
        if (dps_judge_now_ms () >= end)
            status[i] = DPS_SCORE_TIMEOUT;
        else
            st = judge (self, rows[i], &value[i], &status[i], &why);
        if (st == DPS_ERR_NOMEM || st == DPS_ERR_CANCELLED)
            return dps_fail (err, st, "%s", why.msg);
        if (st != DPS_OK)
            status[i] = st == DPS_ERR_TIMEOUT ? DPS_SCORE_TIMEOUT : DPS_SCORE_FAILED;
        if (status[i] != DPS_SCORE_OK)
            value[i] = NAN;
        n_failed += st != DPS_OK;
        for (uint64_t t = 0; token_values && token_values[i] && t < rows[i]->n_completion_ids; t++)
            token_values[i][t] = t + 1 == rows[i]->n_completion_ids ? value[i] : 0;
    }
    return n_rows && n_failed == n_rows ? dps_fail (err, DPS_ERR_IO, "%s", why.msg) : DPS_OK;
}

uint64_t dps_judge_characters (DpsStr text)
{
    uint64_t n = 0;
    for (size_t at = 0; at < text.len; n++) {
        size_t len = dps_utf8_sequence (text.ptr + at, text.len - at);
        at += len ? len : 1;
    }
    return n;
}

/* Numbers in text. */

/* A separator of thousands at s: its length when three digits and no fourth follow it, else 0. */
static size_t separator (DpsStr t, size_t at, char decimal)
{
    static const char *const english[] = {",", "'", "_", "\xc2\xa0", "\xe2\x80\xaf", NULL};
    static const char *const french[] = {".", "'", "_", "\xc2\xa0", "\xe2\x80\xaf", " ", NULL};
    const char *const *marks = decimal == ',' ? french : english;
    for (size_t i = 0; marks[i]; i++) {
        size_t len = strlen (marks[i]), digits = 0;
        if (t.len - at < len || memcmp (t.ptr + at, marks[i], len) != 0)
            continue;
        while (at + len + digits < t.len && digits < 4 && t.ptr[at + len + digits] >= '0' && t.ptr[at + len + digits] <= '9')
            digits++;
        return digits == 3 ? len : 0;
    }
    return 0;
}

static int is_digit (DpsStr t, size_t at) { return at < t.len && t.ptr[at] >= '0' && t.ptr[at] <= '9'; }

/* Digits from *at as far as they fit into out; grouped: the decimal mark they are grouped for, separators left out, or 0. */
static void copy_digits (DpsStr t, size_t *at, char grouped, char *out, size_t *n, size_t cap)
{
    size_t run = 0;
    while (*at < t.len) {
        int zero = *n == 1 && out[0] == '0'; /* 0.125 is no 125 */
        size_t skip = grouped && run > 0 && run <= 3 && !zero ? separator (t, *at, grouped) : 0;
        if (skip) {
            *at += skip;
            run = 0;
        }
        if (!is_digit (t, *at))
            return;
        if (*n < cap)
            out[(*n)++] = t.ptr[*at];
        run++;
        ++*at;
    }
}

static char char_at (DpsStr t, size_t at) { return at < t.len ? t.ptr[at] : '\0'; }

/* "e-12" behind a number. */
static void copy_exponent (DpsStr t, size_t *at, char *out, size_t *n, size_t cap)
{
    size_t sign = *at + 1, digits = sign + (char_at (t, sign) == '+' || char_at (t, sign) == '-');
    if ((char_at (t, *at) != 'e' && char_at (t, *at) != 'E') || !is_digit (t, digits))
        return;
    out[(*n)++] = 'e';
    if (digits > sign)
        out[(*n)++] = t.ptr[sign];
    *at = digits;
    copy_digits (t, at, 0, out, n, cap);
}

/* A decimal mark before a digit. A point is one in either notation: where it groups digits, they have been read. */
static int is_mark (DpsStr t, size_t at, char decimal)
{
    return (char_at (t, at) == decimal || char_at (t, at) == '.') && is_digit (t, at + 1);
}

/* The number that begins at a digit or decimal mark, without its sign. 0: past what a double holds. */
static int read_number (DpsStr t, char decimal, size_t *at, double *out)
{
    enum { WHOLE = 310, ALL = 400 }; /* digits of the whole part at most, and with those behind the point */
    char text[ALL + 20];
    size_t n = 0;
    while (char_at (t, *at) == '0' && is_digit (t, *at + 1))
        ++*at;
    copy_digits (t, at, decimal, text, &n, WHOLE);
    if (n == 0)
        text[n++] = '0';
    text[n++] = '.';
    if (is_mark (t, *at, decimal)) {
        ++*at;
        copy_digits (t, at, 0, text, &n, ALL);
    } else
        text[n++] = '0';
    copy_exponent (t, at, text, &n, ALL + 12);
    text[n] = '\0';
    *out = strtod (text, NULL); /* the program never leaves the C locale's numbers */
    return isfinite (*out);
}

/* Does a minus stand before t[at], and is it a sign? */
static int is_negative (DpsStr t, size_t at)
{
    static const char real_minus[] = "\xe2\x88\x92";
    size_t len = at >= 1 && t.ptr[at - 1] == '-' ? 1 : at >= 3 && !memcmp (t.ptr + at - 3, real_minus, 3) ? 3 : 0;
    char before = len && at > len ? t.ptr[at - len - 1] : ' ';
    return len && !((before >= '0' && before <= '9') || ((before | 32) >= 'a' && (before | 32) <= 'z'));
}

int dps_judge_number (DpsStr t, char decimal, size_t *from, double *out)
{
    for (size_t at = *from; at < t.len; at++) {
        if (!is_digit (t, at) && !is_mark (t, at, decimal))
            continue;
        size_t start = at;
        if (!read_number (t, decimal, &at, out)) {
            at = at > start ? at - 1 : start; /* past what a double holds: not a number, look behind it */
            continue;
        }
        if (is_negative (t, start))
            *out = -*out;
        *from = at;
        return 1;
    }
    return 0;
}
