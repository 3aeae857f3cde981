/* SPDX-License-Identifier: Apache-2.0 */
/* Recipes that are right: defaults, aliases, overrides, paths, what follows from what, the dump, the lock. */
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "check.h"
#include "recipe/internal.h"
#include "recipe/lock.h"
#include "recipe/recipe.h"

static DpsRecipe *parse (const char *text, const char *const *sets, size_t n)
{
    DpsError err = DPS_ERROR_INIT;
    DpsRecipe *r = NULL;
    CHECK_OK (dps_recipe_parse (text, strlen (text), "r.yaml", NULL, sets, n, &r, &err));
    return r;
}

static void test_defaults_are_those_of_trl (void)
{
    DpsRecipe *r = parse ("", NULL, 0);
    CHECK_STR (r->stage, "sft");
    CHECK_STR (r->dtype, "auto");
    CHECK_STR (r->optim, "adamw_torch");
    CHECK_STR (r->lr_scheduler_type, "linear");
    CHECK_STR (r->save_strategy, "steps");
    CHECK_STR (r->metric_for_best_model, "eval_loss");
    CU_ASSERT_EQUAL (r->learning_rate, 2e-5);
    CU_ASSERT_EQUAL (r->max_length, 1024);
    CU_ASSERT_EQUAL (r->per_device_train_batch_size, 8);
    CU_ASSERT_EQUAL (r->num_train_epochs, 3);
    CU_ASSERT_EQUAL (r->max_steps, -1);
    CU_ASSERT_EQUAL (r->adam_beta2, 0.999);
    CU_ASSERT_EQUAL (r->weight_decay, 0);
    CU_ASSERT_EQUAL (r->seed, 42);
    CU_ASSERT_EQUAL (r->data_seed, 42);
    CU_ASSERT_EQUAL (r->logging_steps, 10);
    CU_ASSERT_EQUAL (r->eval_steps, 10);
    CU_ASSERT_EQUAL (r->lora_r, 16);
    CU_ASSERT_EQUAL (r->lora_alpha, 32);
    CU_ASSERT_EQUAL (r->lora_dropout, 0.05);
    CU_ASSERT_EQUAL (r->completion_only_loss, -1);
    CU_ASSERT_EQUAL (r->greater_is_better, 0);
    CU_ASSERT (r->gradient_checkpointing && r->shuffle && !r->packing && !r->assistant_only_loss && r->split_special_tokens);
    CU_ASSERT_PTR_NULL (r->adapter);
    dps_recipe_free (r);
}

static void test_aliases (void)
{
    DpsRecipe *r =
        parse ("micro_batch_size: 3\nepochs: 2\nlr: 1e-3\ntorch_dtype: bf16\ncutoff_len: null\nlora_rank: 8\nlora_target: q_proj,v_proj\n"
               "stage: pt\noptim: adamw_torch_fused\nbase_model: m\ndataset: rows.jsonl\nseed: 1e3\n",
               NULL, 0);
    CU_ASSERT_EQUAL (r->per_device_train_batch_size, 3);
    CU_ASSERT_EQUAL (r->num_train_epochs, 2);
    CU_ASSERT_EQUAL (r->learning_rate, 1e-3);
    CU_ASSERT_EQUAL (r->max_length, 0);
    CU_ASSERT_EQUAL (r->lora_r, 8);
    CU_ASSERT_EQUAL (r->seed, 1000);
    CHECK_STR (r->dtype, "bfloat16");
    CHECK_STR (r->stage, "pretrain");
    CHECK_STR (r->optim, "adamw_torch");
    CHECK_STR (r->adapter, "lora");
    CHECK_STR (r->model_name_or_path, "m");
    CU_ASSERT (r->lora_target_modules.one && r->lora_target_modules.n == 1);
    CHECK_STR (r->lora_target_modules.items[0], "q_proj,v_proj");
    CU_ASSERT_EQUAL_FATAL (r->datasets.n, 1);
    CHECK_STR (r->datasets.items[0].path, "rows.jsonl");
    CU_ASSERT_EQUAL (r->datasets.items[0].fraction, 1);
    dps_recipe_free (r);
}

static void check_adapter (const char *text, const char *want)
{
    DpsRecipe *r = parse (text, NULL, 0);
    if (want)
        CHECK_STR (r->adapter, want);
    else
        CU_ASSERT_PTR_NULL (r->adapter);
    CU_ASSERT_EQUAL (r->use_dora, want && !strcmp (want, "dora"));
    dps_recipe_free (r);
}

