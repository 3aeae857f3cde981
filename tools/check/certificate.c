/* SPDX-License-Identifier: Apache-2.0 */
/* certificate.c: writes what ran and how it went (certificate.h). */
#include <stdio.h>
#include <string.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#include "base/file.h"
#include "base/json.h"
#include "check/certificate.h"
#include "check/report.h"

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
    if (!text)
        return dps_fail (err, DPS_ERR_NOMEM, "certificate: out of memory");
    st = dps_json_parse (text, strlen (text), "certificate", 1, 0, &body, err);
    dps_free (text);
    DPS_TRY (st);
    DPS_TRY_GOTO (st, done, check_certificate_digest (body, &digest, err));
    json_object_set_new (body, "sha256", json_string (digest.hex));
    text = json_dumps (body, JSON_INDENT (2) | JSON_REAL_PRECISION (9));
    st = text ? dps_file_write (path, text, strlen (text), err) : dps_fail (err, DPS_ERR_NOMEM, "certificate: out of memory");
    dps_free (text);
done:
    json_decref (body);
    return st;
}
