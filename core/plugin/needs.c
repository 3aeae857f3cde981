/* SPDX-License-Identifier: Apache-2.0 */
#include "plugin/needs.h"

#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

#include "plugin/cpu.h"
#include "plugin/registry.h"

DpsStatus dps__needs_check (const DpsManifest *m, const char *where, DpsError *err)
{
    const char *at;
    if (m->abi_major != DPS_ABI_MAJOR)
        return dps_fail (err, DPS_ERR_VERSION, "%s: built for ABI %s, this host speaks %u.%u. Hint: install the plugin's build for %u.x",
                         where, m->abi, DPS_ABI_MAJOR, DPS_ABI_MINOR, DPS_ABI_MAJOR);
    at = m->needs;
    for (DpsStr id; dps__list_next (&at, &id);)
        if (!dps_host ()->get_interface (id))
            return dps_fail (err, DPS_ERR_UNSUPPORTED,
                             "%s: needs host interface %.*s, which Diapason " DIAPASON_VERSION
                             " does not have. Hint: use a newer Diapason or an older release of the plugin",
                             where, (int)id.len, id.ptr);
    at = m->isa;
    for (DpsStr feature; dps__list_next (&at, &feature);)
        if (!dps_cpu_has (feature.ptr, feature.len))
            return dps_fail (err, DPS_ERR_UNSUPPORTED, "%s: needs CPU feature %.*s, which this CPU (%s) does not offer", where,
                             (int)feature.len, feature.ptr, dps_cpu_model ());
    return DPS_OK;
}

int dps__needs_soname (const char **at, char *out, size_t cap)
{
    DpsStr item;
    if (!dps__list_next (at, &item))
        return 0;
    const char *equal = memchr (item.ptr, '=', item.len);
    int name_len = equal ? (int)(equal - item.ptr) : (int)item.len;
    if (equal)
        snprintf (out, cap, "lib%.*s.so.%.*s", name_len, item.ptr, (int)item.len - name_len - 1, equal + 1);
    else
        snprintf (out, cap, "%.*s", name_len, item.ptr);
    return 1;
}

DpsStatus dps__needs_runtimes (const DpsManifest *m, const char *where, DpsError *err)
{
    const char *at = m->runtimes;
    for (char soname[192]; dps__needs_soname (&at, soname, sizeof soname);) {
        /* Kept open: the plugin is about to link to it, and unloading a threading runtime is not safe. */
        if (!dlopen (soname, RTLD_LAZY | RTLD_LOCAL))
            return dps_fail (err, DPS_ERR_NOT_FOUND, "%s: needs library %s, which does not load: %s. Hint: install it", where, soname,
                             dlerror ());
    }
    return DPS_OK;
}
