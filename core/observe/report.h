/* SPDX-License-Identifier: Apache-2.0 */
/*
 * report.h: report.html: one page that says what was trained, how it went and what it changed. Self-contained: no script, no font, no
 * picture from elsewhere; light and dark; every text escaped. Curves come from the log history (keys loss, eval_loss, learning_rate,
 * grad_norm, mean_token_accuracy, tokens_per_second; a curve without values is left out).
 */
#ifndef DPS_OBSERVE_REPORT_H
#define DPS_OBSERVE_REPORT_H

#include "base/json.h"

/** A name and a value, both plain text. */
typedef struct DpsReportPair {
    const char *name, *value;
} DpsReportPair;

/** A table of pairs: "Recipe", "Base model", "Data". */
typedef struct DpsReportGroup {
    const char *title;
    const DpsReportPair *rows;
    size_t n;
} DpsReportGroup;

/** What a measurement on held-out rows said before and after training; NaN: not measured. */
typedef struct DpsReportScore {
    const char *name;   /* "Label accuracy" */
    const char *detail; /* "500 held-out tickets"; NULL: none */
    double before, after;
    int lower_is_better; /* losses, perplexity */
    int percent;         /* values are shares of 1, shown as percentages */
} DpsReportScore;

/** One prompt with what was sampled for it early and late in the run. Any text may be NULL. */
typedef struct DpsReportSample {
    const char *prompt, *expected, *early, *late;
} DpsReportSample;

/** Everything borrowed. */
typedef struct DpsReport {
    const char *title;          /* "help-desk triage" */
    const char *subtitle;       /* "LoRA r=16 on gemma-3-270m · 1 epoch · 2026-11-24" */
    const char *version;        /* of Diapason */
    const DpsReportPair *facts; /* the few figures at the top: "Duration" "9:41" */
    size_t n_facts;
    const DpsReportScore *scores;
    size_t n_scores;
    const DpsReportSample *samples;
    size_t n_samples;
    const DpsReportGroup *groups;
    size_t n_groups;
    const json_t *log_history; /* array, as in trainer_state.json; NULL: none */
} DpsReport;

/** Append the page. 0 or -1 (no memory). Pure. [any] */
int dps_report_html (DpsBuf *out, const DpsReport *r);
/** Write it to a file, atomically. Errors: IO, NOMEM. [any] */
DpsStatus dps_report_write (const char *path, const DpsReport *r, DpsError *err);

#endif
