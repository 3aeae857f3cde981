/* SPDX-License-Identifier: Apache-2.0 */
/* steps.c: the normalizer, pre_tokenizer and decoder members of tokenizer.json → lists of steps. */
#include "token/steps.h"

#include <string.h>

#include "token/utf8.h"

enum { LONGEST_TEXT = 4096 }; /* bytes of a replacement, prefix or suffix */

static const char gpt2_expression[] = "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";
static const char llama3_expression[] =
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";
static const char qwen2_expression[] =
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+";

DpsStatus dps_steps_add (DpsSteps *s, int kind, const char *text, size_t text_len, DpsStep **out, DpsError *err)
{
    if (s->n >= DPS_STEPS_MOST)
        return dps_fail (err, DPS_ERR_LIMIT, "more than %d steps", DPS_STEPS_MOST);
    if (text_len > LONGEST_TEXT)
        return dps_fail (err, DPS_ERR_LIMIT, "a text of %zu bytes, the limit is %d", text_len, LONGEST_TEXT);
    if (DPS_GROW (s->list, s->n, s->capacity))
        return dps_fail (err, DPS_ERR_NOMEM, "out of memory for tokenizer steps");
    DpsStep *step = &s->list[s->n];
    *step = (DpsStep){.kind = kind, .behaviour = DPS_SPLIT_ISOLATED, .text_len = text_len};
    if (text && !(step->text = dps_strndup (text, text_len)))
        return dps_fail (err, DPS_ERR_NOMEM, "out of memory for tokenizer steps");
    s->n++;
    if (out)
        *out = step;
    return DPS_OK;
}

void dps_steps_free (DpsSteps *s)
{
    for (size_t i = 0; i < s->n; i++) {
        dps_regex_free (s->list[i].pattern);
        dps_free (s->list[i].text);
    }
    dps_free (s->list);
    *s = (DpsSteps){0};
}

/* Members of a JSON object, with the default a missing or null one has. */
static DpsStatus get_text (json_t *part, const char *key, const char **out, size_t *out_len, DpsError *err)
{
    json_t *value = json_object_get (part, key);
    if (!json_is_string (value))
        return dps_fail (err, DPS_ERR_FORMAT, "\"%s\" is missing or no string", key);
    *out = json_string_value (value);
    *out_len = json_string_length (value);
    return DPS_OK;
}

static int get_flag (json_t *part, const char *key, int missing)
{
    json_t *value = json_object_get (part, key);
    return json_is_boolean (value) ? json_is_true (value) : missing;
}

/* {"String": text} or {"Regex": expression}. */
static DpsStatus get_pattern (json_t *part, const char **out, size_t *out_len, int *out_literal, DpsError *err)
{
    json_t *pattern = json_object_get (part, "pattern");
    *out_literal = json_object_get (pattern, "String") != NULL;
    return get_text (pattern, *out_literal ? "String" : "Regex", out, out_len, err);
}

static DpsStatus add_pattern (DpsSteps *s, int kind, json_t *part, const char *text, size_t text_len, DpsStep **out, DpsError *err)
{
    const char *pattern;
    size_t len;
    int literal;
    DPS_TRY (get_pattern (part, &pattern, &len, &literal, err));
    DPS_TRY (dps_steps_add (s, kind, text, text_len, out, err));
    return dps_regex_new (pattern, len, literal, &(*out)->pattern, err);
}

/* One function per member; `walk` flattens Sequence around it. */
typedef DpsStatus (*PartReader) (const char *type, json_t *part, DpsSteps *out, int *out_flag, DpsError *err);

