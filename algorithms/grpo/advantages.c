/* SPDX-License-Identifier: Apache-2.0 */
/*
 * advantages.c: from what several criteria gave the answers of a step to one advantage an answer. Missing values, deviations and ε are TRL's
 * (parity/README.md): deviations have n − 1 below them, are undefined below two values, and ε = 1e-4 is added to them.
 *
 * Every total is kept as the sum of what each criterion contributed, so that an advantage can be taken apart again: the shares of its variance.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "grpo.h"

static const double EPSILON = 1e-4, VETO_PENALTY = 1;

static DpsStatus fail_named (DpsError *err, const char *before, const char *name, const char *after)
{
    char text[384];
    snprintf (text, sizeof text, "%s'%.80s'%s", before, name, after);
    return dps_sdk_fail (err, DPS_ERR_INVALID, text);
}

/* One veto, "name<number". */
static DpsStatus read_veto (const char *text, GrpoVeto *out, DpsError *err)
{
    const char *sign = strrchr (text, '<');
    char *end = NULL;
    size_t n = sign ? (size_t)(sign - text) : 0;
    while (n && text[n - 1] == ' ')
        n--;
    out->least = sign ? strtod (sign + 1, &end) : 0;
    while (end && *end == ' ')
        end++;
    if (!n || n >= sizeof out->name || end == sign + 1 || *end || !isfinite (out->least))
        return fail_named (err, "reward_vetoes: ", text,
                           " is no veto: expected a criterion, < and a number, as in \"safety<0.5, format<1\"");
    memcpy (out->name, text, n);
    out->name[n] = '\0';
    return DPS_OK;
}

DpsStatus grpo_read_vetoes (DpsStr text, GrpoRewards *out, DpsError *err)
{
    char one[GRPO_NAME + 32];
    for (size_t at = 0; at < text.len;) {
        size_t n = 0;
        while (at < text.len && text.ptr[at] == ' ')
            at++;
        while (at + n < text.len && text.ptr[at + n] != ',')
            n++;
        if (n >= sizeof one || out->n_vetoes == GRPO_VETOES)
            return dps_sdk_fail (err, DPS_ERR_INVALID, "reward_vetoes: at most 16, of at most 95 bytes each");
        memcpy (one, text.ptr + at, n);
        one[n] = '\0';
        DpsStatus st = read_veto (one, &out->vetoes[out->n_vetoes++], err);
        if (st != DPS_OK)
            return st;
        at += n + 1;
    }
    return DPS_OK;
}

/* A step on its way to advantages. C criteria, and in column C what vetoes took. */
typedef struct Work {
    const GrpoRewards *self;
    const DpsObjectiveBatch *step;
    const DpsRewards *rewards;
    size_t rows, criteria;
    double *parts;     /* (rows, C + 1) what each column contributes to a total */
    double *totals;    /* (rows) NaN: nothing judged this answer */
    double *advantage; /* (rows) */
    size_t n_vetoed, zero_std_rows;
} Work;

static double value_of (const Work *w, size_t row, size_t c) { return w->rewards->values[row * w->criteria + c]; }

static double *part_of (const Work *w, size_t row, size_t c) { return &w->parts[row * (w->criteria + 1) + c]; }

typedef struct Moments {
    size_t n;         /* values that are not NaN */
    double mean, std; /* NaN without a value; below two */
} Moments;

/* Of every stride-th value of n. Equal values have a deviation of exactly 0, and a mean that is exactly theirs. */
static Moments moments_of (const double *x, size_t n, size_t stride)
{
    Moments m = {0, NAN, NAN};
    double sum = 0, squares = 0, first = NAN;
    int equal = 1;
    for (size_t i = 0; i < n; i++) {
        const double v = x[i * stride];
        if (isnan (v))
            continue;
        first = m.n++ ? first : v;
        equal = equal && v == first;
        sum += v;
    }
    if (!m.n)
        return m;
    m.mean = equal ? first : sum / (double)m.n;
    for (size_t i = 0; i < n; i++)
        if (!isnan (x[i * stride]))
            squares += (x[i * stride] - m.mean) * (x[i * stride] - m.mean);
    if (m.n > 1)
        m.std = sqrt (squares / (double)(m.n - 1));
    return m;
}

/* A group of one completion has no deviation, but it counts as 0. */
static double std_of (const Moments *m, size_t group) { return group == 1 ? 0 : m->std; }

static void group_of (const Work *w, uint64_t u, size_t *first, size_t *n)
{
    *first = (size_t)w->step->unit_offsets[u];
    *n = (size_t)w->step->unit_offsets[u + 1] - *first;
}

