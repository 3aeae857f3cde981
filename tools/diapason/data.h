/* SPDX-License-Identifier: Apache-2.0 */
/* data.h: the parts of the data verb, and what they share. */
#ifndef DPS_TOOLS_DATA_H
#define DPS_TOOLS_DATA_H

#include "data/dataset.h"
#include "diapason/cli.h"
#include "infer/generate.h"
#include "objective/rewards.h"
#include "token/encode.h"
#include "train/session.h"

/** What a recipe's model makes tokens of rows with; its weights are not read. All zeros is closed. */
typedef struct DataText {
    DpsSource *source;
    DpsTokenizer *tok;
    DpsEncoder *encoder;
} DataText;
/** Errors: those of the model's files and of the recipe's template, with the recipe's line. Close it also after an error. [init] */
DpsStatus data_text_open (DataText *t, const DpsRegistry *reg, const DpsRecipe *r, DpsError *err);
void data_text_close (DataText *t);

/** A recipe's rows, and what makes tokens of them. */
typedef struct DataRows {
    DpsRegistry *reg;
    DpsRecipe *recipe;
    DataText text;
    DpsDataset *ds; /* in the files' order */
    uint32_t unit;  /* what the recipe's stage makes of a row */
} DataRows;

/** `diapason data check`. Errors: DATA when a row would be refused; those of training but of its rows. */
DpsStatus data_check (const DataRows *r, DpsError *err);
/** `diapason data mask` of n_rows from first_row on. Errors: USAGE past the last row; DATA. */
DpsStatus data_mask (const DataRows *r, int first_row, int n_rows, DpsError *err);

/** `diapason data simulate …`, `diapason data reward …` */
extern const DpsVerb data_verb_simulate, data_verb_reward;

/** Flags that stand for keys of a recipe; absent ones are NULL, or below zero. */
typedef struct DataFlags {
    char *model, *data;
    char **adapters, **rewards;
    int num_generations, max_tokens;
    gint64 seed;
    double temperature;
} DataFlags;
#define DATA_FLAGS_INIT                                                                                                                    \
    {                                                                                                                                      \
        .num_generations = -1, .max_tokens = -1, .seed = -1, .temperature = -1                                                             \
    }

/** Flags as overrides of the recipe, in front of --set, which has the last word. */
void data_set_flags (const DataFlags *f);

/** A recipe with its rewards, rows and plugins. All zeros is closed. */
typedef struct DataJob {
    DpsRecipe *recipe;
    DpsRegistry *reg;
    DpsDataset *ds; /* in the files' order */
    DpsRewardSet *rewards;
    const DpsStr *names; /* of the criteria */
    const double *weights;
    size_t n_criteria;
} DataJob;

/**
 * The recipe at path (NULL: none) with flags and --set over it. out: what will be written, NULL: nothing.
 * Errors: USAGE where rows or rewards are missing, or out is one of the files of rows; those of both. [init]
 */
DpsStatus data_open (DataJob *job, const char *path, const DataFlags *flags, const char *out, DpsError *err);
void data_close (DataJob *job);

/** Σ weight·value over the criteria that judged, NaN when none did. */
double data_total (const DataJob *job, const double *values);
/** {"length": 0.5, "tone": null} */
json_t *data_scores (const DataJob *job, const double *values);

/** What a row's answer continues: its prompt, or where it has none of its own the text or conversation. */
const DpsContent *data_prompt_of (const DpsRow *row);

/** A row whose prompt is answered. All zeros is empty. */
typedef struct DataPrompt {
    DpsRow row;
    DpsEncodedUnit unit;
    DpsBuf text, columns; /* as rendered; the row's other columns as JSON */
} DataPrompt;
/** Row k of the job's. tok may be NULL. Errors: DATA, NOMEM. */
DpsStatus data_prompt_read (const DataJob *job, const DpsEncoder *e, const DpsTokenizer *tok, uint64_t k, DataPrompt *p, DpsError *err);
void data_prompt_free (DataPrompt *p);

/** Who was asked how often: run is the simulation's name in rows. */
typedef struct DataAsked {
    const DataJob *job;
    const char *run;
    size_t k;
} DataAsked;
/**
 * k answers and their scores (k, n_criteria) as a row: the best and the worst of them, or all. A new reference; NULL where *what (DATA_TIE,
 * DATA_NOT_JUDGED) says why there is none.
 */
json_t *data_pair (const DataAsked *s, const DataPrompt *p, const DpsCompletion *answers, const double *values, char *what);
json_t *data_group (const DataAsked *s, const DataPrompt *p, const DpsCompletion *answers, const double *values, char *what);

/*
 * The journal of a simulation: OUT.partial, a line for each prompt, so that what was sampled is not sampled again. Its first line says what is
 * simulated; a journal of something else is begun anew.
 */
typedef struct DataJournal {
    char *path;
    int fd;
    uint64_t n; /* prompts in it */
} DataJournal;

/** What became of a prompt: the line's first letter. */
enum { DATA_KEPT = '+', DATA_TIE = '=', DATA_NOT_JUDGED = '?' };

/** Open, lock, and find what there is. Errors: LOCK when another process writes it; IO, NOMEM. */
DpsStatus data_journal_open (const char *out, const char *what, DataJournal *j, DpsError *err);
/** Add whole lines, durably. n: how many prompts they are. */
DpsStatus data_journal_add (DataJournal *j, const DpsBuf *lines, uint64_t n, DpsError *err);
/** visit each line without its end; the first is line 1. */
DpsStatus data_journal_read (const DataJournal *j, DpsStatus (*visit) (void *ctx, char what, DpsStr line, DpsError *err), void *ctx,
                             DpsError *err);
/** remove: the work is done. */
void data_journal_close (DataJournal *j, int remove);

/** What is simulated from what: everything the rows are a function of; every prompt is read. A new reference. */
DpsStatus data_provenance (const DataJob *job, DpsSession *s, const DpsEncoder *e, const char *format, json_t **out, DpsError *err);

#endif
