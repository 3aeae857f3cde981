/* SPDX-License-Identifier: Apache-2.0 */
/* jinja_call.c: operators, arguments, calls, and the functions a template finds without being given them. */
#include <math.h>
#include <string.h>

#include "token/jinja_node.h"

static int no_memory (DpsJinja *in) { return dps__jinja_fail (in, DPS_ERR_NOMEM, "out of memory for text"); }
static int is_integer (const DpsJval *v) { return v->kind == DPS_J_INT || v->kind == DPS_J_BOOL; }

static int join_texts (DpsJinja *in, const DpsJval *a, const DpsJval *b, DpsJval *out)
{
    if (dps__jinja_spend (in, (a->len + b->len) / 64))
        return -1;
    char *text = dps__jinja_alloc (in, a->len + b->len + 1, 1);
    if (!text)
        return -1;
    if (a->len)
        memcpy (text, a->s, a->len);
    if (b->len)
        memcpy (text + a->len, b->s, b->len);
    *out = dps__jinja_text (text, a->len + b->len);
    return 0;
}

static int join_lists (DpsJinja *in, const DpsJval *a, const DpsJval *b, DpsJval *out)
{
    const DpsJval *both[] = {a, b};
    if (dps__jinja_spend (in, (a->list->n + b->list->n) / 8) || dps__jinja_new_list (in, a->kind, out))
        return -1;
    for (int k = 0; k < 2; k++)
        for (size_t i = 0; i < both[k]->list->n; i++)
            if (dps__jinja_append (in, out->list, both[k]->list->items[i]))
                return -1;
    return 0;
}

/* "ab" * 3 and [0] * 3. */
static int repeat (DpsJinja *in, const DpsJval *v, int64_t times, DpsJval *out)
{
    size_t n = v->kind == DPS_J_STR ? v->len : v->list->n, total;
    times = times < 0 || n == 0 ? 0 : times;
    if (__builtin_mul_overflow (n, (size_t)times, &total) || total > DPS_JINJA_OUTPUT)
        return dps__jinja_fail (in, DPS_ERR_LIMIT, "a repetition of more than %d bytes or items", DPS_JINJA_OUTPUT);
    if (dps__jinja_spend (in, v->kind == DPS_J_STR ? total / 64 : total / 8))
        return -1;
    if (v->kind != DPS_J_STR) {
        if (dps__jinja_new_list (in, v->kind, out))
            return -1;
        for (size_t i = 0; i < total; i++)
            if (dps__jinja_append (in, out->list, v->list->items[i % n]))
                return -1;
        return 0;
    }
    char *text = dps__jinja_alloc (in, total + 1, 1);
    if (!text)
        return -1;
    for (size_t i = 0; i < total; i += n)
        memcpy (text + i, v->s, n);
    *out = dps__jinja_text (text, total);
    return 0;
}

static int integer_power (DpsJinja *in, int64_t base, int64_t exponent, DpsJval *out)
{
    int64_t result = 1;
    int overflow = 0;
    if (exponent < 0) {
        if (base == 0)
            return dps__jinja_fail (in, DPS_ERR_FORMAT, "0 to a negative power");
        *out = (DpsJval){.kind = DPS_J_FLOAT, .f = pow ((double)base, (double)exponent)};
        return 0;
    }
    for (; exponent > 0 && !overflow; exponent >>= 1) {
        if (exponent & 1)
            overflow = __builtin_mul_overflow (result, base, &result);
        if (exponent > 1)
            overflow |= __builtin_mul_overflow (base, base, &base);
    }
    *out = dps__jinja_int (result);
    return overflow ? dps__jinja_fail (in, DPS_ERR_LIMIT, "an integer outside 64 bits") : 0;
}

/* Python's // and %: towards minus infinity, the sign of the divisor. */
static int integer_division (DpsJinja *in, int op, int64_t a, int64_t b, DpsJval *out)
{
    if (b == 0)
        return dps__jinja_fail (in, DPS_ERR_FORMAT, "division by zero");
    if (b == -1) {
        if (op == DPS_JT_FLOOR && a == INT64_MIN)
            return dps__jinja_fail (in, DPS_ERR_LIMIT, "an integer outside 64 bits");
        *out = dps__jinja_int (op == DPS_JT_FLOOR ? -a : 0);
        return 0;
    }
    int64_t quotient = a / b, rest = a % b;
    int off = rest != 0 && (rest < 0) != (b < 0);
    *out = dps__jinja_int (op == DPS_JT_FLOOR ? quotient - off : rest + (off ? b : 0));
    return 0;
}

