/* SPDX-License-Identifier: Apache-2.0 */
/* keys.c: keys.def as a table, looking names up in it, and what a mistyped name was meant to be. */
#include <stdio.h>
#include <string.h>

#include "recipe/internal.h"

#define AT(name) .offset = offsetof (DpsRecipe, name)
const DpsKey dps__keys[DPS_N_KEYS] = {
#define BOOL(n, a, l, d, h) {.type = DPS_KEY_BOOL, .name = #n, .aliases = a, .locked = l, AT (n), .def = d, .help = h},
#define INT(n, a, l, d, none_, lo, hi, h)                                                                                                  \
    {.type = DPS_KEY_INT, .name = #n, .aliases = a, .locked = l, AT (n), .def = d, .none = none_, .min = lo, .max = hi, .help = h},
#define NUM(n, a, l, d, lo, hi, h)                                                                                                         \
    {.type = DPS_KEY_NUM, .name = #n, .aliases = a, .locked = l, AT (n), .def = d, .min = lo, .max = hi, .help = h},
#define TEXT(n, a, l, d, h) {.type = DPS_KEY_TEXT, .name = #n, .aliases = a, .locked = l, AT (n), .text = d, .help = h},
#define CHOICE(n, a, l, d, c, s, later_, h)                                                                                                \
    {.type = DPS_KEY_CHOICE,                                                                                                               \
     .name = #n,                                                                                                                           \
     .aliases = a,                                                                                                                         \
     .locked = l,                                                                                                                          \
     AT (n),                                                                                                                               \
     .text = d,                                                                                                                            \
     .choices = c,                                                                                                                         \
     .synonyms = s,                                                                                                                        \
     .later = later_,                                                                                                                      \
     .help = h},
#define PATH(n, a, l, d, h)  {.type = DPS_KEY_PATH, .name = #n, .aliases = a, .locked = l, AT (n), .text = d, .help = h},
#define OUT(n, a, l, d, h)   {.type = DPS_KEY_OUT, .name = #n, .aliases = a, .locked = l, AT (n), .text = d, .help = h},
#define NAMES(n, a, l, d, h) {.type = DPS_KEY_NAMES, .name = #n, .aliases = a, .locked = l, AT (n), .text = d, .help = h},
#define PATHS(n, a, l, h)    {.type = DPS_KEY_PATHS, .name = #n, .aliases = a, .locked = l, AT (n), .help = h},
#define OBJECT(n, a, l, h)   {.type = DPS_KEY_OBJECT, .name = #n, .aliases = a, .locked = l, AT (n), .help = h},
#define DATASETS(n, a, l, h) {.type = DPS_KEY_DATASETS, .name = #n, .aliases = a, .locked = l, AT (n), .help = h},
#define REWARDS(n, a, l, h)  {.type = DPS_KEY_REWARDS, .name = #n, .aliases = a, .locked = l, AT (n), .help = h},
#define NUMBERS(n, a, l, h)  {.type = DPS_KEY_NUMBERS, .name = #n, .aliases = a, .locked = l, AT (n), .help = h},
#define PARAM(n, a, h)       {.type = DPS_KEY_PARAM, .name = #n, .aliases = a, .locked = 1, .help = h},
#define FIXED(n, a, v, h)    {.type = DPS_KEY_FIXED, .name = #n, .aliases = a, .def = v, .help = h},
#define LATER(n, a, h)       {.type = DPS_KEY_LATER, .name = #n, .aliases = a, .help = h},
#include "recipe/keys.def"
};

int dps__word_in (const char *list, const char *word, size_t len)
{
    for (const char *s = list; s && *s; s += *s == '|') {
        size_t n = strcspn (s, "|");
        if (n == len && !memcmp (s, word, n))
            return 1;
        s += n;
    }
    return 0;
}

int dps__key_find (const char *name)
{
    for (int i = 0; i < DPS_N_KEYS; i++)
        if (!strcmp (dps__keys[i].name, name) || dps__word_in (dps__keys[i].aliases, name, strlen (name)))
            return i;
    return -1;
}

enum { WORD_MAX = 63 };

/* Edits (insert, delete, change, swap neighbours) from a to b; rows of the table are kept three at a time. */
static unsigned distance (const char *a, size_t n_a, const char *b, size_t n_b)
{
    unsigned rows[3][WORD_MAX + 1];
    if (n_a > WORD_MAX || n_b > WORD_MAX)
        return WORD_MAX;
    unsigned *before = rows[0], *above = rows[1], *row = rows[2];
    for (size_t j = 0; j <= n_b; j++)
        above[j] = (unsigned)j;
    for (size_t i = 1; i <= n_a; i++) {
        row[0] = (unsigned)i;
        for (size_t j = 1; j <= n_b; j++) {
            unsigned best = above[j - 1] + (a[i - 1] != b[j - 1]);
            best = above[j] + 1 < best ? above[j] + 1 : best;
            best = row[j - 1] + 1 < best ? row[j - 1] + 1 : best;
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] && before[j - 2] + 1 < best)
                best = before[j - 2] + 1;
            row[j] = best;
        }
        unsigned *oldest = before;
        before = above;
        above = row;
        row = oldest;
    }
    return above[n_b];
}

/* A word may be wrong in a third of its letters, three at most. */
static unsigned tolerance (size_t len) { return len < 3 ? 0 : len < 5 ? 1 : len < 9 ? 2 : 3; }

const char *dps_suggest (const char *word, const char *const *words)
{
    const char *best = NULL;
    unsigned least = tolerance (strlen (word)) + 1;
    for (; *words; words++) {
        unsigned d = distance (word, strlen (word), *words, strlen (*words));
        if (d < least) {
            least = d;
            best = *words;
        }
    }
    return best;
}

const char *dps__key_hint (const char *name, char *buf, size_t cap)
{
    size_t len = strlen (name);
    unsigned least = tolerance (len) + 1;
    snprintf (buf, cap, ". Hint: a plugin's own parameters go under objective_args or adapter_args");
    for (int i = 0; i < DPS_N_KEYS; i++) {
        const char *s = dps__keys[i].name, *rest = dps__keys[i].aliases;
        for (size_t n = strlen (s); n; n = strcspn (s = rest, "|")) {
            unsigned d = distance (name, len, s, n);
            if (d < least && (least = d) < WORD_MAX)
                snprintf (buf, cap, "; did you mean '%.*s'?", (int)n, s);
            if (s == rest)
                rest += n + (rest[n] == '|');
        }
    }
    return buf;
}

int dps_recipe_has_key (const char *name) { return dps__key_find (name) >= 0; }

const char *dps_recipe_key_name (DpsKeyId key) { return (unsigned)key < DPS_N_KEYS ? dps__keys[key].name : "?"; }
