/* SPDX-License-Identifier: Apache-2.0 */
/* objective.h: instances of the objective under test. */
#ifndef DPS_CHECK_OBJECTIVE_H
#define DPS_CHECK_OBJECTIVE_H

#include "check/plugin.h"
#include "objective/objective.h"

/** With the parameters of --args, else its defaults. Errors: the plugin's; CHECK_SKIPPED when only --args is missing. */
DpsStatus check_objective_open (const CheckContext *ctx, DpsObjectiveInstance **out, DpsError *err);

/**
 * Variant 0 is that, 1 and on have one parameter at another value; `name` says which. Errors: NOT_FOUND past the last; INVALID when the plugin refuses
 * the combination (err holds its words).
 */
DpsStatus check_objective_variant (const CheckContext *ctx, size_t v, DpsObjectiveInstance **out, char *name, size_t cap, DpsError *err);

#endif
