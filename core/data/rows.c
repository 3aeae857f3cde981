/* SPDX-License-Identifier: Apache-2.0 */
#include "data/rows.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/utf8.h"
#include "data/scan.h"

enum { PIECE = 1 << 20 };

struct DpsRows {
    char *path;
    int fd;
    uint64_t size; /* bytes */
    DpsRowScan scan;
    json_t *columns; /* CSV */
    DpsDigest digest;
};

static DpsStatus out_of_memory (const char *path, DpsError *err) { return dps_fail (err, DPS_ERR_NOMEM, "%s: out of memory", path); }

/* Fill buf from `at`; *out_n is less than len only at the end of the file. */
static DpsStatus read_at (const DpsRows *r, uint64_t at, char *buf, size_t len, size_t *out_n, DpsError *err)
{
    *out_n = 0;
    while (*out_n < len) {
        ssize_t n = pread (r->fd, buf + *out_n, len - *out_n, (off_t)(at + *out_n));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return dps_fail (err, DPS_ERR_IO, "%s: %s", r->path, strerror (errno));
        if (n == 0)
            break;
        *out_n += (size_t)n;
    }
    return DPS_OK;
}

static int ends_with (const char *s, const char *end)
{
    size_t n = strlen (s), m = strlen (end);
    return n >= m && !strcasecmp (s + n - m, end);
}

/* CSV: the delimiter that the header holds most of. */
static char find_delimiter (const char *head, size_t len)
{
    static const char candidates[] = ",;\t";
    size_t count[3] = {0};
    for (size_t i = 0; i < len && head[i] != '\n'; i++)
        for (int k = 0; k < 3; k++)
            count[k] += head[i] == candidates[k];
    int best = 0;
    for (int k = 1; k < 3; k++)
        best = count[k] > count[best] ? k : best;
    return candidates[best];
}

static DpsStatus find_format (DpsRows *r, const char *head, size_t len, DpsError *err)
{
    static const char *const packed[] = {".gz", ".zst", ".xz", ".bz2", ".zip", ".parquet", ".arrow"};
    for (size_t i = 0; i < sizeof packed / sizeof *packed; i++)
        if (ends_with (r->path, packed[i]))
            return dps_fail (err, DPS_ERR_UNSUPPORTED, "%s: %s files are not implemented in this version. Hint: unpack it to JSON lines",
                             r->path, packed[i] + 1);
    if (ends_with (r->path, ".csv") || ends_with (r->path, ".tsv")) {
        r->scan.format = DPS_ROWS_CSV;
        r->scan.delimiter = ends_with (r->path, ".tsv") ? '\t' : find_delimiter (head, len);
    } else if (ends_with (r->path, ".txt") || ends_with (r->path, ".text") || ends_with (r->path, ".md"))
        r->scan.format = DPS_ROWS_TEXT;
    else {
        size_t i = 0;
        while (i < len && strchr (" \t\r\n", head[i]) && head[i])
            i++;
        int array = i < len && head[i] == '[' && !ends_with (r->path, ".jsonl") && !ends_with (r->path, ".ndjson");
        r->scan.format = array ? DPS_ROWS_ARRAY : DPS_ROWS_JSONL;
    }
    return DPS_OK;
}

/* One pass: row starts and the hash. */
static DpsStatus index_pieces (DpsRows *r, char *buf, DpsHasher *hasher, DpsError *err)
{
    size_t n = 0;
    r->scan.line = 1;
    r->scan.path = r->path;
    DPS_TRY (read_at (r, 0, buf, PIECE, &n, err));
    size_t skip = n >= 3 && !memcmp (buf, "\xef\xbb\xbf", 3) ? 3 : 0;
    if (n >= 2 && (!memcmp (buf, "\xff\xfe", 2) || !memcmp (buf, "\xfe\xff", 2)))
        return dps_fail (err, DPS_ERR_DATA, "%s:1: UTF-16. Hint: save the file as UTF-8", r->path);
    DPS_TRY (find_format (r, buf + skip, n - skip, err));
    while (n) {
        dps_hasher_add (hasher, buf, n);
        r->scan.at += skip;
        r->scan.line_start += skip;
        DPS_TRY (dps__scan_feed (&r->scan, buf + skip, n - skip, err));
        skip = 0;
        DPS_TRY (read_at (r, r->scan.at, buf, PIECE, &n, err));
    }
    r->size = r->scan.at;
    return dps__scan_end (&r->scan, err);
}

static DpsStatus index_file (DpsRows *r, DpsError *err)
{
    char *buf = dps_malloc (PIECE, 1);
    DpsHasher *hasher = dps_hasher_new ();
    DpsStatus st = buf && hasher ? index_pieces (r, buf, hasher, err) : out_of_memory (r->path, err);
    DpsDigest unused;
    if (hasher) {
        DpsStatus hashed = dps_hasher_final (hasher, st == DPS_OK ? &r->digest : &unused, st == DPS_OK ? err : NULL);
        st = st == DPS_OK ? hashed : st;
    }
    dps_free (buf);
    return st;
}

