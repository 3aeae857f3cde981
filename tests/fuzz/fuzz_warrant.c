/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_warrant.c: any bytes as what speaks for a module: a manifest, a list of digests, a public key. Only a listed digest passes, and no signature. */
#include "fuzz.h"
#include "plugin/sign.h"
#include "plugin/warrant.h"

static const DpsDigest digest = {"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"};

/* At the beginning of a line, and a word of its own. */
static int is_there (const DpsBuf *list)
{
    for (size_t i = 0; i + 64 <= list->len; i++)
        if ((!i || list->data[i - 1] == '\n') && !memcmp (list->data + i, digest.hex, 64) &&
            (i + 64 == list->len || list->data[i + 64] == ' ' || list->data[i + 64] == '\n'))
            return 1;
    return 0;
}

/* Input: the manifest, a NUL, the list, a NUL, the key. */
int LLVMFuzzerTestOneInput (const uint8_t *data, size_t size)
{
    DpsError err = DPS_ERROR_INIT;
    DpsManifest m;
    char signer[65];
    const uint8_t *at = data, *end = data + size;
    DpsBuf text = fuzz_copy (fuzz_part (&at, end)), list = fuzz_copy (fuzz_part (&at, end)), key = fuzz_copy (fuzz_part (&at, end));
    const DpsWarrants w = {.list_path = (char *)"plugins.allow", .list = list, .keys = {{.fd = -1}, {.fd = -1}}, .broken = DPS_ERROR_INIT};
    const size_t n = dps__signed_bytes (text.len ? text.data : "", text.len);
    require (n < text.len || !text.len);
    if (dps__manifest_parse (text.len ? text.data : "", text.len, "fuzz", &m, &err) == DPS_OK) {
        const DpsStatus st = dps__warrant (&w, &m, &text, &digest, 0, "module", signer, &err);
        require (!signer[0] && (st == DPS_OK || err.msg[0]));
        require (st == DPS_OK ? is_there (&list) : !is_there (&list) || st == DPS_ERR_FORMAT);
        require (dps__sign_check (&key, "key", text.data, n, m.signature, &err) != DPS_OK);
    }
    dps_buf_free (&text);
    dps_buf_free (&list);
    dps_buf_free (&key);
    return 0;
}
