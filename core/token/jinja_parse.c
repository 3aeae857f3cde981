/* SPDX-License-Identifier: Apache-2.0 */
/* jinja_parse.c: statements. What a template may not do here (include, import, extends, block, autoescape) is refused by name. */
#include <string.h>

#include "token/jinja_node.h"

static DpsJnode *parse_body (DpsJparser *p, const char *const *ends);
static DpsJnode *parse_statement (DpsJparser *p);

/* One name, or ns.attribute. */
static DpsJnode *parse_target_name (DpsJparser *p, int with_namespace)
{
    const DpsJtoken *t = p->at;
    if (dps__jinja_expect (p, DPS_JT_NAME))
        return NULL;
    DpsJnode *name = dps__jinja_node (p, DPS_JN_NAME);
    if (!name)
        return NULL;
    name->value = t->value;
    if (!with_namespace || p->at->kind != '.')
        return name;
    p->at++;
    DpsJnode *target = dps__jinja_node (p, DPS_JN_NS_TARGET);
    const DpsJtoken *attribute = p->at;
    if (!target || dps__jinja_expect (p, DPS_JT_NAME))
        return NULL;
    target->a = name;
    target->value = attribute->value;
    return target;
}

/* name or tuple of names; names only for loops, with namespaces for set. */
static DpsJnode *parse_target (DpsJparser *p, int with_namespace)
{
    int parentheses = dps__jinja_skip_op (p, '(');
    if (++p->nesting >= DPS_JINJA_NESTING) {
        dps__jinja_fail (p->in, DPS_ERR_LIMIT, "targets nested deeper than %d", DPS_JINJA_NESTING);
        return NULL;
    }
    DpsJnode *first = p->at->kind == '(' ? parse_target (p, with_namespace) : parse_target_name (p, with_namespace), *last = first;
    if (first && p->at->kind == ',') {
        DpsJnode *tuple = dps__jinja_node (p, DPS_JN_TUPLE);
        if (!tuple)
            return NULL;
        tuple->list = first;
        while (dps__jinja_skip_op (p, ',') && (p->at->kind == DPS_JT_NAME || p->at->kind == '(') && !dps__jinja_is_name (p->at, "in")) {
            last->next = p->at->kind == '(' ? parse_target (p, with_namespace) : parse_target_name (p, with_namespace);
            if (!(last = last->next))
                return NULL;
        }
        first = tuple;
    }
    p->nesting--;
    return first && parentheses && dps__jinja_expect (p, ')') ? NULL : first;
}

static int end_block (DpsJparser *p) { return dps__jinja_expect (p, DPS_JT_BLOCK_END); }

/* The body of a statement up to {% end %}, both tags included; the first is open at its %}. */
static int parse_simple_body (DpsJparser *p, const char *end, DpsJnode **out)
{
    const char *const ends[] = {end, NULL};
    if (end_block (p))
        return -1;
    *out = parse_body (p, ends);
    if (p->in->status != DPS_OK)
        return -1;
    p->at++; /* the end's name */
    return end_block (p);
}

static DpsJnode *parse_if (DpsJparser *p)
{
    static const char *const ends[] = {"elif", "else", "endif", NULL}, *const last[] = {"endif", NULL};
    DpsJnode *first = NULL, **link = &first;
    do {
        DpsJnode *node = dps__jinja_node (p, DPS_JN_IF);
        if (!node || !(node->a = dps__jinja_tuple (p, 0)) || end_block (p))
            return NULL;
        *link = node;
        link = &node->orelse;
        node->body = parse_body (p, ends);
        if (p->in->status != DPS_OK)
            return NULL;
        p->at++;
        node->op = dps__jinja_is_name (p->at - 1, "elif");
    } while (dps__jinja_is_name (p->at - 1, "elif"));
    if (dps__jinja_is_name (p->at - 1, "else")) {
        if (end_block (p))
            return NULL;
        *link = parse_body (p, last);
        if (p->in->status != DPS_OK)
            return NULL;
        p->at++;
    }
    return end_block (p) ? NULL : first;
}

