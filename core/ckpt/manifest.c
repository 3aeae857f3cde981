/* SPDX-License-Identifier: Apache-2.0 */
#include "ckpt/manifest.h"

#include <string.h>

/* The end of every manifest, byte for byte; the 64 digits lie between the two. */
static const char self_before[] = "\"self_sha256\": \"", self_after[] = "\"\n}\n";
enum { DIGITS = 64, TAIL = DIGITS + sizeof self_after - 1 };

int dps__ckpt_manifest_name_ok (const char *name)
{
    static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";
    size_t n = strlen (name);
    return n > 0 && n <= 200 && name[0] != '.' && strspn (name, allowed) == n && strcmp (name, DPS_CKPT_MANIFEST_NAME) != 0;
}

const DpsCkptFile *dps__ckpt_manifest_find (const DpsCkptManifest *m, const char *name)
{
    for (size_t i = 0; i < m->n; i++)
        if (!strcmp (m->files[i].name, name))
            return &m->files[i];
    return NULL;
}

DpsCkptFile *dps__ckpt_manifest_add (DpsCkptManifest *m, const char *name, uint64_t bytes, const DpsDigest *digest)
{
    if (!dps__ckpt_manifest_name_ok (name) || dps__ckpt_manifest_find (m, name) || DPS_GROW (m->files, m->n, m->capacity))
        return NULL;
    char *copy = dps_strdup (name);
    if (!copy)
        return NULL;
    m->files[m->n] = (DpsCkptFile){.name = copy, .bytes = bytes, .sha256 = *digest};
    return &m->files[m->n++];
}

void dps__ckpt_manifest_free (DpsCkptManifest *m)
{
    for (size_t i = 0; i < m->n; i++) {
        for (size_t k = 0; k < m->files[i].n_tensors; k++)
            dps_free (m->files[i].tensors[k]);
        dps_free (m->files[i].tensors);
        dps_free (m->files[i].tensor_sha256);
        dps_free (m->files[i].name);
    }
    dps_free (m->files);
    *m = (DpsCkptManifest){0};
}

static int write_file (DpsBuf *b, const DpsCkptFile *f)
{
    int bad = dps_buf_printf (b, "    \"%s\": {\"bytes\": %llu, \"sha256\": \"%s\"", f->name, (unsigned long long)f->bytes, f->sha256.hex);
    if (f->n_tensors && !bad)
        bad = dps_buf_str (b, ", \"tensors\": {");
    for (size_t k = 0; k < f->n_tensors && !bad; k++)
        bad = dps_buf_str (b, k ? ",\n      " : "\n      ") || dps_json_quote (b, f->tensors[k], strlen (f->tensors[k])) ||
              dps_buf_printf (b, ": \"%s\"", f->tensor_sha256[k].hex);
    return bad || dps_buf_str (b, f->n_tensors ? "\n    }}" : "}");
}

DpsStatus dps__ckpt_manifest_write (const DpsCkptManifest *m, DpsBuf *out, DpsError *err)
{
    DpsDigest self;
    size_t start = out->len;
    int bad = dps_buf_printf (out, "{\n  \"diapason_checkpoint\": 1,\n  \"step\": %llu,\n  \"files\": {\n", (unsigned long long)m->step);
    for (size_t i = 0; i < m->n && !bad; i++)
        bad = write_file (out, &m->files[i]) || dps_buf_str (out, i + 1 < m->n ? ",\n" : "\n");
    if (bad || dps_buf_printf (out, "  },\n  %s%064d%s", self_before, 0, self_after))
        return dps_fail (err, DPS_ERR_NOMEM, "%s: out of memory", DPS_CKPT_MANIFEST_NAME);
    DPS_TRY (dps_sha256 (out->data + start, out->len - start, &self, err));
    memcpy (out->data + out->len - TAIL, self.hex, DIGITS);
    return DPS_OK;
}

static DpsStatus read_digest (const json_t *v, const char *where, const char *what, DpsDigest *out, DpsError *err)
{
    const char *s = json_string_value (v);
    if (!s || strlen (s) != DIGITS || strspn (s, "0123456789abcdef") != DIGITS)
        return dps_fail (err, DPS_ERR_FORMAT, "%s: '%.100s': expected a SHA-256 of 64 hexadecimal digits", where, what);
    memcpy (out->hex, s, DIGITS + 1);
    return DPS_OK;
}

static DpsStatus read_count (const json_t *v, const char *where, const char *what, uint64_t *out, DpsError *err)
{
    if (!json_is_integer (v) || json_integer_value (v) < 0)
        return dps_fail (err, DPS_ERR_FORMAT, "%s: '%.100s': expected a whole number, 0 or more", where, what);
    *out = (uint64_t)json_integer_value (v);
    return DPS_OK;
}

