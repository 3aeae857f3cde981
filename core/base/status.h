/* SPDX-License-Identifier: Apache-2.0 */
/* status.h: how the core builds and passes errors. Errors are values: a function returns a DpsStatus and fills a DpsError. */
#ifndef DPS_BASE_STATUS_H
#define DPS_BASE_STATUS_H

#include "diapason/types.h"

#define DPS_ERROR_INIT                                                                                                                     \
    {                                                                                                                                      \
        .size = sizeof (DpsError)                                                                                                          \
    }

/** Return from the enclosing function when `call` did not return DPS_OK. */
#define DPS_TRY(call)                                                                                                                      \
    do {                                                                                                                                   \
        DpsStatus dps_try_status_ = (call);                                                                                                \
        if (dps_try_status_ != DPS_OK)                                                                                                     \
            return dps_try_status_;                                                                                                        \
    } while (0)

/** Jump to `label` with `st` set when `call` did not return DPS_OK. */
#define DPS_TRY_GOTO(st, label, call)                                                                                                      \
    do {                                                                                                                                   \
        if (((st) = (call)) != DPS_OK)                                                                                                     \
            goto label;                                                                                                                    \
    } while (0)

/** Fill `err` (may be NULL) with a code and a printf-style UTF-8 message (cut to fit); returns the code. [any] */
DpsStatus dps_fail (DpsError *err, DpsStatus code, const char *fmt, ...) __attribute__ ((format (printf, 3, 4)));

#define DPS_NO_REASON "it gave no reason"
/**
 * What a plugin says of a call that failed with `code`: the message in its error, which is ended, or DPS_NO_REASON and the code. In theirs, which has the code
 * the host takes it for: INTERNAL where it is not of the set, or INTERRUPTED, which the host alone gives. [any]
 */
const char *dps_error_said (DpsError *theirs, DpsStatus code);

/** Put "prefix: " before the message already in `err`; returns err's code, or INTERNAL when err is NULL. [any] */
DpsStatus dps_error_prefix (DpsError *err, const char *fmt, ...) __attribute__ ((format (printf, 2, 3)));

/** Put ". Hint: next step" behind the message in `err`, which is cut to leave room; one that gives a hint keeps its own. [any] */
void dps_error_hint (DpsError *err, const char *fmt, ...) __attribute__ ((format (printf, 2, 3)));

/** Give the error in `err` (may be NULL) another code, its message kept; returns the code. [any] */
DpsStatus dps_error_recode (DpsError *err, DpsStatus code);

/** The hint for what a `what` ("model", "adapter") holds that cannot be read: damage, or what is not implemented. Returns st. [any] */
DpsStatus dps_error_hint_files (DpsError *err, DpsStatus st, const char *what);

/** The short name of a code, e.g. "SHAPE"; "INTERNAL" for an unknown one. Static storage. [any] */
const char *dps_status_name (DpsStatus code);

/** The process exit code of CONVENTIONS section 1 for a status: 0, 1, 2 (NOT_FOUND too: a name that the user gave), 3, 4, 5, 75. [any] */
int dps_status_exit_code (DpsStatus code);

#endif
