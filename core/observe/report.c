/* SPDX-License-Identifier: Apache-2.0 */
#include "observe/report.h"

#include <math.h>
#include <string.h>

#include "base/file.h"
#include "observe/chart.h"
#include "observe/html.h"
#include "observe/report_style.h"

enum { MAX_SAMPLE = 4000 }; /* characters of one generated text */

/* One column of the log history, aligned with its steps. */
typedef struct Column {
    double *x, *y;
    size_t n;
} Column;

static int read_column (const json_t *history, const char *key, Column *out)
{
    size_t n = json_array_size (history), i;
    json_t *entry;
    out->x = dps_calloc (n, sizeof *out->x);
    out->y = dps_calloc (n, sizeof *out->y);
    out->n = 0;
    if (!out->x || !out->y)
        return -1;
    json_array_foreach (history, i, entry) {
        const json_t *v = json_object_get (entry, key), *step = json_object_get (entry, "step");
        if (!v || !json_is_number (step))
            continue;
        out->x[out->n] = json_number_value (step);
        out->y[out->n++] = json_is_number (v) ? json_number_value (v) : NAN;
    }
    return 0;
}

static void column_free (Column *c)
{
    dps_free (c->x);
    dps_free (c->y);
}

typedef struct Curve {
    const char *title, *keys[2], *names[2];
    int from_zero, smooth;
} Curve;

static const Curve curves[] = {
    {"Loss", {"loss", "eval_loss"}, {"training", "evaluation"}, 0, 1},
    {"Reward", {"reward", "eval_reward"}, {"training", "evaluation"}, 0, 1},
    {"Reward on held-out prompts", {"eval_reward", NULL}, {"evaluation", NULL}, 0, 0},
    {"Score of the answers", {"objective/scores", NULL}, {"score", NULL}, 0, 1},
    {"Preferences judged right", {"rewards/accuracies", "eval_rewards/accuracies"}, {"training", "evaluation"}, 0, 1},
    {"Margin of the preferred", {"rewards/margins", "eval_rewards/margins"}, {"training", "evaluation"}, 0, 1},
    {"Length of the answers", {"completions/mean_length", NULL}, {"tokens", NULL}, 1, 1},
    {"KL to the reference", {"kl", NULL}, {"KL", NULL}, 0, 1},
    {"KL to the reference, of an answer", {"objective/kl", NULL}, {"KL", NULL}, 0, 1},
    {"Evaluation loss", {"eval_loss", NULL}, {"evaluation", NULL}, 0, 0},
    {"Learning rate", {"learning_rate", NULL}, {"learning rate", NULL}, 1, 0},
    {"Gradient norm", {"grad_norm", NULL}, {"gradient norm", NULL}, 1, 1},
    {"Token accuracy", {"mean_token_accuracy", "eval_mean_token_accuracy"}, {"training", "evaluation"}, 0, 1},
    {"Tokens per second", {"tokens_per_second", NULL}, {"tokens/s", NULL}, 1, 1},
};

/* "last 1.893": the newest finite value of the first series. */
static int add_last (DpsBuf *out, const DpsSeries *s)
{
    char text[40];
    size_t i = s->n;
    while (i && !isfinite (s->y[i - 1]))
        i--;
    if (i == 0)
        return 0;
    dps__chart_number (s->y[i - 1], text, sizeof text);
    return dps_buf_printf (out, "<span class=\"now\">last %s</span>", text);
}

static int add_chart (DpsBuf *out, const Curve *curve, const Column *columns, size_t n)
{
    DpsChart c = {.label = curve->title, .n_series = n, .from_zero = curve->from_zero};
    for (size_t k = 0; k < n; k++)
        c.series[k] = (DpsSeries){curve->names[k], columns[k].x, columns[k].y, columns[k].n, curve->smooth && k == 0};
    if (n == 2 && dps__chart_points (&(DpsChart){.series = {c.series[1]}, .n_series = 1}) == 0)
        c.n_series = 1;
    if (dps__chart_points (&(DpsChart){.series = {c.series[0]}, .n_series = 1}) < 2)
        return 0;
    int bad = dps_buf_str (out, "<figure class=\"card chart\" style=\"margin:0\"><div class=\"chart-head\"><h3>") ||
              dps__html_text (out, curve->title) || dps_buf_str (out, "</h3>");
    for (size_t k = 0; k < c.n_series && c.n_series > 1 && !bad; k++)
        bad = dps_buf_printf (out, "<span class=\"key\"><i class=\"k%zu\"></i>%s</span>", k, curve->names[k]);
    return bad || add_last (out, &c.series[0]) || dps_buf_str (out, "</div>\n") || dps__chart_svg (out, &c) ||
           dps_buf_str (out, "</figure>\n");
}

static int add_curve (DpsBuf *out, const json_t *history, const Curve *curve)
{
    Column columns[2] = {{0}};
    size_t n = curve->keys[1] ? 2 : 1;
    int bad = 0;
    for (size_t k = 0; k < n && !bad; k++)
        bad = read_column (history, curve->keys[k], &columns[k]);
    bad = bad || add_chart (out, curve, columns, n);
    for (size_t k = 0; k < n; k++)
        column_free (&columns[k]);
    return bad;
}

