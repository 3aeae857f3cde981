/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rewards.c: names, weights and order of criteria; what a recipe's mistakes are told; a reward that fails, times out, lies or runs out of memory
 * costs its rows, is counted and logged ever more rarely, and leaves the others' values alone.
 */
#include "objective/rewards.h"

#include "base/log.h"
#include "base/mem.h"
#include "check.h"

static DpsError err = DPS_ERROR_INIT;
static DpsRegistry *reg;

/* A reward of the host with two criteria that does to each row what its completion says. */

static const char *const criteria[] = {"tone", "facts"};
static const DpsParam bias = {sizeof bias, "bias", DPS_PARAM_F64, 0, 0.5, -10, 10, NULL, "added"};
static const DpsParam *const params[] = {&bias};
static const DpsRewardInfo info = {sizeof info, "panel", "says what it is told", params, 1, 2, criteria};
static DpsStatus answer_with; /* what score returns */
static int n_open;

static const DpsRewardInfo *describe (void) { return &info; }
static DpsStatus never (const double *num, const DpsStr *str, void **out, DpsError *e)
{
    (void)num, (void)str, (void)out;
    return dps_fail (e, DPS_ERR_INTERNAL, "the host's own open was not called");
}
static DpsStatus open_panel (const DpsRegistry *r, const double *num, const DpsStr *str, void **out, DpsError *e)
{
    static double kept;
    (void)str;
    if (r != reg || num[0] == -9)
        return dps_fail (e, DPS_ERR_INVALID, "no panel of %g", num[0]);
    kept = num[0];
    *out = &kept;
    n_open++;
    return DPS_OK;
}
static void close_panel (void *self) { n_open -= self != NULL; }
static DpsStatus score_panel (void *self, const DpsRewardRow *const *rows, uint64_t n_rows, int64_t deadline_ms, double *value,
                              uint32_t *status, double *const *token_values, DpsError *e)
{
    (void)deadline_ms, (void)token_values;
    if (answer_with != DPS_OK)
        return dps_fail (e, answer_with, "the panel is out");
    for (uint64_t i = 0; i < n_rows; i++) {
        char what = rows[i]->completion.len ? rows[i]->completion.ptr[0] : ' ';
        value[2 * i] = *(double *)self + (double)i;
        value[2 * i + 1] = what == 'i' ? INFINITY : what == 'n' ? NAN : what == 'h' ? -1e308 : 10;
        status[2 * i] = DPS_SCORE_OK;
        status[2 * i + 1] = what == 'f'   ? DPS_SCORE_FAILED
                            : what == 't' ? DPS_SCORE_TIMEOUT
                            : what == '-' ? DPS_SCORE_NOT_JUDGED
                            : what == '?' ? 12345
                                          : DPS_SCORE_OK;
    }
    return DPS_OK;
}
/* A byte a token, and one that was asked for is told apart. */
static uint64_t reserved;
static DpsStatus plan_panel (void *self, uint64_t tokens, int reserve, uint64_t *out_bytes, DpsError *e)
{
    (void)self, (void)e;
    reserved = reserve ? tokens : reserved;
    *out_bytes = tokens;
    return DPS_OK;
}

static const DpsHostReward panel = {
    .table = {sizeof (DpsReward), describe, never, score_panel, close_panel}, .open = open_panel, .plan = plan_panel};

static int n_lines;
static char last_line[400];
static void sink (void *ctx, int level, const char *line)
{
    (void)ctx;
    n_lines += level == DPS_LOG_WARNING;
    snprintf (last_line, sizeof last_line, "%s", line);
}

static void test_open_registry (void)
{
    const char *folders[] = {DPS_BUILD "/lib/diapason/plugins"};
    CHECK_OK (dps_registry_open (&(DpsRegistryOptions){.folders = folders, .n_folders = 1}, &reg, &err));
    CHECK_OK (dps_rewards_provide (&panel, &err));
    CHECK_OK (dps_rewards_provide (&panel, &err)); /* the same again replaces */
}

