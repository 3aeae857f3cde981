/* SPDX-License-Identifier: Apache-2.0 */
#include "ckpt/peft_config.h"

#include "base/file.h"
#include "base/log.h"
#include "check.h"

static const char *const golden[] = {"lora/gemma3-lora",  "lora/gemma3-rslora", "lora/gemma3-dora",       "lora/llama-lora",
                                     "lora/llama-rslora", "lora/llama-dora",    "optim/lora-sft/initial", "optim/lora-simpo/initial"};

static int is_off (const json_t *v)
{
    return json_is_null (v) || json_is_false (v) || (json_is_object (v) && !json_object_size (v)) ||
           (json_is_array (v) && !json_array_size (v));
}

/* Read PEFT's file, write ours: every key of ours has PEFT's value, and what we leave out says nothing there. */
static void test_every_golden_file_comes_back (void)
{
    static const char *const left_out[] = {"megatron_core", "qalora_group_size"};
    for (size_t i = 0; i < sizeof golden / sizeof *golden; i++) {
        DpsError err = DPS_ERROR_INIT;
        DpsPeftConfig c, again;
        char path[300];
        const char *key;
        json_t *theirs, *ours, *v;
        snprintf (path, sizeof path, DPS_TEST_DATA "/parity/%s/adapter_config.json", golden[i]);
        CHECK_OK (dps_peft_config_read (path, &c, &err));
        CU_ASSERT (c.r == 4 && c.lora_alpha == 8 && c.targets.modules.n == 7);
        CU_ASSERT_EQUAL (c.use_dora, strstr (path, "dora") != NULL);
        CU_ASSERT_EQUAL (c.use_rslora, strstr (path, "rslora") != NULL);
        int64_t r;
        double scale;
        CHECK_OK (dps_peft_config_module (&c, "model.layers.0.mlp.up_proj", &r, &scale, &err));
        CHECK_NEAR (scale, c.use_rslora ? 4 : 2, 0);
        CHECK_OK (dps_json_file (path, 1 << 20, 0, &theirs, &err));
        ours = dps_peft_config_json (&c);
        json_object_foreach (ours, key, v) {
            const json_t *want = json_object_get (theirs, key);
            int equal = json_is_number (v) ? json_number_value (v) == json_number_value (want) : json_equal (v, want);
            if (!equal)
                printf ("\n    %s: '%s' differs", golden[i], key);
            CU_ASSERT (equal);
        }
        json_object_foreach (theirs, key, v) {
            int off = json_object_get (ours, key) || is_off (v) || !strcmp (key, left_out[0]) || !strcmp (key, left_out[1]);
            if (!off)
                printf ("\n    %s: '%s' is lost", golden[i], key);
            CU_ASSERT (off);
        }
        DpsBuf text = {0};
        CU_ASSERT_EQUAL (dps_json_write (&text, ours, 2), 0);
        CHECK_OK (dps_peft_config_parse (text.data, text.len, "ours", &again, &err));
        dps_peft_config_free (&again);
        dps_buf_free (&text);
        json_decref (theirs);
        json_decref (ours);
        dps_peft_config_free (&c);
    }
    CU_ASSERT_EQUAL (dps_mem_live (), 0);
}

#define KIND "\"peft_type\": \"LORA\", \"target_modules\": [\"q_proj\"]"

static void test_what_is_accepted (void)
{
    static const char *const cases[] = {
        "{" KIND "}",
        "{" KIND ", \"r\": 1, \"lora_alpha\": 0.5, \"lora_dropout\": 0.99}",
        "{" KIND ", \"r\": 65536}",
        "{" KIND ", \"bias\": \"none\", \"fan_in_fan_out\": false, \"lora_bias\": false, \"layer_replication\": null, "
        "\"alora_invocation_tokens\": []}",
        "{" KIND
        ", \"task_type\": null, \"auto_mapping\": {\"base_model_class\": \"X\", \"parent_library\": \"transformers.models.gemma3\"}}",
        "{" KIND ", \"base_model_name_or_path\": \"file:///etc/passwd\"}",
        "{" KIND ", \"base_model_name_or_path\": \"http://169.254.169.254/../../x\"}",
        "{" KIND ", \"base_model_name_or_path\": null, \"revision\": \"main\", \"init_lora_weights\": \"gaussian\"}",
        "{" KIND ", \"a_key_of_the_future\": 16}",
        "{" KIND ", \"layers_to_transform\": 3, \"layers_pattern\": \"layers\"}",
        "{" KIND ", \"layers_to_transform\": [0, 1], \"layers_pattern\": [\"layers\", \"h\"], \"exclude_modules\": \".*1.*\"}",
        "{" KIND ", \"modules_to_save\": [\"lm_head\"], \"rank_pattern\": {\"mlp\": 8}, \"alpha_pattern\": {\".*q_proj\": 0.5}}",
        "{" KIND ", \"task_type\": \"SEQ_CLS\", \"modules_to_save\": [\"score\"]}",
        "{\"peft_type\": \"LORA\", \"target_modules\": \"all-linear\"}",
        "{\"peft_type\": \"DIAPASON\", \"diapason_adapter\": \"odd\", \"diapason_args\": {\"mode\": \"up\"}, \"target_modules\": "
        "[\"q_proj\"]}",
        "{\"peft_type\": \"LORA\", \"target_modules\": \".*_proj\"}",
        "{\"peft_type\": \"LORA\", \"target_modules\": null, \"modules_to_save\": [\"lm_head\"]}",
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        DpsError err = DPS_ERROR_INIT;
        DpsPeftConfig c;
        CHECK_OK (dps_peft_config_parse (cases[i], strlen (cases[i]), "adapter_config.json", &c, &err));
        json_t *j = dps_peft_config_json (&c);
        CU_ASSERT_PTR_NOT_NULL (j);
        json_decref (j);
        dps_peft_config_free (&c);
    }
    CU_ASSERT_EQUAL (dps_mem_live (), 0);
}

