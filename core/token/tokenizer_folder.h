/* SPDX-License-Identifier: Apache-2.0 */
/* tokenizer_folder.h: the parts of reading a Hugging Face folder's tokenizer. */
#ifndef DPS_TOKEN_TOKENIZER_FOLDER_H
#define DPS_TOKEN_TOKENIZER_FOLDER_H

#include "base/json.h"
#include "token/tokenizer_internal.h"

/** Fill an empty tokenizer from the text of tokenizer.json; derived tables (dps__tokenizer_finish) are not made yet. */
DpsStatus dps__tokenizer_json (const char *data, size_t len, DpsTokenizer *tok, DpsError *err);
/** Read a post_processor (NULL or null: none) into prefix and suffix. */
DpsStatus dps__post_processor (json_t *part, DpsTokenizer *tok, int depth, DpsError *err);
#define DPS_TOKENIZER_CONFIG "tokenizer_config.json"
/** Chat templates in files of their own, as transformers saves them. */
#define DPS_CHAT_FILE      "chat_template.jinja"
#define DPS_CHAT_FOLDER    "additional_chat_templates"
#define DPS_CHAT_TOOL_FILE DPS_CHAT_FOLDER "/tool_use.jinja"
/** The whole of dps_tokenizer_from_folder on text in memory; every file but tokenizer.json may be NULL. For tests and fuzzing too. */
typedef struct DpsTokenizerFiles {
    const char *tokenizer; /* tokenizer.json */
    size_t tokenizer_len;
    json_t *config, *special_map, *generation, *chat; /* tokenizer_config, special_tokens_map, generation_config, chat_template .json */
    const char *chat_template, *tool_template;        /* DPS_CHAT_FILE and DPS_CHAT_TOOL_FILE */
    const char *folder;                               /* for errors; may be NULL */
} DpsTokenizerFiles;
DpsStatus dps__tokenizer_from_files (const DpsTokenizerFiles *files, DpsTokenizer **out, DpsError *err);

/**
 * A folder's tokenizer_config.json with the chat templates that lie in files of their own as its "chat_template", a list by name: for what
 * holds no folders (a checkpoint, a seal). Left empty where no template lies in DPS_CHAT_FOLDER: the files can be copied as they are.
 * Errors: FORMAT, LIMIT, IO, NOMEM. [any]
 */
DpsStatus dps_tokenizer_gather_chats (const char *folder, DpsBuf *out, DpsError *err);

#endif
