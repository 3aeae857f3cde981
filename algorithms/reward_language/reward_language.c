/* SPDX-License-Identifier: Apache-2.0 */
/*
 * reward_language.c: French or English? Words that only one of the two has count for it: some hundred of the most frequent function words of
 * each, none of which the other uses; and any word with a letter that English does not write (é è ê à ç ù œ …) counts for French.
 *
 *     share = (evidence for the wanted language) / (all evidence)        reward: share, or with `decide` 1 when it is above 1/2, else 0
 *
 * Fewer than min_evidence such words: not judged. Case does not count; U+2019 is an apostrophe; l' d' qu' n' j' s' c' m' t' are words of their own.
 */
#include <string.h>

#include "base/fold.h"
#include "base/json.h"
#include "base/judge.h"
#include "diapason/sdk.h"

static const DpsParam language =
    DPS_SDK_PARAM ("language", DPS_PARAM_STR, 0, 0, 0, "prompt|fr|en|column", "what is wanted; prompt: the prompt's own language");
static const DpsParam column =
    DPS_SDK_PARAM ("column", DPS_PARAM_STR, 0, 0, 0, NULL, "language: column: the column that says fr or en (lang)");
static const DpsParam decide = DPS_SDK_PARAM ("decide", DPS_PARAM_BOOL, 1, 0, 1, NULL, "1 or 0 instead of the share of evidence");
static const DpsParam least = DPS_SDK_PARAM ("min_evidence", DPS_PARAM_I64, 1, 1, 1e6, NULL, "with fewer telling words nothing is said");
static const DpsParam *const params[] = {&language, &column, &decide, &least};
enum { LANGUAGE, COLUMN, DECIDE, LEAST, N_PARAMS };
static const char *const criteria[] = {"language"};

static const DpsRewardInfo info = {.size = sizeof info,
                                   .name = "language",
                                   .summary = "the answer is in French or English",
                                   .params = params,
                                   .n_params = N_PARAMS,
                                   .n_criteria = 1,
                                   .criteria = criteria};

/* Sorted by bytes. Left out is what both languages write: on, a, me, comment, son, pour, dans (English names) and the like. */
static const char *const french[] = {
    "afin",     "alors",    "apres",   "assez",    "au",    "aucun", "aussi",  "autre", "aux",     "avec",   "avez",      "avoir",
    "beaucoup", "bien",     "bonjour", "ce",       "cela",  "celle", "celui",  "ces",   "cet",     "cette",  "chaque",    "chez",
    "cliquez",  "dans",     "de",      "depuis",   "des",   "deux",  "doit",   "donc",  "du",      "elle",   "elles",     "encore",
    "entre",    "est",      "et",      "etre",     "faire", "fait",  "il",     "ils",   "je",      "jusqu",  "la",        "le",
    "les",      "leur",     "leurs",   "lorsque",  "lui",   "mais",  "merci",  "mes",   "mon",     "ne",     "nos",       "notre",
    "nous",     "ont",      "ou",      "oui",      "par",   "parce", "pas",    "peut",  "peuvent", "peux",   "plusieurs", "pour",
    "pouvez",   "puis",     "qu",      "quand",    "que",   "quel",  "quelle", "qui",   "quoi",    "salut",  "sans",      "selon",
    "sera",     "ses",      "sont",    "sous",     "suis",  "sur",   "tous",   "tout",  "toute",   "toutes", "trop",      "un",
    "une",      "utiliser", "vers",    "veuillez", "voici", "voila", "voir",   "vos",   "votre",   "vous"};
static const char *const english[] = {
    "about",  "after",  "again",  "all",   "also",    "and",   "any",    "are",   "at",   "be",    "because", "been",    "before",
    "by",     "can",    "cannot", "click", "could",   "did",   "does",   "each",  "for",  "from",  "get",     "had",     "has",
    "have",   "he",     "hello",  "her",   "here",    "his",   "how",    "in",    "into", "is",    "it",      "its",     "like",
    "more",   "most",   "must",   "my",    "no",      "not",   "of",     "off",   "one",  "only",  "open",    "other",   "our",
    "over",   "please", "press",  "same",  "select",  "she",   "should", "so",    "some", "sorry", "such",    "than",    "thank",
    "thanks", "that",   "the",    "their", "them",    "then",  "there",  "these", "they", "this",  "those",   "through", "to",
    "under",  "until",  "up",     "use",   "was",     "way",   "we",     "were",  "what", "when",  "where",   "which",   "while",
    "who",    "why",    "will",   "with",  "without", "would", "yes",    "you",   "your", "yours"};

typedef struct Language {
    char wanted; /* 'f', 'e', 'p' or 'c' */
    char *column;
    int decide;
    uint64_t least;
} Language;

/* Telling words of each. */
typedef struct Evidence {
    uint64_t fr, en;
} Evidence;

static const DpsRewardInfo *describe (void) { return &info; }

static void close_language (void *self)
{
    Language *l = self;
    if (l)
        dps_free (l->column);
    dps_free (l);
}

