/* SPDX-License-Identifier: Apache-2.0 */
#include "check/budgets.h"

#include <stdio.h>
#include <string.h>

#include "base/json.h"

enum { any, bf16 };

static const struct {
    const char *op;
    int dtype;
    CheckBudget budget;
} budgets[] = {
#define BUDGET(op, dtype, relative, absolute, growth, floor) {op, dtype, {relative, absolute, growth, floor}},
#include "check/budgets.def"
#undef BUDGET
};
enum { N_BUDGETS = sizeof budgets / sizeof *budgets };

static const CheckBudget *find (const char *op, int dtype)
{
    for (int i = 0; i < N_BUDGETS; i++)
        if (budgets[i].dtype == dtype && !strcmp (budgets[i].op, op))
            return &budgets[i].budget;
    return NULL;
}

const CheckBudget *check_budget (const char *op, const char *output, int has_bf16)
{
    char name[64];
    const CheckBudget *b = NULL;
    for (int whole = !output; whole < 2 && !b; whole++) {
        snprintf (name, sizeof name, whole ? "%s" : "%s.%s", op, output ? output : "");
        b = has_bf16 ? find (name, bf16) : NULL;
        b = b ? b : find (name, any);
    }
    return b;
}

int check_print_budgets (void)
{
    json_t *list = json_array ();
    for (int i = 0; i < N_BUDGETS; i++)
        json_array_append_new (list, json_pack ("{s:s, s:s, s:f, s:f, s:f, s:f}", "op", budgets[i].op, "dtype",
                                                budgets[i].dtype == bf16 ? "bf16" : "any", "relative", budgets[i].budget.relative,
                                                "absolute", budgets[i].budget.absolute, "growth", budgets[i].budget.growth, "floor",
                                                budgets[i].budget.floor));
    json_t *all =
        json_pack ("{s:s, s:s, s:o}", "budgets_sha256", CHECK_BUDGETS_DIGEST, "bound",
                   "|got - want| <= (relative + ulp)*|want| + (absolute + growth*sqrt(n))*max|want| + floor*scale", "budgets", list);
    char *text = json_dumps (all, JSON_INDENT (1) | JSON_REAL_PRECISION (6));
    puts (text ? text : "{}");
    dps_free (text);
    json_decref (all);
    return 0;
}
