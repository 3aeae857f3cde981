/* SPDX-License-Identifier: Apache-2.0 */
#include "exec/trace_read.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "plugin/host.h"

enum { MAX_CASES = 1 << 16 };

static DpsStatus refuse (const DpsTrace *t, DpsError *err, const char *what)
{
    return dps_fail (err, DPS_ERR_FORMAT, "%s:%ld: %s", t->where, t->line, what);
}

/* One line as an object, or *out NULL at the end. A last line without its newline was cut off. */
static DpsStatus next_line (DpsTrace *t, json_t **out, DpsError *err)
{
    *out = NULL;
    if (t->at == t->end)
        return DPS_OK;
    size_t left = (size_t)(t->end - t->at), look = left < DPS_TRACE_LINE + 1 ? left : DPS_TRACE_LINE + 1;
    const char *stop = memchr (t->at, '\n', look), *start = t->at;
    t->line++;
    if (!stop && left > DPS_TRACE_LINE)
        return dps_fail (err, DPS_ERR_LIMIT, "%s:%ld: a line of more than %d bytes, expected at most that", t->where, t->line,
                         DPS_TRACE_LINE);
    if (!stop) {
        t->at = t->end;
        return DPS_OK;
    }
    t->at = stop + 1;
    DPS_TRY (dps_json_parse (start, (size_t)(stop - start), t->where, t->line, DPS_JSON_UNIQUE, out, err));
    if (json_is_object (*out))
        return DPS_OK;
    json_decref (*out);
    *out = NULL;
    return refuse (t, err, "expected an object");
}

/* Member `key` as an integer from min to max; 0 and *bad set when it is none. */
static int64_t integer (const json_t *o, const char *key, int64_t min, int64_t max, int *bad)
{
    const json_t *v = json_object_get (o, key);
    int64_t x = json_is_integer (v) ? json_integer_value (v) : 0;
    *bad |= !json_is_integer (v) || x < min || x > max;
    return *bad ? 0 : x;
}

static int64_t element (const json_t *list, size_t i, int64_t min, int64_t max, int *bad)
{
    const json_t *v = json_array_get (list, i);
    int64_t x = json_is_integer (v) ? json_integer_value (v) : 0;
    *bad |= !json_is_integer (v) || x < min || x > max;
    return *bad ? 0 : x;
}

static void copy_text (char *to, size_t cap, const json_t *v)
{
    const char *s = json_is_string (v) ? json_string_value (v) : "";
    size_t n = strnlen (s, cap - 1);
    memcpy (to, s, n);
    to[n] = '\0';
}

DpsStatus dps__trace_open (DpsTrace *t, const char *data, size_t len, const char *where, DpsError *err)
{
    json_t *head;
    int bad = 0;
    *t = (DpsTrace){.at = data, .end = data + len, .where = where};
    if (dps_quant_names (dps__intern, &t->quants))
        return dps_fail (err, DPS_ERR_LIMIT, "%s: no number is left for dtypes", where);
    DpsStatus st = next_line (t, &head, err);
    if (st != DPS_OK || !head)
        return dps_fail (err, st == DPS_ERR_NOMEM ? st : DPS_ERR_FORMAT, "%s: is no record of diapason: its first line is not the header",
                         where);
    int64_t version = integer (head, "diapason_record", 1, INT32_MAX, &bad);
    const char *contents = json_string_value (json_object_get (head, "contents"));
    copy_text (t->ids, sizeof t->ids, json_object_get (head, "ids"));
    if (bad)
        st = dps_fail (err, DPS_ERR_FORMAT, "%s: is no record of diapason: its first line is not the header", where);
    else if (version != DPS_TRACE_VERSION)
        st = dps_fail (err, DPS_ERR_VERSION, "%s: diapason_record is %lld, this version reads %d", where, (long long)version,
                       DPS_TRACE_VERSION);
    else if (!contents || strcmp (contents, "seeds"))
        st = dps_fail (err, DPS_ERR_VERSION, "%s: contents are '%.40s', this version reads 'seeds'", where, contents ? contents : "");
    json_decref (head);
    return st;
}