/* Bytes [start, end) in *out (dps_free). */
static DpsStatus read_range (const DpsRows *r, uint64_t start, uint64_t end, char **out, size_t *out_len, DpsError *err)
{
    size_t n = 0, len = (size_t)(end - start);
    char *buf = dps_malloc (len ? len : 1, 1);
    *out = NULL;
    if (!buf)
        return out_of_memory (r->path, err);
    DpsStatus st = read_at (r, start, buf, len, &n, err);
    if (st == DPS_OK && n < len)
        st = dps_fail (err, DPS_ERR_IO, "%s: the file became shorter while it was being read", r->path);
    if (st != DPS_OK) {
        dps_free (buf);
        return st;
    }
    *out = buf;
    *out_len = len;
    return DPS_OK;
}

static DpsStatus read_header (DpsRows *r, DpsError *err)
{
    char *text;
    size_t len;
    DPS_TRY (read_range (r, r->scan.header, r->scan.header_end, &text, &len, err));
    while (len && text[len - 1] == '\r')
        len--;
    DpsStatus st = dps__csv_fields (text, len, r->scan.delimiter, &r->columns, err);
    dps_free (text);
    if (st == DPS_ERR_DATA)
        dps_error_prefix (err, "%s:1", r->path);
    for (size_t i = 0; st == DPS_OK && i < json_array_size (r->columns); i++) {
        const char *name = json_string_value (json_array_get (r->columns, i));
        for (size_t k = 0; st == DPS_OK && k < i; k++)
            if (!strcmp (name, json_string_value (json_array_get (r->columns, k))))
                st = dps_fail (err, DPS_ERR_DATA, "%s:1: column '%.60s' stands there twice", r->path, name);
        if (st == DPS_OK && !*name)
            st = dps_fail (err, DPS_ERR_DATA, "%s:1: column %zu has no name", r->path, i + 1);
    }
    return st;
}

DpsStatus dps_rows_open (const char *path, DpsRows **out, DpsError *err)
{
    DpsRows *r = dps_calloc (1, sizeof *r);
    struct stat info;
    *out = NULL;
    if (!r || !(r->path = dps_strdup (path))) {
        dps_free (r);
        return out_of_memory (path, err);
    }
    DpsStatus st = DPS_OK;
    r->fd = open (path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK); /* not blocking: a pipe must not hang the run */
    if (r->fd < 0)
        st = dps_fail (err, errno == ENOENT ? DPS_ERR_NOT_FOUND : DPS_ERR_IO, "%s: %s", path, strerror (errno));
    else if (fstat (r->fd, &info) != 0 || !S_ISREG (info.st_mode))
        st = dps_fail (err, DPS_ERR_IO,
                       "%s: not a regular file; rows are read at random, so a pipe or folder cannot serve. Hint: write them to a file",
                       path);
    if (st == DPS_OK)
        st = index_file (r, err);
    if (st == DPS_OK && r->scan.format == DPS_ROWS_CSV)
        st = read_header (r, err);
    if (st != DPS_OK) {
        dps_rows_close (r);
        return st;
    }
    *out = r;
    return DPS_OK;
}

void dps_rows_close (DpsRows *r)
{
    if (!r)
        return;
    if (r->fd >= 0)
        close (r->fd);
    dps__scan_free (&r->scan);
    json_decref (r->columns);
    dps_free (r->path);
    dps_free (r);
}

uint64_t dps_rows_count (const DpsRows *r) { return r->scan.n; }
uint64_t dps_rows_bytes (const DpsRows *r) { return r->size; }
const char *dps_rows_path (const DpsRows *r) { return r->path; }
const DpsDigest *dps_rows_digest (const DpsRows *r) { return &r->digest; }

/* The line row i begins at, from 1; 0 when the file cannot be read. */
static uint64_t line_of (const DpsRows *r, uint64_t i)
{
    char buf[16384];
    uint64_t anchor = i / DPS_SCAN_ANCHOR, line = r->scan.anchors[anchor], at = r->scan.starts[anchor * DPS_SCAN_ANCHOR],
             end = r->scan.starts[i];
    while (at < end) {
        size_t n = 0, want = end - at < sizeof buf ? (size_t)(end - at) : sizeof buf;
        if (read_at (r, at, buf, want, &n, NULL) != DPS_OK || n < want)
            return 0;
        for (const char *s = buf, *newline; (newline = memchr (s, '\n', (size_t)(buf + n - s))); s = newline + 1)
            line++;
        at += n;
    }
    return line;
}

/* What a row's bytes are once the next row's are cut off. */
static size_t trim_row (DpsRowsFormat format, const char *s, size_t len)
{
    const char *newline = format == DPS_ROWS_JSONL || format == DPS_ROWS_TEXT ? memchr (s, '\n', len) : NULL;
    len = newline ? (size_t)(newline - s) : len;
    if (format == DPS_ROWS_ARRAY)
        while (len && s[len - 1] != '}')
            len--;
    while (len && (s[len - 1] == '\r' || s[len - 1] == '\n'))
        len--;
    return len;
}

