/* SPDX-License-Identifier: Apache-2.0 */
/* jinja_eval.c: expressions → values. */
#include <math.h>

#include "token/jinja_node.h"

static DpsJval *lookup (DpsJscope *scope, const DpsJval *name)
{
    for (; scope; scope = scope->parent) {
        DpsJval *v = dps__jinja_get (NULL, &scope->names, name);
        if (v)
            return v;
    }
    return NULL;
}

static int eval_name (DpsJinja *in, DpsJscope *scope, const DpsJnode *node, DpsJval *out)
{
    const DpsJval *v = lookup (scope, &node->value);
    int global = v ? -1 : dps__jinja_global (node->value.s, node->value.len);
    if (v)
        *out = *v;
    else if (global >= 0)
        *out = (DpsJval){.kind = DPS_J_FUNCTION, .i = global};
    else
        *out = dps__jinja_undefined (in, "'%.*s' is undefined", (int)(node->value.len < 80 ? node->value.len : 80), node->value.s);
    return in->status == DPS_OK ? 0 : -1;
}

/* One bound of a slice: NULL or none gives `missing`. */
static int slice_bound (DpsJinja *in, DpsJscope *scope, const DpsJnode *node, int64_t missing, int64_t *out)
{
    DpsJval v;
    *out = missing;
    if (!node)
        return 0;
    if (dps__jinja_eval (in, scope, node, &v))
        return -1;
    if (v.kind == DPS_J_INT || v.kind == DPS_J_BOOL)
        *out = v.i;
    else if (v.kind != DPS_J_NONE)
        return dps__jinja_fail (in, DPS_ERR_FORMAT, "a slice bound of type %s", dps__jinja_kind (&v));
    return 0;
}

static int eval_slice (DpsJinja *in, DpsJscope *scope, const DpsJval *object, const DpsJnode *slice, DpsJval *out)
{
    int64_t start, stop, step;
    if (object->kind == DPS_J_UNDEFINED)
        return dps__jinja_undefined_used (in, object);
    if (slice_bound (in, scope, slice->c, 1, &step))
        return -1;
    if (step == 0)
        return dps__jinja_fail (in, DPS_ERR_FORMAT, "a slice with step 0");
    if (slice_bound (in, scope, slice->a, step > 0 ? 0 : INT64_MAX, &start) ||
        slice_bound (in, scope, slice->b, step > 0 ? INT64_MAX : INT64_MIN, &stop))
        return -1;
    return dps__jinja_slice (in, object, start, stop, step, out);
}

static int eval_item (DpsJinja *in, DpsJscope *scope, const DpsJnode *node, DpsJval *out)
{
    DpsJval object, key;
    if (dps__jinja_eval (in, scope, node->a, &object))
        return -1;
    if (node->b->kind == DPS_JN_SLICE)
        return eval_slice (in, scope, &object, node->b, out);
    return dps__jinja_eval (in, scope, node->b, &key) ? -1 : dps__jinja_item (in, &object, &key, out);
}

static int eval_list (DpsJinja *in, DpsJscope *scope, const DpsJnode *node, DpsJval *out)
{
    if (dps__jinja_new_list (in, node->kind == DPS_JN_LIST ? DPS_J_LIST : DPS_J_TUPLE, out))
        return -1;
    for (const DpsJnode *item = node->list; item; item = item->next) {
        DpsJval v;
        if (item->kind == DPS_JN_SLICE)
            return dps__jinja_fail (in, DPS_ERR_UNSUPPORTED, "a slice of several dimensions");
        if (dps__jinja_eval (in, scope, item, &v) || dps__jinja_append (in, out->list, v))
            return -1;
    }
    return 0;
}

static int eval_dict (DpsJinja *in, DpsJscope *scope, const DpsJnode *node, DpsJval *out)
{
    if (dps__jinja_new_dict (in, DPS_J_DICT, out))
        return -1;
    for (const DpsJnode *pair = node->list; pair; pair = pair->next) {
        DpsJval key, value;
        if (dps__jinja_eval (in, scope, pair->a, &key) || dps__jinja_eval (in, scope, pair->b, &value) ||
            dps__jinja_put (in, out->dict, key, value))
            return -1;
    }
    return 0;
}