void dps__trace_close (DpsTrace *t)
{
    for (size_t i = 0; i < t->n_data; i++)
        dps_free (t->data[i].bytes);
    dps_free (t->data);
    dps_free (t->cases);
    *t = (DpsTrace){0};
}

/* Cases. */

/* Only dtypes that this version has: a file makes no new ones. */
static uint32_t dtype_named (const DpsTrace *t, const char *name)
{
    for (uint32_t i = DPS_DTYPE_F32; name && i <= DPS_DTYPE_BOOL; i++)
        if (!strcmp (name, dps_dtype_name (i)))
            return i;
    DpsQuantType q = name ? dps_quant_named (dps_str (name)) : DPS_QUANT_NONE;
    return q == DPS_QUANT_NONE ? 0 : t->quants.dtype[q];
}

/* The parts say the form: blocks are of a power of two, so their number says how large they are. */
static int read_form (const json_t *parts, DpsTraceView *v)
{
    enum { LARGEST = 1 << 20 };
    uint64_t codes, want[DPS_QPARTS];
    json_int_t absmax = 0;
    DpsQuantForm *f = &v->form;
    for (size_t i = 0; i < json_array_size (parts); i++) {
        const json_t *p = json_array_get (parts, i);
        const char *role = json_string_value (json_object_get (p, "role"));
        f->nested |= role && !strcmp (role, dps_quant_part_name (DPS_QPART_NESTED_ABSMAX));
        if (role && !strcmp (role, dps_quant_part_name (DPS_QPART_ABSMAX)))
            absmax = json_integer_value (json_object_get (p, "bytes"));
    }
    if (v->rank != 2 || v->has_stride || absmax < 0)
        return 0;
    for (f->block = absmax ? DPS_QUANT_BLOCK : 0; f->block <= LARGEST; f->block *= 2) {
        if (dps_quant_bytes (f, v->shape[0], v->shape[1], &codes, want, NULL) != DPS_OK)
            return 0;
        if (want[DPS_QPART_ABSMAX] == (uint64_t)absmax)
            return 1;
        if (!f->block)
            return 0;
    }
    return 0;
}

static DpsStatus read_view (const DpsTrace *t, const json_t *v, DpsTraceView *out, DpsError *err)
{
    const json_t *shape = json_object_get (v, "s"), *stride = json_object_get (v, "stride"), *pack = json_object_get (v, "pack");
    int bad = 0;
    uint64_t bytes;
    *out = (DpsTraceView){.present = !json_is_null (v), .pack = -1};
    if (!out->present)
        return DPS_OK;
    out->dtype = dtype_named (t, json_string_value (json_object_get (v, "t")));
    out->rank = (uint32_t)json_array_size (shape);
    out->has_stride = stride != NULL;
    if (!out->dtype || !json_is_array (shape) || out->rank > 4 || (stride && json_array_size (stride) != out->rank))
        return refuse (t, err, "an operand needs a dtype \"t\" that there is, and a shape \"s\" of at most 4 numbers");
    for (uint32_t i = 0; i < out->rank; i++) {
        out->shape[i] = element (shape, i, 0, INT64_MAX / 16, &bad);
        out->stride[i] = stride ? element (stride, i, 0, INT64_MAX / 16, &bad) : 0;
    }
    out->pack = pack ? (int)integer (v, "pack", 0, 1, &bad) : -1;
    out->form.type = dps_quant_find (&t->quants, out->dtype);
    int quantised = out->form.type != DPS_QUANT_NONE;
    DpsView view = {.size = sizeof view, .dtype = quantised ? DPS_DTYPE_U8 : out->dtype, .rank = out->rank, .shape = out->shape};
    view.stride = out->has_stride ? out->stride : NULL;
    const char *wrong = bad ? "has numbers out of range" : dps__view_bytes (&t->quants, &view, &bytes);
    if (!wrong && quantised && !read_form (json_object_get (v, "parts"), out))
        wrong = "has a shape or \"parts\" that do not fit its block format";
    if (wrong || (out->pack >= 0 && out->rank != 2))
        return dps_fail (err, DPS_ERR_FORMAT, "%s:%ld: an operand %s", t->where, t->line, wrong ? wrong : "is packed and no matrix");
    return DPS_OK;
}