static DpsStatus text_row (const DpsRows *r, uint64_t line, const char *s, size_t len, json_t **out, DpsError *err)
{
    json_t *text = json_stringn (s, len);
    if (!text) {
        for (size_t i = 0, n; i < len; i += n)
            if (!(n = dps_utf8_sequence (s + i, len - i)))
                return dps_fail (err, DPS_ERR_DATA, "%s:%llu: byte 0x%02x is not valid UTF-8", r->path, (unsigned long long)line,
                                 (unsigned char)s[i]);
        return out_of_memory (r->path, err);
    }
    *out = json_object ();
    if (!*out || json_object_set (*out, "text", text)) {
        json_decref (*out);
        *out = NULL;
    }
    json_decref (text);
    return *out ? DPS_OK : out_of_memory (r->path, err);
}

static DpsStatus csv_row (const DpsRows *r, uint64_t line, const char *s, size_t len, json_t **out, DpsError *err)
{
    json_t *fields = NULL;
    DpsStatus st = dps__csv_fields (s, len, r->scan.delimiter, &fields, err);
    if (st == DPS_OK && json_array_size (fields) != json_array_size (r->columns))
        st = dps_fail (err, DPS_ERR_DATA, "%zu fields, the header has %zu", json_array_size (fields), json_array_size (r->columns));
    if (st == DPS_OK && !(*out = json_object ()))
        st = DPS_ERR_NOMEM;
    for (size_t i = 0; st == DPS_OK && i < json_array_size (fields); i++)
        if (json_object_set (*out, json_string_value (json_array_get (r->columns, i)), json_array_get (fields, i)))
            st = DPS_ERR_NOMEM;
    json_decref (fields);
    if (st == DPS_ERR_NOMEM)
        out_of_memory (r->path, err);
    else if (st != DPS_OK)
        dps_error_prefix (err, "%s:%llu", r->path, (unsigned long long)line);
    if (st != DPS_OK) {
        json_decref (*out);
        *out = NULL;
    }
    return st;
}

/* What the author of row i, which is no JSON, may have meant. */
static const char *json_hint (const DpsRows *r, uint64_t i, const char *s, size_t len)
{
    for (size_t k = 0, n; k < len; k += n)
        if (!(n = dps_utf8_sequence (s + k, len - k)))
            return ". Hint: save the file as UTF-8";
    if (r->scan.format != DPS_ROWS_JSONL || !len)
        return "";
    if (i == 0 && s[0] == '[')
        return ". Hint: a file that is one JSON array has a name in .json";
    if (i == 0 && s[0] != '{')
        return ". Hint: one {…} a line; CSV is read from a file in .csv, plain text from one in .txt";
    if (s[len - 1] == '}')
        return "";
    return i + 1 == r->scan.n ? ". Hint: it is the last line; the file seems cut"
                              : ". Hint: a row is one line: jq -c . makes it so, or name a file that is one JSON array .json";
}

static DpsStatus json_row (const DpsRows *r, uint64_t i, uint64_t line, const char *s, size_t len, json_t **out, DpsError *err)
{
    DpsStatus st = dps_json_parse (s, len, r->path, (long)line, DPS_JSON_UNIQUE, out, err);
    if (st == DPS_ERR_FORMAT) {
        char why[1000];
        snprintf (why, sizeof why, "%s", err ? err->msg : "");
        return dps_fail (err, DPS_ERR_DATA, "%s%s", why, json_hint (r, i, s, len));
    }
    if (st != DPS_OK || json_is_object (*out))
        return st;
    json_decref (*out);
    *out = NULL;
    return dps_fail (err, DPS_ERR_DATA, "%s:%llu: a row is a JSON object, found something else. Hint: one {…} a line", r->path,
                     (unsigned long long)line);
}

DpsStatus dps_rows_get (const DpsRows *r, uint64_t i, json_t **out, uint64_t *out_line, DpsError *err)
{
    char *text;
    size_t len;
    *out = NULL;
    if (i >= r->scan.n)
        return dps_fail (err, DPS_ERR_INVALID, "%s: no row %llu, there are %zu", r->path, (unsigned long long)i, r->scan.n);
    uint64_t start = r->scan.starts[i], end = i + 1 < r->scan.n ? r->scan.starts[i + 1] : r->size, line = line_of (r, i);
    /* Blank lines and a comma lie between this row and the next; they are no reason to read without bound. */
    if (end - start > DPS_ROW_MAX_BYTES + 1)
        end = start + DPS_ROW_MAX_BYTES + 1;
    *out_line = line;
    DPS_TRY (read_range (r, start, end, &text, &len, err));
    len = trim_row (r->scan.format, text, len);
    DpsStatus st = r->scan.format == DPS_ROWS_TEXT  ? text_row (r, line, text, len, out, err)
                   : r->scan.format == DPS_ROWS_CSV ? csv_row (r, line, text, len, out, err)
                                                    : json_row (r, i, line, text, len, out, err);
    dps_free (text);
    return st;
}
