/* SPDX-License-Identifier: Apache-2.0 */
/* The page is also left in the build folder, tests/report.html, to be looked at. */
#include "observe/report.h"

#include <stdlib.h>

#include "base/file.h"
#include "check.h"
#include "observe/chart.h"
#include "observe/html.h"

static const char hostile[] = "</pre><script>alert(1)</script><img src=x onerror='a()'>\"\x01\xff\xfe & l'été à Noël — “ça marche” ?";

static json_t *history (int n)
{
    json_t *list = json_array ();
    for (int i = 1; i <= n; i++) {
        double wave = sin (i * 12.9898) * 43758.5453, noise = wave - floor (wave) - 0.5;
        double loss = 0.62 + 2.6 * exp (-i / 45.0) + 0.35 * noise;
        json_t *e = json_pack ("{sf sf sf sf sf sf si}", "mean_token_accuracy", 0.9 - 0.5 * exp (-i / 40.0) + 0.1 * noise, "loss", loss,
                               "grad_norm", 0.6 + 2.5 * exp (-i / 20.0) + 0.5 * fabs (noise), "learning_rate",
                               2e-4 * (i < 10 ? i / 10.0 : 0.5 * (1 + cos (3.14159 * (i - 10) / (double)n))), "tokens_per_second",
                               640 + 60 * noise - (i < 4 ? 300 : 0), "epoch", i / (double)n, "step", i);
        if (i == n / 2)
            json_object_set_new (e, "loss", json_null ());
        json_object_set_new (e, "rewards/<b>tone/mean", json_real (0.5 + 0.1 * noise)); /* a criterion is called what a recipe likes */
        json_object_set_new (e, "rewards/<b>tone/share", json_real (0.3));
        json_object_set_new (e, "rewards/margins", json_real (0.01 * i));
        json_array_append_new (list, e);
        if (i % 30 == 0)
            json_array_append_new (list,
                                   json_pack ("{sf sf si}", "eval_loss", 0.7 + 2.4 * exp (-i / 50.0), "epoch", i / (double)n, "step", i));
    }
    return list;
}

static DpsReport demo (json_t *log)
{
    static const DpsReportPair facts[] = {
        {"Evaluation loss", "3.10 → 0.74"}, {"Label accuracy", "12.4 → 83.0 %"}, {"Duration", "9:41"},
        {"Tokens per second", "641"},       {"Tokens trained on", "372 k"},      {"Peak memory", "1.9 GB"}};
    static const DpsReportScore scores[] = {{"Label accuracy", "500 held-out tickets, French and English", 0.124, 0.83, 0, 1},
                                            {"Mean NLL of the answer", "nats per token", 3.1042, 0.7421, 1, 0},
                                            {"Perplexity", "of plain French text", 18.2, 19.04, 1, 0},
                                            {"Exact match", NULL, NAN, 0.41, 0, 1}};
    static const DpsReportSample samples[] = {
        {"Objet : imprimante bloquée\nL'imprimante du 3e étage affiche « bourrage papier » depuis ce matin, et rien ne sort.\n\nCatégorie "
         "?",
         "Matériel / Imprimante",
         "L'imprimante du 3e étage affiche « bourrage papier » depuis ce matin, et rien ne sort. L'imprimante du 3e étage",
         "Matériel / Imprimante"},
        {hostile, NULL, hostile, hostile}};
    static const DpsReportPair recipe[] = {{"stage", "sft"}, {"learning_rate", "0.0002"},           {"lr_scheduler_type", "cosine"},
                                           {"lora_r", "16"}, {"lora_target_modules", "all-linear"}, {"per_device_train_batch_size", "4"},
                                           {"seed", "42"}};
    static const DpsReportPair base[] = {{"Path", "gemma-3-270m-q4_k_m.gguf"},
                                         {"SHA-256", "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818"},
                                         {"Parameters", "268 M"}};
    static const DpsReportPair data[] = {{"<b>helpdesk.jsonl</b>", "1,400 rows, 372,000 tokens (128,000 trained)"}};
    static const DpsReportGroup groups[] = {{"Recipe", recipe, 7}, {"Base model", base, 3}, {"Data", data, 1}};
    return (DpsReport){.title = "Aide informatique : tri des tickets",
                       .subtitle = "LoRA r=16 on gemma-3-270m · 1 epoch · 300 steps · 2026-11-24",
                       .version = "0.1.0",
                       .facts = facts,
                       .n_facts = 6,
                       .scores = scores,
                       .n_scores = 4,
                       .samples = samples,
                       .n_samples = 2,
                       .groups = groups,
                       .n_groups = 3,
                       .log_history = log};
}

static size_t count (const char *text, const char *what)
{
    size_t n = 0;
    for (const char *p = text; (p = strstr (p, what)); p++)
        n++;
    return n;
}