static DpsJnode *parse_for (DpsJparser *p)
{
    static const char *const ends[] = {"else", "endfor", NULL}, *const last[] = {"endfor", NULL};
    DpsJnode *node = dps__jinja_node (p, DPS_JN_FOR);
    if (!node || !(node->a = parse_target (p, 0)))
        return NULL;
    if (!dps__jinja_is_name (p->at, "in")) {
        dps__jinja_unexpected (p, "'in'");
        return NULL;
    }
    p->at++;
    if (!(node->b = dps__jinja_tuple (p, 0)))
        return NULL;
    if (dps__jinja_is_name (p->at, "if")) {
        p->at++;
        if (!(node->c = dps__jinja_expression (p)))
            return NULL;
    }
    if (dps__jinja_is_name (p->at, "recursive")) {
        p->at++;
        node->op = 1;
    }
    if (end_block (p))
        return NULL;
    node->body = parse_body (p, ends);
    if (p->in->status != DPS_OK)
        return NULL;
    p->at++;
    if (dps__jinja_is_name (p->at - 1, "else")) {
        if (end_block (p))
            return NULL;
        node->orelse = parse_body (p, last);
        if (p->in->status != DPS_OK)
            return NULL;
        p->at++;
    }
    return end_block (p) ? NULL : node;
}

static DpsJnode *parse_set (DpsJparser *p)
{
    DpsJnode *node = dps__jinja_node (p, DPS_JN_SET);
    if (!node || !(node->a = parse_target (p, 1)))
        return NULL;
    if (dps__jinja_skip_op (p, '=')) {
        node->b = dps__jinja_tuple (p, 1);
        return node->b && !end_block (p) ? node : NULL;
    }
    node->kind = DPS_JN_SET_BLOCK;
    node->b = dps__jinja_filters (p, NULL, 0);
    if (p->in->status != DPS_OK || parse_simple_body (p, "endset", &node->body))
        return NULL;
    return node;
}

/* (a, b=1): names and defaults of a macro or call block. */
static int parse_signature (DpsJparser *p, DpsJnode **out)
{
    DpsJnode **tail = out;
    int defaults = 0;
    if (dps__jinja_expect (p, '('))
        return -1;
    for (int n = 0; !dps__jinja_skip_op (p, ')'); n++) {
        if (n && dps__jinja_expect (p, ','))
            return -1;
        const DpsJtoken *t = p->at;
        DpsJnode *arg = dps__jinja_node (p, DPS_JN_KEYWORD);
        if (!arg || dps__jinja_expect (p, DPS_JT_NAME))
            return -1;
        arg->value = t->value;
        if (dps__jinja_skip_op (p, '=')) {
            defaults = 1;
            if (!(arg->a = dps__jinja_expression (p)))
                return -1;
        } else if (defaults)
            return dps__jinja_unexpected (p, "a default: one before has it");
        *tail = arg;
        tail = &arg->next;
    }
    return 0;
}

static DpsJnode *parse_macro (DpsJparser *p)
{
    DpsJnode *node = dps__jinja_node (p, DPS_JN_MACRO);
    const DpsJtoken *t = p->at;
    if (!node || dps__jinja_expect (p, DPS_JT_NAME))
        return NULL;
    node->value = t->value;
    return parse_signature (p, &node->list) || parse_simple_body (p, "endmacro", &node->body) ? NULL : node;
}

static DpsJnode *parse_call_block (DpsJparser *p)
{
    DpsJnode *node = dps__jinja_node (p, DPS_JN_CALL_BLOCK);
    if (!node || (p->at->kind == '(' && parse_signature (p, &node->list)))
        return NULL;
    node->a = dps__jinja_expression (p);
    if (node->a && node->a->kind != DPS_JN_CALL) {
        dps__jinja_unexpected (p, "a call");
        return NULL;
    }
    return node->a && !parse_simple_body (p, "endcall", &node->body) ? node : NULL;
}

static DpsJnode *parse_with (DpsJparser *p)
{
    DpsJnode *node = dps__jinja_node (p, DPS_JN_WITH), **tail = node ? &node->list : NULL;
    while (tail && p->at->kind != DPS_JT_BLOCK_END) {
        if (node->list && dps__jinja_expect (p, ','))
            return NULL;
        DpsJnode *pair = dps__jinja_node (p, DPS_JN_PAIR);
        if (!pair || !(pair->a = parse_target (p, 0)) || dps__jinja_expect (p, '=') || !(pair->b = dps__jinja_expression (p)))
            return NULL;
        *tail = pair;
        tail = &pair->next;
    }
    return tail && !parse_simple_body (p, "endwith", &node->body) ? node : NULL;
}