static void test_adapter_follows_from_its_keys (void)
{
    check_adapter ("seed: 1\n", NULL);
    check_adapter ("lora_alpha: 8\n", "lora");
    check_adapter ("lora_target: [q_proj]\n", "lora");
    check_adapter ("use_dora: true\n", "dora");
    check_adapter ("adapter: dora\n", "dora");
    check_adapter ("adapter: lora\nuse_dora: true\n", "dora");
    check_adapter ("use_peft: true\n", "lora");
    check_adapter ("finetuning_type: full\n", NULL);
    check_adapter ("adapter: none\n", NULL);
    check_adapter ("adapter: org.example.ia3\n", "org.example.ia3");
}

static void test_overrides (void)
{
    const char *sets[] = {"lr=5e-4",          "datasets[0].fraction=0.5", "datasets.1.split=train", "env.OMP_NUM_THREADS=2",
                          "output_dir=../up", "run_name='a: b'",          "warmup_steps=0.1",       "lora_target=[q_proj, k_proj]",
                          "max_steps="};
    DpsRecipe *r = parse ("learning_rate: 1\nmax_steps: 5\ndatasets:\n  - path: a\n  - b\n", sets, 2);
    CU_ASSERT_EQUAL (r->learning_rate, 5e-4);
    CU_ASSERT_EQUAL (r->datasets.items[0].fraction, 0.5);
    CHECK_STR (dps_recipe_where (r, DPS_KEY_learning_rate), "--set lr=5e-4");
    CHECK_STR (dps_recipe_where (r, DPS_KEY_max_steps), "r.yaml:2:1");
    CHECK_STR (dps_recipe_where (r, DPS_KEY_seed), "seed");
    dps_recipe_free (r);

    r = parse ("learning_rate: 1\nmax_steps: 5\ndatasets:\n  - path: a\n  - path: b\n", sets, 9);
    CHECK_STR (r->datasets.items[1].split, "train");
    CHECK_STR (r->output_dir, "../up"); /* typed by whoever runs it */
    CHECK_STR (r->run_name, "a: b");
    CU_ASSERT_EQUAL (json_integer_value (json_object_get (r->env, "OMP_NUM_THREADS")), 2);
    CU_ASSERT_EQUAL (r->lora_target_modules.n, 2);
    CU_ASSERT_EQUAL (r->max_steps, -1);
    CU_ASSERT_EQUAL (r->warmup_steps, 0.1);
    dps_recipe_free (r);

    static const struct {
        const char *set, *words;
    } bad[] = {
        {"learing_rate=1", "--set learing_rate=1: no key 'learing_rate'; did you mean 'learning_rate'?"},
        {"lr", "expected key=value"},
        {"=1", "expected a key or a path"},
        {"datasets[7].path=x", "no item 7"},
        {"datasets[.path=x", "expected a key or a path"},
        {"seed.x=1", "'x' lies in something that is no map or list"},
        {"lr=[", "not valid YAML"},
        {"lr=-1", "--set lr=-1: learning_rate: expected a number"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        DpsError err = DPS_ERROR_INIT;
        const char text[] = "seed: 1\ndatasets:\n  - path: a\n";
        r = NULL;
        CHECK_FAILS (dps_recipe_parse (text, strlen (text), "r.yaml", NULL, &bad[i].set, 1, &r, &err), DPS_ERR_USAGE, bad[i].words);
        CU_ASSERT_PTR_NULL (r);
    }
}

static void test_paths (void)
{
    char folder[] = "/tmp/dps-recipe-XXXXXX";
    CU_ASSERT_PTR_NOT_NULL_FATAL (mkdtemp (folder));
    DpsError err = DPS_ERROR_INIT;
    char *recipe = dps_path_join (folder, "r.yaml"), *rows = dps_path_join (folder, "rows.jsonl");
    const char text[] = "datasets: [rows.jsonl, elsewhere.jsonl, ~/x.jsonl]\noutput_dir: out\n";
    CHECK_OK (dps_file_write (recipe, text, strlen (text), &err));
    CHECK_OK (dps_file_write (rows, "{}\n", 3, &err));
    DpsRecipe *r = NULL;
    setenv ("HOME", "/home/nobody", 1);
    CHECK_OK (dps_recipe_load (recipe, NULL, 0, &r, &err));
    CHECK_STR (r->datasets.items[0].path, rows); /* lies beside the recipe */
    CHECK_STR (r->datasets.items[0].as_given, "rows.jsonl");
    CHECK_STR (r->datasets.items[1].path, "elsewhere.jsonl"); /* does not */
    CHECK_STR (r->datasets.items[2].path, "/home/nobody/x.jsonl");
    CHECK_STR (r->output_dir, "out");
    dps_recipe_free (r);
    CHECK_FAILS (dps_recipe_load ("/nowhere/r.yaml", NULL, 0, &r, &err), DPS_ERR_USAGE, "/nowhere/r.yaml: no recipe can be read there");
    CHECK_FAILS (dps_recipe_load (folder, NULL, 0, &r, &err), DPS_ERR_USAGE, folder);
    CHECK_OK (dps_remove_tree (folder, &err));
    dps_free (recipe);
    dps_free (rows);
}

static void test_best_metric (void)
{
    DpsRecipe *r = parse ("metric_for_best_model: mean_token_accuracy\n", NULL, 0);
    CHECK_STR (r->metric_for_best_model, "eval_mean_token_accuracy");
    CU_ASSERT_EQUAL (r->greater_is_better, 1);
    dps_recipe_free (r);
}

/* What follows from what an objective says of itself; no stage's name is asked. */
static void test_objective_defaults (void)
{
    static const struct {
        DpsRecipeObjective says;
        double rate, dropout;
    } cases[] = {{{0}, 2e-5, 0.05},
                 {{.compares = 1}, 1e-6, 0.05},
                 {{.compares = 1, .reference = 1}, 1e-6, 0.05},
                 {{.reference = 1}, 1e-6, 0.05},
                 {{.compares = 1, .score = 1}, 1e-4, 0.05},
                 {{.compares = 1, .rollout = 1}, 1e-6, 0},
                 {{.value = 1, .rollout = 1, .reference = 1}, 3e-6, 0}};
    DpsError err = DPS_ERROR_INIT;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        DpsRecipe *r = parse ("stage: anything\n", NULL, 0);
        for (int twice = 0; twice < 2; twice++)
            CHECK_OK (dps_recipe_settle_objective (r, &cases[i].says, &err));
        CU_ASSERT_EQUAL (r->learning_rate, cases[i].rate);
        CU_ASSERT_EQUAL (r->lora_dropout, cases[i].dropout);
        dps_recipe_free (r);
    }
    const DpsRecipeObjective panel = {.compares = 1, .rollout = 1};
    DpsRecipe *r = parse ("stage: anything\nlora_dropout: 0.1\nlr: 1\n", NULL, 0);
    CHECK_OK (dps_recipe_settle_objective (r, &cases[1].says, &err));
    CU_ASSERT (r->learning_rate == 1 && r->lora_dropout == 0.1);
    CHECK_FAILS (dps_recipe_settle_objective (r, &panel, &err), DPS_ERR_USAGE, "r.yaml:2:1: lora_dropout: above 0 the policy");
    dps_recipe_free (r);
    r = parse ("reward_funcs: length\nlora_r: 4\n", NULL, 0); /* answers are sampled, whatever the objective reads */
    CHECK_OK (dps_recipe_settle_objective (r, &cases[0].says, &err));
    CU_ASSERT_EQUAL (r->lora_dropout, 0);
    dps_recipe_free (r);
}

