/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_json.c: any bytes into the JSON reader; what parses must print and read back equal. */
#include "fuzz.h"

/* Strings and numbers go through our own printers; they must read back as the same value. */
static void round_trip (const json_t *value)
{
    DpsBuf text = {0};
    DpsError err = {0};
    json_t *again = NULL;
    if (json_is_string (value))
        require (dps_json_quote (&text, json_string_value (value), json_string_length (value)) == 0);
    else if (json_is_real (value))
        require (dps_json_number (&text, json_real_value (value)) == 0);
    else
        return;
    DpsBuf line = {0};
    require (dps_buf_str (&line, "[") == 0 && dps_buf_add (&line, text.data, text.len) == 0 && dps_buf_str (&line, "]") == 0);
    require (dps_json_parse (line.data, line.len, "again", 1, 0, &again, &err) == DPS_OK);
    const json_t *got = json_array_get (again, 0);
    require (json_is_real (value) ? json_number_value (got) == json_real_value (value) : json_equal (got, value));
    json_decref (again);
    dps_buf_free (&line);
    dps_buf_free (&text);
}

int LLVMFuzzerTestOneInput (const uint8_t *data, size_t size)
{
    if (size < 1)
        return 0;
    DpsError err = {0};
    json_t *value = NULL;
    unsigned flags = data[0] & 1 ? DPS_JSON_UNIQUE : 0;
    if (dps_json_parse ((const char *)data + 1, size - 1, "fuzz", 1, flags, &value, &err) != DPS_OK) {
        require (value == NULL && err.msg[0]);
        return 0;
    }
    const char *key;
    json_t *item;
    size_t i;
    json_object_foreach (value, key, item)
        round_trip (item);
    json_array_foreach (value, i, item)
        round_trip (item);
    json_decref (value);
    return 0;
}
