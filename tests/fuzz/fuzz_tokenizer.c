/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_tokenizer.c: any bytes as tokenizer.json; one that loads encodes texts to ids of its vocabulary and decodes them. */
#include "fuzz_use.h"

int LLVMFuzzerTestOneInput (const uint8_t *data, size_t size)
{
    DpsError err = DPS_ERROR_INIT;
    DpsTokenizer *tok;
    fuzz_file ("tokenizer.json", data, size);
    if (dps_tokenizer_from_folder (fuzz_folder (), &tok, &err) == DPS_OK) {
        fuzz_use (tok);
        dps_tokenizer_free (tok);
    } else
        require (err.msg[0] != '\0');
    return 0;
}