/* "rewards/NAME/mean" → NAME, or NULL: no criterion, or no memory. */
static char *criterion_of (const char *key)
{
    static const char head[] = "rewards/", tail[] = "/mean";
    const size_t n = strlen (key), before = sizeof head - 1, after = sizeof tail - 1;
    if (n <= before + after || strncmp (key, head, before) != 0 || strcmp (key + n - after, tail) != 0)
        return NULL;
    return dps_strndup (key + before, n - before - after);
}

/* What one criterion gave, and its share of what decided. */
static int add_criterion (DpsBuf *out, const json_t *history, const char *name)
{
    char *title = dps_strf ("Reward: %s", name), *mean = dps_strf ("rewards/%s/mean", name),
         *held = dps_strf ("eval_rewards/%s/mean", name);
    char *share = dps_strf ("rewards/%s/share", name), *share_title = dps_strf ("%s: share of the advantage", name);
    int bad = !title || !mean || !held || !share || !share_title ||
              add_curve (out, history, &(Curve){title, {mean, held}, {"training", "evaluation"}, 0, 1}) ||
              add_curve (out, history, &(Curve){share_title, {share, NULL}, {"share", NULL}, 0, 1});
    dps_free (title);
    dps_free (mean);
    dps_free (held);
    dps_free (share);
    dps_free (share_title);
    return bad;
}

/* Each criterion once, in the order they were logged first. */
static int add_criteria (DpsBuf *out, const json_t *history)
{
    json_t *seen = json_object (), *entry, *value;
    const char *key;
    size_t i;
    int bad = !seen;
    json_array_foreach (history, i, entry)
        json_object_foreach (entry, key, value) {
            char *name = bad ? NULL : criterion_of (key);
            if (name && !json_object_get (seen, name))
                bad = json_object_set_new (seen, name, json_true ()) || add_criterion (out, history, name);
            dps_free (name);
        }
    json_decref (seen);
    return bad;
}

static int add_curves (DpsBuf *out, const json_t *history)
{
    size_t before;
    int bad = dps_buf_str (out, "<h2>Curves</h2>\n<div class=\"charts\">\n");
    before = out->len;
    for (size_t i = 0; i < sizeof curves / sizeof *curves && !bad; i++)
        bad = add_curve (out, history, &curves[i]);
    bad = bad || add_criteria (out, history);
    if (!bad && out->len == before)
        bad = dps_buf_str (out, "<p class=\"empty\">Fewer than two logging steps: nothing to draw yet.</p>\n");
    return bad || dps_buf_str (out, "</div>\n");
}

static int add_value (DpsBuf *out, double v, int percent)
{
    if (!isfinite (v))
        return dps_buf_str (out, "–");
    return percent ? dps_buf_printf (out, "%.1f %%", 100 * v) : dps_buf_printf (out, fabs (v) >= 100 ? "%.1f" : "%.4g", v);
}

static int add_change (DpsBuf *out, const DpsReportScore *s)
{
    double d = s->after - s->before;
    if (!isfinite (d))
        return dps_buf_str (out, "–");
    const char *css = d == 0 ? "" : (d < 0) == (s->lower_is_better != 0) ? "good" : "bad";
    const char *sign = d > 0 ? "+" : d < 0 ? "−" : "±";
    if (dps_buf_printf (out, "<span class=\"%s\">%s%s", css, d > 0 ? "▲ " : d < 0 ? "▼ " : "", sign))
        return -1;
    return (s->percent ? dps_buf_printf (out, "%.1f points", 100 * fabs (d)) : dps_buf_printf (out, "%.4g", fabs (d))) ||
           dps_buf_str (out, "</span>");
}

static int add_bar (DpsBuf *out, double v, double most, const char *css)
{
    double share = isfinite (v) && v > 0 && most > 0 ? 100 * v / most : 0;
    return dps_buf_printf (out, "<div class=\"bar\"><i class=\"%s\" style=\"width:%.1f%%\"></i></div>", css, share);
}

static int add_score (DpsBuf *out, const DpsReportScore *s)
{
    double most = s->percent ? 1 : fmax (isfinite (s->before) ? s->before : 0, isfinite (s->after) ? s->after : 0);
    int bad = dps_buf_str (out, "<tr><th scope=\"row\">") || dps__html_text (out, s->name);
    if (s->detail && !bad)
        bad = dps_buf_str (out, "<span class=\"detail\">") || dps__html_text (out, s->detail) || dps_buf_str (out, "</span>");
    bad = bad || dps_buf_str (out, "</th><td class=\"n\">") || add_value (out, s->before, s->percent) ||
          dps_buf_str (out, "</td><td class=\"n\">") || add_value (out, s->after, s->percent) ||
          dps_buf_str (out, "</td><td class=\"n\">") || add_change (out, s) ||
          dps_buf_str (out, "</td><td class=\"bars\" aria-hidden=\"true\">") || add_bar (out, s->before, most, "") ||
          add_bar (out, s->after, most, "k0");
    return bad || dps_buf_str (out, "</td></tr>\n");
}

