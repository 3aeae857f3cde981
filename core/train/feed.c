/* SPDX-License-Identifier: Apache-2.0 */
/* feed.c: the rows of a recipe as the places of micro-batches, in the order of an epoch. */
#include <string.h>

#include "base/mem.h"
#include "diapason/objective.h"
#include "train/feed_internal.h"

/* Keys that do not suit what the stage makes of a row. */
static DpsStatus check_keys (const DpsFeed *f, DpsError *err)
{
    const DpsRecipe *recipe = f->recipe;
    if (f->packing && !f->max_length)
        return dps_fail (err, DPS_ERR_USAGE, "%s: packing needs a max_length to fill", dps_recipe_where (recipe, DPS_KEY_packing));
    if (f->packing && f->unit != DPS_UNIT_SINGLE)
        return dps_fail (err, DPS_ERR_USAGE,
                         "%s: packing: this stage trains several answers to a prompt together, which are not packed: remove it",
                         dps_recipe_where (recipe, DPS_KEY_packing));
    if (recipe->max_prompt_length && f->unit == DPS_UNIT_SINGLE && !f->prompts)
        return dps_fail (err, DPS_ERR_USAGE, "%s: max_prompt_length is for stages on preference pairs: remove it",
                         dps_recipe_where (recipe, DPS_KEY_max_prompt_length));
    return DPS_OK;
}

/* Where each file's rows begin in sizes. */
static DpsStatus lay_bases (DpsFeed *f, DpsError *err)
{
    if (!(f->bases = dps_calloc (f->ds->n_files, sizeof *f->bases)))
        return dps_fail (err, DPS_ERR_NOMEM, "rows: out of memory");
    for (size_t i = 1; i < f->ds->n_files; i++)
        f->bases[i] = f->bases[i - 1] + dps_rows_count (f->ds->files[i - 1].rows);
    return DPS_OK;
}

DpsStatus dps_feed_open (const DpsRecipe *recipe, const DpsTokenizer *tok, const json_t *config, int64_t vocab, int eval,
                         const DpsObjectiveInstance *objective, DpsFeed **out, DpsError *err)
{
    DpsFeed *f = *out = dps_calloc (1, sizeof *f);
    if (!f)
        return dps_fail (err, DPS_ERR_NOMEM, "rows: out of memory");
    f->recipe = recipe;
    f->prompts = dps_recipe_samples (recipe);
    f->max_length = (uint64_t)(f->prompts ? recipe->max_prompt_length : recipe->max_length);
    f->packing = recipe->packing > 0 && !eval;
    f->wrapped = f->packing && !strcmp (recipe->packing_strategy, "wrapped");
    f->unit = objective->info.unit;
    f->last_state = dps_objective_signal (objective, "score", "policy") >= 0;
    DpsStatus st = check_keys (f, err);
    if (st == DPS_OK)
        st = dps_dataset_from_recipe (recipe, eval, &f->ds, err);
    if (st == DPS_OK)
        st = dps_encoder_new (recipe, tok, &f->encoder, err);
    if (st == DPS_OK)
        st = dps_encoder_set_model (f->encoder, config, vocab, err);
    if (st == DPS_OK && f->wrapped)
        dps_encoder_keep_whole (f->encoder);
    if (st == DPS_OK)
        st = lay_bases (f, err);
    if (st == DPS_OK)
        return DPS_OK;
    dps_feed_close (f);
    *out = NULL;
    return st;
}

void dps_feed_close (DpsFeed *f)
{
    if (!f)
        return;
    dps_bins_free (&f->bins);
    dps_wrap_free (&f->wrap);
    dps_dataset_close (f->ds);
    dps_encoder_free (f->encoder);
    dps_criteria_free (&f->criteria);
    dps_free (f->bases);
    dps_free (f->sizes);
    dps_free (f->counts);
    dps_free (f);
}

/* The number of a row among those of all files. */
uint64_t dps_feed_row (const DpsFeed *f, uint64_t epoch, uint64_t k)
{
    size_t file;
    uint64_t row;
    dps_dataset_place (f->ds, epoch, k, &file, &row);
    return f->bases[file] + row;
}