static DpsStatus walk (json_t *part, const char *member, const char *children, PartReader reader, DpsSteps *out, int *out_flag, int depth,
                       DpsError *err)
{
    const char *type;
    size_t len, i;
    json_t *child;
    if (!part || json_is_null (part))
        return DPS_OK;
    if (depth > DPS_STEPS_DEPTH)
        return dps_fail (err, DPS_ERR_LIMIT, "%s nested deeper than %d", member, DPS_STEPS_DEPTH);
    if (get_text (part, "type", &type, &len, NULL) != DPS_OK || !len)
        return dps_fail (err, DPS_ERR_FORMAT, "%s: \"type\" is missing, empty or no string", member);
    if (strcmp (type, "Sequence")) {
        DpsStatus st = reader (type, part, out, out_flag, err);
        return st == DPS_OK ? st : dps_error_prefix (err, "%s %s", member, type);
    }
    json_t *list = json_object_get (part, children);
    if (!json_is_array (list))
        return dps_fail (err, DPS_ERR_FORMAT, "%s Sequence without \"%s\"", member, children);
    json_array_foreach (list, i, child) {
        DpsStatus st = walk (child, member, children, reader, out, out_flag, depth + 1, err);
        if (st != DPS_OK)
            return dps_error_prefix (err, "%s[%zu]", children, i);
    }
    return DPS_OK;
}

static DpsStatus unsupported (DpsError *err, const char *known)
{
    return dps_fail (err, DPS_ERR_UNSUPPORTED, "this type is not supported; supported are %s", known);
}

static DpsStatus read_normalizer (const char *type, json_t *part, DpsSteps *out, int *out_flag, DpsError *err)
{
    static const char *const forms[] = {"NFC", "NFD", "NFKC", "NFKD"};
    const char *text, *pattern;
    size_t len, pattern_len;
    int literal;
    DpsStep *step;
    (void)out_flag;
    for (unsigned i = 0; i < 4; i++)
        if (!strcmp (type, forms[i])) {
            DPS_TRY (dps_steps_add (out, DPS_NORM_UNICODE, NULL, 0, &step, err));
            step->flag = i + 1;
            return DPS_OK;
        }
    if (!strcmp (type, "Lowercase"))
        return dps_steps_add (out, DPS_NORM_LOWER, NULL, 0, NULL, err);
    if (!strcmp (type, "StripAccents"))
        return dps_steps_add (out, DPS_NORM_ACCENTS, NULL, 0, NULL, err);
    if (!strcmp (type, "Strip")) {
        DPS_TRY (dps_steps_add (out, DPS_NORM_STRIP, NULL, 0, &step, err));
        step->flag = (unsigned)(get_flag (part, "strip_left", 1) | get_flag (part, "strip_right", 1) << 1);
        return DPS_OK;
    }
    if (!strcmp (type, "Prepend")) {
        DPS_TRY (get_text (part, "prepend", &text, &len, err));
        return dps_steps_add (out, DPS_NORM_PREPEND, text, len, NULL, err);
    }
    if (!strcmp (type, "Replace")) {
        DPS_TRY (get_text (part, "content", &text, &len, err));
        DPS_TRY (get_pattern (part, &pattern, &pattern_len, &literal, err));
        if (literal && !strcmp (pattern, " ") && len <= 8)
            return dps_steps_add (out, DPS_NORM_SPACE_MARK, text, len, NULL, err);
        return add_pattern (out, DPS_NORM_REPLACE, part, text, len, &step, err);
    }
    return unsupported (err, "Sequence, NFC, NFD, NFKC, NFKD, Lowercase, Strip, StripAccents, Prepend, Replace");
}

static DpsStatus get_behaviour (json_t *part, int *out, DpsError *err)
{
    static const char *const names[] = {"Removed", "Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous"};
    const char *text;
    size_t len;
    DPS_TRY (get_text (part, "behavior", &text, &len, err));
    for (int i = 0; i < 5; i++)
        if (!strcmp (text, names[i])) {
            *out = i + 1;
            return DPS_OK;
        }
    return dps_fail (err, DPS_ERR_FORMAT, "behavior \"%s\", expected Removed, Isolated, MergedWithPrevious, MergedWithNext or Contiguous",
                     text);
}

static unsigned known_scanner (const char *pattern)
{
    return !strcmp (pattern, gpt2_expression)     ? DPS_SCAN_GPT2
           : !strcmp (pattern, llama3_expression) ? DPS_SCAN_LLAMA3
           : !strcmp (pattern, qwen2_expression)  ? DPS_SCAN_QWEN2
                                                  : 0;
}

