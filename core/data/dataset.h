/* SPDX-License-Identifier: Apache-2.0 */
/*
 * dataset.h: the rows of a recipe as one sequence per epoch, in an order that is a pure function of (seed, epoch, place): a run that
 * resumes at place k of an epoch gets the rows it would have got.
 *
 * Of a file with `fraction` f, round (f · rows) rows are used in each epoch, and every row of it once before any comes again: with 0.5 all
 * rows pass in two epochs, with 2 each passes twice an epoch.
 */
#ifndef DPS_DATA_DATASET_H
#define DPS_DATA_DATASET_H

#include "data/row.h"
#include "data/rows.h"

/** One file of a data set. */
typedef struct DpsDatasetFile {
    DpsRows *rows;
    DpsRowMap map;
    char *name;           /* as the recipe gives it, or the path: for messages and the lock */
    uint64_t first, n;    /* the range of its rows that `split` selects */
    uint64_t n_per_epoch; /* round (fraction · n) */
    uint64_t offset;      /* of its places in an unshuffled epoch */
} DpsDatasetFile;

typedef struct DpsDataset {
    DpsDatasetFile *files;
    size_t n_files, capacity;
    uint64_t n_rows; /* of an epoch, > 0 */
    uint64_t seed;
    int shuffle;
    json_t *infos; /* dataset_info.json entries, kept for the maps that borrow from them */
} DpsDataset;

typedef struct DpsDatasetOptions {
    const DpsRecipeDatasets *sets;
    const char *text_field; /* borrowed as long as the data set lives */
    uint64_t seed;
    int shuffle;
} DpsDatasetOptions;

/**
 * Open and index every file. The recipe's strings stay borrowed. A path may be a file, a folder (the split names the file in it), or a
 * dataset_info.json with `name`. Errors: DATA, USAGE, NOT_FOUND, IO, NOMEM, each with its place. Free with dps_dataset_close. [any]
 */
DpsStatus dps_dataset_open (const DpsDatasetOptions *options, DpsDataset **out, DpsError *err);
/** datasets of a recipe, or its eval_datasets (never shuffled). */
DpsStatus dps_dataset_from_recipe (const DpsRecipe *recipe, int eval, DpsDataset **out, DpsError *err);
/** A single file, in its own order: what --data names. */
DpsStatus dps_dataset_from_file (const char *path, DpsDataset **out, DpsError *err);
void dps_dataset_close (DpsDataset *ds);

/** Which file and which of its rows stand at place k < n_rows of an epoch. Pure. [any] */
void dps_dataset_place (const DpsDataset *ds, uint64_t epoch, uint64_t k, size_t *out_file, uint64_t *out_row);

/** The row at place k of an epoch. Errors: DATA "file:line: …", IO, NOMEM. Release with dps_row_clear. Thread: [any], const. */
DpsStatus dps_dataset_row (const DpsDataset *ds, uint64_t epoch, uint64_t k, DpsRow *out, DpsError *err);
/** Row `row` of one of its files. The same errors. */
DpsStatus dps_dataset_file_row (const DpsDatasetFile *file, uint64_t row, DpsRow *out, DpsError *err);

#endif
