/* SPDX-License-Identifier: Apache-2.0 */
/* jinja_strings.c: methods of str. */
#include <string.h>
#include <utf8proc.h>

#include "token/jinja_node.h"
#include "token/utf8.h"

static int bad_argument (DpsJinja *in, const char *name)
{
    return dps__jinja_fail (in, DPS_ERR_FORMAT, "%s(): an argument is missing or of the wrong type", name);
}

/* Argument i as a string; NULL when it is absent or none. Fails for other kinds. */
static int text_arg (DpsJinja *in, const DpsJargs *args, size_t i, const char *key, const char *name, const DpsJval **out)
{
    *out = dps__jinja_arg (args, i, key);
    if (*out && (*out)->kind == DPS_J_NONE)
        *out = NULL;
    return *out && (*out)->kind != DPS_J_STR ? bad_argument (in, name) : 0;
}

/* startswith, endswith: a string or a tuple of them. */
static int ends (DpsJinja *in, const DpsJval *self, const DpsJargs *args, const char *name, DpsJval *out)
{
    const DpsJval *what = dps__jinja_arg (args, 0, NULL);
    size_t n = what && what->kind == DPS_J_TUPLE ? what->list->n : 1;
    int hit = 0;
    if (!what || args->pos.n > 1)
        return what ? dps__jinja_fail (in, DPS_ERR_UNSUPPORTED, "%s() with a range", name) : bad_argument (in, name);
    for (size_t i = 0; i < n && !hit; i++) {
        const DpsJval *affix = what->kind == DPS_J_TUPLE ? &what->list->items[i] : what;
        if (affix->kind != DPS_J_STR)
            return bad_argument (in, name);
        const char *at = name[0] == 's' ? self->s : self->s + self->len - (affix->len <= self->len ? affix->len : 0);
        hit = affix->len <= self->len && !memcmp (at, affix->s, affix->len);
    }
    *out = dps__jinja_bool (hit);
    return 0;
}

static int stripped (DpsJinja *in, const DpsJval *self, const DpsJargs *args, const char *name, DpsJval *out)
{
    const DpsJval *chars;
    if (text_arg (in, args, 0, NULL, name, &chars) || dps__jinja_spend (in, chars ? chars->len * (self->len / 64 + 1) / 64 : 0))
        return -1;
    *out = dps__jinja_strip (self, chars, name[0] == 'l' ? 1 : name[0] == 'r' ? 2 : 3);
    return 0;
}

/* By runs of white space, at most `most` cuts, from the left. */
static int split_space (DpsJinja *in, const DpsJval *self, int64_t most, DpsJlist *out)
{
    DpsJval rest = dps__jinja_strip (self, NULL, 1);
    for (int64_t cuts = 0; rest.len; cuts++) {
        size_t end = 0, n;
        while (end < rest.len && !dps__jinja_py_space (dps_utf8_next (rest.s + end, rest.len - end, &n)))
            end += n;
        if (most >= 0 && cuts >= most)
            return dps__jinja_append (in, out, rest);
        if (dps__jinja_append (in, out, dps__jinja_text (rest.s, end)))
            return -1;
        rest = dps__jinja_text (rest.s + end, rest.len - end);
        rest = dps__jinja_strip (&rest, NULL, 1);
    }
    return 0;
}

static void reverse (DpsJlist *list)
{
    for (size_t i = 0; i < list->n / 2; i++) {
        DpsJval v = list->items[i];
        list->items[i] = list->items[list->n - 1 - i];
        list->items[list->n - 1 - i] = v;
    }
}

/* By a separator, from the left, or from the right with `from_right`. */
static int split_at (DpsJinja *in, const DpsJval *self, const DpsJval *separator, int64_t most, int from_right, DpsJlist *out)
{
    size_t start = 0, end = self->len;
    for (int64_t cuts = 0; most < 0 || cuts < most; cuts++) {
        const char *hit = NULL;
        if (!from_right)
            hit = dps__jinja_find (self, separator, start);
        else
            for (size_t at = end < separator->len ? 0 : end - separator->len + 1; at-- > 0 && !hit;)
                hit = memcmp (self->s + at, separator->s, separator->len) ? NULL : self->s + at;
        if (!hit || (from_right && end < separator->len))
            break;
        size_t at = (size_t)(hit - self->s);
        DpsJval piece =
            from_right ? dps__jinja_text (hit + separator->len, end - at - separator->len) : dps__jinja_text (self->s + start, at - start);
        if (dps__jinja_append (in, out, piece))
            return -1;
        end = at;
        start = at + separator->len;
    }
    if (dps__jinja_append (in, out, from_right ? dps__jinja_text (self->s, end) : dps__jinja_text (self->s + start, self->len - start)))
        return -1;
    if (from_right)
        reverse (out);
    return 0;
}

