/* SPDX-License-Identifier: Apache-2.0 */
/* jinja_exec.c: statements → output. Scopes are Jinja's: loops, macros, call, filter, with and set blocks have their own; if has none. */
#include <string.h>

#include "token/chat.h"
#include "token/jinja_node.h"

/* What a list of statements returns besides 0 and -1. */
enum { BREAK = 1, CONTINUE = 2 };

static int write_text (DpsJinja *in, const char *s, size_t len)
{
    if (dps__jinja_spend (in, len / 64))
        return -1;
    if (in->out->len + len > DPS_JINJA_OUTPUT)
        return dps__jinja_fail (in, DPS_ERR_LIMIT, "the text passes %d bytes", DPS_JINJA_OUTPUT);
    return dps_buf_add (in->out, s, len) ? dps__jinja_fail (in, DPS_ERR_NOMEM, "out of memory for the text") : 0;
}

/* Run statements with their output as a value. Break and continue do not reach out of it. */
static int capture (DpsJinja *in, DpsJscope *scope, const DpsJnode *body, DpsJval *out)
{
    DpsBuf text = {0}, *outer = in->out;
    in->out = &text;
    int rc = dps__jinja_exec (in, scope, body);
    in->out = outer;
    if (rc < 0) {
        dps_buf_free (&text);
        return -1;
    }
    return dps__jinja_take (in, &text, out);
}

static int assign_attribute (DpsJinja *in, DpsJscope *scope, const DpsJnode *target, DpsJval v)
{
    DpsJval object;
    if (dps__jinja_eval (in, scope, target->a, &object))
        return -1;
    if (object.kind != DPS_J_NAMESPACE)
        return dps__jinja_fail (in, DPS_ERR_FORMAT, "an attribute can be set on a namespace only, not on a %s", dps__jinja_kind (&object));
    if (target->value.len && target->value.s[0] == '_')
        return dps__jinja_fail (in, DPS_ERR_POLICY, "a namespace attribute may not begin with an underscore");
    return dps__jinja_put (in, object.dict, target->value, v);
}

/* To a name, a namespace's attribute, or a tuple of them. */
static int assign (DpsJinja *in, DpsJscope *scope, const DpsJnode *target, DpsJval v)
{
    DpsJlist items;
    size_t i = 0, n = 0;
    if (target->kind == DPS_JN_NAME)
        return dps__jinja_put (in, &scope->names, target->value, v);
    if (target->kind == DPS_JN_NS_TARGET)
        return assign_attribute (in, scope, target, v);
    for (const DpsJnode *t = target->list; t; t = t->next)
        n++;
    if (dps__jinja_items (in, &v, &items))
        return -1;
    if (items.n != n)
        return dps__jinja_fail (in, DPS_ERR_FORMAT, "%zu values to unpack into %zu names", items.n, n);
    for (const DpsJnode *t = target->list; t; t = t->next)
        if (assign (in, scope, t, items.items[i++]))
            return -1;
    return 0;
}

/* The items that pass the loop's own condition. */
static int filter_items (DpsJinja *in, DpsJscope *scope, const DpsJnode *node, DpsJlist *items)
{
    DpsJlist kept = {0};
    for (size_t i = 0; node->c && i < items->n; i++) {
        DpsJscope inner = {.parent = scope};
        DpsJval condition;
        if (assign (in, &inner, node->a, items->items[i]) || dps__jinja_eval (in, &inner, node->c, &condition) ||
            (dps__jinja_truth (&condition) && dps__jinja_append (in, &kept, items->items[i])))
            return -1;
    }
    if (node->c)
        *items = kept;
    return 0;
}

/* Scopes and loops live in the arena: a macro may keep one alive. */
static DpsJscope *new_scope (DpsJinja *in, DpsJscope *parent)
{
    DpsJscope *scope = dps__jinja_alloc (in, 1, sizeof *scope);
    if (scope)
        scope->parent = parent;
    return scope;
}