static DpsStatus read_views (const DpsTrace *t, const json_t *list, uint32_t most, DpsTraceView *to, uint32_t *out_n, DpsError *err)
{
    *out_n = (uint32_t)json_array_size (list);
    if (!json_is_array (list) || *out_n > most)
        return dps_fail (err, DPS_ERR_FORMAT, "%s:%ld: expected \"in\" and \"out\" with at most %d and %d operands", t->where, t->line,
                         DPS_OP_MAX_IN, DPS_OP_MAX_OUT);
    for (uint32_t i = 0; i < *out_n; i++)
        DPS_TRY (read_view (t, json_array_get (list, i), &to[i], err));
    return DPS_OK;
}

static DpsStatus read_case (DpsTrace *t, const json_t *o, DpsError *err)
{
    const char *name = json_string_value (json_object_get (o, "op"));
    int bad = 0, op = 0;
    if (integer (o, "case", 0, INT32_MAX, &bad) != (int64_t)t->n_cases || bad)
        return refuse (t, err, "cases are numbered from 0 in order");
    if (t->n_cases == MAX_CASES)
        return dps_fail (err, DPS_ERR_LIMIT, "%s:%ld: more than %d cases", t->where, t->line, MAX_CASES);
    if (DPS_GROW (t->cases, t->n_cases, t->case_capacity))
        return dps_fail (err, DPS_ERR_NOMEM, "%s: out of memory", t->where);
    DpsTraceCase *c = &t->cases[t->n_cases];
    *c = (DpsTraceCase){0};
    while (op < DPS_OP_COUNT && name && strcmp (name, dps_op_name ((DpsOpCode)op)))
        op++;
    if (!name || op == DPS_OP_COUNT)
        return dps_fail (err, DPS_ERR_FORMAT, "%s:%ld: op '%.40s' is none that this version has", t->where, t->line, name ? name : "");
    c->op = (DpsOpCode)op;
    DPS_TRY (read_views (t, json_object_get (o, "in"), DPS_OP_MAX_IN, c->views, &c->n_in, err));
    DPS_TRY (read_views (t, json_object_get (o, "out"), DPS_OP_MAX_OUT, c->views + c->n_in, &c->n_out, err));
    t->n_cases++;
    return DPS_OK;
}

/* Data. */

static int nibble (char c) { return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1; }

/* Memory for data grows with what the file brings, not with what it says. */
static DpsStatus read_data (DpsTrace *t, const json_t *o, DpsError *err)
{
    int bad = 0;
    const char *hex = json_string_value (json_object_get (o, "hex"));
    uint64_t number = (uint64_t)integer (o, "data", 0, INT32_MAX, &bad), at = (uint64_t)integer (o, "at", 0, INT64_MAX, &bad),
             bytes = (uint64_t)integer (o, "bytes", 1, INT64_MAX, &bad), n = hex ? strlen (hex) / 2 : 0;
    if (bad || !n || strlen (hex) % 2 || number > t->n_data)
        return refuse (t, err, "data needs its number in order, \"at\", \"bytes\" and \"hex\" with two digits a byte");
    if (number == t->n_data) {
        if (DPS_GROW (t->data, t->n_data, t->data_capacity))
            return dps_fail (err, DPS_ERR_NOMEM, "%s: out of memory", t->where);
        t->data[t->n_data++] = (DpsTraceData){.n = bytes};
    }
    DpsTraceData *d = &t->data[number];
    if (bytes != d->n || at != d->have || n > d->n - d->have)
        return refuse (t, err, "a piece of data does not follow the one before it");
    unsigned char *grown = dps_realloc (d->bytes, (size_t)(d->have + n), 1);
    if (!grown)
        return dps_fail (err, DPS_ERR_NOMEM, "%s: out of memory", t->where);
    d->bytes = grown;
    for (uint64_t i = 0; i < n; i++) {
        int high = nibble (hex[2 * i]), low = nibble (hex[2 * i + 1]);
        if (high < 0 || low < 0)
            return refuse (t, err, "\"hex\" has a character that is none of 0-9 and a-f");
        d->bytes[d->have + i] = (unsigned char)(high << 4 | low);
    }
    d->have += n;
    return DPS_OK;
}

