/* SPDX-License-Identifier: Apache-2.0 */
/* jinja_expr.c: expressions. One function per level of precedence, lowest first, as in Jinja's own grammar. */
#include <string.h>

#include "token/jinja_node.h"

static DpsJnode *parse_or (DpsJparser *p);
static DpsJnode *parse_unary (DpsJparser *p, int with_filter);

static int skip_name (DpsJparser *p, const char *name)
{
    if (!dps__jinja_is_name (p->at, name))
        return 0;
    p->at++;
    return 1;
}

/* A node of two operands made from the one before. */
static DpsJnode *binary (DpsJparser *p, int kind, int op, DpsJnode *a, DpsJnode *b)
{
    DpsJnode *node = a && b ? dps__jinja_node (p, kind) : NULL;
    if (node) {
        node->op = op;
        node->a = a;
        node->b = b;
        node->line = a->line;
    }
    return node;
}

static DpsJnode *unary (DpsJparser *p, int kind, DpsJnode *a)
{
    DpsJnode *node = a ? dps__jinja_node (p, kind) : NULL;
    if (node) {
        node->a = a;
        node->line = a->line;
    }
    return node;
}

static int parse_arguments (DpsJparser *p, DpsJnode **out)
{
    DpsJnode **tail = out;
    *out = NULL;
    if (dps__jinja_expect (p, '('))
        return -1;
    for (int n = 0; !dps__jinja_skip_op (p, ')'); n++) {
        if (n && dps__jinja_expect (p, ','))
            return -1;
        if (n && dps__jinja_skip_op (p, ')'))
            return 0;
        DpsJnode *arg;
        if (dps__jinja_skip_op (p, '*'))
            arg = unary (p, DPS_JN_STAR, dps__jinja_expression (p));
        else if (dps__jinja_skip_op (p, DPS_JT_POWER))
            arg = unary (p, DPS_JN_STAR_STAR, dps__jinja_expression (p));
        else if (p->at->kind == DPS_JT_NAME && p->at[1].kind == '=') {
            DpsJval name = p->at->value;
            p->at += 2;
            arg = unary (p, DPS_JN_KEYWORD, dps__jinja_expression (p));
            if (arg)
                arg->value = name;
        } else
            arg = dps__jinja_expression (p);
        if (!arg)
            return -1;
        *tail = arg;
        tail = &arg->next;
    }
    return 0;
}

/* [i], [a:b:c] and [i, j]. */
static DpsJnode *parse_subscript_part (DpsJparser *p)
{
    DpsJnode *start = NULL, *slice;
    if (p->at->kind != ':') {
        start = dps__jinja_expression (p);
        if (!start || p->at->kind != ':')
            return start;
    }
    slice = dps__jinja_node (p, DPS_JN_SLICE);
    if (!slice)
        return NULL;
    p->at++;
    slice->a = start;
    if (p->at->kind != ':' && p->at->kind != ']' && p->at->kind != ',' && !(slice->b = dps__jinja_expression (p)))
        return NULL;
    if (dps__jinja_skip_op (p, ':') && p->at->kind != ']' && p->at->kind != ',' && !(slice->c = dps__jinja_expression (p)))
        return NULL;
    return slice;
}

static DpsJnode *parse_subscript (DpsJparser *p, DpsJnode *object)
{
    if (dps__jinja_skip_op (p, '.')) {
        const DpsJtoken *t = p->at;
        if (t->kind == DPS_JT_INT) {
            DpsJnode *index = dps__jinja_node (p, DPS_JN_CONST);
            p->at++;
            if (index)
                index->value = t->value;
            return binary (p, DPS_JN_ITEM, 0, object, index);
        }
        if (dps__jinja_expect (p, DPS_JT_NAME))
            return NULL;
        DpsJnode *node = unary (p, DPS_JN_ATTRIBUTE, object);
        if (node)
            node->value = t->value;
        return node;
    }
    p->at++; /* [ */
    DpsJnode *part = parse_subscript_part (p);
    if (part && p->at->kind == ',') {
        DpsJnode *tuple = dps__jinja_node (p, DPS_JN_TUPLE), *last = part;
        if (!tuple)
            return NULL;
        tuple->list = part;
        while (dps__jinja_skip_op (p, ',') && p->at->kind != ']') {
            if (!(last->next = parse_subscript_part (p)))
                return NULL;
            last = last->next;
        }
        part = tuple;
    }
    if (!part || dps__jinja_expect (p, ']'))
        return NULL;
    return binary (p, DPS_JN_ITEM, 0, object, part);
}