static int integers (DpsJinja *in, int op, int64_t a, int64_t b, DpsJval *out)
{
    int64_t result = 0;
    int overflow = 0;
    switch (op) {
    case '+': overflow = __builtin_add_overflow (a, b, &result); break;
    case '-': overflow = __builtin_sub_overflow (a, b, &result); break;
    case '*': overflow = __builtin_mul_overflow (a, b, &result); break;
    case DPS_JT_POWER: return integer_power (in, a, b, out);
    default: return integer_division (in, op, a, b, out);
    }
    *out = dps__jinja_int (result);
    return overflow ? dps__jinja_fail (in, DPS_ERR_LIMIT, "an integer outside 64 bits") : 0;
}

static int floats (DpsJinja *in, int op, double a, double b, DpsJval *out)
{
    double result, rest;
    if (b == 0 && (op == '/' || op == '%' || op == DPS_JT_FLOOR))
        return dps__jinja_fail (in, DPS_ERR_FORMAT, "division by zero");
    switch (op) {
    case '+': result = a + b; break;
    case '-': result = a - b; break;
    case '*': result = a * b; break;
    case '/': result = a / b; break;
    case DPS_JT_POWER: result = pow (a, b); break;
    default:
        rest = fmod (a, b);
        rest = rest != 0 && (rest < 0) != (b < 0) ? rest + b : rest;
        result = op == '%' ? (rest == 0 ? copysign (0.0, b) : rest) : floor ((a - rest) / b + 0.5);
        break;
    }
    *out = (DpsJval){.kind = DPS_J_FLOAT, .f = result};
    return 0;
}

int dps__jinja_binary (DpsJinja *in, int op, const DpsJval *a, const DpsJval *b, DpsJval *out)
{
    double x, y;
    if (op == '~') {
        DpsJval left, right;
        return dps__jinja_to_text (in, a, &left) || dps__jinja_to_text (in, b, &right) ? -1 : join_texts (in, &left, &right, out);
    }
    if (a->kind == DPS_J_UNDEFINED || b->kind == DPS_J_UNDEFINED) {
        const DpsJval *v = a->kind == DPS_J_UNDEFINED ? a : b;
        return dps__jinja_fail (in, DPS_ERR_FORMAT, "%s", v->s ? v->s : "an undefined value is used");
    }
    if (is_integer (a) && is_integer (b) && op != '/')
        return integers (in, op, a->i, b->i, out);
    if (dps__jinja_number (a, &x) && dps__jinja_number (b, &y))
        return floats (in, op, x, y, out);
    if (op == '%' && a->kind == DPS_J_STR) {
        DpsJlist one = {.items = (DpsJval *)(uintptr_t)b, .n = 1};
        return dps__jinja_percent (in, a, b->kind == DPS_J_TUPLE ? b->list : &one, b->kind == DPS_J_DICT ? b : NULL, out);
    }
    if (op == '+' && a->kind == b->kind && a->kind == DPS_J_STR)
        return join_texts (in, a, b, out);
    if (op == '+' && a->kind == b->kind && (a->kind == DPS_J_LIST || a->kind == DPS_J_TUPLE))
        return join_lists (in, a, b, out);
    if (op == '*' && is_integer (b) && (a->kind == DPS_J_STR || a->kind == DPS_J_LIST || a->kind == DPS_J_TUPLE))
        return repeat (in, a, b->i, out);
    if (op == '*' && is_integer (a) && (b->kind == DPS_J_STR || b->kind == DPS_J_LIST || b->kind == DPS_J_TUPLE))
        return repeat (in, b, a->i, out);
    return dps__jinja_fail (in, DPS_ERR_FORMAT, "unsupported operands for '%s': %s and %s",
                            op == DPS_JT_FLOOR   ? "//"
                            : op == DPS_JT_POWER ? "**"
                                                 : (const char[]){(char)op, '\0'},
                            dps__jinja_kind (a), dps__jinja_kind (b));
}

