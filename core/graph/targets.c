/* SPDX-License-Identifier: Apache-2.0 */
/*
 * targets.c: PEFT 0.21's rules (tuners_utils.check_target_module_exists, get_pattern_key). One departure: a listed name, or a
 * pattern of a new adapter's ranks, that matches nothing is an error where PEFT says nothing and trains other than was asked for.
 */
#include "graph/targets.h"

#include <math.h>
#include <string.h>

#include "base/matcher.h"

enum { MAX_PATH = 1024, MAX_NAMES = 4096, LEAST_STEPS = 1000 }; /* 512 layers of 7 linear maps, each by its path */

/* PEFT's re.fullmatch, and its keys of rank_pattern, which may leave out the beginning of a path. */
static const DpsMatcherOptions whole = {.whole = 1}, ending = {.before = "(?:.*\\.)?(?:", .after = ")", .whole = 1};

/* What matching remembers; apart, so that a const DpsTargets can be asked. */
typedef struct Seen {
    unsigned char *name;  /* [modules.n] */
    unsigned char *saved; /* [modules_to_save.n] */
    size_t n_matched;
    int over_limit;
} Seen;

struct DpsTargets {
    char **modules, **exclude, **save, **layers_pattern;
    size_t n_modules, n_exclude, n_save, n_layers_pattern;
    DpsMatcher *pattern, *exclude_pattern;
    int64_t *layers;
    size_t n_layers;
    int all_linear;
    char *where;
    Seen *seen;
};

struct DpsPatternMap {
    DpsMatcher **keys;
    double *values;
    unsigned char *used; /* [n] 1: some module got its value */
    size_t n;
};

/* Whole path, or its end after a dot. */
static int is_named (const char *path, const char *name)
{
    size_t n = strlen (path), m = strlen (name);
    return m && n >= m && !strcmp (path + n - m, name) && (n == m || path[n - m - 1] == '.');
}

/* Whole components anywhere on the path. */
static int is_under (const char *path, const char *name)
{
    size_t m = strlen (name);
    for (const char *p = path; m && (p = strstr (p, name)); p++)
        if ((p == path || p[-1] == '.') && (p[m] == '\0' || p[m] == '.'))
            return 1;
    return 0;
}

/* PEFT's _set_trainable: a component that ends with the name, "norm" of "input_layernorm" too; what lies below it goes along. */
static int is_saved_by (const char *path, const char *name)
{
    size_t m = strlen (name);
    for (const char *p = path; m && (p = strstr (p, name)); p++)
        if (p[m] == '\0' || p[m] == '.')
            return 1;
    return 0;
}

static DpsStatus copy_names (const DpsNames *from, const char *what, const char *where, char ***out, size_t *out_n, DpsError *err)
{
    if (from->n > MAX_NAMES)
        return dps_fail (err, DPS_ERR_LIMIT, "%s: %s has %zu names; at most %d are allowed", where, what, from->n, MAX_NAMES);
    *out = dps_calloc (from->n, sizeof **out);
    if (!*out)
        return dps_fail (err, DPS_ERR_NOMEM, "%s: out of memory", where);
    for (size_t i = 0; i < from->n; i++) {
        if (!from->names[i][0])
            return dps_fail (err, DPS_ERR_USAGE, "%s: %s holds an empty name", where, what);
        if (strlen (from->names[i]) > MAX_PATH)
            return dps_fail (err, DPS_ERR_LIMIT, "%s: %s holds a name of %zu bytes; at most %d are allowed", where, what,
                             strlen (from->names[i]), MAX_PATH);
        (*out)[i] = dps_strdup (from->names[i]);
        if (!(*out)[i])
            return dps_fail (err, DPS_ERR_NOMEM, "%s: out of memory", where);
        *out_n = i + 1;
    }
    return DPS_OK;
}

static void free_names (char **names, size_t n)
{
    for (size_t i = 0; i < n; i++)
        dps_free (names[i]);
    dps_free (names);
}

