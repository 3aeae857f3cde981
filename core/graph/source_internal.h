/* SPDX-License-Identifier: Apache-2.0 */
/* source_internal.h: what the files of source share: the list of tensors, a GGUF's, and those that are stored in bitsandbytes' codes. */
#ifndef DPS_GRAPH_SOURCE_INTERNAL_H
#define DPS_GRAPH_SOURCE_INTERNAL_H

#include "graph/gguf_names.h"
#include "graph/shard_index.h"
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
    int head_is_embed; /* "lm_head.weight" is in no file and found as the embedding */
};

/** Open one more file, the last of s->files. Errors: those of the format, NOMEM. */
DpsStatus dps__source_open_file (DpsSource *s, const char *path, DpsError *err);
/** One more tensor of the list; its name is copied. Errors: NOMEM. */
DpsStatus dps__source_add (DpsSource *s, const char *name, size_t len, DpsSourceItem item, DpsError *err);
/** Sort the list by name. shards: the files' names, for errors; NULL: there is one file. Errors: FORMAT: a name stands twice. */
DpsStatus dps__source_sort (DpsSource *s, const char *const *shards, DpsError *err);

/** Open s->path with the plugin `gguf`: list, metadata and configuration. Errors: NOT_FOUND, FORMAT, UNSUPPORTED, NOMEM. */
DpsStatus dps__source_open_gguf (DpsSource *s, const DpsRegistry *reg, DpsError *err);

/** A folder without config.json, and a path that is not there: what else it may be, in the message. Return NOT_FOUND. */
DpsStatus dps__source_no_model (const char *folder, DpsError *err);
DpsStatus dps__source_no_such (const char *path, DpsError *err);

/** Where row `row` of an item's matrix is stored. Errors: FORMAT. */
DpsStatus dps__source_stored_row (const DpsSource *s, const DpsSourceItem *item, int64_t rows, int64_t row, int64_t *out, DpsError *err);

/** Find what bitsandbytes wrote among the sorted items, and check it. Errors: FORMAT, SHAPE, UNSUPPORTED with the tensor's name; NOMEM. */
DpsStatus dps__source_fold (DpsSource *s, DpsError *err);
/** The matrix in place of its codes: shape, count, dtype. */
void dps__source_codes_info (const DpsSourceCodes *c, DpsTensorInfo *out);
/** Elements [first, first + n) in f32. */
DpsStatus dps__source_codes_read (DpsSource *s, const DpsSourceItem *item, uint64_t first, uint64_t n, float *dst, DpsError *err);

#endif
