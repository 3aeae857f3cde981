/* SPDX-License-Identifier: Apache-2.0 */
/* What values cost to compare: a value that holds another twice, and that one another twice, is small in memory and endless in steps. */
#include "token/chat.h"

#include <string.h>

#include "check.h"

static DpsStatus render (const char *template_source, DpsRendered *out, DpsError *err)
{
    DpsChatOptions options = {0};
    json_t *messages = json_pack ("[{s:s, s:s}]", "role", "user", "content", "hello");
    DpsStatus st = dps_chat_render (template_source, NULL, messages, &options, out, err);
    json_decref (messages);
    return st;
}

/* x and y: two values of one look, of which neither is the other; a value is equal to itself at once, as in Python. */
#define TWICE(open, close)                                                                                                                 \
    "{% set ns = namespace(x=1, y=1) %}{% for i in range(60) %}{% set ns.x = " open "ns.x, ns.x" close " %}{% set ns.y = " open            \
    "ns.y, ns.y" close " %}{% endfor %}"
#define DEEP "{% set ns = namespace(x=[], y=[]) %}{% for i in range(100000) %}{% set ns.x = [ns.x] %}{% set ns.y = [ns.y] %}{% endfor %}"

static void test_comparisons_are_bounded (void)
{
    static const char *const endless[] = {
        TWICE ("[", "]") "{{ ns.x == ns.y }}",
        TWICE ("[", "]") "{{ ns.x != ns.y }}",
        TWICE ("[", "]") "{{ ns.x < ns.y }}",
        TWICE ("[", "]") "{{ ns.x in [ns.y] }}",
        TWICE ("[", "]") "{{ ns.x is eq(ns.y) }}",
        TWICE ("[", "]") "{{ [ns.x].index(ns.y) }}",
        TWICE ("[", "]") "{{ [ns.x, ns.y]|unique|list }}",
        TWICE ("(", ")") "{{ {ns.x: 1}[ns.y] }}",
        TWICE ("(", ")") "{{ {ns.x: 1, ns.y: 2}|length }}",
        TWICE ("{1: [", "]}") "{{ ns.x == ns.y }}",
        DEEP "{{ ns.x == ns.y }}",
        DEEP "{{ ns.x >= ns.y }}",
        DEEP "{{ [ns.x].count(ns.y) }}",
        DEEP "{% for i in range(3) %}{% if loop.changed([ns.x, ns.y][i % 2]) %}{{ i }}{% endif %}{% endfor %}",
    };
    for (size_t i = 0; i < sizeof endless / sizeof *endless; i++) {
        DpsError err = DPS_ERROR_INIT;
        DpsRendered r = {0};
        DpsStatus st = render (endless[i], &r, &err);
        if (st != DPS_ERR_LIMIT)
            printf ("\n    %s: %d %s", endless[i] + strlen (endless[i]) - 40, (int)st, err.msg);
        CU_ASSERT_EQUAL (st, DPS_ERR_LIMIT);
        CU_ASSERT (strstr (err.msg, "steps") || strstr (err.msg, "nested deeper"));
        if (st == DPS_OK)
            dps_rendered_free (&r);
        CU_ASSERT_EQUAL (dps_mem_live (), 0);
    }
}

static void test_comparisons_say_what_python_says (void)
{
    static const struct {
        const char *expression, *text;
    } cases[] = {
        {"[1, [2, (3, 'x')]] == [1, [2, (3, 'x')]]", "True"},
        {"[1, [2, (3, 'x')]] == [1, [2, [3, 'x']]]", "False"},
        {"{'a': [1], 'b': 2} == {'b': 2, 'a': [1]}", "True"},
        {"{'a': [1], 'b': 2} == {'b': 2, 'a': [2]}", "False"},
        {"{'a': 1} == {'b': 1}", "False"},
        {"[1, [2, 3]] < [1, [2, 4]]", "True"},
        {"[1, 2] < [1]", "False"},
        {"{(1, 2): 'yes'}[(1, 2)]", "yes"},
        {"[[1], [2], [1]]|unique|list", "[[1], [2]]"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        DpsError err = DPS_ERROR_INIT;
        DpsRendered r = {0};
        char source[200];
        snprintf (source, sizeof source, "{{ %s }}", cases[i].expression);
        CHECK_OK (render (source, &r, &err));
        CHECK_STR (r.text.data ? r.text.data : "", cases[i].text);
        dps_rendered_free (&r);
    }
    CU_ASSERT_EQUAL (dps_mem_live (), 0);
}

/* What holds itself twice, sixty times over, is equal to itself without being looked through. */
static void test_the_same_value_is_equal (void)
{
    DpsError err = DPS_ERROR_INIT;
    DpsRendered r = {0};
    CHECK_OK (render (TWICE ("[", "]") "{{ ns.x == ns.x and ns.x in [ns.x] }}", &r, &err));
    CHECK_STR (r.text.data ? r.text.data : "", "True");
    dps_rendered_free (&r);
    CHECK_OK (render (TWICE ("{1: [", "]}") "{{ ns.x == ns.x }}", &r, &err));
    CHECK_STR (r.text.data ? r.text.data : "", "True");
    dps_rendered_free (&r);
}

static void test_init (void) { dps_json_init (); }

CHECK_MAIN ("token.jinja", T (test_init), T (test_comparisons_are_bounded), T (test_comparisons_say_what_python_says),
            T (test_the_same_value_is_equal))
