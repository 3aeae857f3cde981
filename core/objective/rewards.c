/* SPDX-License-Identifier: Apache-2.0 */
#include "objective/rewards.h"

#include <math.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "data/row.h"
#include "plugin/crumb.h"

enum { MAX_PROVIDED = 8 };

/* One entry of reward_funcs, open. */
typedef struct Reward {
    DpsReward table;
    const DpsHostReward *host; /* NULL: a plugin's */
    DpsRewardInfo info;
    void *self;
    int is_open;
    char *label;       /* for messages */
    size_t first;      /* of its criteria */
    uint64_t asked;    /* (row, criterion) since open */
    uint64_t lost;     /* of `asked`: failed or timed out */
    uint64_t next_say; /* of `lost`: when to log again */
    DpsError last;     /* failure that gave a reason */
} Reward;

struct DpsRewardSet {
    Reward *rewards;
    size_t n;
    DpsStr *names;
    double *weights;
    size_t n_criteria;
    DpsRewardCounts counts;
};

static const DpsHostReward *provided[MAX_PROVIDED];

/* An info's name is read by hand: describe () is a plugin's, and its struct may be shorter than ours. */
static DpsRewardInfo info_of (const DpsReward *table)
{
    DpsRewardInfo info = {.size = sizeof info};
    const DpsRewardInfo *theirs = table->describe ();
    if (theirs)
        dps_table_copy (&info, sizeof info, theirs);
    return info;
}

DpsStatus dps_rewards_provide (const DpsHostReward *reward, DpsError *err)
{
    const char *name = info_of (&reward->table).name;
    for (int i = 0; i < MAX_PROVIDED; i++)
        if (!provided[i] || !strcmp (info_of (&provided[i]->table).name, name)) {
            provided[i] = reward;
            return DPS_OK;
        }
    return dps_fail (err, DPS_ERR_LIMIT, "reward %s: there are %d rewards of the host already", name, (int)MAX_PROVIDED);
}

static const DpsHostReward *find_provided (const char *name)
{
    for (int i = 0; i < MAX_PROVIDED && provided[i]; i++)
        if (!strcmp (info_of (&provided[i]->table).name, name))
            return provided[i];
    return NULL;
}

/* Opening. */

/* "no reward 'lenght'; there are: …": the plugins' names and the host's. */
static DpsStatus missing (const DpsRegistry *reg, const DpsRecipeReward *given, DpsError *err)
{
    const char *words[DPS_CRITERIA_MAX + MAX_PROVIDED + 1] = {NULL};
    const DpsPlugin *plugin = NULL;
    DpsBuf list = {0};
    size_t n = 0;
    for (size_t k = 0; n < DPS_CRITERIA_MAX && dps_registry_nth (reg, DPS_REWARD_ID, k, &plugin); k++)
        words[n++] = plugin->name;
    for (int i = 0; i < MAX_PROVIDED && provided[i]; i++)
        words[n++] = info_of (&provided[i]->table).name;
    for (size_t i = 0; i < n; i++)
        dps_buf_printf (&list, "%s%s", i ? ", " : "", words[i]);
    const char *near = dps_suggest (given->name, words);
    DpsStatus st = dps_fail (err, DPS_ERR_USAGE, "%s: no reward '%s'%s%s%s; there are: %s", given->where, given->name,
                             near ? "; did you mean '" : "", near ? near : "", near ? "'?" : "", list.len ? list.data : "none");
    dps_buf_free (&list);
    return st;
}

static DpsStatus check_info (const Reward *r, const DpsRecipeReward *given, DpsError *err)
{
    const DpsRewardInfo *info = &r->info;
    int bad = !info->name || info->n_criteria < 1 || info->n_criteria > DPS_CRITERIA_MAX || !info->criteria ||
              (info->n_params && !info->params) || info->n_params > DPS_PARAMS_MAX;
    for (uint32_t i = 0; !bad && i < info->n_criteria; i++)
        bad = !info->criteria[i];
    return bad ? dps_fail (err, DPS_ERR_FORMAT, "%s: reward %s describes itself without a name, or not 1 to %d criteria with names",
                           given->where, given->name, (int)DPS_CRITERIA_MAX)
               : DPS_OK;
}

/* A plugin's refusal of its parameters is a mistake in the recipe. */
static DpsStatus refused (const DpsRecipeReward *given, DpsStatus st, DpsError *theirs, DpsError *err)
{
    const char *why = dps_error_said (theirs, st);
    return dps_fail (err, st == DPS_ERR_INVALID ? DPS_ERR_USAGE : theirs->code, "%s: reward %s: %s", given->where, given->name, why);
}