static DpsStatus fill (DpsTargets *t, const DpsTargetSpec *s, const char *where, DpsError *err)
{
    t->where = dps_strdup (where);
    t->seen = dps_calloc (1, sizeof *t->seen);
    t->layers = dps_calloc (s->n_layers, sizeof *t->layers);
    if (!t->where || !t->seen || !t->layers || !(t->seen->name = dps_calloc (s->modules.n, 1)) ||
        !(t->seen->saved = dps_calloc (s->modules_to_save.n, 1)))
        return dps_fail (err, DPS_ERR_NOMEM, "%s: out of memory", where);
    if (s->n_layers)
        memcpy (t->layers, s->layers, s->n_layers * sizeof *t->layers);
    t->n_layers = s->n_layers;
    t->all_linear = s->all_linear;
    DPS_TRY (copy_names (&s->modules, "target_modules", where, &t->modules, &t->n_modules, err));
    DPS_TRY (copy_names (&s->exclude, "exclude_modules", where, &t->exclude, &t->n_exclude, err));
    DPS_TRY (copy_names (&s->modules_to_save, "modules_to_save", where, &t->save, &t->n_save, err));
    DPS_TRY (copy_names (&s->layers_pattern, "layers_pattern", where, &t->layers_pattern, &t->n_layers_pattern, err));
    if (s->pattern)
        DPS_TRY (dps_matcher_new (s->pattern, &whole, where, &t->pattern, err));
    if (s->exclude_pattern)
        DPS_TRY (dps_matcher_new (s->exclude_pattern, &whole, where, &t->exclude_pattern, err));
    return DPS_OK;
}

DpsStatus dps_targets_new (const DpsTargetSpec *s, DpsTargets **out, DpsError *err)
{
    const char *where = s->where ? s->where : "target_modules";
    int kinds = (s->modules.n > 0) + (s->pattern != NULL) + (s->all_linear != 0);
    if (kinds == 0 && s->modules_to_save.n == 0)
        return dps_fail (err, DPS_ERR_USAGE, "%s: names no module to adapt. Hint: all-linear is every linear map", where);
    if (kinds > 1)
        return dps_fail (err, DPS_ERR_USAGE, "%s: a list of names, a regular expression or all-linear, not several of them", where);
    if (s->n_layers && s->modules.n == 0)
        return dps_fail (err, DPS_ERR_USAGE,
                         "%s: layers_to_transform goes with a list of names. Hint: put the layer numbers into the expression", where);
    DpsTargets *t = dps_calloc (1, sizeof *t);
    if (!t)
        return dps_fail (err, DPS_ERR_NOMEM, "%s: out of memory", where);
    DpsStatus st = fill (t, s, where, err);
    if (st != DPS_OK) {
        dps_targets_free (t);
        return st;
    }
    *out = t;
    return DPS_OK;
}

/* Cut "a, b" in place; names point into text. */
static size_t split_commas (char *text, const char **names, size_t cap)
{
    size_t n = 0;
    for (char *save, *p = strtok_r (text, ", ", &save); p && n < cap; p = strtok_r (NULL, ", ", &save))
        names[n++] = p;
    return n;
}

DpsStatus dps_targets_from_text (const char *text, const DpsTargetSpec *rest, DpsTargets **out, DpsError *err)
{
    static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-., ";
    DpsTargetSpec s = *rest;
    if (!strcmp (text, "all") || !strcasecmp (text, "all-linear")) {
        s.all_linear = 1;
        return dps_targets_new (&s, out, err);
    }
    if (text[strspn (text, plain)] || strstr (text, "..")) {
        s.pattern = text;
        return dps_targets_new (&s, out, err);
    }
    const char *names[64];
    char *copy = dps_strdup (text);
    if (!copy)
        return dps_fail (err, DPS_ERR_NOMEM, "%s: out of memory", s.where ? s.where : "target_modules");
    s.modules = (DpsNames){names, split_commas (copy, names, sizeof names / sizeof *names)};
    DpsStatus st = dps_targets_new (&s, out, err);
    dps_free (copy);
    return st;
}

void dps_targets_free (DpsTargets *t)
{
    if (!t)
        return;
    free_names (t->modules, t->n_modules);
    free_names (t->exclude, t->n_exclude);
    free_names (t->save, t->n_save);
    free_names (t->layers_pattern, t->n_layers_pattern);
    dps_matcher_free (t->pattern);
    dps_matcher_free (t->exclude_pattern);
    dps_free (t->layers);
    dps_free (t->where);
    if (t->seen) {
        dps_free (t->seen->name);
        dps_free (t->seen->saved);
    }
    dps_free (t->seen);
    dps_free (t);
}

