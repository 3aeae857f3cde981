/* SPDX-License-Identifier: Apache-2.0 */
/* What YAML 1.2 means, and what hostile recipes get: RELIABILITY section 3, "YAML recipe", as a table. */
#include "check.h"
#include "recipe/recipe.h"
#include "recipe/yaml.h"

static DpsStatus load (const char *text, DpsError *err)
{
    DpsRecipe *r = NULL;
    DpsStatus st = dps_recipe_parse (text, strlen (text), "r.yaml", NULL, NULL, 0, &r, err);
    dps_recipe_free (r);
    return st;
}

/* Every one of these is refused with USAGE, and the message holds the words. */
static const struct {
    const char *name, *text, *words;
} refused[] = {
    {"unknown key one edit away", "seed: 1\nlearing_rate: 1\n", "r.yaml:2:1: no key 'learing_rate'; did you mean 'learning_rate'?"},
    {"letters swapped", "laerning_rate: 1\n", "did you mean 'learning_rate'?"},
    {"alias one edit away", "cutof_len: 1\n", "did you mean 'cutoff_len'?"},
    {"unknown key far from all", "zzzzzzzzz: 1\n", "r.yaml:1:1: no key 'zzzzzzzzz'. Hint: a plugin's own parameters go under"},
    {"lr NaN", "lr: .nan\n", "r.yaml:1:5: learning_rate: expected a number from 1e-30 to 1000, found .nan"},
    {"lr infinite", "lr: .inf\n", "found .inf"},
    {"lr -1", "learning_rate: -1\n", "found -1"},
    {"lr 1e9", "learning_rate: 1e9\n", "found 1e9"},
    {"a limit just below 1 is said whole", "adam_beta1: 1\n", "adam_beta1: expected a number from 0 to 0.9999999, found 1"},
    {"lr a word", "learning_rate: fast\n", "found the text \"fast\""},
    {"lr quoted", "learning_rate: \"2e-5\"\n", "remove the quotes"},
    {"steps 2^63", "max_steps: 9223372036854775808\n",
     "max_steps: expected a whole number from -1 to 1000000000, found 9223372036854775808"},
    {"steps 1.5", "max_steps: 1.5\n", "found 1.5"},
    {"steps 1_000", "max_steps: 1_000\n", "found the text \"1_000\": write digits without '_'"},
    {"steps 1:30", "max_steps: 1:30\n", "found the text \"1:30\""},
    {"batch 0", "per_device_train_batch_size: 0\n", "per_device_train_batch_size: expected a whole number from 1"},
    {"seed a list", "seed: [1, 2]\n", "found a list"},
    {"on is no boolean", "packing: on\n", "packing: expected true or false, found the text \"on\" (in YAML 1.2"},
    {"no is no boolean", "packing: no\n", "expected true or false"},
    {"1 is no boolean", "packing: 1\n", "expected true or false, found 1"},
    {"boolean where a word is due", "run_name: true\n", "quote it"},
    {"choice", "lr_scheduler_type: cosines\n", "expected one of linear|cosine|"},
    {"choice of later", "optim: lion\n", "optim: lion is not implemented in this version; there are: adamw_torch|sgd"},
    {"key of later", "sync_ref_model: true\n", "key sync_ref_model is not implemented in this version (GRPO)"},
    {"sampling without rewards", "num_generations: 8\n", "r.yaml:1:1: num_generations: belongs to runs that sample their answers"},
    {"alias of later", "flash_attn: fa2\n", "key attn_implementation is not implemented"},
    {"fixed", "fp16: true\n", "fp16: true is not implemented"},
    {"stage no name", "stage: ../x\n", "the name of an objective plugin"},
    {"duplicate key", "seed: 1\nlr: 1\nseed: 2\n", "r.yaml:3:1: 'seed' is given twice, first in line 1"},
    {"duplicate under an alias", "lr: 0.1\nlearning_rate: 0.1\n",
     "r.yaml:2:1: 'learning_rate' is learning_rate, which was already given at r.yaml:1:1"},
    {"duplicate inside", "env: {A: 1, A: 2}\n", "'A' is given twice"},
    {"tab as indentation", "env:\n\tA: 1\n", "r.yaml:2"},
    {"python object", "run_name: !!python/object:os.system x\n", "tag tag:yaml.org,2002:python/object:os.system is refused"},
    {"tag on a map", "env: !map {A: 1}\n", "is refused: a recipe is plain data"},
    {"merge key", "x: &x {a: 1}\nenv:\n  <<: *x\n", "r.yaml:3:3: merge keys (<<) are not read"},
    {"alias without anchor", "seed: *nowhere\n", "alias *nowhere names no finished anchor"},
    {"alias of itself", "env: &a\n  A: *a\n", "alias *a names no finished anchor"},
    {"two documents", "seed: 1\n---\nseed: 2\n", "a second document begins"},
    {"UTF-16", "\xff\xfes\0e\0", "r.yaml:1:1: UTF-16"},
    {"latin-1", "seed: 1\nrun_name: caf\xe9\n", "r.yaml:2: byte 0xe9 is not valid UTF-8"},
    {"overlong UTF-8", "run_name: \"\xc0\x80\"\n", "not valid UTF-8"},
    {"escaped NUL", "run_name: \"a\\0b\"\n", "U+0000"},
    {"not closed", "seed: [1\n", "not valid YAML"},
    {"no space", "seed: 3\nmax_steps:3\nlr: 1\n",
     ":2:1: 'max_steps:3' has no space behind the colon, so it is no key with a value: write 'max_steps: 3'"},
    {"no space at all", "max_steps:3\n", ":1:1: 'max_steps:3' has no space behind the colon"},
    {"no space on any line", "# two\nmax_steps:3\nseed:4\n", ":2:1: 'max_steps:3' has no space behind the colon"},
    {"no space in a list", "datasets:\n  - path:x\n    split: a\n", ":2:5: 'path:x' has no space behind the colon"},
    {"tab", "datasets:\n\t- path: x\n", ":2:1: a tab in the indentation, where YAML takes spaces only"},
    {"tab on the next line", "seed: 3\n\tlr: 1\n", ":2:1: a tab in the indentation"},
    {"a list", "- seed\n", "a recipe is a map"},
    {"a word", "seed\n", "a recipe is a map"},
    {"key that is a list", "? [a]\n: 1\n", "a key must be a word, found a list"},
    {"output_dir climbs", "output_dir: ../../etc/cron.d\n", "output_dir: '../../etc/cron.d' climbs with '..'"},
    {"output_dir climbs inside", "output_dir: a/../../b\n", "climbs"},
    {"output_dir empty", "output_dir: \"\"\n", "output_dir: the path is empty"},
    {"interpolation", "model_name_or_path: ${HOME}/model\n", "variables are not expanded"},
    {"environment that loads code", "env: {LD_PRELOAD: /tmp/x.so}\n", "may not set LD_PRELOAD"},
    {"environment that trusts plugins", "env: {DIAPASON_PLUGINS: /tmp}\n", "may not set DIAPASON_PLUGINS"},
    {"environment that is no name", "env: {\"A B\": 1}\n", "is no name of a variable"},
    {"data set without path", "datasets:\n  - split: train\n", "r.yaml:2:5: datasets[0]: a data set has no path"},
    {"data set key", "datasets:\n  - path: a\n    fractoin: 1\n",
     "r.yaml:3:5: datasets[0]: no key 'fractoin' in a data set; did you mean 'fraction'?"},
    {"data set fraction", "datasets:\n  - path: a\n    fraction: -1\n", "datasets[0].fraction: expected a number above 0"},
    {"data set columns", "datasets:\n  - path: a\n    columns: 3\n", "datasets[0].columns: expected a map"},
    {"warm-up twice", "warmup_steps: 5\nwarmup_ratio: 0.1\n", "both given"},
    {"warm-up 1.5", "warmup_steps: 1.5\n", "expected a whole number, or a share below 1"},
    {"evaluation without rows", "eval_strategy: steps\n", "needs eval_datasets"},
    {"best without evaluation", "load_best_model_at_end: true\n", "needs eval_strategy"},
    {"report to nobody", "report_to: wandb\n", "report_to: 'wandb' is not implemented"},
    {"adapter against its keys", "adapter: none\nlora_r: 4\n", "r.yaml:2:1: lora_r is given, but every weight is to be trained"},
    {"qlora of numbers", "adapter: qlora\nquantization: none\n", "quantization: none contradicts adapter: qlora"},
    {"quantised whole", "load_in_4bit: true\n", "a quantised base is frozen, and every weight is to be trained"},
    {"blocks whole", "quantization: gguf\n", "a quantised base is frozen"},
    {"4 and 8 bits", "adapter: lora\nload_in_4bit: true\nload_in_8bit: true\n", "load_in_4bit and load_in_8bit are both given"},
    {"4 bits of blocks", "adapter: lora\nload_in_4bit: true\nquantization: gguf\n", "load_in_4bit contradicts quantization: gguf"},
    {"another code book", "adapter: lora\nload_in_4bit: true\nbnb_4bit_quant_type: int4\n", "bnb_4bit_quant_type"},
    {"details of nothing", "adapter: lora\nbnb_4bit_quant_type: nf4\n", "bnb_4bit_quant_type is of load_in_4bit, which is not asked for"},
    {"another method", "adapter: lora\nquantization: gptq\n", "gptq is not implemented"},
};

