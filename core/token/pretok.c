/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pretok.c: text → words. Each step cuts every piece the step before it made; pieces stream through the steps, so no list of them is
 * kept. Order and borders are those of the tokenizers library.
 */
#include <string.h>

#include "token/steps.h"
#include "token/utf8.h"

typedef struct Cutter {
    const DpsSteps *steps;
    DpsWordSink sink;
    void *ctx;
} Cutter;

static DpsStatus cut (const Cutter *c, size_t i, const char *s, size_t len, int first, DpsError *err);

/* A step's cuts on their way to the next step, put together as the behaviour asks. Pieces come in order and adjoin. */
typedef struct Joiner {
    const Cutter *cutter;
    size_t next; /* index of the step that gets the pieces */
    const char *s;
    int behaviour, first;
    size_t start, end; /* the piece held back */
    int held, held_match;
} Joiner;

static DpsStatus release (Joiner *j, DpsError *err)
{
    size_t start = j->start, end = j->end;
    if (!j->held || start == end)
        return DPS_OK;
    j->held = 0;
    return cut (j->cutter, j->next, j->s + start, end - start, j->first && start == 0, err);
}

/* Take [start, end): `match` says whether the pattern matched it. */
static DpsStatus take (Joiner *j, size_t start, size_t end, int match, DpsError *err)
{
    int join = 0;
    if (start == end)
        return DPS_OK;
    if (j->held)
        switch (j->behaviour) {
        case DPS_SPLIT_CONTIGUOUS: join = j->held_match == match; break;
        case DPS_SPLIT_PREVIOUS: join = match && !j->held_match; break;
        case DPS_SPLIT_NEXT: join = !match && j->held_match; break;
        default: break;
        }
    if (join) {
        j->end = end;
        j->held_match = j->behaviour == DPS_SPLIT_PREVIOUS ? 1 : match;
        return DPS_OK;
    }
    DPS_TRY (release (j, err));
    if (match && j->behaviour == DPS_SPLIT_REMOVED)
        return DPS_OK;
    j->start = start;
    j->end = end;
    j->held = 1;
    j->held_match = match;
    return DPS_OK;
}

/* One valid stretch of UTF-8, cut by a regular expression. */
static DpsStatus split_valid (Joiner *j, const DpsStep *step, size_t base, size_t len, DpsError *err)
{
    size_t done = 0, from = 0;
    while (from <= len) {
        int found;
        size_t start = 0, end = 0, n = 1;
        DPS_TRY (dps_regex_find (step->pattern, j->s + base, len, from, &found, &start, &end, err));
        if (!found)
            break;
        DPS_TRY (take (j, base + done, base + start, step->invert, err));
        DPS_TRY (take (j, base + start, base + end, !step->invert, err));
        done = end;
        if (end == start && end < len)
            dps_utf8_next (j->s + base + end, len - end, &n);
        from = end == start ? end + n : end;
    }
    return take (j, base + done, base + len, step->invert, err);
}

static DpsStatus split_regex (Joiner *j, const DpsStep *step, size_t len, DpsError *err)
{
    for (size_t i = 0; i < len;) { /* invalid bytes match nothing */
        size_t valid = dps_utf8_valid (j->s + i, len - i), bad = 0;
        DPS_TRY (split_valid (j, step, i, valid, err));
        i += valid;
        while (i + bad < len && dps_utf8_valid (j->s + i + bad, len - i - bad) == 0)
            bad++;
        DPS_TRY (take (j, i, i + bad, step->invert, err));
        i += bad;
    }
    return DPS_OK;
}

/* Class of a character for the steps that cut by character; pieces of class 0 are not matches. */
static int class_of (const DpsStep *step, uint32_t c)
{
    switch (step->kind) {
    case DPS_PRE_DIGITS: return dps_utf8_class (c) == DPS_CLASS_NUMBER;
    case DPS_PRE_PUNCTUATION: return dps_utf8_is_punctuation (c);
    case DPS_PRE_WHITESPACE: return dps_utf8_is_space (c) ? 0 : dps_utf8_is_word (c) ? 1 : 2;
    default: return dps_utf8_is_space (c); /* WHITESPACE_SPLIT */
    }
}

/* Every matching character is a match of its own; what lies between two of them is one piece. */
static DpsStatus split_characters (Joiner *j, const DpsStep *step, size_t len, DpsError *err)
{
    size_t done = 0, n;
    for (size_t i = 0; i < len; i += n) {
        if (!class_of (step, dps_utf8_next (j->s + i, len - i, &n)))
            continue;
        DPS_TRY (take (j, done, i, 0, err));
        DPS_TRY (take (j, i, i + n, 1, err));
        done = i + n;
    }
    return take (j, done, len, 0, err);
}

