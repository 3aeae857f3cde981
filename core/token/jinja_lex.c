/* SPDX-License-Identifier: Apache-2.0 */
/*
 * jinja_lex.c: source → tokens, with Jinja's rules for white space: trim_blocks (the newline after a block or comment goes),
 * lstrip_blocks (blanks before a block at the start of a line go), the signs "-" and "+" at tags, and the last newline of the source.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "token/jinja_node.h"
#include "token/utf8.h"

typedef struct Lexer {
    DpsJinja *in;
    const char *s; /* newlines already written "\n" */
    size_t len, at;
    int line;
    int line_starting; /* what lies before `at` ended a line */
    DpsJtoken *tokens;
    size_t n, capacity;
    char *open; /* stack of brackets, so that }} inside {…} does not end the tag */
    size_t n_open;
} Lexer;

static int add (Lexer *x, int kind, DpsJval value)
{
    if (x->n == x->capacity) {
        size_t capacity = x->capacity ? 2 * x->capacity : 256;
        DpsJtoken *tokens = dps__jinja_alloc (x->in, capacity, sizeof *tokens);
        if (!tokens)
            return -1;
        if (x->n)
            memcpy (tokens, x->tokens, x->n * sizeof *tokens);
        x->tokens = tokens;
        x->capacity = capacity;
    }
    x->tokens[x->n++] = (DpsJtoken){.kind = kind, .line = x->line, .value = value};
    return 0;
}

static int fail (Lexer *x, const char *what)
{
    x->in->line = x->line;
    return dps__jinja_fail (x->in, DPS_ERR_FORMAT, "%s", what);
}

/* Go to `to`, counting lines. */
static void advance (Lexer *x, size_t to)
{
    for (; x->at < to; x->at++)
        x->line += x->s[x->at] == '\n';
}

static int starts (const Lexer *x, size_t at, const char *text)
{
    size_t n = strlen (text);
    return x->len - at >= n && !memcmp (x->s + at, text, n);
}

/* The rest of white space from `at`, in Python's sense of \s. */
static size_t skip_space (const Lexer *x, size_t at)
{
    size_t n;
    while (at < x->len && dps__jinja_py_space (dps_utf8_next (x->s + at, x->len - at, &n)))
        at += n;
    return at;
}

/* Text before a tag, with `sign` after its opening and `strips` for the tags lstrip_blocks applies to. */
static int add_data (Lexer *x, size_t start, size_t end, char sign, int strips)
{
    if (sign == '-') {
        DpsJval text = dps__jinja_text (x->s + start, end - start);
        end = start + dps__jinja_strip (&text, NULL, 2).len;
    } else if (sign != '+' && strips) {
        size_t line = end;
        while (line > start && x->s[line - 1] != '\n')
            line--;
        int begins = line > start || x->line_starting;
        if (begins && line < end && skip_space (x, line) >= end)
            end = line;
    }
    return end > start ? add (x, DPS_JT_DATA, dps__jinja_text (x->s + start, end - start)) : 0;
}

/* After a tag's closing: `sign` '-' takes all white space, else one newline goes when the tag trims. */
static void close_tag (Lexer *x, size_t end, char sign, int trims)
{
    if (sign == '-')
        end = skip_space (x, end);
    else if (sign != '+' && trims && end < x->len && x->s[end] == '\n')
        end++;
    advance (x, end);
    x->line_starting = end > 0 && x->s[end - 1] == '\n';
}

static int lex_comment (Lexer *x, size_t inside)
{
    for (size_t i = inside; i + 1 < x->len; i++) {
        if (x->s[i] != '#' || x->s[i + 1] != '}')
            continue;
        char sign = i > inside && (x->s[i - 1] == '-' || x->s[i - 1] == '+') ? x->s[i - 1] : '\0';
        close_tag (x, i + 2, sign, 1);
        return 0;
    }
    return fail (x, "a comment {# without its #}");
}

/* If a tag {%[sign] NAME [sign]%} lies at `at`, its closing sign and end. */
static int bare_tag (const Lexer *x, size_t at, const char *name, char *out_open, char *out_close, size_t *out_end)
{
    if (!starts (x, at, "{%"))
        return 0;
    at += 2;
    *out_open = at < x->len && (x->s[at] == '-' || x->s[at] == '+') ? x->s[at++] : '\0';
    at = skip_space (x, at);
    if (!starts (x, at, name))
        return 0;
    at = skip_space (x, at + strlen (name));
    *out_close = at < x->len && (x->s[at] == '-' || x->s[at] == '+') ? x->s[at++] : '\0';
    *out_end = at + 2;
    return starts (x, at, "%}");
}

