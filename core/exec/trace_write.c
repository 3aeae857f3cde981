/* SPDX-License-Identifier: Apache-2.0 */
/* trace_write.c: the file of a record: its lines in order, and what stands in it once: kinds of calls, and integers. */
#include "exec/trace_write.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "exec/operands.h"
#include "exec/trace.h"

DpsTraceOut dps__trace_out;

static struct {
    int fd; /* -1: none */
    char *path;
    uint64_t limit, written;
    DpsStatus status;
    DpsError err;
    char **cases; /* the text behind "case":N, */
    uint64_t *case_hashes;
    size_t n_cases, case_capacity, hash_capacity;
    uint64_t *data; /* hashes of what was written as data */
    size_t n_data, data_capacity;
} r = {.fd = -1};

void dps__trace_give_up (DpsStatus st, const char *what)
{
    if (r.status == DPS_OK)
        r.status = dps_fail (&r.err, st, "%s: %s: the record ends there", r.path, what);
    if (r.fd >= 0)
        close (r.fd);
    r.fd = -1;
}

static void put (const char *text, size_t n)
{
    while (r.fd >= 0 && n) {
        ssize_t w = write (r.fd, text, n);
        if (w < 0 && errno == EINTR)
            continue;
        if (w <= 0) {
            dps__trace_give_up (DPS_ERR_IO, strerror (errno));
            return;
        }
        text += w;
        n -= (size_t)w;
        r.written += (uint64_t)w;
    }
}

static void end_line (const char *why)
{
    char text[96];
    put (text, (size_t)snprintf (text, sizeof text, "{\"end\":\"%s\",\"calls\":%llu}\n", why, (unsigned long long)dps__trace_out.n_calls));
}

/* The last line always fits. */
void dps__trace_flush (int bad)
{
    if (bad || dps_buf_str (&dps__trace_out.line, "\n"))
        dps__trace_give_up (DPS_ERR_NOMEM, "out of memory");
    else if (dps__trace_out.line.len > DPS_TRACE_LINE)
        dps__trace_give_up (DPS_ERR_LIMIT, "a call has too many operands for a line");
    else if (r.written + dps__trace_out.line.len + 96 > r.limit) {
        dps_log (DPS_LOG_WARNING, "%s: the record is at its limit of %llu bytes and ends before call %llu; --record-limit allows more",
                 r.path, (unsigned long long)r.limit, (unsigned long long)dps__trace_out.n_calls);
        end_line ("limit");
        if (r.fd >= 0)
            close (r.fd);
        r.fd = -1;
    } else
        put (dps__trace_out.line.data, dps__trace_out.line.len);
    dps__trace_out.line.len = 0;
}

int dps__trace_recording (void) { return r.fd >= 0; }

DpsStatus dps__trace_create (const char *path, uint64_t limit, DpsError *err)
{
    r.path = dps_strdup (path);
    r.limit = limit;
    r.status = DPS_OK;
    r.err = (DpsError)DPS_ERROR_INIT;
    if (!r.path)
        return dps_fail (err, DPS_ERR_NOMEM, "%s: out of memory", path);
    r.fd = open (path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (r.fd < 0)
        return dps_fail (err, DPS_ERR_IO, "%s: %s", path, strerror (errno));
    return DPS_OK;
}

DpsStatus dps__trace_status (DpsError *err) { return r.status == DPS_OK ? DPS_OK : dps_fail (err, r.status, "%s", r.err.msg); }

DpsStatus dps__trace_finish (DpsError *err)
{
    if (dps__trace_recording ())
        end_line ("closed");
    if (r.fd >= 0)
        close (r.fd);
    DpsStatus st = dps__trace_status (err);
    for (size_t i = 0; i < r.n_cases; i++)
        dps_free (r.cases[i]);
    dps_free (r.cases);
    dps_free (r.case_hashes);
    dps_free (r.data);
    dps_free (r.path);
    dps_buf_free (&dps__trace_out.line);
    memset (&r, 0, sizeof r);
    memset (&dps__trace_out, 0, sizeof dps__trace_out);
    r.fd = -1;
    return st;
}

int64_t dps__trace_case (DpsBuf *text)
{
    uint64_t hash = dps__bytes_hash (0, text->data, text->len);
    for (size_t i = 0; i < r.n_cases; i++)
        if (r.case_hashes[i] == hash && !strcmp (r.cases[i], text->data)) {
            dps_buf_free (text);
            return (int64_t)i;
        }
    if (DPS_GROW (r.cases, r.n_cases, r.case_capacity) || DPS_GROW (r.case_hashes, r.n_cases, r.hash_capacity)) {
        dps_buf_free (text);
        dps__trace_give_up (DPS_ERR_NOMEM, "out of memory");
        return -1;
    }
    r.cases[r.n_cases] = text->data;
    r.case_hashes[r.n_cases] = hash;
    dps__trace_flush (dps_buf_printf (&dps__trace_out.line, "{\"case\":%zu,%s}", r.n_cases, text->data));
    return (int64_t)r.n_cases++;
}

int64_t dps__trace_data (uint64_t hash, const unsigned char *bytes, uint64_t n)
{
    static const char hex[] = "0123456789abcdef";
    char pair[2];
    for (size_t i = 0; i < r.n_data; i++)
        if (r.data[i] == hash)
            return (int64_t)i;
    if (DPS_GROW (r.data, r.n_data, r.data_capacity)) {
        dps__trace_give_up (DPS_ERR_NOMEM, "out of memory");
        return -1;
    }
    for (uint64_t at = 0; at < n && dps__trace_recording (); at += DPS_TRACE_PIECE) {
        int bad = dps_buf_printf (&dps__trace_out.line, "{\"data\":%zu,\"at\":%llu,\"bytes\":%llu,\"hex\":\"", r.n_data,
                                  (unsigned long long)at, (unsigned long long)n);
        for (uint64_t i = at; i < n && i < at + DPS_TRACE_PIECE && !bad; i++) {
            pair[0] = hex[bytes[i] >> 4];
            pair[1] = hex[bytes[i] & 15];
            bad = dps_buf_add (&dps__trace_out.line, pair, sizeof pair);
        }
        dps__trace_flush (bad || dps_buf_str (&dps__trace_out.line, "\"}"));
    }
    r.data[r.n_data] = hash;
    return (int64_t)r.n_data++;
}
