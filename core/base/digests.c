/* SPDX-License-Identifier: Apache-2.0 */
#include "base/digests.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "base/file.h"
#include "base/jscan.h"
#include "base/json.h"

/* The end of every manifest, byte for byte; the 64 digits lie between the two. */
static const char self_before[] = "\"self_sha256\": \"", self_after[] = "\"\n}\n";
enum { DIGITS = 64, TAIL = DIGITS + sizeof self_after - 1 };

int dps_digests_name_ok (const char *name)
{
    static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";
    size_t n = strlen (name);
    return n > 0 && n <= 200 && name[0] != '.' && strspn (name, allowed) == n && strcmp (name, DPS_DIGESTS_MANIFEST) != 0;
}

const DpsDigestFile *dps_digests_find (const DpsDigests *m, const char *name)
{
    for (size_t i = 0; i < m->n; i++)
        if (!strcmp (m->files[i].name, name))
            return &m->files[i];
    return NULL;
}

DpsDigestFile *dps_digests_add (DpsDigests *m, const char *name, uint64_t bytes, const DpsDigest *digest)
{
    if (!dps_digests_name_ok (name) || dps_digests_find (m, name) || DPS_GROW (m->files, m->n, m->capacity))
        return NULL;
    char *copy = dps_strdup (name);
    if (!copy)
        return NULL;
    m->files[m->n] = (DpsDigestFile){.name = copy, .bytes = bytes, .sha256 = *digest};
    return &m->files[m->n++];
}

void dps_digests_free (DpsDigests *m)
{
    for (size_t i = 0; i < m->n; i++) {
        for (size_t k = 0; k < m->files[i].n_tensors; k++)
            dps_free (m->files[i].tensors[k]);
        dps_free (m->files[i].tensors);
        dps_free (m->files[i].tensor_sha256);
        dps_free (m->files[i].name);
    }
    dps_free (m->files);
    *m = (DpsDigests){0};
}

static int write_file (DpsBuf *b, const DpsDigestFile *f)
{
    int bad = dps_buf_printf (b, "    \"%s\": {\"bytes\": %llu, \"sha256\": \"%s\"", f->name, (unsigned long long)f->bytes, f->sha256.hex);
    if (f->n_tensors && !bad)
        bad = dps_buf_str (b, ", \"tensors\": {");
    for (size_t k = 0; k < f->n_tensors && !bad; k++)
        bad = dps_buf_str (b, k ? ",\n      " : "\n      ") || dps_json_quote (b, f->tensors[k], strlen (f->tensors[k])) ||
              dps_buf_printf (b, ": \"%s\"", f->tensor_sha256[k].hex);
    return bad || dps_buf_str (b, f->n_tensors ? "\n    }}" : "}");
}

DpsStatus dps_digests_write (const DpsDigests *m, DpsBuf *out, DpsError *err)
{
    DpsDigest self;
    size_t start = out->len;
    int bad = dps_buf_printf (out, "{\n  \"diapason_checkpoint\": 1,\n  \"step\": %llu,\n  \"files\": {\n", (unsigned long long)m->step);
    for (size_t i = 0; i < m->n && !bad; i++)
        bad = write_file (out, &m->files[i]) || dps_buf_str (out, i + 1 < m->n ? ",\n" : "\n");
    if (bad || dps_buf_printf (out, "  },\n  %s%064d%s", self_before, 0, self_after))
        return dps_fail (err, DPS_ERR_NOMEM, "%s: out of memory", DPS_DIGESTS_MANIFEST);
    DPS_TRY (dps_sha256 (out->data + start, out->len - start, &self, err));
    memcpy (out->data + out->len - TAIL, self.hex, DIGITS);
    return DPS_OK;
}

DpsStatus dps_digests_check (const DpsDigestFile *f, const char *dir, DpsError *err)
{
    struct stat sb;
    DpsDigest digest;
    char *path = dps_path_join (dir, f->name);
    if (!path)
        return dps_fail (err, DPS_ERR_NOMEM, "%s: out of memory", dir);
    DpsStatus st = DPS_OK;
    if (stat (path, &sb) != 0)
        st = dps_fail (err, errno == ENOENT ? DPS_ERR_NOT_FOUND : DPS_ERR_IO, "%s: missing: %s", path, strerror (errno));
    else if (!S_ISREG (sb.st_mode))
        st = dps_fail (err, DPS_ERR_FORMAT, "%s: not a regular file", path);
    else if ((uint64_t)sb.st_size != f->bytes)
        st = dps_fail (err, DPS_ERR_DIGEST, "%s: has %lld bytes, %llu were saved", path, (long long)sb.st_size,
                       (unsigned long long)f->bytes);
    else
        st = dps_sha256_file (path, &digest, err);
    if (st == DPS_OK && strcmp (digest.hex, f->sha256.hex) != 0)
        st = dps_fail (err, DPS_ERR_DIGEST, "%s: damaged: its SHA-256 is not the one it was saved with", path);
    dps_free (path);
    return st;
}

/* ---- reading ---- */