const DpsRowSize *dps__feed_size (const DpsFeed *f, uint64_t epoch, uint64_t k) { return &f->sizes[dps_feed_row (f, epoch, k)]; }

static DpsStatus make_places (DpsFeed *f, uint64_t epoch, const uint32_t *tokens, DpsError *err)
{
    DpsBins bins = {0};
    DpsWrap wrap = {0};
    if (f->wrapped) {
        DPS_TRY (dps_wrap_make (epoch, tokens, f->ds->n_rows, f->max_length, &wrap, err));
        dps_wrap_free (&f->wrap);
        f->wrap = wrap;
    } else {
        DPS_TRY (dps_bins_make (epoch, tokens, f->ds->n_rows, f->max_length, &bins, err));
        dps_bins_free (&f->bins);
        f->bins = bins;
    }
    return DPS_OK;
}

DpsStatus dps__feed_need_places (DpsFeed *f, uint64_t epoch, DpsError *err)
{
    if (f->wrapped ? f->wrap.n && f->wrap.epoch == epoch : f->bins.n && f->bins.epoch == epoch)
        return DPS_OK;
    uint32_t *tokens = dps_malloc (f->ds->n_rows, sizeof *tokens);
    if (!tokens)
        return dps_fail (err, DPS_ERR_NOMEM, "packing: out of memory");
    for (uint64_t k = 0; k < f->ds->n_rows; k++)
        tokens[k] = dps__feed_size (f, epoch, k)->tokens;
    DpsStatus st = make_places (f, epoch, tokens, err);
    dps_free (tokens);
    return st;
}

DpsStatus dps_feed_places (DpsFeed *f, uint64_t epoch, uint64_t *out, DpsError *err)
{
    *out = f->ds->n_rows;
    if (!f->packing)
        return DPS_OK;
    while (f->n_counts <= epoch) {
        if (DPS_GROW (f->counts, f->n_counts, f->count_capacity))
            return dps_fail (err, DPS_ERR_NOMEM, "packing: out of memory");
        DPS_TRY (dps__feed_need_places (f, f->n_counts, err));
        f->counts[f->n_counts++] = f->wrapped ? f->wrap.n : f->bins.n;
    }
    *out = f->counts[epoch];
    return DPS_OK;
}

DpsStatus dps__feed_take_unit (const DpsFeed *f, DpsPlace *p, DpsEncodedUnit *u, uint64_t key, uint64_t row, DpsError *err)
{
    DpsSequence *grown = dps_realloc (p->sequences, p->n + u->n, sizeof *grown);
    if (!grown)
        return dps_fail (err, DPS_ERR_NOMEM, "rows: out of memory");
    p->sequences = grown;
    for (size_t i = 0; i < u->n; i++) {
        grown[p->n++] = (DpsSequence){.ids = u->rows[i].ids,
                                      .weights = u->rows[i].weights,
                                      .n = u->rows[i].n,
                                      .prefix = u->prefix,
                                      .joins = i > 0,
                                      .last_state = f->last_state,
                                      .key = key,
                                      .row = row};
        u->rows[i] = (DpsEncoded){0};
    }
    return DPS_OK;
}

/* What a group's answers earned, and which of them max_length cut. */
static DpsStatus take_scores (const DpsFeed *f, DpsPlace *p, const DpsRow *row, const DpsEncodedUnit *u, DpsError *err)
{
    p->rewards = dps_malloc (u->n * f->criteria.n, sizeof *p->rewards);
    p->truncated = dps_calloc (u->n, sizeof *p->truncated);
    if (!p->rewards || !p->truncated)
        return dps_fail (err, DPS_ERR_NOMEM, "rows: out of memory");
    dps_criteria_place (&f->criteria, row, p->rewards);
    for (size_t k = 0; k < u->n; k++)
        p->truncated[k] = u->rows[k].n_long > 0;
    return DPS_OK;
}

void dps_feed_rewards (const DpsFeed *f, DpsRewards *out)
{
    *out = (DpsRewards){.size = sizeof *out, .n_criteria = f->criteria.n, .weights = f->criteria.weights, .names = f->criteria.names};
}

