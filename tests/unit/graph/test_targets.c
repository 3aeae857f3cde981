/* SPDX-License-Identifier: Apache-2.0 */
#include "graph/targets.h"

#include <time.h>

#include "check.h"

enum { MAX_NAMES = 16 };

static DpsNames names_of (const json_t *list, const char **room)
{
    size_t n = json_array_size (list);
    for (size_t i = 0; i < n; i++)
        room[i] = json_string_value (json_array_get (list, i));
    return (DpsNames){room, n};
}

/* Every path against every setting that PEFT was asked about. */
static void test_every_choice_of_peft (void)
{
    DpsError err = DPS_ERROR_INIT;
    json_t *golden, *c, *p;
    size_t i, k, n_checked = 0;
    CHECK_OK (dps_json_file (DPS_TEST_DATA "/graph/targets.json", 1 << 20, 0, &golden, &err));
    json_array_foreach (json_object_get (golden, "specs"), i, c) {
        const char *room[4][MAX_NAMES];
        int64_t layers[MAX_NAMES];
        json_t *spec = json_object_get (c, "spec"), *modules = json_object_get (spec, "target_modules");
        json_t *exclude = json_object_get (spec, "exclude_modules"), *numbers = json_object_get (spec, "layers_to_transform");
        DpsTargetSpec s = {.modules = names_of (modules, room[0]),
                           .pattern = json_string_value (modules),
                           .exclude = names_of (exclude, room[1]),
                           .exclude_pattern = json_string_value (exclude),
                           .modules_to_save = names_of (json_object_get (spec, "modules_to_save"), room[2]),
                           .layers = layers,
                           .n_layers = json_array_size (numbers),
                           .layers_pattern = names_of (json_object_get (spec, "layers_pattern"), room[3])};
        for (k = 0; k < s.n_layers; k++)
            layers[k] = json_integer_value (json_array_get (numbers, k));
        DpsTargets *t;
        CHECK_OK (dps_targets_new (&s, &t, &err));
        json_array_foreach (json_object_get (golden, "paths"), k, p) {
            int want = 0;
            size_t m;
            json_t *hit;
            json_array_foreach (json_object_get (c, "matched"), m, hit)
                want |= json_equal (hit, p);
            int got = dps_targets_match (t, json_string_value (p));
            if (got != want)
                printf ("\n    spec %zu, %s: got %d, PEFT %d", i, json_string_value (p), got, want);
            CU_ASSERT_EQUAL (got, want);
            n_checked++;
        }
        dps_targets_free (t);
    }
    CU_ASSERT (n_checked > 900);
    json_decref (golden);
    CU_ASSERT_EQUAL (dps_mem_live (), 0);
}

static void test_every_pattern_value_of_peft (void)
{
    DpsError err = DPS_ERROR_INIT;
    json_t *golden, *c, *p;
    size_t i, k;
    CHECK_OK (dps_json_file (DPS_TEST_DATA "/graph/targets.json", 1 << 20, 0, &golden, &err));
    json_array_foreach (json_object_get (golden, "patterns"), i, c) {
        DpsPatternMap *m;
        CHECK_OK (dps_pattern_map_new (json_object_get (c, "pattern"), "rank_pattern", 1, 100, &m, &err));
        json_array_foreach (json_object_get (golden, "paths"), k, p)
            CHECK_NEAR (dps_pattern_map_get (m, json_string_value (p), 1),
                        json_number_value (json_array_get (json_object_get (c, "values"), k)), 0);
        dps_pattern_map_free (m);
    }
    CHECK_NEAR (dps_pattern_map_get (NULL, "a.b", 7), 7, 0);
    json_decref (golden);
    CU_ASSERT_EQUAL (dps_mem_live (), 0);
}

static void test_all_linear_leaves_the_head_alone (void)
{
    static const char *const spellings[] = {"all", "all-linear", "All-Linear"};
    for (size_t i = 0; i < 3; i++) {
        DpsError err = DPS_ERROR_INIT;
        DpsTargets *t;
        CHECK_OK (dps_targets_from_text (spellings[i], &(DpsTargetSpec){0}, &t, &err));
        CU_ASSERT (dps_targets_match (t, "model.layers.0.mlp.down_proj"));
        CU_ASSERT (dps_targets_match (t, "model.layers.0.self_attn.q_proj"));
        CU_ASSERT (!dps_targets_match (t, "lm_head"));
        CU_ASSERT (!dps_targets_match (t, "model.lm_head"));
        CU_ASSERT (!dps_targets_match (t, "model.embed_tokens"));
        CHECK_OK (dps_targets_check (t, &err));
        dps_targets_free (t);
    }
}