static DpsJnode *parse_call (DpsJparser *p, DpsJnode *callee)
{
    DpsJnode *call = unary (p, DPS_JN_CALL, callee);
    return call && !parse_arguments (p, &call->list) ? call : NULL;
}

static DpsJnode *parse_postfix (DpsJparser *p, DpsJnode *node)
{
    while (node && (p->at->kind == '.' || p->at->kind == '[' || p->at->kind == '('))
        node = p->at->kind == '(' ? parse_call (p, node) : parse_subscript (p, node);
    return node;
}

/* name or dotted.name of a filter or test, NUL-terminated in the arena. */
static int dotted_name (DpsJparser *p, DpsJval *out)
{
    DpsBuf text = {0};
    int bad = 0;
    if (p->at->kind != DPS_JT_NAME)
        return dps__jinja_unexpected (p, "the name of a filter or test");
    for (;;) {
        bad = bad || dps_buf_add (&text, p->at->value.s, p->at->value.len);
        p->at++;
        if (p->at->kind != '.' || p->at[1].kind != DPS_JT_NAME)
            break;
        bad = bad || dps_buf_add (&text, ".", 1);
        p->at++;
    }
    if (!bad)
        return dps__jinja_take (p->in, &text, out);
    dps_buf_free (&text);
    return dps__jinja_fail (p->in, DPS_ERR_NOMEM, "out of memory for a name");
}

DpsJnode *dps__jinja_filters (DpsJparser *p, DpsJnode *inner, int first_without_pipe)
{
    while (p->at->kind == '|' || first_without_pipe) {
        p->at += !first_without_pipe;
        first_without_pipe = 0;
        DpsJnode *filter = dps__jinja_node (p, DPS_JN_FILTER);
        if (!filter || dotted_name (p, &filter->value))
            return NULL;
        filter->a = inner;
        if (p->at->kind == '(' && parse_arguments (p, &filter->list))
            return NULL;
        inner = filter;
    }
    return inner;
}

static DpsJnode *parse_primary (DpsJparser *p);

/* x is [not] name, name(args) or name arg. */
static DpsJnode *parse_test (DpsJparser *p, DpsJnode *object)
{
    p->at++;
    int negated = skip_name (p, "not");
    DpsJnode *test = unary (p, DPS_JN_TEST, object);
    if (!test || dotted_name (p, &test->value))
        return NULL;
    int kind = p->at->kind;
    if (kind == '(') {
        if (parse_arguments (p, &test->list))
            return NULL;
    } else if ((kind == DPS_JT_NAME || kind == DPS_JT_STRING || kind == DPS_JT_INT || kind == DPS_JT_FLOAT || kind == '[' || kind == '{') &&
               !dps__jinja_is_name (p->at, "else") && !dps__jinja_is_name (p->at, "or") && !dps__jinja_is_name (p->at, "and")) {
        if (dps__jinja_is_name (p->at, "is")) {
            dps__jinja_unexpected (p, "no second test: tests cannot be chained");
            return NULL;
        }
        test->list = parse_postfix (p, parse_primary (p));
        if (!test->list)
            return NULL;
    }
    return negated ? unary (p, DPS_JN_NOT, test) : test;
}

static DpsJnode *parse_filter_expression (DpsJparser *p, DpsJnode *node)
{
    while (node) {
        if (p->at->kind == '|')
            node = dps__jinja_filters (p, node, 0);
        else if (dps__jinja_is_name (p->at, "is"))
            node = parse_test (p, node);
        else if (p->at->kind == '(') /* calls may follow filters and tests too */
            node = parse_call (p, node);
        else
            break;
    }
    return node;
}

/* [a, b] with `kind` LIST and `close` ']', {k: v} with DICT and '}'. */
static DpsJnode *parse_items (DpsJparser *p, int kind, int close)
{
    DpsJnode *node = dps__jinja_node (p, kind), **tail = node ? &node->list : NULL;
    p->at++;
    for (int n = 0; tail && !dps__jinja_skip_op (p, close); n++) {
        if (n && dps__jinja_expect (p, ','))
            return NULL;
        if (dps__jinja_skip_op (p, close))
            return node;
        DpsJnode *item = dps__jinja_expression (p);
        if (item && kind == DPS_JN_DICT) {
            if (dps__jinja_expect (p, ':'))
                return NULL;
            item = binary (p, DPS_JN_PAIR, 0, item, dps__jinja_expression (p));
        }
        if (!item)
            return NULL;
        *tail = item;
        tail = &item->next;
    }
    return tail ? node : NULL;
}

