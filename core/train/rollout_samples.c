/* SPDX-License-Identifier: Apache-2.0 */
/* rollout_samples.c: for report.html: prompts with the first answer that was sampled for them and the last, from completions.jsonl. */
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "base/mem.h"
#include "train/trainer.h"

enum { FILE_LIMIT = 1 << 28 };

static int is_new_prompt (const DpsRolloutSamples *s, const char *prompt)
{
    for (size_t i = 0; i < s->n; i++)
        if (!strcmp (s->items[i].prompt, prompt))
            return 0;
    return 1;
}

/* The answer of a line, with what it earned. NULL when out of memory. */
static char *answer_of (const json_t *line)
{
    const char *text = json_string_value (json_object_get (line, "completion"));
    const json_t *reward = json_object_get (line, "reward");
    return json_is_number (reward) ? dps_strf ("%s\n[step %lld, reward %.4g]", text ? text : "",
                                               (long long)json_integer_value (json_object_get (line, "step")), json_number_value (reward))
                                   : dps_strdup (text ? text : "");
}

/* Lines [0, n): prompts of the last step, the newest first, each with its first answer of all. */
static int choose (json_t *const *lines, size_t n, DpsRolloutSamples *out)
{
    for (size_t i = n; i-- > 0 && out->n < DPS_ROLLOUT_SAMPLES;) {
        const char *prompt = json_string_value (json_object_get (lines[i], "prompt"));
        if (!prompt || !is_new_prompt (out, prompt))
            continue;
        size_t first = 0;
        const char *other = json_string_value (json_object_get (lines[0], "prompt"));
        while (first < i && (!other || strcmp (other, prompt)))
            other = json_string_value (json_object_get (lines[++first], "prompt"));
        DpsReportSample *s = &out->items[out->n++];
        *s = (DpsReportSample){.prompt = dps_strdup (prompt), .early = answer_of (lines[first]), .late = answer_of (lines[i])};
        if (!s->prompt || !s->early || !s->late)
            return -1;
    }
    return 0;
}

static DpsStatus read_lines (const char *path, const DpsBuf *text, json_t ***out, size_t *n, DpsError *err)
{
    size_t capacity = 0;
    for (size_t at = 0; at < text->len;) {
        const char *line = text->data + at, *end = memchr (line, '\n', text->len - at);
        size_t len = end ? (size_t)(end - line) : text->len - at;
        if (DPS_GROW (*out, *n, capacity))
            return dps_fail (err, DPS_ERR_NOMEM, "%s: out of memory", path);
        DPS_TRY (dps_json_parse (line, len, path, (long)*n + 1, 0, &(*out)[*n], err));
        (*n)++;
        at += len + 1;
    }
    return DPS_OK;
}

DpsStatus dps__rollout_samples (const DpsTrainer *t, DpsRolloutSamples *out, DpsError *err)
{
    DpsBuf text = {0};
    json_t **lines = NULL;
    size_t n = 0;
    *out = (DpsRolloutSamples){0};
    if (!t->rollout.samples || !t->recipe->log_completions)
        return DPS_OK;
    char *path = dps_path_join (t->recipe->output_dir, DPS_COMPLETIONS_FILE);
    DpsStatus st = path ? dps_file_read (path, FILE_LIMIT, &text, err) : dps_fail (err, DPS_ERR_NOMEM, "report: out of memory");
    if (st == DPS_OK)
        st = read_lines (path, &text, &lines, &n, err);
    if (st == DPS_OK && n && choose (lines, n, out))
        st = dps_fail (err, DPS_ERR_NOMEM, "report: out of memory");
    for (size_t i = 0; i < n; i++)
        json_decref (lines[i]);
    dps_free (lines);
    dps_buf_free (&text);
    dps_free (path);
    if (st == DPS_ERR_LIMIT || st == DPS_ERR_NOT_FOUND) /* the report does without */
        st = DPS_OK;
    return st;
}

void dps__rollout_samples_free (DpsRolloutSamples *s)
{
    for (size_t i = 0; i < s->n; i++) {
        dps_free ((char *)s->items[i].prompt);
        dps_free ((char *)s->items[i].early);
        dps_free ((char *)s->items[i].late);
    }
    *s = (DpsRolloutSamples){0};
}