/* Row k of the unpacked epoch, appended to a place. A row that truncation_mode drops adds nothing. */
static DpsStatus append_row (DpsFeed *f, uint64_t epoch, uint64_t k, DpsPlace *out, DpsError *err)
{
    DpsRow row;
    DpsEncodedUnit u;
    DPS_TRY (dps_dataset_row (f->ds, epoch, k, &row, err));
    DpsStatus st = dps_encode_unit (f->encoder, &row, f->unit, &u, err);
    if (st == DPS_OK && u.n && f->unit == DPS_UNIT_GROUP && !f->prompts)
        st = take_scores (f, out, &row, &u, err);
    dps_row_clear (&row);
    if (st == DPS_OK && u.n)
        st = dps__feed_take_unit (f, out, &u, epoch * f->ds->n_rows + k, dps_feed_row (f, epoch, k), err);
    dps_encoded_unit_free (&u);
    return st;
}

/* Place k of an epoch whose rows lie end to end. */
static DpsStatus get_wrapped (DpsFeed *f, uint64_t epoch, uint64_t k, DpsPlace *out, DpsError *err)
{
    uint64_t row, skip, most = dps_wrap_place (&f->wrap, k, &row, &skip);
    if (!(out->sequences = dps_calloc (1, sizeof *out->sequences)))
        return dps_fail (err, DPS_ERR_NOMEM, "rows: out of memory");
    out->sequences[out->n++] = (DpsSequence){.key = epoch * f->ds->n_rows + row, .row = dps_feed_row (f, epoch, row)};
    DpsStatus st = DPS_OK;
    for (; st == DPS_OK && out->sequences->n < most; row++, skip = 0) {
        DpsPlace one = {0};
        st = append_row (f, epoch, row, &one, err);
        if (st == DPS_OK && one.n)
            st = dps_wrap_append (out, one.sequences, (size_t)skip, (size_t)most, err);
        dps_place_free (&one);
    }
    return st;
}

DpsStatus dps_feed_get (DpsFeed *f, uint64_t epoch, uint64_t k, DpsPlace *out, DpsError *err)
{
    uint64_t first = k, n = 1;
    DpsStatus st = DPS_OK;
    *out = (DpsPlace){0};
    if (f->packing)
        DPS_TRY (dps__feed_need_places (f, epoch, err));
    if (f->wrapped) {
        st = get_wrapped (f, epoch, k, out, err);
        n = 0;
    } else if (f->packing) {
        first = f->bins.starts[k];
        n = f->bins.starts[k + 1] - first;
    }
    for (uint64_t i = 0; st == DPS_OK && i < n; i++)
        st = append_row (f, epoch, f->packing ? f->bins.rows[first + i] : k, out, err);
    if (st != DPS_OK)
        dps_place_free (out);
    dps_batch_count (out->sequences, out->n, &out->counts);
    return st;
}

DpsStatus dps_feed_object (const DpsFeed *f, uint64_t epoch, uint64_t k, json_t **out, DpsError *err)
{
    DpsRow row;
    *out = NULL;
    DPS_TRY (dps_dataset_row (f->ds, epoch, k, &row, err));
    *out = json_incref (row.object);
    dps_row_clear (&row);
    return DPS_OK;
}

void dps_place_free (DpsPlace *p)
{
    for (size_t i = 0; i < p->n; i++) {
        dps_free ((int32_t *)p->sequences[i].ids);
        dps_free ((float *)p->sequences[i].weights);
    }
    for (int i = 0; i < DPS_PLACE_SIGNALS; i++) {
        dps_free (p->recorded[i]);
        dps_free (p->step[i]);
    }
    dps_free (p->sequences);
    dps_free (p->rewards);
    dps_free (p->truncated);
    *p = (DpsPlace){0};
}

uint64_t dps_feed_rows (const DpsFeed *f)
{
    size_t last = f->ds->n_files - 1;
    return f->bases[last] + dps_rows_count (f->ds->files[last].rows);
}

int dps_feed_file (const DpsFeed *f, size_t i, const char **out_path, const char **out_sha256)
{
    if (i >= f->ds->n_files)
        return 0;
    *out_path = f->ds->files[i].name;
    *out_sha256 = dps_rows_digest (f->ds->files[i].rows)->hex;
    return 1;
}
