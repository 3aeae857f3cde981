/* SPDX-License-Identifier: Apache-2.0 */
/* rollout_log.c: what was sampled, in numbers and word for word. */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/mem.h"
#include "train/trainer.h"

/* Lengths in tokens, of all answers or of those that ended by themselves. TRL's names. */
static DpsStatus add_lengths (const DpsAnswers *a, int terminated, DpsStepSums *sums, DpsError *err)
{
    static const char *const names[2][3] = {
        {"completions/mean_length", "completions/min_length", "completions/max_length"},
        {"completions/mean_terminated_length", "completions/min_terminated_length", "completions/max_terminated_length"}};
    double sum = 0, least = INFINITY, most = 0, n = 0;
    for (size_t i = 0; i < a->n; i++) {
        double length = (double)a->completions[i].n;
        if (terminated && a->truncated[i])
            continue;
        sum += length;
        least = fmin (least, length);
        most = fmax (most, length);
        n++;
    }
    const double values[3] = {n > 0 ? sum / n : 0, n > 0 ? least : 0, most};
    for (size_t k = 0; k < 3; k++)
        DPS_TRY (dps_step_add (sums, dps_str (names[terminated][k]), values[k], 1, err));
    return DPS_OK;
}

DpsStatus dps__answers_measure (const DpsAnswers *a, DpsStepSums *sums, DpsError *err)
{
    double cut = 0;
    for (size_t i = 0; i < a->n; i++)
        cut += a->truncated[i];
    DPS_TRY (add_lengths (a, 0, sums, err));
    DPS_TRY (add_lengths (a, 1, sums, err));
    return dps_step_add (sums, dps_str ("completions/clipped_ratio"), a->n ? cut / (double)a->n : 0, 1, err);
}

/* Mean and standard deviation (n − 1) of a column of numbers, NaN left out; 0 when there is none. */
static size_t moments (const double *values, size_t n, size_t stride, double *out_mean, double *out_std)
{
    double sum = 0, squares = 0;
    size_t count = 0;
    for (size_t i = 0; i < n; i++)
        if (!isnan (values[i * stride])) {
            sum += values[i * stride];
            count++;
        }
    *out_mean = count ? sum / (double)count : 0;
    for (size_t i = 0; i < n; i++)
        if (!isnan (values[i * stride]))
            squares += (values[i * stride] - *out_mean) * (values[i * stride] - *out_mean);
    *out_std = count > 1 ? sqrt (squares / (double)(count - 1)) : 0;
    return count;
}

static DpsStatus add_moments (const char *mean_name, const char *std_name, const double *values, size_t n, size_t stride, DpsStepSums *sums,
                              DpsError *err)
{
    double mean, std;
    if (moments (values, n, stride, &mean, &std) == 0)
        return DPS_OK;
    DPS_TRY (dps_step_add (sums, dps_str (mean_name), mean, 1, err));
    return dps_step_add (sums, dps_str (std_name), std, 1, err);
}

void dps__reward_metric (const DpsStr *name, const char *what, char *out, size_t cap)
{
    snprintf (out, cap, "rewards/%.*s/%s", (int)name->len, name->ptr, what);
}

DpsStatus dps__answers_rewards (const DpsTrainer *t, const DpsAnswers *a, DpsStepSums *sums, DpsError *err)
{
    const DpsRollout *o = &t->rollout;
    const size_t criteria = (size_t)o->n_criteria;
    for (size_t c = 0; c < criteria; c++) {
        char mean[64], std[64];
        dps__reward_metric (&o->names[c], "mean", mean, sizeof mean);
        dps__reward_metric (&o->names[c], "std", std, sizeof std);
        DPS_TRY (add_moments (mean, std, a->rewards + c, a->n, criteria, sums, err));
    }
    double *totals = dps_malloc (a->n, sizeof *totals);
    if (!totals)
        return dps_fail (err, DPS_ERR_NOMEM, "rollout: out of memory");
    for (size_t i = 0; i < a->n; i++)
        totals[i] = dps__answer_total (t, a, i);
    DpsStatus st = add_moments ("reward", "reward_std", totals, a->n, 1, sums, err);
    dps_free (totals);
    return st;
}

