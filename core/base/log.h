/* SPDX-License-Identifier: Apache-2.0 */
/* log.h: libraries never print: they hand lines to the sink the program installed (none by default). */
#ifndef DPS_BASE_LOG_H
#define DPS_BASE_LOG_H

enum { DPS_LOG_ERROR = 0, DPS_LOG_WARNING = 1, DPS_LOG_INFO = 2, DPS_LOG_DEBUG = 3 };

typedef void (*DpsLogSink) (void *ctx, int level, const char *line);

/** Install the sink and the highest level it wants. [init] */
void dps_log_install (DpsLogSink sink, void *ctx, int level);

/** Hand one line (no newline) to the sink. [any] */
void dps_log (int level, const char *fmt, ...) __attribute__ ((format (printf, 2, 3)));

#endif
