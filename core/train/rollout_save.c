/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rollout_save.c: what was sampled, in a checkpoint: rollout.json, there when the checkpoint's step lies within a rollout. Numbers are written with
 * the digits that read back as the same bits. Recorded signals and those of role step are saved too: they are computed once per rollout.
 *
 *     {"made_at": step, "firsts": [place …], "places": [{"prefix": tokens of the prompt, "key": …, "ids": [[…] …], "logp": […],
 *       "rewards": […, null: not judged], "truncated": [0|1 …], "signals": [by number: […] or null]} …]}
 */
#include <math.h>
#include <string.h>

#include "base/mem.h"
#include "train/trainer.h"

static json_t *floats (const float *v, size_t n)
{
    json_t *out = json_array ();
    for (size_t i = 0; out && i < n; i++)
        if (json_array_append_new (out, json_real ((double)v[i]))) {
            json_decref (out);
            out = NULL;
        }
    return out;
}

/* NaN as null. */
static json_t *doubles (const double *v, size_t n)
{
    json_t *out = json_array ();
    for (size_t i = 0; out && i < n; i++)
        if (json_array_append_new (out, isnan (v[i]) ? json_null () : json_real (v[i]))) {
            json_decref (out);
            out = NULL;
        }
    return out;
}

static json_t *integers (const void *v, size_t n, int is_count)
{
    json_t *out = json_array ();
    for (size_t i = 0; out && i < n; i++) {
        json_int_t value = is_count ? (json_int_t)((const uint64_t *)v)[i] : (json_int_t)((const int32_t *)v)[i];
        if (json_array_append_new (out, json_integer (value))) {
            json_decref (out);
            out = NULL;
        }
    }
    return out;
}

static size_t length_of (const DpsTrainer *t, const DpsPlace *p, uint32_t signal)
{
    return t->objective->signals[signal].axis == DPS_AXIS_TOKEN ? (size_t)p->counts.scored : p->n;
}

/* Signals that were recorded or made of the whole rollout, by their number in the objective's description. */
static json_t *signals_json (const DpsTrainer *t, const DpsPlace *p)
{
    json_t *out = json_array ();
    for (uint32_t i = 0; out && i < t->objective->info.n_signals; i++) {
        json_t *values = p->step[i]       ? doubles (p->step[i], length_of (t, p, i))
                         : p->recorded[i] ? floats (p->recorded[i], length_of (t, p, i))
                                          : json_null ();
        if (json_array_append_new (out, values)) {
            json_decref (out);
            out = NULL;
        }
    }
    return out;
}

static json_t *place_json (const DpsTrainer *t, const DpsPlace *p, const float *logp)
{
    json_t *ids = json_array ();
    for (size_t i = 0; ids && i < p->n; i++)
        if (json_array_append_new (ids, integers (p->sequences[i].ids, p->sequences[i].n, 0))) {
            json_decref (ids);
            ids = NULL;
        }
    return json_pack ("{s:I, s:I, s:o, s:o, s:o, s:o, s:o}", "prefix", (json_int_t)p->sequences[0].prefix, "key",
                      (json_int_t)p->sequences[0].key, "ids", ids, "logp", floats (logp, (size_t)p->counts.scored), "rewards",
                      doubles (p->rewards, p->n * t->rollout.n_criteria), "truncated", integers (p->truncated, p->n, 0), "signals",
                      signals_json (t, p));
}

/* 1 when the next step goes on with what was sampled before. */
static int is_within (const DpsRollout *o, uint64_t step) { return o->samples && step % (o->steps * o->passes) != 0; }

