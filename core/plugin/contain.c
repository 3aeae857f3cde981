/* SPDX-License-Identifier: Apache-2.0 */
#include "plugin/contain.h"

#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "plugin/ledger.h"
#include "plugin/probe.h"

static DpsStatus refuse (const char *path, const DpsManifest *m, const char *when, const char *reason, DpsError *err)
{
    return dps_fail (err, DPS_ERR_POLICY,
                     "%s: in quarantine%s: tried in a child process it %s. Hint: diapason plugins release %s tries it again", path, when,
                     reason, m->id);
}

static void remember (const DpsContain *c, const DpsManifest *m, const DpsSealed *sealed, int verdict, const char *reason)
{
    DpsLedgerLine line = {.verdict = verdict};
    DpsError why = DPS_ERROR_INIT;
    snprintf (line.id, sizeof line.id, "%s", m->id);
    snprintf (line.reason, sizeof line.reason, "%.*s", (int)sizeof line.reason - 1, reason);
    if (dps__ledger_set (c->ledger, &sealed->digest, &line, &why) != DPS_OK)
        dps_log (DPS_LOG_DEBUG, "plugin %s will be tried again at the next start: %s", m->id, why.msg);
}

DpsStatus dps__contain (const DpsContain *c, int beside_program, const DpsManifest *m, const DpsSealed *sealed, const char *path,
                        int *out_quarantined, DpsError *err)
{
    char when[32];
    DpsError why = DPS_ERROR_INIT;
    *out_quarantined = 0;
    if (!c->program || (beside_program && !strncmp (m->id, "dps.", 4)))
        return DPS_OK;
    DpsLedgerLine known = dps__ledger_find (c->ledger, &sealed->digest);
    if (known.verdict == DPS_LEDGER_GOOD)
        return DPS_OK;
    if (known.verdict == DPS_LEDGER_QUARANTINED) {
        *out_quarantined = 1;
        snprintf (when, sizeof when, " since %s", known.date);
        return refuse (path, m, when, known.reason, err);
    }
    DpsStatus st = dps__probe (c->program, c->deadline_ms, sealed, path, &why);
    if (st == DPS_OK) {
        remember (c, m, sealed, DPS_LEDGER_GOOD, "");
        return DPS_OK;
    }
    if (st != DPS_ERR_POLICY)
        return dps_fail (err, st, "%s", why.msg);
    *out_quarantined = 1;
    remember (c, m, sealed, DPS_LEDGER_QUARANTINED, why.msg);
    return refuse (path, m, "", why.msg, err);
}