static DpsStatus read_split (json_t *part, DpsSteps *out, DpsError *err)
{
    const char *pattern;
    size_t len;
    int literal, behaviour;
    DpsStep *step;
    int invert = get_flag (part, "invert", 0);
    DPS_TRY (get_pattern (part, &pattern, &len, &literal, err));
    DPS_TRY (get_behaviour (part, &behaviour, err));
    unsigned scanner = literal ? 0 : known_scanner (pattern);
    /* These expressions leave nothing unmatched, so "keep only matches" is the same as "cut at matches". */
    if (scanner && ((behaviour == DPS_SPLIT_ISOLATED && !invert) || (behaviour == DPS_SPLIT_REMOVED && invert))) {
        DPS_TRY (dps_steps_add (out, DPS_PRE_SCAN, NULL, 0, &step, err));
        step->flag = scanner;
        return DPS_OK;
    }
    DPS_TRY (add_pattern (out, DPS_PRE_SPLIT, part, NULL, 0, &step, err));
    step->behaviour = behaviour;
    step->invert = invert;
    return DPS_OK;
}

static DpsStatus read_metaspace (json_t *part, int kind, DpsSteps *out, DpsError *err)
{
    const char *mark, *scheme = NULL;
    size_t len, scheme_len;
    DpsStep *step;
    DPS_TRY (get_text (part, "replacement", &mark, &len, err));
    DPS_TRY (dps_steps_add (out, kind, mark, len, &step, err));
    if (len == 0)
        return dps_fail (err, DPS_ERR_FORMAT, "\"replacement\" is empty");
    /* Before prepend_scheme there was add_prefix_space. */
    if (get_text (part, "prepend_scheme", &scheme, &scheme_len, NULL) != DPS_OK)
        scheme = get_flag (part, "add_prefix_space", 1) ? "always" : "never";
    int never = !strcmp (scheme, "never");
    if (kind == DPS_DECODE_METASPACE)
        step->flag = !never;
    else
        step->flag = (never                       ? 0u
                      : !strcmp (scheme, "first") ? DPS_METASPACE_FIRST
                                                  : DPS_METASPACE_ALWAYS) |
                     (get_flag (part, "split", 1) ? DPS_METASPACE_SPLIT : 0u);
    return DPS_OK;
}

static DpsStatus read_byte_level (json_t *part, DpsSteps *out, int *out_flag, DpsError *err)
{
    DpsStep *step;
    if (get_flag (part, "add_prefix_space", 1))
        DPS_TRY (dps_steps_add (out, DPS_PRE_PREFIX_SPACE, NULL, 0, NULL, err));
    if (get_flag (part, "use_regex", 1)) {
        DPS_TRY (dps_steps_add (out, DPS_PRE_SCAN, NULL, 0, &step, err));
        step->flag = DPS_SCAN_GPT2;
    }
    *out_flag = 1;
    return DPS_OK;
}

