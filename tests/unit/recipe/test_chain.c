/* SPDX-License-Identifier: Apache-2.0 */
/* Chains as read: what each stage starts from, whose keys win, what a plan uses, the lock; and every allocation failing once. */
#include <stdlib.h>
#include <unistd.h>

#include "base/file.h"
#include "base/mem.h"
#include "check.h"
#include "recipe/chain.h"

static const char text[] = "output_dir: run\n"
                           "model_name_or_path: base\n"
                           "seed: 3\n"
                           "learning_rate: 0.1\n"
                           "stages:\n"
                           "  - {stage: pt, datasets: a.jsonl}\n"
                           "  - {name: first, lora_r: 4, datasets: a.jsonl, learning_rate: 0.2}\n"
                           "  - {name: second, from: first, datasets: b.jsonl}\n"
                           "  - {name: over, from: second, freeze: true, lora_r: 2, datasets: \"${first}/rows.jsonl\"}\n"
                           "  - {name: again, datasets: b.jsonl}\n"
                           "  - {name: flat, merge: float32, lora_r: 8, datasets: b.jsonl}\n"
                           "  - {name: alone, from: null, datasets: b.jsonl}\n";

static char folder[64], path[128];

static void write_chain (const char *content)
{
    DpsError err = DPS_ERROR_INIT;
    snprintf (folder, sizeof folder, "/tmp/diapason-chain-XXXXXX");
    CU_ASSERT_PTR_NOT_NULL_FATAL (mkdtemp (folder));
    snprintf (path, sizeof path, "%s/chain.yaml", folder);
    CHECK_OK (dps_file_write (path, content, strlen (content), &err));
}

static void test_chain_feeds (void)
{
    DpsError err = DPS_ERROR_INIT;
    DpsChain *c = NULL;
    static const char *const sets[] = {"second.seed=9", "max_steps=5", "first.max_steps=7"};
    write_chain (text);
    CHECK_OK (dps_chain_load (path, sets, 3, &c, &err));
    CU_ASSERT_EQUAL_FATAL (c->n, 7);
    CHECK_STR (c->lock, "run/chain.lock.yaml");
    enum { PT, FIRST, SECOND, OVER, AGAIN, FLAT, ALONE };
    const DpsChainStage *s = c->stages;
    CHECK_STR (s[PT].name, "pt");
    CHECK_STR (s[PT].recipe->stage, "pretrain");
    CHECK_STR (s[PT].recipe->model_name_or_path, "base");
    CHECK_STR (s[PT].recipe->output_dir, "run/pt");
    CU_ASSERT (s[PT].from == -1 && !s[PT].stand_in && !s[PT].recipe->adapter);
    CHECK_STR (s[FIRST].recipe->model_name_or_path, "run/pt");
    CU_ASSERT (s[FIRST].from == PT && !s[FIRST].recipe->adapter_init);
    CU_ASSERT (s[PT].recipe->learning_rate == 0.1 && s[FIRST].recipe->learning_rate == 0.2 && s[FIRST].recipe->seed == 3);
    CU_ASSERT (s[SECOND].recipe->seed == 9 && s[FIRST].recipe->max_steps == 7 && s[SECOND].recipe->max_steps == 5);
    CHECK_STR (s[SECOND].recipe->adapter_init, "run/first");
    CHECK_STR (s[SECOND].recipe->model_name_or_path, "run/pt");
    CU_ASSERT_EQUAL (s[OVER].recipe->frozen_adapters.n, 1);
    CHECK_STR (s[OVER].recipe->frozen_adapters.items[0], "run/second");
    CHECK_STR (s[OVER].recipe->datasets.items[0].path, "run/first/rows.jsonl");
    CU_ASSERT (!s[OVER].recipe->adapter_init && s[OVER].recipe->lora_r == 2);
    CHECK_STR (s[AGAIN].recipe->frozen_adapters.items[0], "run/second");
    CHECK_STR (s[AGAIN].recipe->adapter_init, "run/over");
    CHECK_STR (s[FLAT].merged, "run/again/merged-float32");
    CHECK_STR (s[FLAT].dtype, "float32");
    CHECK_STR (s[FLAT].recipe->model_name_or_path, "run/again/merged-float32");
    CU_ASSERT (s[FLAT].recipe->frozen_adapters.n == 0 && !s[FLAT].recipe->adapter_init);
    CHECK_STR (s[ALONE].recipe->model_name_or_path, "base");
    /* Nothing is finished: plans begin at the base, with an adapter of the shape that will be gone on with. */
    for (int i = FIRST; i <= FLAT; i++) {
        CU_ASSERT_PTR_EQUAL (dps_chain_plan (c, (size_t)i), s[i].stand_in);
        CHECK_STR (s[i].stand_in->model_name_or_path, "base");
        CU_ASSERT (!s[i].stand_in->adapter_init && s[i].stand_in->frozen_adapters.n == 0);
    }
    const DpsRecipe *under[DPS_CHAIN_MAX];
    CU_ASSERT (dps_chain_under (c, FIRST, under) == 0 && dps_chain_under (c, ALONE, under) == 0);
    for (int i = OVER; i <= AGAIN; i++)
        CU_ASSERT (dps_chain_under (c, (size_t)i, under) == 1 && under[0] == s[SECOND].stand_in);
    CU_ASSERT (s[SECOND].stand_in->lora_r == 4 && s[OVER].stand_in->lora_r == 2 && s[AGAIN].stand_in->lora_r == 2);
    CU_ASSERT_PTR_EQUAL (dps_chain_plan (c, ALONE), s[ALONE].recipe);
    dps_chain_free (c);
    CHECK_OK (dps_remove_tree (folder, &err));
}

