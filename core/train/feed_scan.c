/* SPDX-License-Identifier: Apache-2.0 */
/* feed_scan.c: every row read once before training: refused early, and its size kept, so that batches can be counted without reading them again. */
#include "base/log.h"
#include "base/mem.h"
#include "diapason/objective.h"
#include "train/feed_internal.h"

/* Larger files are not read ahead: their rows are checked when they are reached. */
static const uint64_t SCAN_MAX_BYTES = (uint64_t)64 << 20;

static uint64_t file_bytes (const DpsFeed *f)
{
    uint64_t bytes = 0;
    for (size_t i = 0; i < f->ds->n_files; i++)
        bytes += dps_rows_bytes (f->ds->files[i].rows);
    return bytes;
}

static int64_t larger (int64_t a, int64_t b) { return a > b ? a : b; }

static DpsStatus scan_row (DpsFeed *f, const DpsDatasetFile *file, uint64_t row, DpsRowSize *size, DpsError *err)
{
    DpsRow r;
    DpsEncodedUnit u;
    DpsPlace p = {0};
    DPS_TRY (dps_dataset_file_row (file, row, &r, err));
    DpsStatus st = dps_encode_unit (f->encoder, &r, f->unit, &u, err);
    if (st == DPS_OK && !f->prompts)
        st = dps_criteria_add (&f->criteria, &r, f->recipe->criteria_weights, err);
    f->n_undecided += st == DPS_OK && !u.n && !u.n_long && r.kind == DPS_ROW_GROUP;
    f->n_tools += r.tools != NULL;
    dps_row_clear (&r);
    if (st == DPS_OK && u.n)
        st = dps__feed_take_unit (f, &p, &u, 0, 0, err);
    dps_batch_count (p.sequences, p.n, &p.counts);
    *size = (DpsRowSize){(uint32_t)p.counts.tokens, (uint32_t)p.counts.scored, (uint16_t)p.counts.segments, (uint16_t)p.counts.sequences};
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
    if (f->n_tools && !dps_encoder_shows_tools (f->encoder))
        dps_log (DPS_LOG_WARNING,
                 "%llu of %llu rows have tools, of which the chat template says nothing: the model does not see them. Hint: "
                 "chat_template_path names the file of another",
                 (unsigned long long)f->n_tools, (unsigned long long)wanted);
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

static void add_size (const DpsRowSize *s, DpsBatchCounts *io)
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
        add_size (dps__feed_size (f, epoch, k), io);
        return DPS_OK;
    }
    DPS_TRY (dps__feed_need_places (f, epoch, err));
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
        add_size (dps__feed_size (f, epoch, f->bins.rows[i]), io);
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
