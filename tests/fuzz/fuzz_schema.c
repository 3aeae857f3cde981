/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_schema.c: a stranger's JSON schema against answers, within its steps and depth. fuzz-sources: algorithms/reward_json/schema*.c */
#include <stdint.h>
#include <string.h>

#include "algorithms/reward_json/schema.h"

static void require (int ok)
{
    if (!ok)
        __builtin_trap ();
}

int LLVMFuzzerInitialize (int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
    dps_json_init ();
    return 0;
}

/* Input: the schema, a NUL, then answers separated by NULs. */
int LLVMFuzzerTestOneInput (const uint8_t *data, size_t size)
{
    DpsError err = DPS_ERROR_INIT;
    Schema *schema = NULL;
    const char *at = (const char *)data, *end = at + size;
    size_t n = strnlen (at, size);
    if (schema_new ((DpsStr){at, n}, "schema", &schema, &err) != DPS_OK) {
        require (!schema && err.msg[0]);
        return 0;
    }
    for (at += n + (n < size); at < end; at += n + 1) {
        json_t *value = NULL;
        int fits = -1, again = -1;
        n = strnlen (at, (size_t)(end - at));
        if (dps_json_parse (at, n, "answer", 1, 0, &value, &err) == DPS_OK) {
            DpsStatus st = schema_check (schema, value, &fits, &err);
            require (st != DPS_OK || fits == 0 || fits == 1);
            require (schema_check (schema, value, &again, &err) == st && again == fits); /* nothing is left over from the first time */
        }
        json_decref (value);
        if (n == (size_t)(end - at))
            break;
    }
    schema_free (schema);
    return 0;
}
