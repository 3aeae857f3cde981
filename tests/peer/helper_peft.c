/* SPDX-License-Identifier: Apache-2.0 */
/*
 * helper_peft.c: what test_peft.sh has PEFT compare.   read FOLDER: the adapter as one JSON object, {"modules": {path: [out, in, r, scale]},
 * "saved": [names]}.   copy FROM TO: read an adapter and write it again, bound to a base digest.
 */
#include <stdio.h>
#include <string.h>

#include "ckpt/peft.h"
#include "plugin/registry.h"

static DpsStatus print_adapter (const DpsPeftAdapter *a, DpsError *err)
{
    DpsBuf text = {0};
    int bad = dps_buf_str (&text, "{\"modules\": {");
    for (size_t i = 0; i < a->n_modules && !bad; i++) {
        const DpsPeftModule *m = &a->modules[i];
        bad = dps_buf_printf (&text, "%s\"%s\": [%lld, %lld, %lld, ", i ? ", " : "", m->path, (long long)m->out, (long long)m->in,
                              (long long)m->r) ||
              dps_json_number (&text, m->scale) || dps_buf_str (&text, "]");
    }
    bad = bad || dps_buf_str (&text, "}, \"saved\": [");
    for (size_t i = 0; i < a->n_saved && !bad; i++)
        bad = dps_buf_printf (&text, "%s\"%s\"", i ? ", " : "", a->saved[i].name);
    if (bad || dps_buf_str (&text, "]}"))
        return dps_fail (err, DPS_ERR_NOMEM, "out of memory");
    puts (text.data);
    dps_buf_free (&text);
    return DPS_OK;
}

/* The writer asks for a tensor's bytes piece by piece: the whole tensor is read each time, these are small. */
typedef struct Source {
    DpsTensorFile *file;
    size_t i;
} Source;

static DpsStatus read_piece (void *ctx, uint64_t offset, uint64_t len, void *dst, DpsError *err)
{
    Source *s = ctx;
    uint64_t bytes = dps_tensors_at (s->file, s->i)->bytes;
    char *all = dps_malloc (bytes, 1);
    DpsStatus st = all ? dps_tensors_read (s->file, s->i, all, bytes, err) : dps_fail (err, DPS_ERR_NOMEM, "out of memory");
    if (st == DPS_OK)
        memcpy (dst, all + offset, len);
    dps_free (all);
    return st;
}

static DpsStatus copy_adapter (const DpsPeftAdapter *a, const char *to, const DpsFormat *format, DpsError *err)
{
    static const char digest[] = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
    size_t n = dps_tensors_count (a->file);
    DpsTensorOut *list = dps_calloc (n, sizeof *list);
    Source *sources = dps_calloc (n, sizeof *sources);
    char **names = dps_calloc (n, sizeof *names);
    DpsStatus st = list && sources && names ? DPS_OK : dps_fail (err, DPS_ERR_NOMEM, "out of memory");
    for (size_t i = 0; i < n && st == DPS_OK; i++) {
        const DpsTensorInfo *t = dps_tensors_at (a->file, i);
        sources[i] = (Source){a->file, i};
        names[i] = dps_strndup (t->name.ptr, t->name.len);
        list[i] = (DpsTensorOut){.name = names[i], .dtype = DPS_DTYPE_F32, .rank = t->rank, .read = read_piece, .ctx = &sources[i]};
        memcpy (list[i].shape, t->shape, t->rank * sizeof *t->shape);
    }
    if (st == DPS_OK)
        st = dps_peft_write (&(DpsPeftOut){.config = &a->config, .tensors = list, .n = n, .base_sha256 = digest}, to, NULL, format, err);
    for (size_t i = 0; names && i < n; i++)
        dps_free (names[i]);
    dps_free (names);
    dps_free (sources);
    dps_free (list);
    return st;
}

int main (int argc, char **argv)
{
    DpsError err = DPS_ERROR_INIT;
    DpsRegistry *reg = NULL;
    DpsPeftAdapter *a = NULL;
    if (argc < 3)
        return 2;
    DpsStatus st = dps_registry_open (NULL, &reg, &err);
    const DpsFormat *format = st == DPS_OK ? dps_registry_get (reg, DPS_FORMAT_ID, "peft") : NULL;
    if (st == DPS_OK && !format)
        st = dps_registry_missing (reg, DPS_FORMAT_ID, "peft", &err);
    if (st == DPS_OK)
        st = dps_peft_open (argv[2], format, &a, &err);
    if (st == DPS_OK)
        st = argc > 3 && !strcmp (argv[1], "copy") ? copy_adapter (a, argv[3], format, &err) : print_adapter (a, &err);
    dps_peft_close (a);
    dps_registry_close (reg);
    if (st != DPS_OK)
        fprintf (stderr, "%s: %s\n", dps_status_name (st), err.msg);
    return st == DPS_OK ? 0 : 1;
}
