/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_certificate.c: any bytes as a certificate of `diapason check`; any JSON also with the digest it ought to have, which no mutation would hit.
 * fuzz-sources: tools/check/certificate_read.c
 */
#include "base/utf8.h"
#include "check/certificate.h"
#include "fuzz.h"

static void verify (const char *text, size_t size, int signed_right)
{
    DpsError err = DPS_ERROR_INIT;
    json_t *out = NULL;
    const DpsStatus st = check_verify_certificate (fuzz_file ("certificate", text, size), NULL, &out, &err);
    require ((st == DPS_OK) == (out != NULL) && (st == DPS_OK || err.msg[0]));
    require (!signed_right || st != DPS_ERR_DIGEST);
    if (out) { /* what is printed of one that holds */
        const json_t *result = json_object_get (out, "result");
        const char *id = json_string_value (json_object_get (json_object_get (result, "plugin"), "id"));
        require (json_is_true (json_object_get (result, "ok")) && id && *id && dps_utf8_is_plain (id, strlen (id)));
    }
    json_decref (out);
}

/* Through text once, as a certificate is written: what is hashed is what will be read back. */
static json_t *through_text (const json_t *body)
{
    json_t *again = NULL;
    char *text = json_dumps (body, JSON_REAL_PRECISION (9));
    if (text && dps_json_parse (text, strlen (text), "fuzz", 1, 0, &again, NULL) != DPS_OK)
        again = NULL;
    dps_free (text);
    return again;
}

int LLVMFuzzerTestOneInput (const uint8_t *data, size_t size)
{
    DpsDigest digest;
    verify ((const char *)data, size, 0);
    json_t *read = fuzz_json ((DpsStr){(const char *)data, size}), *body = json_is_object (read) ? through_text (read) : NULL;
    if (body && json_object_del (body, "sha256") <= 0 && check_certificate_digest (body, &digest, NULL) == DPS_OK) {
        json_object_set_new (body, "sha256", json_string (digest.hex));
        char *text = json_dumps (body, JSON_REAL_PRECISION (9));
        require (text != NULL);
        verify (text, strlen (text), 1);
        dps_free (text);
    }
    json_decref (body);
    json_decref (read);
    return 0;
}
