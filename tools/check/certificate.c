/* SPDX-License-Identifier: Apache-2.0 */
/*
 * certificate.c: a JSON object of what ran and how it went. Its last member, "sha256", is the digest of all the others, written compactly with
 * sorted keys: a certificate edited by hand is found out. It is no signature: whoever runs the check can write one.
 */
#include <stdio.h>
#include <string.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#include "base/file.h"
#include "base/json.h"
#include "base/sha256.h"
#include "check/report.h"

enum { MAX_CERTIFICATE = 16 << 20 };

static DpsStatus digest_of (const json_t *body, DpsDigest *out, DpsError *err)
{
    char *text = json_dumps (body, JSON_COMPACT | JSON_SORT_KEYS | JSON_REAL_PRECISION (9));
    DpsStatus st = text ? dps_sha256 (text, strlen (text), out, err) : dps_fail (err, DPS_ERR_NOMEM, "certificate: out of memory");
    dps_free (text);
    return st;
}

/* The first "model name" of /proc/cpuinfo. */
static void cpu_name (char *out, size_t cap)
{
    char line[256];
    FILE *f = fopen ("/proc/cpuinfo", "r");
    snprintf (out, cap, "unknown");
    while (f && fgets (line, sizeof line, f))
        if (!strncmp (line, "model name", 10) && strchr (line, ':')) {
            line[strcspn (line, "\n")] = '\0';
            snprintf (out, cap, "%s", strchr (line, ':') + 2);
            break;
        }
    if (f)
        fclose (f);
}

static json_t *machine (void)
{
    struct utsname u;
    char cpu[256];
    cpu_name (cpu, sizeof cpu);
    if (uname (&u) != 0)
        memset (&u, 0, sizeof u);
    return json_pack ("{s:s, s:s, s:s, s:s, s:I}", "cpu", cpu, "system", u.sysname, "release", u.release, "architecture", u.machine,
                      "processors", (json_int_t)sysconf (_SC_NPROCESSORS_ONLN));
}

static json_t *body_of (const CheckReport *c)
{
    char when[32] = "", abi[24];
    time_t now = time (NULL);
    struct tm utc;
    if (gmtime_r (&now, &utc))
        strftime (when, sizeof when, "%Y-%m-%dT%H:%M:%SZ", &utc);
    snprintf (abi, sizeof abi, "%u.%u", DPS_ABI_MAJOR, DPS_ABI_MINOR);
    json_t *verdicts = json_array ();
    for (size_t i = 0; i < c->n; i++)
        json_array_append_new (verdicts, check_case_json (&c->results[i]));
    json_t *body = json_pack ("{s:i, s:s, s:s, s:s, s:o, s:o, s:o}", "diapason_certificate", 1, "program", DIAPASON_VERSION, "abi", abi,
                              "date", when, "machine", machine (), "result", check_summary_json (c), "verdicts", verdicts);
    if (body && c->level >= 0)
        json_object_set_new (body, "level_asked", json_integer (c->level));
    return body;
}

DpsStatus check_write_certificate (const CheckReport *c, const char *path, DpsError *err)
{
    DpsDigest digest;
    DpsStatus st;
    json_t *body = body_of (c);
    /* through text once: what is hashed is what will be read back, numbers included */
    char *text = body ? json_dumps (body, JSON_REAL_PRECISION (9)) : NULL;
    json_decref (body);
    body = text ? json_loads (text, 0, NULL) : NULL;
    dps_free (text);
    if (!body)
        return dps_fail (err, DPS_ERR_NOMEM, "certificate: out of memory");
    DPS_TRY_GOTO (st, done, digest_of (body, &digest, err));
    json_object_set_new (body, "sha256", json_string (digest.hex));
    text = json_dumps (body, JSON_INDENT (2) | JSON_REAL_PRECISION (9));
    st = text ? dps_file_write (path, text, strlen (text), err) : dps_fail (err, DPS_ERR_NOMEM, "certificate: out of memory");
    dps_free (text);
done:
    json_decref (body);
    return st;
}

static const char *text_at (const json_t *object, const char *outer, const char *key)
{
    const char *s = json_string_value (json_object_get (outer ? json_object_get (object, outer) : object, key));
    return s ? s : "";
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
    if (json_integer_value (json_object_get (body, "diapason_certificate")) != 1 || !json_is_object (result)) {
        st = dps_fail (err, DPS_ERR_FORMAT, "%s: no certificate of diapason check", path);
        goto done;
    }
    snprintf (then, sizeof then, "%.64s", text_at (body, NULL, "sha256"));
    json_object_del (body, "sha256");
    DPS_TRY_GOTO (st, done, digest_of (body, &digest, err));
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
