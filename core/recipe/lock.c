/* SPDX-License-Identifier: Apache-2.0 */
#include "recipe/lock.h"

#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "base/log.h"
#include "recipe/internal.h"

enum { LOCK_VERSION = 1 };

int dps__lock_put_entries (DpsBuf *out, const DpsLockEntry *entries, size_t n)
{
    int bad = 0;
    for (size_t i = 0; i < n && !bad; i++) {
        bad = dps_buf_str (out, "  ") || dps_json_quote (out, entries[i].key, strlen (entries[i].key)) || dps_buf_str (out, ": ") ||
              dps_json_quote (out, entries[i].value, strlen (entries[i].value));
        if (!bad && entries[i].note) {
            /* A comment ends at the line's end, so a note must not hold one. */
            size_t len = strcspn (entries[i].note, "\r\n");
            bad = dps_buf_printf (out, " # %.*s", (int)(len < 400 ? len : 400), entries[i].note);
        }
        bad = bad || dps_buf_str (out, "\n");
    }
    return bad;
}

DpsStatus dps_lock_dump (const DpsRecipe *r, const DpsLockEntry *entries, size_t n, DpsBuf *out, DpsError *err)
{
    DpsDigest fingerprint;
    DPS_TRY (dps_recipe_fingerprint (r, &fingerprint, err));
    int bad = dps_buf_printf (out, "# written by diapason; --resume refuses a difference\nlock_version: %d\nfingerprint: \"%s\"\nrecipe:\n",
                              LOCK_VERSION, fingerprint.hex);
    if (!bad)
        DPS_TRY (dps_recipe_dump (r, 2, out, err));
    bad = bad || dps_buf_str (out, n ? "inputs:\n" : "inputs: {}\n");
    bad = bad || dps__lock_put_entries (out, entries, n);
    return bad ? dps_fail (err, DPS_ERR_NOMEM, "recipe.lock.yaml: out of memory") : DPS_OK;
}

static DpsStatus out_of_memory (const char *path, DpsError *err) { return dps_fail (err, DPS_ERR_NOMEM, "%s: out of memory", path); }

/* A value of the lock in the spelling of the dump. */
static DpsStatus old_value (const DpsYaml *n, const char *path, DpsBuf *out, DpsError *err)
{
    json_t *value = NULL;
    DPS_TRY (dps_yaml_json (n, &value, err));
    int bad = dps_json_write (out, value, 0);
    json_decref (value);
    return bad ? out_of_memory (path, err) : DPS_OK;
}

static DpsStatus compare_recipe (const DpsRecipe *r, const DpsYaml *old, const char *path, DpsError *err)
{
    DpsStatus st = DPS_OK;
    for (int i = 0; i < DPS_N_KEYS && st == DPS_OK; i++) {
        const DpsKey *key = &dps__keys[i];
        if (!dps__key_is_dumped ((DpsKeyId)i) || !key->locked || dps__key_is_idle (r, (DpsKeyId)i))
            continue;
        if (i == DPS_KEY_device && r->allow_device_change)
            continue;
        const DpsYaml *item = dps_yaml_get (old, key->name);
        DpsBuf was = {0}, now = {0};
        if (!item)
            st = dps_fail (err, DPS_ERR_LOCK, "%s: it has no %s: it was written by another version. Hint: train without --resume", path,
                           key->name);
        else if (dps__value_dump (r, key, &now))
            st = out_of_memory (path, err);
        else
            st = old_value (item, path, &was, err);
        if (st == DPS_OK && strcmp (was.data, now.data))
            st = dps_fail (err, DPS_ERR_LOCK,
                           "%s: %s was %.300s and is now %.300s. Hint: set it back, or train without --resume into another "
                           "output_dir",
                           path, key->name, was.data, now.data);
        dps_buf_free (&was);
        dps_buf_free (&now);
    }
    return st;
}

static const char *text_of (const DpsYaml *map, const char *key)
{
    const DpsYaml *item = dps_yaml_get (map, key);
    return item && item->type == DPS_YAML_SCALAR ? item->text : NULL;
}

/* What allow_device_change lets differ: "device", "device.1", "device.plugin dps.cpu", "isa", "isa.1". */
static int is_of_device (const char *key) { return !strncmp (key, "device", 6) || !strncmp (key, "isa", 3); }

