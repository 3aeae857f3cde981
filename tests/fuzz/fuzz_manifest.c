/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_manifest.c: any bytes as NAME.plugin; what is accepted keeps the promises the loader relies on. */
#include "fuzz.h"
#include "plugin/manifest.h"

int LLVMFuzzerTestOneInput (const uint8_t *data, size_t size)
{
    DpsError err = {.size = sizeof err};
    DpsManifest m;
    if (dps__manifest_parse ((const char *)data, size, "fuzz", &m, &err) != DPS_OK) {
        require (err.msg[0] && memchr (err.msg, '\0', sizeof err.msg));
        return 0;
    }
    require (!strchr (m.module, '/') && strlen (m.sha256) == 64 && strspn (m.sha256, "0123456789abcdef") == 64);
    require (strlen (dps__manifest_name (m.id)) > 0 && strcmp (m.module, "..") != 0);
    const char *const lists[] = {m.kinds, m.needs, m.isa, m.runtimes};
    for (size_t i = 0; i < 4; i++) {
        const char *at = lists[i];
        for (DpsStr item; dps__list_next (&at, &item);)
            require (item.len > 0 && !memchr (item.ptr, ';', item.len) && !memchr (item.ptr, '/', i == 3 ? item.len : 0));
    }
    return 0;
}
