/* SPDX-License-Identifier: Apache-2.0 */
/*
 * jscan.h: reads a large JSON document in place, value by value, without building a tree: tokenizer.json holds up to a million short
 * strings, for which a tree costs thirty times their size. Small members are handed to jansson. Plugins read JSON with it: jansson's
 * allocator is the whole process's and belongs to the host.
 */
#ifndef DPS_BASE_JSCAN_H
#define DPS_BASE_JSCAN_H

#include "base/mem.h"
#include "base/status.h"

/** A cursor into a document; `at` is the next byte to read. */
typedef struct DpsScan {
    const char *s;
    size_t len, at;
} DpsScan;

/** All errors are FORMAT "LINE:COLUMN: found, expected", LIMIT for nesting past 256, or NOMEM. */

/** The next byte that is not white space, or 0 at the end. */
int dps_scan_peek (DpsScan *c);
/** Step over one value of any kind. Numbers and literals are checked lightly, strings fully. */
DpsStatus dps_scan_skip (DpsScan *c, DpsError *err);
/** Read a string, unescaped, into `out` (overwritten). */
DpsStatus dps_scan_string (DpsScan *c, DpsBuf *out, DpsError *err);
/** Read an integer from 0 to 2^63 − 1. */
DpsStatus dps_scan_uint (DpsScan *c, uint64_t *out, DpsError *err);
/**
 * Walk an object: the first call eats '{', each call reads one key and its colon, leaving the cursor at the value. *out_more 0: the end.
 * *first is 1 before the first call.
 */
DpsStatus dps_scan_member (DpsScan *c, int *first, DpsBuf *key, int *out_more, DpsError *err);
/** Walk an array likewise. */
DpsStatus dps_scan_element (DpsScan *c, int *first, int *out_more, DpsError *err);
/** Refuse what lies at the cursor: "LINE:COLUMN: expected WHAT". */
DpsStatus dps_scan_refuse (const DpsScan *c, const char *expected, DpsError *err);

#endif