/* Each criterion's contribution, and their sum. */
static void add_up (Work *w)
{
    for (uint64_t u = 0; u < w->step->n_units; u++) {
        size_t first, n;
        group_of (w, u, &first, &n);
        for (size_t c = 0; c < w->criteria; c++) {
            const Moments m = moments_of (w->rewards->values + first * w->criteria + c, n, w->criteria);
            const double below = std_of (&m, n) + EPSILON;
            for (size_t r = first; r < first + n; r++) {
                const double v = w->self->normalize_first ? (value_of (w, r, c) - m.mean) / below : value_of (w, r, c);
                *part_of (w, r, c) = isnan (v) ? 0 : w->rewards->weights[c] * v;
            }
        }
    }
    for (size_t r = 0; r < w->rows; r++) {
        int judged = 0;
        double total = 0;
        for (size_t c = 0; c < w->criteria; c++) {
            judged |= !isnan (value_of (w, r, c));
            total += *part_of (w, r, c);
        }
        w->totals[r] = judged ? total : NAN;
    }
}

static int is_vetoed (const Work *w, const size_t *columns, size_t row)
{
    for (size_t i = 0; i < w->self->n_vetoes; i++)
        if (value_of (w, row, columns[i]) < w->self->vetoes[i].least)
            return 1;
    return 0;
}

static DpsStatus find_columns (const Work *w, size_t *columns, DpsError *err)
{
    for (size_t i = 0; i < w->self->n_vetoes; i++) {
        size_t c = 0;
        while (c < w->criteria && !dps_str_is (w->rewards->names[c], w->self->vetoes[i].name))
            c++;
        if (c == w->criteria) {
            char known[160] = "; there are: ";
            for (size_t k = 0, at = strlen (known); k < w->criteria && at < sizeof known; k++)
                at += (size_t)snprintf (known + at, sizeof known - at, "%s%.*s", k ? ", " : "",
                                        (int)(w->rewards->names[k].len < 60 ? w->rewards->names[k].len : 60), w->rewards->names[k].ptr);
            return fail_named (err, "reward_vetoes: no criterion of this run is called ", w->self->vetoes[i].name, known);
        }
        columns[i] = c;
    }
    return DPS_OK;
}

/* A vetoed answer falls below the worst of its group that is not; where all are vetoed, they keep their order. */
static DpsStatus apply_vetoes (Work *w, DpsError *err)
{
    size_t columns[GRPO_VETOES], first, n;
    DpsStatus st = find_columns (w, columns, err);
    for (uint64_t u = 0; st == DPS_OK && w->self->n_vetoes && u < w->step->n_units; u++) {
        double least = INFINITY;
        group_of (w, u, &first, &n);
        for (size_t r = first; r < first + n; r++)
            if (!isnan (w->totals[r]) && !is_vetoed (w, columns, r))
                least = fmin (least, w->totals[r]);
        for (size_t r = first; r < first + n; r++) {
            if (isnan (w->totals[r]) || !is_vetoed (w, columns, r))
                continue;
            const double to = fmin (w->totals[r], least) - VETO_PENALTY;
            *part_of (w, r, w->criteria) = to - w->totals[r];
            w->totals[r] = to;
            w->n_vetoed++;
        }
    }
    return st;
}

/* Totals less their mean, over their deviation; the parts go the same way, so that they still add up. */
static void centre (Work *w, size_t first, size_t n, double std, int scaled)
{
    const Moments m = moments_of (w->totals + first, n, 1);
    for (size_t c = 0; c <= w->criteria; c++) {
        double mean = 0;
        for (size_t r = first; r < first + n; r++)
            mean += isnan (w->totals[r]) ? 0 : *part_of (w, r, c) / (double)m.n;
        for (size_t r = first; r < first + n; r++)
            *part_of (w, r, c) = isnan (std) && scaled ? 0 : (*part_of (w, r, c) - mean) / (scaled ? std + EPSILON : 1);
    }
    for (size_t r = first; r < first + n; r++) {
        const double a = (w->totals[r] - m.mean) / (scaled ? std + EPSILON : 1);
        w->advantage[r] = isnan (a) ? 0 : a;
    }
}

static void normalize (Work *w)
{
    const int whole = w->self->normalize_first, by_batch = whole || w->self->scale == GRPO_SCALE_BATCH;
    const Moments all = moments_of (w->totals, w->rows, 1);
    for (uint64_t u = 0; u < w->step->n_units; u++) {
        size_t first, n;
        group_of (w, u, &first, &n);
        const Moments m = moments_of (w->totals + first, n, 1);
        const double std = by_batch ? std_of (&all, w->rows) : std_of (&m, n);
        w->zero_std_rows += fabs (std) <= 1e-8 ? n : 0; /* as torch.isclose has it */
        if (!whole)
            centre (w, first, n, std, w->self->scale != GRPO_SCALE_NONE);
    }
    if (whole)
        centre (w, 0, w->rows, std_of (&all, w->rows), 1);
}

static void report (const DpsMetricSink *sink, const char *name, double value)
{
    if (isfinite (value))
        sink->add (sink->ctx, dps_str (name), value, 1);
}

static void report_criterion (const Work *w, size_t c, const char *what, double value, const DpsMetricSink *sink)
{
    char name[GRPO_NAME + 32];
    const DpsStr criterion = w->rewards->names[c];
    snprintf (name, sizeof name, "rewards/%.*s/%s", (int)criterion.len, criterion.ptr, what);
    report (sink, name, value);
}

