/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A slot that a plugin leaves out has the default its header names: each optional slot of the plugins a run uses is taken away in turn, and the run
 * ends with the same bytes; where the slot is what was asked for, it is refused by name.
 */
#include <stdlib.h>
#include <unistd.h>

#include "base/file.h"
#include "base/sha256.h"
#include "check.h"
#include "objective/tape.h"
#include "train/merge.h"
#include "train/train.h"

static DpsError err = DPS_ERROR_INIT;
static char folder[] = "/tmp/diapason-test-XXXXXX";
static DpsRegistry *reg;

/* Slots, NULL while f runs. */
typedef struct Gone {
    const char *interface, *plugin;
    size_t slots[4];
    unsigned n;
} Gone;

#define AT(type, member) offsetof (type, member)

static void **slot (const Gone *g, unsigned i)
{
    char *table = (char *)dps_registry_get (reg, g->interface, g->plugin);
    CU_ASSERT_PTR_NOT_NULL_FATAL (table);
    return (void **)(table + g->slots[i]);
}

static void take (const Gone *g, void *kept[4])
{
    for (unsigned i = 0; i < g->n; i++) {
        kept[i] = *slot (g, i);
        *slot (g, i) = NULL;
    }
}

static void give_back (const Gone *g, void *const kept[4])
{
    for (unsigned i = 0; i < g->n; i++)
        *slot (g, i) = kept[i];
}

static const char *path_of (const char *name)
{
    static char path[4][512];
    static unsigned turn;
    char *p = path[turn++ % 4];
    snprintf (p, 512, "%s/%s", folder, name);
    return p;
}

/* Three steps with a checkpoint; *out: the digest of what they trained. */
static DpsStatus train (const char *name, const char *keys, DpsDigest *out)
{
    char text[2048], file[600];
    DpsRecipe *recipe = NULL;
    DpsTrainResult result = {0};
    snprintf (
        text, sizeof text,
        "model_name_or_path: %s/parity/models/gemma3\ndatasets: %s/tools/examples/%s.jsonl\noutput_dir: %s\ndtype: float32\nmax_steps: 3\n"
        "save_steps: 2\nper_device_train_batch_size: 2\nlora_r: 2\nlora_alpha: 4\nseed: 3\nlogging_steps: 1\ndevice: cpu\n%s",
        DPS_TEST_DATA, DPS_SOURCE,
        strstr (keys, "simpo")  ? "tiny-pairs"
        : strstr (keys, "grpo") ? "tiny-groups"
                                : "tiny-rows",
        path_of (name), keys);
    CHECK_OK (dps_remove_tree (path_of (name), &err));
    CHECK_OK (dps_recipe_parse (text, strlen (text), "test", NULL, NULL, 0, &recipe, &err));
    DpsStatus st = dps_train (reg, recipe, &(DpsTrainOptions){.resume = NULL}, &result, &err);
    snprintf (file, sizeof file, "%s/adapter_model.safetensors", path_of (name));
    if (st == DPS_OK)
        CHECK_OK (dps_sha256_file (file, out, &err));
    dps_free (result.output_dir);
    dps_recipe_free (recipe);
    return st;
}

static void same_without (const Gone *gone, size_t n, const char *keys)
{
    DpsDigest whole, without;
    CHECK_OK (train ("whole", keys, &whole));
    for (size_t i = 0; i < n; i++) {
        void *kept[4];
        take (&gone[i], kept);
        DpsStatus st = train ("without", keys, &without);
        give_back (&gone[i], kept);
        if (st != DPS_OK || strcmp (whole.hex, without.hex))
            printf ("\n    %s of %s without the slot at %zu: %s\n", gone[i].interface, gone[i].plugin, gone[i].slots[0],
                    st == DPS_OK ? "other bytes" : err.msg);
        CU_ASSERT_EQUAL (st, DPS_OK);
        CU_ASSERT_STRING_EQUAL (whole.hex, without.hex);
    }
}

