/* SPDX-License-Identifier: Apache-2.0 */
/*
 * reward_kit.h: a reward plugin's sources linked into its test, opened with parameters as a recipe gives them, and what every reward is put
 * through: hostile answers, failed allocations.
 */
#ifndef DPS_TESTS_REWARD_KIT_H
#define DPS_TESTS_REWARD_KIT_H

#include <stdlib.h>

#include "base/judge.h"
#include "base/mem.h"
#include "check.h"
#include "diapason/diapason.h"
#include "objective/rewards.h"

extern const DpsPluginEntry dps_plugin_entry;

static inline const DpsReward *kit_reward (void) { return dps_plugin_entry.get_interface (dps_str (DPS_REWARD_ID)); }

/** Parameters in YAML flow, "min: 1, max: 3", given as the recipe would give them. */
static inline DpsStatus kit_reward_try (const char *args, void **out, DpsError *err)
{
    DpsRecipe *recipe = NULL;
    const DpsRewardInfo *info = kit_reward ()->describe ();
    double num[DPS_PARAMS_MAX];
    DpsStr str[DPS_PARAMS_MAX];
    char *text = dps_strf ("reward_funcs: [{name: %s%s%s}]", info->name, *args ? ", " : "", args);
    *out = NULL;
    if (!text)
        return dps_fail (err, DPS_ERR_NOMEM, "kit: out of memory");
    DpsStatus st = dps_recipe_parse (text, strlen (text), "recipe", NULL, NULL, 0, &recipe, err);
    dps_free (text);
    DpsRewardArgs lookup = {.recipe = recipe};
    if (st == DPS_OK)
        st = dps_recipe_reward_known (recipe, 0, info->params, info->n_params, err);
    if (st == DPS_OK)
        st = dps_params_resolve (info->name, info->params, info->n_params, dps_recipe_reward_param, &lookup, num, str, err);
    if (st == DPS_OK && lookup.nomem)
        st = dps_fail (err, DPS_ERR_NOMEM, "kit: out of memory");
    if (st == DPS_OK)
        st = kit_reward ()->open (num, str, out, err);
    dps_recipe_reward_args_clear (&lookup);
    dps_recipe_free (recipe);
    return st;
}

static inline void *kit_reward_open (const char *args)
{
    DpsError err = DPS_ERROR_INIT;
    void *self;
    CHECK_OK (kit_reward_try (args, &self, &err));
    return self;
}

/** The parameters are refused with this text; a place is named when the recipe's checks refuse, before the plugin's. */
static inline void kit_reward_refuses (const char *args, const char *text)
{
    DpsError err = DPS_ERROR_INIT;
    void *self;
    DpsStatus st = kit_reward_try (args, &self, &err);
    if ((st != DPS_ERR_USAGE && st != DPS_ERR_INVALID) || !strstr (err.msg, text))
        printf ("\n    {%s}: got %s \"%s\", expected \"%s\"\n", args, dps_status_name (st), err.msg, text);
    CU_ASSERT (st == DPS_ERR_USAGE || st == DPS_ERR_INVALID);
    CU_ASSERT_PTR_NOT_NULL (strstr (err.msg, text));
}

/** len 0: strlen (completion). */
typedef struct KitAnswer {
    const char *completion;
    size_t len;
    const char *prompt, *columns;
    uint64_t n_tokens;
} KitAnswer;

/** One answer; *status as the reward set it. NaN where it is not OK. */
static inline double kit_reward_status (void *self, const KitAnswer *a, uint32_t *status)
{
    const DpsRewardRow row = {.size = sizeof row,
                              .prompt = dps_str (a->prompt ? a->prompt : ""),
                              .completion = {a->completion, a->len ? a->len : strlen (a->completion)},
                              .columns = dps_str (a->columns ? a->columns : "{}"),
                              .n_completion_ids = a->n_tokens};
    const DpsRewardRow *rows[] = {&row};
    double value = 77;
    DpsError err = DPS_ERROR_INIT;
    *status = 99;
    DpsStatus st = kit_reward ()->score (self, rows, 1, 0, &value, status, NULL, &err);
    if (st == DPS_ERR_NOMEM)
        CU_FAIL ("out of memory");
    CU_ASSERT (*status <= DPS_SCORE_TIMEOUT);
    CU_ASSERT ((*status == DPS_SCORE_OK) == (isfinite (value) != 0));
    return value;
}