static int split (DpsJinja *in, const DpsJval *self, const DpsJargs *args, const char *name, DpsJval *out)
{
    const DpsJval *separator;
    int64_t most;
    if (text_arg (in, args, 0, "sep", name, &separator) || dps__jinja_arg_int (in, args, 1, "maxsplit", -1, &most) ||
        dps__jinja_spend (in, self->len / 64) || dps__jinja_new_list (in, DPS_J_LIST, out))
        return -1;
    if (separator && separator->len == 0)
        return dps__jinja_fail (in, DPS_ERR_FORMAT, "%s() with an empty separator", name);
    if (!separator && name[0] == 'r' && most >= 0)
        return dps__jinja_fail (in, DPS_ERR_UNSUPPORTED, "rsplit() with a limit but no separator");
    return separator ? split_at (in, self, separator, most, name[0] == 'r', out->list) : split_space (in, self, most, out->list);
}

static int splitlines (DpsJinja *in, const DpsJval *self, const DpsJargs *args, const char *name, DpsJval *out)
{
    int keep = dps__jinja_arg_flag (args, 0, "keepends", 0);
    size_t start = 0;
    (void)name;
    if (dps__jinja_new_list (in, DPS_J_LIST, out) || dps__jinja_spend (in, self->len / 64))
        return -1;
    for (size_t at = 0, n; at < self->len;) {
        uint32_t c = dps_utf8_next (self->s + at, self->len - at, &n);
        int line = (c >= 0x0a && c <= 0x0d) || (c >= 0x1c && c <= 0x1e) || c == 0x85 || c == 0x2028 || c == 0x2029;
        size_t end = at;
        at += n;
        if (!line)
            continue;
        at += c == '\r' && at < self->len && self->s[at] == '\n';
        if (dps__jinja_append (in, out->list, dps__jinja_text (self->s + start, (keep ? at : end) - start)))
            return -1;
        start = at;
    }
    return start < self->len ? dps__jinja_append (in, out->list, dps__jinja_text (self->s + start, self->len - start)) : 0;
}

static int cased (DpsJinja *in, const DpsJval *self, const DpsJargs *args, const char *name, DpsJval *out)
{
    int how = !strcmp (name, "upper")        ? DPS_J_UPPER
              : !strcmp (name, "capitalize") ? DPS_J_CAPITALIZE
              : !strcmp (name, "title")      ? DPS_J_TITLE
              : !strcmp (name, "swapcase")   ? DPS_J_SWAP
                                             : DPS_J_LOWER;
    (void)args;
    return dps__jinja_spend (in, self->len / 16) ? -1 : dps__jinja_case (in, self, how, out);
}

static int replaced (DpsJinja *in, const DpsJval *self, const DpsJargs *args, const char *name, DpsJval *out)
{
    const DpsJval *old, *new;
    int64_t most;
    if (text_arg (in, args, 0, NULL, name, &old) || text_arg (in, args, 1, NULL, name, &new) ||
        dps__jinja_arg_int (in, args, 2, "count", -1, &most))
        return -1;
    return old && new ? dps__jinja_replace (in, self, old, new, most, out) : bad_argument (in, name);
}

/* find, rfind, index, rindex, count. Places are code points. */
static int searched (DpsJinja *in, const DpsJval *self, const DpsJargs *args, const char *name, DpsJval *out)
{
    const DpsJval *what;
    const char *hit = NULL;
    int64_t count = 0;
    if (text_arg (in, args, 0, NULL, name, &what) || !what || args->pos.n > 1)
        return in->status == DPS_OK ? bad_argument (in, name) : -1;
    if (dps__jinja_spend (in, self->len / 16))
        return -1;
    for (size_t at = 0;;) {
        const char *next = dps__jinja_find (self, what, at);
        if (!next)
            break;
        count++;
        hit = next;
        at = (size_t)(next - self->s) + (what->len ? what->len : 1);
        if (name[0] == 'r' && what->len) /* overlapping places count when the last one is wanted */
            at = (size_t)(next - self->s) + 1;
        if (at > self->len || name[0] == 'f' || name[0] == 'i')
            break;
    }
    if (!strcmp (name, "count")) {
        *out = dps__jinja_int (what->len ? count : (int64_t)dps__jinja_length (self) + 1);
        return 0;
    }
    if (!hit && strstr (name, "index"))
        return dps__jinja_fail (in, DPS_ERR_FORMAT, "%s(): the substring is not found", name);
    DpsJval before = dps__jinja_text (self->s, hit ? (size_t)(hit - self->s) : 0);
    *out = dps__jinja_int (hit ? (int64_t)dps__jinja_length (&before) : -1);
    return 0;
}