/* TRL's numbers of the rewards themselves, before vetoes and normalisation. */
static DpsStatus report_rewards (const Work *w, const DpsMetricSink *sink, DpsError *err)
{
    double *sums = dps_malloc (w->rows, sizeof *sums);
    if (!sums)
        return dps_sdk_fail (err, DPS_ERR_NOMEM, "no memory");
    for (size_t r = 0; r < w->rows; r++) {
        sums[r] = isnan (w->totals[r]) ? NAN : 0;
        for (size_t c = 0; c < w->criteria; c++)
            sums[r] += isnan (value_of (w, r, c)) ? 0 : w->rewards->weights[c] * value_of (w, r, c);
    }
    for (size_t c = 0; c < w->criteria; c++) {
        const Moments m = moments_of (w->rewards->values + c, w->rows, w->criteria);
        report_criterion (w, c, "mean", m.mean, sink);
        report_criterion (w, c, "std", m.std, sink);
    }
    const Moments m = moments_of (sums, w->rows, 1);
    report (sink, "reward", m.mean);
    report (sink, "reward_std", m.std);
    report (sink, "frac_reward_zero_std", (double)w->zero_std_rows / (double)w->rows);
    if (w->self->n_vetoes)
        report (sink, "rewards/vetoed", (double)w->n_vetoed / (double)w->rows);
    dps_free (sums);
    return DPS_OK;
}

/* Σ over answers of products of what columns a and b (or the advantage, without column a: b < 0) contribute. */
static double product_of (const Work *w, size_t a, size_t b)
{
    double sum = 0;
    for (size_t r = 0; r < w->rows; r++)
        sum += isnan (w->totals[r]) ? 0 : *part_of (w, r, a) * (b > w->criteria ? w->advantage[r] : *part_of (w, r, b));
    return sum;
}

/*
 * With A = Σ_c a_c over answers: the share of criterion c is Σ a_c·A / Σ A² (all of them and the vetoes' add up to 1; negative where a criterion is
 * outvoted), its correlation is that of a_c with A − a_c, the others. A criterion that judged nothing in this step cannot be dominated.
 */
static void report_shares (GrpoRewards *self, const Work *w, const DpsHost *host, const DpsMetricSink *sink)
{
    const size_t advantage = w->criteria + 1;
    double variance = 0, most = -INFINITY;
    size_t weighty = 0, largest = 0;
    for (size_t r = 0; r < w->rows; r++)
        variance += w->advantage[r] * w->advantage[r];
    for (size_t c = 0; c < w->criteria && variance > 0; c++) {
        const double own = product_of (w, c, c), with = product_of (w, c, advantage), others = variance - 2 * with + own;
        weighty += w->rewards->weights[c] != 0 && moments_of (w->rewards->values + c, w->rows, w->criteria).n > 0;
        report_criterion (w, c, "share", with / variance, sink);
        if (own > 1e-12 * variance && others > 1e-12 * variance)
            report_criterion (w, c, "correlation", (with - own) / sqrt (own * others), sink);
        if (with / variance > most) {
            most = with / variance;
            largest = c;
        }
    }
    if (weighty < 2)
        return;
    report (sink, "reward_dominance", most);
    if (most > self->dominance && ++self->alarms && (self->alarms & (self->alarms - 1)) == 0 && host->log) {
        char line[320];
        const DpsStr name = w->rewards->names[largest];
        snprintf (
            line, sizeof line,
            "grpo: criterion '%.*s' explains %.0f %% of the advantage's variance, more than reward_dominance %g (%llu times so far)%s",
            (int)(name.len < 60 ? name.len : 60), name.ptr, 100 * most, self->dominance, (unsigned long long)self->alarms,
            most > 1 ? ". Shares add up to 100 %: one is above where another is negative, pulling the other way" : "");
        host->log (DPS_HOST_LOG_WARNING, dps_str (line));
    }
}

DpsStatus grpo_advantages (GrpoRewards *self, const DpsHost *host, const DpsObjectiveBatch *step, const DpsRewards *rewards,
                           const DpsMetricSink *metrics, double *advantage, DpsError *err)
{
    Work w = {
        .self = self, .step = step, .rewards = rewards, .rows = step->n_rows, .criteria = rewards->n_criteria, .advantage = advantage};
    if (!w.criteria)
        return dps_sdk_fail (err, DPS_ERR_SHAPE, "nothing judges the answers: rows need scores, or the recipe reward_funcs");
    w.parts = dps_calloc (w.rows * (w.criteria + 1), sizeof *w.parts);
    w.totals = dps_calloc (w.rows, sizeof *w.totals);
    DpsStatus st = w.parts && w.totals ? DPS_OK : dps_sdk_fail (err, DPS_ERR_NOMEM, "no memory");
    if (st == DPS_OK) {
        add_up (&w);
        st = apply_vetoes (&w, err);
    }
    if (st == DPS_OK) {
        normalize (&w);
        st = report_rewards (&w, metrics, err);
    }
    if (st == DPS_OK && w.criteria > 1)
        report_shares (self, &w, host, metrics);
    dps_free (w.parts);
    dps_free (w.totals);
    return st;
}
