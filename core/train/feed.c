/* SPDX-License-Identifier: Apache-2.0 */
#include "train/feed.h"

#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "data/criteria.h"
#include "data/dataset.h"
#include "diapason/objective.h"
#include "token/encode.h"
#include "train/bins.h"
#include "train/wrap.h"

/* Larger files are not read ahead: their rows are checked when they are reached. */
static const uint64_t SCAN_MAX_BYTES = (uint64_t)64 << 20;

/* One row of a file; all zeros before the scan, and of a row that is dropped. */
typedef struct RowSize {
    uint32_t tokens, scored;
    uint16_t segments, sequences;
} RowSize;

struct DpsFeed {
    DpsDataset *ds;
    DpsEncoder *encoder;
    const DpsRecipe *recipe;
    DpsCriteria criteria; /* of groups, after the scan */
    uint64_t max_length;
    uint32_t unit;  /* DPS_UNIT_* */
    int last_state; /* the objective reads scores */
    int prompts;    /* rows are prompts that the run answers */
    int packing, wrapped, scanned;
    uint64_t *bases;           /* [n_files] index of a file's first row in sizes */
    RowSize *sizes;            /* [all rows of all files]; NULL before the scan */
    DpsBatchCounts most;       /* of the scanned rows, each count by itself */
    uint64_t n_cut, n_dropped; /* rows above max_length that the scan met */
    uint64_t n_undecided;      /* groups of which a pair was wanted, with no answer better than another */
    DpsBins bins;              /* with packing: each row by its place in the unpacked epoch */
    DpsWrap wrap;              /* with wrapped in place of bins */
    uint64_t *counts;          /* [n_counts] places of the epochs seen so far */
    size_t n_counts, count_capacity;
};

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

static const RowSize *size_of (const DpsFeed *f, uint64_t epoch, uint64_t k) { return &f->sizes[dps_feed_row (f, epoch, k)]; }

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

/* The places of an epoch, which stay known until another epoch's are asked for. */
static DpsStatus need_places (DpsFeed *f, uint64_t epoch, DpsError *err)
{
    if (f->wrapped ? f->wrap.n && f->wrap.epoch == epoch : f->bins.n && f->bins.epoch == epoch)
        return DPS_OK;
    uint32_t *tokens = dps_malloc (f->ds->n_rows, sizeof *tokens);
    if (!tokens)
        return dps_fail (err, DPS_ERR_NOMEM, "packing: out of memory");
    for (uint64_t k = 0; k < f->ds->n_rows; k++)
        tokens[k] = size_of (f, epoch, k)->tokens;
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
        DPS_TRY (need_places (f, f->n_counts, err));
        f->counts[f->n_counts++] = f->wrapped ? f->wrap.n : f->bins.n;
    }
    *out = f->counts[epoch];
    return DPS_OK;
}