static int joined (DpsJinja *in, const DpsJval *self, const DpsJargs *args, const char *name, DpsJval *out)
{
    const DpsJval *list = dps__jinja_arg (args, 0, NULL);
    DpsJlist items;
    DpsBuf text = {0};
    int bad = 0;
    if (!list || dps__jinja_items (in, list, &items))
        return list ? -1 : bad_argument (in, name);
    for (size_t i = 0; i < items.n && !bad; i++) {
        if (items.items[i].kind != DPS_J_STR || text.len > DPS_JINJA_OUTPUT) {
            dps_buf_free (&text);
            return dps__jinja_fail (in, DPS_ERR_FORMAT, "join(): item %zu is a %s, expected str", i, dps__jinja_kind (&items.items[i]));
        }
        bad = (i && dps_buf_add (&text, self->s, self->len)) || dps_buf_add (&text, items.items[i].s, items.items[i].len);
    }
    if (!bad)
        return dps__jinja_take (in, &text, out);
    dps_buf_free (&text);
    return dps__jinja_fail (in, DPS_ERR_NOMEM, "out of memory for join()");
}

/* isdigit, isalpha, isalnum, isspace, isnumeric, isdecimal: every character, and at least one. */
static int classified (DpsJinja *in, const DpsJval *self, const DpsJargs *args, const char *name, DpsJval *out)
{
    int all = self->len > 0;
    (void)in;
    (void)args;
    for (size_t at = 0, n; at < self->len && all; at += n) {
        uint32_t c = dps_utf8_next (self->s + at, self->len - at, &n);
        int class = dps_utf8_class (c);
        int decimal = c != DPS_UTF8_INVALID && utf8proc_category ((utf8proc_int32_t)c) == UTF8PROC_CATEGORY_ND;
        int super = c == 0xb2 || c == 0xb3 || c == 0xb9 || c == 0x2070 || (c >= 0x2074 && c <= 0x2079) || (c >= 0x2080 && c <= 0x2089);
        if (!strcmp (name, "isspace"))
            all = dps__jinja_py_space (c);
        else if (!strcmp (name, "isalpha"))
            all = class == DPS_CLASS_LETTER;
        else if (!strcmp (name, "isalnum"))
            all = class == DPS_CLASS_LETTER || class == DPS_CLASS_NUMBER;
        else if (!strcmp (name, "isnumeric"))
            all = class == DPS_CLASS_NUMBER;
        else
            all = decimal || (super && !strcmp (name, "isdigit"));
    }
    *out = dps__jinja_bool (all);
    return 0;
}

static int case_tested (DpsJinja *in, const DpsJval *self, const DpsJargs *args, const char *name, DpsJval *out)
{
    (void)in;
    (void)args;
    *out = dps__jinja_bool (dps__jinja_is_case (self, name[2] == 'l' ? DPS_J_LOWER : name[2] == 'u' ? DPS_J_UPPER : DPS_J_TITLE));
    return 0;
}

/* removeprefix, removesuffix */
static int removed (DpsJinja *in, const DpsJval *self, const DpsJargs *args, const char *name, DpsJval *out)
{
    const DpsJval *affix;
    if (text_arg (in, args, 0, NULL, name, &affix) || !affix)
        return in->status == DPS_OK ? bad_argument (in, name) : -1;
    int prefix = name[6] == 'p', fits = affix->len <= self->len;
    fits = fits && !memcmp (prefix ? self->s : self->s + self->len - affix->len, affix->s, affix->len);
    *out = fits ? dps__jinja_text (self->s + (prefix ? affix->len : 0), self->len - affix->len) : *self;
    return 0;
}