static void test_page_is_self_contained_and_escaped (void)
{
    DpsError err = DPS_ERROR_INIT;
    json_t *log = history (300);
    DpsReport r = demo (log);
    DpsBuf b = {0};
    CHECK_OK (dps_report_write (DPS_BUILD "/tests/report.html", &r, &err));
    CHECK_OK (dps_file_read (DPS_BUILD "/tests/report.html", 1 << 24, &b, &err));
    static const char *const never[] = {"<script", "<img",    "onerror='", "http://", "https://", "<b>",
                                        "url(",    "@import", "nan",       "inf\"",   "\x01",     "\xff"};
    for (size_t i = 0; i < sizeof never / sizeof *never; i++) {
        if (strstr (b.data, never[i]))
            printf ("\n    found '%s'", never[i]);
        CU_ASSERT_PTR_NULL (strstr (b.data, never[i]));
    }
    CU_ASSERT_EQUAL (count (b.data, "<figure"), 9);
    CU_ASSERT_EQUAL (count (b.data, "<h3>Reward: &lt;b&gt;tone</h3>"), 1);
    CU_ASSERT_EQUAL (count (b.data, "<h3>&lt;b&gt;tone: share of the advantage</h3>"), 1);
    static const char *const pairs[] = {"main", "figure", "table", "tbody", "article", "section", "div",
                                        "pre",  "dl",     "tr",    "svg",   "p",       "span"};
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
        char open[20], bare[20], close[20];
        snprintf (open, sizeof open, "<%s ", pairs[i]);
        snprintf (bare, sizeof bare, "<%s>", pairs[i]);
        snprintf (close, sizeof close, "</%s>", pairs[i]);
        CU_ASSERT_EQUAL (count (b.data, open) + count (b.data, bare), count (b.data, close));
    }
    CU_ASSERT_PTR_NOT_NULL (strstr (b.data, "&lt;script&gt;alert(1)&lt;/script&gt;"));
    CU_ASSERT_PTR_NOT_NULL (strstr (b.data, "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd &amp; l&#39;été à Noël"));
    CU_ASSERT_PTR_NOT_NULL (strstr (b.data, "▲ +70.6 points"));
    CU_ASSERT_EQUAL (count (b.data, ">Early in training<"), 2);
    CU_ASSERT_EQUAL (count (b.data, ">Late in training<"), 2);
    CU_ASSERT (b.len < 400000);
    dps_buf_free (&b);
    json_decref (log);
}

static void test_a_run_without_values_still_gives_a_page (void)
{
    DpsBuf b = {0};
    CU_ASSERT_EQUAL (dps_report_html (&b, &(DpsReport){.title = "empty"}), 0);
    CU_ASSERT_PTR_NOT_NULL (strstr (b.data, "nothing to draw yet"));
    CU_ASSERT_PTR_NULL (strstr (b.data, "<svg viewBox=\"0 0 640"));
    dps_buf_free (&b);
}

/* Constant, huge, tiny, all missing, negative, very many: the picture stays finite. */
static void test_odd_series (void)
{
    static double x[20000], y[20000];
    static const double values[] = {0, 1, -3, 1e-12, 1e25, 7e-300};
    for (size_t i = 0; i < 20000; i++)
        x[i] = (double)i;
    for (size_t v = 0; v < 8; v++)
        for (size_t n = 0; n <= 20000; n = n * 3 + 1) {
            DpsBuf b = {0};
            for (size_t i = 0; i < n; i++)
                y[i] = v < 6 ? values[v] : v == 6 ? NAN : (i % 7 ? (double)(i % 1000) : INFINITY);
            DpsChart c = {"odd", {{"y", x, y, n, 1}}, 1, v % 2 == 0};
            CU_ASSERT_EQUAL (dps__chart_svg (&b, &c), 0);
            CU_ASSERT_PTR_NULL (strstr (b.data, "nan"));
            CU_ASSERT_PTR_NULL (strstr (b.data, "inf"));
            CU_ASSERT (b.len < 200000);
            dps_buf_free (&b);
        }
}

static void test_numbers (void)
{
    static const struct {
        double v;
        const char *text;
    } cases[] = {{0, "0"},           {0.5, "0.5"}, {2e-4, "2e-4"},   {1.5e-5, "1.5e-5"}, {1500, "1500"},  {15000, "15k"},
                 {1250000, "1.25M"}, {2e9, "2e9"}, {-0.25, "-0.25"}, {0.0074, "7.4e-3"}, {1e-10, "1e-10"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char text[40];
        dps__chart_number (cases[i].v, text, sizeof text);
        CHECK_STR (text, cases[i].text);
    }
}

static void test_cut_text (void)
{
    DpsBuf b = {0};
    CU_ASSERT_EQUAL (dps__html_cut (&b, "éàü<x", 4), 0);
    CHECK_STR (b.data, "éàü&lt;…");
    dps_buf_free (&b);
}

static void test_every_allocation_may_fail (void)
{
    json_t *log = history (40);
    DpsReport r = demo (log);
    for (uint64_t k = 1; k < 500; k++) {
        DpsBuf b = {0};
        dps_mem_fail_at (k);
        int bad = dps_report_html (&b, &r);
        dps_mem_fail_at (0);
        dps_buf_free (&b);
        if (!bad) {
            CU_ASSERT (k > 20);
            break;
        }
    }
    json_decref (log);
}

CHECK_MAIN ("observe.report", T (test_page_is_self_contained_and_escaped), T (test_a_run_without_values_still_gives_a_page),
            T (test_odd_series), T (test_numbers), T (test_cut_text), T (test_every_allocation_may_fail))
