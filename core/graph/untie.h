/* SPDX-License-Identifier: Apache-2.0 */
/* untie.h: a folder whose config.json ties the output head to the embedding, but whose files hold another head. Internal to the stage. */
#ifndef DPS_GRAPH_UNTIE_H
#define DPS_GRAPH_UNTIE_H

#include "graph/source.h"

/**
 * As transformers 5 does: a head of its own in the files wins over tie_word_embeddings, which becomes false in dps_source_config, with a
 * warning. A head that equals the embedding, and a configuration that no architecture reads, change nothing.
 * Errors: what reading tensors gives; NOMEM. [init]
 */
DpsStatus dps__source_untie (DpsSource *s, DpsError *err);

#endif