int dps__jinja_contains (DpsJinja *in, const DpsJval *item, const DpsJval *container, int *out)
{
    DpsJlist items;
    *out = 0;
    if (container->kind == DPS_J_STR) {
        if (item->kind != DPS_J_STR)
            return dps__jinja_fail (in, DPS_ERR_FORMAT, "'in' a string needs a string, not %s", dps__jinja_kind (item));
        *out = dps__jinja_find (container, item, 0) != NULL;
        return dps__jinja_spend (in, container->len / 64);
    }
    if (dps__jinja_items (in, container, &items) || dps__jinja_spend (in, items.n / 4))
        return -1;
    for (size_t i = 0; i < items.n && !*out; i++)
        *out = dps__jinja_equal (in, &items.items[i], item);
    return 0;
}

static int compare (DpsJinja *in, int op, const DpsJval *a, const DpsJval *b, int *out)
{
    int order;
    double x, y;
    switch (op) {
    case DPS_JT_EQ: *out = dps__jinja_equal (in, a, b); return dps__jinja_spend (in, a->kind == DPS_J_STR ? a->len / 64 : 1);
    case DPS_JT_NE: *out = !dps__jinja_equal (in, a, b); return dps__jinja_spend (in, a->kind == DPS_J_STR ? a->len / 64 : 1);
    case DPS_JN_IN: return dps__jinja_contains (in, a, b, out);
    case DPS_JN_NOT_IN:
        if (dps__jinja_contains (in, a, b, out))
            return -1;
        *out = !*out;
        return 0;
    default: break;
    }
    if (dps__jinja_compare (in, a, b, &order))
        return -1;
    int nan = dps__jinja_number (a, &x) && dps__jinja_number (b, &y) && (isnan (x) || isnan (y));
    *out = !nan && (op == '<' ? order < 0 : op == '>' ? order > 0 : op == DPS_JT_LE ? order <= 0 : order >= 0);
    return 0;
}

static int eval_compare (DpsJinja *in, DpsJscope *scope, const DpsJnode *node, DpsJval *out)
{
    DpsJval left, right;
    int holds = 1;
    if (dps__jinja_eval (in, scope, node->a, &left))
        return -1;
    for (const DpsJnode *operand = node->list; operand && holds; operand = operand->next) {
        if (dps__jinja_eval (in, scope, operand->a, &right) || compare (in, operand->op, &left, &right, &holds))
            return -1;
        left = right;
    }
    *out = dps__jinja_bool (holds);
    return 0;
}

static int eval_logic (DpsJinja *in, DpsJscope *scope, const DpsJnode *node, DpsJval *out)
{
    if (dps__jinja_eval (in, scope, node->a, out))
        return -1;
    if (node->kind == DPS_JN_NOT) {
        *out = dps__jinja_bool (!dps__jinja_truth (out));
        return 0;
    }
    return dps__jinja_truth (out) == (node->kind == DPS_JN_AND) ? dps__jinja_eval (in, scope, node->b, out) : 0;
}

static int eval_sign (DpsJinja *in, DpsJscope *scope, const DpsJnode *node, DpsJval *out)
{
    if (dps__jinja_eval (in, scope, node->a, out))
        return -1;
    if (out->kind == DPS_J_UNDEFINED)
        return dps__jinja_undefined_used (in, out);
    if (out->kind == DPS_J_FLOAT) {
        out->f = node->kind == DPS_JN_NEGATE ? -out->f : out->f;
        return 0;
    }
    if (out->kind != DPS_J_INT && out->kind != DPS_J_BOOL)
        return dps__jinja_fail (in, DPS_ERR_FORMAT, "the sign of a %s", dps__jinja_kind (out));
    if (out->i == INT64_MIN && node->kind == DPS_JN_NEGATE)
        return dps__jinja_fail (in, DPS_ERR_LIMIT, "an integer outside 64 bits");
    *out = dps__jinja_int (node->kind == DPS_JN_NEGATE ? -out->i : out->i);
    return 0;
}

static int eval_if_else (DpsJinja *in, DpsJscope *scope, const DpsJnode *node, DpsJval *out)
{
    DpsJval condition;
    if (dps__jinja_eval (in, scope, node->a, &condition))
        return -1;
    const DpsJnode *branch = dps__jinja_truth (&condition) ? node->b : node->c;
    if (branch)
        return dps__jinja_eval (in, scope, branch, out);
    *out = dps__jinja_undefined (in, "an inline if without else was false");
    return in->status == DPS_OK ? 0 : -1;
}