/* Runs of word characters and runs of the rest are words; white space is dropped. */
static DpsStatus split_words (const Cutter *c, size_t i, const char *s, size_t len, int first, DpsError *err)
{
    size_t start = 0, n;
    int class = 0;
    for (size_t at = 0; at <= len; at += n) {
        int here = at < len ? class_of (&c->steps->list[i], dps_utf8_next (s + at, len - at, &n)) : -1;
        n = at < len ? n : 1;
        if (here == class)
            continue;
        if (class > 0)
            DPS_TRY (cut (c, i + 1, s + start, at - start, first && start == 0, err));
        start = at;
        class = here;
    }
    return DPS_OK;
}

static DpsStatus metaspace (const Cutter *c, size_t i, const char *s, size_t len, int first, DpsError *err)
{
    const DpsStep *step = &c->steps->list[i];
    DpsBuf text = {0};
    int bad = 0;
    int starts = len && (s[0] == ' ' || (len >= step->text_len && !memcmp (s, step->text, step->text_len)));
    if (len && !starts && (step->flag & DPS_METASPACE_ALWAYS || (step->flag & DPS_METASPACE_FIRST && first)))
        bad = dps_buf_add (&text, step->text, step->text_len);
    for (size_t at = 0; at < len && !bad; at++)
        bad = s[at] == ' ' ? dps_buf_add (&text, step->text, step->text_len) : dps_buf_add (&text, s + at, 1);
    DpsStatus st = bad ? dps_fail (err, DPS_ERR_NOMEM, "out of memory for words") : DPS_OK;
    size_t start = 0;
    while (st == DPS_OK && start < text.len) {
        const char *next = step->flag & DPS_METASPACE_SPLIT && start + 1 < text.len
                               ? memmem (text.data + start + 1, text.len - start - 1, step->text, step->text_len)
                               : NULL;
        size_t stop = next ? (size_t)(next - text.data) : text.len;
        st = cut (c, i + 1, text.data + start, stop - start, first && start == 0, err);
        start = stop;
    }
    dps_buf_free (&text);
    return st;
}

static DpsStatus prefix_space (const Cutter *c, size_t i, const char *s, size_t len, int first, DpsError *err)
{
    if (s[0] == ' ')
        return cut (c, i + 1, s, len, first, err);
    DpsBuf text = {0};
    DpsStatus st = dps_buf_add (&text, " ", 1) || dps_buf_add (&text, s, len) ? dps_fail (err, DPS_ERR_NOMEM, "out of memory for words")
                                                                              : cut (c, i + 1, text.data, text.len, first, err);
    dps_buf_free (&text);
    return st;
}

static DpsStatus scan (const Cutter *c, size_t i, const char *s, size_t len, int first, DpsError *err)
{
    for (size_t at = 0, end; at < len; at = end) {
        end = dps_scan_word (c->steps->list[i].flag, s, len, at);
        DPS_TRY (cut (c, i + 1, s + at, end - at, first && at == 0, err));
    }
    return DPS_OK;
}

static DpsStatus cut (const Cutter *c, size_t i, const char *s, size_t len, int first, DpsError *err)
{
    if (len == 0)
        return DPS_OK;
    if (i == c->steps->n)
        return c->sink (c->ctx, s, len, err);
    const DpsStep *step = &c->steps->list[i];
    Joiner j = {.cutter = c, .next = i + 1, .s = s, .behaviour = step->behaviour, .first = first};
    switch (step->kind) {
    case DPS_PRE_SCAN: return scan (c, i, s, len, first, err);
    case DPS_PRE_METASPACE: return metaspace (c, i, s, len, first, err);
    case DPS_PRE_PREFIX_SPACE: return prefix_space (c, i, s, len, first, err);
    case DPS_PRE_WHITESPACE: return split_words (c, i, s, len, first, err);
    case DPS_PRE_SPLIT: DPS_TRY (split_regex (&j, step, len, err)); break;
    default: DPS_TRY (split_characters (&j, step, len, err)); break;
    }
    return release (&j, err);
}

DpsStatus dps_pretokenise (const DpsSteps *steps, const char *s, size_t len, int first, DpsWordSink sink, void *ctx, DpsError *err)
{
    Cutter c = {.steps = steps, .sink = sink, .ctx = ctx};
    return cut (&c, 0, s, len, first, err);
}
