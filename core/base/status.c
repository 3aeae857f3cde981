/* SPDX-License-Identifier: Apache-2.0 */
#include "base/status.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/utf8.h"

static const struct {
    DpsStatus code;
    const char *name;
} status_names[] = {
#define DPS_X(name, number, text) {number, #name},
    DPS_ERROR_CODES (DPS_X)
#undef DPS_X
};

/* Messages quote foreign bytes and are cut to fit: what is no UTF-8 or could steer a terminal becomes '?'. */
static void make_readable (char *s)
{
    size_t len = strlen (s);
    for (size_t i = 0; i < len;) {
        size_t n = dps_utf8_sequence (s + i, len - i);
        if (n == 0 && len - i < 4 && (unsigned char)s[i] >= 0xc2) { /* the cut went through a character */
            s[i] = '\0';
            return;
        }
        if (n == 0 || (s[i] != '\n' && s[i] != '\t' && !dps_utf8_is_plain (s + i, n)))
            memset (s + i, '?', n = n ? n : 1);
        i += n;
    }
}

DpsStatus dps_fail (DpsError *err, DpsStatus code, const char *fmt, ...)
{
    if (err) {
        va_list ap;
        va_start (ap, fmt);
        err->code = code;
        err->vendor_code = 0;
        vsnprintf (err->msg, sizeof err->msg, fmt, ap);
        va_end (ap);
        make_readable (err->msg);
    }
    return code;
}

const char *dps_error_said (DpsError *theirs, DpsStatus code)
{
    size_t i = 0;
    while (i < sizeof status_names / sizeof *status_names && status_names[i].code != code)
        i++;
    const int known = i < sizeof status_names / sizeof *status_names && code != DPS_ERR_INTERRUPTED;
    theirs->msg[sizeof theirs->msg - 1] = '\0';
    if (!theirs->msg[0])
        snprintf (theirs->msg, sizeof theirs->msg, DPS_NO_REASON " (%s %d)", dps_status_name (code), code);
    theirs->code = known ? code : DPS_ERR_INTERNAL;
    return theirs->msg;
}

DpsStatus dps_error_prefix (DpsError *err, const char *fmt, ...)
{
    if (!err)
        return DPS_ERR_INTERNAL;
    char old[sizeof err->msg], prefix[sizeof err->msg];
    memcpy (old, err->msg, sizeof old);
    va_list ap;
    va_start (ap, fmt);
    vsnprintf (prefix, sizeof prefix, fmt, ap);
    va_end (ap);
    size_t n = strlen (prefix), room = sizeof err->msg - 1;
    n = n < room - 2 ? n : room - 2;
    memcpy (err->msg, prefix, n);
    memcpy (err->msg + n, ": ", 2);
    size_t rest = strlen (old);
    rest = rest < room - n - 2 ? rest : room - n - 2;
    memcpy (err->msg + n + 2, old, rest);
    err->msg[n + 2 + rest] = '\0';
    make_readable (err->msg);
    return err->code;
}

void dps_error_hint (DpsError *err, const char *fmt, ...)
{
    char hint[sizeof err->msg / 2] = ". Hint: ";
    const size_t lead = strlen (hint);
    if (!err || strstr (err->msg, hint + 2))
        return;
    va_list ap;
    va_start (ap, fmt);
    vsnprintf (hint + lead, sizeof hint - lead, fmt, ap);
    va_end (ap);
    size_t used = strlen (err->msg), room = sizeof err->msg - strlen (hint) - 1;
    snprintf (err->msg + (used < room ? used : room), sizeof hint, "%s", hint);
    make_readable (err->msg);
}

DpsStatus dps_error_recode (DpsError *err, DpsStatus code)
{
    if (err)
        err->code = code;
    return code;
}

DpsStatus dps_error_hint_files (DpsError *err, DpsStatus st, const char *what)
{
    switch (st) {
    case DPS_ERR_FORMAT:
    case DPS_ERR_SHAPE:
    case DPS_ERR_DTYPE:
    case DPS_ERR_LIMIT: dps_error_hint (err, "fetch or copy the %s again, or put right what was edited", what); break;
    case DPS_ERR_UNSUPPORTED: dps_error_hint (err, "no setting changes that: take another %s", what); break;
    default: break;
    }
    return st;
}

const char *dps_status_name (DpsStatus code)
{
    for (size_t i = 0; i < sizeof status_names / sizeof *status_names; i++)
        if (status_names[i].code == code)
            return status_names[i].name;
    return "INTERNAL";
}

int dps_status_exit_code (DpsStatus code)
{
    switch (code) {
    case DPS_OK: return 0;
    case DPS_ERR_USAGE:
    case DPS_ERR_NOT_FOUND: return 2; /* what was named, on the command line or in a recipe, is not there */
    case DPS_ERR_POLICY: return 3;
    case DPS_ERR_LOCK: return 4;
    case DPS_ERR_DATA: return 5;
    case DPS_ERR_INTERRUPTED: return 75;
    default: return 1;
    }
}
