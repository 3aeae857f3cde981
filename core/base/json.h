/* SPDX-License-Identifier: Apache-2.0 */
/*
 * json.h: jansson behind the project's errors and allocator. Strict UTF-8; U+0000 inside strings is allowed (json_string_length);
 * depth bounded; duplicate keys: last wins unless `DPS_JSON_UNIQUE`.
 */
#ifndef DPS_BASE_JSON_H
#define DPS_BASE_JSON_H

#include <jansson.h>

#include "base/mem.h"
#include "base/status.h"

enum {
    DPS_JSON_UNIQUE = 1, /* a duplicate key is an error */
    DPS_JSON_WIDE = 2    /* an integer beyond 64 bits is a real: Python writes int(1e30) for "no limit" in model_max_length */
};

/** Make jansson allocate through base/mem.h. Call once at start. [init] */
void dps_json_init (void);

/**
 * Parse one JSON value from a byte range. `where` names it in errors ("rows.jsonl", first line number `line`).
 * *out: a new reference, release with json_decref. Errors: FORMAT "where:line:column: what". [any]
 */
DpsStatus dps_json_parse (const char *data, size_t len, const char *where, long line, unsigned flags, json_t **out, DpsError *err);

/** Parse a whole file of at most `limit` bytes. [any] */
DpsStatus dps_json_file (const char *path, size_t limit, unsigned flags, json_t **out, DpsError *err);

/** A copy, with `deep` of all that is in it; NULL when out of memory: jansson's own leaves out silently what it had none for. [any] */
json_t *dps_json_copy (const json_t *value, int deep);

/** Append s[0..len) as a quoted JSON string (valid UTF-8 expected; an invalid byte becomes U+FFFD). 0 or -1 (no memory). [any] */
int dps_json_quote (DpsBuf *out, const char *s, size_t len);

/** Append a number with the fewest digits that read back as the same double; NaN and infinities as null. [any] */
int dps_json_number (DpsBuf *out, double value);

/** Append a value as JSON, keys in their order, numbers as dps_json_number; indent 0: on one line, as Python's json does. 0 or -1. [any] */
int dps_json_write (DpsBuf *out, const json_t *value, int indent);

#endif