/* A key at most once: `seen` has one bit per known key. */
static DpsStatus once (unsigned *seen, unsigned bit, const char *key, DpsError *err)
{
    if (*seen & bit)
        return dps_fail (err, DPS_ERR_FORMAT, "'%.100s' is given twice", key);
    *seen |= bit;
    return DPS_OK;
}

static DpsStatus read_digest (DpsScan *c, DpsBuf *text, const char *what, DpsDigest *out, DpsError *err)
{
    DpsStatus st = dps_scan_peek (c) == '"' ? dps_scan_string (c, text, err) : DPS_ERR_FORMAT;
    if (st == DPS_ERR_NOMEM)
        return st;
    if (st != DPS_OK || text->len != DIGITS || strspn (text->data, "0123456789abcdef") != DIGITS)
        return dps_fail (err, DPS_ERR_FORMAT, "'%.100s': expected a SHA-256 of 64 hexadecimal digits", what);
    memcpy (out->hex, text->data, DIGITS + 1);
    return DPS_OK;
}

static DpsStatus read_count (DpsScan *c, const char *what, uint64_t *out, DpsError *err)
{
    if (dps_scan_uint (c, out, NULL) != DPS_OK || *out > INT64_MAX || strchr (".eE", dps_scan_peek (c)) || dps_scan_peek (c) == 0)
        return dps_fail (err, DPS_ERR_FORMAT, "'%.100s': expected a whole number, 0 or more", what);
    return DPS_OK;
}

/* A string without NUL, copied. */
static DpsStatus copy_key (const DpsBuf *key, char **out, DpsError *err)
{
    if (key->len != strlen (key->data))
        return dps_fail (err, DPS_ERR_FORMAT, "'%.100s' has a NUL in its name", key->data);
    *out = dps_strdup (key->data);
    return *out ? DPS_OK : dps_fail (err, DPS_ERR_NOMEM, "out of memory");
}

/* How many members the object at the cursor has. */
static DpsStatus count_members (DpsScan c, DpsBuf *key, size_t *out, DpsError *err)
{
    int first = 1, more;
    for (*out = 0;; ++*out) {
        DPS_TRY (dps_scan_member (&c, &first, key, &more, err));
        if (!more)
            return DPS_OK;
        DPS_TRY (dps_scan_skip (&c, err));
    }
}

static DpsStatus read_tensors (DpsScan *c, DpsBuf *key, DpsBuf *text, DpsDigestFile *f, DpsError *err)
{
    int first = 1, more;
    size_t n = 0;
    if (dps_scan_peek (c) != '{')
        return dps_fail (err, DPS_ERR_FORMAT, "'%s': 'tensors' must be an object", f->name);
    DPS_TRY (count_members (*c, key, &n, err));
    f->tensors = dps_calloc (n, sizeof *f->tensors);
    f->tensor_sha256 = dps_calloc (n, sizeof *f->tensor_sha256);
    if (!f->tensors || !f->tensor_sha256)
        return dps_fail (err, DPS_ERR_NOMEM, "out of memory");
    for (;;) {
        DPS_TRY (dps_scan_member (c, &first, key, &more, err));
        if (!more)
            return DPS_OK;
        DPS_TRY (copy_key (key, &f->tensors[f->n_tensors], err));
        f->n_tensors++;
        DPS_TRY (read_digest (c, text, key->data, &f->tensor_sha256[f->n_tensors - 1], err));
    }
}

/* The value of one file; its entry is there already, by name. */
static DpsStatus read_file (DpsScan *c, DpsDigestFile *f, DpsBuf *key, DpsBuf *text, DpsError *err)
{
    enum { BYTES = 1, SHA256 = 2, TENSORS = 4 };
    int first = 1, more;
    unsigned seen = 0;
    if (dps_scan_peek (c) != '{')
        return dps_fail (err, DPS_ERR_FORMAT, "'%s': expected an object", f->name);
    for (;;) {
        DPS_TRY (dps_scan_member (c, &first, key, &more, err));
        if (!more)
            break;
        if (!strcmp (key->data, "bytes")) {
            DPS_TRY (once (&seen, BYTES, key->data, err));
            DPS_TRY (read_count (c, f->name, &f->bytes, err));
        } else if (!strcmp (key->data, "sha256")) {
            DPS_TRY (once (&seen, SHA256, key->data, err));
            DPS_TRY (read_digest (c, text, f->name, &f->sha256, err));
        } else if (!strcmp (key->data, "tensors")) {
            DPS_TRY (once (&seen, TENSORS, key->data, err));
            DPS_TRY (read_tensors (c, key, text, f, err));
        } else
            DPS_TRY (dps_scan_skip (c, err));
    }
    if ((seen & (BYTES | SHA256)) != (BYTES | SHA256))
        return dps_fail (err, DPS_ERR_FORMAT, "'%s' has no %s", f->name, seen & BYTES ? "SHA-256 of 64 hexadecimal digits" : "'bytes'");
    return DPS_OK;
}