static void test_training_goes_on_without_optional_slots (void)
{
    static const Gone gone[] = {
        {DPS_BACKEND_ID,
         "cpu",
         {AT (DpsBackend, prepare), AT (DpsBackend, plan_info), AT (DpsBackend, run_plan), AT (DpsBackend, plan_free)},
         4},
        {DPS_BACKEND_ID, "cpu", {AT (DpsBackend, mem_info)}, 1},
        {DPS_BACKEND_ID, "cpu", {AT (DpsBackend, determinism)}, 1},
        {DPS_PACK_ID, "cpu", {AT (DpsPack, unpack_rows)}, 1},
        {DPS_OBJECTIVE_ID, "sft", {AT (DpsObjective, score), AT (DpsObjective, step_end), AT (DpsObjective, reads)}, 3},
        {DPS_OBJECTIVE_ID, "sft", {AT (DpsObjective, state_save), AT (DpsObjective, state_load)}, 2},
        {DPS_ADAPTER_ID, "lora", {AT (DpsAdapter, match), AT (DpsAdapter, init)}, 2},
        {DPS_ADAPTER_ID, "lora", {AT (DpsAdapter, merge)}, 1},
        {DPS_FORMAT_ID, "safetensors", {AT (DpsFormat, map), AT (DpsFormat, release), AT (DpsFormat, graph)}, 3},
        {DPS_FORMAT_ID, "safetensors", {AT (DpsFormat, extensions)}, 1},
    };
    same_without (gone, sizeof gone / sizeof *gone, "");
    static const Gone pairs = {
        DPS_OBJECTIVE_ID, "simpo", {AT (DpsObjective, reads), AT (DpsObjective, state_save), AT (DpsObjective, state_load)}, 3};
    same_without (&pairs, 1, "stage: simpo\n");
}

static void refused_without (const Gone *gone, const char *keys, const char *text)
{
    DpsDigest digest;
    void *kept[4];
    take (gone, kept);
    DpsStatus st = train ("refused", keys, &digest);
    give_back (gone, kept);
    if (st == DPS_OK || !strstr (err.msg, text))
        printf ("\n    without it: %d \"%s\", expected \"%s\"\n", st, st ? err.msg : "", text);
    CU_ASSERT (st != DPS_OK && strstr (err.msg, text));
}

static void test_what_was_asked_for_is_refused_by_name (void)
{
    static const Gone score = {DPS_OBJECTIVE_ID, "grpo", {AT (DpsObjective, score)}, 1};
    refused_without (&score, "stage: grpo\n", "score");
    static const Gone write = {
        DPS_FORMAT_ID, "safetensors", {AT (DpsFormat, create), AT (DpsFormat, write), AT (DpsFormat, finish), AT (DpsFormat, abandon)}, 4};
    refused_without (&write, "", "safetensors");

    static const Gone merge = {DPS_ADAPTER_ID, "lora", {AT (DpsAdapter, merge)}, 1};
    static char model[] = DPS_TEST_DATA "/parity/models/gemma3";
    DpsDigest digest;
    void *kept[4];
    CHECK_OK (train ("whole", "", &digest));
    const DpsSessionOptions o = {.model = model, .adapter = path_of ("whole")};
    take (&merge, kept);
    DpsStatus st = dps_merge (reg, &o, &(DpsMergeOptions){.dtype = DPS_DTYPE_F32}, path_of ("merged"), &err);
    give_back (&merge, kept);
    CU_ASSERT (st != DPS_OK && strstr (err.msg, "merge"));
    CU_ASSERT_FALSE (dps_is_file (path_of ("merged/model.safetensors")));
}

CHECK_SUITE (check_all, "abi.defaults", T (test_training_goes_on_without_optional_slots), T (test_what_was_asked_for_is_refused_by_name))

int main (void)
{
    DpsError first = DPS_ERROR_INIT;
    if (!mkdtemp (folder) || dps_tape_provide (&first) || dps_registry_open (NULL, &reg, &first))
        return 2;
    int code = check_all ();
    dps_registry_close (reg);
    return dps_remove_tree (folder, &first) == DPS_OK ? code : 2;
}
