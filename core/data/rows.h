/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rows.h: random access to the rows of one file. One pass finds where each row begins (8 bytes a row are kept, nothing else) and hashes the
 * file; a row is then one read. So a file of any size is served in bounded memory.
 *
 * JSON lines, a JSON array, CSV or TSV with a header, plain text (a row per line). Byte order mark, CRLF, blank lines and U+2028 inside
 * strings are accepted. A row above DPS_ROW_MAX_BYTES is refused by its line number.
 */
#ifndef DPS_DATA_ROWS_H
#define DPS_DATA_ROWS_H

#include "base/json.h"
#include "base/sha256.h"

enum { DPS_ROW_MAX_BYTES = 16 << 20 };

typedef enum DpsRowsFormat { DPS_ROWS_JSONL, DPS_ROWS_ARRAY, DPS_ROWS_CSV, DPS_ROWS_TEXT } DpsRowsFormat;

typedef struct DpsRows DpsRows;

/**
 * Open a file and index it. The format follows from the extension and, for JSON, from the first byte.
 * Errors: DATA "path:line: …" for what is no sequence of rows; NOT_FOUND, IO, NOMEM; UNSUPPORTED for compressed files and parquet. [any]
 */
DpsStatus dps_rows_open (const char *path, DpsRows **out, DpsError *err);
void dps_rows_close (DpsRows *rows);

uint64_t dps_rows_count (const DpsRows *rows);
/** Of the file, when it was indexed. */
uint64_t dps_rows_bytes (const DpsRows *rows);
const char *dps_rows_path (const DpsRows *rows);
/** SHA-256 of the whole file as it was indexed. */
const DpsDigest *dps_rows_digest (const DpsRows *rows);

/**
 * Row i as a JSON object; *out_line: the line it begins at, from 1. Plain text gives {"text": …}, CSV an object of strings.
 * Duplicate keys are refused. Errors: DATA "path:line: …"; IO when the file changed since it was opened; NOMEM. Thread: [any], const.
 */
DpsStatus dps_rows_get (const DpsRows *rows, uint64_t i, json_t **out, uint64_t *out_line, DpsError *err);

#endif