/* ljust, rjust, center, zfill */
static int padded (DpsJinja *in, const DpsJval *self, const DpsJargs *args, const char *name, DpsJval *out)
{
    const DpsJval *fill;
    int64_t width, n = (int64_t)dps__jinja_length (self);
    DpsBuf text = {0};
    if (dps__jinja_arg_int (in, args, 0, "width", 0, &width) || text_arg (in, args, 1, "fillchar", name, &fill))
        return -1;
    if (width > 100000)
        return dps__jinja_fail (in, DPS_ERR_LIMIT, "%s(): a width over 100000", name);
    int64_t pad = width > n ? width - n : 0;
    int64_t left = name[0] == 'l' ? 0 : name[0] == 'c' ? pad / 2 + (pad & width & 1) : pad;
    size_t sign = name[0] == 'z' && self->len && (self->s[0] == '-' || self->s[0] == '+');
    const char *with = fill ? fill->s : name[0] == 'z' ? "0" : " ";
    int bad = dps_buf_add (&text, self->s, sign);
    for (int64_t i = 0; i < pad && !bad; i++) {
        if (i == left)
            bad = dps_buf_add (&text, self->s + sign, self->len - sign);
        bad = bad || dps_buf_add (&text, with, fill ? fill->len : 1);
    }
    if (left >= pad)
        bad = bad || dps_buf_add (&text, self->s + sign, self->len - sign);
    if (!bad)
        return dps__jinja_take (in, &text, out);
    dps_buf_free (&text);
    return dps__jinja_fail (in, DPS_ERR_NOMEM, "out of memory for %s()", name);
}

/* partition, rpartition */
static int partitioned (DpsJinja *in, const DpsJval *self, const DpsJargs *args, const char *name, DpsJval *out)
{
    const DpsJval *separator;
    const char *hit = NULL;
    if (text_arg (in, args, 0, NULL, name, &separator) || !separator || !separator->len || dps__jinja_new_list (in, DPS_J_TUPLE, out))
        return in->status == DPS_OK ? bad_argument (in, name) : -1;
    for (const char *next = dps__jinja_find (self, separator, 0); next;
         next = dps__jinja_find (self, separator, (size_t)(next - self->s) + 1)) {
        hit = next;
        if (name[0] == 'p')
            break;
    }
    DpsJval none = dps__jinja_text ("", 0);
    size_t at = hit ? (size_t)(hit - self->s) : 0;
    DpsJval parts[] = {dps__jinja_text (self->s, at), *separator,
                       hit ? dps__jinja_text (hit + separator->len, self->len - at - separator->len) : none};
    if (!hit) {
        parts[0] = name[0] == 'p' ? *self : none;
        parts[1] = none;
        parts[2] = name[0] == 'p' ? none : *self;
    }
    return dps__jinja_append (in, out->list, parts[0]) || dps__jinja_append (in, out->list, parts[1]) ||
           dps__jinja_append (in, out->list, parts[2]);
}

static int formatted (DpsJinja *in, const DpsJval *self, const DpsJargs *args, const char *name, DpsJval *out)
{
    (void)name;
    return dps__jinja_format (in, self, args, out);
}

static const DpsJmethods methods[] = {
    {DPS_J_STR, "startswith", ends},       {DPS_J_STR, "endswith", ends},
    {DPS_J_STR, "strip", stripped},        {DPS_J_STR, "lstrip", stripped},
    {DPS_J_STR, "rstrip", stripped},       {DPS_J_STR, "split", split},
    {DPS_J_STR, "rsplit", split},          {DPS_J_STR, "splitlines", splitlines},
    {DPS_J_STR, "upper", cased},           {DPS_J_STR, "lower", cased},
    {DPS_J_STR, "capitalize", cased},      {DPS_J_STR, "title", cased},
    {DPS_J_STR, "swapcase", cased},        {DPS_J_STR, "casefold", cased},
    {DPS_J_STR, "replace", replaced},      {DPS_J_STR, "find", searched},
    {DPS_J_STR, "rfind", searched},        {DPS_J_STR, "index", searched},
    {DPS_J_STR, "rindex", searched},       {DPS_J_STR, "count", searched},
    {DPS_J_STR, "join", joined},           {DPS_J_STR, "isdigit", classified},
    {DPS_J_STR, "isalpha", classified},    {DPS_J_STR, "isalnum", classified},
    {DPS_J_STR, "isspace", classified},    {DPS_J_STR, "isnumeric", classified},
    {DPS_J_STR, "isdecimal", classified},  {DPS_J_STR, "islower", case_tested},
    {DPS_J_STR, "isupper", case_tested},   {DPS_J_STR, "istitle", case_tested},
    {DPS_J_STR, "removeprefix", removed},  {DPS_J_STR, "removesuffix", removed},
    {DPS_J_STR, "ljust", padded},          {DPS_J_STR, "rjust", padded},
    {DPS_J_STR, "center", padded},         {DPS_J_STR, "zfill", padded},
    {DPS_J_STR, "partition", partitioned}, {DPS_J_STR, "rpartition", partitioned},
    {DPS_J_STR, "format", formatted},      {0, NULL, NULL},
};

const DpsJmethods *dps__jinja_string_methods (void) { return methods; }