static DpsStatus open_one (const DpsRegistry *reg, const DpsRecipe *recipe, size_t i, Reward *r, DpsError *err)
{
    const DpsRecipeReward *given = &recipe->reward_funcs.items[i];
    const DpsHostReward *host = find_provided (given->name);
    const DpsReward *table = host ? &host->table : dps_registry_get (reg, DPS_REWARD_ID, given->name);
    DpsRewardArgs args = {.recipe = recipe, .i = i};
    double num[DPS_PARAMS_MAX];
    DpsStr str[DPS_PARAMS_MAX];
    DpsError theirs = DPS_ERROR_INIT;
    if (!table)
        return missing (reg, given, err);
    dps_table_copy (&r->table, sizeof r->table, table);
    r->host = host;
    r->info = info_of (table);
    r->next_say = 1;
    DPS_TRY (check_info (r, given, err));
    DPS_TRY (dps_recipe_reward_known (recipe, i, r->info.params, r->info.n_params, err));
    if (!(r->label = dps_strdup (given->label ? given->label : r->info.name)))
        return dps_fail (err, DPS_ERR_NOMEM, "rewards: out of memory");
    DpsStatus st = dps_params_resolve (r->info.name, r->info.params, r->info.n_params, dps_recipe_reward_param, &args, num, str, err);
    if (st == DPS_OK && args.nomem)
        st = dps_fail (err, DPS_ERR_NOMEM, "rewards: out of memory");
    if (st == DPS_OK) {
        dps_crumb_enter (r->label, "open");
        st = host ? host->open (reg, num, str, &r->self, &theirs) : r->table.open (num, str, &r->self, &theirs);
        dps_crumb_leave ();
        r->is_open = st == DPS_OK;
        if (st != DPS_OK)
            st = refused (given, st, &theirs, err);
    }
    dps_recipe_reward_args_clear (&args);
    return st;
}

static int is_taken (const DpsRewardSet *s, DpsStr name)
{
    for (size_t i = 0; i < s->n_criteria; i++)
        if (s->names[i].len == name.len && !memcmp (s->names[i].ptr, name.ptr, name.len))
            return 1;
    return 0;
}

static DpsStatus add_name (DpsRewardSet *s, const char *where, const char *label, const char *criterion, DpsError *err)
{
    char *name = NULL;
    for (int k = 1; k == 1 || is_taken (s, dps_str (name)); k++) {
        dps_free (name);
        name = k == 1 ? dps_strf ("%s%s%s", label, *label && *criterion ? "." : "", criterion)
                      : dps_strf ("%s%s%s_%d", label, *label && *criterion ? "." : "", criterion, k);
        if (!name)
            return dps_fail (err, DPS_ERR_NOMEM, "rewards: out of memory");
    }
    s->names[s->n_criteria++] = dps_str (name);
    return strlen (name) <= DPS_CRITERION_NAME_MAX
               ? DPS_OK
               : dps_fail (err, DPS_ERR_USAGE,
                           "%s: the criterion's name '%.80s' has %zu bytes, at most %d. Hint: give the reward a shorter label", where, name,
                           strlen (name), (int)DPS_CRITERION_NAME_MAX);
}

static DpsStatus name_criteria (DpsRewardSet *s, const DpsRecipe *recipe, DpsError *err)
{
    size_t n = 0;
    for (size_t i = 0; i < s->n; i++)
        n += s->rewards[i].info.n_criteria;
    if (n > DPS_CRITERIA_MAX)
        return dps_fail (err, DPS_ERR_USAGE, "%s: %zu criteria, at most %d", dps_recipe_where (recipe, DPS_KEY_reward_funcs), n,
                         (int)DPS_CRITERIA_MAX);
    s->names = dps_calloc (n, sizeof *s->names);
    s->weights = dps_calloc (n, sizeof *s->weights);
    if (!s->names || !s->weights)
        return dps_fail (err, DPS_ERR_NOMEM, "rewards: out of memory");
    for (size_t i = 0; i < s->n; i++) {
        Reward *r = &s->rewards[i];
        const char *label = recipe->reward_funcs.items[i].label, *where = recipe->reward_funcs.items[i].where;
        r->first = s->n_criteria;
        for (uint32_t c = 0; c < r->info.n_criteria; c++)
            DPS_TRY (r->info.n_criteria == 1 ? add_name (s, where, r->label, "", err)
                                             : add_name (s, where, label ? label : "", r->info.criteria[c], err));
    }
    return DPS_OK;
}

