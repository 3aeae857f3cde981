/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_schema.c: a stranger's JSON schema against answers, within its steps and depth. fuzz-sources: algorithms/reward_json/schema*.c */
#include "algorithms/reward_json/schema.h"
#include "fuzz.h"

/* Input: the schema, a NUL, then answers separated by NULs. */
int LLVMFuzzerTestOneInput (const uint8_t *data, size_t size)
{
    DpsError err = DPS_ERROR_INIT;
    Schema *schema = NULL;
    const uint8_t *at = data, *end = data + size;
    if (schema_new (fuzz_part (&at, end), "schema", &schema, &err) != DPS_OK) {
        require (!schema && err.msg[0]);
        return 0;
    }
    while (at < end) {
        json_t *value = fuzz_json (fuzz_part (&at, end));
        int fits = -1, again = -1;
        if (value) {
            DpsStatus st = schema_check (schema, value, &fits, &err);
            require (st != DPS_OK || fits == 0 || fits == 1);
            require (schema_check (schema, value, &again, &err) == st && again == fits); /* nothing is left over from the first time */
        }
        json_decref (value);
    }
    schema_free (schema);
    return 0;
}
