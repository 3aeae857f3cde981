/* SPDX-License-Identifier: Apache-2.0 */
/* card.h: the model card, README.md: the YAML header that model hubs read, then what was trained from what and how to use it. */
#ifndef DPS_OBSERVE_CARD_H
#define DPS_OBSERVE_CARD_H

#include "observe/report.h"

/** Everything borrowed; absent strings NULL. */
typedef struct DpsCard {
    const char *name;        /* of the model or adapter: the output folder's last component, or run_name */
    const char *base_model;  /* as the recipe names it */
    const char *base_sha256; /* the base's identity */
    const char *license;     /* "apache-2.0", "gemma" …; NULL: "other", to be filled in by whoever publishes */
    int is_adapter;          /* an adapter, else a whole model */
    int is_foreign;          /* … of a plugin whose arithmetic PEFT does not have: it refuses the folder */
    const char *const *tags; /* "lora", "sft" */
    size_t n_tags;
    const char *const *datasets; /* names or paths */
    size_t n_datasets;
    const DpsReportPair *settings; /* learning_rate and so on */
    size_t n_settings;
    const DpsReportScore *scores;
    size_t n_scores;
    const char *version; /* of Diapason */
} DpsCard;

/** Append the card. 0 or -1 (no memory). Pure. [any] */
int dps_card_markdown (DpsBuf *out, const DpsCard *c);
/** Write it to a file, atomically. Errors: IO, NOMEM. [any] */
DpsStatus dps_card_write (const char *path, const DpsCard *c, DpsError *err);

#endif
