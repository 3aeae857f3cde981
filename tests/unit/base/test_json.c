/* SPDX-License-Identifier: Apache-2.0 */
/* test_json.c: numbers as the tools of others write them. */
#include "base/json.h"

#include <string.h>

#include "check.h"

/* Integers beyond 64 bits, wherever they stand: refused in rows, read in configurations. "" where nobody takes the text. */
static const struct {
    const char *text, *wide;
} numbers[] = {
    {"{\"model_max_length\": 1000000000000000019884624838656, \"n\": 7}", "{\"model_max_length\": 1.000000000000000e+30, \"n\": 7}"},
    {"[-9223372036854775809,9223372036854775807,-1,18446744073709551616]",
     "[-9.223372036854775808e18,9223372036854775807,-1,18446744073709551616.0]"},
    {"[\"18446744073709551616 \\\" 18446744073709551616\",18446744073709551616]",
     "[\"18446744073709551616 \\\" 18446744073709551616\",18446744073709551616.0]"},
    {"18446744073709551616", "18446744073709551616.0"},
    {"[18446744073709551616,1e999]", ""},
    {"[18446744073709551616,01]", ""},
    {"[18446744073709551616,\"\\", ""},
};

static void test_wide_integers_are_reals_where_asked_for (void)
{
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        DpsError err = DPS_ERROR_INIT;
        json_t *got, *want = NULL;
        size_t len = strlen (numbers[i].text);
        char *exact = dps_malloc (len, 1); /* no byte behind it, for the sanitizer */
        CU_ASSERT_PTR_NOT_NULL_FATAL (exact);
        memcpy (exact, numbers[i].text, len);
        CU_ASSERT_EQUAL (dps_json_parse (exact, len, "rows", 1, 0, &got, &err), DPS_ERR_FORMAT);
        if (numbers[i].wide[0]) {
            CHECK_OK (dps_json_parse (exact, len, "config", 1, DPS_JSON_WIDE, &got, &err));
            CHECK_OK (dps_json_parse (numbers[i].wide, strlen (numbers[i].wide), "want", 1, 0, &want, &err));
            CU_ASSERT (json_equal (got, want));
            json_decref (got);
            json_decref (want);
        } else
            CU_ASSERT_EQUAL (dps_json_parse (exact, len, "config", 1, DPS_JSON_WIDE, &got, &err), DPS_ERR_FORMAT);
        dps_free (exact);
    }
}

CHECK_MAIN ("json", T (test_wide_integers_are_reals_where_asked_for))
