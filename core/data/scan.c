/* SPDX-License-Identifier: Apache-2.0 */
#include "data/scan.h"

#include <string.h>

#include "base/utf8.h"

static int is_blank (char c) { return c == ' ' || c == '\t' || c == '\r' || c == '\n'; }

static DpsStatus begin_row (DpsRowScan *s, uint64_t at, DpsError *err)
{
    s->in_row = 1;
    s->row_start = at;
    s->row_line = s->line;
    if (s->format == DPS_ROWS_CSV && !s->has_header) {
        s->header = at;
        return DPS_OK;
    }
    if (DPS_GROW (s->starts, s->n, s->capacity) ||
        (s->n % DPS_SCAN_ANCHOR == 0 && DPS_GROW (s->anchors, s->n / DPS_SCAN_ANCHOR, s->anchor_capacity)))
        return dps_fail (err, DPS_ERR_NOMEM, "%s: out of memory", s->path);
    s->starts[s->n] = at;
    if (s->n % DPS_SCAN_ANCHOR == 0)
        s->anchors[s->n / DPS_SCAN_ANCHOR] = s->line;
    s->n++;
    return DPS_OK;
}

static void end_row (DpsRowScan *s, uint64_t at)
{
    if (s->format == DPS_ROWS_CSV && !s->has_header) {
        s->has_header = 1;
        s->header_end = at;
    }
    s->in_row = 0;
}

/* A row may be long, never endless: checked per piece and at each row's end, so that nothing of it is kept meanwhile. */
static DpsStatus check_length (const DpsRowScan *s, uint64_t at, DpsError *err)
{
    if (!s->in_row || at - s->row_start <= DPS_ROW_MAX_BYTES)
        return DPS_OK;
    return dps_fail (err, DPS_ERR_DATA, "%s:%llu: the row is longer than %d MiB. Hint: is this one JSON object a line?", s->path,
                     (unsigned long long)s->row_line, DPS_ROW_MAX_BYTES >> 20);
}

/* JSON lines and plain text: a row is a line that is not blank. */
static DpsStatus feed_lines (DpsRowScan *s, const char *data, size_t len, DpsError *err)
{
    for (size_t i = 0; i < len;) {
        if (!s->in_row && is_blank (data[i])) {
            s->line += data[i] == '\n';
            i++;
            if (data[i - 1] == '\n')
                s->line_start = s->at + i;
            continue;
        }
        if (!s->in_row) /* plain text keeps its indentation */
            DPS_TRY (begin_row (s, s->format == DPS_ROWS_TEXT ? s->line_start : s->at + i, err));
        const char *newline = memchr (data + i, '\n', len - i);
        size_t end = newline ? (size_t)(newline - data) : len;
        DPS_TRY (check_length (s, s->at + end, err));
        if (newline) {
            end_row (s, s->at + end);
            s->line++;
            end++;
            s->line_start = s->at + end;
        }
        i = end;
    }
    return DPS_OK;
}

enum { A_OPEN, A_FIRST, A_ELEMENT, A_AFTER, A_END };

static DpsStatus array_between (DpsRowScan *s, char c, uint64_t at, DpsError *err)
{
    static const char *const wanted[] = {"'['", "'{' or ']'", "'{'", "',' or ']'", "nothing after ']'"};
    int next = -1;
    switch (s->state) {
    case A_OPEN: next = c == '[' ? A_FIRST : -1; break;
    case A_FIRST: next = c == ']' ? A_END : c == '{' ? A_AFTER : -1; break;
    case A_ELEMENT: next = c == '{' ? A_AFTER : -1; break;
    case A_AFTER: next = c == ',' ? A_ELEMENT : c == ']' ? A_END : -1; break;
    default: break;
    }
    if (next < 0)
        return dps_fail (err, DPS_ERR_DATA, "%s:%llu: expected %s in an array of rows, found byte 0x%02x", s->path,
                         (unsigned long long)s->line, wanted[s->state], (unsigned char)c);
    s->state = next;
    if (c != '{')
        return DPS_OK;
    s->depth = 1;
    return begin_row (s, at, err);
}

static DpsStatus feed_array (DpsRowScan *s, const char *data, size_t len, DpsError *err)
{
    for (size_t i = 0; i < len; i++) {
        char c = data[i];
        s->line += c == '\n';
        if (!s->in_row) {
            if (!is_blank (c))
                DPS_TRY (array_between (s, c, s->at + i, err));
        } else if (s->in_string) {
            if (s->escaped)
                s->escaped = 0;
            else if (c == '\\')
                s->escaped = 1;
            else if (c == '"')
                s->in_string = 0;
        } else if (c == '"')
            s->in_string = 1;
        else if (c == '{' || c == '[')
            s->depth++;
        else if ((c == '}' || c == ']') && --s->depth == 0) {
            DPS_TRY (check_length (s, s->at + i, err));
            end_row (s, s->at + i + 1);
        }
    }
    return check_length (s, s->at + len, err);
}

