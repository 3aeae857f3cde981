/* SPDX-License-Identifier: Apache-2.0 */
#include "base/log.h"

#include <stdarg.h>
#include <stdio.h>

static struct {
    DpsLogSink sink;
    void *ctx;
    int level;
} installed;

void dps_log_install (DpsLogSink sink, void *ctx, int level)
{
    installed.sink = sink;
    installed.ctx = ctx;
    installed.level = level;
}

void dps_log (int level, const char *fmt, ...)
{
    if (!installed.sink || level > installed.level)
        return;
    char line[2048];
    va_list ap;
    va_start (ap, fmt);
    vsnprintf (line, sizeof line, fmt, ap);
    va_end (ap);
    installed.sink (installed.ctx, level, line);
}