static int lex_raw (Lexer *x, char close, size_t end)
{
    char sign, last;
    size_t after;
    if (close == '-')
        end = skip_space (x, end);
    x->line_starting = end > 0 && x->s[end - 1] == '\n';
    advance (x, end);
    for (size_t i = end; i < x->len; i++) {
        if (!bare_tag (x, i, "endraw", &sign, &last, &after))
            continue;
        if (add_data (x, end, i, sign, 1))
            return -1;
        close_tag (x, after, last, 1);
        return 0;
    }
    return fail (x, "{% raw %} without {% endraw %}");
}

static int lex_string (Lexer *x)
{
    char quote = x->s[x->at];
    size_t i = x->at + 1;
    DpsBuf text = {0};
    int bad = 0;
    DpsJval value;
    while (i < x->len && x->s[i] != quote && !bad) {
        if (x->s[i] != '\\' || i + 1 >= x->len) {
            bad = dps_buf_add (&text, x->s + i++, 1);
            continue;
        }
        static const char from[] = "\\'\"abfnrtv\n", to[] = "\\'\"\a\b\f\n\r\t\v";
        char e = x->s[i + 1];
        const char *known = e ? strchr (from, e) : NULL;
        size_t digits = e == 'x' ? 2 : e == 'u' ? 4 : e == 'U' ? 8 : 0, got = 0;
        uint32_t code = 0;
        for (; got < digits && i + 2 + got < x->len && strchr ("0123456789abcdefABCDEF", x->s[i + 2 + got]) && x->s[i + 2 + got]; got++) {
            char d = x->s[i + 2 + got];
            code = code << 4 | (uint32_t)(d <= '9' ? d - '0' : (d | 0x20) - 'a' + 10);
        }
        char utf8[4];
        if (digits && got == digits)
            bad = dps_buf_add (&text, utf8, dps_utf8_encode (code, utf8));
        else if (e >= '0' && e <= '7') { /* octal, up to three digits */
            for (got = 0; got < 3 && i + 1 + got < x->len && x->s[i + 1 + got] >= '0' && x->s[i + 1 + got] <= '7'; got++)
                code = code << 3 | (uint32_t)(x->s[i + 1 + got] - '0');
            bad = dps_buf_add (&text, utf8, dps_utf8_encode (code, utf8));
            i += got - 1;
            got = 0;
        } else if (known) /* a backslash before a newline takes it away */
            bad = e == '\n' ? 0 : dps_buf_add (&text, &to[known - from], 1);
        else
            bad = dps_buf_add (&text, x->s + i, 2);
        i += 2 + got * (digits && got == digits);
    }
    if (i >= x->len || bad) {
        dps_buf_free (&text);
        return bad ? dps__jinja_fail (x->in, DPS_ERR_NOMEM, "out of memory for a string") : fail (x, "a string without its closing quote");
    }
    if (dps__jinja_take (x->in, &text, &value) || add (x, DPS_JT_STRING, value))
        return -1;
    advance (x, i + 1);
    return 0;
}

static int lex_number (Lexer *x)
{
    char text[64];
    size_t n = 0, i = x->at;
    int real = 0, base = 10;
    if (x->s[i] == '0' && i + 1 < x->len && strchr ("xXoObB", x->s[i + 1]) && x->s[i + 1]) {
        base = (x->s[i + 1] | 0x20) == 'x' ? 16 : (x->s[i + 1] | 0x20) == 'o' ? 8 : 2;
        i += 2;
    }
    for (; i < x->len && n < sizeof text - 1; i++) {
        char c = x->s[i], next = i + 1 < x->len ? x->s[i + 1] : '\0';
        int digit = (c >= '0' && c <= '9') || (base == 16 && ((c | 0x20) >= 'a' && (c | 0x20) <= 'f'));
        int point = base == 10 && c == '.' && !real && next >= '0' && next <= '9';
        int exponent = base == 10 && (c | 0x20) == 'e' && real < 2 && ((next >= '0' && next <= '9') || next == '+' || next == '-');
        if (c == '_')
            continue;
        if (!digit && !point && !exponent)
            break;
        real = exponent ? 2 : point ? 1 : real;
        text[n++] = c;
        if (exponent && (next == '+' || next == '-'))
            text[n++] = x->s[++i];
    }
    text[n] = '\0';
    DpsJval value = {.kind = real ? DPS_J_FLOAT : DPS_J_INT};
    errno = 0;
    if (real)
        value.f = strtod (text, NULL);
    else
        value.i = strtoll (text, NULL, base);
    if (errno == ERANGE && !real)
        return fail (x, "an integer outside 64 bits");
    advance (x, i);
    return add (x, real ? DPS_JT_FLOAT : DPS_JT_INT, value);
}

static int is_name_start (uint32_t c) { return c == '_' || (c != DPS_UTF8_INVALID && dps_utf8_class (c) == DPS_CLASS_LETTER); }

static int lex_name (Lexer *x)
{
    size_t i = x->at, n;
    while (i < x->len && dps_utf8_is_word (dps_utf8_next (x->s + i, x->len - i, &n)))
        i += n;
    DpsJval name = dps__jinja_text (x->s + x->at, i - x->at);
    x->at = i;
    return add (x, DPS_JT_NAME, name);
}

