/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_ledger.c: any bytes as the file of plugins that are known: what is set is found, and costs no other digest its line. */
#include "fuzz.h"
#include "plugin/ledger.h"

static const DpsDigest one = {"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"},
                       other = {"bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"};

int LLVMFuzzerTestOneInput (const uint8_t *data, size_t size)
{
    const DpsLedgerLine bad = {.verdict = DPS_LEDGER_QUARANTINED, .id = "a.b", .reason = "crashed (SIGSEGV) in init"};
    const char *path = fuzz_file ("plugins", data, size);
    const DpsLedgerLine before = dps__ledger_find (path, &other);
    require (dps__ledger_set (path, &one, &bad, NULL) == DPS_OK);
    const DpsLedgerLine now = dps__ledger_find (path, &one), after = dps__ledger_find (path, &other);
    require (now.verdict == bad.verdict && !strcmp (now.id, bad.id) && !strcmp (now.reason, bad.reason) && strlen (now.date) == 10);
    require (after.verdict == before.verdict && !strcmp (after.id, before.id) && !strcmp (after.reason, before.reason));
    require (dps__ledger_set (path, &one, &(DpsLedgerLine){.verdict = DPS_LEDGER_UNKNOWN}, NULL) == DPS_OK);
    require (dps__ledger_find (path, &one).verdict == DPS_LEDGER_UNKNOWN && dps__ledger_find (path, &other).verdict == before.verdict);
    return 0;
}