static void test_refused (void)
{
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        DpsError err = DPS_ERROR_INIT;
        DpsStatus st = load (refused[i].text, &err);
        if (st != DPS_ERR_USAGE || !strstr (err.msg, refused[i].words))
            printf ("\n    %s: %s \"%s\"", refused[i].name, dps_status_name (st), err.msg);
        CU_ASSERT_EQUAL (st, DPS_ERR_USAGE);
        CU_ASSERT_EQUAL (dps_status_exit_code (st), 2);
        CU_ASSERT_PTR_NOT_NULL (strstr (err.msg, refused[i].words));
    }
}

/* Inputs whose size is the attack. */
static void check_large (const char *name, const char *open, size_t times, const char *words)
{
    DpsError err = DPS_ERROR_INIT;
    DpsBuf text = {0};
    CU_ASSERT_EQUAL_FATAL (dps_buf_str (&text, "env: "), 0);
    for (size_t i = 0; i < times; i++)
        CU_ASSERT_EQUAL_FATAL (dps_buf_str (&text, open), 0);
    DpsRecipe *r = NULL;
    DpsStatus st = dps_recipe_parse (text.data, text.len, "r.yaml", NULL, NULL, 0, &r, &err);
    if (st != DPS_ERR_USAGE || !strstr (err.msg, words))
        printf ("\n    %s: %s \"%s\"", name, dps_status_name (st), err.msg);
    CU_ASSERT_EQUAL (st, DPS_ERR_USAGE);
    CU_ASSERT_PTR_NOT_NULL (strstr (err.msg, words));
    dps_buf_free (&text);
}