static DpsStatus open_language (const double *num, const DpsStr *str, void **out, DpsError *err)
{
    DpsStr name = str[COLUMN].len ? str[COLUMN] : dps_str ("lang");
    Language *l = dps_calloc (1, sizeof *l);
    if (!l || !(l->column = dps_strndup (name.ptr, name.len))) {
        close_language (l);
        return dps_fail (err, DPS_ERR_NOMEM, "out of memory");
    }
    l->wanted = str[LANGUAGE].ptr[0];
    l->decide = num[DECIDE] != 0;
    l->least = (uint64_t)num[LEAST];
    *out = l;
    return DPS_OK;
}

static int is_listed (const char *const *list, size_t n, const char *word, size_t len)
{
    size_t low = 0, high = n;
    while (low < high) {
        size_t mid = (low + high) / 2;
        int order = strncmp (list[mid], word, len);
        order = order ? order : list[mid][len] != '\0';
        if (order == 0)
            return 1;
        if (order < 0)
            low = mid + 1;
        else
            high = mid;
    }
    return 0;
}

static void count_word (const char *word, size_t len, int accented, Evidence *e)
{
    if (accented || is_listed (french, sizeof french / sizeof *french, word, len))
        e->fr++;
    else if (is_listed (english, sizeof english / sizeof *english, word, len))
        e->en++;
}

/* Words of ASCII letters. In decomposed text an accent is a mark (U+0300 …) behind its letter; œ and æ stand as they are. */
static void count_words (const char *s, size_t n, Evidence *e)
{
    char word[64];
    size_t len = 0;
    int accented = 0;
    for (size_t at = 0; at <= n; at++) {
        unsigned char c = at < n ? (unsigned char)s[at] : ' ';
        int mark = at + 1 < n && c == 0xcc,
            ligature = at + 1 < n && ((c == 0xc5 && (unsigned char)s[at + 1] == 0x93) || (c == 0xc3 && (unsigned char)s[at + 1] == 0xa6));
        if (c >= 'a' && c <= 'z') {
            word[len < sizeof word - 1 ? len++ : len] = (char)c;
        } else if ((mark && len) || ligature) {
            accented = 1;
            at++;
        } else {
            word[len] = '\0';
            if (len || accented)
                count_word (word, len, accented, e);
            len = 0;
            accented = 0;
        }
    }
}

static DpsStatus count (DpsStr text, Evidence *out, DpsError *err)
{
    DpsBuf folded = {0};
    *out = (Evidence){0};
    int bad = dps_fold (text, DPS_FOLD_CASE, &folded);
    if (!bad)
        count_words (folded.data, folded.len, out);
    dps_buf_free (&folded);
    return bad ? dps_fail (err, DPS_ERR_NOMEM, "out of memory") : DPS_OK;
}

/* 'f', 'e', or 0: the row does not say. */
static DpsStatus find_wanted (const Language *l, const DpsRewardRow *row, char *out, DpsError *err)
{
    json_t *said = NULL;
    Evidence e;
    *out = l->wanted;
    if (l->wanted == 'p') {
        DPS_TRY (count (row->prompt, &e, err));
        *out = e.fr > e.en ? 'f' : e.en > e.fr ? 'e' : 0;
    }
    if (l->wanted != 'c')
        return DPS_OK;
    *out = 0;
    DpsStatus st = dps_judge_column (row, l->column, &said, err);
    if (st == DPS_ERR_NOT_FOUND)
        return DPS_OK;
    DPS_TRY (st);
    const char *name = json_string_value (said);
    if (name && (!strncmp (name, "fr", 2) || !strncmp (name, "en", 2)))
        *out = name[0];
    json_decref (said);
    return *out ? DPS_OK : dps_fail (err, DPS_ERR_INVALID, "column '%s' is not fr or en", l->column);
}

static DpsStatus judge (void *self, const DpsRewardRow *row, double *out, uint32_t *status, DpsError *err)
{
    const Language *l = self;
    char wanted;
    Evidence e;
    DPS_TRY (find_wanted (l, row, &wanted, err));
    DPS_TRY (count (row->completion, &e, err));
    if (!wanted || e.fr + e.en < l->least) {
        *status = DPS_SCORE_NOT_JUDGED;
        return DPS_OK;
    }
    double share = (double)(wanted == 'f' ? e.fr : e.en) / (double)(e.fr + e.en);
    *out = l->decide ? share > 0.5 : share;
    return DPS_OK;
}

static DpsStatus score (void *self, const DpsRewardRow *const *rows, uint64_t n_rows, int64_t deadline_ms, double *value, uint32_t *status,
                        double *const *token_values, DpsError *err)
{
    return dps_judge_rows (judge, self, rows, n_rows, deadline_ms, value, status, token_values, err);
}

static const DpsReward reward = {
    .size = sizeof reward, .describe = describe, .open = open_language, .score = score, .close = close_language};

DPS_PLUGIN_ONE (DPS_REWARD_ID, reward);