/* A unit's rows behind the n sequences there are; they own its ids and weights then. */
static DpsStatus take_unit (const DpsFeed *f, DpsSequence **sequences, size_t *n, DpsEncodedUnit *u, uint64_t key, uint64_t row,
                            DpsError *err)
{
    DpsSequence *grown = dps_realloc (*sequences, *n + u->n, sizeof *grown);
    if (!grown)
        return dps_fail (err, DPS_ERR_NOMEM, "rows: out of memory");
    *sequences = grown;
    for (size_t i = 0; i < u->n; i++) {
        grown[(*n)++] = (DpsSequence){.ids = u->rows[i].ids,
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
        st = take_unit (f, &out->sequences, &out->n, &u, epoch * f->ds->n_rows + k, dps_feed_row (f, epoch, k), err);
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
        DPS_TRY (need_places (f, epoch, err));
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

static uint64_t file_bytes (const DpsFeed *f)
{
    uint64_t bytes = 0;
    for (size_t i = 0; i < f->ds->n_files; i++)
        bytes += dps_rows_bytes (f->ds->files[i].rows);
    return bytes;
}

static int64_t larger (int64_t a, int64_t b) { return a > b ? a : b; }

static DpsStatus scan_row (DpsFeed *f, const DpsDatasetFile *file, uint64_t row, RowSize *size, DpsError *err)
{
    DpsRow r;
    DpsEncodedUnit u;
    DpsPlace p = {0};
    DPS_TRY (dps_dataset_file_row (file, row, &r, err));
    DpsStatus st = dps_encode_unit (f->encoder, &r, f->unit, &u, err);
    if (st == DPS_OK && !f->prompts)
        st = dps_criteria_add (&f->criteria, &r, f->recipe->criteria_weights, err);
    f->n_undecided += st == DPS_OK && !u.n && !u.n_long && r.kind == DPS_ROW_GROUP;
    dps_row_clear (&r);
    if (st == DPS_OK && u.n)
        st = take_unit (f, &p.sequences, &p.n, &u, 0, 0, err);
    dps_batch_count (p.sequences, p.n, &p.counts);
    *size = (RowSize){(uint32_t)p.counts.tokens, (uint32_t)p.counts.scored, (uint16_t)p.counts.segments, (uint16_t)p.counts.sequences};
    f->most = (DpsBatchCounts){larger (f->most.tokens, p.counts.tokens), larger (f->most.scored, p.counts.scored),
                               larger (f->most.segments, p.counts.segments), larger (f->most.sequences, p.counts.sequences), 1};
    f->n_cut += u.n && u.n_long;
    f->n_dropped += !u.n && u.n_long;
    dps_place_free (&p);
    dps_encoded_unit_free (&u);
    return st;
}

/* What the scan of so many rows met: warnings, or DATA when none of them is left. */
static DpsStatus tell_scanned (const DpsFeed *f, uint64_t wanted, DpsError *err)
{
    if (f->n_cut + f->n_dropped)
        dps_log (DPS_LOG_WARNING, "%llu of %llu rows have more tokens than max_length %llu: %llu are cut, %llu dropped (truncation_mode)",
                 (unsigned long long)(f->n_cut + f->n_dropped), (unsigned long long)wanted, (unsigned long long)f->max_length,
                 (unsigned long long)f->n_cut, (unsigned long long)f->n_dropped);
    if (f->n_undecided)
        dps_log (DPS_LOG_WARNING, "%llu of %llu groups have no answer that is judged better than another: no pair, they are skipped",
                 (unsigned long long)f->n_undecided, (unsigned long long)wanted);
    if (f->n_dropped + f->n_undecided == wanted)
        return dps_fail (err, DPS_ERR_DATA,
                         "%s: none of the %llu rows is left: %llu are longer than max_length, %llu are groups without a better answer",
                         dps_recipe_where (f->recipe, DPS_KEY_max_length), (unsigned long long)wanted, (unsigned long long)f->n_dropped,
                         (unsigned long long)f->n_undecided);
    return DPS_OK;
}

DpsStatus dps_feed_scan (DpsFeed *f, int *out_exact, void (*progress) (void *ctx, double share), void *ctx, DpsError *err)
{
    uint64_t total = 0, done = 0, wanted = 0;
    *out_exact = 0;
    if (!f->packing && (f->unit != DPS_UNIT_GROUP || f->prompts) && file_bytes (f) > SCAN_MAX_BYTES)
        return DPS_OK;
    for (size_t i = 0; i < f->ds->n_files; i++) {
        total += dps_rows_count (f->ds->files[i].rows);
        wanted += f->ds->files[i].n;
    }
    f->sizes = dps_calloc (total, sizeof *f->sizes);
    if (!f->sizes)
        return dps_fail (err, DPS_ERR_NOMEM, "rows: out of memory for the lengths of %llu rows", (unsigned long long)total);
    for (size_t i = 0; i < f->ds->n_files; i++) {
        const DpsDatasetFile *file = &f->ds->files[i];
        for (uint64_t k = file->first; k < file->first + file->n; k++) {
            DPS_TRY (scan_row (f, file, k, &f->sizes[f->bases[i] + k], err));
            if (progress && ++done % 256 == 0)
                progress (ctx, (double)done / (double)wanted);
        }
    }
    DPS_TRY (tell_scanned (f, wanted, err));
    f->scanned = 1;
    *out_exact = !f->wrapped; /* how many of a cut row's tokens count is not known */
    return dps_criteria_settle (&f->criteria, f->recipe->criteria_weights, dps_recipe_where (f->recipe, DPS_KEY_criteria_weights), err);
}

static void add_size (const RowSize *s, DpsBatchCounts *io)
{
    io->tokens += s->tokens;
    io->scored += s->scored;
    io->segments += s->segments;
    io->sequences += s->sequences;
    io->roots += s->tokens > 0;
}

DpsStatus dps_feed_count (DpsFeed *f, uint64_t epoch, uint64_t k, DpsBatchCounts *io, DpsError *err)
{
    if (!f->packing) {
        add_size (size_of (f, epoch, k), io);
        return DPS_OK;
    }
    DPS_TRY (need_places (f, epoch, err));
    if (f->wrapped) {
        uint64_t row, skip;
        const int64_t tokens = (int64_t)dps_wrap_place (&f->wrap, k, &row, &skip);
        io->tokens += tokens;
        io->scored += tokens - 1;
        io->segments++;
        io->sequences++;
        io->roots++;
        return DPS_OK;
    }
    for (uint64_t i = f->bins.starts[k]; i < f->bins.starts[k + 1]; i++)
        add_size (size_of (f, epoch, f->bins.rows[i]), io);
    return DPS_OK;
}

DpsBatchCounts dps_feed_most (const DpsFeed *f)
{
    int64_t tokens = (int64_t)f->max_length;
    if ((f->scanned && !f->wrapped) || tokens == 0)
        return f->most;
    /* Two answers to a prompt of one token have the most: the prompt is there once. */
    return f->unit == DPS_UNIT_PAIR && !f->prompts ? (DpsBatchCounts){2 * tokens - 1, 2 * tokens - 2, 3, 2, 1}
                                                   : (DpsBatchCounts){tokens, tokens - 1, 1, 1, 1};
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