/* The number in the component at p ("12."), or -1. */
static int64_t number_at (const char *p)
{
    int64_t v = 0;
    size_t digits = strspn (p, "0123456789");
    if (digits == 0 || digits > 9 || p[digits] != '.')
        return -1;
    for (size_t i = 0; i < digits; i++)
        v = v * 10 + (p[i] - '0');
    return v;
}

/* The layer a path belongs to: the first number after a component of layers_pattern (any component when there is none), or -1. */
static int64_t layer_of (const DpsTargets *t, const char *path)
{
    for (const char *dot = strchr (path, '.'); dot; dot = strchr (dot + 1, '.')) {
        int64_t v = number_at (dot + 1);
        if (v < 0)
            continue;
        int fits = t->n_layers_pattern == 0 && memchr (path, '.', (size_t)(dot - path)) != NULL;
        for (size_t i = 0; i < t->n_layers_pattern && !fits; i++) {
            size_t m = strlen (t->layers_pattern[i]), n = (size_t)(dot - path);
            fits = n >= m && !memcmp (dot - m, t->layers_pattern[i], m) && (n == m || dot[-(ptrdiff_t)m - 1] == '.');
        }
        if (fits)
            return v;
    }
    return -1;
}

static int is_excluded (const DpsTargets *t, const char *path)
{
    for (size_t i = 0; i < t->n_exclude; i++)
        if (is_named (path, t->exclude[i]))
            return 1;
    int hit = t->exclude_pattern ? dps_matcher_find (t->exclude_pattern, path, strlen (path)) : 0;
    if (hit < 0)
        t->seen->over_limit = 1;
    for (size_t i = 0; i < t->n_save && !hit; i++)
        hit = is_under (path, t->save[i]);
    return hit != 0;
}

static int in_wanted_layer (const DpsTargets *t, const char *path)
{
    if (t->n_layers == 0)
        return 1;
    int64_t layer = layer_of (t, path);
    for (size_t i = 0; i < t->n_layers; i++)
        if (layer >= 0 && t->layers[i] == layer)
            return 1;
    return 0;
}

