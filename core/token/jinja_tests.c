/* SPDX-License-Identifier: Apache-2.0 */
/* jinja_tests.c: `x is …`. */
#include <string.h>

#include "token/jinja_node.h"

static int is_integer (const DpsJval *v) { return v->kind == DPS_J_INT || v->kind == DPS_J_BOOL; }

static int need (DpsJinja *in, const DpsJargs *args, const char *name, const DpsJval **out)
{
    *out = dps__jinja_arg (args, 0, NULL);
    return *out ? 0 : dps__jinja_fail (in, DPS_ERR_FORMAT, "the test '%s' needs an argument", name);
}

/* Tests of the kind alone: a set of kinds, and -1 at its end. */
static const struct {
    const char *name;
    int kinds[9];
} by_kind[] = {
    {"none", {DPS_J_NONE, -1}},
    {"string", {DPS_J_STR, -1}},
    {"number", {DPS_J_INT, DPS_J_BOOL, DPS_J_FLOAT, -1}},
    {"integer", {DPS_J_INT, -1}},
    {"float", {DPS_J_FLOAT, -1}},
    {"boolean", {DPS_J_BOOL, -1}},
    {"mapping", {DPS_J_DICT, -1}},
    {"sequence", {DPS_J_STR, DPS_J_LIST, DPS_J_TUPLE, DPS_J_DICT, DPS_J_UNDEFINED, -1}},
    {"iterable", {DPS_J_STR, DPS_J_LIST, DPS_J_TUPLE, DPS_J_DICT, DPS_J_UNDEFINED, DPS_J_LOOP, -1}},
    {"callable", {DPS_J_MACRO, DPS_J_FUNCTION, DPS_J_METHOD, DPS_J_LOOP, DPS_J_UNDEFINED, -1}},
    {"undefined", {DPS_J_UNDEFINED, -1}},
    {"escaped", {-1}},
};

/* Comparisons by name. */
static const struct {
    const char *name;
    int op;
} by_order[] = {
    {"eq", DPS_JT_EQ}, {"equalto", DPS_JT_EQ}, {"==", DPS_JT_EQ}, {"ne", DPS_JT_NE}, {"!=", DPS_JT_NE},
    {"lt", '<'},       {"lessthan", '<'},      {"<", '<'},        {"gt", '>'},       {"greaterthan", '>'},
    {">", '>'},        {"le", DPS_JT_LE},      {"<=", DPS_JT_LE}, {"ge", DPS_JT_GE}, {">=", DPS_JT_GE},
};

static int test_order (DpsJinja *in, int op, const DpsJval *v, const DpsJval *other, int *out)
{
    int order;
    if (op == DPS_JT_EQ || op == DPS_JT_NE) {
        *out = dps__jinja_equal (in, v, other) == (op == DPS_JT_EQ);
        return 0;
    }
    if (dps__jinja_compare (in, v, other, &order))
        return -1;
    *out = op == '<' ? order < 0 : op == '>' ? order > 0 : op == DPS_JT_LE ? order <= 0 : order >= 0;
    return 0;
}

static int test_parity (DpsJinja *in, const char *name, const DpsJval *v, const DpsJargs *args, int *out)
{
    const DpsJval *by = NULL;
    int64_t divisor = 2;
    if (!strcmp (name, "divisibleby")) {
        if (need (in, args, name, &by))
            return -1;
        divisor = is_integer (by) ? by->i : 0;
    }
    if (!is_integer (v) || divisor == 0)
        return dps__jinja_fail (in, DPS_ERR_FORMAT, "the test '%s' needs integers that are not zero", name);
    int64_t rest = divisor == -1 ? 0 : v->i % divisor;
    *out = !strcmp (name, "odd") ? rest != 0 : rest == 0;
    return 0;
}

static int same (const DpsJval *a, const DpsJval *b)
{
    if (a->kind != b->kind)
        return 0;
    return a->kind >= DPS_J_LIST ? a->list == b->list : dps__jinja_equal (NULL, a, b);
}

static int test_case (DpsJinja *in, const char *name, const DpsJval *v, int *out)
{
    DpsJval text;
    if (dps__jinja_to_text (in, v, &text))
        return -1;
    *out = dps__jinja_is_case (&text, !strcmp (name, "lower") ? DPS_J_LOWER : DPS_J_UPPER);
    return 0;
}

/* `x is filter` asks whether there is one: try it on nothing. */
static int test_exists (DpsJinja *in, int filter, const DpsJval *v, int *out)
{
    DpsError ignored = DPS_ERROR_INIT;
    DpsJinja trial = {.steps = 1000, .arena_limit = 1 << 20, .err = &ignored, .line = in->line};
    DpsJval nothing = {.kind = DPS_J_UNDEFINED}, result;
    DpsJargs none = {0};
    int held;
    DpsJval name;
    *out = 0;
    if (dps__jinja_to_text (in, v, &name))
        return -1;
    char text[64];
    if (name.len >= sizeof text)
        return 0;
    memcpy (text, name.s, name.len);
    text[name.len] = '\0';
    if (filter)
        dps__jinja_filter (&trial, text, &nothing, &none, &result, out);
    else
        dps__jinja_test (&trial, text, &nothing, &none, &held, out);
    dps__jinja_free (&trial);
    return trial.status == DPS_ERR_NOMEM ? dps__jinja_fail (in, DPS_ERR_NOMEM, "out of memory for a test") : 0;
}

int dps__jinja_test (DpsJinja *in, const char *name, const DpsJval *v, DpsJargs *args, int *out, int *out_known)
{
    const DpsJval *other;
    *out_known = 1;
    *out = 0;
    for (size_t i = 0; i < sizeof by_kind / sizeof *by_kind; i++)
        if (!strcmp (name, by_kind[i].name)) {
            for (const int *kind = by_kind[i].kinds; *kind >= 0; kind++)
                *out |= v->kind == *kind;
            return 0;
        }
    for (size_t i = 0; i < sizeof by_order / sizeof *by_order; i++)
        if (!strcmp (name, by_order[i].name))
            return need (in, args, name, &other) ? -1 : test_order (in, by_order[i].op, v, other, out);
    if (!strcmp (name, "defined"))
        *out = v->kind != DPS_J_UNDEFINED;
    else if (!strcmp (name, "true") || !strcmp (name, "false"))
        *out = v->kind == DPS_J_BOOL && v->i == (name[0] == 't');
    else if (!strcmp (name, "odd") || !strcmp (name, "even") || !strcmp (name, "divisibleby"))
        return test_parity (in, name, v, args, out);
    else if (!strcmp (name, "lower") || !strcmp (name, "upper"))
        return test_case (in, name, v, out);
    else if (!strcmp (name, "in"))
        return need (in, args, name, &other) ? -1 : dps__jinja_contains (in, v, other, out);
    else if (!strcmp (name, "sameas")) {
        if (need (in, args, name, &other))
            return -1;
        *out = same (v, other);
    } else if (!strcmp (name, "filter") || !strcmp (name, "test"))
        return test_exists (in, name[0] == 'f', v, out);
    else
        *out_known = 0;
    return 0;
}