static int add_scores (DpsBuf *out, const DpsReport *r)
{
    int bad = dps_buf_str (
        out, "<h2>Before and after</h2>\n<div class=\"card scroll\"><table><thead><tr><th>Held-out measure</th><th class=\"n\">Before</th>"
             "<th class=\"n\">After</th><th class=\"n\">Change</th><th></th></tr></thead><tbody>\n");
    for (size_t i = 0; i < r->n_scores && !bad; i++)
        bad = add_score (out, &r->scores[i]);
    return bad || dps_buf_str (out, "</tbody></table></div>\n");
}

static int add_said (DpsBuf *out, const char *who, const char *text, const char *css)
{
    if (!text)
        return 0;
    return dps_buf_printf (out, "<div><p class=\"who\">%s</p><pre class=\"%s\" dir=\"auto\">", who, css) ||
           dps__html_cut (out, text, MAX_SAMPLE) || dps_buf_str (out, "</pre></div>\n");
}

static int add_samples (DpsBuf *out, const DpsReport *r)
{
    int bad = dps_buf_str (out, "<h2>Generated samples</h2>\n");
    for (size_t i = 0; i < r->n_samples && !bad; i++) {
        const DpsReportSample *s = &r->samples[i];
        bad = dps_buf_str (out, "<article class=\"card sample\">\n") || add_said (out, "Prompt", s->prompt, "") ||
              dps_buf_str (out, "<div class=\"said\">\n") || add_said (out, "Early in training", s->early, "") ||
              add_said (out, "Late in training", s->late, "after") || add_said (out, "Expected", s->expected, "") ||
              dps_buf_str (out, "</div></article>\n");
    }
    return bad;
}

static int add_facts (DpsBuf *out, const DpsReport *r)
{
    int bad = dps_buf_str (out, "<dl class=\"facts\">\n");
    for (size_t i = 0; i < r->n_facts && !bad; i++)
        bad = dps_buf_str (out, "<div class=\"card\"><dt>") || dps__html_text (out, r->facts[i].name) || dps_buf_str (out, "</dt><dd>") ||
              dps__html_text (out, r->facts[i].value) || dps_buf_str (out, "</dd></div>\n");
    return bad || dps_buf_str (out, "</dl>\n");
}

static int add_groups (DpsBuf *out, const DpsReport *r)
{
    int bad = dps_buf_str (out, "<h2>What was run</h2>\n<div class=\"groups\">\n");
    for (size_t g = 0; g < r->n_groups && !bad; g++) {
        bad = dps_buf_str (out, "<section class=\"card\"><h3>") || dps__html_text (out, r->groups[g].title) ||
              dps_buf_str (out, "</h3><table><tbody>\n");
        for (size_t i = 0; i < r->groups[g].n && !bad; i++)
            bad = dps_buf_str (out, "<tr><th scope=\"row\">") || dps__html_text (out, r->groups[g].rows[i].name) ||
                  dps_buf_str (out, "</th><td>") || dps__html_text (out, r->groups[g].rows[i].value) || dps_buf_str (out, "</td></tr>\n");
        bad = bad || dps_buf_str (out, "</tbody></table></section>\n");
    }
    return bad || dps_buf_str (out, "</div>\n");
}

int dps_report_html (DpsBuf *out, const DpsReport *r)
{
    int bad =
        dps_buf_str (out,
                     "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
                     "<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n"
                     "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n<title>") ||
        dps__html_text (out, r->title) || dps_buf_str (out, " – Diapason</title>\n<style>\n") || dps_buf_str (out, dps__report_style) ||
        dps_buf_str (out, "</style>\n</head>\n<body>\n<main>\n<header>") || dps_buf_str (out, dps__report_mark) ||
        dps_buf_str (out, "<div><h1>") || dps__html_text (out, r->title) || dps_buf_str (out, "</h1><p>") ||
        dps__html_text (out, r->subtitle) || dps_buf_str (out, "</p></div></header>\n");
    if (r->n_facts && !bad)
        bad = add_facts (out, r);
    if (r->n_scores && !bad)
        bad = add_scores (out, r);
    bad = bad || add_curves (out, r->log_history);
    if (r->n_samples && !bad)
        bad = add_samples (out, r);
    if (r->n_groups && !bad)
        bad = add_groups (out, r);
    return bad || dps_buf_str (out, "<footer>Written by Diapason ") || dps__html_text (out, r->version) ||
                   dps_buf_str (out, ". Every logged value is in metrics.jsonl beside this page.</footer>\n</main>\n</body>\n</html>\n")
               ? -1
               : 0;
}

DpsStatus dps_report_write (const char *path, const DpsReport *r, DpsError *err)
{
    DpsBuf page = {0};
    const int bad = dps_report_html (&page, r);
    return dps_file_write_buf (path, &page, bad, err);
}