static int is_head_or_embedding (const char *path)
{
    static const char *const names[] = {"lm_head", "score", "classifier", "embed_tokens"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (is_named (path, names[i]))
            return 1;
    return 0;
}

int dps_targets_match (const DpsTargets *t, const char *path)
{
    int hit = 0;
    if (strlen (path) > MAX_PATH || is_excluded (t, path))
        return 0;
    if (t->all_linear)
        hit = !is_head_or_embedding (path);
    else if (t->pattern)
        hit = dps_matcher_find (t->pattern, path, strlen (path));
    int wanted = t->n_modules && in_wanted_layer (t, path);
    for (size_t i = 0; i < t->n_modules; i++)
        if (wanted ? is_named (path, t->modules[i]) : !strcmp (path, t->modules[i]))
            hit = t->seen->name[i] = 1;
    if (hit < 0)
        t->seen->over_limit = 1;
    t->seen->n_matched += hit > 0;
    return hit > 0;
}

int dps_targets_saves (const DpsTargets *t, const char *path)
{
    int hit = 0;
    for (size_t i = 0; i < t->n_save; i++)
        if ((!hit || !t->seen->saved[i]) && is_saved_by (path, t->save[i]))
            hit = t->seen->saved[i] = 1;
    return hit;
}

int dps_targets_saved (const DpsTargets *t, size_t i) { return t->seen->saved[i]; }

/* The embedding and the head are no maps that an adapter goes on: they can be trained whole. */
static DpsStatus refuse_name (const DpsTargets *t, const char *name, DpsError *err)
{
    dps_fail (err, DPS_ERR_USAGE, "%s: '%.100s' matches no linear map of this model", t->where, name);
    if (is_head_or_embedding (name))
        dps_error_hint (err, "an adapter goes on linear maps alone: name it in lora_modules_to_save, which trains it whole");
    else
        dps_error_hint (err, "all-linear, or names among " DPS_LINEAR_NAMES);
    return DPS_ERR_USAGE;
}

DpsStatus dps_targets_check (const DpsTargets *t, DpsError *err)
{
    if (t->seen->over_limit)
        return dps_fail (err, DPS_ERR_LIMIT,
                         "%s: the regular expression needs more than %d steps on one module path; write it without nested repetitions",
                         t->where, DPS_MATCHER_STEPS);
    for (size_t i = 0; i < t->n_modules; i++)
        if (!t->seen->name[i])
            return refuse_name (t, t->modules[i], err);
    if (t->seen->n_matched == 0 && (t->pattern || t->all_linear))
        return dps_fail (err, DPS_ERR_USAGE,
                         "%s: no module of this model matches. Hint: an expression must match the whole path, as in "
                         "'.*\\.(q|v)_proj'",
                         t->where);
    return DPS_OK;
}

DpsStatus dps_pattern_map_new (const json_t *object, const char *where, double min, double max, DpsPatternMap **out, DpsError *err)
{
    const char *key;
    json_t *value;
    if (object && !json_is_object (object))
        return dps_fail (err, DPS_ERR_USAGE, "%s: expected an object of module patterns and numbers", where);
    size_t n = json_object_size (object);
    DpsMatcherOptions one = ending;
    /* The steps are those of a module, shared among the keys. */
    one.steps = n > DPS_MATCHER_STEPS / LEAST_STEPS ? LEAST_STEPS : DPS_MATCHER_STEPS / (uint32_t)(n ? n : 1);
    if (n > MAX_NAMES)
        return dps_fail (err, DPS_ERR_LIMIT, "%s: %zu entries; at most %d are allowed", where, n, MAX_NAMES);
    DpsPatternMap *m = dps_calloc (1, sizeof *m);
    DpsStatus st = DPS_OK;
    if (!m || !(m->keys = dps_calloc (n, sizeof *m->keys)) || !(m->values = dps_calloc (n, sizeof *m->values)) ||
        !(m->used = dps_calloc (n, 1)))
        st = dps_fail (err, DPS_ERR_NOMEM, "%s: out of memory", where);
    json_object_foreach ((json_t *)object, key, value) {
        if (st != DPS_OK)
            break;
        double v = json_is_number (value) ? json_number_value (value) : min - 1;
        if (!(v >= min && v <= max))
            st = dps_fail (err, DPS_ERR_USAGE, "%s: '%.100s': expected a number from %g to %g", where, key, min, max);
        else
            st = dps_matcher_new (key, &one, where, &m->keys[m->n], err);
        if (st == DPS_OK)
            m->values[m->n++] = v;
    }
    if (st != DPS_OK) {
        dps_pattern_map_free (m);
        return st;
    }
    *out = m;
    return DPS_OK;
}

void dps_pattern_map_free (DpsPatternMap *m)
{
    if (!m)
        return;
    for (size_t i = 0; i < m->n; i++)
        dps_matcher_free (m->keys[i]);
    dps_free (m->keys);
    dps_free (m->values);
    dps_free (m->used);
    dps_free (m);
}

double dps_pattern_map_get (const DpsPatternMap *m, const char *path, double fallback)
{
    for (size_t i = 0; m && i < m->n; i++) {
        int hit = dps_matcher_find (m->keys[i], path, strlen (path));
        if (hit)
            m->used[i] = 1;
        if (hit)
            return hit > 0 ? m->values[i] : NAN;
    }
    return fallback;
}

DpsStatus dps_pattern_map_check (const DpsPatternMap *m, const json_t *object, const char *where, DpsError *err)
{
    const char *key;
    json_t *value;
    size_t i = 0;
    json_object_foreach ((json_t *)object, key, value) {
        if (m && i < m->n && !m->used[i++])
            return dps_fail (err, DPS_ERR_USAGE,
                             "%s: '%.100s' is the pattern of no module that has an adapter, or an earlier one takes all of its modules. "
                             "Hint: names among " DPS_LINEAR_NAMES,
                             where, key);
    }
    return DPS_OK;
}