/* `weight` of an entry, or reward_weights: as many as there are rewards (of a reward with several criteria: each), or as criteria. */
static DpsStatus set_weights (DpsRewardSet *s, const DpsRecipe *recipe, DpsError *err)
{
    const DpsNumbers *all = &recipe->reward_weights;
    if (all->n && all->n != s->n && all->n != s->n_criteria)
        return dps_fail (err, DPS_ERR_USAGE, "%s: %zu reward_weights for %zu rewards with %zu criteria",
                         dps_recipe_where (recipe, DPS_KEY_reward_weights), all->n, s->n, s->n_criteria);
    for (size_t i = 0; i < s->n; i++) {
        const DpsRecipeReward *given = &recipe->reward_funcs.items[i];
        if (all->n && !isnan (given->weight))
            return dps_fail (err, DPS_ERR_USAGE, "%s: reward %s has a weight, and reward_weights (%s) gives one too: remove one",
                             given->where, given->name, dps_recipe_where (recipe, DPS_KEY_reward_weights));
        for (size_t c = s->rewards[i].first; c < s->rewards[i].first + s->rewards[i].info.n_criteria; c++) {
            s->weights[c] = all->n ? all->items[all->n == s->n_criteria ? c : i] : isnan (given->weight) ? 1 : given->weight;
            if (!(fabs (s->weights[c]) <= DPS_SCORE_MAX))
                return dps_fail (err, DPS_ERR_USAGE, "%s: reward %s has the weight %g, expected -1e38 to 1e38",
                                 all->n ? dps_recipe_where (recipe, DPS_KEY_reward_weights) : given->where, given->name, s->weights[c]);
        }
    }
    return DPS_OK;
}

DpsStatus dps_rewards_open (const DpsRegistry *reg, const DpsRecipe *recipe, DpsRewardSet **out, DpsError *err)
{
    size_t n = recipe->reward_funcs.n;
    *out = NULL;
    if (!n)
        return DPS_OK;
    DpsRewardSet *s = dps_calloc (1, sizeof *s);
    if (!s || !(s->rewards = dps_calloc (n, sizeof *s->rewards))) {
        dps_free (s);
        return dps_fail (err, DPS_ERR_NOMEM, "rewards: out of memory");
    }
    DpsStatus st = DPS_OK;
    for (s->n = 0; s->n < n && st == DPS_OK; s->n++)
        st = open_one (reg, recipe, s->n, &s->rewards[s->n], err);
    if (st == DPS_OK)
        st = name_criteria (s, recipe, err);
    if (st == DPS_OK)
        st = set_weights (s, recipe, err);
    if (st != DPS_OK) {
        dps_rewards_close (s);
        return st;
    }
    *out = s;
    return DPS_OK;
}

DpsStatus dps_rewards_plan (DpsRewardSet *s, uint64_t tokens, int reserve, uint64_t *out, DpsError *err)
{
    *out = 0;
    for (size_t i = 0; s && i < s->n; i++) {
        const Reward *r = &s->rewards[i];
        uint64_t bytes = 0;
        DpsStatus st = r->host && r->host->plan ? r->host->plan (r->self, tokens, reserve, &bytes, err) : DPS_OK;
        if (st != DPS_OK)
            dps_error_prefix (err, "reward %s", r->label);
        DPS_TRY (st);
        *out += bytes;
    }
    return DPS_OK;
}

void dps_rewards_close (DpsRewardSet *s)
{
    if (!s)
        return;
    for (size_t i = 0; i < s->n; i++) {
        Reward *r = &s->rewards[i];
        if (r->is_open)
            r->table.close (r->self);
        dps_free (r->label);
    }
    for (size_t i = 0; i < s->n_criteria; i++)
        dps_free ((char *)s->names[i].ptr);
    dps_free (s->names);
    dps_free (s->weights);
    dps_free (s->rewards);
    dps_free (s);
}

void dps_rewards_criteria (const DpsRewardSet *s, const DpsStr **out_names, const double **out_weights, size_t *out_n)
{
    if (out_names)
        *out_names = s->names;
    if (out_weights)
        *out_weights = s->weights;
    *out_n = s->n_criteria;
}

DpsRewardCounts dps_rewards_counts (const DpsRewardSet *s) { return s->counts; }

DpsStatus dps_rewards_judged_any (const DpsRewardSet *s, DpsError *err)
{
    for (size_t i = 0; i < s->n; i++) {
        const Reward *r = &s->rewards[i];
        if (r->lost && r->lost == r->asked)
            return dps_fail (err, DPS_ERR_IO, "reward %s: it failed on every answer%s%s", r->label, *r->last.msg ? "; the last time: " : "",
                             r->last.msg);
    }
    return DPS_OK;
}

/* Scoring. */

/* One log line each time the losses doubled. */
static void say_lost (Reward *r, const DpsRewardCounts *now, const char *why)
{
    uint64_t lost = now->failed + now->timed_out;
    r->lost += lost;
    if (lost && *why)
        dps_fail (&r->last, DPS_ERR_IO, "%s", why);
    if (!lost || r->lost < r->next_say)
        return;
    while (r->next_say <= r->lost)
        r->next_say *= 2;
    dps_log (DPS_LOG_WARNING, "reward %s: %llu answers could not be judged so far (in this call %llu failed, %llu timed out)%s%s", r->label,
             (unsigned long long)r->lost, (unsigned long long)now->failed, (unsigned long long)now->timed_out, *why ? ": " : "", why);
}

