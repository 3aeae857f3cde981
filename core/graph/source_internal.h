/* SPDX-License-Identifier: Apache-2.0 */
/* source_internal.h: what source.c and source_quant.c share: the list of tensors, and those that are stored in bitsandbytes' codes. */
#ifndef DPS_GRAPH_SOURCE_INTERNAL_H
#define DPS_GRAPH_SOURCE_INTERNAL_H

#include "graph/gguf_names.h"
#include "graph/source.h"

/** A matrix in codes, several tensors of the folder. */
typedef struct DpsSourceCodes {
    DpsQuantForm form;
    int64_t shape[2];
    int64_t part[DPS_QPARTS]; /* items; -1: none, or said in the state */
    float nested_offset;
} DpsSourceCodes;

typedef struct DpsSourceItem {
    char *name; /* Hugging Face's */
    uint32_t file;
    uint64_t tensor; /* its number in the file */
    DpsGgufFix fix;
    int is_key;
    int is_part;           /* of a matrix in codes, which stands elsewhere in the list */
    DpsSourceCodes *codes; /* NULL: plain numbers, or a GGUF's blocks */
} DpsSourceItem;

struct DpsSource {
    char *path;
    const DpsFormat *format;
    struct DpsFormatFile **files;
    size_t n_files;
    DpsSourceItem *items; /* sorted by name */
    size_t n_items, item_capacity;
    json_t *config;
    int is_gguf;
    DpsMeta *meta;
    const DpsMeta **meta_list;
    size_t n_meta;
    int64_t heads, kv_heads;
};

/** Where row `row` of an item's matrix is stored. Errors: FORMAT. */
DpsStatus dps__source_stored_row (const DpsSource *s, const DpsSourceItem *item, int64_t rows, int64_t row, int64_t *out, DpsError *err);

/** Find what bitsandbytes wrote among the sorted items, and check it. Errors: FORMAT, SHAPE, UNSUPPORTED with the tensor's name; NOMEM. */
DpsStatus dps__source_fold (DpsSource *s, DpsError *err);
/** The matrix in place of its codes: shape, count, dtype. */
void dps__source_codes_info (const DpsSourceCodes *c, DpsTensorInfo *out);
/** Elements [first, first + n) in f32. */
DpsStatus dps__source_codes_read (DpsSource *s, const DpsSourceItem *item, uint64_t first, uint64_t n, float *dst, DpsError *err);

#endif