enum { C_FIELD_START, C_PLAIN, C_QUOTED, C_QUOTE };

static DpsStatus feed_csv (DpsRowScan *s, const char *data, size_t len, DpsError *err)
{
    for (size_t i = 0; i < len; i++) {
        char c = data[i];
        if (!s->in_row) {
            if (c == '\n' || c == '\r') {
                s->line += c == '\n';
                continue;
            }
            DPS_TRY (begin_row (s, s->at + i, err));
            s->state = C_FIELD_START;
        }
        if (s->state == C_QUOTED)
            s->state = c == '"' ? C_QUOTE : C_QUOTED;
        else if (c == '"' && (s->state == C_FIELD_START || s->state == C_QUOTE))
            s->state = C_QUOTED;
        else if (c == '\n') {
            DPS_TRY (check_length (s, s->at + i, err));
            end_row (s, s->at + i);
        } else
            s->state = c == s->delimiter ? C_FIELD_START : C_PLAIN;
        s->line += c == '\n';
    }
    return check_length (s, s->at + len, err);
}

DpsStatus dps__scan_feed (DpsRowScan *s, const char *data, size_t len, DpsError *err)
{
    DpsStatus st = s->format == DPS_ROWS_ARRAY ? feed_array (s, data, len, err)
                   : s->format == DPS_ROWS_CSV ? feed_csv (s, data, len, err)
                                               : feed_lines (s, data, len, err);
    s->at += len;
    return st;
}

DpsStatus dps__scan_end (DpsRowScan *s, DpsError *err)
{
    unsigned long long line = (unsigned long long)(s->in_row ? s->row_line : s->line);
    if (s->format == DPS_ROWS_ARRAY && s->state != A_END)
        return dps_fail (err, DPS_ERR_DATA, "%s:%llu: the file ends %s", s->path, line,
                         s->in_row ? "inside this row: it is cut" : "before its array is closed by ']'");
    if (s->format == DPS_ROWS_CSV && s->in_row && s->state == C_QUOTED)
        return dps_fail (err, DPS_ERR_DATA, "%s:%llu: the file ends inside a quoted field of this row", s->path, line);
    if (s->in_row)
        end_row (s, s->at);
    if (s->format == DPS_ROWS_CSV && !s->has_header)
        return dps_fail (err, DPS_ERR_DATA, "%s: no header line", s->path);
    return DPS_OK;
}

void dps__scan_free (DpsRowScan *s)
{
    dps_free (s->starts);
    dps_free (s->anchors);
}

/* Append text as a string of JSON: valid UTF-8, or refused. */
static DpsStatus add_field (json_t *fields, const DpsBuf *text, DpsError *err)
{
    for (size_t i = 0, n; i < text->len; i += n)
        if (!(n = dps_utf8_sequence (text->data + i, text->len - i)))
            return dps_fail (err, DPS_ERR_DATA, "field %zu is not valid UTF-8", json_array_size (fields) + 1);
    json_t *value = json_stringn (text->data ? text->data : "", text->len);
    return !value || json_array_append_new (fields, value) ? dps_fail (err, DPS_ERR_NOMEM, "out of memory") : DPS_OK;
}

DpsStatus dps__csv_fields (const char *record, size_t len, char delimiter, json_t **out, DpsError *err)
{
    DpsBuf field = {0};
    int state = C_FIELD_START;
    *out = json_array ();
    DpsStatus st = *out ? DPS_OK : dps_fail (err, DPS_ERR_NOMEM, "out of memory");
    for (size_t i = 0; i <= len && st == DPS_OK; i++) {
        char c = i < len ? record[i] : delimiter;
        if (c == '"' && state == C_FIELD_START && i < len) {
            state = C_QUOTED;
            continue;
        }
        if (state == C_QUOTED && i == len)
            st = dps_fail (err, DPS_ERR_DATA, "a quoted field is not closed");
        else if (state == C_QUOTED && c == '"')
            state = C_QUOTE;
        else if (state == C_QUOTE && c == '"') {
            state = C_QUOTED;
            st = dps_buf_add (&field, "\"", 1) ? dps_fail (err, DPS_ERR_NOMEM, "out of memory") : DPS_OK;
        } else if (state != C_QUOTED && c == delimiter) {
            st = add_field (*out, &field, err);
            field.len = 0;
            state = C_FIELD_START;
        } else if (state == C_QUOTE)
            st = dps_fail (err, DPS_ERR_DATA, "text follows the closing quote of field %zu", json_array_size (*out) + 1);
        else {
            state = state == C_FIELD_START ? C_PLAIN : state;
            st = dps_buf_add (&field, &c, 1) ? dps_fail (err, DPS_ERR_NOMEM, "out of memory") : DPS_OK;
        }
    }
    dps_buf_free (&field);
    if (st != DPS_OK) {
        json_decref (*out);
        *out = NULL;
    }
    return st;
}
