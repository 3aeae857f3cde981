/* SPDX-License-Identifier: Apache-2.0 */
/*
 * helper_token.c: for tests/peer: helper_token MODEL < rows > rows, MODEL a .gguf file or a folder with tokenizer.json. A row
 * {"text":…, "special":0|1, "literal":0|1} gives {"ids":[…]}; {"ids":[…], "keep":0|1} gives {"text":…}; an error {"error":…}.
 * helper_token MODEL --speed FILE prints megabytes per second of processor time.
 */
#include <stdio.h>
#include <time.h>

#include "base/json.h"
#include "gguf_mini.h"
#include "token/tokenizer.h"

static double now (void)
{
    struct timespec t;
    clock_gettime (CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static json_t *answer (const DpsTokenizer *tok, json_t *row, DpsError *err)
{
    json_t *text = json_object_get (row, "text"), *ids = json_object_get (row, "ids");
    DpsIds list = {0};
    DpsStatus st;
    json_t *out = json_object ();
    if (text) {
        unsigned flags = (json_integer_value (json_object_get (row, "special")) ? DPS_TOKENIZE_SPECIAL : 0u) |
                         (json_integer_value (json_object_get (row, "literal")) ? DPS_TOKENIZE_LITERAL : 0u);
        st = dps_tokenizer_encode (tok, json_string_value (text), json_string_length (text), flags, &list, err);
        json_t *array = json_array ();
        for (size_t i = 0; i < list.n; i++)
            json_array_append_new (array, json_integer (list.ids[i]));
        json_object_set_new (out, "ids", array);
    } else {
        DpsBuf buf = {0};
        for (size_t i = 0; i < json_array_size (ids) && DPS_GROW (list.ids, i, list.capacity) == 0; i++, list.n++)
            list.ids[i] = (int32_t)json_integer_value (json_array_get (ids, i));
        st = dps_tokenizer_decode (tok, list.ids, list.n,
                                   json_integer_value (json_object_get (row, "keep")) ? DPS_DETOKENIZE_KEEP_SPECIAL : 0, &buf, err);
        json_object_set_new (out, "text", json_stringn (buf.data ? buf.data : "", buf.len));
        dps_buf_free (&buf);
    }
    if (st != DPS_OK)
        json_object_set_new (out, "error", json_string (err->msg));
    dps_free (list.ids);
    return out;
}

static int speed (const DpsTokenizer *tok, const char *path, DpsError *err)
{
    DpsBuf text = {0};
    if (dps_file_read (path, (size_t)1 << 30, &text, err) != DPS_OK)
        return 1;
    for (int pass = 0; pass < 3; pass++) {
        DpsIds ids = {0};
        double start = now ();
        if (dps_tokenizer_encode (tok, text.data, text.len, 0, &ids, err) != DPS_OK)
            return 1;
        double s = now () - start;
        printf ("encode %.2f MB/s, %zu ids, %.2f bytes per id\n", (double)text.len / s / 1e6, ids.n, (double)text.len / (double)ids.n);
        DpsBuf back = {0};
        start = now ();
        if (dps_tokenizer_decode (tok, ids.ids, ids.n, DPS_DETOKENIZE_KEEP_SPECIAL, &back, err) != DPS_OK)
            return 1;
        s = now () - start;
        printf ("decode %.2f MB/s, %s\n", (double)text.len / s / 1e6,
                back.len == text.len && !memcmp (back.data, text.data, text.len) ? "equal" : "different");
        dps_buf_free (&back);
        dps_free (ids.ids);
    }
    return 0;
}

int main (int argc, char **argv)
{
    DpsError err = DPS_ERROR_INIT;
    DpsTokenizer *tok = NULL;
    GgufMini gguf;
    DpsStatus st;
    double start;
    if (argc < 2)
        return 2;
    if (strlen (argv[1]) > 5 && !strcmp (argv[1] + strlen (argv[1]) - 5, ".gguf")) {
        if (gguf_mini_open (&gguf, argv[1], &err) != DPS_OK)
            return 1;
        start = now ();
        st = dps_tokenizer_from_meta (gguf.list, gguf.n, argv[1], &tok, &err);
        gguf_mini_close (&gguf);
    } else {
        start = now ();
        st = dps_tokenizer_from_folder (argv[1], &tok, &err);
    }
    fprintf (stderr, "loaded in %.3f s: %s\n", now () - start, st == DPS_OK ? "ok" : err.msg);
    if (st != DPS_OK)
        return 1;
    if (argc == 4 && !strcmp (argv[2], "--speed"))
        return speed (tok, argv[3], &err);
    char *line = NULL;
    size_t room = 0;
    ssize_t len;
    while ((len = getline (&line, &room, stdin)) > 0) {
        json_t *row;
        if (dps_json_parse (line, (size_t)len, "stdin", 1, 0, &row, &err) != DPS_OK) {
            fprintf (stderr, "%s\n", err.msg);
            return 1;
        }
        json_t *out = answer (tok, row, &err);
        char *text = json_dumps (out, JSON_COMPACT);
        puts (text);
        free (text);
        json_decref (out);
        json_decref (row);
    }
    free (line);
    dps_tokenizer_free (tok);
    return 0;
}