static DpsJnode *parse_filter_block (DpsJparser *p)
{
    DpsJnode *node = dps__jinja_node (p, DPS_JN_FILTER_BLOCK);
    if (!node || !(node->a = dps__jinja_filters (p, NULL, 1)))
        return NULL;
    return parse_simple_body (p, "endfilter", &node->body) ? NULL : node;
}

static DpsJnode *parse_generation (DpsJparser *p)
{
    DpsJnode *node = dps__jinja_node (p, DPS_JN_GENERATION);
    return node && !parse_simple_body (p, "endgeneration", &node->body) ? node : NULL;
}

static DpsJnode *parse_break (DpsJparser *p)
{
    DpsJnode *node = dps__jinja_node (p, DPS_JN_BREAK);
    return node && !end_block (p) ? node : NULL;
}

static DpsJnode *parse_continue (DpsJparser *p)
{
    DpsJnode *node = dps__jinja_node (p, DPS_JN_CONTINUE);
    return node && !end_block (p) ? node : NULL;
}

static const struct {
    const char *name;
    DpsJnode *(*parse) (DpsJparser *p);
} statements[] = {
    {"if", parse_if},
    {"for", parse_for},
    {"set", parse_set},
    {"macro", parse_macro},
    {"call", parse_call_block},
    {"filter", parse_filter_block},
    {"with", parse_with},
    {"break", parse_break},
    {"generation", parse_generation},
    {"continue", parse_continue},
};

static DpsJnode *parse_statement (DpsJparser *p)
{
    for (size_t i = 0; i < sizeof statements / sizeof *statements; i++)
        if (dps__jinja_is_name (p->at, statements[i].name)) {
            p->at++;
            if (++p->nesting >= DPS_JINJA_NESTING) {
                p->in->line = p->at->line;
                dps__jinja_fail (p->in, DPS_ERR_LIMIT, "blocks nested deeper than %d", DPS_JINJA_NESTING);
                return NULL;
            }
            DpsJnode *node = statements[i].parse (p);
            p->nesting--;
            return node;
        }
    dps__jinja_unexpected (p, "if, for, set, macro, call, filter, with, generation, break or continue");
    return NULL;
}

static int at_end (const DpsJparser *p, const char *const *ends)
{
    for (; ends && *ends; ends++)
        if (dps__jinja_is_name (p->at, *ends))
            return 1;
    return 0;
}

/* Statements and text up to a block that begins with one of `ends` (cursor on that name), or the end (ends NULL). NULL is empty or a failure. */
static DpsJnode *parse_body (DpsJparser *p, const char *const *ends)
{
    DpsJnode *first = NULL, **tail = &first;
    for (;;) {
        DpsJnode *node = NULL;
        int kind = p->at->kind;
        if (kind == DPS_JT_END) {
            if (ends)
                dps__jinja_unexpected (p, *ends);
            return first;
        }
        p->at++;
        if (kind == DPS_JT_DATA) {
            p->at--;
            if ((node = dps__jinja_node (p, DPS_JN_DATA)))
                node->value = p->at->value;
            p->at++;
        } else if (kind == DPS_JT_VARIABLE_BEGIN) {
            node = dps__jinja_node (p, DPS_JN_OUTPUT);
            if (node && (!(node->a = dps__jinja_tuple (p, 1)) || dps__jinja_expect (p, DPS_JT_VARIABLE_END)))
                node = NULL;
        } else { /* BLOCK_BEGIN */
            if (at_end (p, ends))
                return first;
            node = parse_statement (p);
        }
        if (!node)
            return NULL;
        *tail = node;
        while (*tail)
            tail = &(*tail)->next;
    }
}

DpsJnode *dps__jinja_parse (DpsJinja *in, const DpsJtoken *tokens)
{
    DpsJparser p = {.in = in, .at = tokens};
    return parse_body (&p, NULL);
}
