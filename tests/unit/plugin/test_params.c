/* SPDX-License-Identifier: Apache-2.0 */
/* Recipe values against declared parameters: types, ranges, choices, defaults, and the words of a refusal. */
#include "check.h"
#include "plugin/params.h"

static const DpsParam r = {.size = sizeof r, .name = "r", .type = DPS_PARAM_I64, .def = 8, .min = 1, .max = 4096, .help = "rank"};
static const DpsParam alpha = {
    .size = sizeof alpha, .name = "alpha", .type = DPS_PARAM_F64, .def = 16, .min = 0, .max = 1e6, .help = "scale"};
static const DpsParam flag = {.size = sizeof flag, .name = "flag", .type = DPS_PARAM_BOOL, .def = 0, .help = "switch"};
static const DpsParam mode = {.size = sizeof mode, .name = "mode", .type = DPS_PARAM_STR, .choices = "group|batch|none", .help = "scaling"};
static const DpsParam text = {.size = sizeof text, .name = "text", .type = DPS_PARAM_STR, .help = "free"};
static const DpsParam *const params[] = {&r, &alpha, &flag, &mode, &text};

typedef struct Given {
    const char *name;
    DpsParamValue value;
} Given;

static int lookup (void *ctx, const char *name, DpsParamValue *out)
{
    const Given *g = ctx;
    *out = g->value;
    return g->name && !strcmp (g->name, name);
}

static double num[5];
static DpsStr str[5];
static DpsError err = DPS_ERROR_INIT;

static DpsStatus resolve (const char *name, DpsParamValue v)
{
    Given g = {name, v};
    return dps_params_resolve ("toy", params, 5, lookup, &g, num, str, &err);
}

static DpsParamValue number (uint32_t type, double value) { return (DpsParamValue){.type = type, .num = value, .where = "a.yaml:3"}; }

static DpsParamValue string (const char *s) { return (DpsParamValue){.type = DPS_PARAM_STR, .str = {s, strlen (s)}, .where = "a.yaml:3"}; }

static void test_defaults (void)
{
    CHECK_OK (dps_params_resolve ("toy", params, 5, NULL, NULL, num, str, &err));
    CU_ASSERT (num[0] == 8 && num[1] == 16 && num[2] == 0);
    CU_ASSERT (str[3].len == 5 && !memcmp (str[3].ptr, "group", 5) && str[4].len == 0);
}

static void test_values (void)
{
    CHECK_OK (resolve ("r", number (DPS_PARAM_I64, 64)));
    CU_ASSERT (num[0] == 64 && num[1] == 16);
    CHECK_OK (resolve ("r", number (DPS_PARAM_F64, 4)));
    CHECK_OK (resolve ("alpha", number (DPS_PARAM_I64, 3)));
    CU_ASSERT (num[1] == 3);
    CHECK_OK (resolve ("flag", number (DPS_PARAM_BOOL, 1)));
    CU_ASSERT (num[2] == 1);
    CHECK_OK (resolve ("mode", string ("none")));
    CU_ASSERT (str[3].len == 4 && !memcmp (str[3].ptr, "none", 4));
    CHECK_OK (resolve ("text", string ("anything")));
    CU_ASSERT_EQUAL (str[4].len, 8);
}

static void test_refusals (void)
{
    CHECK_FAILS (resolve ("r", number (DPS_PARAM_I64, 0)), DPS_ERR_USAGE, "a.yaml:3: r is 0, expected 1 to 4096 (toy: rank)");
    CHECK_FAILS (resolve ("r", number (DPS_PARAM_F64, 2.5)), DPS_ERR_USAGE, "r is 2.5, expected a whole number");
    CHECK_FAILS (resolve ("r", string ("eight")), DPS_ERR_USAGE, "r is 'eight', expected a whole number (toy: rank)");
    CHECK_FAILS (resolve ("r", number (DPS_PARAM_BOOL, 1)), DPS_ERR_USAGE, "expected a whole number");
    CHECK_FAILS (resolve ("alpha", number (DPS_PARAM_F64, NAN)), DPS_ERR_USAGE, "expected a number");
    CHECK_FAILS (resolve ("flag", number (DPS_PARAM_I64, 2)), DPS_ERR_USAGE, "flag is 2, expected true or false");
    CHECK_FAILS (resolve ("mode", string ("non")), DPS_ERR_USAGE, "mode is 'non', expected one of group|batch|none");
    CHECK_FAILS (resolve ("mode", string ("nonesuch")), DPS_ERR_USAGE, "mode is 'nonesuch'");
    CHECK_FAILS (resolve ("mode", number (DPS_PARAM_I64, 1)), DPS_ERR_USAGE, "mode is 1, expected a string");
    DpsParamValue placeless = number (DPS_PARAM_I64, -1);
    placeless.where = NULL;
    CHECK_FAILS (resolve ("r", placeless), DPS_ERR_USAGE, "recipe: r is -1");
}

CHECK_MAIN ("plugin.params", T (test_defaults), T (test_values), T (test_refusals))
