/* SPDX-License-Identifier: Apache-2.0 */
/* read.c: one key's node into its field: type, range, choice. */
#include <glib.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "recipe/internal.h"

enum { TEXT_MAX = 16384 };

static DpsStatus expected (const DpsRecipeReader *in, const DpsYaml *n, const char *key, const char *what)
{
    char found[128];
    static const char *const old_booleans[] = {"yes", "Yes", "YES", "on", "On", "ON", "no", "No", "NO", "off", "Off", "OFF", NULL};
    const char *hint = "";
    if (n->type == DPS_YAML_SCALAR && !strcmp (what, "true or false"))
        for (int i = 0; old_booleans[i]; i++)
            if (!strcmp (n->text, old_booleans[i]))
                hint = " (in YAML 1.2 yes, no, on and off are words)";
    if (n->type == DPS_YAML_SCALAR && strstr (what, "number")) {
        const DpsYaml unquoted = {.type = DPS_YAML_SCALAR, .plain = 1, .text = n->text};
        double number;
        if (!n->plain && dps_yaml_number (&unquoted, &number))
            hint = ": remove the quotes";
        else if (strchr (n->text, '_'))
            hint = ": write digits without '_'";
    }
    return dps_yaml_fail (n, in->err, "%s: expected %s, found %s%s", key, what, dps_yaml_describe (n, found, sizeof found), hint);
}

static DpsStatus no_memory (const DpsRecipeReader *in, const DpsYaml *n)
{
    return dps_fail (in->err, DPS_ERR_NOMEM, "%s: out of memory", n->where);
}

DpsStatus dps__read_text (const DpsRecipeReader *in, const DpsYaml *n, const char *key, char **out)
{
    int boolean;
    *out = NULL;
    if (dps_yaml_is_null (n))
        return DPS_OK;
    if (n->type != DPS_YAML_SCALAR)
        return expected (in, n, key, "a word");
    if (dps_yaml_bool (n, &boolean))
        return dps_yaml_fail (n, in->err, "%s: expected a word, found the boolean %s: quote it if it is a name", key, n->text);
    if (strstr (n->text, "${"))
        return dps_yaml_fail (n, in->err, "%s: variables are not expanded in a recipe: write the value out, or use --set %s=…", key, key);
    if (strlen (n->text) > TEXT_MAX)
        return dps_yaml_fail (n, in->err, "%s: a text of %zu bytes, at most %d are read", key, strlen (n->text), TEXT_MAX);
    *out = dps_strdup (n->text);
    return *out ? DPS_OK : no_memory (in, n);
}

/* "~/x" → "$HOME/x"; else a copy. */
static char *expand_home (const char *path)
{
    const char *home = g_getenv ("HOME");
    if (path[0] != '~' || (path[1] && path[1] != '/') || !home)
        return dps_strdup (path);
    return dps_strf ("%s%s", home, path + 1);
}

DpsStatus dps__read_path (const DpsRecipeReader *in, const DpsYaml *n, const char *key, char **out)
{
    char *text = NULL;
    *out = NULL;
    DPS_TRY (dps__read_text (in, n, key, &text));
    if (!text)
        return DPS_OK;
    if (!*text) {
        dps_free (text);
        return dps_yaml_fail (n, in->err, "%s: the path is empty", key);
    }
    char *path = expand_home (text);
    dps_free (text);
    if (!path)
        return no_memory (in, n);
    /* What the recipe's author wrote lies beside the recipe; what somebody types lies where they are. */
    if (in->folder && n->line && path[0] != '/') {
        char *beside = dps_path_join (in->folder, path);
        if (!beside) {
            dps_free (path);
            return no_memory (in, n);
        }
        int found = access (beside, F_OK) == 0;
        dps_free (found ? path : beside);
        path = found ? beside : path;
    }
    *out = path;
    return DPS_OK;
}

/* A folder or file that will be written. A recipe may come from a stranger, so it cannot climb out of where it is run. */
static DpsStatus read_out (const DpsRecipeReader *in, const DpsYaml *n, const char *key, char **out)
{
    char *text = NULL;
    *out = NULL;
    DPS_TRY (dps__read_text (in, n, key, &text));
    if (!text)
        return DPS_OK;
    int climbs = 0;
    for (const char *s = text; *s; s += strcspn (s, "/"), s += *s == '/')
        climbs |= !strncmp (s, "..", 2) && (!s[2] || s[2] == '/');
    DpsStatus st = DPS_OK;
    if (!*text)
        st = dps_yaml_fail (n, in->err, "%s: the path is empty", key);
    else if (climbs && n->line)
        st = dps_yaml_fail (n, in->err, "%s: '%.200s' climbs with '..': write the whole path, or use --set %s=…", key, text, key);
    else if (!(*out = expand_home (text)))
        st = no_memory (in, n);
    dps_free (text);
    return st;
}