static DpsStatus read_files (DpsScan *c, DpsBuf *key, DpsBuf *text, DpsDigests *m, DpsError *err)
{
    static const DpsDigest none;
    int first = 1, more;
    size_t n = 0;
    if (dps_scan_peek (c) == '{')
        DPS_TRY (count_members (*c, key, &n, err));
    if (n == 0)
        return dps_fail (err, DPS_ERR_FORMAT, "'files' must be an object that names at least one file");
    if (n > DPS_DIGESTS_MAX_FILES)
        return dps_fail (err, DPS_ERR_LIMIT, "%zu files, at most %d are allowed", n, DPS_DIGESTS_MAX_FILES);
    for (;;) {
        DPS_TRY (dps_scan_member (c, &first, key, &more, err));
        if (!more)
            return DPS_OK;
        if (key->len != strlen (key->data) || !dps_digests_name_ok (key->data))
            return dps_fail (err, DPS_ERR_FORMAT, "'%.100s' is not a plain file name", key->data);
        if (dps_digests_find (m, key->data))
            return dps_fail (err, DPS_ERR_FORMAT, "'%.100s' is listed twice", key->data);
        DpsDigestFile *f = dps_digests_add (m, key->data, 0, &none);
        if (!f)
            return dps_fail (err, DPS_ERR_NOMEM, "out of memory");
        DPS_TRY (read_file (c, f, key, text, err));
    }
}

static DpsStatus read_version (DpsScan *c, DpsError *err)
{
    uint64_t version = 0;
    if (dps_scan_uint (c, &version, NULL) != DPS_OK || version != 1)
        return dps_fail (err, DPS_ERR_VERSION, "'diapason_checkpoint' is not 1: written by another version of Diapason");
    return DPS_OK;
}

static DpsStatus read_all (DpsScan *c, DpsBuf *key, DpsBuf *text, DpsDigests *m, DpsError *err)
{
    enum { VERSION = 1, STEP = 2, FILES = 4 };
    int first = 1, more;
    unsigned seen = 0;
    for (;;) {
        DPS_TRY (dps_scan_member (c, &first, key, &more, err));
        if (!more)
            break;
        if (!strcmp (key->data, "diapason_checkpoint")) {
            DPS_TRY (once (&seen, VERSION, key->data, err));
            DPS_TRY (read_version (c, err));
        } else if (!strcmp (key->data, "step")) {
            DPS_TRY (once (&seen, STEP, key->data, err));
            DPS_TRY (read_count (c, "step", &m->step, err));
        } else if (!strcmp (key->data, "files")) {
            DPS_TRY (once (&seen, FILES, key->data, err));
            DPS_TRY (read_files (c, key, text, m, err));
        } else
            DPS_TRY (dps_scan_skip (c, err));
    }
    if (dps_scan_peek (c) || c->at < c->len)
        return dps_scan_refuse (c, "nothing after the manifest", err);
    if (!(seen & VERSION))
        return dps_fail (err, DPS_ERR_VERSION, "'diapason_checkpoint' is missing: written by another version of Diapason");
    if (!(seen & STEP) || !(seen & FILES))
        return dps_fail (err, DPS_ERR_FORMAT, "'%s' is missing", seen & STEP ? "files" : "step");
    return DPS_OK;
}

DpsStatus dps_digests_parse (const char *data, size_t len, const char *where, DpsDigests *out, DpsError *err)
{
    DpsDigests m = {0};
    DpsScan c = {data, len, 0};
    DpsBuf key = {0}, text = {0};
    DpsStatus st = read_all (&c, &key, &text, &m, err);
    dps_buf_free (&key);
    dps_buf_free (&text);
    if (st != DPS_OK) {
        dps_digests_free (&m);
        dps_error_prefix (err, "%s", where);
        return st;
    }
    *out = m;
    return DPS_OK;
}

DpsStatus dps_digests_read (const char *data, size_t len, const char *where, DpsDigests *out, DpsError *err)
{
    const size_t before = sizeof self_before - 1;
    DpsBuf copy = {0};
    DpsDigest self;
    if (len < TAIL + before || memcmp (data + len - (TAIL - DIGITS), self_after, TAIL - DIGITS) != 0 ||
        memcmp (data + len - TAIL - before, self_before, before) != 0)
        return dps_fail (err, DPS_ERR_FORMAT, "%s: cut short or no list of digests: it does not end with its own", where);
    if (dps_buf_add (&copy, data, len))
        return dps_fail (err, DPS_ERR_NOMEM, "%s: out of memory", where);
    memset (copy.data + len - TAIL, '0', DIGITS);
    DpsStatus st = dps_sha256 (copy.data, len, &self, err);
    if (st == DPS_OK && memcmp (self.hex, data + len - TAIL, DIGITS) != 0)
        st = dps_fail (err, DPS_ERR_DIGEST, "%s: its own SHA-256 does not match: it was damaged or changed by hand", where);
    dps_buf_free (&copy);
    return st == DPS_OK ? dps_digests_parse (data, len, where, out, err) : st;
}
