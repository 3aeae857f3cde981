/* SPDX-License-Identifier: Apache-2.0 */
/* calls.h: what every function of the driver's double begins and ends with. */
#ifndef DPS_TESTS_CUDA_CALLS_H
#define DPS_TESTS_CUDA_CALLS_H

#include "inside.h"

#define EXPORT __attribute__ ((visibility ("default")))
#define API    EXPORT CuResult

/** The calling thread has made a context current. */
int double_has_context (void);
/** The device has managed memory: unless DOUBLE_CUDA_NO_MANAGED says otherwise. */
int double_has_managed (void);

/* Every function: counted, then under the lock; needs a context unless it says not. */
#define ENTER(takes, needs_context)                                                                                                        \
    CuResult r_ = double_call (takes);                                                                                                     \
    if (r_ != CU_OK)                                                                                                                       \
        return r_;                                                                                                                         \
    if ((needs_context) && !double_has_context ())                                                                                         \
        return CU_INVALID_CONTEXT;                                                                                                         \
    double_lock ()
#define LEAVE(result)                                                                                                                      \
    do {                                                                                                                                   \
        CuResult result_ = (result);                                                                                                       \
        double_unlock ();                                                                                                                  \
        return result_;                                                                                                                    \
    } while (0)

#endif
