/* SPDX-License-Identifier: Apache-2.0 */
/* chain.c: the rows of later stages are looked for; then for each: merge what it starts from, train, note the digest of what it left. */
#include "train/chain.h"

#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/seal.h"
#include "ckpt/checkpoint.h"
#include "data/dataset.h"
#include "train/critic.h"
#include "train/merge.h"

typedef struct Run {
    const DpsRegistry *reg;
    const DpsChain *c;
    const DpsChainOptions *o;
    DpsChainDone *done; /* [c->n] */
} Run;

static void tell (const Run *run, size_t i, DpsChainEvent event, const DpsTrainResult *result)
{
    if (run->o->stage)
        run->o->stage (run->o->train.ctx, run->c, i, event, result);
}

static DpsStatus seal_digest (const char *folder, DpsDigest *out, DpsError *err)
{
    char *path = dps_path_join (folder, DPS_SEAL_NAME);
    DpsStatus st = path ? dps_sha256_file (path, out, err) : dps_fail (err, DPS_ERR_NOMEM, "%s: out of memory", folder);
    dps_free (path);
    return st;
}

static DpsStatus changed (DpsStatus st, const char *folder, DpsError *err)
{
    if (st != DPS_ERR_NOT_FOUND && st != DPS_ERR_DIGEST)
        return st;
    dps_error_prefix (err, "%s no longer holds what the chain left there", folder);
    dps_error_hint (err, "put it back, or train without --resume into another output_dir");
    return dps_error_recode (err, DPS_ERR_LOCK);
}

/* The folder is sealed by the seal with this digest, and all that was sealed is there, with its bytes. */
static DpsStatus check_sealed (const char *folder, const DpsDigest *sealed, DpsError *err)
{
    DpsDigest now;
    DpsStatus st = seal_digest (folder, &now, err);
    if (st == DPS_OK && strcmp (now.hex, sealed->hex) != 0)
        st = dps_fail (err, DPS_ERR_DIGEST, "another run's " DPS_SEAL_NAME);
    else if (st == DPS_OK)
        st = dps_seal_check_whole (folder, err);
    return changed (st, folder, err);
}

/* What a finished stage left: its adapter or model, and beside it the value model that it trained. */
static DpsStatus check_result (const DpsRecipe *r, const DpsDigest *result, DpsError *err)
{
    DPS_TRY (check_sealed (r->output_dir, result, err));
    if (!r->value_model)
        return DPS_OK;
    char *folder = dps_path_join (r->output_dir, DPS_CRITIC_FOLDER);
    DpsStatus st = folder ? changed (dps_seal_check_whole (folder, err), folder, err)
                          : dps_fail (err, DPS_ERR_NOMEM, "%s: out of memory", r->output_dir);
    dps_free (folder);
    return st;
}

static DpsStatus merge (const Run *run, size_t i, DpsError *err)
{
    const DpsChainStage *s = &run->c->stages[i];
    const DpsRecipe *from = run->c->stages[s->from].recipe;
    DpsDigest *merged = &run->done[i].merged;
    const DpsSessionOptions o = {.model = from->model_name_or_path,
                                 .adapter = from->output_dir,
                                 .frozen = (const char *const *)from->frozen_adapters.items,
                                 .n_frozen = from->frozen_adapters.n};
    DpsMergeOptions how = {.progress = run->o->merging};
    for (size_t k = 0; k < i && !merged->hex[0]; k++) /* an earlier stage starts from the same */
        if (run->c->stages[k].merged && !strcmp (run->c->stages[k].merged, s->merged))
            *merged = run->done[k].merged;
    if (merged->hex[0])
        return check_sealed (s->merged, merged, err);
    tell (run, i, DPS_CHAIN_MERGES, NULL);
    DPS_TRY (dps_merge_dtype (run->reg, o.model, s->dtype, &how.dtype, err));
    DPS_TRY (dps_merge (run->reg, &o, &how, s->merged, err));
    DPS_TRY (seal_digest (s->merged, merged, err));
    return dps_chain_lock_write (run->c, run->done, err);
}

static DpsStatus run_stage (const Run *run, size_t i, DpsError *err)
{
    const DpsChainStage *s = &run->c->stages[i];
    DpsDigest *result = &run->done[i].result;
    if (s->merged)
        DPS_TRY (merge (run, i, err));
    if (result->hex[0]) {
        DPS_TRY (check_result (s->recipe, result, err));
        DPS_TRY (dps_train_unchanged (run->reg, s->recipe, err));
        tell (run, i, DPS_CHAIN_FINISHED, NULL);
        return DPS_OK;
    }
    DpsTrainOptions o = run->o->train;
    DpsTrainResult out;
    o.resume = run->o->resume ? "auto" : NULL;
    tell (run, i, DPS_CHAIN_STARTS, NULL);
    DpsStatus st = dps_train (run->reg, s->recipe, &o, &out, err);
    if (st == DPS_OK)
        st = seal_digest (s->recipe->output_dir, result, err);
    if (st == DPS_OK)
        st = dps_chain_lock_write (run->c, run->done, err);
    if (st == DPS_OK)
        tell (run, i, DPS_CHAIN_ENDS, &out);
    dps_free (out.output_dir);
    return st;
}