static DpsStatus read_pretokenizer (const char *type, json_t *part, DpsSteps *out, int *out_flag, DpsError *err)
{
    DpsStep *step;
    if (*out_flag)
        return dps_fail (err, DPS_ERR_UNSUPPORTED, "a step after ByteLevel, which must be the last");
    if (!strcmp (type, "ByteLevel"))
        return read_byte_level (part, out, out_flag, err);
    if (!strcmp (type, "Split"))
        return read_split (part, out, err);
    if (!strcmp (type, "Metaspace"))
        return read_metaspace (part, DPS_PRE_METASPACE, out, err);
    if (!strcmp (type, "Whitespace"))
        return dps_steps_add (out, DPS_PRE_WHITESPACE, NULL, 0, NULL, err);
    if (!strcmp (type, "WhitespaceSplit")) {
        DPS_TRY (dps_steps_add (out, DPS_PRE_WHITESPACE_SPLIT, NULL, 0, &step, err));
        step->behaviour = DPS_SPLIT_REMOVED;
        return DPS_OK;
    }
    if (!strcmp (type, "Digits")) {
        DPS_TRY (dps_steps_add (out, DPS_PRE_DIGITS, NULL, 0, &step, err));
        step->behaviour = get_flag (part, "individual_digits", 0) ? DPS_SPLIT_ISOLATED : DPS_SPLIT_CONTIGUOUS;
        return DPS_OK;
    }
    if (!strcmp (type, "Punctuation")) {
        DPS_TRY (dps_steps_add (out, DPS_PRE_PUNCTUATION, NULL, 0, &step, err));
        return json_object_get (part, "behavior") ? get_behaviour (part, &step->behaviour, err) : DPS_OK;
    }
    if (!strcmp (type, "CharDelimiterSplit")) {
        const char *delimiter;
        size_t len;
        DPS_TRY (get_text (part, "delimiter", &delimiter, &len, err));
        DPS_TRY (dps_steps_add (out, DPS_PRE_SPLIT, NULL, 0, &step, err));
        step->behaviour = DPS_SPLIT_REMOVED;
        return dps_regex_new (delimiter, len, 1, &step->pattern, err);
    }
    return unsupported (err, "Sequence, Split, ByteLevel, Metaspace, Digits, Punctuation, Whitespace, WhitespaceSplit, CharDelimiterSplit");
}

static DpsStatus read_decoder (const char *type, json_t *part, DpsSteps *out, int *out_flag, DpsError *err)
{
    const char *text;
    size_t len;
    DpsStep *step;
    (void)out_flag;
    if (!strcmp (type, "ByteLevel"))
        return dps_steps_add (out, DPS_DECODE_BYTE_LEVEL, NULL, 0, NULL, err);
    if (!strcmp (type, "ByteFallback"))
        return dps_steps_add (out, DPS_DECODE_BYTE_FALLBACK, NULL, 0, NULL, err);
    if (!strcmp (type, "Fuse"))
        return dps_steps_add (out, DPS_DECODE_FUSE, NULL, 0, NULL, err);
    if (!strcmp (type, "Metaspace"))
        return read_metaspace (part, DPS_DECODE_METASPACE, out, err);
    if (!strcmp (type, "Replace")) {
        DPS_TRY (get_text (part, "content", &text, &len, err));
        return add_pattern (out, DPS_DECODE_REPLACE, part, text, len, &step, err);
    }
    if (!strcmp (type, "Strip")) {
        DPS_TRY (get_text (part, "content", &text, &len, err));
        DPS_TRY (dps_steps_add (out, DPS_DECODE_STRIP, text, len, &step, err));
        json_int_t left = json_integer_value (json_object_get (part, "start")), right = json_integer_value (json_object_get (part, "stop"));
        if (left < 0 || right < 0 || left > UINT32_MAX || right > UINT32_MAX || len == 0)
            return dps_fail (err, DPS_ERR_FORMAT, "start, stop or content out of range");
        step->left = (uint32_t)left;
        step->right = (uint32_t)right;
        return DPS_OK;
    }
    if (!strcmp (type, "BPEDecoder")) {
        DPS_TRY (get_text (part, "suffix", &text, &len, err));
        return dps_steps_add (out, DPS_DECODE_WORD_END, text, len, NULL, err);
    }
    return unsupported (err, "Sequence, ByteLevel, ByteFallback, Fuse, Metaspace, Replace, Strip, BPEDecoder");
}

DpsStatus dps_steps_normalizer (json_t *part, DpsSteps *out, DpsError *err)
{
    return walk (part, "normalizer", "normalizers", read_normalizer, out, NULL, 0, err);
}

DpsStatus dps_steps_pretokenizer (json_t *part, DpsSteps *out, int *out_byte_level, DpsError *err)
{
    *out_byte_level = 0;
    return walk (part, "pre_tokenizer", "pretokenizers", read_pretokenizer, out, out_byte_level, 0, err);
}

DpsStatus dps_steps_decoder (json_t *part, DpsSteps *out, DpsError *err)
{
    return walk (part, "decoder", "decoders", read_decoder, out, NULL, 0, err);
}
