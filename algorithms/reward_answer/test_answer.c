/* SPDX-License-Identifier: Apache-2.0 */
/* reward answer: texts and numbers, what is extracted, normalisation, rows without an answer, refusals, hostile bytes, failed allocations. */
#include "reward_kit.h"

static double of (const char *args, const char *completion, const char *columns)
{
    void *self = kit_reward_open (args);
    double value = kit_reward_one (self, &(KitAnswer){.completion = completion, .columns = columns});
    kit_reward ()->close (self);
    return value;
}

static void test_texts (void)
{
    static const struct {
        const char *args, *completion, *columns;
        double want;
    } cases[] = {
        {"", "Paris", "{\"answer\": \"paris\"}", 1},
        {"ignore_case: false", "Paris", "{\"answer\": \"paris\"}", 0},
        {"", "  le \n chat\t", "{\"answer\": \"le chat\"}", 1},
        {"", "\xc3\x89t\xc3\xa9", "{\"answer\": \"e\xcc\x81t\xc3\xa9\"}", 1}, /* composed, decomposed */
        {"", "ete", "{\"answer\": \"\xc3\xa9t\xc3\xa9\"}", 0},
        {"ignore_accents: true", "ete", "{\"answer\": \"\xc3\xa9t\xc3\xa9\"}", 1},
        {"", "Paris.", "{\"answer\": \"Paris\"}", 0},
        {"ignore_punctuation: true", "\xc2\xab Paris ! \xc2\xbb", "{\"answer\": \"Paris\"}", 1},
        {"", "B", "{\"answer\": [\"A\", \"B\"]}", 1},
        {"", "C", "{\"answer\": [\"A\", \"B\"]}", 0},
        {"", "42", "{\"answer\": 42}", 1},
        {"column: gold, match: 3, no_match: -1", "x", "{\"gold\": \"y\", \"answer\": \"x\"}", -1},
        {"column: gold, match: 3, no_match: -1", "y", "{\"gold\": \"y\"}", 3},
        {"mode: contains", "It is Paris, of course", "{\"answer\": \"paris\"}", 1},
        {"mode: contains", "Parisian", "{\"answer\": \"paris\"}", 0},
        {"mode: contains", "a parisian in paris", "{\"answer\": \"paris\"}", 1},
        {"mode: contains", "l'\xc3\xa9t\xc3\xa9", "{\"answer\": \"\xc3\xa9t\xc3\xa9\"}", 1},
        {"after: '####'", "so #### 1\n#### yes \nrest", "{\"answer\": \"yes\"}", 1},
        {"after: '####'", "yes", "{\"answer\": \"yes\"}", 0},
        {"pattern: '<a>(.*?)</a>'", "I say <a>yes</a>", "{\"answer\": \"yes\"}", 1},
        {"pattern: 'yes|no'", "I say yes or no", "{\"answer\": \"yes\"}", 1},
        {"pattern: '<a>(.*?)</a>'", "yes", "{\"answer\": \"yes\"}", 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        double got = of (cases[i].args, cases[i].completion, cases[i].columns);
        if (got != cases[i].want)
            printf ("\n    case %zu (%s)", i, cases[i].completion);
        CHECK_NEAR (got, cases[i].want, 0);
    }
}

static void test_numbers (void)
{
    static const struct {
        const char *args, *completion, *columns;
        double want;
    } cases[] = {
        {"", "2 + 2 = 4", "{\"answer\": 4}", 1},
        {"", "4, not 5", "{\"answer\": 4}", 0},
        {"", "It costs $1,234.50.", "{\"answer\": \"1234.5\"}", 1},
        {"",
         "1\xe2\x80\xaf"
         "234\xc2\xa0"
         "567",
         "{\"answer\": 1234567}", 1},
        {"", "lists: 1,2", "{\"answer\": 2}", 1},
        {"", "0042", "{\"answer\": 42}", 1},
        {"", "-7", "{\"answer\": 7}", 0},
        {"",
         "\xe2\x88\x92"
         "7",
         "{\"answer\": -7}", 1},
        {"", "1e3", "{\"answer\": 1000}", 1},
        {"", ".5", "{\"answer\": 0.5}", 1},
        {"", "none", "{\"answer\": 0}", 0},
        {"", "5", "{\"answer\": \"none\"}", 0},
        {"", "1e400", "{\"answer\": 1}", 0},
        {"", "3.14", "{\"answer\": 3.14159}", 0},
        {", tolerance: 0.01", "3.14", "{\"answer\": 3.14159}", 1},
        {", relative_tolerance: 0.01", "101", "{\"answer\": 100}", 1},
        {", relative_tolerance: 0.01", "102", "{\"answer\": 100}", 0},
        {", after: 'A:'", "A: 3 B: 4\n5", "{\"answer\": 4}", 1},
        {"", "10-15", "{\"answer\": 15}", 1},
        {"", "on 2024-11-26", "{\"answer\": 26}", 1},
        {"", "x=-7", "{\"answer\": -7}", 1},
        {"", "1,5", "{\"answer\": 1.5}", 0},
        {", decimal: comma", "1 234,5", "{\"answer\": 1234.5}", 1},
        {", decimal: comma",
         "1\xe2\x80\xaf"
         "234,5\xc2\xa0€",
         "{\"answer\": \"1 234,5\"}", 1},
        {", decimal: comma", "1.234.567,25", "{\"answer\": 1234567.25}", 1},
        {", decimal: comma", "Il y en a 3,5", "{\"answer\": 5}", 0},
        {", decimal: comma", "3.14", "{\"answer\": \"3,14\"}", 1},
        {", decimal: comma", "0.125", "{\"answer\": 0.125}", 1},
        {", decimal: comma", "-0,5", "{\"answer\": -0.5}", 1},
        {", decimal: comma", "en 2024 500 personnes", "{\"answer\": 500}", 1},
        {", decimal: comma", "12 000 €", "{\"answer\": 12000}", 1},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char args[200];
        snprintf (args, sizeof args, "mode: number%s", cases[i].args);
        double got = of (args, cases[i].completion, cases[i].columns);
        if (got != cases[i].want)
            printf ("\n    case %zu (%s)", i, cases[i].completion);
        CHECK_NEAR (got, cases[i].want, 0);
    }
}

static void test_rows_without_an_answer (void)
{
    void *self = kit_reward_open ("");
    uint32_t status;
    kit_reward_status (self, &(KitAnswer){.completion = "x", .columns = "{\"other\": 1}"}, &status);
    CU_ASSERT_EQUAL (status, DPS_SCORE_NOT_JUDGED);
    kit_reward_status (self, &(KitAnswer){.completion = "x", .columns = "{\"answer\": null}"}, &status);
    CU_ASSERT_EQUAL (status, DPS_SCORE_NOT_JUDGED);
    kit_reward_status (self, &(KitAnswer){.completion = "x", .columns = "{\"answer\": "}, &status);
    CU_ASSERT_EQUAL (status, DPS_SCORE_FAILED);
    kit_reward ()->close (self);
}

static void test_refusals (void)
{
    kit_reward_refuses ("pattern: a, after: b", "pattern and after are both given");
    kit_reward_refuses ("pattern: '('", "is not a regular expression");
    kit_reward_refuses ("mode: fuzzy", "expected one of exact|contains|number");
    kit_reward_refuses ("tolerance: -1", "tolerance is -1");
    kit_reward_refuses ("colum: a", "did you mean 'column'?");
}

static void test_hostile (void)
{
    kit_reward_hostile ("mode: number");
    kit_reward_hostile ("mode: contains");
    kit_reward_hostile ("after: 'a'");
}
static void test_allocations (void)
{
    kit_reward_allocations ("ignore_accents: true, pattern: '(.*)'",
                            &(KitAnswer){.completion = "\xc3\xa9t\xc3\xa9", .columns = "{\"answer\": [\"hiver\", \"ete\"]}"});
    kit_reward_allocations ("mode: number", &(KitAnswer){.completion = "it is 12", .columns = "{\"answer\": \"12\"}"});
}

CHECK_MAIN ("algorithms.reward_answer", T (test_texts), T (test_numbers), T (test_rows_without_an_answer), T (test_refusals),
            T (test_hostile), T (test_allocations))