/* Calls. */

static DpsStatus read_fill (const DpsTrace *t, const json_t *f, DpsTraceCall *c, DpsError *err)
{
    static const struct {
        const char *name;
        DpsFillKind kind;
    } kinds[] = {{"zero", DPS_FILL_ZERO}, {"normal", DPS_FILL_NORMAL}, {"positive", DPS_FILL_POSITIVE},
                 {"nan", DPS_FILL_NAN},   {"tokens", DPS_FILL_TOKENS}, {"data", DPS_FILL_DATA}};
    int bad = 0;
    size_t k = 0;
    uint32_t n = c->kind->n_in + c->kind->n_out;
    uint32_t operand = (uint32_t)element (f, 0, 0, (int64_t)n - 1, &bad);
    const char *name = json_string_value (json_array_get (f, 1));
    while (k < sizeof kinds / sizeof *kinds && (!name || strcmp (kinds[k].name, name)))
        k++;
    if (bad || k == sizeof kinds / sizeof *kinds || !c->kind->views[operand].present)
        return refuse (t, err, "a fill is [operand, kind, …] of an operand that is there");
    DpsTraceFill *to = &c->fill[operand];
    const DpsTraceView *v = &c->kind->views[operand];
    int is_float = v->dtype >= DPS_DTYPE_F32 && v->dtype <= DPS_DTYPE_F64, quantised = v->form.type != DPS_QUANT_NONE;
    to->kind = kinds[k].kind;
    to->seed = (uint64_t)element (f, 2, 0, INT64_MAX, &bad);
    if (to->kind == DPS_FILL_TOKENS)
        to->limit = element (f, 3, 1, INT32_MAX, &bad);
    else if (to->kind == DPS_FILL_DATA)
        bad |= to->seed >= t->n_data || t->data[to->seed].have != t->data[to->seed].n;
    else {
        const char *rms = json_string_value (json_array_get (f, 3));
        char *end = NULL;
        to->rms = rms ? strtod (rms, &end) : NAN;
        bad |= !isfinite (to->rms) || to->rms < 0 || !end || *end;
    }
    if (bad || (to->kind == DPS_FILL_TOKENS && v->dtype != DPS_DTYPE_I32) || (to->kind == DPS_FILL_DATA && (is_float || quantised)) ||
        (to->kind < DPS_FILL_TOKENS && !is_float && !quantised))
        return refuse (t, err, "a fill has a seed, vocabulary, rms or data that there is not, or that is not for its dtype");
    return DPS_OK;
}

