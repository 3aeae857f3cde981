/* SPDX-License-Identifier: Apache-2.0 */
/* scan.h: where rows begin, found from a stream of bytes given piece by piece. Internal to the stage. */
#ifndef DPS_DATA_SCAN_H
#define DPS_DATA_SCAN_H

#include "data/rows.h"

/** Rows whose line number is kept, so that any other is found by counting newlines from there. */
enum { DPS_SCAN_ANCHOR = 256 };

typedef struct DpsRowScan {
    DpsRowsFormat format;
    char delimiter;   /* CSV: ',', ';' or tab */
    const char *path; /* for messages */
    uint64_t at;      /* bytes consumed */
    uint64_t line;    /* from 1 */
    uint64_t line_start;
    uint64_t *starts; /* [n] offset of each row's first byte */
    size_t n, capacity;
    uint64_t *anchors; /* [⌈n / DPS_SCAN_ANCHOR⌉] lines */
    size_t anchor_capacity;
    uint64_t header, header_end; /* CSV: the first record */
    int has_header;
    uint64_t row_start, row_line; /* of the row being read */
    uint64_t text_end;            /* past the last byte that is not white space */
    int in_row;
    int depth, in_string, escaped; /* JSON array */
    int state;                     /* JSON array: what may come next; CSV: where in a field */
} DpsRowScan;

/** Feed bytes. Errors: DATA, NOMEM. */
DpsStatus dps__scan_feed (DpsRowScan *s, const char *data, size_t len, DpsError *err);
/** The end of the file. */
DpsStatus dps__scan_end (DpsRowScan *s, DpsError *err);
void dps__scan_free (DpsRowScan *s);

/** One CSV record into its fields. *out: an array of strings. Errors: DATA without a place. */
DpsStatus dps__csv_fields (const char *record, size_t len, char delimiter, json_t **out, DpsError *err);

#endif
