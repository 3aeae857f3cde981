/* SPDX-License-Identifier: Apache-2.0 */
/* reward json: every keyword, both ways; what is refused; rewards; hostile answers and schemas; failed allocations. */
#include <unistd.h>

#include "base/file.h"
#include "reward_kit.h"

/* A schema, and an answer that fits it, and one that does not; NULL: there is none. */
static const struct {
    const char *schema, *good, *bad;
} keywords[] = {
    {"true", "[1]", NULL},
    {"false", NULL, "1"},
    {"{}", "null", "nul"},
    {"{\"type\": \"null\"}", "null", "0"},
    {"{\"type\": \"boolean\"}", "false", "0"},
    {"{\"type\": \"integer\"}", "3.0", "3.5"},
    {"{\"type\": \"number\"}", "3", "\"3\""},
    {"{\"type\": [\"string\", \"null\"]}", "null", "[]"},
    {"{\"enum\": [1, \"a\", {\"b\": [2]}]}", "{\"b\": [2.0]}", "{\"b\": [2], \"c\": 1}"},
    {"{\"const\": [1, 2]}", "[1, 2]", "[2, 1]"},
    {"{\"required\": [\"a\"]}", "{\"a\": null}", "{\"b\": 1}"},
    {"{\"required\": [\"a\"]}", "7", "{}"},
    {"{\"properties\": {\"a\": {\"type\": \"string\"}}}", "{\"b\": 1}", "{\"a\": 1}"},
    {"{\"properties\": {\"a\": true}, \"additionalProperties\": false}", "{\"a\": 1}", "{\"a\": 1, \"b\": 2}"},
    {"{\"properties\": {\"a\": true}, \"additionalProperties\": {\"type\": \"integer\"}}", "{\"b\": 1}", "{\"b\": \"x\"}"},
    {"{\"patternProperties\": {\"^x\": {\"type\": \"integer\"}}, \"additionalProperties\": false}", "{\"xa\": 1}", "{\"xa\": \"1\"}"},
    {"{\"patternProperties\": {\"^x\": {}}, \"additionalProperties\": false}", "{}", "{\"ax\": 1}"},
    {"{\"propertyNames\": {\"maxLength\": 2}}", "{\"ab\": 1}", "{\"abc\": 1}"},
    {"{\"minProperties\": 1, \"maxProperties\": 2}", "{\"a\": 1}", "{}"},
    {"{\"maxProperties\": 1}", "{\"a\": 1}", "{\"a\": 1, \"b\": 1}"},
    {"{\"items\": {\"type\": \"integer\"}}", "[1, 2]", "[1, \"2\"]"},
    {"{\"prefixItems\": [{\"type\": \"string\"}], \"items\": false}", "[\"a\"]", "[\"a\", 1]"},
    {"{\"contains\": {\"const\": 2}}", "[1, 2]", "[1]"},
    {"{\"minItems\": 1, \"maxItems\": 2}", "[1]", "[1, 2, 3]"},
    {"{\"uniqueItems\": true}", "[1, \"1\"]", "[{\"a\": 1}, {\"a\": 1.0}]"},
    {"{\"minimum\": 1, \"maximum\": 3}", "1", "3.01"},
    {"{\"exclusiveMinimum\": 1}", "1.1", "1"},
    {"{\"exclusiveMaximum\": 1}", "0", "1"},
    {"{\"multipleOf\": 0.1}", "0.3", "0.35"},
    {"{\"minLength\": 2, \"maxLength\": 3}", "\"\xc3\xa9\xc3\xa9\xc3\xa9\"", "\"\xc3\xa9\""},
    {"{\"pattern\": \"^[a-z]+$\"}", "\"abc\"", "\"abC\""},
    {"{\"allOf\": [{\"minimum\": 1}, {\"maximum\": 2}]}", "1.5", "3"},
    {"{\"anyOf\": [{\"type\": \"string\"}, {\"minimum\": 5}]}", "6", "4"},
    {"{\"oneOf\": [{\"minimum\": 1}, {\"minimum\": 5}]}", "2", "6"},
    {"{\"not\": {\"type\": \"string\"}}", "1", "\"a\""},
    {"{\"if\": {\"type\": \"string\"}, \"then\": {\"minLength\": 2}, \"else\": {\"minimum\": 5}}", "\"ab\"", "\"a\""},
    {"{\"if\": {\"type\": \"string\"}, \"then\": {\"minLength\": 2}, \"else\": {\"minimum\": 5}}", "5", "4"},
    {"{\"if\": {\"type\": \"string\"}, \"else\": false}", "\"\"", "1"},
    {"{\"then\": false, \"else\": {\"minimum\": 5}, \"minimum\": 1}", "1", "0"},
    {"{\"format\": \"email\", \"type\": \"string\"}", "\"nobody\"", "1"},
    {"{\"$defs\": {\"n\": {\"type\": \"integer\"}}, \"$ref\": \"#/$defs/n\", \"minimum\": 3}", "3", "3.5"},
    {"{\"$defs\": {\"n\": {\"type\": \"integer\"}}, \"$ref\": \"#/$defs/n\", \"minimum\": 3}", "4", "2"},
    {"{\"definitions\": {\"a/b~c d\": {\"const\": 1}}, \"items\": {\"$ref\": \"#/definitions/a~1b~0c%20d\"}}", "[1, 1]", "[1, 2]"},
    {"{\"properties\": {\"a\": {\"allOf\": [true, {\"type\": \"null\"}]}, \"b\": {\"$ref\": \"#/properties/a/allOf/1\"}}}", "{\"b\": null}",
     "{\"b\": 1}"},
    /* a tree: the reference goes into the value */
    {"{\"type\": \"object\", \"required\": [\"v\"], \"properties\": {\"kids\": {\"items\": {\"$ref\": \"#\"}}}}",
     "{\"v\": 1, \"kids\": [{\"v\": 2, \"kids\": []}, {\"v\": 3}]}", "{\"v\": 1, \"kids\": [{\"v\": 2, \"kids\": [{}]}]}"},
    {"{\"title\": \"t\", \"$schema\": \"x\", \"description\": \"d\", \"default\": 1, \"examples\": [], \"$comment\": \"\"}", "1", "1 2"},
};

