/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_trace.c: any bytes as a record of backend calls; whatever reads is replayed on ref, within a mebibyte, every call checked. */
#include "exec/replay.h"
#include "fuzz.h"

static const char *const nowhere[] = {"/"}; /* ref alone */
static const DpsRegistryOptions none = {.folders = nowhere, .n_folders = 1};
static DpsRegistry *registry;

int LLVMFuzzerInitialize (int *argc, char ***argv)
{
    DpsError err = DPS_ERROR_INIT;
    (void)argc, (void)argv;
    setenv ("DIAPASON_VALIDATE", "1", 1);
    return dps_registry_open (&none, &registry, &err) == DPS_OK ? 0 : -1;
}

int LLVMFuzzerTestOneInput (const uint8_t *data, size_t size)
{
    DpsError err = DPS_ERROR_INIT;
    const DpsReplayOptions o = {.path = "fuzz", .backend = "ref", .memory = 1 << 16};
    DpsReplay *out = calloc (1, sizeof *out);
    require (!out || dps_replay (registry, (const char *)data, size, &o, out, &err) == DPS_OK || err.msg[0]);
    free (out);
    return 0;
}
