/* SPDX-License-Identifier: Apache-2.0 */
#include "diapason/open_registry.h"

#include <string.h>

#include "base/log.h"
#include "diapason/watch.h"
#include "objective/tape.h"
#include "train/reward_model.h"

DpsStatus cli_provide (DpsError *err)
{
    DPS_TRY (cli_watch_begin (err));
    DPS_TRY (dps_tape_provide (err));
    return dps_reward_model_provide (err);
}

const char *cli_folder_refused (const DpsRegistry *reg)
{
    for (size_t i = 0; i < dps_registry_count (reg); i++)
        if (dps_registry_at (reg, i)->id[0] == '(')
            return dps_registry_at (reg, i)->reason;
    return NULL;
}

DpsStatus cli_open_registry_patient (int probe_ms, DpsRegistry **out, DpsError *err)
{
    const DpsRegistryOptions options = {.prober = "/proc/self/exe", .probe_ms = probe_ms};
    DPS_TRY (cli_provide (err));
    return dps_registry_open (&options, out, err);
}

DpsStatus cli_open_registry (DpsRegistry **out, DpsError *err)
{
    DPS_TRY (cli_open_registry_patient (0, out, err));
    if (cli_folder_refused (*out))
        dps_log (DPS_LOG_WARNING, "%s", cli_folder_refused (*out));
    return DPS_OK;
}

/* "a,b" as ["a","b"]. */
static json_t *string_list (const char *s)
{
    json_t *list = json_array ();
    while (*s) {
        size_t n = strcspn (s, ",");
        const char *item = s + strspn (s, " ");
        if (item < s + n)
            json_array_append_new (list, json_stringn (item, n - (size_t)(item - s)));
        s += n + (s[n] == ',');
    }
    return list;
}

json_t *cli_plugin_json (const DpsPlugin *p)
{
    return json_pack ("{s:s, s:s, s:o, s:b, s:b, s:b, s:s, s:s, s:s, s:s, s:s, s:o, s:s, s:s, s:s}", "id", p->id, "name", p->name, "kinds",
                      string_list (p->kinds), "loaded", p->loaded, "absent", p->absent, "quarantined", p->quarantined, "reason", p->reason,
                      "version", p->version, "licence", p->licence, "summary", p->summary, "abi", p->abi, "interfaces",
                      string_list (p->interfaces), "module", p->module, "sha256", p->digest.hex, "signed_by", p->signer);
}