static const char full[] = "lr: 3e-4\nlora_r: 8\nlora_target: [q_proj, \"v\\\"proj\"]\nlr_scheduler_kwargs: {num_cycles: 2, x: [1.5, a]}\n"
                           "datasets:\n  - path: a.jsonl\n    columns: {text: body}\n    fraction: 0.25\n  - b.jsonl\n"
                           "warmup_ratio: 0.03\neos_token: \"\\u00e9 #'\"\nmax_steps: 7\nobjective_args: {beta: 2, name: x, on: true}\n";

static void test_dump_reads_back (void)
{
    DpsError err = DPS_ERROR_INIT;
    DpsBuf one = {0}, two = {0};
    DpsDigest a, b;
    DpsRecipe *r = parse (full, NULL, 0);
    CHECK_OK (dps_recipe_dump (r, 0, &one, &err));
    CHECK_OK (dps_recipe_fingerprint (r, &a, &err));
    dps_recipe_free (r);
    r = parse (one.data, NULL, 0);
    CHECK_OK (dps_recipe_dump (r, 0, &two, &err));
    CHECK_OK (dps_recipe_fingerprint (r, &b, &err));
    CHECK_STR (two.data, one.data);
    CHECK_STR (b.hex, a.hex);
    CU_ASSERT_PTR_NOT_NULL (strstr (one.data, "learning_rate: 0.0003\n"));
    CU_ASSERT_PTR_NOT_NULL (
        strstr (one.data, "datasets: [{\"path\": \"a.jsonl\", \"columns\": {\"text\": \"body\"}, \"fraction\": 0.25}, "));
    dps_recipe_free (r);
    dps_buf_free (&one);
    dps_buf_free (&two);
}

