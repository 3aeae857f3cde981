/* SPDX-License-Identifier: Apache-2.0 */
#include "base/opcall.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>

typedef struct Operand {
    char name[16];
    char shape[16];
    char type[8]; /* "float", "weight", "i32", "i64", "u8", "any" */
    int optional;
} Operand;

/* Where `*` operands keep the shape they share. */
typedef struct Same {
    const DpsView *view;
    char name[16];
} Same;

int64_t dps_view_count (const DpsView *v)
{
    int64_t n = 1;
    for (uint32_t i = 0; i < v->rank; i++)
        n *= v->shape[i];
    return n;
}

int dps_view_contiguous (const DpsView *v)
{
    int64_t want = 1;
    for (uint32_t i = v->rank; v->stride && i-- > 0; want *= v->shape[i])
        if (v->shape[i] > 1 && v->stride[i] != want)
            return 0;
    return 1;
}

double dps_opcall_f (const DpsOpCall *c, uint32_t i) { return i < c->op->n_attrs ? c->op->attrs[i].f : 0.0; }
int64_t dps_opcall_i (const DpsOpCall *c, uint32_t i) { return i < c->op->n_attrs ? c->op->attrs[i].i : 0; }

/* Copy characters up to ':', ' ' or the end; the tables of ref.c fit the fields. */
static const char *field (const char *s, char *out, size_t cap)
{
    size_t n = 0;
    for (; *s && *s != ':' && *s != ' '; s++)
        if (n + 1 < cap)
            out[n++] = *s;
    out[n] = '\0';
    return s;
}

static const char *next_operand (const char *s, Operand *out)
{
    memset (out, 0, sizeof *out);
    out->optional = *s == '?';
    s = field (s + out->optional, out->name, sizeof out->name);
    s = field (s + (*s == ':'), out->shape, sizeof out->shape);
    if (*s == ':')
        s = field (s + 1, out->type, sizeof out->type);
    else
        memcpy (out->type, "float", sizeof "float");
    return s + (*s == ' ');
}

static int dtype_fits (uint32_t dtype, const char *type)
{
    switch (dtype) {
    case DPS_DTYPE_F32:
    case DPS_DTYPE_BF16:
    case DPS_DTYPE_F16:
    case DPS_DTYPE_F64: return !strcmp (type, "float") || !strcmp (type, "weight") || !strcmp (type, "any");
    case DPS_DTYPE_I32: return !strcmp (type, "i32") || !strcmp (type, "any");
    case DPS_DTYPE_I64: return !strcmp (type, "i64") || !strcmp (type, "any");
    case DPS_DTYPE_U8: return !strcmp (type, "u8") || !strcmp (type, "any");
    case DPS_DTYPE_I8:
    case DPS_DTYPE_I16:
    case DPS_DTYPE_BOOL: return !strcmp (type, "any");
    default: return 0;
    }
}

static const char *shape_text (const DpsView *v, char *buf, size_t cap)
{
    size_t n = (size_t)snprintf (buf, cap, "(");
    for (uint32_t i = 0; i < v->rank && n + 24 < cap; i++)
        n += (size_t)snprintf (buf + n, cap - n, "%s%lld", i ? "," : "", (long long)v->shape[i]);
    snprintf (buf + n, cap - n, ")");
    return buf;
}

static DpsStatus bind_letters (DpsOpCall *c, const Operand *o, const DpsView *v)
{
    char text[120];
    uint32_t axis = 0;
    for (const char *s = o->shape; *s; s += s[1] == ',' ? 2 : 1, axis++) {
        if (axis >= v->rank)
            return dps_fail (c->err, DPS_ERR_SHAPE, "%s %s: %s is %s, expected (%s)", c->who, c->name, o->name,
                             shape_text (v, text, sizeof text), o->shape);
        int64_t *dim = &c->dim[(unsigned char)*s & 127], got = v->shape[axis];
        int64_t want = isdigit ((unsigned char)*s) ? *s - '0' : *dim;
        if (want < 0)
            *dim = want = got;
        if (got != want)
            return dps_fail (c->err, DPS_ERR_SHAPE, "%s %s: %s is %s, expected (%s) where %c is %lld", c->who, c->name, o->name,
                             shape_text (v, text, sizeof text), o->shape, *s, (long long)want);
    }
    if (axis != v->rank)
        return dps_fail (c->err, DPS_ERR_SHAPE, "%s %s: %s is %s, expected (%s)", c->who, c->name, o->name,
                         shape_text (v, text, sizeof text), o->shape);
    return DPS_OK;
}