static DpsStatus read_resume (const DpsRecipeReader *in, const DpsYaml *n, const char *key, char **out)
{
    int boolean;
    if (!dps_yaml_bool (n, &boolean))
        return n->text && !strcmp (n->text, "auto") ? dps__read_text (in, n, key, out) : dps__read_path (in, n, key, out);
    *out = boolean ? dps_strdup ("auto") : NULL;
    return *out || !boolean ? DPS_OK : no_memory (in, n);
}

static DpsStatus read_int (const DpsRecipeReader *in, const DpsYaml *n, const DpsKey *key, int64_t *out)
{
    int64_t value;
    double number;
    char what[128], low[32], high[32];
    snprintf (low, sizeof low, "%.0f", key->min);
    snprintf (high, sizeof high, "%.0f", key->max);
    snprintf (what, sizeof what, "a whole number from %s to %s", low, high);
    if (dps_yaml_is_null (n)) {
        *out = (int64_t)key->none;
        return DPS_OK;
    }
    /* 1e3 is a whole number too. */
    if (!dps_yaml_int (n, &value)) {
        if (!dps_yaml_number (n, &number) || !(number >= key->min && number <= key->max) || number != (double)(int64_t)number)
            return expected (in, n, key->name, what);
        value = (int64_t)number;
    }
    if ((double)value < key->min || (double)value > key->max)
        return expected (in, n, key->name, what);
    *out = value;
    return DPS_OK;
}

static DpsStatus read_number (const DpsRecipeReader *in, const DpsYaml *n, const DpsKey *key, double *out)
{
    char what[128];
    double value;
    if (dps_yaml_is_null (n))
        return DPS_OK;
    snprintf (what, sizeof what, "a number from %.10g to %.10g", key->min, key->max);
    if (!dps_yaml_number (n, &value) || !(value >= key->min && value <= key->max))
        return expected (in, n, key->name, what);
    *out = value;
    return DPS_OK;
}

/* "x=choice" in the list of synonyms: the choice. */
static const char *synonym_of (const char *list, const char *word, size_t *out_len)
{
    size_t len = strlen (word);
    for (const char *s = list; s && *s; s += *s == '|') {
        size_t n = strcspn (s, "|");
        if (n > len + 1 && s[len] == '=' && !memcmp (s, word, len)) {
            *out_len = n - len - 1;
            return s + len + 1;
        }
        s += n;
    }
    return NULL;
}

/* The static copy of a choice, so that readers may keep it. */
static const char *intern_choice (const char *choices, const char *word, size_t len)
{
    if (!dps__word_in (choices, word, len))
        return NULL;
    char *copy = g_strndup (word, len);
    const char *kept = g_intern_string (copy);
    g_free (copy);
    return kept;
}

static DpsStatus read_choice (const DpsRecipeReader *in, const DpsYaml *n, const DpsKey *key, const char **out)
{
    char *text = NULL, what[512];
    size_t len = 0;
    DPS_TRY (dps__read_text (in, n, key->name, &text));
    if (!text)
        return DPS_OK;
    const char *meant = synonym_of (key->synonyms, text, &len);
    const char *choice = meant ? intern_choice (key->choices, meant, len) : intern_choice (key->choices, text, strlen (text));
    DpsStatus st = DPS_OK;
    if (choice)
        *out = choice;
    else if (dps__word_in (key->later, text, strlen (text)))
        st = dps_yaml_fail (n, in->err, "%s: %s is not implemented in this version; there are: %s", key->name, text, key->choices);
    else {
        snprintf (what, sizeof what, "one of %s", key->choices);
        st = expected (in, n, key->name, what);
    }
    dps_free (text);
    return st;
}

typedef DpsStatus (*ReadWord) (const DpsRecipeReader *in, const DpsYaml *n, const char *key, char **out);

/* One or several, each read by `read`. */
static DpsStatus read_words (const DpsRecipeReader *in, const DpsYaml *n, const char *key, ReadWord read, DpsStrings *out)
{
    size_t count = 0, i = 0;
    for (const DpsYaml *item = n->first; item; item = item->next)
        count++;
    if (n->type == DPS_YAML_MAP)
        return expected (in, n, key, "a word or a list of words");
    for (size_t k = 0; k < out->n; k++)
        dps_free (out->items[k]);
    dps_free (out->items);
    memset (out, 0, sizeof *out);
    if (dps_yaml_is_null (n))
        return DPS_OK;
    out->one = n->type == DPS_YAML_SCALAR;
    if (!(out->items = dps_calloc (out->one ? 1 : count, sizeof *out->items)))
        return no_memory (in, n);
    if (out->one) {
        out->n = 1;
        return read (in, n, key, &out->items[0]);
    }
    for (const DpsYaml *item = n->first; item; item = item->next, i++) {
        if (dps_yaml_is_null (item))
            return expected (in, item, key, "a word");
        DPS_TRY (read (in, item, key, &out->items[i]));
        out->n = i + 1;
    }
    return DPS_OK;
}