static DpsJnode *constant (DpsJparser *p, DpsJval value)
{
    DpsJnode *node = dps__jinja_node (p, DPS_JN_CONST);
    if (node)
        node->value = value;
    p->at++;
    return node;
}

static DpsJnode *parse_name (DpsJparser *p)
{
    const DpsJtoken *t = p->at;
    if (dps__jinja_is_name (t, "true") || dps__jinja_is_name (t, "True"))
        return constant (p, dps__jinja_bool (1));
    if (dps__jinja_is_name (t, "false") || dps__jinja_is_name (t, "False"))
        return constant (p, dps__jinja_bool (0));
    if (dps__jinja_is_name (t, "none") || dps__jinja_is_name (t, "None"))
        return constant (p, (DpsJval){.kind = DPS_J_NONE});
    DpsJnode *node = constant (p, t->value);
    if (node)
        node->kind = DPS_JN_NAME;
    return node;
}

/* Strings side by side are one string. */
static DpsJnode *parse_strings (DpsJparser *p)
{
    DpsBuf text = {0};
    DpsJnode *node = dps__jinja_node (p, DPS_JN_CONST);
    int bad = 0;
    for (; node && !bad && p->at->kind == DPS_JT_STRING; p->at++)
        bad = dps_buf_add (&text, p->at->value.s, p->at->value.len);
    if (bad)
        dps__jinja_fail (p->in, DPS_ERR_NOMEM, "out of memory for a string");
    if (!node || bad || dps__jinja_take (p->in, &text, &node->value)) {
        dps_buf_free (&text);
        return NULL;
    }
    return node;
}

static DpsJnode *parse_parentheses (DpsJparser *p)
{
    DpsJnode *node;
    p->at++;
    if (dps__jinja_skip_op (p, ')'))
        return dps__jinja_node (p, DPS_JN_TUPLE);
    node = dps__jinja_tuple (p, 1);
    return node && !dps__jinja_expect (p, ')') ? node : NULL;
}

static DpsJnode *parse_primary (DpsJparser *p)
{
    switch (p->at->kind) {
    case DPS_JT_NAME: return parse_name (p);
    case DPS_JT_STRING: return parse_strings (p);
    case DPS_JT_INT:
    case DPS_JT_FLOAT: return constant (p, p->at->value);
    case '(': return parse_parentheses (p);
    case '[': return parse_items (p, DPS_JN_LIST, ']');
    case '{': return parse_items (p, DPS_JN_DICT, '}');
    default: dps__jinja_unexpected (p, "an expression"); return NULL;
    }
}

static DpsJnode *parse_unary (DpsJparser *p, int with_filter)
{
    DpsJnode *node = NULL;
    if (p->nesting >= DPS_JINJA_NESTING) {
        p->in->line = p->at->line;
        dps__jinja_fail (p->in, DPS_ERR_LIMIT, "expressions nested deeper than %d", DPS_JINJA_NESTING);
        return NULL;
    }
    p->nesting++;
    if (dps__jinja_skip_op (p, '-'))
        node = unary (p, DPS_JN_NEGATE, parse_unary (p, 0));
    else if (dps__jinja_skip_op (p, '+'))
        node = unary (p, DPS_JN_POSITIVE, parse_unary (p, 0));
    else
        node = parse_primary (p);
    node = parse_postfix (p, node);
    if (with_filter)
        node = parse_filter_expression (p, node);
    p->nesting--;
    return node;
}

static DpsJnode *parse_power (DpsJparser *p)
{
    DpsJnode *left = parse_unary (p, 1);
    while (left && dps__jinja_skip_op (p, DPS_JT_POWER))
        left = binary (p, DPS_JN_BINARY, DPS_JT_POWER, left, parse_unary (p, 1));
    return left;
}

static DpsJnode *parse_product (DpsJparser *p)
{
    DpsJnode *left = parse_power (p);
    while (left && (p->at->kind == '*' || p->at->kind == '/' || p->at->kind == DPS_JT_FLOOR || p->at->kind == '%')) {
        int op = p->at->kind;
        p->at++;
        left = binary (p, DPS_JN_BINARY, op, left, parse_power (p));
    }
    return left;
}

