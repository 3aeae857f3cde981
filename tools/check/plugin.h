/* SPDX-License-Identifier: Apache-2.0 */
/* plugin.h: what the suites of objectives, adapters, formats and rewards share: parameters, what errors must say, an older host. */
#ifndef DPS_CHECK_PLUGIN_H
#define DPS_CHECK_PLUGIN_H

#include "check/check.h"
#include "objective/rewards.h"

/** Values for a plugin's parameters: those of --args, one replaced at will, the plugin's defaults. */
typedef struct CheckArgs {
    DpsRecipe *recipe;
    DpsRewardArgs given;
    const char *name; /* of the parameter that is replaced; NULL: none */
    DpsParamValue value;
} CheckArgs;

/** Errors: USAGE when --args is no list of "name: value". End with close. */
DpsStatus check_args_open (const CheckContext *ctx, CheckArgs *out, DpsError *err);
void check_args_close (CheckArgs *a);
/** DpsParamLookup over CheckArgs. */
int check_args_lookup (void *args, const char *name, DpsParamValue *out);

/** What describe calls the plugin is what recipes find it by: its id's last part. Errors: INVALID. */
DpsStatus check_own_name (const CheckContext *ctx, const char *name, DpsError *err);

/** Parameter p as --help needs it: a name, help, a known type, a default within its range. Errors: INVALID names what is not so. */
DpsStatus check_params (const DpsParam *const *params, uint32_t n, DpsError *err);

/** Variant v of n parameters: each choice of each string, each boolean the other way round, least and most of each number. 0 past the last. */
int check_args_variant (const DpsParam *const *params, uint32_t n, size_t v, CheckArgs *args);

/** A refusal says why, and in its code what it returned. Errors: INVALID. */
DpsStatus check_told (const char *what, DpsStatus st, const DpsError *said, DpsError *err);

/**
 * init of the module that holds `function` with hosts that end after each slot: OK or a refusal with a reason, never a crash. The plugin is not to be
 * used afterwards.
 */
DpsStatus check_older_hosts (const void *function, DpsError *err);

/** Count and fail the allocations of the module that holds `function` (alloc_hook.h). CHECK_SKIPPED: it has none. */
DpsStatus check_heap_watch (const void *function, DpsError *err);

/** Text fit for one line and one name: not empty, UTF-8 without control characters. */
int check_is_text (const char *s);

#endif