static int lex_operator (Lexer *x)
{
    static const struct {
        char text[3];
        int kind;
    } pairs[] = {{"==", DPS_JT_EQ}, {"!=", DPS_JT_NE}, {"<=", DPS_JT_LE}, {">=", DPS_JT_GE}, {"//", DPS_JT_FLOOR}, {"**", DPS_JT_POWER}};
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++)
        if (starts (x, x->at, pairs[i].text)) {
            x->at += 2;
            return add (x, pairs[i].kind, (DpsJval){0});
        }
    char c = x->s[x->at];
    if (!c || !strchr ("+-/*%~[](){}<>=.:|,;", c))
        return fail (x, "a character that is no part of an expression");
    if (strchr ("([{", c)) {
        if (x->n_open == DPS_JINJA_NESTING)
            return dps__jinja_fail (x->in, DPS_ERR_LIMIT, "brackets nested deeper than %d", DPS_JINJA_NESTING);
        x->open[x->n_open++] = c == '(' ? ')' : c == '[' ? ']' : '}';
    } else if (strchr (")]}", c)) {
        if (!x->n_open || x->open[x->n_open - 1] != c)
            return fail (x, "a closing bracket that matches no open one");
        x->n_open--;
    }
    x->at++;
    return add (x, c, (DpsJval){0});
}

/* Everything up to the end of a {{ or {% tag. */
static int lex_tag (Lexer *x, const char *close, int end_kind, int trims)
{
    for (;;) {
        advance (x, skip_space (x, x->at));
        if (x->at >= x->len)
            return fail (x, end_kind == DPS_JT_BLOCK_END ? "a block {% without its %}" : "an expression {{ without its }}");
        x->in->line = x->line;
        char c = x->s[x->at];
        int sign = c == '-' || (c == '+' && trims);
        if (!x->n_open && (starts (x, x->at, close) || (sign && starts (x, x->at + 1, close)))) {
            if (add (x, end_kind, (DpsJval){0}))
                return -1;
            close_tag (x, x->at + 2 + (size_t)sign, sign ? c : '\0', trims);
            return 0;
        }
        size_t n;
        int bad = c == '"' || c == '\''                                              ? lex_string (x)
                  : c >= '0' && c <= '9'                                             ? lex_number (x)
                  : is_name_start (dps_utf8_next (x->s + x->at, x->len - x->at, &n)) ? lex_name (x)
                                                                                     : lex_operator (x);
        if (bad)
            return -1;
    }
}

static int lex_all (Lexer *x)
{
    while (x->at < x->len) {
        size_t start = x->at, i = start;
        while (i < x->len && !(x->s[i] == '{' && i + 1 < x->len && strchr ("{%#", x->s[i + 1]) && x->s[i + 1]))
            i++;
        if (i >= x->len) {
            if (add_data (x, start, x->len, '\0', 0))
                return -1;
            advance (x, x->len);
            break;
        }
        char kind = x->s[i + 1], sign = i + 2 < x->len && (x->s[i + 2] == '-' || x->s[i + 2] == '+') ? x->s[i + 2] : '\0';
        char open, last;
        size_t after, inside = i + 2 + (sign != '\0');
        if (add_data (x, start, i, sign, kind != '{'))
            return -1;
        advance (x, i);
        if (kind == '#') {
            if (lex_comment (x, inside))
                return -1;
        } else if (kind == '%' && bare_tag (x, i, "raw", &open, &last, &after)) {
            if (lex_raw (x, last, after))
                return -1;
        } else {
            advance (x, inside);
            if (add (x, kind == '{' ? DPS_JT_VARIABLE_BEGIN : DPS_JT_BLOCK_BEGIN, (DpsJval){0}))
                return -1;
            if (kind == '{' ? lex_tag (x, "}}", DPS_JT_VARIABLE_END, 0) : lex_tag (x, "%}", DPS_JT_BLOCK_END, 1))
                return -1;
        }
    }
    return add (x, DPS_JT_END, (DpsJval){0});
}

int dps__jinja_lex (DpsJinja *in, DpsJtoken **out)
{
    Lexer x = {.in = in, .line = 1, .line_starting = 1};
    char *text = dps__jinja_alloc (in, in->source_len + 1, 1);
    x.open = dps__jinja_alloc (in, DPS_JINJA_NESTING, 1);
    if (!text || !x.open)
        return -1;
    for (size_t i = 0; i < in->source_len; i++) { /* "\r\n" and "\r" are newlines too */
        char c = in->source[i];
        if (c == '\r' && i + 1 < in->source_len && in->source[i + 1] == '\n')
            continue;
        text[x.len++] = c == '\r' ? '\n' : c;
    }
    x.len -= x.len && text[x.len - 1] == '\n';
    x.s = text;
    if (lex_all (&x))
        return -1;
    *out = x.tokens;
    return 0;
}