/* The lock is written before the first stage: where a stage has left something, it was there. */
static DpsStatus check_none_left (const DpsChain *c, DpsError *err)
{
    for (size_t i = 0; i < c->n; i++)
        if (dps_is_dir (c->stages[i].recipe->output_dir))
            return dps_fail (
                err, DPS_ERR_LOCK,
                "%s is missing, and %s is there: it says which stages are finished, and with what. Hint: put it back, or train "
                "without --resume into another output_dir",
                c->lock, c->stages[i].recipe->output_dir);
    return DPS_OK;
}

/* What there is of the chain, or nothing where it begins anew. */
static DpsStatus read_lock (const Run *run, DpsError *err)
{
    int found;
    if (!run->o->resume && run->c->overwrite)
        return DPS_OK;
    DPS_TRY (dps_chain_lock_read (run->c, run->done, &found, err));
    if (run->o->resume)
        return found ? DPS_OK : check_none_left (run->c, err);
    if (!found)
        return DPS_OK;
    return dps_fail (err, DPS_ERR_USAGE,
                     "%s: the chain has begun. Hint: --resume goes on with it; --set output_dir=… starts another; "
                     "--set overwrite_output_dir=true starts it anew",
                     run->c->lock);
}

/* path is, or lies in, a folder that a stage of the chain writes. */
static int comes_later (const DpsChain *c, const char *path)
{
    for (size_t k = 0; path && k < c->n; k++) {
        size_t n = strlen (c->stages[k].recipe->output_dir);
        if (!strncmp (path, c->stages[k].recipe->output_dir, n) && (path[n] == '/' || !path[n]))
            return 1;
    }
    return 0;
}

/* The rows of the stages that come later are there: a missing file is said now, not after hours. The next stage opens its own at once. */
static DpsStatus check_rows (const Run *run, DpsError *err)
{
    size_t next = 0;
    while (next < run->c->n && run->done[next].result.hex[0])
        next++;
    for (size_t i = next + 1; i < run->c->n; i++) {
        const DpsRecipe *r = run->c->stages[i].recipe;
        for (int eval = 0; eval < 2; eval++) {
            const DpsRecipeDatasets *sets = eval ? &r->eval_datasets : &r->datasets;
            DpsDataset *rows = NULL;
            size_t later = 0;
            for (size_t k = 0; k < sets->n; k++)
                later += (size_t)comes_later (run->c, sets->items[k].path);
            if (!sets->n || later)
                continue;
            DpsStatus st = dps_dataset_from_recipe (r, eval, &rows, err);
            dps_dataset_close (rows);
            if (st != DPS_OK) {
                dps_error_prefix (err, "stage '%s'", run->c->stages[i].name);
                return st;
            }
        }
    }
    return DPS_OK;
}

/* A chain that starts anew leaves nothing of the old one for a later --resume to find. */
static DpsStatus clear (const Run *run, DpsError *err)
{
    for (size_t i = 0; !run->o->resume && run->c->overwrite && i < run->c->n; i++)
        DPS_TRY (dps_ckpt_clear (run->c->stages[i].recipe->output_dir, err));
    return DPS_OK;
}

/* The folder of the chain, held, without what a killed process left of its lock; and its lock. */
static DpsStatus enter (const Run *run, int *out_held, DpsError *err)
{
    char *folder = dps_strndup (run->c->lock, strlen (run->c->lock) - strlen (DPS_CHAIN_LOCK));
    DpsStatus st = folder ? DPS_OK : dps_fail (err, DPS_ERR_NOMEM, "%s: out of memory", run->c->file);
    if (st == DPS_OK && !run->c->overwrite)
        st = dps_ckpt_check_own (folder, err);
    if (st == DPS_OK)
        st = dps_mkdirs (folder, err);
    if (st == DPS_OK)
        st = dps_dir_hold (folder, out_held, err);
    if (st == DPS_OK)
        st = dps_ckpt_sweep (folder, err);
    dps_free (folder);
    return st == DPS_OK ? dps_chain_lock_write (run->c, run->done, err) : st;
}

static DpsStatus run_stages (const Run *run, DpsError *err)
{
    DpsStatus st = clear (run, err);
    for (size_t i = 0; st == DPS_OK && i < run->c->n; i++) {
        const char *name = run->c->stages[i].name;
        if (i > 0 && run->o->train.should_stop && run->o->train.should_stop ())
            return dps_fail (err, DPS_ERR_INTERRUPTED, "interrupted before stage '%s': go on with --resume", name);
        st = run_stage (run, i, err);
        if (st != DPS_OK)
            dps_error_prefix (err, "stage '%s'", name);
    }
    return st;
}

DpsStatus dps_train_chain (const DpsRegistry *reg, const DpsChain *c, const DpsChainOptions *options, DpsError *err)
{
    int held = -1;
    const Run run = {.reg = reg, .c = c, .o = options, .done = dps_calloc (c->n, sizeof *run.done)};
    DpsStatus st = run.done ? read_lock (&run, err) : dps_fail (err, DPS_ERR_NOMEM, "%s: out of memory", c->file);
    if (st == DPS_OK)
        st = check_rows (&run, err);
    if (st == DPS_OK)
        st = enter (&run, &held, err);
    if (st == DPS_OK)
        st = run_stages (&run, err);
    if (held >= 0)
        close (held);
    dps_free (run.done);
    return st;
}