static void test_keywords (void)
{
    for (size_t i = 0; i < sizeof keywords / sizeof *keywords; i++) {
        char args[600];
        snprintf (args, sizeof args, "schema: '%s', partial: 0.25, no_match: -1", keywords[i].schema);
        void *self = kit_reward_open (args);
        double good = keywords[i].good ? kit_reward_one (self, &(KitAnswer){.completion = keywords[i].good}) : 1;
        double bad = keywords[i].bad ? kit_reward_one (self, &(KitAnswer){.completion = keywords[i].bad}) : 0.25;
        if (good != 1 || !(bad < 1))
            printf ("\n    %s: good %g, bad %g", keywords[i].schema, good, bad);
        CU_ASSERT (good == 1 && (bad == 0.25 || bad == -1));
        kit_reward ()->close (self);
    }
}

static double of (const char *args, const char *completion, const char *columns)
{
    void *self = kit_reward_open (args);
    double value = kit_reward_one (self, &(KitAnswer){.completion = completion, .columns = columns});
    kit_reward ()->close (self);
    return value;
}

static void test_rewards (void)
{
    CHECK_NEAR (of ("", " {\"a\": 1}\n", NULL), 1, 0);
    CHECK_NEAR (of ("", "{\"a\": 1} so", NULL), 0, 0);
    CHECK_NEAR (of ("", "", NULL), 0, 0);
    CHECK_NEAR (of ("no_match: -1, schema: {type: object, required: [a]}", "[1]", NULL), 0, 0);
    CHECK_NEAR (of ("no_match: -1, schema: {type: object, required: [a]}", "[1", NULL), -1, 0);
    CHECK_NEAR (of ("fenced: true", "Here:\n```json\n{\"a\": 1}\n```\nDone.", NULL), 1, 0);
    CHECK_NEAR (of ("fenced: true", "{\"a\": 1}", NULL), 1, 0);
    CHECK_NEAR (of ("fenced: true", "```json\n{\"a\": 1}", NULL), 0, 0);
    CHECK_NEAR (of ("equals: answer", "{\"a\": 1, \"b\": 2}", "{\"answer\": {\"a\": 1, \"b\": 3}}"), 0.5, 0);
    CHECK_NEAR (of ("equals: answer, match: 2, no_match: -2", "{\"a\": 1, \"b\": 2}", "{\"answer\": {\"a\": 1, \"b\": 3}}"), 0, 0);
    CHECK_NEAR (of ("equals: answer", "[1]", "{\"answer\": [1]}"), 1, 0);
    CHECK_NEAR (of ("equals: answer", "[2]", "{\"answer\": [1]}"), 0, 0);
    void *self = kit_reward_open ("equals: answer");
    uint32_t status;
    kit_reward_status (self, &(KitAnswer){.completion = "1"}, &status);
    CU_ASSERT_EQUAL (status, DPS_SCORE_NOT_JUDGED);
    kit_reward ()->close (self);
}