static void test_hostile_files_are_refused_by_name (void)
{
    static const struct {
        const char *json, *text;
        DpsStatus code;
    } cases[] = {
        {"", "not valid JSON", DPS_ERR_FORMAT},
        {"\x80\x04\x95pickle", "not valid JSON", DPS_ERR_FORMAT},
        {"[]", "expected a JSON object", DPS_ERR_FORMAT},
        {"{}", "'peft_type': expected \"LORA\", found nothing", DPS_ERR_FORMAT},
        {"{\"peft_type\": \"IA3\"}", "found \"IA3\"", DPS_ERR_FORMAT},
        {"{\"peft_type\": 7}", "'peft_type'", DPS_ERR_FORMAT},
        {"{\"peft_type\": \"DIAPASON\"}", "'diapason_adapter': expected the name of an adapter plugin, found nothing", DPS_ERR_FORMAT},
        {"{\"peft_type\": \"DIAPASON\", \"diapason_adapter\": \"odd\", \"diapason_args\": [4]}", "'diapason_args': expected an object",
         DPS_ERR_FORMAT},
        {"{" KIND ", \"task_type\": \"TOKEN_CLS\"}", "'task_type'", DPS_ERR_FORMAT},
        {"{" KIND ", \"r\": 0}", "'r': expected a whole number from 1 to 65536, found 0", DPS_ERR_FORMAT},
        {"{" KIND ", \"r\": -4}", "found -4", DPS_ERR_FORMAT},
        {"{" KIND ", \"r\": 2147483648}", "found 2147483648", DPS_ERR_FORMAT},
        {"{" KIND ", \"r\": 9223372036854775807}", "'r'", DPS_ERR_FORMAT},
        {"{" KIND ", \"r\": 99999999999999999999}", "expected a whole number from 1 to 65536", DPS_ERR_FORMAT},
        {"{" KIND ", \"r\": 4.5}", "'r'", DPS_ERR_FORMAT},
        {"{" KIND ", \"r\": \"4\"}", "'r'", DPS_ERR_FORMAT},
        {"{" KIND ", \"r\": null}", "'r'", DPS_ERR_FORMAT},
        {"{" KIND ", \"lora_alpha\": NaN}", "not valid JSON", DPS_ERR_FORMAT},
        {"{" KIND ", \"lora_alpha\": 1e999}", "not valid JSON", DPS_ERR_FORMAT},
        {"{" KIND ", \"lora_alpha\": 0}", "'lora_alpha': expected a number above 0", DPS_ERR_FORMAT},
        {"{" KIND ", \"lora_alpha\": 1e308}", "expected a number above 0, at most 1e9, found 1e+308", DPS_ERR_FORMAT},
        {"{" KIND ", \"lora_alpha\": -1}", "'lora_alpha'", DPS_ERR_FORMAT},
        {"{" KIND ", \"lora_alpha\": null}", "'lora_alpha'", DPS_ERR_FORMAT},
        {"{" KIND ", \"lora_dropout\": 1}", "'lora_dropout'", DPS_ERR_FORMAT},
        {"{" KIND ", \"lora_dropout\": -0.1}", "'lora_dropout'", DPS_ERR_FORMAT},
        {"{" KIND ", \"use_dora\": 1}", "'use_dora': expected true or false, found 1", DPS_ERR_FORMAT},
        {"{" KIND ", \"use_rslora\": \"yes\"}", "'use_rslora'", DPS_ERR_FORMAT},
        {"{" KIND ", \"bias\": \"all\"}", "'bias' is \"all\", which is not implemented", DPS_ERR_UNSUPPORTED},
        {"{" KIND ", \"lora_bias\": true}", "'lora_bias'", DPS_ERR_UNSUPPORTED},
        {"{" KIND ", \"fan_in_fan_out\": true}", "'fan_in_fan_out'", DPS_ERR_UNSUPPORTED},
        {"{" KIND ", \"layer_replication\": [[0, 4]]}", "'layer_replication'", DPS_ERR_UNSUPPORTED},
        {"{" KIND ", \"trainable_token_indices\": [1]}", "'trainable_token_indices'", DPS_ERR_UNSUPPORTED},
        {"{" KIND ", \"target_parameters\": [\"x\"]}", "'target_parameters'", DPS_ERR_UNSUPPORTED},
        {"{" KIND ", \"use_qalora\": true}", "'use_qalora'", DPS_ERR_UNSUPPORTED},
        {"{" KIND ", \"init_lora_weights\": \"pissa_niter_16\"}", "'init_lora_weights' is 'pissa_niter_16'", DPS_ERR_UNSUPPORTED},
        {"{" KIND ", \"init_lora_weights\": \"olora\"}", "'init_lora_weights'", DPS_ERR_UNSUPPORTED},
        {"{" KIND ", \"auto_map\": {\"AutoModel\": \"evil.py--Model\"}}", "'auto_map'", DPS_ERR_POLICY},
        {"{" KIND ", \"auto_mapping\": {\"base_model_class\": \"X\", \"parent_library\": \"evil\"}}", "'auto_mapping'", DPS_ERR_POLICY},
        {"{" KIND ", \"auto_mapping\": \"os.system\"}", "'auto_mapping'", DPS_ERR_POLICY},
        {"{" KIND ", \"r\": 4, \"r\": 8}", "duplicate", DPS_ERR_FORMAT},
        {"{\"peft_type\": \"LORA\"}", "names no module", DPS_ERR_USAGE},
        {"{\"peft_type\": \"LORA\", \"target_modules\": []}", "names no module", DPS_ERR_USAGE},
        {"{\"peft_type\": \"LORA\", \"target_modules\": \"\"}", "'target_modules'", DPS_ERR_FORMAT},
        {"{\"peft_type\": \"LORA\", \"target_modules\": [1]}", "'target_modules'", DPS_ERR_FORMAT},
        {"{\"peft_type\": \"LORA\", \"target_modules\": [\"\"]}", "'target_modules'", DPS_ERR_FORMAT},
        {"{\"peft_type\": \"LORA\", \"target_modules\": [\"q\\u0000proj\"]}", "'target_modules'", DPS_ERR_FORMAT},
        {"{\"peft_type\": \"LORA\", \"target_modules\": {\"a\": 1}}", "'target_modules'", DPS_ERR_FORMAT},
        {"{\"peft_type\": \"LORA\", \"target_modules\": \"(a\"}", "'(a' is not a regular expression", DPS_ERR_USAGE},
        {"{" KIND ", \"exclude_modules\": \"*\"}", "regular expression", DPS_ERR_USAGE},
        {"{" KIND ", \"modules_to_save\": \"lm_head\"}", "'modules_to_save': expected a list of names", DPS_ERR_FORMAT},
        {"{" KIND ", \"layers_to_transform\": [-1]}", "'layers_to_transform'", DPS_ERR_FORMAT},
        {"{" KIND ", \"layers_to_transform\": \"all\"}", "'layers_to_transform'", DPS_ERR_FORMAT},
        {"{" KIND ", \"rank_pattern\": {\"q_proj\": 0}}", "rank_pattern: 'q_proj'", DPS_ERR_USAGE},
        {"{" KIND ", \"rank_pattern\": {\"q_proj\": 2147483648}}", "rank_pattern: 'q_proj'", DPS_ERR_USAGE},
        {"{" KIND ", \"rank_pattern\": {\"(\": 4}}", "regular expression", DPS_ERR_USAGE},
        {"{" KIND ", \"rank_pattern\": []}", "rank_pattern: expected an object", DPS_ERR_USAGE},
        {"{" KIND ", \"alpha_pattern\": {\"q_proj\": 0}}", "alpha_pattern: 'q_proj'", DPS_ERR_USAGE},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        DpsError err = DPS_ERROR_INIT;
        DpsPeftConfig c = {.r = 77};
        CHECK_FAILS (dps_peft_config_parse (cases[i].json, strlen (cases[i].json), "adapter_config.json", &c, &err), cases[i].code,
                     cases[i].text);
        CU_ASSERT_PTR_NOT_NULL (strstr (err.msg, "adapter_config.json"));
        CU_ASSERT_EQUAL (c.r, 77);
    }
    CU_ASSERT_EQUAL (dps_mem_live (), 0);
}