static DpsStatus compare_inputs (const DpsRecipe *r, const DpsLockEntry *entries, size_t n, const DpsYaml *old, const char *path,
                                 DpsError *err)
{
    for (size_t i = 0; i < n; i++) {
        const DpsLockEntry *e = &entries[i];
        const char *was = text_of (old, e->key);
        if (was && !strcmp (was, e->value))
            continue;
        if (r->allow_device_change && is_of_device (e->key))
            dps_log (DPS_LOG_WARNING, "%s was %s and is now %s: from here the numbers agree within rounding, not bit for bit", e->key,
                     was ? was : "absent", e->value);
        else
            return dps_fail (err, DPS_ERR_LOCK,
                             "%s: %s%s%s%s was %.200s and is now %.200s. Hint: put back what the run began with, or train "
                             "without --resume into another output_dir",
                             path, e->key, e->note ? " (" : "", e->note ? e->note : "", e->note ? ")" : "", was ? was : "absent", e->value);
    }
    for (const DpsYaml *item = old && old->type == DPS_YAML_MAP ? old->first : NULL; item; item = item->next) {
        size_t i = 0;
        while (i < n && strcmp (entries[i].key, item->key->text))
            i++;
        if (i == n && !(r->allow_device_change && is_of_device (item->key->text)))
            return dps_fail (err, DPS_ERR_LOCK,
                             "%s: the run began with %.200s, which is now absent. Hint: put it back, or train without "
                             "--resume into another output_dir",
                             path, item->key->text);
    }
    return DPS_OK;
}

/* A lock that is there and cannot be opened, or is too long to be one. */
static DpsStatus unreadable (DpsStatus st, const char *otherwise, DpsError *err)
{
    if (st != DPS_ERR_IO && st != DPS_ERR_LIMIT)
        return st;
    dps_error_hint (err, "an earlier run wrote it, and what that began with must be known: make it readable, or put it back; or %s",
                    otherwise);
    return dps_error_recode (err, DPS_ERR_LOCK);
}

static DpsStatus compare (const DpsRecipe *r, const DpsLockEntry *entries, size_t n, const DpsYaml *root, const char *path, DpsError *err)
{
    int64_t version = 0;
    const DpsYaml *v = root ? dps_yaml_get (root, "lock_version") : NULL;
    if (!v || !dps_yaml_int (v, &version) || version != LOCK_VERSION)
        return dps_fail (err, DPS_ERR_LOCK, "%s: lock_version is not %d: it was written by another version. Hint: train without --resume",
                         path, LOCK_VERSION);
    DPS_TRY (compare_recipe (r, dps_yaml_get (root, "recipe"), path, err));
    return compare_inputs (r, entries, n, dps_yaml_get (root, "inputs"), path, err);
}

DpsStatus dps__lock_damaged (DpsStatus st, const char *otherwise, DpsError *err)
{
    if (st != DPS_ERR_USAGE)
        return st;
    dps_error_prefix (err, "the lock is damaged");
    dps_error_hint (err, "put it back as the run wrote it, or %s", otherwise);
    return dps_error_recode (err, DPS_ERR_LOCK);
}

DpsStatus dps__lock_read (const char *path, const char *otherwise, DpsYamlDoc **out, DpsError *err)
{
    DpsBuf text = {0};
    *out = NULL;
    DpsStatus st = unreadable (dps_file_read (path, DPS_YAML_MAX_BYTES, &text, err), otherwise, err);
    if (st == DPS_OK)
        st = dps__lock_damaged (dps_yaml_parse (text.data ? text.data : "", text.len, path, out, err), otherwise, err);
    dps_buf_free (&text);
    return st;
}

DpsStatus dps_lock_compare (const DpsRecipe *r, const DpsLockEntry *entries, size_t n, const char *path, DpsError *err)
{
    DpsYamlDoc *doc;
    DpsStatus st = dps__lock_read (path, DPS__LOCK_RESUME, &doc, err);
    if (st == DPS_ERR_NOT_FOUND)
        st = dps_fail (err, DPS_ERR_LOCK,
                       "%s is missing: it says what the run began with, to which --resume holds it. Hint: put it back, or train without "
                       "--resume into another output_dir",
                       path);
    if (st == DPS_OK)
        st = dps__lock_damaged (compare (r, entries, n, doc->root, path, err), DPS__LOCK_RESUME, err);
    dps_yaml_free (doc);
    return st;
}