static int eval_filter (DpsJinja *in, DpsJscope *scope, const DpsJnode *node, DpsJval *out)
{
    DpsJval v;
    DpsJargs args = {0};
    int known;
    if (dps__jinja_eval (in, scope, node->a, &v) || dps__jinja_args (in, scope, node->list, &args))
        return -1;
    in->line = node->line;
    if (dps__jinja_filter (in, node->value.s, &v, &args, out, &known))
        return -1;
    return known ? 0 : dps__jinja_fail (in, DPS_ERR_UNSUPPORTED, "there is no filter '%.60s'", node->value.s);
}

static int eval_test (DpsJinja *in, DpsJscope *scope, const DpsJnode *node, DpsJval *out)
{
    DpsJval v;
    DpsJargs args = {0};
    int known, holds = 0;
    if (dps__jinja_eval (in, scope, node->a, &v) || dps__jinja_args (in, scope, node->list, &args) ||
        dps__jinja_test (in, node->value.s, &v, &args, &holds, &known))
        return -1;
    *out = dps__jinja_bool (holds);
    return known ? 0 : dps__jinja_fail (in, DPS_ERR_UNSUPPORTED, "there is no test '%.60s'", node->value.s);
}

static int eval_call (DpsJinja *in, DpsJscope *scope, const DpsJnode *node, DpsJval *out)
{
    DpsJval callee;
    DpsJargs args = {0};
    if (dps__jinja_eval (in, scope, node->a, &callee) || dps__jinja_args (in, scope, node->list, &args))
        return -1;
    in->line = node->line;
    return dps__jinja_call (in, &callee, &args, out);
}

static int eval_binary (DpsJinja *in, DpsJscope *scope, const DpsJnode *node, DpsJval *out)
{
    DpsJval a, b;
    if (dps__jinja_eval (in, scope, node->a, &a) || dps__jinja_eval (in, scope, node->b, &b))
        return -1;
    in->line = node->line;
    return dps__jinja_binary (in, node->op, &a, &b, out);
}

static int eval_attribute (DpsJinja *in, DpsJscope *scope, const DpsJnode *node, DpsJval *out)
{
    DpsJval object;
    if (dps__jinja_eval (in, scope, node->a, &object))
        return -1;
    in->line = node->line;
    return dps__jinja_attribute (in, &object, node->value.s, node->value.len, out);
}

static int eval (DpsJinja *in, DpsJscope *scope, const DpsJnode *node, DpsJval *out)
{
    switch (node->kind) {
    case DPS_JN_CONST: *out = node->value; return 0;
    case DPS_JN_NAME: return eval_name (in, scope, node, out);
    case DPS_JN_LIST:
    case DPS_JN_TUPLE: return eval_list (in, scope, node, out);
    case DPS_JN_DICT: return eval_dict (in, scope, node, out);
    case DPS_JN_BINARY: return eval_binary (in, scope, node, out);
    case DPS_JN_AND:
    case DPS_JN_OR:
    case DPS_JN_NOT: return eval_logic (in, scope, node, out);
    case DPS_JN_NEGATE:
    case DPS_JN_POSITIVE: return eval_sign (in, scope, node, out);
    case DPS_JN_COMPARE: return eval_compare (in, scope, node, out);
    case DPS_JN_IF_ELSE: return eval_if_else (in, scope, node, out);
    case DPS_JN_ATTRIBUTE: return eval_attribute (in, scope, node, out);
    case DPS_JN_ITEM: return eval_item (in, scope, node, out);
    case DPS_JN_CALL: return eval_call (in, scope, node, out);
    case DPS_JN_FILTER: return eval_filter (in, scope, node, out);
    case DPS_JN_TEST: return eval_test (in, scope, node, out);
    default: return dps__jinja_fail (in, DPS_ERR_FORMAT, "a slice outside [ ]");
    }
}

int dps__jinja_eval (DpsJinja *in, DpsJscope *scope, const DpsJnode *node, DpsJval *out)
{
    in->line = node->line;
    if (dps__jinja_spend (in, 1))
        return -1;
    if (in->depth >= DPS_JINJA_DEPTH)
        return dps__jinja_fail (in, DPS_ERR_LIMIT, "evaluation deeper than %d", DPS_JINJA_DEPTH);
    in->depth++;
    int rc = eval (in, scope, node, out);
    in->depth--;
    return rc;
}
