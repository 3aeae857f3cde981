/* SPDX-License-Identifier: Apache-2.0 */
/*
 * params.h: from what a recipe says to the arrays that create () of an objective, adapter or reward receives. A plugin declares its
 * parameters once (DpsParam); this checks types, ranges and choices and fills in defaults.
 */
#ifndef DPS_PLUGIN_PARAMS_H
#define DPS_PLUGIN_PARAMS_H

#include "base/status.h"
#include "diapason/objective.h"

enum { DPS_PARAMS_MAX = 64 };

/** A value as the recipe gives it. */
typedef struct DpsParamValue {
    uint32_t type; /* DPS_PARAM_F64, _I64, _BOOL (num 0 or 1) or _STR */
    double num;
    DpsStr str;        /* borrowed for as long as the resolved values are used */
    const char *where; /* "recipe.yaml:12", for errors; NULL: unknown */
} DpsParamValue;

/** 1 and *out when the recipe gives parameter `name`, else 0. */
typedef int (*DpsParamLookup) (void *ctx, const char *name, DpsParamValue *out);

/**
 * num[i] and str[i] for each of n declared parameters: the value given, else the default. An integer is a number; a whole number is an
 * integer; 0 and 1 are booleans; a boolean is a string where true and false are among its choices. owner ("sft") is named in errors. lookup NULL: defaults.
 * Errors: USAGE with the place, the value, what was expected and the parameter's help. [any]
 */
DpsStatus dps_params_resolve (const char *owner, const DpsParam *const *params, uint32_t n, DpsParamLookup lookup, void *ctx, double *num,
                              DpsStr *str, DpsError *err);

/** The number of the parameter called `name`, or n. [any] */
uint32_t dps_params_index (const DpsParam *const *params, uint32_t n, const char *name);

#endif
