/* SPDX-License-Identifier: Apache-2.0 */
/*
 * manifest.c: GLib splits the key file, everything it yields is checked here. The size limit comes before GLib sees a byte, because
 * GLib's allocator does not return when memory is short.
 */
#include "plugin/manifest.h"

#include <glib.h>
#include <stdio.h>
#include <string.h>

#include "base/utf8.h"

#define GROUP "plugin"

/** What a value may look like: a predicate on the whole value or on each item of a list. */
typedef int (*Check) (const char *s, size_t len);

typedef struct Key {
    const char *name;
    size_t offset, room; /* of the member of DpsManifest */
    int required, list;
    Check check;
    const char *expected;
} Key;

static int is_word (char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_' || c == '-'; }

/* com.vendor.name: at least two parts, none empty, the first beginning with a letter. */
static int check_id (const char *s, size_t len)
{
    size_t n_dots = 0;
    if (!len || s[0] < 'a' || s[0] > 'z' || s[len - 1] == '.')
        return 0;
    for (size_t i = 0; i < len; i++) {
        if (s[i] == '.' && s[i - 1] == '.')
            return 0;
        n_dots += s[i] == '.';
        if (s[i] != '.' && !is_word (s[i]))
            return 0;
    }
    return n_dots > 0;
}

static int check_kind (const char *s, size_t len)
{
    static const char *const kinds[] = {"backend", "objective", "adapter", "format", "reward", "collective"};
    for (size_t i = 0; i < G_N_ELEMENTS (kinds); i++)
        if (strlen (kinds[i]) == len && !memcmp (s, kinds[i], len))
            return 1;
    return 0;
}

static int check_module (const char *s, size_t len)
{
    return len > 3 && s[0] != '.' && !memchr (s, '/', len) && !memcmp (s + len - 3, ".so", 3);
}

static int check_sha256 (const char *s, size_t len) { return len == 64 && strspn (s, "0123456789abcdefABCDEF") >= 64; }

static int check_text (const char *s, size_t len) { return s && len > 0; }

/* dps.host.tape/1 */
static int check_interface (const char *s, size_t len)
{
    const char *slash = memchr (s, '/', len);
    size_t digits = slash ? len - (size_t)(slash - s) - 1 : 0;
    return slash && check_id (s, (size_t)(slash - s)) && digits >= 1 && digits <= 4 && strspn (slash + 1, "0123456789") >= digits;
}

static int check_isa (const char *s, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (!is_word (s[i]) && s[i] != '.')
            return 0;
    return len > 0 && len < 64;
}

/* A soname or NAME=VERSION: never a path, which the dynamic linker would open relative to the current directory. */
static int check_runtime (const char *s, size_t len)
{
    size_t n_equal = 0;
    for (size_t i = 0; i < len; i++) {
        n_equal += s[i] == '=';
        if (!g_ascii_isalnum (s[i]) && !strchr ("._+-=", s[i]))
            return 0;
    }
    return len > 1 && len < 128 && s[0] != '.' && s[0] != '=' && s[len - 1] != '=' && n_equal <= 1;
}

/* MAJOR.MINOR or MAJOR.MINOR-MAJOR.MINOR of one major, ascending. */
static int scan_abi (const char *s, uint32_t *out_major, uint32_t *out_minor)
{
    unsigned v[4];
    int n[2] = {0, 0};
    int read = sscanf (s, "%3u.%3u%n-%3u.%3u%n", &v[0], &v[1], &n[0], &v[2], &v[3], &n[1]);
    int single = read == 2 && !s[n[0]], range = read == 4 && !s[n[1]] && v[0] == v[2] && v[1] <= v[3];
    if (!g_ascii_isdigit (s[0]) || (!single && !range))
        return 0;
    *out_major = v[0];
    *out_minor = v[1];
    return 1;
}

static int check_abi (const char *s, size_t len)
{
    uint32_t major, minor;
    return strspn (s, "0123456789.-") == len && scan_abi (s, &major, &minor);
}

static int check_answer (const char *s, size_t len) { return (len == 2 && !memcmp (s, "no", 2)) || (len == 3 && !memcmp (s, "yes", 3)); }
static int check_key_name (const char *s, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (!is_word (s[i]) && s[i] != '.')
            return 0;
    return len > 0 && s[0] != '.';
}

static int check_signature (const char *s, size_t len) { return len == 128 && strspn (s, "0123456789abcdefABCDEF") >= 128; }

#define MEMBER(m) offsetof (DpsManifest, m), sizeof ((DpsManifest *)0)->m
static const Key keys[] = {
    {"id", MEMBER (id), 1, 0, check_id, "dps.NAME or com.vendor.NAME in lower case"},
    {"kinds", MEMBER (kinds), 1, 1, check_kind, "backend, objective, adapter, format, reward or collective"},
    {"module", MEMBER (module), 1, 0, check_module, "a file name ending in .so, in this folder"},
    {"sha256", MEMBER (sha256), 1, 0, check_sha256, "64 hexadecimal digits"},
    {"abi", MEMBER (abi), 1, 0, check_abi, "MAJOR.MINOR or MAJOR.MINOR-MAJOR.MINOR"},
    {"version", MEMBER (version), 1, 0, check_text, "a version"},
    {"licence", MEMBER (licence), 1, 0, check_text, "an SPDX expression"},
    {"summary", MEMBER (summary), 1, 0, check_text, "one line"},
    {"needs", MEMBER (needs), 0, 1, check_interface, "host interfaces such as dps.host.tape/1"},
    {"isa", MEMBER (isa), 0, 1, check_isa, "CPU features such as avx2"},
    {"automatic", MEMBER (automatic), 0, 0, check_answer, "yes or no"},
    {"signed-by", MEMBER (signed_by), 0, 0, check_key_name, "the name of a key, in lower case"},
    {"signature", MEMBER (signature), 0, 0, check_signature, "128 hexadecimal digits: diapason plugins sign"},
    {"runtimes", MEMBER (runtimes), 0, 1, check_runtime, "sonames such as libdnnl.so.2, or NAME=VERSION"},
};

const char *dps__manifest_name (const char *id)
{
    const char *dot = strrchr (id, '.');
    return dot ? dot + 1 : id;
}

int dps__list_next (const char **at, DpsStr *out_item)
{
    const char *s = *at + strspn (*at, "; \t");
    size_t len = strcspn (s, ";");
    *at = s + len;
    while (len && (s[len - 1] == ' ' || s[len - 1] == '\t'))
        len--;
    *out_item = (DpsStr){s, len};
    return len > 0;
}

/* The key a misspelling was meant to be: one that differs by at most two characters. */
static const char *suggest (const char *name)
{
    for (size_t k = 0; k < G_N_ELEMENTS (keys); k++) {
        const char *a = name, *b = keys[k].name;
        size_t n_same = 0;
        for (const char *at = b; *a && *at; a++) {
            const char *found = strchr (at, *a);
            if (found && found - at <= 1) {
                n_same++;
                at = found + 1;
            }
        }
        if (n_same + 2 >= strlen (b) && n_same + 2 >= strlen (name) && n_same >= 2)
            return b;
    }
    return NULL;
}

/* Every key is known and given once: GLib would let the last of two win, and ignore what nobody asks for. */
static DpsStatus check_keys (GKeyFile *file, const char *where, DpsError *err)
{
    g_auto (GStrv) groups = g_key_file_get_groups (file, NULL);
    for (char **g = groups; *g; g++)
        if (strcmp (*g, GROUP) && !g_str_has_prefix (*g, "x-"))
            return dps_fail (err, DPS_ERR_FORMAT, "%s: unknown group [%.40s], expected [" GROUP "] (vendors' own begin with x-)", where,
                             *g);
    g_auto (GStrv) names = g_key_file_get_keys (file, GROUP, NULL, NULL);
    if (!names)
        return dps_fail (err, DPS_ERR_FORMAT, "%s: no group [" GROUP "]", where);
    unsigned n_seen[G_N_ELEMENTS (keys)] = {0};
    for (char **name = names; *name; name++) {
        size_t k = 0;
        while (k < G_N_ELEMENTS (keys) && strcmp (keys[k].name, *name))
            k++;
        if (k < G_N_ELEMENTS (keys) && ++n_seen[k] > 1)
            return dps_fail (err, DPS_ERR_FORMAT, "%s: key '%s' is given twice", where, *name);
        if (k < G_N_ELEMENTS (keys) || g_str_has_prefix (*name, "x-"))
            continue;
        const char *meant = suggest (*name);
        return dps_fail (err, DPS_ERR_FORMAT, "%s: unknown key '%.40s'%s%s%s", where, *name, meant ? "; did you mean '" : "",
                         meant ? meant : "", meant ? "'?" : "");
    }
    return DPS_OK;
}

static DpsStatus take_key (GKeyFile *file, const Key *key, const char *where, DpsManifest *out, DpsError *err)
{
    g_autofree char *value = g_key_file_get_value (file, GROUP, key->name, NULL);
    if (!value || !*g_strstrip (value)) {
        if (!key->required)
            return DPS_OK;
        return dps_fail (err, DPS_ERR_FORMAT, "%s: key '%s' is missing, expected %s", where, key->name, key->expected);
    }
    size_t len = strlen (value);
    if (len >= key->room)
        return dps_fail (err, DPS_ERR_FORMAT, "%s: key '%s' has %zu bytes, expected at most %zu: %s", where, key->name, len, key->room - 1,
                         key->expected);
    int good = dps_utf8_is_plain (value, len);
    const char *at = value;
    DpsStr item = {value, len};
    if (good && !key->list)
        good = key->check (value, len);
    size_t n_items = 0;
    for (; good && key->list && dps__list_next (&at, &item); n_items++)
        good = key->check (item.ptr, item.len);
    if (key->list && !n_items)
        good = 0;
    if (!good)
        return dps_fail (err, DPS_ERR_FORMAT, "%s: key '%s' is '%.60s', expected %s", where, key->name, value, key->expected);
    memcpy ((char *)out + key->offset, value, len + 1);
    return DPS_OK;
}

DpsStatus dps__manifest_parse (const char *data, size_t len, const char *where, DpsManifest *out, DpsError *err)
{
    if (len > DPS_MANIFEST_MAX_BYTES)
        return dps_fail (err, DPS_ERR_LIMIT, "%s: longer than the %d bytes of a manifest", where, DPS_MANIFEST_MAX_BYTES);
    if (!len)
        return dps_fail (err, DPS_ERR_FORMAT, "%s: the file is empty", where);
    if (!g_utf8_validate (data, (gssize)len, NULL))
        return dps_fail (err, DPS_ERR_FORMAT, "%s: not UTF-8 text without NUL", where);
    g_autoptr (GKeyFile) file = g_key_file_new ();
    g_autoptr (GError) error = NULL;
    g_autofree char *text = g_strndup (data, len);
    if (!g_key_file_load_from_data (file, text, len, G_KEY_FILE_KEEP_TRANSLATIONS, &error))
        return dps_fail (err, DPS_ERR_FORMAT, "%s: %.200s", where, error->message);
    DPS_TRY (check_keys (file, where, err));
    DpsManifest m = {.id = ""};
    for (size_t k = 0; k < G_N_ELEMENTS (keys); k++)
        DPS_TRY (take_key (file, &keys[k], where, &m, err));
    for (char *c = m.sha256; *c; c++)
        *c = g_ascii_tolower (*c);
    scan_abi (m.abi, &m.abi_major, &m.abi_minor);
    *out = m;
    return DPS_OK;
}