/* Answers on their way through the rewards of a set. */
typedef struct Scoring {
    const DpsRewardRow *const *rows;
    size_t n_rows, n_criteria;
    double *value;       /* (n_rows, criteria of one reward) what it says */
    uint32_t *status;    /* as value */
    double *values;      /* (n_rows, n_criteria) of all */
    unsigned char *lost; /* (n_rows) a reward failed on it */
    DpsRewardCounts counts;
} Scoring;

static void add_counts (DpsRewardCounts *io, const DpsRewardCounts *more)
{
    io->judged += more->judged;
    io->not_judged += more->not_judged;
    io->failed += more->failed;
    io->timed_out += more->timed_out;
}

/* What one reward said, into its columns. Returns "", or why a value that it gave does not count. */
static const char *take (const Reward *r, Scoring *s, DpsRewardCounts *counts)
{
    const char *why = "";
    size_t n = r->info.n_criteria;
    for (size_t i = 0; i < s->n_rows; i++)
        for (size_t c = 0; c < n; c++) {
            double x = s->value[i * n + c];
            uint32_t st = s->status[i * n + c];
            int ok = st == DPS_SCORE_OK && fabs (x) <= DPS_SCORE_MAX;
            if (st == DPS_SCORE_OK && !ok)
                why = isnan (x) ? "it gave NaN" : "it gave a value beyond ±1e38";
            s->values[i * s->n_criteria + r->first + c] = ok ? x : NAN;
            s->lost[i] |= !ok && st != DPS_SCORE_NOT_JUDGED;
            *(ok                           ? &counts->judged
              : st == DPS_SCORE_NOT_JUDGED ? &counts->not_judged
              : st == DPS_SCORE_TIMEOUT    ? &counts->timed_out
                                           : &counts->failed) += 1;
        }
    return why;
}

static DpsStatus score_one (Reward *r, Scoring *s, DpsError *err)
{
    DpsError theirs = DPS_ERROR_INIT;
    DpsRewardCounts now = {0};
    size_t n = s->n_rows * r->info.n_criteria;
    for (size_t i = 0; i < n; i++) { /* what a reward leaves out, it did not do */
        s->value[i] = NAN;
        s->status[i] = DPS_SCORE_FAILED;
    }
    dps_crumb_enter (r->label, "score");
    DpsStatus st = r->table.score (r->self, s->rows, s->n_rows, 0, s->value, s->status, NULL, &theirs);
    dps_crumb_leave ();
    if (st == DPS_ERR_NOMEM || st == DPS_ERR_CANCELLED)
        return dps_fail (err, st, "reward %s: %s", r->label, dps_error_said (&theirs, st));
    for (size_t i = 0; st != DPS_OK && i < n; i++)
        s->status[i] = st == DPS_ERR_TIMEOUT ? DPS_SCORE_TIMEOUT : DPS_SCORE_FAILED;
    const char *why = take (r, s, &now);
    r->asked += n;
    say_lost (r, &now, st == DPS_OK && (*why || !theirs.msg[0]) ? why : dps_error_said (&theirs, st));
    add_counts (&s->counts, &now);
    return DPS_OK;
}

DpsStatus dps_rewards_score (DpsRewardSet *set, const DpsRewardRow *const *rows, size_t n_rows, int whole, double *values,
                             DpsRewardCounts *out_counts, DpsError *err)
{
    Scoring s = {.rows = rows, .n_rows = n_rows, .n_criteria = set->n_criteria, .values = values};
    s.lost = dps_calloc (n_rows, sizeof *s.lost);
    s.value = dps_malloc (n_rows, s.n_criteria * sizeof *s.value);
    s.status = dps_malloc (n_rows, s.n_criteria * sizeof *s.status);
    DpsStatus st = s.lost && s.value && s.status ? DPS_OK : dps_fail (err, DPS_ERR_NOMEM, "rewards: out of memory for %zu answers", n_rows);
    for (size_t i = 0; i < set->n && st == DPS_OK; i++)
        st = score_one (&set->rewards[i], &s, err);
    for (size_t i = 0; st == DPS_OK && whole && i < n_rows * s.n_criteria; i++)
        if (s.lost[i / s.n_criteria])
            values[i] = NAN;
    dps_free (s.lost);
    dps_free (s.value);
    dps_free (s.status);
    if (st != DPS_OK)
        return st;
    add_counts (&set->counts, &s.counts);
    if (out_counts)
        *out_counts = s.counts;
    return DPS_OK;
}
