/* SPDX-License-Identifier: Apache-2.0 */
/* trace_file.c: a record as a file, written as the calls are made: what is read after a crash ends with the culprit. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "exec/trace_write.h"

DpsTraceFile dps__trace_file = {.fd = -1};
static DpsTraceFile *const f = &dps__trace_file;

void dps__trace_give_up (DpsStatus st, const char *what)
{
    if (f->status == DPS_OK)
        f->status = dps_fail (&f->err, st, "%s: %s: the record ends there", f->path, what);
    if (f->fd >= 0)
        close (f->fd);
    f->fd = -1;
}

static void put (const char *text, size_t n)
{
    while (f->fd >= 0 && n) {
        ssize_t w = write (f->fd, text, n);
        if (w < 0 && errno == EINTR)
            continue;
        if (w <= 0) {
            dps__trace_give_up (DPS_ERR_IO, strerror (errno));
            return;
        }
        text += w;
        n -= (size_t)w;
        f->written += (uint64_t)w;
    }
}

static void end_line (const char *why)
{
    char text[96];
    put (text, (size_t)snprintf (text, sizeof text, "{\"end\":\"%s\",\"calls\":%llu}\n", why, (unsigned long long)f->n_calls));
}

void dps__trace_flush (int bad)
{
    if (bad || dps_buf_str (&f->line, "\n"))
        dps__trace_give_up (DPS_ERR_NOMEM, "out of memory");
    else if (f->line.len > DPS_TRACE_LINE)
        dps__trace_give_up (DPS_ERR_LIMIT, "a call has too many operands for a line");
    else if (f->written + f->line.len + 96 > f->limit) {
        dps_log (DPS_LOG_WARNING, "%s: the record is at its limit of %llu bytes and ends before call %llu; --record-limit allows more",
                 f->path, (unsigned long long)f->limit, (unsigned long long)f->n_calls);
        end_line ("limit");
        if (f->fd >= 0)
            close (f->fd);
        f->fd = -1;
    } else
        put (f->line.data, f->line.len);
    f->line.len = 0;
}

DpsStatus dps__trace_file_begin (const char *path, uint64_t limit, DpsError *err)
{
    *f = (DpsTraceFile){.fd = -1, .path = dps_strdup (path), .limit = limit, .err = DPS_ERROR_INIT};
    if (!f->path)
        return dps_fail (err, DPS_ERR_NOMEM, "%s: out of memory", path);
    f->fd = open (path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    return f->fd >= 0 ? DPS_OK : dps_fail (err, DPS_ERR_IO, "%s: %s", path, strerror (errno));
}

DpsStatus dps__trace_file_end (DpsError *err)
{
    if (dps__trace_is_on ())
        end_line ("closed");
    if (f->fd >= 0)
        close (f->fd);
    DpsStatus st = f->status == DPS_OK ? DPS_OK : dps_fail (err, f->status, "%s", f->err.msg);
    dps_free (f->path);
    dps_buf_free (&f->line);
    *f = (DpsTraceFile){.fd = -1};
    return st;
}
