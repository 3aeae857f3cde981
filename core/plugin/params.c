/* SPDX-License-Identifier: Apache-2.0 */
#include "plugin/params.h"

#include <math.h>
#include <string.h>

#include "diapason/plugin.h"

static const char *type_name (uint32_t type)
{
    switch (type) {
    case DPS_PARAM_F64: return "a number";
    case DPS_PARAM_I64: return "a whole number";
    case DPS_PARAM_BOOL: return "true or false";
    case DPS_PARAM_STR: return "a string";
    default: return "a value";
    }
}

static const char *place (const DpsParamValue *v) { return v->where ? v->where : "recipe"; }

static DpsStatus wrong_type (const char *owner, const DpsParam *p, const DpsParamValue *v, DpsError *err)
{
    const char *help = p->help ? p->help : "";
    if (v->type == DPS_PARAM_STR)
        return dps_fail (err, DPS_ERR_USAGE, "%s: %s is '%.*s', expected %s (%s: %s)", place (v), p->name,
                         (int)(v->str.len < 80 ? v->str.len : 80), v->str.ptr ? v->str.ptr : "", type_name (p->type), owner, help);
    return dps_fail (err, DPS_ERR_USAGE, "%s: %s is %g, expected %s (%s: %s)", place (v), p->name, v->num, type_name (p->type), owner,
                     help);
}

static DpsStatus take_number (const char *owner, const DpsParam *p, const DpsParamValue *v, double *out, DpsError *err)
{
    int fits = v->type != DPS_PARAM_STR && isfinite (v->num);
    if (p->type == DPS_PARAM_BOOL)
        fits = fits && (v->num == 0 || v->num == 1);
    else
        fits = fits && v->type != DPS_PARAM_BOOL && (p->type == DPS_PARAM_F64 || v->num == floor (v->num));
    if (!fits)
        return wrong_type (owner, p, v, err);
    if (p->type != DPS_PARAM_BOOL && !(v->num >= p->min && v->num <= p->max))
        return dps_fail (err, DPS_ERR_USAGE, "%s: %s is %g, expected %g to %g (%s: %s)", place (v), p->name, v->num, p->min, p->max, owner,
                         p->help ? p->help : "");
    *out = v->num;
    return DPS_OK;
}

/* Is s one of "a|b|c"? */
static int is_choice (const char *choices, DpsStr s)
{
    for (const char *at = choices; *at;) {
        size_t len = strcspn (at, "|");
        if (len == s.len && !memcmp (at, s.ptr, len))
            return 1;
        at += len + (at[len] == '|');
    }
    return 0;
}

static DpsStatus take_string (const char *owner, const DpsParam *p, const DpsParamValue *v, DpsStr *out, DpsError *err)
{
    const DpsStr word = dps_str (v->num != 0 ? "true" : "false");
    if (v->type == DPS_PARAM_BOOL && p->choices && is_choice (p->choices, word)) {
        *out = word;
        return DPS_OK;
    }
    if (v->type != DPS_PARAM_STR)
        return wrong_type (owner, p, v, err);
    if (p->choices && !is_choice (p->choices, v->str))
        return dps_fail (err, DPS_ERR_USAGE, "%s: %s is '%.*s', expected one of %s (%s: %s)", place (v), p->name,
                         (int)(v->str.len < 80 ? v->str.len : 80), v->str.ptr ? v->str.ptr : "", p->choices, owner, p->help ? p->help : "");
    *out = v->str;
    return DPS_OK;
}

uint32_t dps_params_index (const DpsParam *const *params, uint32_t n, const char *name)
{
    uint32_t i = 0;
    while (i < n && strcmp (params[i]->name, name) != 0)
        i++;
    return i;
}

DpsStatus dps_params_resolve (const char *owner, const DpsParam *const *params, uint32_t n, DpsParamLookup lookup, void *ctx, double *num,
                              DpsStr *str, DpsError *err)
{
    if (n > DPS_PARAMS_MAX)
        return dps_fail (err, DPS_ERR_LIMIT, "%s declares %u parameters, at most %d", owner, (unsigned)n, (int)DPS_PARAMS_MAX);
    for (uint32_t i = 0; i < n; i++) {
        DpsParam p; /* a plugin of another ABI minor may know fewer fields */
        dps_table_copy (&p, sizeof p, params[i]);
        DpsParamValue v = {0};
        num[i] = p.def;
        str[i] = (DpsStr){p.choices ? p.choices : "", p.choices ? strcspn (p.choices, "|") : 0};
        if (!lookup || !lookup (ctx, p.name, &v))
            continue;
        DPS_TRY (p.type == DPS_PARAM_STR ? take_string (owner, &p, &v, &str[i], err) : take_number (owner, &p, &v, &num[i], err));
    }
    return DPS_OK;
}