static DpsStatus read_numbers (const DpsRecipeReader *in, const DpsYaml *n, const char *key, DpsNumbers *out)
{
    out->n = 0;
    if (dps_yaml_is_null (n))
        return DPS_OK;
    const DpsYaml *item = n->type == DPS_YAML_LIST ? n->first : n;
    for (; item; item = n->type == DPS_YAML_LIST ? item->next : NULL) {
        if (DPS_GROW (out->items, out->n, out->capacity))
            return no_memory (in, n);
        if (!dps_yaml_number (item, &out->items[out->n]) || !isfinite (out->items[out->n]))
            return expected (in, item, key, "a number, or a list of numbers");
        out->n++;
    }
    return DPS_OK;
}

static DpsStatus read_object (const DpsRecipeReader *in, const DpsYaml *n, const char *key, json_t **out)
{
    if (dps_yaml_is_null (n))
        return DPS_OK;
    if (n->type != DPS_YAML_MAP)
        return expected (in, n, key, "a map");
    return dps_yaml_json (n, out, in->err);
}

/* A parameter of the objective: its plugin checks the value. */
static DpsStatus read_param (const DpsRecipeReader *in, const DpsYaml *n, const DpsKey *key)
{
    json_t *value = NULL, **all = &in->recipe->params;
    if (dps_yaml_is_null (n))
        return DPS_OK;
    if (n->type != DPS_YAML_SCALAR)
        return expected (in, n, key->name, "a word or a number");
    DPS_TRY (dps_yaml_json (n, &value, in->err));
    if (!*all && !(*all = json_object ())) {
        json_decref (value);
        return no_memory (in, n);
    }
    return json_object_set_new (*all, key->name, value) ? no_memory (in, n) : DPS_OK;
}

/* A key at which only one value does what the reader means. */
static DpsStatus read_fixed (const DpsRecipeReader *in, const DpsYaml *n, const DpsKey *key)
{
    int value;
    if (dps_yaml_is_null (n))
        return DPS_OK;
    if (!dps_yaml_bool (n, &value))
        return expected (in, n, key->name, "true or false");
    if (value == (int)key->def)
        return DPS_OK;
    return dps_yaml_fail (n, in->err, "%s: %s is not implemented in this version: %s", key->name, n->text, key->help);
}

static DpsStatus read_later (const DpsRecipeReader *in, const DpsYaml *n, const DpsKey *key)
{
    if (dps_yaml_is_null (n))
        return DPS_OK;
    return dps_yaml_fail (n, in->err, "key %s is not implemented in this version (%s): remove it", key->name, key->help);
}

static DpsStatus read_bool (const DpsRecipeReader *in, const DpsYaml *n, const DpsKey *key, int *out)
{
    if (dps_yaml_is_null (n)) {
        *out = (int)key->def;
        return DPS_OK;
    }
    return dps_yaml_bool (n, out) ? DPS_OK : expected (in, n, key->name, "true or false");
}

DpsStatus dps__read_key (const DpsRecipeReader *in, const DpsYaml *n, DpsKeyId id)
{
    const DpsKey *key = &dps__keys[id];
    void *field = (char *)in->recipe + key->offset;
    char *text = NULL;
    DpsStatus st = DPS_OK;
    switch (key->type) {
    case DPS_KEY_BOOL: return read_bool (in, n, key, field);
    case DPS_KEY_INT: return read_int (in, n, key, field);
    case DPS_KEY_NUM: return read_number (in, n, key, field);
    case DPS_KEY_CHOICE: return read_choice (in, n, key, field);
    case DPS_KEY_NAMES: return read_words (in, n, key->name, dps__read_text, field);
    case DPS_KEY_PATHS: return read_words (in, n, key->name, dps__read_path, field);
    case DPS_KEY_OBJECT: return read_object (in, n, key->name, field);
    case DPS_KEY_DATASETS: return dps__read_datasets (in, n, key->name, field);
    case DPS_KEY_REWARDS: return dps__read_rewards (in, n, key->name, field);
    case DPS_KEY_NUMBERS: return read_numbers (in, n, key->name, field);
    case DPS_KEY_PARAM: return read_param (in, n, key);
    case DPS_KEY_FIXED: return read_fixed (in, n, key);
    case DPS_KEY_LATER: return read_later (in, n, key);
    case DPS_KEY_TEXT: st = dps__read_text (in, n, key->name, &text); break;
    case DPS_KEY_OUT: st = read_out (in, n, key->name, &text); break;
    case DPS_KEY_PATH:
        st = id == DPS_KEY_resume_from_checkpoint ? read_resume (in, n, key->name, &text) : dps__read_path (in, n, key->name, &text);
        break;
    }
    if (st == DPS_OK && text) { /* null leaves the default */
        dps_free (*(char **)field);
        *(char **)field = text;
    }
    return st;
}