static int spread (DpsJinja *in, const DpsJval *v, int named, DpsJargs *out)
{
    DpsJlist items;
    if (!named) {
        if (dps__jinja_items (in, v, &items))
            return -1;
        for (size_t i = 0; i < items.n; i++)
            if (dps__jinja_append (in, &out->pos, items.items[i]))
                return -1;
        return 0;
    }
    if (v->kind != DPS_J_DICT)
        return dps__jinja_fail (in, DPS_ERR_FORMAT, "** needs a dict, not %s", dps__jinja_kind (v));
    for (size_t i = 0; i < v->dict->n; i++)
        if (dps__jinja_put (in, &out->named, v->dict->keys[i], v->dict->values[i]))
            return -1;
    return 0;
}

int dps__jinja_args (DpsJinja *in, DpsJscope *scope, const DpsJnode *first, DpsJargs *out)
{
    for (const DpsJnode *node = first; node; node = node->next) {
        DpsJval v;
        int special = node->kind == DPS_JN_KEYWORD || node->kind == DPS_JN_STAR || node->kind == DPS_JN_STAR_STAR;
        if (dps__jinja_eval (in, scope, special ? node->a : node, &v))
            return -1;
        int bad = node->kind == DPS_JN_KEYWORD ? dps__jinja_put (in, &out->named, node->value, v)
                  : special                    ? spread (in, &v, node->kind == DPS_JN_STAR_STAR, out)
                                               : dps__jinja_append (in, &out->pos, v);
        if (bad)
            return -1;
    }
    return 0;
}

const DpsJval *dps__jinja_arg (const DpsJargs *args, size_t i, const char *name)
{
    return i < args->pos.n ? &args->pos.items[i] : name ? dps__jinja_get_text (&args->named, name) : NULL;
}

int dps__jinja_arg_int (DpsJinja *in, const DpsJargs *args, size_t i, const char *name, int64_t missing, int64_t *out)
{
    const DpsJval *v = dps__jinja_arg (args, i, name);
    *out = v && is_integer (v) ? v->i : missing;
    if (!v || is_integer (v) || v->kind == DPS_J_NONE)
        return 0;
    return dps__jinja_fail (in, DPS_ERR_FORMAT, "%s is a %s, expected an integer", name ? name : "an argument", dps__jinja_kind (v));
}

int dps__jinja_arg_flag (const DpsJargs *args, size_t i, const char *name, int missing)
{
    const DpsJval *v = dps__jinja_arg (args, i, name);
    return v ? dps__jinja_truth (v) : missing;
}

int dps__jinja_call (DpsJinja *in, const DpsJval *callee, DpsJargs *args, DpsJval *out)
{
    switch (callee->kind) {
    case DPS_J_FUNCTION: return dps__jinja_call_global (in, (int)callee->i, args, out);
    case DPS_J_METHOD: return dps__jinja_method (in, callee->method, args, out);
    case DPS_J_MACRO: return dps__jinja_run_macro (in, callee->macro, args, out);
    case DPS_J_LOOP:
        if (args->pos.n != 1 || !callee->loop->node->op)
            return dps__jinja_fail (in, DPS_ERR_FORMAT, "loop() needs one argument and a loop marked recursive");
        return dps__jinja_run_loop (in, callee->loop, &args->pos.items[0], out);
    case DPS_J_UNDEFINED: return dps__jinja_fail (in, DPS_ERR_FORMAT, "%s", callee->s ? callee->s : "an undefined value is called");
    default: return dps__jinja_fail (in, DPS_ERR_FORMAT, "a value of type %s cannot be called", dps__jinja_kind (callee));
    }
}

/* ---- global functions ---- */

static int call_range (DpsJinja *in, DpsJargs *args, DpsJval *out)
{
    int64_t start, stop, step;
    if (args->pos.n < 1 || args->pos.n > 3)
        return dps__jinja_fail (in, DPS_ERR_FORMAT, "range() takes one to three integers");
    for (size_t i = 0; i < args->pos.n; i++)
        if (!is_integer (&args->pos.items[i]))
            return dps__jinja_fail (in, DPS_ERR_FORMAT, "range() of a %s", dps__jinja_kind (&args->pos.items[i]));
    if (dps__jinja_arg_int (in, args, args->pos.n > 1 ? 0 : 3, NULL, 0, &start) ||
        dps__jinja_arg_int (in, args, args->pos.n > 1 ? 1 : 0, NULL, 0, &stop) || dps__jinja_arg_int (in, args, 2, NULL, 1, &step))
        return -1;
    if (step == 0)
        return dps__jinja_fail (in, DPS_ERR_FORMAT, "range() with step 0");
    if (dps__jinja_new_list (in, DPS_J_LIST, out))
        return -1;
    for (int64_t i = start; step > 0 ? i < stop : i > stop;) {
        if (out->list->n == DPS_JINJA_RANGE)
            return dps__jinja_fail (in, DPS_ERR_LIMIT, "range() of more than %d numbers", DPS_JINJA_RANGE);
        if (dps__jinja_spend (in, 1) || dps__jinja_append (in, out->list, dps__jinja_int (i)))
            return -1;
        if (__builtin_add_overflow (i, step, &i))
            break;
    }
    return 0;
}

