/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_lock.c: any bytes as the locks beside a run: recipe.lock.yaml, stack.lock, chain.lock.yaml. What cannot be read locks. */
#include "fuzz.h"
#include "fuzz_yaml.h"
#include "recipe/chain.h"
#include "recipe/stack_lock.h"

static const DpsLockEntry entries[] = {
    {"device", "cpu", NULL}, {"device.plugin dps.cpu", "abc", "0.1"}, {"datasets[0].sha256", "def", NULL}};
enum { N_ENTRIES = sizeof entries / sizeof *entries };
static DpsRecipe *recipe;
static DpsChain *chain;

int LLVMFuzzerInitialize (int *argc, char ***argv)
{
    static const char one[] = "{model_name_or_path: m, stage: sft, output_dir: o, datasets: rows.jsonl, allow_device_change: true}",
                      two[] = "{model_name_or_path: m, output_dir: o, stages: [{stage: sft, datasets: a}, {stage: dpo, datasets: b}]}";
    (void)argc, (void)argv;
    require (dps_recipe_parse (one, sizeof one - 1, "fuzz.yaml", "/tmp", NULL, 0, &recipe, NULL) == DPS_OK);
    require (dps_chain_parse (two, sizeof two - 1, "/tmp/fuzz.yaml", NULL, 0, &chain, NULL) == DPS_OK && chain->n == 2);
    dps_free (chain->lock);
    return 0;
}

/* Nothing but LOCK may come of bytes: NOMEM and IO come of the machine. */
static void check (DpsStatus st, const DpsError *err) { require (st == DPS_OK || (st == DPS_ERR_LOCK && err->code == st && err->msg[0])); }

int LLVMFuzzerTestOneInput (const uint8_t *data, size_t size)
{
    DpsError err = DPS_ERROR_INIT;
    DpsChainDone done[2];
    int found;
    const char *path = fuzz_file ("lock", data, size);
    check (dps_lock_compare (recipe, entries, N_ENTRIES, path, &err), &err);
    check (dps_stack_lock_compare (entries, N_ENTRIES, path, &err), &err);
    chain->lock = (char *)path;
    check (dps_chain_lock_read (chain, done, &found, &err), &err);
    for (size_t i = 0; i < 2 && found; i++)
        require (strlen (done[i].result.hex) % 64 == 0 && strlen (done[i].merged.hex) % 64 == 0);
    return 0;
}
