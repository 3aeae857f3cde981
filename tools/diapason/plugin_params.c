/* SPDX-License-Identifier: Apache-2.0 */
#include "diapason/plugin_params.h"

#include <string.h>

#include "diapason/adapter.h"
#include "diapason/cli.h"
#include "diapason/objective.h"
#include "diapason/plugin.h"
#include "diapason/reward.h"

static json_t *choices_of (const char *choices)
{
    json_t *list = json_array ();
    for (const char *at = choices; *at;) {
        size_t n = strcspn (at, "|");
        json_array_append_new (list, json_stringn (at, n));
        at += n + (at[n] == '|');
    }
    return list;
}

static json_t *number (const DpsParam *p, double x) { return p->type == DPS_PARAM_I64 ? json_integer ((json_int_t)x) : json_real (x); }

static json_t *param_json (const DpsParam *p, const char *of)
{
    static const char *const types[] = {"", "number", "integer", "string", "boolean"};
    json_t *o = json_pack ("{s:s, s:s, s:s}", "of", of, "name", p->name, "type", types[p->type < G_N_ELEMENTS (types) ? p->type : 0]);
    if (p->type == DPS_PARAM_STR && p->choices) {
        json_t *choices = choices_of (p->choices);
        json_object_set (o, "default", json_array_get (choices, 0));
        json_object_set_new (o, "choices", choices);
    } else if (p->type == DPS_PARAM_F64 || p->type == DPS_PARAM_I64) {
        json_object_set_new (o, "default", number (p, p->def));
        json_object_set_new (o, "min", number (p, p->min));
        json_object_set_new (o, "max", number (p, p->max));
    } else
        json_object_set_new (o, "default", p->type == DPS_PARAM_BOOL ? json_boolean (p->def != 0) : json_null ());
    json_object_set_new (o, "help", json_string (p->help ? p->help : ""));
    return o;
}

static void add (json_t *list, const char *of, const DpsParam *const *params, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++) {
        DpsParam p; /* a plugin of another ABI minor may know fewer fields */
        dps_table_copy (&p, sizeof p, params[i]);
        json_array_append_new (list, param_json (&p, of));
    }
}

json_t *plugin_params_json (const DpsRegistry *reg, const DpsPlugin *p)
{
    json_t *list = json_array ();
    const DpsObjective *objective = dps_registry_get (reg, DPS_OBJECTIVE_ID, p->id);
    const DpsAdapter *adapter = dps_registry_get (reg, DPS_ADAPTER_ID, p->id);
    const DpsReward *reward = dps_registry_get (reg, DPS_REWARD_ID, p->id);
    if (objective) {
        DpsObjectiveInfo info;
        dps_table_copy (&info, sizeof info, objective->describe ());
        add (list, "objective", info.params, info.n_params);
    }
    if (adapter) {
        DpsAdapterInfo info;
        dps_table_copy (&info, sizeof info, adapter->describe ());
        add (list, "adapter", info.params, info.n_params);
    }
    if (reward) {
        DpsRewardInfo info;
        dps_table_copy (&info, sizeof info, reward->describe ());
        add (list, "reward", info.params, info.n_params);
    }
    return list;
}

/* "whole number, 1 to 65536, default 16: rank of the update" */
static char *describe (const json_t *param)
{
    const char *type = json_string_value (json_object_get (param, "type")), *help = json_string_value (json_object_get (param, "help"));
    const json_t *min = json_object_get (param, "min"), *def = json_object_get (param, "default"), *choice;
    GString *text = g_string_new (!strcmp (type, "integer") ? "whole number" : !strcmp (type, "boolean") ? "true or false" : type);
    size_t i;
    if (json_object_get (param, "choices"))
        g_string_truncate (text, 0);
    json_array_foreach (json_object_get (param, "choices"), i, choice)
        g_string_append_printf (text, "%s%s", i ? "|" : "", json_string_value (choice));
    if (min)
        g_string_append_printf (text, ", %.10g to %.10g", json_number_value (min), json_number_value (json_object_get (param, "max")));
    if (json_is_number (def))
        g_string_append_printf (text, ", default %.10g", json_number_value (def));
    else if (!json_is_null (def))
        g_string_append_printf (text, ", default %s",
                                json_is_string (def) ? json_string_value (def)
                                : json_is_true (def) ? "true"
                                                     : "false");
    g_string_append_printf (text, "%s%s", *help ? ": " : "", help);
    return g_string_free (text, FALSE);
}

void plugin_params_print (const json_t *params)
{
    size_t i;
    json_t *param;
    int columns = 0;
    json_array_foreach (params, i, param)
        columns = MAX (columns, (int)g_utf8_strlen (json_string_value (json_object_get (param, "name")), -1));
    if (json_array_size (params))
        puts ("  parameters");
    json_array_foreach (params, i, param) {
        g_autofree char *label = g_strconcat ("    ", json_string_value (json_object_get (param, "name")), NULL), *text = describe (param);
        cli_labelled (label, columns + 6, "2", text);
    }
}