static DpsStatus check_same (DpsOpCall *c, const Operand *o, const DpsView *v, Same *same)
{
    if (!same->view) {
        same->view = v;
        memcpy (same->name, o->name, sizeof same->name);
        return DPS_OK;
    }
    int equal = same->view->rank == v->rank;
    for (uint32_t i = 0; equal && i < v->rank; i++)
        equal = same->view->shape[i] == v->shape[i];
    char a[120], b[120];
    if (!equal)
        return dps_fail (c->err, DPS_ERR_SHAPE, "%s %s: %s is %s, expected the shape of %s, %s", c->who, c->name, o->name,
                         shape_text (v, a, sizeof a), same->name, shape_text (same->view, b, sizeof b));
    return DPS_OK;
}

static DpsStatus check_quantised (DpsOpCall *c, const Operand *o, const DpsView *v, int data)
{
    DpsQuantised q;
    if (strcmp (o->type, "weight") != 0)
        return dps_fail (c->err, DPS_ERR_DTYPE, "%s %s: %s is quantised, %s reads plain numbers there", c->who, c->name, o->name, c->who);
    DpsStatus st = dps_quant_from_view (c->quants, v, data, &q, c->err);
    return st == DPS_OK ? DPS_OK : dps_error_prefix (c->err, "%s %s: %s", c->who, c->name, o->name);
}

static DpsStatus check_operand (DpsOpCall *c, const Operand *o, const DpsView *v, Same *same, int data, int packed)
{
    char text[120];
    if (!v)
        return o->optional ? DPS_OK : dps_fail (c->err, DPS_ERR_INVALID, "%s %s: operand %s is missing", c->who, c->name, o->name);
    if (*o->shape == '-')
        return DPS_OK;
    if (v->rank > 4)
        return dps_fail (c->err, DPS_ERR_SHAPE, "%s %s: %s has rank %u, the most is 4", c->who, c->name, o->name, (unsigned)v->rank);
    for (uint32_t i = 0; i < v->rank; i++)
        if (v->shape[i] < 0)
            return dps_fail (c->err, DPS_ERR_SHAPE, "%s %s: %s is %s", c->who, c->name, o->name, shape_text (v, text, sizeof text));
    if (v->layout != DPS_LAYOUT_ROW_MAJOR && !(packed && !strcmp (o->type, "weight")))
        return dps_fail (c->err, DPS_ERR_UNSUPPORTED, "%s %s: %s is packed (layout %u), %s reads row-major only", c->who, c->name, o->name,
                         (unsigned)v->layout, c->who);
    if (dps_quant_find (c->quants, v->dtype) != DPS_QUANT_NONE)
        DPS_TRY (check_quantised (c, o, v, data));
    else if (!dtype_fits (v->dtype, o->type))
        return dps_fail (c->err, DPS_ERR_DTYPE, "%s %s: %s has dtype number %u, expected %s", c->who, c->name, o->name, (unsigned)v->dtype,
                         o->type);
    if (*o->shape == '*')
        DPS_TRY (check_same (c, o, v, same));
    else if (*o->shape != '~')
        DPS_TRY (bind_letters (c, o, v));
    if (data && dps_view_count (v) > 0 && !v->host && !v->buffer)
        return dps_fail (c->err, DPS_ERR_INVALID, "%s %s: %s has no host memory", c->who, c->name, o->name);
    return DPS_OK;
}

static DpsStatus check_list (DpsOpCall *c, const char *spec, const DpsView *const *from, uint32_t n, const DpsView **to, Same *same,
                             int data, int packed)
{
    uint32_t i = 0;
    for (Operand o; *spec; i++) {
        spec = next_operand (spec, &o);
        to[i] = i < n ? from[i] : NULL;
        DPS_TRY (check_operand (c, &o, to[i], same, data, packed));
    }
    if (n > i)
        return dps_fail (c->err, DPS_ERR_INVALID, "%s %s: %u operands, the most is %u", c->who, c->name, (unsigned)n, (unsigned)i);
    return DPS_OK;
}

DpsStatus dps_opcall_check (DpsOpCall *c, const char *in, const char *out, int data, int packed)
{
    Same same = {0};
    for (size_t i = 0; i < sizeof c->dim / sizeof *c->dim; i++)
        c->dim[i] = -1;
    DPS_TRY (check_list (c, in, c->op->in, c->op->n_in, c->in, &same, data, packed));
    return check_list (c, out, c->op->out, c->op->n_out, c->out, &same, data, packed);
}