static void test_text_is_names_or_an_expression (void)
{
    DpsError err = DPS_ERROR_INIT;
    DpsTargets *t;
    CHECK_OK (dps_targets_from_text ("q_proj, mlp.down_proj", &(DpsTargetSpec){0}, &t, &err));
    CU_ASSERT (dps_targets_match (t, "model.layers.0.self_attn.q_proj"));
    CU_ASSERT (dps_targets_match (t, "model.layers.0.mlp.down_proj"));
    CU_ASSERT (!dps_targets_match (t, "model.layers.0.mlp.up_proj"));
    CHECK_OK (dps_targets_check (t, &err));
    dps_targets_free (t);
    CHECK_OK (dps_targets_from_text (".*[qv]_proj", &(DpsTargetSpec){.where = "r.yaml:3"}, &t, &err));
    CU_ASSERT (dps_targets_match (t, "model.layers.0.self_attn.v_proj"));
    dps_targets_free (t);
}

static void test_nothing_matched_is_an_error (void)
{
    static const struct {
        const char *text, *message;
    } cases[] = {
        {"q_porj", "'q_porj' matches no linear map"},
        {"q_proj,q_porj", "'q_porj' matches no linear map"},
        {"q_proj,embed_tokens",
         "'embed_tokens' matches no linear map of this model. Hint: an adapter goes on linear maps alone: name it in "
         "lora_modules_to_save"},
        {"q_(proj)", "must match the whole path"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        DpsError err = DPS_ERROR_INIT;
        DpsTargets *t;
        CHECK_OK (dps_targets_from_text (cases[i].text, &(DpsTargetSpec){.where = "r.yaml:3"}, &t, &err));
        dps_targets_match (t, "model.layers.0.self_attn.q_proj");
        CHECK_FAILS (dps_targets_check (t, &err), DPS_ERR_USAGE, cases[i].message);
        CU_ASSERT_PTR_NOT_NULL (strstr (err.msg, "r.yaml:3"));
        dps_targets_free (t);
    }
}

static void test_bad_settings_are_refused (void)
{
    static char endless[5000];
    static const char *const empty[] = {""};
    const int64_t layer = 1;
    memset (endless, 'a', sizeof endless - 1);
    const struct {
        DpsTargetSpec s;
        DpsStatus code;
        const char *text;
    } cases[] = {
        {{.pattern = NULL}, DPS_ERR_USAGE, "names no module"},
        {{.pattern = "a(b"}, DPS_ERR_USAGE, "at character 4: missing closing parenthesis"},
        {{.pattern = "a{70000}"}, DPS_ERR_USAGE, "not a regular expression"},
        {{.pattern = endless}, DPS_ERR_LIMIT, "4999 bytes"},
        {{.pattern = "\xff"}, DPS_ERR_USAGE, "not a regular expression"},
        {{.pattern = "a", .all_linear = 1}, DPS_ERR_USAGE, "not several"},
        {{.all_linear = 1, .exclude_pattern = "*"}, DPS_ERR_USAGE, "not a regular expression"},
        {{.modules = {empty, 1}}, DPS_ERR_USAGE, "empty name"},
        {{.modules = {(const char *[]){endless}, 1}}, DPS_ERR_LIMIT, "4999 bytes"},
        {{.all_linear = 1, .layers = &layer, .n_layers = 1}, DPS_ERR_USAGE, "layers_to_transform"},
        {{.modules = {empty, 1u << 20}}, DPS_ERR_LIMIT, "1048576 names"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        DpsError err = DPS_ERROR_INIT;
        DpsTargets *t = NULL;
        CHECK_FAILS (dps_targets_new (&cases[i].s, &t, &err), cases[i].code, cases[i].text);
        CU_ASSERT_PTR_NULL (t);
    }
    CU_ASSERT_EQUAL (dps_mem_live (), 0);
}

static void test_hostile_expressions_end_soon (void)
{
    static const char *const patterns[] = {"(a+)+$b",      "((a*)*)*c", "(?:(?:a|a)+)+d",  "(a|aa)+e",
                                           "(?=(a+)+f).*", "(?R)*a",    "(a?){200}a{200}g"};
    char path[600];
    memset (path, 'a', sizeof path - 1);
    path[sizeof path - 1] = '\0';
    for (size_t i = 0; i < sizeof patterns / sizeof *patterns; i++) {
        DpsError err = DPS_ERROR_INIT;
        DpsTargets *t = NULL;
        clock_t start = clock ();
        if (dps_targets_new (&(DpsTargetSpec){.pattern = patterns[i]}, &t, &err) == DPS_OK) {
            CU_ASSERT (!dps_targets_match (t, path));
            CU_ASSERT (dps_targets_check (t, &err) != DPS_OK);
        }
        CU_ASSERT ((clock () - start) < CLOCKS_PER_SEC / 2);
        dps_targets_free (t);
    }
}

static void test_bad_pattern_maps_are_refused (void)
{
    static const struct {
        const char *json, *text;
    } cases[] = {
        {"[]", "expected an object"},         {"{\"q_proj\": 0}", "'q_proj': expected a number from 1 to 100"},
        {"{\"q_proj\": 101}", "'q_proj'"},    {"{\"q_proj\": \"8\"}", "'q_proj'"},
        {"{\"(\": 4}", "regular expression"}, {"{\"q_proj\": 4, \"v\": null}", "'v'"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        DpsError err = DPS_ERROR_INIT;
        DpsPatternMap *m = NULL;
        json_t *j = json_loads (cases[i].json, 0, NULL);
        CHECK_FAILS (dps_pattern_map_new (j, "adapter_config.json: rank_pattern", 1, 100, &m, &err), DPS_ERR_USAGE, cases[i].text);
        json_decref (j);
    }
    CU_ASSERT_EQUAL (dps_mem_live (), 0);
}

/* A list of names beside a list of layers: the work is their sum for each path, not their product. */
static void test_long_lists_end_soon (void)
{
    enum { N = 4000, PATHS = 300 };
    static const char *names[N];
    static int64_t layers[N];
    DpsError err = DPS_ERROR_INIT;
    DpsTargets *t;
    struct timespec start, end;
    for (int i = 0; i < N; i++) {
        names[i] = "q_proj";
        layers[i] = i ? 1000 + i : 7;
    }
    DpsTargetSpec s = {.modules = {names, N}, .layers = layers, .n_layers = N};
    CHECK_OK (dps_targets_new (&s, &t, &err));
    clock_gettime (CLOCK_PROCESS_CPUTIME_ID, &start);
    for (int i = 0; i < PATHS; i++) {
        char path[100];
        snprintf (path, sizeof path, "model.layers.%d.self_attn.q_proj", i);
        CU_ASSERT_EQUAL (dps_targets_match (t, path), i == 7);
    }
    clock_gettime (CLOCK_PROCESS_CPUTIME_ID, &end);
    CU_ASSERT (end.tv_sec - start.tv_sec < 2);
    dps_targets_free (t);
}

/* Thousands of expressions, each within what one may take, are not allowed thousands of times that. */
static void test_many_patterns_end_soon (void)
{
    enum { N = 4000, PATHS = 20 };
    DpsError err = DPS_ERROR_INIT;
    DpsPatternMap *m;
    json_t *object = json_object ();
    struct timespec start, end;
    for (int i = 0; i < N; i++) {
        char key[100];
        snprintf (key, sizeof key, "[a-z._0-9]*[a-z._0-9]*[a-z._0-9]*[a-z._0-9]*[!?](?#%d)", i);
        json_object_set_new (object, key, json_integer (4));
    }
    CHECK_OK (dps_pattern_map_new (object, "rank_pattern", 1, 100, &m, &err));
    clock_gettime (CLOCK_PROCESS_CPUTIME_ID, &start);
    for (int i = 0; i < PATHS; i++)
        dps_pattern_map_get (m, "model.layers.10.self_attn.q_proj", 8);
    clock_gettime (CLOCK_PROCESS_CPUTIME_ID, &end);
    CU_ASSERT (end.tv_sec - start.tv_sec < 2);
    dps_pattern_map_free (m);
    json_decref (object);
    object = json_pack ("{s:i, s:i}", "layers.3.self_attn.q_proj", 2, ".*_proj", 3);
    CHECK_OK (dps_pattern_map_new (object, "rank_pattern", 1, 100, &m, &err));
    CU_ASSERT (dps_pattern_map_get (m, "model.layers.3.self_attn.q_proj", 8) == 2);
    CU_ASSERT (dps_pattern_map_get (m, "model.layers.4.self_attn.q_proj", 8) == 3);
    dps_pattern_map_free (m);
    json_decref (object);
}

static void test_every_allocation_may_fail (void)
{
    static const char *const names[] = {"q_proj", "k_proj"};
    DpsTargetSpec s = {.modules = {names, 2}, .exclude = {names, 1}, .modules_to_save = {names, 2}, .exclude_pattern = "x+"};
    for (uint64_t k = 1;; k++) {
        DpsError err = DPS_ERROR_INIT;
        DpsTargets *t = NULL;
        dps_mem_fail_at (k);
        DpsStatus st = dps_targets_new (&s, &t, &err);
        dps_mem_fail_at (0);
        dps_targets_free (t);
        CU_ASSERT_EQUAL (dps_mem_live (), 0);
        if (st == DPS_OK) {
            CU_ASSERT (k > 10);
            break;
        }
        CU_ASSERT_EQUAL_FATAL (st, DPS_ERR_NOMEM);
    }
}

CHECK_MAIN ("graph.targets", T (test_every_choice_of_peft), T (test_every_pattern_value_of_peft), T (test_all_linear_leaves_the_head_alone),
            T (test_text_is_names_or_an_expression), T (test_nothing_matched_is_an_error), T (test_bad_settings_are_refused),
            T (test_hostile_expressions_end_soon), T (test_long_lists_end_soon), T (test_many_patterns_end_soon),
            T (test_bad_pattern_maps_are_refused), T (test_every_allocation_may_fail))