static DpsStatus read_call (DpsTrace *t, const json_t *o, DpsTraceCall *c, DpsError *err)
{
    const json_t *at = json_object_get (o, "at"), *attrs = json_object_get (o, "attrs"), *fill = json_object_get (o, "fill");
    int bad = 0;
    *c = (DpsTraceCall){.number = (uint64_t)integer (o, "call", 0, INT64_MAX, &bad)};
    int64_t number = integer (o, "case", 0, (int64_t)t->n_cases - 1, &bad);
    if (bad)
        return refuse (t, err, "a call needs its number and that of a case above it");
    c->kind = &t->cases[number];
    uint32_t n = c->kind->n_in + c->kind->n_out;
    c->n_attrs = (uint32_t)json_array_size (attrs);
    if (json_array_size (at) != n || c->n_attrs > DPS_OP_MAX_ATTRS || json_array_size (fill) > n)
        return refuse (t, err, "a call needs \"at\" for each operand of its case, at most 8 \"attrs\", and \"fill\"");
    for (uint32_t i = 0; i < n; i++) {
        const json_t *place = json_array_get (at, i);
        if (json_is_null (place) != !c->kind->views[i].present)
            return refuse (t, err, "a call has another set of operands than its case");
        if (!c->kind->views[i].present)
            continue;
        c->at[i].buffer = (uint64_t)element (place, 0, 0, INT64_MAX, &bad);
        c->at[i].offset = (uint64_t)element (place, 1, 0, INT64_MAX, &bad);
    }
    for (uint32_t i = 0; i < c->n_attrs; i++)
        c->attrs[i].i = element (attrs, i, INT64_MIN, INT64_MAX, &bad);
    if (bad)
        return refuse (t, err, "\"at\" needs [buffer, offset], \"attrs\" integers");
    for (size_t i = 0; i < json_array_size (fill); i++)
        DPS_TRY (read_fill (t, json_array_get (fill, i), c, err));
    return DPS_OK;
}

/* 1: an event is in *out. 0: the line said something to remember. */
static DpsStatus read_event (DpsTrace *t, const json_t *o, DpsTraceEvent *out, int *is_event, DpsError *err)
{
    int bad = 0;
    *is_event = 1;
    out->number = out->bytes = 0;
    out->name[0] = out->text[0] = '\0';
    if (json_object_get (o, "call")) {
        out->kind = DPS_TRACE_CALL;
        return read_call (t, o, &out->call, err);
    }
    *is_event = 0;
    if (json_object_get (o, "case"))
        return read_case (t, o, err);
    if (json_object_get (o, "data"))
        return read_data (t, o, err);
    *is_event = 1;
    if (json_object_get (o, "alloc")) {
        out->kind = DPS_TRACE_ALLOC;
        out->number = (uint64_t)integer (o, "alloc", 1, INT32_MAX, &bad);
        out->bytes = (uint64_t)integer (o, "bytes", 0, INT64_MAX, &bad);
    } else if (json_object_get (o, "free")) {
        out->kind = DPS_TRACE_FREE;
        out->number = (uint64_t)integer (o, "free", 1, INT32_MAX, &bad);
    } else if (json_object_get (o, "device")) {
        out->kind = DPS_TRACE_DEVICE;
        copy_text (out->name, sizeof out->name, json_object_get (o, "name"));
        copy_text (out->text, sizeof out->text, json_object_get (o, "plugin"));
    } else if (json_object_get (o, "failed")) {
        out->kind = DPS_TRACE_FAILED;
        out->number = (uint64_t)integer (o, "failed", 0, INT64_MAX, &bad);
        copy_text (out->name, sizeof out->name, json_object_get (o, "status"));
        copy_text (out->text, sizeof out->text, json_object_get (o, "message"));
    } else if (json_object_get (o, "end")) {
        out->kind = DPS_TRACE_END;
        copy_text (out->name, sizeof out->name, json_object_get (o, "end"));
    } else
        return refuse (t, err, "is none of call, case, data, alloc, free, device, failed, end");
    return bad ? refuse (t, err, "a number is missing or out of range") : DPS_OK;
}

DpsStatus dps__trace_next (DpsTrace *t, DpsTraceEvent *out, DpsError *err)
{
    for (int is_event = 0; !is_event;) {
        json_t *o;
        DPS_TRY (next_line (t, &o, err));
        if (!o) {
            out->kind = DPS_TRACE_CUT;
            return DPS_OK;
        }
        DpsStatus st = read_event (t, o, out, &is_event, err);
        json_decref (o);
        DPS_TRY (st);
    }
    return DPS_OK;
}
