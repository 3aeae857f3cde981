/* SPDX-License-Identifier: Apache-2.0 */
/* reward language: both languages, mixtures, what is wanted and by whom, what says nothing, hostile bytes, failed allocations. */
#include <math.h>

#include "reward_kit.h"

static const char fr[] = "Ouvrez les param\xc3\xa8tres, puis cliquez sur l\xe2\x80\x99onglet du r\xc3\xa9seau.";
static const char en[] = "Open the settings, then click on the tab of your network.";

static double of (const char *args, const char *completion, const char *prompt, const char *columns)
{
    void *self = kit_reward_open (args);
    double value = kit_reward_one (self, &(KitAnswer){.completion = completion, .prompt = prompt, .columns = columns});
    kit_reward ()->close (self);
    return value;
}

static void test_two_languages (void)
{
    static const char question[] = "Comment puis-je changer mon mot de passe ?";
    CHECK_NEAR (of ("language: fr", fr, NULL, NULL), 1, 0);
    CHECK_NEAR (of ("language: fr", en, NULL, NULL), 0, 0);
    CHECK_NEAR (of ("language: en", en, NULL, NULL), 1, 0);
    CHECK_NEAR (of ("language: en", fr, NULL, NULL), 0, 0);
    CHECK_NEAR (of ("", fr, question, NULL), 1, 0);
    CHECK_NEAR (of ("", en, question, NULL), 0, 0);
    CHECK_NEAR (of ("", en, "How do I change my password?", NULL), 1, 0);
    CHECK_NEAR (of ("language: column", fr, "", "{\"lang\": \"fr-CA\"}"), 1, 0);
    CHECK_NEAR (of ("language: column, column: l", fr, "", "{\"l\": \"en\"}"), 0, 0);
    CHECK_NEAR (of ("language: fr", "DES PARAM\xc3\x88TRES", NULL, NULL), 1, 0);
    CHECK_NEAR (of ("language: fr", "c\xc5\x93ur", NULL, NULL), 1, 0);
    /* Telling words: "les", "vous" and "with", "the", "and": two of five. */
    CHECK_NEAR (of ("language: fr, decide: false", "les vous with the and", NULL, NULL), 0.4, 1e-15);
    CHECK_NEAR (of ("language: fr", "les the", NULL, NULL), 0, 0);
}

static void test_what_says_nothing (void)
{
    static const KitAnswer answers[] = {{.completion = ""}, {.completion = "42 = 6 * 7"}, {.completion = "Wi-Fi, Bluetooth"}};
    void *self = kit_reward_open ("language: fr");
    uint32_t status;
    for (size_t i = 0; i < sizeof answers / sizeof *answers; i++) {
        kit_reward_status (self, &answers[i], &status);
        CU_ASSERT_EQUAL (status, DPS_SCORE_NOT_JUDGED);
    }
    kit_reward ()->close (self);
    self = kit_reward_open ("min_evidence: 3");
    kit_reward_status (self, &(KitAnswer){.completion = "the and", .prompt = en}, &status);
    CU_ASSERT_EQUAL (status, DPS_SCORE_NOT_JUDGED);
    kit_reward_status (self, &(KitAnswer){.completion = "the and with", .prompt = "42"}, &status);
    CU_ASSERT_EQUAL (status, DPS_SCORE_NOT_JUDGED);
    kit_reward ()->close (self);
    self = kit_reward_open ("language: column");
    kit_reward_status (self, &(KitAnswer){.completion = fr}, &status);
    CU_ASSERT_EQUAL (status, DPS_SCORE_NOT_JUDGED);
    kit_reward_status (self, &(KitAnswer){.completion = fr, .columns = "{\"lang\": \"de\"}"}, &status);
    CU_ASSERT_EQUAL (status, DPS_SCORE_FAILED);
    kit_reward ()->close (self);
}

/* One to three words: what the README says of them. NAN: not judged. */
static void test_very_short_answers (void)
{
    static const struct {
        const char *answer;
        double fr, en;
    } cases[] = {{"42", NAN, NAN},
                 {"Paris", NAN, NAN},
                 {"Wi-Fi", NAN, NAN},
                 {"Oui.", 1, 0},
                 {"Yes", 0, 1},
                 {"Bonjour", 1, 0},
                 {"Merci !", 1, 0},
                 {"Thank you", 0, 1},
                 {"Hello Paris", 0, 1},
                 {"Ouvrez Param\xc3\xa8tres", 1, 0},
                 {"caf\xc3\xa9 latte", 1, 0},
                 {"le best of", 0, 0}};
    static const char *const wanted[] = {"language: fr", "language: en", "language: fr, min_evidence: 3", "language: en, min_evidence: 3"};
    for (size_t w = 0; w < 4; w++) {
        void *self = kit_reward_open (wanted[w]);
        for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
            const double expected = w % 2 ? cases[i].en : cases[i].fr;
            uint32_t status;
            const double got = kit_reward_status (self, &(KitAnswer){.completion = cases[i].answer}, &status);
            if (w > 1 || isnan (expected)) {
                CU_ASSERT_EQUAL (status, DPS_SCORE_NOT_JUDGED);
            } else {
                CHECK_NEAR (got, expected, 0);
            }
        }
        kit_reward ()->close (self);
    }
}

static void test_refusals (void)
{
    kit_reward_refuses ("language: de", "expected one of prompt|fr|en|column");
    kit_reward_refuses ("min_evidence: 0", "min_evidence is 0");
    kit_reward_refuses ("langage: fr", "did you mean 'language'?");
}

static void test_hostile (void) { kit_reward_hostile ("language: fr"); }
static void test_allocations (void)
{
    kit_reward_allocations ("language: column", &(KitAnswer){.completion = fr, .columns = "{\"lang\": \"fr\"}"});
}

CHECK_MAIN ("algorithms.reward_language", T (test_two_languages), T (test_what_says_nothing), T (test_very_short_answers),
            T (test_refusals), T (test_hostile), T (test_allocations))
