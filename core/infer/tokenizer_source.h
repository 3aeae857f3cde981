/* SPDX-License-Identifier: Apache-2.0 */
/* tokenizer_source.h: the tokenizer that belongs to a model. */
#ifndef DPS_INFER_TOKENIZER_SOURCE_H
#define DPS_INFER_TOKENIZER_SOURCE_H

#include "graph/source.h"
#include "token/tokenizer.h"

/** Key of config.json in a model trained from a GGUF: the path of the file that holds its tokenizer. */
#define DPS_CONFIG_TOKENIZER "diapason_tokenizer"

/**
 * tokenizer.json of a Hugging Face folder, the metadata of a GGUF, or what DPS_CONFIG_TOKENIZER names. *out is NULL when there is none, and,
 * with a warning, when it is of a kind that is not read: rows of ids still work.
 * Errors: FORMAT, LIMIT, IO, NOMEM. Free with dps_tokenizer_free. [init]
 */
DpsStatus dps_tokenizer_from_source (const DpsRegistry *reg, const DpsSource *source, DpsTokenizer **out, DpsError *err);
/**
 * The same by the model's path, for who needs one and nothing else: a folder's weights and config.json need not be there.
 * Errors: those of dps_source_open too. [init]
 */
DpsStatus dps_tokenizer_open (const DpsRegistry *reg, const char *model, DpsTokenizer **out, DpsError *err);
#endif
