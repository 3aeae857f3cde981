/* SPDX-License-Identifier: Apache-2.0 */
#include "observe/card.h"

#include <math.h>
#include <string.h>

#include "base/file.h"
#include "observe/html.h"

/* A JSON string is a YAML double-quoted scalar. */
static int yaml_text (DpsBuf *out, const char *s) { return dps_json_quote (out, s, strlen (s)); }

static int yaml_list (DpsBuf *out, const char *key, const char *first, const char *const *items, size_t n)
{
    int bad = dps_buf_printf (out, "%s:\n", key);
    if (first && !bad)
        bad = dps_buf_str (out, "- ") || yaml_text (out, first) || dps_buf_str (out, "\n");
    for (size_t i = 0; i < n && !bad; i++)
        bad = dps_buf_str (out, "- ") || yaml_text (out, items[i]) || dps_buf_str (out, "\n");
    return bad;
}

/* Text inside Markdown: no markup, no line breaks, no table columns of its own. */
static int markdown_text (DpsBuf *out, const char *s)
{
    static const char special[] = "\\`*_[]|#~";
    DpsBuf plain = {0};
    int bad = 0;
    for (const char *p = s ? s : ""; *p && !bad; p++) {
        if (strchr (special, *p))
            bad = dps_buf_str (&plain, "\\");
        bad = bad || dps_buf_add (&plain, *p == '\n' || *p == '\r' || *p == '\t' ? " " : p, 1);
    }
    bad = bad || dps__html_text (out, plain.data);
    dps_buf_free (&plain);
    return bad;
}

/* Inside a code span only the fence itself and line breaks matter. */
static int code_text (DpsBuf *out, const char *s)
{
    int bad = dps_buf_str (out, "`");
    for (const char *p = s ? s : ""; *p && !bad; p++)
        bad = dps_buf_add (out, *p == '`' ? "'" : (unsigned char)*p < ' ' ? " " : p, 1);
    return bad || dps_buf_str (out, "`");
}

static int add_header (DpsBuf *out, const DpsCard *c)
{
    const char *library = !c->is_adapter ? "transformers" : c->is_foreign ? "diapason" : "peft";
    char *relation = dps_strf ("base_model:%s:%s", c->is_adapter ? "adapter" : "finetune", c->base_model ? c->base_model : "unknown");
    int bad = !relation || dps_buf_str (out, "---\nbase_model: ") || yaml_text (out, c->base_model ? c->base_model : "unknown") ||
              dps_buf_printf (out, "\nlibrary_name: %s\npipeline_tag: text-generation\n", library) ||
              yaml_list (out, "tags", relation, c->tags, c->n_tags) || dps_buf_str (out, "license: ") ||
              yaml_text (out, c->license ? c->license : "other") || dps_buf_str (out, "\n");
    dps_free (relation);
    if (c->n_datasets && !bad)
        bad = yaml_list (out, "datasets", NULL, c->datasets, c->n_datasets);
    return bad || dps_buf_str (out, "---\n\n");
}

static int add_value (DpsBuf *out, const DpsReportScore *s, double v)
{
    if (!isfinite (v))
        return dps_buf_str (out, "–");
    return s->percent ? dps_buf_printf (out, "%.1f %%", 100 * v) : dps_buf_printf (out, "%.4g", v);
}

static int add_results (DpsBuf *out, const DpsCard *c)
{
    int bad = dps_buf_str (out, "## Results\n\nOn rows held out from training.\n\n| measure | before | after |\n| --- | ---: | ---: |\n");
    for (size_t i = 0; i < c->n_scores && !bad; i++) {
        const DpsReportScore *s = &c->scores[i];
        bad = dps_buf_str (out, "| ") || markdown_text (out, s->name);
        if (s->detail && !bad)
            bad = dps_buf_str (out, " (") || markdown_text (out, s->detail) || dps_buf_str (out, ")");
        bad = bad || dps_buf_str (out, " | ") || add_value (out, s, s->before) || dps_buf_str (out, " | ") ||
              add_value (out, s, s->after) || dps_buf_str (out, " |\n");
    }
    return bad || dps_buf_str (out, "\n");
}

static int add_use (DpsBuf *out, const DpsCard *c)
{
    int bad = dps_buf_str (out, "## Use\n\n```sh\ndiapason generate ");
    if (c->is_foreign)
        bad =
            bad ||
            dps_buf_str (
                out, "--model BASE --adapter . --prompt \"…\"\ndiapason merge --model BASE --adapter . --out merged\n```\n\n"
                     "The second writes weights that anything opens; the adapter itself needs its plugin, and PEFT refuses it. BASE is ") ||
            code_text (out, c->base_model) || dps_buf_str (out, " as a Hugging Face folder or GGUF.");
    else if (c->is_adapter)
        bad = bad ||
              dps_buf_str (out, "--model BASE --adapter . --prompt \"…\"\n```\n\n```python\n"
                                "from peft import PeftModel\nfrom transformers import AutoModelForCausalLM\n\n"
                                "base = AutoModelForCausalLM.from_pretrained(\"BASE\")\n"
                                "model = PeftModel.from_pretrained(base, \".\")\n```\n\nBASE is ") ||
              code_text (out, c->base_model) || dps_buf_str (out, " as a Hugging Face folder (Diapason also takes the GGUF).");
    else
        bad = bad || dps_buf_str (
                         out, "--model . --prompt \"…\"\n```\n\n```python\nfrom transformers import AutoModelForCausalLM, AutoTokenizer\n\n"
                              "model = AutoModelForCausalLM.from_pretrained(\".\")\ntokenizer = AutoTokenizer.from_pretrained(\".\")\n```");
    if (c->base_sha256 && !bad)
        bad = dps_buf_str (out, "\nThe base it was trained on has the tensor digest ") || code_text (out, c->base_sha256) ||
              dps_buf_str (out, ".");
    return bad || dps_buf_str (out, "\n\n");
}

static int add_settings (DpsBuf *out, const DpsCard *c)
{
    int bad = dps_buf_str (out, "## Training\n\n| setting | value |\n| --- | --- |\n");
    for (size_t i = 0; i < c->n_settings && !bad; i++)
        bad = dps_buf_str (out, "| ") || markdown_text (out, c->settings[i].name) || dps_buf_str (out, " | ") ||
              markdown_text (out, c->settings[i].value) || dps_buf_str (out, " |\n");
    return bad || dps_buf_str (out, "\nEverything that decides the result is in `recipe.lock.yaml`; the curves are in `report.html`.\n\n");
}

int dps_card_markdown (DpsBuf *out, const DpsCard *c)
{
    int bad = add_header (out, c) || dps_buf_str (out, "# ") || markdown_text (out, c->name) || dps_buf_str (out, "\n\n") ||
              dps_buf_str (out, c->is_foreign   ? "An adapter for "
                                : c->is_adapter ? "A PEFT adapter for "
                                                : "A model fine-tuned from ") ||
              code_text (out, c->base_model) || dps_buf_str (out, ", trained with Diapason.\n\n");
    if (c->n_scores && !bad)
        bad = add_results (out, c);
    bad = bad || add_use (out, c);
    if (c->n_settings && !bad)
        bad = add_settings (out, c);
    return bad || dps_buf_str (out, "## Framework versions\n\n- Diapason ") || markdown_text (out, c->version) || dps_buf_str (out, "\n")
               ? -1
               : 0;
}

DpsStatus dps_card_write (const char *path, const DpsCard *c, DpsError *err)
{
    DpsBuf text = {0};
    const int bad = dps_card_markdown (&text, c);
    return dps_file_write_buf (path, &text, bad, err);
}
