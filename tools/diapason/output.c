/* SPDX-License-Identifier: Apache-2.0 */
#include "diapason/output.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/json.h"

DpsStatus cli_output_check (const char *path, const char *data, DpsError *err)
{
    if (path && data && dps_is_file (path) && dps_same_file (path, data))
        return dps_fail (err, DPS_ERR_USAGE, "--out %s holds the rows that are read, which would be written over. Hint: name another file",
                         path);
    return DPS_OK;
}

DpsStatus cli_output_begin (CliOutput *o, const char *path, DpsError *err)
{
    *o = (CliOutput){.to_file = path && strcmp (path, "-")};
    return o->to_file ? dps_writer_begin (&o->file, path, err) : DPS_OK;
}

DpsStatus cli_output_flush (CliOutput *o, DpsError *err)
{
    DpsStatus st = DPS_OK;
    if (o->to_file)
        st = dps_writer_add (&o->file, o->buf.data, o->buf.len, err);
    else if (o->buf.len && (fwrite (o->buf.data, 1, o->buf.len, stdout) != o->buf.len || fflush (stdout)))
        st = dps_fail (err, DPS_ERR_IO, "standard output: %s", strerror (errno));
    o->buf.len = 0;
    return st;
}

DpsStatus cli_output_end (CliOutput *o, DpsStatus st, DpsError *err)
{
    if (st == DPS_OK)
        st = cli_output_flush (o, err);
    if (o->to_file && st == DPS_OK)
        st = dps_writer_commit (&o->file, err);
    else if (o->to_file)
        dps_writer_discard (&o->file);
    dps_buf_free (&o->buf);
    return st;
}

int cli_put_ids (DpsBuf *b, const int32_t *ids, size_t n)
{
    int bad = dps_buf_add (b, "[", 1);
    for (size_t i = 0; i < n && !bad; i++)
        bad = dps_buf_printf (b, i ? ",%d" : "%d", (int)ids[i]);
    return bad || dps_buf_add (b, "]", 1);
}

static int put_json (const char *data, size_t len, void *b) { return dps_buf_add (b, data, len); }

int cli_put_text (DpsBuf *b, const char *text, size_t len)
{
    json_t *s = json_stringn (text, len);
    int bad = !s || json_dump_callback (s, put_json, b, JSON_ENCODE_ANY);
    json_decref (s);
    return bad;
}
