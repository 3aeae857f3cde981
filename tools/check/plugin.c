/* SPDX-License-Identifier: Apache-2.0 */
#include "check/plugin.h"

#include <dlfcn.h>
#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "base/utf8.h"
#include "check/alloc_hook.h"

int check_is_text (const char *s) { return s && *s && dps_utf8_is_plain (s, strlen (s)); }

DpsStatus check_args_open (const CheckContext *ctx, CheckArgs *out, DpsError *err)
{
    *out = (CheckArgs){.recipe = NULL};
    if (!ctx->args)
        return DPS_OK;
    char *text = dps_strf ("reward_funcs: [{name: %s, %s}]", ctx->plugin->name, ctx->args);
    if (!text)
        return dps_fail (err, DPS_ERR_NOMEM, "check: out of memory");
    DpsStatus st = dps_recipe_parse (text, strlen (text), "--args", NULL, NULL, 0, &out->recipe, err);
    dps_free (text);
    out->given.recipe = out->recipe;
    return st;
}

void check_args_close (CheckArgs *a)
{
    dps_recipe_reward_args_clear (&a->given);
    dps_recipe_free (a->recipe);
    *a = (CheckArgs){.recipe = NULL};
}

int check_args_lookup (void *args, const char *name, DpsParamValue *out)
{
    CheckArgs *a = args;
    if (a->name && !strcmp (a->name, name)) {
        *out = a->value;
        return 1;
    }
    return a->recipe ? dps_recipe_reward_param (&a->given, name, out) : 0;
}

DpsStatus check_own_name (const CheckContext *ctx, const char *name, DpsError *err)
{
    if (!strcmp (name, ctx->plugin->name))
        return DPS_OK;
    return dps_fail (err, DPS_ERR_INVALID,
                     "it calls itself '%s', and recipes find it as '%s', the last part of its id %s: expected one name", name,
                     ctx->plugin->name, ctx->plugin->id);
}

static DpsStatus check_param (const DpsParam *p, DpsError *err)
{
    if (!p || !check_is_text (p->name) || !check_is_text (p->help))
        return dps_fail (err, DPS_ERR_INVALID, "parameter '%s' has no name or no help text", p && p->name ? p->name : "?");
    if (p->type < DPS_PARAM_F64 || p->type > DPS_PARAM_BOOL)
        return dps_fail (err, DPS_ERR_INVALID, "parameter '%s' has type %u, expected 1 to 4", p->name, p->type);
    if (p->type == DPS_PARAM_STR)
        return DPS_OK;
    if (!(p->min <= p->max) || !(p->def >= p->min && p->def <= p->max))
        return dps_fail (err, DPS_ERR_INVALID, "parameter '%s' is %g by default, which is not within its own range %g to %g", p->name,
                         p->def, p->min, p->max);
    if (p->type != DPS_PARAM_F64 && (p->def != floor (p->def) || p->min != floor (p->min)))
        return dps_fail (err, DPS_ERR_INVALID, "parameter '%s' is a whole number, and its default or least value is not", p->name);
    return DPS_OK;
}

DpsStatus check_params (const DpsParam *const *params, uint32_t n, DpsError *err)
{
    if (n > DPS_PARAMS_MAX)
        return dps_fail (err, DPS_ERR_INVALID, "%u parameters, at most %d", n, DPS_PARAMS_MAX);
    for (uint32_t i = 0; i < n; i++) {
        DPS_TRY (check_param (params[i], err));
        for (uint32_t k = 0; k < i; k++)
            if (!strcmp (params[k]->name, params[i]->name))
                return dps_fail (err, DPS_ERR_INVALID, "two parameters are called '%s'", params[i]->name);
    }
    return DPS_OK;
}

/* Number k of "a|b|c". */
static int choice (const char *choices, size_t k, DpsStr *out)
{
    for (; k && choices; k--)
        choices = strchr (choices, '|') ? strchr (choices, '|') + 1 : NULL;
    if (!choices)
        return 0;
    *out = (DpsStr){choices, strcspn (choices, "|")};
    return 1;
}

int check_args_variant (const DpsParam *const *params, uint32_t n, size_t v, CheckArgs *args)
{
    for (uint32_t i = 0; i < n; i++) {
        const DpsParam *p = params[i];
        DpsParamValue value = {.type = p->type == DPS_PARAM_I64 ? DPS_PARAM_I64 : p->type, .where = "check"};
        for (size_t k = 0;; k++) {
            int is = p->type == DPS_PARAM_STR ? choice (p->choices, k, &value.str) : p->type == DPS_PARAM_BOOL ? k < 1 : k < 2;
            if (!is)
                break;
            if (v-- > 0)
                continue;
            if (p->type != DPS_PARAM_STR)
                value.num = p->type == DPS_PARAM_BOOL ? !(p->def > 0) : k ? p->max : p->min;
            args->name = p->name;
            args->value = value;
            return 1;
        }
    }
    args->name = NULL;
    return 0;
}

DpsStatus check_told (const char *what, DpsStatus st, const DpsError *said, DpsError *err)
{
    if (st == DPS_OK)
        return DPS_OK;
    const char *end = memchr (said->msg, '\0', sizeof said->msg);
    if (!end || end == said->msg || (end - said->msg > 2 && !memcmp (end - 2, ": ", 2)) /* only the host's prefix */
        || strstr (said->msg, DPS_NO_REASON))
        return dps_fail (err, DPS_ERR_INVALID,
                         "%s failed (%s) without a message: expected what was found, what was expected, the next step", what,
                         dps_status_name (st));
    if (said->code != st)
        return dps_fail (err, DPS_ERR_INVALID, "%s returned %s and left the code %s in its error", what, dps_status_name (st),
                         dps_status_name (said->code));
    return DPS_OK;
}

DpsStatus check_heap_watch (const void *function, DpsError *err)
{
    return alloc_hook (function) ? DPS_OK : check_skip (err, "it allocates nothing");
}

/* The symbol of the module behind a function of it. */
static const DpsPluginEntry *entry_of (const void *function)
{
    Dl_info info;
    void *module = dladdr (function, &info) ? dlopen (info.dli_fname, RTLD_NOW | RTLD_NOLOAD) : NULL;
    return module ? dlsym (module, DPS_PLUGIN_SYMBOL) : NULL;
}

DpsStatus check_older_hosts (const void *function, DpsError *err)
{
    const DpsPluginEntry *entry = entry_of (function);
    const size_t slot = sizeof (void *);
    if (!entry)
        return check_skip (err, "the plugin is linked into the program: it has this host's table");
    for (size_t size = sizeof (size_t); size <= sizeof (DpsHost); size += slot) {
        DpsError said = DPS_ERROR_INIT;
        /* What lies behind the end of an older host's table is anything. */
        struct {
            DpsHost host;
            unsigned char behind[64];
        } old;
        memset (&old, 0xA5, sizeof old);
        memcpy (&old.host, dps_host (), size);
        old.host.size = size;
        if (entry->deinit)
            entry->deinit ();
        DpsStatus st = entry->init (&old.host, "check", &said);
        DPS_TRY (check_told ("init with the table of an older host", st, &said, err));
        if (st != DPS_OK && entry->init (dps_host (), "check", &said) != DPS_OK)
            return dps_fail (err, DPS_ERR_INVALID, "after an older host (%zu bytes) was refused, init fails with this one: %s", size,
                             said.msg);
    }
    return DPS_OK;
}
