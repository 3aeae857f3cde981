/* SPDX-License-Identifier: Apache-2.0 */
/* certificate_read.c: is a certificate whole, good, and of what is here today (certificate.h)? */
#include <stdio.h>
#include <string.h>

#include "base/json.h"
#include "base/utf8.h"
#include "check/certificate.h"
#include "check/check.h"

enum { MAX_CERTIFICATE = 16 << 20 };

DpsStatus check_certificate_digest (const json_t *body, DpsDigest *out, DpsError *err)
{
    char *text = json_dumps (body, JSON_COMPACT | JSON_SORT_KEYS | JSON_REAL_PRECISION (9));
    DpsStatus st = text ? dps_sha256 (text, strlen (text), out, err) : dps_fail (err, DPS_ERR_NOMEM, "certificate: out of memory");
    dps_free (text);
    return st;
}

static const char *text_at (const json_t *object, const char *outer, const char *key)
{
    const char *s = json_string_value (json_object_get (outer ? json_object_get (object, outer) : object, key));
    return s ? s : "";
}

/* What is printed of a certificate that holds. */
static int is_told (const json_t *body)
{
    const json_t *plugin = json_object_get (json_object_get (body, "result"), "plugin");
    const char *told[] = {text_at (plugin, NULL, "id"), text_at (plugin, NULL, "version"), text_at (body, "machine", "cpu")};
    for (size_t i = 0; i < sizeof told / sizeof *told; i++)
        if (!*told[i] || !dps_utf8_is_plain (told[i], strlen (told[i])))
            return 0;
    return 1;
}

/* One thing that must be what it was. */
static DpsStatus same (const char *path, const char *what, const char *then, const char *now, DpsError *err)
{
    if (!strcmp (then, now))
        return DPS_OK;
    return dps_fail (err, DPS_ERR_LOCK, "%s: it is for %s %.70s, and here it is %.70s. Hint: run diapason check again", path, what,
                     *then ? then : "(none)", now);
}

static DpsStatus same_plugin (const char *path, const json_t *plugin, const char *module_path, DpsError *err)
{
    const char *module = module_path ? module_path : text_at (plugin, NULL, "module"), *then = text_at (plugin, NULL, "sha256");
    DpsDigest now;
    if (!module_path && !strcmp (module, "(built in)"))
        return same (path, "program version", text_at (plugin, NULL, "version"), DPS_SDK_VERSION, err);
    DPS_TRY (dps_sha256_file (module, &now, err));
    return same (path, "a plugin whose SHA-256 is", then, now.hex, err);
}

DpsStatus check_verify_certificate (const char *path, const char *module_path, json_t **out, DpsError *err)
{
    json_t *body = NULL;
    DpsDigest digest;
    char abi[24], then[72];
    DPS_TRY (dps_json_file (path, MAX_CERTIFICATE, DPS_JSON_UNIQUE, &body, err));
    DpsStatus st = DPS_OK;
    const json_t *result = json_object_get (body, "result");
    if (json_integer_value (json_object_get (body, "diapason_certificate")) != 1 || !is_told (body)) {
        st = dps_fail (err, DPS_ERR_FORMAT, "%s: no certificate of diapason check", path);
        goto done;
    }
    snprintf (then, sizeof then, "%.64s", text_at (body, NULL, "sha256"));
    json_object_del (body, "sha256");
    DPS_TRY_GOTO (st, done, check_certificate_digest (body, &digest, err));
    if (strcmp (then, digest.hex)) {
        st = dps_fail (err, DPS_ERR_DIGEST, "%s: it was changed after it was written: its digest is %.12s…, it says %.12s…", path,
                       digest.hex, then);
        goto done;
    }
    snprintf (abi, sizeof abi, "%u.%u", DPS_ABI_MAJOR, DPS_ABI_MINOR);
    DPS_TRY_GOTO (st, done, same (path, "ABI", text_at (body, NULL, "abi"), abi, err));
    DPS_TRY_GOTO (st, done, same (path, "suite version", text_at (result, NULL, "suite_version"), CHECK_SUITE_VERSION, err));
    DPS_TRY_GOTO (st, done, same (path, "budgets", text_at (result, NULL, "budgets_sha256"), CHECK_BUDGETS_DIGEST, err));
    DPS_TRY_GOTO (st, done, same_plugin (path, json_object_get (result, "plugin"), module_path, err));
    if (!json_is_true (json_object_get (result, "ok")))
        st = dps_fail (err, DPS_ERR_POLICY, "%s: it records failures: %lld failed, %lld crashed, %lld timed out", path,
                       (long long)json_integer_value (json_object_get (result, "failed")),
                       (long long)json_integer_value (json_object_get (result, "crashed")),
                       (long long)json_integer_value (json_object_get (result, "timed out")));
done:
    if (st == DPS_OK)
        *out = body;
    else
        json_decref (body);
    return st;
}