/* namespace() and dict(): from a mapping, pairs, and keywords. */
static int call_dict (DpsJinja *in, DpsJargs *args, int kind, DpsJval *out)
{
    if (dps__jinja_new_dict (in, kind, out))
        return -1;
    for (size_t k = 0; k < args->pos.n; k++) {
        const DpsJval *from = &args->pos.items[k];
        DpsJlist items;
        if (from->kind != DPS_J_DICT && dps__jinja_items (in, from, &items))
            return -1;
        for (size_t i = 0; i < (from->kind == DPS_J_DICT ? from->dict->n : items.n); i++) {
            DpsJval pair[2];
            if (from->kind == DPS_J_DICT) {
                pair[0] = from->dict->keys[i];
                pair[1] = from->dict->values[i];
            } else {
                const DpsJval *item = &items.items[i];
                if ((item->kind != DPS_J_TUPLE && item->kind != DPS_J_LIST) || item->list->n != 2)
                    return dps__jinja_fail (in, DPS_ERR_FORMAT, "dict() needs pairs");
                memcpy (pair, item->list->items, sizeof pair);
            }
            if (dps__jinja_put (in, out->dict, pair[0], pair[1]))
                return -1;
        }
    }
    for (size_t i = 0; i < args->named.n; i++)
        if (dps__jinja_put (in, out->dict, args->named.keys[i], args->named.values[i]))
            return -1;
    for (size_t i = 0; i < out->dict->n && kind == DPS_J_NAMESPACE; i++)
        if (out->dict->keys[i].kind == DPS_J_STR && out->dict->keys[i].len && out->dict->keys[i].s[0] == '_')
            return dps__jinja_fail (in, DPS_ERR_POLICY, "a namespace attribute may not begin with an underscore");
    return 0;
}

static int call_raise (DpsJinja *in, DpsJargs *args)
{
    const DpsJval *message = dps__jinja_arg (args, 0, "message");
    DpsJval text;
    if (!message)
        return dps__jinja_fail (in, DPS_ERR_FORMAT, "raise_exception() without a message");
    if (dps__jinja_to_text (in, message, &text))
        return -1;
    return dps__jinja_fail (in, DPS_ERR_FORMAT, "%.*s", (int)(text.len < 600 ? text.len : 600), text.s);
}

static int call_strftime (DpsJinja *in, DpsJargs *args, DpsJval *out)
{
    const DpsJval *format = dps__jinja_arg (args, 0, "format");
    DpsBuf text = {0};
    if (!format || format->kind != DPS_J_STR)
        return dps__jinja_fail (in, DPS_ERR_FORMAT, "strftime_now() needs a format");
    if (dps__jinja_strftime (in->date, format, &text)) {
        dps_buf_free (&text);
        return no_memory (in);
    }
    return dps__jinja_take (in, &text, out);
}

static const char *const globals[] = {"range", "namespace", "dict", "raise_exception", "strftime_now"};

int dps__jinja_global (const char *name, size_t len)
{
    for (size_t i = 0; i < sizeof globals / sizeof *globals; i++)
        if (strlen (globals[i]) == len && !memcmp (globals[i], name, len))
            return (int)i;
    return -1;
}

int dps__jinja_call_global (DpsJinja *in, int index, DpsJargs *args, DpsJval *out)
{
    switch (index) {
    case 0: return call_range (in, args, out);
    case 1: return call_dict (in, args, DPS_J_NAMESPACE, out);
    case 2: return call_dict (in, args, DPS_J_DICT, out);
    case 3: return call_raise (in, args);
    default: return call_strftime (in, args, out);
    }
}
