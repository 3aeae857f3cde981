/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_tokenizer_config.c: any JSON as the files beside tokenizer.json: what they say ends generation, is added, or is the chat template. */
#include "fuzz_use.h"
#include "token/tokenizer_folder.h"

static const char tokenizer[] =
    "{\"added_tokens\":[{\"id\":1,\"content\":\"<s>\",\"special\":true},{\"id\":2,\"content\":\"</s>\",\"special\":true}],"
    "\"normalizer\":null,\"pre_tokenizer\":null,\"post_processor\":null,\"decoder\":{\"type\":\"Fuse\"},"
    "\"model\":{\"type\":\"BPE\",\"unk_token\":\"<unk>\",\"vocab\":{\"<unk>\":0,\"<s>\":1,\"</s>\":2,\"a\":3,\"b\":4,\"ab\":5},"
    "\"merges\":[\"a b\"]}}";

/* Input, with NULs between: tokenizer_config, special_tokens_map, generation_config, chat_template .json; chat_template.jinja. */
int LLVMFuzzerTestOneInput (const uint8_t *data, size_t size)
{
    DpsError err = DPS_ERROR_INIT;
    DpsTokenizer *tok;
    DpsTokenizerFiles f = {.tokenizer = tokenizer, .tokenizer_len = sizeof tokenizer - 1};
    const uint8_t *at = data, *end = data + size;
    json_t **const files[] = {&f.config, &f.special_map, &f.generation, &f.chat};
    for (size_t i = 0; i < sizeof files / sizeof *files; i++)
        *files[i] = fuzz_json (fuzz_part (&at, end));
    const DpsStr template = fuzz_part (&at, end);
    char *jinja = template.len ? dps_strndup (template.ptr, template.len) : NULL;
    f.chat_template = jinja;
    if (dps__tokenizer_from_files (&f, &tok, &err) == DPS_OK) {
        for (int i = 0; i < DPS_NAMED_TOKENS; i++)
            require (dps_tokenizer_named (tok, i) >= -1 && dps_tokenizer_named (tok, i) < (int32_t)dps_tokenizer_vocab (tok));
        DpsTemplate own;
        require (!jinja || (dps_tokenizer_chat_template (tok, 0, &own, &err) == DPS_OK && own.source));
        fuzz_use (tok);
        dps_tokenizer_free (tok);
    } else
        require (err.msg[0] != '\0');
    for (size_t i = 0; i < sizeof files / sizeof *files; i++)
        json_decref (*files[i]);
    dps_free (jinja);
    return 0;
}