static inline double kit_reward_one (void *self, const KitAnswer *a)
{
    uint32_t status;
    double value = kit_reward_status (self, a, &status);
    CU_ASSERT_EQUAL (status, DPS_SCORE_OK);
    return value;
}

/** Answers that nothing should mind: NUL bytes, invalid UTF-8, a megabyte, deep brackets. Each gets a value or a status, in bounded time. */
static inline void kit_reward_hostile (const char *args)
{
    enum { LONG = 1 << 20 };
    void *self = kit_reward_open (args);
    char *big = malloc (LONG);
    static const struct {
        const char *text;
        size_t len;
    } small[] = {{"", 0}, {"\0\0\0", 3}, {"a\0b", 3}, {"\xff\xfe\x80", 3}, {"\xed\xa0\x80", 3}, {"\xf0\x9f\x98", 3}, {"\xe2\x80\xa8", 3}};
    static const char fill[] = {'a', '[', '(', '"', '\\', ' ', '\n', '\0', '0', (char)0xc3, (char)0xff};
    uint32_t status;
    CU_ASSERT_PTR_NOT_NULL_FATAL (big);
    for (size_t i = 0; i < sizeof small / sizeof *small; i++)
        kit_reward_status (self, &(KitAnswer){.completion = small[i].text, .len = small[i].len, .n_tokens = 3}, &status);
    for (size_t i = 0; i < sizeof fill; i++) {
        int64_t start = dps_judge_now_ms ();
        memset (big, fill[i], LONG);
        kit_reward_status (self, &(KitAnswer){.completion = big, .len = LONG, .n_tokens = 100000, .columns = "{\"answer\": \"a\"}"},
                           &status);
        CU_ASSERT (dps_judge_now_ms () - start < 20000);
    }
    kit_reward_status (self, &(KitAnswer){.completion = "x", .columns = "{\"answer\": "}, &status);
    kit_reward_status (self, &(KitAnswer){.completion = "x", .columns = "[1]"}, &status);
    free (big);
    kit_reward ()->close (self);
    kit_reward ()->close (NULL);
}

/** Opening and judging with each allocation failing once: NOMEM or the right value, and nothing leaks. */
static inline void kit_reward_allocations (const char *args, const KitAnswer *answer)
{
    int done = 0;
    double right = NAN;
    dps_json_init ();
    for (uint64_t k = 0; !done && k < 5000; k++) { /* k 0: nothing fails, and what stays for good is there */
        int64_t live = dps_mem_live ();
        DpsError err = DPS_ERROR_INIT;
        const DpsRewardRow row = {.size = sizeof row,
                                  .completion = dps_str (answer->completion),
                                  .columns = dps_str (answer->columns ? answer->columns : "{}"),
                                  .n_completion_ids = answer->n_tokens};
        const DpsRewardRow *rows[] = {&row};
        double value = NAN;
        uint32_t status = 99;
        void *self = NULL;
        dps_mem_fail_at (k);
        DpsStatus st = kit_reward_try (args, &self, &err);
        if (st == DPS_OK)
            st = kit_reward ()->score (self, rows, 1, 0, &value, &status, NULL, &err);
        done = k > 0 && dps_mem_count () < k;
        dps_mem_fail_at (0);
        kit_reward ()->close (self);
        if (k == 0)
            right = value;
        else
            CU_ASSERT_EQUAL (dps_mem_live (), live);
        CU_ASSERT (st == DPS_OK ? value == right && status == DPS_SCORE_OK : st == DPS_ERR_NOMEM);
        if (st == DPS_OK ? value != right : st != DPS_ERR_NOMEM)
            printf ("\n    allocation %llu: %s %s, value %g\n", (unsigned long long)k, dps_status_name (st), err.msg, value);
    }
    CU_ASSERT (done);
}

#endif