static int run_items (DpsJinja *in, DpsJscope *scope, const DpsJnode *node, DpsJlist items, int depth)
{
    DpsJloop *loop = dps__jinja_alloc (in, 1, sizeof *loop);
    if (!loop || filter_items (in, scope, node, &items))
        return -1;
    *loop = (DpsJloop){.node = node, .scope = scope, .items = items, .depth = depth};
    if (items.n == 0) {
        DpsJscope *inner = node->orelse ? new_scope (in, scope) : NULL;
        return node->orelse ? (inner ? dps__jinja_exec (in, inner, node->orelse) : -1) : 0;
    }
    for (loop->index = 0; loop->index < items.n; loop->index++) {
        DpsJscope *inner = new_scope (in, scope);
        DpsJval self = {.kind = DPS_J_LOOP, .loop = loop};
        if (!inner || dps__jinja_put (in, &inner->names, dps__jinja_word ("loop"), self) ||
            assign (in, inner, node->a, items.items[loop->index]))
            return -1;
        int rc = dps__jinja_exec (in, inner, node->body);
        if (rc < 0 || rc == BREAK)
            return rc < 0 ? -1 : 0;
    }
    return 0;
}

static int exec_for (DpsJinja *in, DpsJscope *scope, const DpsJnode *node)
{
    DpsJval v;
    DpsJlist items;
    if (dps__jinja_eval (in, scope, node->b, &v) || dps__jinja_items (in, &v, &items))
        return -1;
    return run_items (in, scope, node, items, 0);
}

/* loop(items) of a recursive loop: the loop again, as text. */
int dps__jinja_run_loop (DpsJinja *in, const DpsJloop *loop, const DpsJval *v, DpsJval *out)
{
    DpsJlist items;
    DpsBuf text = {0}, *outer = in->out;
    if (dps__jinja_items (in, v, &items))
        return -1;
    in->out = &text;
    int rc = run_items (in, loop->scope, loop->node, items, loop->depth + 1);
    in->out = outer;
    if (rc < 0) {
        dps_buf_free (&text);
        return -1;
    }
    return dps__jinja_take (in, &text, out);
}

static int bind (DpsJinja *in, const DpsJmacro *macro, DpsJargs *args, DpsJscope *scope)
{
    DpsJval caller = macro->caller, rest, named;
    size_t i = 0, n_known = 0;
    for (const DpsJnode *p = macro->node->list; p; p = p->next, i++) {
        const DpsJval *given = i < args->pos.n ? &args->pos.items[i] : dps__jinja_get (in, &args->named, &p->value);
        n_known += i >= args->pos.n && given;
        DpsJval v;
        if (given)
            v = *given;
        else if (!p->a)
            v = dps__jinja_undefined (in, "parameter '%.*s' was not provided", (int)(p->value.len < 80 ? p->value.len : 80), p->value.s);
        else if (dps__jinja_eval (in, scope, p->a, &v))
            return -1;
        if (dps__jinja_put (in, &scope->names, p->value, v))
            return -1;
    }
    const DpsJval *given_caller = dps__jinja_get_text (&args->named, "caller");
    if (given_caller) {
        caller = *given_caller;
        n_known++;
    }
    if (dps__jinja_new_list (in, DPS_J_TUPLE, &rest) || dps__jinja_new_dict (in, DPS_J_DICT, &named))
        return -1;
    for (; i < args->pos.n; i++)
        if (dps__jinja_append (in, rest.list, args->pos.items[i]))
            return -1;
    if (caller.kind == DPS_J_MACRO && dps__jinja_put (in, &scope->names, dps__jinja_word ("caller"), caller))
        return -1;
    if (n_known < args->named.n) { /* what no parameter took is in kwargs */
        for (size_t k = 0; k < args->named.n; k++) {
            int taken = args->named.keys[k].len == 6 && !memcmp (args->named.keys[k].s, "caller", 6);
            for (const DpsJnode *p = macro->node->list; p && !taken; p = p->next)
                taken = dps__jinja_equal (in, &p->value, &args->named.keys[k]);
            if (!taken && dps__jinja_put (in, named.dict, args->named.keys[k], args->named.values[k]))
                return -1;
        }
    }
    return dps__jinja_put (in, &scope->names, dps__jinja_word ("varargs"), rest) ||
           dps__jinja_put (in, &scope->names, dps__jinja_word ("kwargs"), named);
}