static DpsJnode *parse_concat (DpsJparser *p)
{
    DpsJnode *left = parse_product (p);
    while (left && dps__jinja_skip_op (p, '~'))
        left = binary (p, DPS_JN_BINARY, '~', left, parse_product (p));
    return left;
}

static DpsJnode *parse_sum (DpsJparser *p)
{
    DpsJnode *left = parse_concat (p);
    while (left && (p->at->kind == '+' || p->at->kind == '-')) {
        int op = p->at->kind;
        p->at++;
        left = binary (p, DPS_JN_BINARY, op, left, parse_concat (p));
    }
    return left;
}

/* The comparison at the cursor, which is stepped over; 0: none. */
static int comparison (DpsJparser *p)
{
    int kind = p->at->kind;
    if (kind == DPS_JT_EQ || kind == DPS_JT_NE || kind == DPS_JT_LE || kind == DPS_JT_GE || kind == '<' || kind == '>') {
        p->at++;
        return kind;
    }
    if (skip_name (p, "in"))
        return DPS_JN_IN;
    if (dps__jinja_is_name (p->at, "not") && dps__jinja_is_name (p->at + 1, "in")) {
        p->at += 2;
        return DPS_JN_NOT_IN;
    }
    return 0;
}

static DpsJnode *parse_compare (DpsJparser *p)
{
    DpsJnode *left = parse_sum (p), *compare = NULL, **tail = NULL;
    int op;
    while (left && (op = comparison (p))) {
        if (!compare) {
            if (!(compare = unary (p, DPS_JN_COMPARE, left)))
                return NULL;
            tail = &compare->list;
        }
        DpsJnode *operand = unary (p, DPS_JN_OPERAND, parse_sum (p));
        if (!operand)
            return NULL;
        operand->op = op;
        *tail = operand;
        tail = &operand->next;
    }
    return compare ? compare : left;
}

static DpsJnode *parse_not (DpsJparser *p)
{
    int n = 0;
    while (skip_name (p, "not"))
        n++;
    DpsJnode *node = parse_compare (p);
    for (; n > 0 && node; n--)
        node = unary (p, DPS_JN_NOT, node);
    return node;
}

static DpsJnode *parse_and (DpsJparser *p)
{
    DpsJnode *left = parse_not (p);
    while (left && skip_name (p, "and"))
        left = binary (p, DPS_JN_AND, 0, left, parse_not (p));
    return left;
}

static DpsJnode *parse_or (DpsJparser *p)
{
    DpsJnode *left = parse_and (p);
    while (left && skip_name (p, "or"))
        left = binary (p, DPS_JN_OR, 0, left, parse_and (p));
    return left;
}

DpsJnode *dps__jinja_expression (DpsJparser *p)
{
    DpsJnode *node = parse_or (p);
    int depth = 0;
    while (node && skip_name (p, "if")) {
        DpsJnode *choice = binary (p, DPS_JN_IF_ELSE, 0, parse_or (p), node);
        if (!choice)
            return NULL;
        if (skip_name (p, "else")) {
            if (p->nesting + ++depth >= DPS_JINJA_NESTING) {
                dps__jinja_fail (p->in, DPS_ERR_LIMIT, "expressions nested deeper than %d", DPS_JINJA_NESTING);
                return NULL;
            }
            p->nesting++;
            choice->c = dps__jinja_expression (p);
            p->nesting--;
            if (!choice->c)
                return NULL;
        }
        node = choice;
    }
    return node;
}

/* True where a tuple without parentheses ends. */
static int tuple_ends (const DpsJparser *p)
{
    int kind = p->at->kind;
    return kind == DPS_JT_VARIABLE_END || kind == DPS_JT_BLOCK_END || kind == ')' || kind == DPS_JT_END || dps__jinja_is_name (p->at, "in");
}

DpsJnode *dps__jinja_tuple (DpsJparser *p, int with_condition)
{
    DpsJnode *first = with_condition ? dps__jinja_expression (p) : parse_or (p), *last = first;
    if (!first || p->at->kind != ',')
        return first;
    DpsJnode *tuple = dps__jinja_node (p, DPS_JN_TUPLE);
    if (!tuple)
        return NULL;
    tuple->list = first;
    while (dps__jinja_skip_op (p, ',') && !tuple_ends (p)) {
        if (!(last->next = with_condition ? dps__jinja_expression (p) : parse_or (p)))
            return NULL;
        last = last->next;
    }
    return tuple;
}