static void test_chain_lock_reads_back (void)
{
    DpsError err = DPS_ERROR_INIT;
    DpsChain *c = NULL;
    DpsChainDone done[2] = {0}, back[2];
    int found = 1;
    char set[160], other[] = "stages: [{name: a, datasets: x}, {name: c, datasets: x}]\n";
    write_chain ("stages: [{name: a, datasets: x}, {name: b, datasets: x}]\n");
    snprintf (set, sizeof set, "output_dir=%s", folder);
    const char *const sets[] = {set};
    CHECK_OK (dps_chain_load (path, sets, 1, &c, &err));
    CHECK_OK (dps_chain_lock_read (c, back, &found, &err));
    CU_ASSERT_EQUAL (found, 0);
    memset (done[0].result.hex, 'a', 64);
    memset (done[1].merged.hex, '7', 64);
    CHECK_OK (dps_chain_lock_write (c, done, &err));
    CHECK_OK (dps_chain_lock_read (c, back, &found, &err));
    CU_ASSERT (found == 1 && !memcmp (done, back, sizeof done));
    memset (done[1].result.hex, 'b', 64);
    CHECK_OK (dps_chain_lock_write (c, done, &err));
    dps_chain_free (c);
    CHECK_OK (dps_file_write (path, other, strlen (other), &err));
    CHECK_OK (dps_chain_load (path, sets, 1, &c, &err));
    CHECK_FAILS (dps_chain_lock_read (c, back, &found, &err), DPS_ERR_LOCK, "stage 'b' is finished");
    CHECK_OK (dps_file_write (c->lock, "stages: x\n", 10, &err));
    CHECK_FAILS (dps_chain_lock_read (c, back, &found, &err), DPS_ERR_LOCK, "chain_lock_version");
    CHECK_OK (dps_file_write (c->lock, "chain_lock_version: 1\nstages: [{name: a, result: zz, merged: null}]\n", 68, &err));
    CHECK_FAILS (dps_chain_lock_read (c, back, &found, &err), DPS_ERR_LOCK, "expected {name, result, merged}");
    dps_chain_free (c);
    CHECK_OK (dps_remove_tree (folder, &err));
}

/* A plain recipe is a chain of one stage without a name. */
static void test_plain_recipe (void)
{
    DpsError err = DPS_ERROR_INIT;
    DpsChain *c = NULL;
    write_chain ("datasets: x\noverwrite_output_dir: true\n");
    CHECK_OK (dps_chain_load (path, NULL, 0, &c, &err));
    CU_ASSERT (c->n == 1 && !c->lock && !c->stages[0].name && c->stages[0].from == -1 && c->overwrite);
    CU_ASSERT_PTR_EQUAL (dps_chain_plan (c, 0), c->stages[0].recipe);
    dps_chain_free (c);
    CHECK_OK (dps_remove_tree (folder, &err));
}

static void test_every_allocation_may_fail (void)
{
    DpsStatus st = DPS_ERR_NOMEM;
    DpsError err = DPS_ERROR_INIT;
    static const char *const sets[] = {"second.seed=9", "max_steps=5"};
    write_chain (text);
    int64_t live = dps_mem_live ();
    uint64_t k = 0;
    while (st == DPS_ERR_NOMEM && k < 20000) {
        DpsChain *c = NULL;
        dps_mem_fail_at (++k);
        st = dps_chain_load (path, sets, 2, &c, &err);
        dps_mem_fail_at (0);
        CU_ASSERT ((st == DPS_OK) == (c != NULL));
        dps_chain_free (c);
        CU_ASSERT_EQUAL (dps_mem_live (), live);
    }
    CU_ASSERT_EQUAL (st, DPS_OK);
    CU_ASSERT (k > 500);
    CHECK_OK (dps_remove_tree (folder, &err));
}

CHECK_MAIN ("recipe.chain", T (test_chain_feeds), T (test_chain_lock_reads_back), T (test_plain_recipe), T (test_every_allocation_may_fail))
