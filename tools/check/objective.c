/* SPDX-License-Identifier: Apache-2.0 */
#include "check/objective.h"

#include <stdio.h>

#include "objective/tape.h"

static DpsStatus open_with (const CheckContext *ctx, CheckArgs *args, DpsObjectiveInstance **out, DpsError *err)
{
    DPS_TRY (dps_tape_provide (err));
    return dps_objective_open (ctx->table, check_args_lookup, args, out, err);
}

DpsStatus check_objective_open (const CheckContext *ctx, DpsObjectiveInstance **out, DpsError *err)
{
    CheckArgs args;
    DpsStatus st = check_args_open (ctx, &args, err);
    if (st == DPS_OK)
        st = open_with (ctx, &args, out, err);
    check_args_close (&args);
    return (st == DPS_ERR_INVALID || st == DPS_ERR_USAGE) && !ctx->args
               ? check_skip (err, "%.900s. Hint: --args gives parameters", err->msg)
               : st;
}

DpsStatus check_objective_variant (const CheckContext *ctx, size_t v, DpsObjectiveInstance **out, char *name, size_t cap, DpsError *err)
{
    CheckArgs args;
    const DpsObjectiveInfo *info = ((const DpsObjective *)ctx->table)->describe ();
    snprintf (name, cap, "defaults");
    if (v == 0)
        return check_objective_open (ctx, out, err);
    DpsStatus st = check_args_open (ctx, &args, err);
    if (st == DPS_OK && !check_args_variant (info->params, info->n_params, v - 1, &args))
        st = dps_fail (err, DPS_ERR_NOT_FOUND, "no such variant");
    if (st == DPS_OK) {
        if (args.value.type == DPS_PARAM_STR)
            snprintf (name, cap, "%s: %.*s", args.name, (int)args.value.str.len, args.value.str.ptr);
        else
            snprintf (name, cap, "%s: %g", args.name, args.value.num);
        st = open_with (ctx, &args, out, err);
    }
    check_args_close (&args);
    return st;
}