/* The advantage of answer i, where the objective makes one; NaN otherwise. */
static double advantage_of (const DpsTrainer *t, const DpsAnswers *a, size_t i)
{
    int signal = dps_objective_signal (t->objective, "advantage", "step");
    size_t per_place = t->objective->info.unit == DPS_UNIT_GROUP ? a->per_prompt : 1, at = 0;
    if (signal < 0 || t->objective->info.unit == DPS_UNIT_PAIR)
        return NAN;
    const DpsPlace *p = &t->rollout.places[i / per_place];
    for (size_t k = i / per_place * per_place; k < i; k++)
        at += t->objective->signals[signal].axis == DPS_AXIS_TOKEN ? a->completions[k].n : 1;
    return p->step[signal] ? p->step[signal][at] : NAN;
}

static int write_answer (const DpsTrainer *t, const DpsAnswers *a, size_t i, uint64_t step, DpsBuf *out)
{
    const DpsRollout *o = &t->rollout;
    const DpsPrompt *p = &a->prompts.items[i / a->per_prompt];
    const DpsCompletion *c = &a->completions[i];
    double advantage = advantage_of (t, a, i);
    int bad = dps_buf_printf (out, "{\"step\": %llu, \"prompt\": ", (unsigned long long)step) ||
              dps_json_quote (out, p->text.data, p->text.len) || dps_buf_str (out, ", \"completion\": ") ||
              dps_json_quote (out, c->text, c->len) || dps_buf_str (out, ", \"rewards\": {");
    for (size_t k = 0; !bad && k < o->n_criteria; k++)
        bad = dps_buf_str (out, k ? ", " : "") || dps_json_quote (out, o->names[k].ptr, o->names[k].len) || dps_buf_str (out, ": ") ||
              dps_json_number (out, a->rewards[i * o->n_criteria + k]);
    bad = bad || dps_buf_str (out, "}, \"reward\": ") || dps_json_number (out, dps__answer_total (t, a, i)) ||
          dps_buf_str (out, ", \"advantage\": ") || dps_json_number (out, advantage);
    return bad || dps_buf_printf (out, ", \"tokens\": %zu, \"truncated\": %s}\n", c->n, a->truncated[i] ? "true" : "false");
}

static DpsStatus io_error (const char *path, DpsError *err)
{
    return dps_fail (err, DPS_ERR_IO, "%s: cannot write: %s", path, strerror (errno));
}

DpsStatus dps__answers_log (const DpsTrainer *t, const DpsAnswers *a, uint64_t step, DpsError *err)
{
    DpsBuf text = {0};
    char *path = dps_path_join (t->recipe->output_dir, DPS_COMPLETIONS_FILE);
    int bad = !path;
    for (size_t i = 0; !bad && i < a->n; i++)
        bad = write_answer (t, a, i, step, &text);
    DpsStatus st = bad ? dps_fail (err, DPS_ERR_NOMEM, "%s: out of memory", DPS_COMPLETIONS_FILE) : DPS_OK;
    FILE *f = st == DPS_OK ? fopen (path, "ab") : NULL;
    if (st == DPS_OK && (!f || fwrite (text.data, 1, text.len, f) != text.len || fflush (f)))
        st = io_error (path, err);
    if (f && fclose (f) && st == DPS_OK)
        st = io_error (path, err);
    dps_buf_free (&text);
    dps_free (path);
    return st;
}

/* The length of the lines that were written up to a step; what a killed run wrote after it will be written again. */
static size_t lines_until (const DpsBuf *text, uint64_t step)
{
    static const char head[] = "{\"step\": ";
    size_t at = 0;
    while (at < text->len) {
        const char *line = text->data + at, *end = memchr (line, '\n', text->len - at);
        if (!end || strncmp (line, head, sizeof head - 1) || strtoull (line + sizeof head - 1, NULL, 10) > step)
            break;
        at = (size_t)(end - text->data) + 1;
    }
    return at;
}

DpsStatus dps__answers_log_open (const DpsTrainer *t, DpsError *err)
{
    enum { LIMIT = 1 << 30 };
    DpsBuf text = {0};
    char *path = dps_path_join (t->recipe->output_dir, DPS_COMPLETIONS_FILE);
    DpsStatus st = path ? DPS_OK : dps_fail (err, DPS_ERR_NOMEM, "%s: out of memory", DPS_COMPLETIONS_FILE);
    if (st == DPS_OK && dps_is_file (path)) {
        st = dps_file_read (path, LIMIT, &text, err);
        size_t keep = st == DPS_OK ? lines_until (&text, t->step) : 0;
        if (st == DPS_OK)
            st = keep ? dps_file_write (path, text.data, keep, err) : dps_remove_tree (path, err);
    }
    dps_buf_free (&text);
    dps_free (path);
    return st;
}