static DpsStatus open_set (const char *text, DpsRecipe **recipe, DpsRewardSet **set)
{
    *set = NULL;
    *recipe = NULL;
    DpsStatus st = dps_recipe_parse (text, strlen (text), "r.yaml", NULL, NULL, 0, recipe, &err);
    return st == DPS_OK ? dps_rewards_open (reg, *recipe, set, &err) : st;
}

static void test_names_and_weights (void)
{
    static const struct {
        const char *text;
        size_t n;
        const char *names[8];
        double weights[8];
    } cases[] = {
        {"reward_funcs: {name: length, max: 9}", 1, {"length"}, {1}},
        {"reward_funcs: [{name: length, max: 9}, panel, {name: length, min: 2, weight: -3}]\n",
         4,
         {"length", "tone", "facts", "length_2"},
         {1, 1, 1, -3}},
        {"reward_funcs: [{name: panel, label: us, weight: 2}, {name: length, max: 9, label: short}, {name: panel, label: us}]",
         5,
         {"us.tone", "us.facts", "short", "us.tone_2", "us.facts_2"},
         {2, 2, 1, 1, 1}},
        {"reward_funcs: [panel, {name: length, max: 9}]\nreward_weights: [3, 4]", 3, {"tone", "facts", "length"}, {3, 3, 4}},
        {"reward_funcs: [panel, {name: length, max: 9}]\nreward_weights: [3, 4, 0.5]", 3, {"tone", "facts", "length"}, {3, 4, 0.5}},
        {"reward_func: {name: length, max: 9}\nreward_weights: 7", 1, {"length"}, {7}},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        DpsRecipe *recipe;
        DpsRewardSet *set;
        const DpsStr *names;
        const double *weights;
        size_t n;
        CHECK_OK (open_set (cases[i].text, &recipe, &set));
        dps_rewards_criteria (set, &names, &weights, &n);
        CU_ASSERT_EQUAL_FATAL (n, cases[i].n);
        for (size_t c = 0; c < n; c++) {
            CHECK_STR (names[c].ptr, cases[i].names[c]);
            CU_ASSERT_EQUAL (weights[c], cases[i].weights[c]);
        }
        dps_rewards_close (set);
        dps_recipe_free (recipe);
        CU_ASSERT_EQUAL (n_open, 0);
    }
}

/* Only the host's rewards are asked, each for itself. */
static void test_what_rewards_need (void)
{
    DpsRecipe *recipe;
    DpsRewardSet *set;
    uint64_t bytes = 1;
    CHECK_OK (dps_rewards_plan (NULL, 100, 0, &bytes, &err));
    CU_ASSERT_EQUAL (bytes, 0);
    CHECK_OK (open_set ("reward_funcs: [panel, {name: length, max: 9}, panel]", &recipe, &set));
    CHECK_OK (dps_rewards_plan (set, 100, 0, &bytes, &err));
    CU_ASSERT (bytes == 200 && reserved == 0);
    CHECK_OK (dps_rewards_plan (set, 70, 1, &bytes, &err));
    CU_ASSERT (bytes == 140 && reserved == 70);
    dps_rewards_close (set);
    dps_recipe_free (recipe);
}