static DpsStatus read_tensors (json_t *list, const char *where, DpsCkptFile *f, DpsError *err)
{
    const char *name;
    json_t *v;
    size_t n = json_object_size (list);
    if (!json_is_object (list))
        return dps_fail (err, DPS_ERR_FORMAT, "%s: '%s': 'tensors' must be an object", where, f->name);
    f->tensors = dps_calloc (n, sizeof *f->tensors);
    f->tensor_sha256 = dps_calloc (n, sizeof *f->tensor_sha256);
    if (!f->tensors || !f->tensor_sha256)
        return dps_fail (err, DPS_ERR_NOMEM, "%s: out of memory", where);
    json_object_foreach (list, name, v) {
        DPS_TRY (read_digest (v, where, name, &f->tensor_sha256[f->n_tensors], err));
        if (!(f->tensors[f->n_tensors] = dps_strdup (name)))
            return dps_fail (err, DPS_ERR_NOMEM, "%s: out of memory", where);
        f->n_tensors++;
    }
    return DPS_OK;
}

static DpsStatus read_files (json_t *files, const char *where, DpsCkptManifest *m, DpsError *err)
{
    const char *name;
    json_t *v;
    if (!json_is_object (files) || json_object_size (files) == 0)
        return dps_fail (err, DPS_ERR_FORMAT, "%s: 'files' must be an object that names at least one file", where);
    if (json_object_size (files) > DPS_CKPT_MANIFEST_MAX_FILES)
        return dps_fail (err, DPS_ERR_LIMIT, "%s: %zu files, at most %d are allowed", where, json_object_size (files),
                         DPS_CKPT_MANIFEST_MAX_FILES);
    json_object_foreach (files, name, v) {
        DpsDigest digest;
        uint64_t bytes = 0;
        if (!dps__ckpt_manifest_name_ok (name))
            return dps_fail (err, DPS_ERR_FORMAT, "%s: '%.100s' is not a plain file name", where, name);
        if (dps__ckpt_manifest_find (m, name))
            return dps_fail (err, DPS_ERR_FORMAT, "%s: '%.100s' is listed twice", where, name);
        DPS_TRY (read_count (json_object_get (v, "bytes"), where, name, &bytes, err));
        DPS_TRY (read_digest (json_object_get (v, "sha256"), where, name, &digest, err));
        DpsCkptFile *f = dps__ckpt_manifest_add (m, name, bytes, &digest);
        if (!f)
            return dps_fail (err, DPS_ERR_NOMEM, "%s: out of memory", where);
        if (json_object_get (v, "tensors"))
            DPS_TRY (read_tensors (json_object_get (v, "tensors"), where, f, err));
    }
    return DPS_OK;
}

DpsStatus dps__ckpt_manifest_parse (const char *data, size_t len, const char *where, DpsCkptManifest *out, DpsError *err)
{
    json_t *j = NULL;
    DpsCkptManifest m = {0};
    DPS_TRY (dps_json_parse (data, len, where, 1, DPS_JSON_UNIQUE, &j, err));
    DpsStatus st = DPS_OK;
    if (json_integer_value (json_object_get (j, "diapason_checkpoint")) != 1)
        st = dps_fail (err, DPS_ERR_VERSION, "%s: 'diapason_checkpoint' is not 1: written by another version of Diapason", where);
    if (st == DPS_OK)
        st = read_count (json_object_get (j, "step"), where, "step", &m.step, err);
    if (st == DPS_OK)
        st = read_files (json_object_get (j, "files"), where, &m, err);
    json_decref (j);
    if (st != DPS_OK)
        dps__ckpt_manifest_free (&m);
    else
        *out = m;
    return st;
}

DpsStatus dps__ckpt_manifest_read (const char *data, size_t len, const char *where, DpsCkptManifest *out, DpsError *err)
{
    const size_t before = sizeof self_before - 1;
    DpsBuf copy = {0};
    DpsDigest self;
    if (len < TAIL + before || memcmp (data + len - (TAIL - DIGITS), self_after, TAIL - DIGITS) != 0 ||
        memcmp (data + len - TAIL - before, self_before, before) != 0)
        return dps_fail (err, DPS_ERR_FORMAT, "%s: cut short or not a checkpoint manifest: it does not end with its own digest", where);
    if (dps_buf_add (&copy, data, len))
        return dps_fail (err, DPS_ERR_NOMEM, "%s: out of memory", where);
    memset (copy.data + len - TAIL, '0', DIGITS);
    DpsStatus st = dps_sha256 (copy.data, len, &self, err);
    if (st == DPS_OK && memcmp (self.hex, data + len - TAIL, DIGITS) != 0)
        st = dps_fail (err, DPS_ERR_DIGEST, "%s: its own SHA-256 does not match: it was damaged or changed by hand", where);
    dps_buf_free (&copy);
    return st == DPS_OK ? dps__ckpt_manifest_parse (data, len, where, out, err) : st;
}