DpsStatus dps__rollout_save (const DpsTrainer *t, DpsCheckpointWriter *w, DpsError *err)
{
    const DpsRollout *o = &t->rollout;
    if (!is_within (o, t->step))
        return DPS_OK;
    json_t *places = json_array ();
    for (uint64_t i = 0; places && i < o->n_places; i++)
        if (json_array_append_new (places, place_json (t, &o->places[i], o->logp[i]))) {
            json_decref (places);
            places = NULL;
        }
    json_t *all =
        json_pack ("{s:I, s:o, s:o}", "made_at", (json_int_t)o->made_at, "firsts", integers (o->firsts, o->steps + 1, 1), "places", places);
    DpsStatus st = dps_ckpt_add_json (w, DPS_CKPT_ROLLOUT, all, err);
    json_decref (all);
    return st;
}

/* Back. Every array must be as long as the ids say, and log-probs are numbers. */

static DpsStatus no_memory (DpsError *err) { return dps_fail (err, DPS_ERR_NOMEM, "%s: out of memory", DPS_CKPT_ROLLOUT); }

static DpsStatus damaged (const char *what, DpsError *err)
{
    return dps_fail (err, DPS_ERR_FORMAT, "%s: %s: it was written by another version, or for another recipe", DPS_CKPT_ROLLOUT, what);
}

static int read_floats (const json_t *j, size_t n, float *out)
{
    int ok = json_array_size (j) == n;
    for (size_t i = 0; ok && i < n; i++) {
        ok = json_is_number (json_array_get (j, i));
        out[i] = (float)json_number_value (json_array_get (j, i));
    }
    return ok;
}

static int read_doubles (const json_t *j, size_t n, double *out)
{
    for (size_t i = 0; i < n; i++) {
        const json_t *v = json_array_get (j, i);
        out[i] = json_is_number (v) ? json_number_value (v) : NAN;
    }
    return json_array_size (j) == n;
}

/* A unit has one row, two, or some. */
static int is_unit (uint32_t unit, size_t rows)
{
    return unit == DPS_UNIT_SINGLE ? rows == 1 : unit == DPS_UNIT_PAIR ? rows == 2 : rows > 0;
}

static DpsStatus read_sequences (const DpsTrainer *t, DpsPlace *p, const json_t *ids, size_t prefix, uint64_t key, uint64_t row,
                                 DpsError *err)
{
    p->sequences = dps_calloc (json_array_size (ids), sizeof *p->sequences);
    if (!p->sequences)
        return no_memory (err);
    if (!is_unit (t->objective->info.unit, json_array_size (ids)))
        return damaged ("a place is no unit of the objective", err);
    for (size_t i = 0; i < json_array_size (ids); i++) {
        const json_t *list = json_array_get (ids, i);
        size_t n = json_array_size (list);
        int32_t *out = dps_malloc (n, sizeof *out);
        float *weights = dps_calloc (n, sizeof *weights);
        p->sequences[p->n++] =
            (DpsSequence){.ids = out, .weights = weights, .n = n, .prefix = prefix, .joins = i > 0, .key = key, .row = row};
        if (!out || !weights)
            return no_memory (err);
        if (prefix == 0 || n <= prefix)
            return damaged ("an answer without a token", err);
        for (size_t k = 0; k < n; k++) {
            const json_t *id = json_array_get (list, k);
            if (!json_is_integer (id) || json_integer_value (id) < 0 || json_integer_value (id) >= t->session.model.dec.vocab)
                return damaged ("a token is none of the model's", err);
            out[k] = (int32_t)json_integer_value (id);
            weights[k] = k >= prefix;
        }
    }
    dps_batch_count (p->sequences, p->n, &p->counts);
    return DPS_OK;
}

