/* SPDX-License-Identifier: Apache-2.0 */
/* places.h: sequences and pairs of a parity model's batch.json as places of a step, and rows that only open a trainer. */
#ifndef DPS_TESTS_PLACES_H
#define DPS_TESTS_PLACES_H

#include "train/trainer.h"

/* Sequence `index` appended to a place, trained where `mask` says. */
static inline void place_add (DpsPlace *p, const json_t *batch, size_t index, const char *mask_name, size_t prefix)
{
    json_t *s = json_array_get (json_object_get (batch, "sequences"), index), *ids = json_object_get (s, "ids"),
           *mask = json_object_get (s, mask_name);
    size_t n = json_array_size (ids);
    int32_t *copy = dps_calloc (n, sizeof *copy);
    float *weights = dps_calloc (n, sizeof *weights);
    for (size_t k = 0; k < n; k++) {
        copy[k] = (int32_t)json_integer_value (json_array_get (ids, k));
        weights[k] = (float)json_integer_value (json_array_get (mask, k));
    }
    p->sequences = dps_realloc (p->sequences, p->n + 1, sizeof *p->sequences);
    p->sequences[p->n] = (DpsSequence){.ids = copy, .weights = weights, .n = n, .prefix = prefix, .joins = p->n > 0, .key = index};
    p->n++;
}

static inline DpsPlace place_of_sequence (const json_t *batch, size_t index)
{
    DpsPlace p = {0};
    place_add (&p, batch, index, "sft_mask", 0);
    dps_batch_count (p.sequences, p.n, &p.counts);
    return p;
}

/* Entry `index` of batch.json's pairs; shared: the prompt once for both; last_state: what is scored is each last token's. */
static inline DpsPlace place_of_pair (const json_t *batch, size_t index, int shared, int last_state)
{
    DpsPlace p = {0};
    json_t *pair = json_array_get (json_object_get (batch, "pairs"), index);
    for (size_t k = 0; k < 2; k++) {
        size_t at = (size_t)json_integer_value (json_array_get (pair, k));
        json_t *s = json_array_get (json_object_get (batch, "sequences"), at);
        place_add (&p, batch, at, "completion_mask", shared ? (size_t)json_integer_value (json_object_get (s, "prompt_length")) : 0);
        p.sequences[k].row = index;
        p.sequences[k].last_state = last_state;
    }
    dps_batch_count (p.sequences, p.n, &p.counts);
    return p;
}

/* 16 rows: of single sequences, or groups of two answers, which stages on pairs take too. */
static inline void write_rows (const char *path, int answers)
{
    FILE *f = fopen (path, "w");
    CU_ASSERT_PTR_NOT_NULL_FATAL (f);
    for (int i = 0; i < 16; i++)
        fputs (answers ? "{\"prompt_input_ids\": [2, 5, 6], \"completions\": [{\"input_ids\": [7, 8], \"scores\": {\"a\": 1}}, "
                         "{\"input_ids\": [9], \"scores\": {\"a\": 0}}]}\n"
                       : "{\"input_ids\": [2, 5, 6, 7, 8]}\n",
               f);
    fclose (f);
}

#endif