static void test_large (void)
{
    check_large ("depth 10^4", "[", 10000, "nested deeper than 32");
    check_large ("depth 10^4, maps", "{a: ", 10000, "nested deeper than 32");
    check_large ("over 1 MiB", "aaaaaaaa", 1 << 18, "a recipe has at most 1048576");
    check_large ("long tag", "!aaaaaaaaaaaaaaa", 60000, "r.yaml:");
    check_large ("many values", "[], ", 30000, "r.yaml:");
    check_large ("quotes", "\"", 100000, "r.yaml:");
    check_large ("anchors", "&a ", 100000, "r.yaml:");
    check_large ("question marks", "? ", 100000, "r.yaml:");
    check_large ("dashes", "\n- ", 50000, "r.yaml:");

    DpsBuf text = {0};
    DpsError err = DPS_ERROR_INIT;
    CU_ASSERT_EQUAL_FATAL (dps_buf_str (&text, "a0: &a0 [x,x,x,x,x,x,x,x,x]\n"), 0);
    for (int i = 1; i < 12; i++) {
        CU_ASSERT_EQUAL_FATAL (dps_buf_printf (&text, "a%d: &a%d [", i, i), 0);
        for (int k = 0; k < 9; k++)
            CU_ASSERT_EQUAL_FATAL (dps_buf_printf (&text, "%s*a%d", k ? "," : "", i - 1), 0);
        CU_ASSERT_EQUAL_FATAL (dps_buf_str (&text, "]\n"), 0);
    }
    CHECK_FAILS (load (text.data, &err), DPS_ERR_USAGE, "more than 20000 values once aliases are written out");
    dps_buf_free (&text);

    DpsRecipe *r = NULL;
    CHECK_FAILS (dps_recipe_parse ("seed: 1\nrun_name: a\0b\n", 22, "r.yaml", NULL, NULL, 0, &r, &err), DPS_ERR_USAGE,
                 "r.yaml:2: a NUL byte");
}

