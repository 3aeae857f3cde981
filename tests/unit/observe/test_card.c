/* SPDX-License-Identifier: Apache-2.0 */
#include "observe/card.h"

#include <libfyaml.h>

#include "check.h"

static const char *const tags[] = {"lora", "sft"};
static const char *const datasets[] = {"tickets: \"fr\"\n---\nevil: true", "données.jsonl"};
static const DpsReportPair settings[] = {{"learning_rate", "2e-4"}, {"note", "a|b `c` <script> *x*\n| d"}};
static const DpsReportScore scores[] = {{"Label accuracy", "500 tickets", 0.124, 0.83, 0, 1}, {"NLL", NULL, NAN, 0.7421, 1, 0}};
static const DpsCard card = {.name = "help-desk_fr",
                             .base_model = "google/gemma-3-270m",
                             .base_sha256 = "a5fd",
                             .license = "gemma",
                             .is_adapter = 1,
                             .tags = tags,
                             .n_tags = 2,
                             .datasets = datasets,
                             .n_datasets = 2,
                             .settings = settings,
                             .n_settings = 2,
                             .scores = scores,
                             .n_scores = 2,
                             .version = "0.1.0"};

static void test_header_is_yaml_that_hubs_read (void)
{
    DpsBuf b = {0};
    CU_ASSERT_EQUAL_FATAL (dps_card_markdown (&b, &card), 0);
    CU_ASSERT_EQUAL_FATAL (strncmp (b.data, "---\n", 4), 0);
    char *end = strstr (b.data + 4, "\n---\n");
    CU_ASSERT_PTR_NOT_NULL_FATAL (end);
    struct fy_document *doc = fy_document_build_from_string (NULL, b.data + 4, (size_t)(end - b.data) - 3);
    CU_ASSERT_PTR_NOT_NULL_FATAL (doc);
    static const char *const want[][2] = {{"/base_model", "google/gemma-3-270m"},
                                          {"/library_name", "peft"},
                                          {"/pipeline_tag", "text-generation"},
                                          {"/tags/0", "base_model:adapter:google/gemma-3-270m"},
                                          {"/tags/1", "lora"},
                                          {"/tags/2", "sft"},
                                          {"/license", "gemma"},
                                          {"/datasets/0", "tickets: \"fr\"\n---\nevil: true"},
                                          {"/datasets/1", "données.jsonl"}};
    for (size_t i = 0; i < sizeof want / sizeof *want; i++) {
        struct fy_node *node = fy_node_by_path (fy_document_root (doc), want[i][0], FY_NT, FYNWF_DONT_FOLLOW);
        size_t len = 0;
        const char *text = fy_node_get_scalar (node, &len);
        CU_ASSERT_PTR_NOT_NULL_FATAL (text);
        if (len != strlen (want[i][1]) || memcmp (text, want[i][1], len))
            printf ("\n    %s: '%.*s'", want[i][0], (int)len, text);
        CU_ASSERT (len == strlen (want[i][1]) && !memcmp (text, want[i][1], len));
    }
    CU_ASSERT_EQUAL (fy_node_mapping_item_count (fy_document_root (doc)), 6);
    fy_document_destroy (doc);
    dps_buf_free (&b);
}

static void test_values_cannot_break_the_tables (void)
{
    DpsBuf b = {0};
    CU_ASSERT_EQUAL_FATAL (dps_card_markdown (&b, &card), 0);
    CU_ASSERT_PTR_NOT_NULL (strstr (b.data, "| note | a\\|b \\`c\\` &lt;script&gt; \\*x\\* \\| d |\n"));
    CU_ASSERT_PTR_NOT_NULL (strstr (b.data, "| Label accuracy (500 tickets) | 12.4 % | 83.0 % |\n"));
    CU_ASSERT_PTR_NOT_NULL (strstr (b.data, "| NLL | – | 0.7421 |\n"));
    CU_ASSERT_PTR_NOT_NULL (strstr (b.data, "# help-desk\\_fr\n"));
    CU_ASSERT_PTR_NOT_NULL (strstr (b.data, "PeftModel.from_pretrained"));
    CU_ASSERT_PTR_NULL (strstr (b.data, "<script"));
    dps_buf_free (&b);
}

static void test_a_whole_model_names_transformers (void)
{
    DpsBuf b = {0};
    CU_ASSERT_EQUAL_FATAL (dps_card_markdown (&b, &(DpsCard){.name = "m", .base_model = "x"}), 0);
    CU_ASSERT_PTR_NOT_NULL (strstr (b.data, "library_name: transformers\n"));
    CU_ASSERT_PTR_NOT_NULL (strstr (b.data, "- \"base_model:finetune:x\"\n"));
    CU_ASSERT_PTR_NULL (strstr (b.data, "peft"));
    dps_buf_free (&b);
}

static void test_every_allocation_may_fail (void)
{
    for (uint64_t k = 1; k < 200; k++) {
        DpsBuf b = {0};
        int64_t live = dps_mem_live ();
        dps_mem_fail_at (k);
        int bad = dps_card_markdown (&b, &card);
        dps_mem_fail_at (0);
        dps_buf_free (&b);
        CU_ASSERT_EQUAL (dps_mem_live (), live);
        if (!bad) {
            CU_ASSERT (k > 10);
            return;
        }
    }
}

CHECK_MAIN ("observe.card", T (test_header_is_yaml_that_hubs_read), T (test_values_cannot_break_the_tables),
            T (test_a_whole_model_names_transformers), T (test_every_allocation_may_fail))
