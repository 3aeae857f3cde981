/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_use.h: a tokenizer that loads encodes texts to ids of its vocabulary and decodes them. */
#ifndef DPS_TESTS_FUZZ_USE_H
#define DPS_TESTS_FUZZ_USE_H

#include "fuzz.h"
#include "token/tokenizer.h"

static inline void fuzz_use (const DpsTokenizer *tok)
{
    static const char *const texts[] = {"", "Hello  world 12", "\xc3\xa9t\xc3\xa9 <s>\n\t", "\xff\xfe aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"};
    DpsError err = DPS_ERROR_INIT;
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        DpsIds ids = {0};
        DpsBuf text = {0};
        if (dps_tokenizer_encode (tok, texts[i], strlen (texts[i]), i % 2 ? DPS_TOKENIZE_SPECIAL : DPS_TOKENIZE_LITERAL, &ids, &err) ==
            DPS_OK) {
            for (size_t k = 0; k < ids.n; k++)
                require (ids.ids[k] >= 0 && (size_t)ids.ids[k] < dps_tokenizer_vocab (tok));
            dps_tokenizer_decode (tok, ids.ids, ids.n, 0, &text, &err);
        }
        dps_free (ids.ids);
        dps_buf_free (&text);
    }
}

#endif
