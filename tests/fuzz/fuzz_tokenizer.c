/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_tokenizer.c: any bytes as tokenizer.json; one that loads encodes texts to ids of its vocabulary and decodes them. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/json.h"
#include "token/tokenizer.h"

static void require (int ok)
{
    if (!ok)
        __builtin_trap ();
}

static char folder[] = "/tmp/diapason-fuzz-XXXXXX";

int LLVMFuzzerInitialize (int *argc, char ***argv)
{
    (void)argc, (void)argv;
    dps_json_init ();
    require (mkdtemp (folder) != NULL);
    return 0;
}

static void use (const DpsTokenizer *tok)
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

int LLVMFuzzerTestOneInput (const uint8_t *data, size_t size)
{
    DpsError err = DPS_ERROR_INIT;
    DpsTokenizer *tok;
    char path[128];
    snprintf (path, sizeof path, "%s/tokenizer.json", folder);
    FILE *f = fopen (path, "w");
    require (f && fwrite (data, 1, size, f) == size && fclose (f) == 0);
    if (dps_tokenizer_from_folder (folder, &tok, &err) == DPS_OK) {
        use (tok);
        dps_tokenizer_free (tok);
    } else
        require (err.msg[0] != '\0');
    return 0;
}