int dps__jinja_run_macro (DpsJinja *in, const DpsJmacro *macro, DpsJargs *args, DpsJval *out)
{
    DpsJscope *scope = new_scope (in, macro->scope);
    if (!scope || dps__jinja_spend (in, 4))
        return -1;
    if (in->depth + 8 >= DPS_JINJA_DEPTH)
        return dps__jinja_fail (in, DPS_ERR_LIMIT, "macros nested deeper than %d levels of evaluation", DPS_JINJA_DEPTH);
    in->depth += 8; /* a macro takes as much stack as several expressions */
    int rc = bind (in, macro, args, scope) ? -1 : capture (in, scope, macro->node->body, out);
    in->depth -= 8;
    return rc;
}

static int new_macro (DpsJinja *in, DpsJscope *scope, const DpsJnode *node, DpsJval *out)
{
    DpsJmacro *macro = dps__jinja_alloc (in, 1, sizeof *macro);
    if (!macro)
        return -1;
    *macro = (DpsJmacro){.node = node, .scope = scope};
    *out = (DpsJval){.kind = DPS_J_MACRO, .macro = macro};
    return 0;
}

static int exec_call_block (DpsJinja *in, DpsJscope *scope, const DpsJnode *node)
{
    DpsJval callee, caller, text;
    DpsJargs args = {0};
    if (new_macro (in, scope, node, &caller) || dps__jinja_eval (in, scope, node->a->a, &callee) ||
        dps__jinja_args (in, scope, node->a->list, &args) || dps__jinja_put (in, &args.named, dps__jinja_word ("caller"), caller) ||
        dps__jinja_call (in, &callee, &args, &text) || dps__jinja_to_text (in, &text, &text))
        return -1;
    return write_text (in, text.s, text.len);
}

/* Filters of a block are a chain that ends in nothing: put the text there. */
static int apply_filters (DpsJinja *in, DpsJscope *scope, const DpsJnode *filter, DpsJval *text)
{
    DpsJargs args = {0};
    DpsJval out;
    int known;
    if (!filter)
        return 0;
    if (dps__jinja_spend (in, 1) || apply_filters (in, scope, filter->a, text) || dps__jinja_args (in, scope, filter->list, &args) ||
        dps__jinja_filter (in, filter->value.s, text, &args, &out, &known))
        return -1;
    *text = out;
    return known ? 0 : dps__jinja_fail (in, DPS_ERR_UNSUPPORTED, "there is no filter '%.60s'", filter->value.s);
}

static int exec_block (DpsJinja *in, DpsJscope *scope, const DpsJnode *node)
{
    DpsJscope *inner = new_scope (in, scope);
    DpsJval text;
    if (!inner || capture (in, inner, node->body, &text))
        return -1;
    if (node->kind == DPS_JN_SET_BLOCK)
        return apply_filters (in, scope, node->b, &text) ? -1 : assign (in, scope, node->a, text);
    if (apply_filters (in, scope, node->a, &text) || dps__jinja_to_text (in, &text, &text))
        return -1;
    return write_text (in, text.s, text.len);
}

static int exec_with (DpsJinja *in, DpsJscope *scope, const DpsJnode *node)
{
    DpsJscope *inner = new_scope (in, scope);
    if (!inner)
        return -1;
    for (const DpsJnode *pair = node->list; pair; pair = pair->next) {
        DpsJval v;
        if (dps__jinja_eval (in, scope, pair->b, &v) || assign (in, inner, pair->a, v))
            return -1;
    }
    return dps__jinja_exec (in, inner, node->body);
}

/* {% generation %}: where its text lies in what has been rendered so far. */
static int exec_generation (DpsJinja *in, DpsJscope *scope, const DpsJnode *node)
{
    DpsJscope *inner = new_scope (in, scope);
    DpsJval text;
    if (!inner || capture (in, inner, node->body, &text))
        return -1;
    if (DPS_GROW (in->spans, in->n_spans, in->spans_capacity))
        return dps__jinja_fail (in, DPS_ERR_NOMEM, "out of memory for spans");
    in->spans[in->n_spans++] = (DpsSpan){.start = in->main_out->len, .end = in->main_out->len + text.len};
    return write_text (in, text.s, text.len);
}