static void test_schema_from_a_file (void)
{
    char path[300], args[400];
    snprintf (path, sizeof path, DPS_BUILD "/tests/reward-json-%ld.json", (long)getpid ());
    DpsError err = DPS_ERROR_INIT;
    CHECK_OK (dps_file_write (path, "{\"type\": \"array\"}", 17, &err));
    snprintf (args, sizeof args, "schema_path: %s", path);
    CHECK_NEAR (of (args, "[]", NULL), 1, 0);
    CHECK_NEAR (of (args, "{}", NULL), 0, 0);
    CHECK_OK (dps_file_write (path, "{\"type\": \"list\"}", 16, &err));
    kit_reward_refuses (args, "/type: expected null, boolean");
    CHECK_OK (dps_remove_tree (path, &err));
    kit_reward_refuses (args, path);
}

static void test_refusals (void)
{
    static const char *const cases[][2] = {
        {"schema: {$ref: '#/x'}", "schema: /$ref: '#/x' names no schema of this document"},
        {"schema: {items: {$ref: 'other.json#/$defs/a'}}", "schema: /items/$ref: 'other.json#/$defs/a' names no schema"},
        {"schema: {$ref: '#/$defs/a', $defs: {b: true}}", "names no schema"},
        {"schema: {$ref: '#/default', default: {type: 'null'}}", "names no schema"},
        {"schema: {$ref: '#/allOf/01', allOf: [true, true]}", "names no schema"},
        {"schema: {$ref: '#/$defs/%zz', $defs: {'%zz': true}}", "names no schema"},
        {"schema: {$ref: '#/$defs/~2', $defs: {'~2': true}}", "names no schema"},
        {"schema: {$ref: '#anchor'}", "names no schema"},
        {"schema: {$ref: 1}", "names no schema"},
        {"schema: {$ref: '#'}", "schema: /$ref: the reference leads back to itself"},
        {"schema: {items: {$ref: '#/$defs/a'}, $defs: {a: {anyOf: [true, {$ref: '#/$defs/b'}]}, b: {not: {$ref: '#/$defs/a'}}}}",
         "/$ref: the reference leads back to itself"},
        {"schema: {if: {$ref: '#'}}", "schema: /if/$ref: the reference leads back to itself"},
        {"schema: {if: 3}", "schema: /if: expected a schema"},
        {"schema: {format: 3}", "schema: /format: expected a word"},
        {"schema: {properties: {a: {dependentRequired: {}}}}",
         "schema: /properties/a: keyword 'dependentRequired' is not one this reward knows"},
        {"schema: {type: text}", "schema: /type: expected null, boolean"},
        {"schema: {type: []}", "schema: /type: the list is empty"},
        {"schema: {minimum: low}", "schema: /minimum: expected a number"},
        {"schema: {minItems: -1}", "schema: /minItems: expected a whole number, at least 0"},
        {"schema: {multipleOf: 0}", "schema: /multipleOf: expected a number above 0"},
        {"schema: {pattern: '('}", "schema: /pattern: '(' is not a regular expression"},
        {"schema: {patternProperties: {'(': true}}", "is not a regular expression"},
        {"schema: {required: a}", "schema: /required: expected a list of names"},
        {"schema: {anyOf: []}", "schema: /anyOf: expected a list of schemas"},
        {"schema: {items: 3}", "schema: /items: expected a schema"},
        {"schema: {properties: []}", "schema: /properties: expected a map of schemas"},
        {"schema: {uniqueItems: 1}", "schema: /uniqueItems: expected true or false"},
        {"schema: '{\"type\": '", "schema:1:"},
        {"schema: '{\"type\": \"null\", \"type\": \"null\"}'", "schema:1:"},
        {"schema: {}, schema_path: x", "schema and schema_path are both given"},
        {"schema_path: /nonexistent/schema.json", "/nonexistent/schema.json"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        kit_reward_refuses (cases[i][0], cases[i][1]);
}

/* Deep answers are refused by the parser, deep schemas by us; alternatives in alternatives and long lists run into the count of steps. */
static void test_bounds (void)
{
    enum { DEEP = 100000 };
    char *deep = malloc (2 * DEEP + 1), args[4000] = "schema: '";
    uint32_t status;
    CU_ASSERT_PTR_NOT_NULL_FATAL (deep);
    memset (deep, '[', DEEP);
    memset (deep + DEEP, ']', DEEP);
    void *self = kit_reward_open ("");
    CHECK_NEAR (kit_reward_one (self, &(KitAnswer){.completion = deep, .len = 2 * DEEP}), 0, 0);
    kit_reward ()->close (self);
    size_t used = strlen (args);
    for (int i = 0; i < 70; i++)
        used += (size_t)snprintf (args + used, sizeof args - used, "{\"not\": ");
    used += (size_t)snprintf (args + used, sizeof args - used, "{}");
    for (int i = 0; i < 70; i++)
        used += (size_t)snprintf (args + used, sizeof args - used, "}");
    snprintf (args + used, sizeof args - used, "'");
    kit_reward_refuses (args, "nested too deeply");
    /* a list in a list …, deeper than schemas are applied */
    enum { NESTED = 1500 };
    memset (deep, '[', NESTED);
    memset (deep + NESTED, ']', NESTED);
    self = kit_reward_open ("schema: {type: array, items: {$ref: '#'}}");
    kit_reward_status (self, &(KitAnswer){.completion = deep, .len = 2 * (size_t)NESTED}, &status);
    CU_ASSERT_EQUAL (status, DPS_SCORE_FAILED);
    CHECK_NEAR (kit_reward_one (self, &(KitAnswer){.completion = "[[], [[]]]"}), 1, 0);
    CHECK_NEAR (kit_reward_one (self, &(KitAnswer){.completion = "[[], [[1]]]"}), 0, 0);
    kit_reward ()->close (self);
    /* each schema refers twice to the next: followed once, not 2^20 times; checking it runs into the count of steps */
    used = (size_t)snprintf (args, sizeof args, "schema: '{\"$ref\": \"#/$defs/d0\", \"$defs\": {");
    for (int i = 0; i < 25; i++)
        used += (size_t)snprintf (args + used, sizeof args - used,
                                  "\"d%d\": {\"allOf\": [{\"$ref\": \"#/$defs/d%d\"}, {\"$ref\": \"#/$defs/d%d\"}]}, ", i, i + 1, i + 1);
    snprintf (args + used, sizeof args - used, "\"d25\": true}}'");
    self = kit_reward_open (args);
    kit_reward_status (self, &(KitAnswer){.completion = "1"}, &status);
    CU_ASSERT_EQUAL (status, DPS_SCORE_FAILED);
    kit_reward ()->close (self);
    /* n equal-length different items: n² comparisons */
    size_t n = 0;
    char *list = malloc (200000);
    CU_ASSERT_PTR_NOT_NULL_FATAL (list);
    for (int i = 0; i < 10000; i++)
        n += (size_t)snprintf (list + n, 200000 - n, "%c%d", i ? ',' : '[', i);
    list[n++] = ']';
    self = kit_reward_open ("schema: {uniqueItems: true}");
    kit_reward_status (self, &(KitAnswer){.completion = list, .len = n}, &status);
    CU_ASSERT_EQUAL (status, DPS_SCORE_FAILED);
    CHECK_NEAR (kit_reward_one (self, &(KitAnswer){.completion = "[1, 2]"}), 1, 0);
    kit_reward ()->close (self);
    self = kit_reward_open ("schema: {pattern: '^(a+)+$'}");
    kit_reward_status (self, &(KitAnswer){.completion = "\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaab\""}, &status);
    CU_ASSERT_EQUAL (status, DPS_SCORE_FAILED);
    kit_reward ()->close (self);
    free (list);
    free (deep);
}

static void test_hostile (void)
{
    kit_reward_hostile ("schema: {type: object, properties: {a: {type: string}}}");
    kit_reward_hostile ("fenced: true, equals: answer");
}
static void test_allocations (void)
{
    kit_reward_allocations (
        "schema: {type: object, properties: {a: {pattern: '^x'}}, patternProperties: {b: true}, propertyNames: {minLength: 1}}",
        &(KitAnswer){.completion = "{\"a\": \"xy\", \"b\": [1]}"});
    kit_reward_allocations (
        "schema: {$ref: '#/$defs/a', $defs: {a: {items: {$ref: '#/$defs/b'}}, b: {if: {type: string}, else: {minimum: 1}}}}",
        &(KitAnswer){.completion = "[\"x\", 2]"});
    kit_reward_allocations ("equals: answer",
                            &(KitAnswer){.completion = "{\"a\": 1, \"b\": 2}", .columns = "{\"answer\": {\"a\": 1, \"b\": 3}}"});
}

CHECK_MAIN ("algorithms.reward_json", T (test_keywords), T (test_rewards), T (test_schema_from_a_file), T (test_refusals), T (test_bounds),
            T (test_hostile), T (test_allocations))
