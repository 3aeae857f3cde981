/* SPDX-License-Identifier: Apache-2.0 */
/* reward terms: shares, vetoes, folding, word borders, the row's own terms, refusals, hostile bytes, failed allocations. */
#include "reward_kit.h"

static double of (const char *args, const char *completion, const char *columns)
{
    void *self = kit_reward_open (args);
    double value = kit_reward_one (self, &(KitAnswer){.completion = completion, .columns = columns});
    kit_reward ()->close (self);
    return value;
}

static void test_terms (void)
{
    static const struct {
        const char *args, *completion, *columns;
        double want;
    } cases[] = {
        {"required: ticket", "Open a Ticket.", NULL, 1},
        {"required: ticket, ignore_case: false", "Open a Ticket.", NULL, 0},
        {"required: [ticket, printer, name]", "the ticket's name", NULL, 2.0 / 3},
        {"required: 'open  a\\nticket'", "open a \t ticket", NULL, 0}, /* in YAML single quotes \n is two letters */
        {"required: \"open  a\\nticket\"", "open a \t ticket", NULL, 1},
        {"required: art", "start", NULL, 0},
        {"required: art, whole_words: false", "start", NULL, 1},
        {"required: art", "start of art", NULL, 1},
        {"required: .net", "a.net, .net", NULL, 1},
        {"required: .net", "a.net", NULL, 0},
        {"required: a a", "xa a a", NULL, 1},
        {"required: art",
         "\xc3\xa9"
         "art art\xc3\xa9",
         NULL, 0},
        {"required: \xc3\xa9t\xc3\xa9", "l'\xc3\x89T\xc3\x89.", NULL, 1},
        {"required: ete", "l'\xc3\xa9t\xc3\xa9", NULL, 0},
        {"required: ete, ignore_accents: true", "l'\xc3\xa9t\xc3\xa9", NULL, 1},
        {"forbidden: [damn]", "Damn!", NULL, 0},
        {"forbidden: [damn]", "damned", NULL, 1},
        {"forbidden: x, required: y", "x y", NULL, 0},
        {"forbidden: x, required: y", "y", NULL, 1},
        {"column: must", "a b", "{\"must\": [\"a\", \"c\"]}", 0.5},
        {"column: must, required: b", "a b", "{\"must\": \"a\"}", 1},
        {"column: must, required: b", "a", "{}", 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        double got = of (cases[i].args, cases[i].completion, cases[i].columns);
        if (got != cases[i].want)
            printf ("\n    case %zu: %s", i, cases[i].args);
        CHECK_NEAR (got, cases[i].want, 1e-15);
    }
    void *self = kit_reward_open ("column: must");
    uint32_t status;
    kit_reward_status (self, &(KitAnswer){.completion = "a", .columns = "{\"must\": [1]}"}, &status);
    CU_ASSERT_EQUAL (status, DPS_SCORE_FAILED);
    kit_reward ()->close (self);
}

static void test_refusals (void)
{
    kit_reward_refuses ("", "required, forbidden or column is missing");
    kit_reward_refuses ("required: ' '", "required: term 1 holds nothing but spaces");
    kit_reward_refuses ("required: [a, 3]", "required: entry 2 of the list is not a word");
    kit_reward_refuses ("required: []", "required, forbidden or column is missing");
    kit_reward_refuses ("forbiden: a", "did you mean 'forbidden'?");
}

static void test_hostile (void) { kit_reward_hostile ("required: [a, 'aa aa'], forbidden: b, column: answer"); }
static void test_allocations (void)
{
    kit_reward_allocations ("required: [a, b], forbidden: z, column: answer",
                            &(KitAnswer){.completion = "a c", .columns = "{\"answer\": [\"c\"]}"});
}

CHECK_MAIN ("algorithms.reward_terms", T (test_terms), T (test_refusals), T (test_hostile), T (test_allocations))