static char warning[300];
static void keep (void *ctx, int level, const char *line)
{
    (void)ctx;
    (void)level;
    snprintf (warning, sizeof warning, "%s", line);
}

static void test_an_unknown_key_is_warned_about (void)
{
    static const char text[] = "{" KIND ", \"a_key_of_the_future\": 16, \"another\": null}";
    DpsError err = DPS_ERROR_INIT;
    DpsPeftConfig c;
    dps_log_install (keep, NULL, DPS_LOG_WARNING);
    CHECK_OK (dps_peft_config_parse (text, sizeof text - 1, "here", &c, &err));
    dps_log_install (NULL, NULL, 0);
    CHECK_STR (warning, "here: 'a_key_of_the_future' is not known and not used");
    dps_peft_config_free (&c);
}

static void test_patterns_give_each_module_its_rank_and_scale (void)
{
    static const char text[] = "{" KIND ", \"r\": 8, \"lora_alpha\": 16, \"rank_pattern\": {\"layers.1.q_proj\": 4}, "
                               "\"alpha_pattern\": {\"layers\\\\.[12]\\\\.q_proj\": 4}, \"use_rslora\": true}";
    static const struct {
        const char *module;
        int64_t r;
        double scale;
    } want[] = {{"model.layers.0.q_proj", 8, 5.6568542494923806},
                {"model.layers.1.q_proj", 4, 2},
                {"model.layers.2.q_proj", 8, 1.4142135623730951}};
    DpsError err = DPS_ERROR_INIT;
    DpsPeftConfig c;
    CHECK_OK (dps_peft_config_parse (text, sizeof text - 1, "here", &c, &err));
    for (size_t i = 0; i < 3; i++) {
        int64_t r;
        double scale;
        CHECK_OK (dps_peft_config_module (&c, want[i].module, &r, &scale, &err));
        CU_ASSERT_EQUAL (r, want[i].r);
        CHECK_NEAR (scale, want[i].scale, 1e-15);
    }
    dps_peft_config_free (&c);
}