static void test_plugin_parameters (void)
{
    DpsParamValue v;
    DpsRecipe *r = parse (full, NULL, 0);
    CU_ASSERT (dps_recipe_objective_param (r, "beta", &v) && v.type == DPS_PARAM_I64 && v.num == 2);
    CU_ASSERT (dps_recipe_objective_param (r, "name", &v) && v.type == DPS_PARAM_STR && v.str.len == 1);
    CU_ASSERT (dps_recipe_objective_param (r, "on", &v) && v.type == DPS_PARAM_BOOL && v.num == 1);
    CU_ASSERT (!dps_recipe_objective_param (r, "gamma", &v));
    CU_ASSERT (dps_recipe_adapter_param (r, "r", &v) && v.num == 8);
    CHECK_STR (v.where, "r.yaml:2:1");
    CU_ASSERT (dps_recipe_adapter_param (r, "alpha", &v) && v.num == 32);
    CU_ASSERT (!dps_recipe_adapter_param (r, "other", &v));
    dps_recipe_free (r);
}

static void compare (const char *path, const char *text, const DpsLockEntry *entries, size_t n, const char *words)
{
    DpsError err = DPS_ERROR_INIT;
    DpsRecipe *r = parse (text, NULL, 0);
    if (words)
        CHECK_FAILS (dps_lock_compare (r, entries, n, path, &err), DPS_ERR_LOCK, words);
    else
        CHECK_OK (dps_lock_compare (r, entries, n, path, &err));
    dps_recipe_free (r);
}

static void test_lock (void)
{
    char folder[] = "/tmp/dps-lock-XXXXXX";
    CU_ASSERT_PTR_NOT_NULL_FATAL (mkdtemp (folder));
    DpsError err = DPS_ERROR_INIT;
    char *path = dps_path_join (folder, "recipe.lock.yaml");
    const DpsLockEntry entries[] = {
        {"base.sha256", "aa", "model.gguf"}, {"datasets[0].sha256", "bb", "rows.jsonl\nx: y"}, {"isa", "avx2", NULL}};
    const DpsLockEntry changed[] = {entries[0], {"datasets[0].sha256", "cc", "rows.jsonl"}, entries[2]};
    DpsRecipe *r = parse (full, NULL, 0);
    DpsBuf lock = {0};
    CHECK_OK (dps_lock_dump (r, entries, 3, &lock, &err));
    CHECK_OK (dps_file_write (path, lock.data, lock.len, &err));
    dps_buf_free (&lock);
    dps_recipe_free (r);

    compare (path, full, entries, 3, NULL);
    compare (path, "lr: 3e-4\n", entries, 3, "objective_args was");
    char *other = dps_strf ("%sweight_decay: 0.1\n", full);
    compare (path, other, entries, 3, "weight_decay was 0 and is now 0.1");
    dps_free (other);
    other = dps_strf ("%soutput_dir: elsewhere\nrun_name: x\nsave_steps: 3\nthreads: 4\ngradient_checkpointing: false\n", full);
    compare (path, other, entries, 3, NULL); /* changes no bit of the result */
    dps_free (other);
    compare (path, full, changed, 3, "datasets[0].sha256 (rows.jsonl) was bb and is now cc");
    compare (path, full, entries, 2, "isa, which is now absent");
    compare (path, full, changed + 1, 2, "datasets[0]");

    CHECK_OK (dps_file_write (path, "lock_version: [", 15, &err));
    compare (path, full, entries, 3, "the lock is damaged");
    CHECK_OK (dps_file_write (path, "lock_version: 9\n", 16, &err));
    compare (path, full, entries, 3, "lock_version");
    CU_ASSERT_EQUAL (dps_status_exit_code (DPS_ERR_LOCK), 4);
    CHECK_OK (dps_remove_tree (folder, &err));
    dps_free (path);
}

/* A name that stands twice in keys.def would hide a key. */
static void test_every_name_has_one_owner (void)
{
    for (int i = 0; i < DPS_N_KEYS; i++) {
        const DpsKey *key = &dps__keys[i];
        CHECK_STR (dps_recipe_key_name ((DpsKeyId)i), key->name);
        CU_ASSERT_EQUAL (dps__key_find (key->name), i);
        CU_ASSERT (strlen (key->help) >= 3);
        for (const char *s = key->aliases; *s;) {
            char alias[64];
            size_t n = strcspn (s, "|");
            snprintf (alias, sizeof alias, "%.*s", (int)n, s);
            CU_ASSERT_EQUAL (dps__key_find (alias), i);
            s += n + (s[n] == '|');
        }
    }
}

CHECK_SUITE (run_all, "recipe", T (test_defaults_are_those_of_trl), T (test_aliases), T (test_adapter_follows_from_its_keys),
             T (test_overrides), T (test_paths), T (test_best_metric), T (test_objective_defaults), T (test_dump_reads_back),
             T (test_plugin_parameters), T (test_lock), T (test_every_name_has_one_owner))
int main (void)
{
    dps_json_init ();
    return run_all ();
}
