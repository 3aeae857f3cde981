/* SPDX-License-Identifier: Apache-2.0 */
/* bench_rows.c: the rows that bench train measures: random tokens, or those of a file, so that another program can run the same ones. */
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "base/rng.h"
#include "diapason/bench.h"

enum { MAX_BYTES = 256 << 20 };

struct BenchRows {
    size_t n, capacity, tokens, token_capacity, weight_capacity;
    size_t *start; /* [n + 1] in ids */
    int32_t *ids;
    float *weights;
};

static DpsStatus add_token (BenchRows *rows, json_int_t id, double weight, DpsError *err)
{
    if (DPS_GROW (rows->ids, rows->tokens, rows->token_capacity) || DPS_GROW (rows->weights, rows->tokens, rows->weight_capacity))
        return dps_fail (err, DPS_ERR_NOMEM, "bench: out of memory");
    rows->ids[rows->tokens] = id < 0 || id > INT32_MAX ? -1 : (int32_t)id; /* dps_batch_build names ids outside the vocabulary */
    rows->weights[rows->tokens++] = (float)weight;
    return DPS_OK;
}

static DpsStatus end_row (BenchRows *rows, DpsError *err)
{
    if (DPS_GROW (rows->start, rows->n + 1, rows->capacity))
        return dps_fail (err, DPS_ERR_NOMEM, "bench: out of memory");
    rows->start[0] = 0;
    rows->start[++rows->n] = rows->tokens;
    return DPS_OK;
}

static DpsStatus add_json (BenchRows *rows, const json_t *row, const char *path, long line, DpsError *err)
{
    const json_t *ids = json_object_get (row, "input_ids"), *labels = json_object_get (row, "labels");
    size_t n = json_array_size (ids);
    if (n < 2 || (labels && json_array_size (labels) != n))
        return dps_fail (err, DPS_ERR_FORMAT, "%s:%ld: expected \"input_ids\" of at least 2 tokens and as many \"labels\"", path, line);
    for (size_t t = 0; t < n; t++) {
        const json_t *id = json_array_get (ids, t), *label = json_array_get (labels, t);
        if (!json_is_integer (id) || (label && !json_is_integer (label)))
            return dps_fail (err, DPS_ERR_FORMAT, "%s:%ld: token %zu is not an integer", path, line, t);
        DPS_TRY (add_token (rows, json_integer_value (id), t > 0 && (!label || json_integer_value (label) >= 0), err));
    }
    return end_row (rows, err);
}

static DpsStatus read_file (BenchRows *rows, const char *path, DpsError *err)
{
    DpsBuf text = {0};
    DpsStatus st = dps_file_read (path, MAX_BYTES, &text, err);
    long line = 1;
    for (size_t at = 0; st == DPS_OK && at < text.len; line++) {
        const char *newline = memchr (text.data + at, '\n', text.len - at);
        size_t end = newline ? (size_t)(newline - text.data) : text.len;
        json_t *row = NULL;
        if (end > at)
            st = dps_json_parse (text.data + at, end - at, path, line, 0, &row, err);
        if (st == DPS_OK && row)
            st = add_json (rows, row, path, line, err);
        json_decref (row);
        at = end + 1;
    }
    dps_buf_free (&text);
    if (st == DPS_OK && !rows->n)
        st = dps_fail (err, DPS_ERR_FORMAT, "%s: no rows", path);
    return st;
}

/* Lengths vary by ±5 % so that shapes are ragged; the end of a row is scored. */
static DpsStatus make_random (BenchRows *rows, const BenchOptions *o, int64_t vocab, DpsError *err)
{
    for (uint64_t r = 0; r < (uint64_t)(o->rows * (o->steps + BENCH_WARM_UP)); r++) {
        size_t spread = (size_t)(o->tokens / 10 + 1), n = (size_t)o->tokens - spread / 2 + dps_rng_below (1, 7, r, spread);
        size_t scored = (size_t)(o->scored < o->tokens ? o->scored : o->tokens - 1);
        for (size_t t = 0; t < n; t++)
            DPS_TRY (add_token (rows, (json_int_t)dps_rng_below (1, 11, r << 20 | t, (uint64_t)vocab), t >= n - scored, err));
        DPS_TRY (end_row (rows, err));
    }
    return DPS_OK;
}

DpsStatus bench_rows_open (const BenchOptions *o, int64_t vocab, BenchRows **out, DpsError *err)
{
    BenchRows *rows = dps_calloc (1, sizeof *rows);
    DpsStatus st = !rows     ? dps_fail (err, DPS_ERR_NOMEM, "bench: out of memory")
                   : o->data ? read_file (rows, o->data, err)
                             : make_random (rows, o, vocab, err);
    if (st != DPS_OK) {
        bench_rows_close (rows);
        rows = NULL;
    }
    *out = rows;
    return st;
}

DpsSequence bench_rows_get (const BenchRows *rows, size_t i)
{
    size_t r = i % rows->n;
    return (DpsSequence){
        .ids = rows->ids + rows->start[r], .weights = rows->weights + rows->start[r], .n = rows->start[r + 1] - rows->start[r], .key = i};
}

void bench_rows_close (BenchRows *rows)
{
    if (!rows)
        return;
    dps_free (rows->start);
    dps_free (rows->ids);
    dps_free (rows->weights);
    dps_free (rows);
}
