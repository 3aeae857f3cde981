/* SPDX-License-Identifier: Apache-2.0 */
/* copy_cases.h: what a backend's copy is tried on: there and back in every dtype, inside the device from one offset to another, and windows that do not fit. */
#ifndef DPS_TOOLS_CHECK_COPY_CASES_H
#define DPS_TOOLS_CHECK_COPY_CASES_H

#include "check/kit.h"

/** All of them on the kit's device. Errors: INVALID, with what was copied and what came; the backend's; NOMEM. */
DpsStatus copy_cases (Kit *k, DpsError *err);

#endif