static void test_target_names_are_short_where_they_can_be (void)
{
    static const char *const adapted[] = {"model.layers.0.self_attn.q_proj", "model.layers.1.self_attn.q_proj",
                                          "model.layers.0.mlp.up_proj"};
    static const char *const others[] = {"model.layers.1.mlp.up_proj", "lm_head"};
    DpsError err = DPS_ERROR_INIT;
    const char **names;
    size_t n;
    CHECK_OK (dps_peft_target_names (&(DpsNames){adapted, 3}, &(DpsNames){others, 2}, &names, &n, &err));
    CU_ASSERT_EQUAL_FATAL (n, 2);
    CHECK_STR (names[0], "model.layers.0.mlp.up_proj");
    CHECK_STR (names[1], "q_proj");
    dps_free (names);
}

static void test_every_allocation_may_fail (void)
{
    static const char text[] =
        "{" KIND ", \"exclude_modules\": \".*1.*\", \"modules_to_save\": [\"lm_head\"], \"rank_pattern\": {\"mlp\": 8}}";
    for (uint64_t k = 1; k < 1000; k++) {
        DpsError err = DPS_ERROR_INIT;
        DpsPeftConfig c = {0};
        json_t *j = NULL;
        dps_mem_fail_at (k);
        DpsStatus st = dps_peft_config_parse (text, sizeof text - 1, "c", &c, &err);
        if (st == DPS_OK)
            j = dps_peft_config_json (&c);
        uint64_t used = dps_mem_count ();
        dps_mem_fail_at (0);
        int done = j != NULL;
        CU_ASSERT (done || st == DPS_ERR_NOMEM || st == DPS_OK);
        CU_ASSERT (!done || used < k || json_object_size (j) == 23);
        json_decref (j);
        dps_peft_config_free (&c);
        CU_ASSERT_EQUAL (dps_mem_live (), 0);
        if (done && used < k) {
            CU_ASSERT (k > 60);
            return;
        }
    }
}

static void test_init (void) { dps_json_init (); }

CHECK_MAIN ("ckpt.peft_config", T (test_init), T (test_every_golden_file_comes_back), T (test_what_is_accepted),
            T (test_hostile_files_are_refused_by_name), T (test_an_unknown_key_is_warned_about),
            T (test_patterns_give_each_module_its_rank_and_scale), T (test_target_names_are_short_where_they_can_be),
            T (test_every_allocation_may_fail))