static int exec_if (DpsJinja *in, DpsJscope *scope, const DpsJnode *node)
{
    while (node && node->kind == DPS_JN_IF) {
        DpsJval condition;
        if (dps__jinja_eval (in, scope, node->a, &condition))
            return -1;
        if (dps__jinja_truth (&condition))
            return dps__jinja_exec (in, scope, node->body);
        if (!node->op) /* what follows is else's body, not another condition */
            return dps__jinja_exec (in, scope, node->orelse);
        node = node->orelse;
    }
    return 0;
}

static int exec_output (DpsJinja *in, DpsJscope *scope, const DpsJnode *node)
{
    DpsJval v;
    if (dps__jinja_eval (in, scope, node->a, &v) || dps__jinja_to_text (in, &v, &v))
        return -1;
    return write_text (in, v.s, v.len);
}

static int exec (DpsJinja *in, DpsJscope *scope, const DpsJnode *node)
{
    DpsJval v;
    switch (node->kind) {
    case DPS_JN_DATA: return write_text (in, node->value.s, node->value.len);
    case DPS_JN_OUTPUT: return exec_output (in, scope, node);
    case DPS_JN_IF: return exec_if (in, scope, node);
    case DPS_JN_FOR: return exec_for (in, scope, node);
    case DPS_JN_SET: return dps__jinja_eval (in, scope, node->b, &v) ? -1 : assign (in, scope, node->a, v);
    case DPS_JN_MACRO: return new_macro (in, scope, node, &v) ? -1 : dps__jinja_put (in, &scope->names, node->value, v);
    case DPS_JN_CALL_BLOCK: return exec_call_block (in, scope, node);
    case DPS_JN_SET_BLOCK:
    case DPS_JN_FILTER_BLOCK: return exec_block (in, scope, node);
    case DPS_JN_WITH: return exec_with (in, scope, node);
    case DPS_JN_GENERATION: return exec_generation (in, scope, node);
    case DPS_JN_BREAK: return BREAK;
    case DPS_JN_CONTINUE: return CONTINUE;
    default: return dps__jinja_fail (in, DPS_ERR_INTERNAL, "statement %d", node->kind);
    }
}

int dps__jinja_exec (DpsJinja *in, DpsJscope *scope, const DpsJnode *first)
{
    int rc = 0;
    if (in->depth >= DPS_JINJA_DEPTH)
        return dps__jinja_fail (in, DPS_ERR_LIMIT, "blocks nested deeper than %d", DPS_JINJA_DEPTH);
    in->depth++;
    for (const DpsJnode *node = first; node && rc == 0; node = node->next) {
        in->line = node->line;
        rc = dps__jinja_spend (in, 1) ? -1 : exec (in, scope, node);
    }
    in->depth--;
    return rc;
}

int dps__jinja_render (DpsJinja *in, const char *source, size_t len, const DpsJval *context, DpsBuf *out)
{
    DpsJtoken *tokens;
    in->source = source;
    in->source_len = len;
    in->out = in->main_out = out;
    in->line = 1;
    if (len > DPS_JINJA_SOURCE)
        return dps__jinja_fail (in, DPS_ERR_LIMIT, "the template has %zu bytes, the limit is %d", len, DPS_JINJA_SOURCE);
    if (dps__jinja_lex (in, &tokens))
        return -1;
    const DpsJnode *first = dps__jinja_parse (in, tokens);
    if (in->status != DPS_OK)
        return -1;
    DpsJscope given = {.names = *context->dict};
    in->root = (DpsJscope){.parent = &given};
    int rc = dps__jinja_exec (in, &in->root, first);
    if (rc > 0)
        return dps__jinja_fail (in, DPS_ERR_FORMAT, "break or continue outside a loop");
    return in->status == DPS_OK ? rc : -1;
}