/* The core schema: the same word as text, whole number, number and boolean. */
static void test_scalars (void)
{
    static const struct {
        const char *word;
        int is_null, boolean, is_int; /* boolean -1: none */
        int64_t integer;
        double number; /* NAN: none */
    } words[] = {
        {"on", 0, -1, 0, 0, NAN},
        {"no", 0, -1, 0, 0, NAN},
        {"1_000", 0, -1, 0, 0, NAN},
        {"1:30", 0, -1, 0, 0, NAN},
        {"0o17", 0, -1, 1, 15, 15},
        {"017", 0, -1, 1, 17, 17},
        {"0x1F", 0, -1, 1, 31, 31},
        {"-0", 0, -1, 1, 0, 0},
        {"+12", 0, -1, 1, 12, 12},
        {"2e-5", 0, -1, 0, 0, 2e-5},
        {".5", 0, -1, 0, 0, .5},
        {"1.", 0, -1, 0, 0, 1},
        {"1e", 0, -1, 0, 0, NAN},
        {".", 0, -1, 0, 0, NAN},
        {"e5", 0, -1, 0, 0, NAN},
        {"true", 0, 1, 0, 0, NAN},
        {"False", 0, 0, 0, 0, NAN},
        {"tRUE", 0, -1, 0, 0, NAN},
        {"~", 1, -1, 0, 0, NAN},
        {"null", 1, -1, 0, 0, NAN},
        {".inf", 0, -1, 0, 0, INFINITY},
        {"-.INF", 0, -1, 0, 0, -INFINITY},
        {"0o8", 0, -1, 0, 0, NAN},
        {"--1", 0, -1, 0, 0, NAN},
        {"9223372036854775807", 0, -1, 1, INT64_MAX, 9223372036854775807.0},
        {"9223372036854775808", 0, -1, 0, 0, 9223372036854775808.0},
    };
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        DpsError err = DPS_ERROR_INIT;
        DpsYamlDoc *doc;
        int boolean = -1;
        int64_t integer = 0;
        double number = NAN;
        CHECK_OK (dps_yaml_parse (words[i].word, strlen (words[i].word), "w", &doc, &err));
        CU_ASSERT_EQUAL (dps_yaml_is_null (doc->root), words[i].is_null);
        dps_yaml_bool (doc->root, &boolean);
        CU_ASSERT_EQUAL (boolean, words[i].boolean);
        CU_ASSERT_EQUAL (dps_yaml_int (doc->root, &integer), words[i].is_int);
        CU_ASSERT_EQUAL (integer, words[i].integer);
        dps_yaml_number (doc->root, &number);
        CU_ASSERT (isnan (words[i].number) ? isnan (number) : number == words[i].number);
        CHECK_STR (doc->root->text, words[i].word);
        dps_yaml_free (doc);
    }
}

/* What is unusual but right: byte order mark, CRLF, anchors, block scalars, comments, an empty file. */
static void test_accepted (void)
{
    DpsError err = DPS_ERROR_INIT;
    CHECK_OK (load ("\xef\xbb\xbfseed: 7 # comment\r\nlr: 1e-3\r\n", &err));
    CHECK_OK (load ("lora_target_modules: &m [q_proj, v_proj]\nlora_modules_to_save: *m\n", &err));
    CHECK_OK (load ("", &err));
    CHECK_OK (load ("# nothing\n", &err));
    CHECK_OK (load ("---\nrun_name: |\n  two\n  lines\n...\n", &err));
    CHECK_OK (load ("{\"seed\": 1, \"datasets\": [{\"path\": \"a.jsonl\"}]}\n", &err));
    CHECK_OK (load ("fp16: false\nload_in_4bit: null\npadding_free: true\n", &err));
    CHECK_OK (load ("eval_strategy: no\nsave_strategy: no\n", &err));
}

/* Every allocation may fail: an error or a whole document, and nothing is lost. */
static void test_allocation_failures (void)
{
    static const char text[] =
        "lr: 1e-3\ndatasets:\n  - &d {path: a, columns: {text: b}, fraction: 2}\n  - *d\nlora_target_modules: [a, b]\n"
        "lr_scheduler_kwargs: {num_cycles: 2}\nenv: {OMP_NUM_THREADS: 2}\nmetric_for_best_model: x\n";
    const char *sets[] = {"datasets[1].fraction=3", "seed=4", "env.A=b"};
    for (uint64_t k = 1; k < 2000; k++) {
        DpsError err = DPS_ERROR_INIT;
        DpsRecipe *r = NULL;
        int64_t before = dps_mem_live ();
        dps_mem_fail_at (k);
        DpsStatus st = dps_recipe_parse (text, sizeof text - 1, "r.yaml", NULL, sets, 3, &r, &err);
        uint64_t used = dps_mem_count ();
        dps_mem_fail_at (0);
        CU_ASSERT (st == DPS_OK ? r != NULL : r == NULL && st == DPS_ERR_NOMEM);
        if (st != DPS_OK && st != DPS_ERR_NOMEM)
            printf ("\n    k %d: %s", (int)k, err.msg);
        dps_recipe_free (r);
        CU_ASSERT_EQUAL (dps_mem_live (), before);
        if (used < k)
            return;
    }
    CU_FAIL ("never ran through");
}

CHECK_SUITE (run_all, "recipe.yaml", T (test_scalars), T (test_refused), T (test_large), T (test_accepted), T (test_allocation_failures))
int main (void)
{
    dps_json_init ();
    return run_all ();
}