static DpsStatus read_signals (const DpsTrainer *t, DpsPlace *p, const json_t *signals, DpsError *err)
{
    const DpsObjectiveInstance *o = t->objective;
    for (uint32_t i = 0; i < o->info.n_signals; i++) {
        const json_t *values = json_array_get (signals, i);
        const size_t n = length_of (t, p, i);
        if (json_is_null (values))
            continue;
        int is_step = !strcmp (o->signals[i].role, "step");
        if (is_step)
            p->step[i] = dps_malloc (n, sizeof **p->step);
        else
            p->recorded[i] = dps_malloc (n, sizeof **p->recorded);
        if (is_step ? !p->step[i] : !p->recorded[i])
            return no_memory (err);
        if (!(is_step ? read_doubles (values, n, p->step[i]) : read_floats (values, n, p->recorded[i])))
            return damaged (o->signals[i].name, err);
    }
    return DPS_OK;
}

static DpsStatus read_place (DpsTrainer *t, const json_t *j, DpsPlace *p, float **logp, uint64_t number, DpsError *err)
{
    json_int_t prefix, key;
    json_t *ids, *sampled, *rewards, *truncated, *signals;
    if (json_unpack ((json_t *)j, "{s:I, s:I, s:o, s:o, s:o, s:o, s:o}", "prefix", &prefix, "key", &key, "ids", &ids, "logp", &sampled,
                     "rewards", &rewards, "truncated", &truncated, "signals", &signals))
        return damaged ("a place is incomplete", err);
    DPS_TRY (read_sequences (t, p, ids, (size_t)prefix, (uint64_t)key, number, err));
    size_t scored = (size_t)p->counts.scored, criteria = t->rollout.n_criteria;
    *logp = dps_malloc (scored, sizeof **logp);
    p->rewards = dps_malloc (p->n * criteria, sizeof *p->rewards);
    p->truncated = dps_calloc (p->n, sizeof *p->truncated);
    if (!*logp || !p->rewards || !p->truncated)
        return no_memory (err);
    for (size_t i = 0; i < p->n; i++)
        p->truncated[i] = json_integer_value (json_array_get (truncated, i)) != 0;
    if (!read_floats (sampled, scored, *logp) || !read_doubles (rewards, p->n * criteria, p->rewards) ||
        json_array_size (truncated) != p->n)
        return damaged ("a place has arrays of other lengths", err);
    return read_signals (t, p, signals, err);
}

DpsStatus dps__rollout_read (DpsTrainer *t, const json_t *all, DpsError *err)
{
    DpsRollout *o = &t->rollout;
    json_int_t made_at;
    json_t *firsts, *places;
    if (json_unpack ((json_t *)all, "{s:I, s:o, s:o}", "made_at", &made_at, "firsts", &firsts, "places", &places) ||
        json_array_size (firsts) != o->steps + 1)
        return damaged ("it is incomplete", err);
    size_t n = json_array_size (places);
    for (size_t i = 0; i <= o->steps; i++) {
        o->firsts[i] = (uint64_t)json_integer_value (json_array_get (firsts, i));
        if (o->firsts[i] > n || (i && o->firsts[i] < o->firsts[i - 1]))
            return damaged ("firsts", err);
    }
    o->places = dps_calloc (n, sizeof *o->places);
    o->logp = dps_calloc (n, sizeof *o->logp);
    if (!o->places || !o->logp)
        return no_memory (err);
    for (size_t i = 0; i < n; i++) {
        o->n_places = i + 1;
        DPS_TRY (read_place (t, json_array_get (places, i), &o->places[i], &o->logp[i], i, err));
    }
    o->made = 1;
    o->made_at = (uint64_t)made_at;
    return DPS_OK;
}

DpsStatus dps__rollout_restore (DpsTrainer *t, const DpsCheckpoint *c, DpsError *err)
{
    json_t *all = NULL;
    if (!is_within (&t->rollout, t->step))
        return DPS_OK;
    DPS_TRY (dps_ckpt_read_json (c, DPS_CKPT_ROLLOUT, &all, err));
    DpsStatus st = dps__rollout_read (t, all, err);
    json_decref (all);
    if (st != DPS_OK) {
        dps__rollout_clear (&t->rollout);
        dps_error_prefix (err, "%s", dps_ckpt_path (c));
    }
    return st;
}
