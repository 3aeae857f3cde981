/* SPDX-License-Identifier: Apache-2.0 */
/* gguf_names.h: a GGUF's names, metadata and value conventions in Hugging Face's terms. Internal to the stage. */
#ifndef DPS_GRAPH_GGUF_NAMES_H
#define DPS_GRAPH_GGUF_NAMES_H

#include "base/json.h"
#include "diapason/format.h"

/** What a stored tensor needs to become Hugging Face's. */
typedef enum DpsGgufFix {
    DPS_GGUF_AS_IS,
    DPS_GGUF_MINUS_ONE, /* Gemma norms are stored as 1 + w */
    DPS_GGUF_UNPERMUTE  /* llama's q and k rows are stored with rope's halves interleaved, head by head */
} DpsGgufFix;

typedef struct DpsGgufName {
    char hf[96]; /* "" : no weight of the model (rope_freqs.weight …) */
    DpsGgufFix fix;
    int is_key; /* of UNPERMUTE: heads are the key/value ones */
} DpsGgufName;

/** Translate a tensor name of architecture `arch` ("gemma3"). */
void dps__gguf_name (const char *arch, DpsStr name, DpsGgufName *out);

/** Make an error about a key of config.json one about the metadata of architecture `arch` that it came from. */
void dps__gguf_reword (DpsStr arch, DpsError *err);

/** A metadata value by key, or NULL. */
const DpsMeta *dps__gguf_find (const DpsMeta *const *meta, size_t n, const char *key);

/**
 * A config.json object from the metadata: a new reference. vocab: rows of the embedding; tied: there is no output.weight.
 * Errors: FORMAT naming the key; UNSUPPORTED for another architecture.
 */
DpsStatus dps__gguf_config (const DpsMeta *const *meta, size_t n, const char *where, int64_t vocab, int tied, json_t **out, DpsError *err);

#endif
