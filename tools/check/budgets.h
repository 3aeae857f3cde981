/* SPDX-License-Identifier: Apache-2.0 */
/* budgets.h: how budgets.def is looked up and printed. */
#ifndef DPS_TOOLS_CHECK_BUDGETS_H
#define DPS_TOOLS_CHECK_BUDGETS_H

#include <stdint.h>

typedef struct CheckBudget {
    double relative, absolute, growth, floor;
} CheckBudget;

/** The budget of output `output` ("dir", NULL: no particular one) of an op some of whose operands are bf16, or none; NULL: there is none. */
const CheckBudget *check_budget (const char *op, const char *output, int bf16);

/** All of them and the digest of the file, as JSON on stdout; returns 0. */
int check_print_budgets (void);

#endif