static void test_refusals (void)
{
    static const char *const cases[][2] = {
        {"seed: 1\nreward_funcs:\n  - {name: length, max: 3}\n  - lenght", "r.yaml:4:5: no reward 'lenght'; did you mean 'length'?"},
        {"reward_funcs: [panle]", "did you mean 'panel'?"},
        {"reward_funcs:\n  - name: length\n    mix: 3", "r.yaml:3:5: 'mix' is not a parameter of reward length; did you mean"},
        {"reward_funcs:\n  - name: length\n    max: many", "r.yaml:3:5: max is 'many', expected a whole number"},
        {"reward_funcs:\n  - name: length\n    max: [3]", "max is '[3]', expected a whole number"},
        {"reward_funcs:\n  - length", "r.yaml:2:5: reward length: neither min nor max is given"},
        {"reward_funcs: [{name: panel, bias: -9}]", "reward panel: no panel of -9"},
        {"reward_funcs: [{weight: 2}]", "a reward has no name"},
        {"reward_funcs: [{name: panel, weight: big}]", "expected a number, found"},
        {"reward_funcs: [{name: panel, weight: .inf}]", "expected a number, found"},
        {"reward_funcs: [{name: panel, weight: -1e300}]", "r.yaml:1:16: reward panel has the weight -1e+300, expected -1e38 to 1e38"},
        {"reward_funcs: [{name: panel, label: 'a b'}]", "expected a name of at most 40 letters"},
        {"reward_funcs: [[panel]]", "expected a reward's name, or a map"},
        {"reward_funcs: [null]", "expected a reward's name, or a map"},
        {"reward_funcs: [panel]\nreward_weights: [1, 2, 3]", "r.yaml:2:1: 3 reward_weights for 1 rewards with 2 criteria"},
        {"reward_funcs: [{name: panel, weight: 1}]\nreward_weights: [1]", "has a weight, and reward_weights (r.yaml:2:1) gives one too"},
        {"reward_weights: [1]", "r.yaml:1:1: reward_weights: is given, but no reward_funcs"},
        {"reward_weights: [one]", "expected a number, or a list of numbers"},
        {"reward_funcs: [{name: panel, label: abcdefghijabcdefghijabcdefghijabcdefghij}, {name: panel, label: "
         "abcdefghijabcdefghijabcdefghijabcdefghij}]",
         ""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        DpsRecipe *recipe;
        DpsRewardSet *set;
        if (*cases[i][1])
            CHECK_FAILS (open_set (cases[i][0], &recipe, &set), DPS_ERR_USAGE, cases[i][1]);
        else
            CHECK_FAILS (open_set (cases[i][0], &recipe, &set), DPS_ERR_USAGE, "Hint: give the reward a shorter label");
        CU_ASSERT_PTR_NULL (set);
        dps_recipe_free (recipe);
        CU_ASSERT_EQUAL (n_open, 0);
    }
    DpsRecipe *recipe;
    DpsRewardSet *set;
    CHECK_OK (open_set ("seed: 1", &recipe, &set));
    CU_ASSERT_PTR_NULL (set);
    dps_recipe_free (recipe);
}

static int whole; /* an answer that one reward failed on is judged by none */

/* n rows with these completions, tokens 3, 4, 5 … */
static DpsStatus judge (DpsRewardSet *set, const char *const *completions, size_t n, double *values, DpsRewardCounts *counts)
{
    DpsRewardRow rows[8];
    const DpsRewardRow *at[8];
    for (size_t i = 0; i < n; i++) {
        rows[i] = (DpsRewardRow){.size = sizeof *rows, .completion = dps_str (completions[i]), .n_completion_ids = 3 + i};
        at[i] = &rows[i];
    }
    return dps_rewards_score (set, at, n, whole, values, counts, &err);
}

static void test_a_failure_costs_its_row (void)
{
    static const char *const completions[] = {"x", "f", "t", "-", "n", "i", "?", "h"};
    DpsRecipe *recipe;
    DpsRewardSet *set;
    DpsRewardCounts c;
    double v[24];
    CHECK_OK (open_set ("reward_funcs: [{name: panel, bias: 1}, {name: length, min: 5, max: 6}]", &recipe, &set));
    CHECK_OK (judge (set, completions, 8, v, &c));
    for (size_t i = 0; i < 8; i++) {
        CU_ASSERT_EQUAL (v[3 * i], 1 + (double)i);
        CU_ASSERT (i == 0 ? v[1] == 10 : isnan (v[3 * i + 1]) != 0);
        CU_ASSERT_EQUAL (v[3 * i + 2], i == 2 || i == 3);
    }
    CU_ASSERT (c.judged == 17 && c.failed == 5 && c.timed_out == 1 && c.not_judged == 1);
    /* To learn from: such an answer is judged by nobody; one that was passed over is. */
    whole = 1;
    CHECK_OK (judge (set, completions, 8, v, &c));
    whole = 0;
    for (size_t i = 0; i < 8; i++)
        for (size_t k = 0; k < 3; k++)
            CU_ASSERT_EQUAL (isnan (v[3 * i + k]) != 0, i == 3 ? k == 1 : i != 0);
    CU_ASSERT (c.judged == 17 && c.failed == 5 && c.timed_out == 1 && c.not_judged == 1);
    /* The whole reward fails: its rows are lost, the other's are not. */
    static const struct {
        DpsStatus st;
        uint64_t failed, timed_out;
    } codes[] = {{DPS_ERR_IO, 4, 0}, {DPS_ERR_DEVICE, 4, 0}, {DPS_ERR_TIMEOUT, 0, 4}, {DPS_ERR_INTERNAL, 4, 0}};
    for (size_t k = 0; k < sizeof codes / sizeof *codes; k++) {
        answer_with = codes[k].st;
        CHECK_OK (judge (set, completions, 2, v, &c));
        CU_ASSERT (isnan (v[0]) && isnan (v[1]) && v[2] == 0 && isnan (v[3]) && isnan (v[4]) && v[5] == 0);
        CU_ASSERT (c.failed == codes[k].failed && c.timed_out == codes[k].timed_out && c.judged == 2);
    }
    answer_with = DPS_ERR_NOMEM;
    CHECK_FAILS (judge (set, completions, 2, v, &c), DPS_ERR_NOMEM, "reward panel: the panel is out");
    answer_with = DPS_OK;
    CU_ASSERT_EQUAL (dps_rewards_counts (set).failed, 2 * 5 + 12);
    CHECK_OK (judge (set, completions, 0, v, &c));
    CU_ASSERT_EQUAL (c.judged, 0);
    dps_rewards_close (set);
    dps_recipe_free (recipe);
}

static void test_the_log_speaks_ever_more_rarely (void)
{
    static const char *const completions[] = {"f"};
    DpsRecipe *recipe;
    DpsRewardSet *set;
    double v[2];
    CHECK_OK (open_set ("reward_funcs: [{name: panel, label: us}]", &recipe, &set));
    dps_log_install (sink, NULL, DPS_LOG_WARNING);
    for (int i = 0; i < 1000; i++)
        CHECK_OK (judge (set, completions, 1, v, NULL));
    CU_ASSERT_EQUAL (n_lines, 10); /* 1, 2, 4 … 512 */
    CU_ASSERT_PTR_NOT_NULL (strstr (last_line, "reward us: 512 answers could not be judged so far"));
    answer_with = DPS_ERR_IO;
    for (int i = 0; i < 12; i++)
        CHECK_OK (judge (set, completions, 1, v, NULL));
    CU_ASSERT_PTR_NOT_NULL (
        strstr (last_line, "1024 answers could not be judged so far (in this call 2 failed, 0 timed out): the panel is out"));
    answer_with = DPS_OK;
    dps_log_install (NULL, NULL, 0);
    dps_rewards_close (set);
    dps_recipe_free (recipe);
}

static void test_every_allocation_may_fail (void)
{
    static const char *const completions[] = {"x", "y"};
    dps_json_init ();
    int done = 0;
    for (uint64_t k = 1; !done && k < 3000; k++) {
        int64_t live = dps_mem_live ();
        DpsRecipe *recipe;
        DpsRewardSet *set;
        double v[6];
        dps_mem_fail_at (k);
        DpsStatus st = open_set ("reward_funcs: [panel, {name: length, min: 5, label: l}]\nreward_weights: [1, 2]", &recipe, &set);
        if (st == DPS_OK)
            st = judge (set, completions, 2, v, NULL);
        done = dps_mem_count () < k;
        dps_mem_fail_at (0);
        dps_rewards_close (set);
        dps_recipe_free (recipe);
        CU_ASSERT_EQUAL (st, done ? DPS_OK : DPS_ERR_NOMEM);
        CU_ASSERT_EQUAL (dps_mem_live (), live);
    }
    CU_ASSERT (done);
}

static void test_close_registry (void) { dps_registry_close (reg); }

CHECK_MAIN ("objective.rewards", T (test_open_registry), T (test_names_and_weights), T (test_what_rewards_need), T (test_refusals),
            T (test_a_failure_costs_its_row), T (test_the_log_speaks_ever_more_rarely), T (test_every_allocation_may_fail),
            T (test_close_registry))
