/* SPDX-License-Identifier: Apache-2.0 */
/* data_job.c: flags as keys of a recipe, and the rows, rewards and tokenizer that a recipe names. */
#include <math.h>
#include <string.h>

#include "diapason/data.h"
#include "diapason/output.h"
#include "diapason/run_recipe.h"
#include "infer/tokenizer_source.h"

/* "key=value", the value quoted for YAML where it is a text. */
static void add_text (GPtrArray *sets, const char *key, const char *value)
{
    DpsBuf b = {0};
    if (!dps_buf_printf (&b, "%s=", key) && !dps_json_quote (&b, value, strlen (value)))
        g_ptr_array_add (sets, g_strdup (b.data));
    dps_buf_free (&b);
}

static void add_rewards (GPtrArray *sets, char **rewards)
{
    g_autofree char *all = g_strjoinv (", ", rewards);
    g_ptr_array_add (sets, g_strdup_printf ("reward_funcs=[%s]", all));
}

static void add_adapters (GPtrArray *sets, char **adapters)
{
    guint n = g_strv_length (adapters);
    GString *under = g_string_new ("frozen_adapters=[");
    for (guint i = 0; i + 1 < n; i++) {
        DpsBuf b = {0};
        dps_json_quote (&b, adapters[i], strlen (adapters[i]));
        g_string_append_printf (under, "%s%s", i ? ", " : "", b.data ? b.data : "");
        dps_buf_free (&b);
    }
    if (n > 1)
        g_ptr_array_add (sets, g_strdup_printf ("%s]", under->str));
    add_text (sets, "adapter_init", adapters[n - 1]);
    g_string_free (under, TRUE);
}

void data_set_flags (const DataFlags *f)
{
    GPtrArray *sets = g_ptr_array_new ();
    char **given = cli_overrides;
    if (f->model)
        add_text (sets, "model_name_or_path", f->model);
    if (f->data)
        add_text (sets, "datasets", f->data);
    if (f->adapters)
        add_adapters (sets, f->adapters);
    if (f->rewards)
        add_rewards (sets, f->rewards);
    if (f->num_generations >= 0)
        g_ptr_array_add (sets, g_strdup_printf ("num_generations=%d", f->num_generations));
    if (f->max_tokens >= 0)
        g_ptr_array_add (sets, g_strdup_printf ("max_completion_length=%d", f->max_tokens));
    if (f->seed >= 0)
        g_ptr_array_add (sets, g_strdup_printf ("seed=%" G_GINT64_FORMAT, f->seed));
    if (f->temperature >= 0)
        g_ptr_array_add (sets, g_strdup_printf ("temperature=%.17g", f->temperature));
    for (char **s = given; s && *s; s++)
        g_ptr_array_add (sets, g_strdup (*s));
    g_ptr_array_add (sets, NULL);
    cli_overrides = (char **)g_ptr_array_free (sets, FALSE);
    g_strfreev (given);
}

DpsStatus data_text_open (DataText *t, const DpsRegistry *reg, const DpsRecipe *r, DpsError *err)
{
    DPS_TRY (dps_recipe_named (r, DPS_KEY_model_name_or_path, dps_source_open (reg, r->model_name_or_path, &t->source, err), err));
    DPS_TRY (dps_tokenizer_from_source (reg, t->source, &t->tok, err));
    DPS_TRY (dps_encoder_new (r, t->tok, &t->encoder, err));
    json_t *config = dps_source_config (t->source), *inner = json_object_get (config, "text_config");
    return dps_encoder_set_model (t->encoder, config, json_integer_value (json_object_get (inner ? inner : config, "vocab_size")), err);
}

void data_text_close (DataText *t)
{
    dps_encoder_free (t->encoder);
    dps_tokenizer_free (t->tok);
    dps_source_close (t->source);
    *t = (DataText){0};
}

DpsStatus data_open (DataJob *job, const char *path, const DataFlags *flags, const char *out, DpsError *err)
{
    *job = (DataJob){0};
    data_set_flags (flags);
    cli_allow_programs |= flags->rewards != NULL; /* typed by the user */
    DPS_TRY (cli_open_recipe (path, &job->recipe, &job->reg, err));
    job->recipe->shuffle = 0; /* the files' order */
    if (!job->recipe->datasets.n)
        return dps_fail (err, DPS_ERR_USAGE, "no rows: give --data, or datasets in a recipe");
    DPS_TRY (dps_dataset_from_recipe (job->recipe, 0, &job->ds, err));
    for (size_t i = 0; i < job->ds->n_files; i++)
        DPS_TRY (cli_output_check (out, dps_rows_path (job->ds->files[i].rows), err));
    DPS_TRY (dps_rewards_open (job->reg, job->recipe, &job->rewards, err));
    if (!job->rewards)
        return dps_fail (err, DPS_ERR_USAGE, "no rewards: give --reward, or reward_funcs in a recipe");
    uint64_t bytes;
    DPS_TRY (dps_rewards_plan (job->rewards, 0, 1, &bytes, err)); /* a model that cannot be read is found here, not row by row */
    dps_rewards_criteria (job->rewards, &job->names, &job->weights, &job->n_criteria);
    return DPS_OK;
}

void data_close (DataJob *job)
{
    dps_rewards_close (job->rewards);
    dps_dataset_close (job->ds);
    if (job->reg)
        dps_registry_close (job->reg);
    dps_recipe_free (job->recipe);
    *job = (DataJob){0};
}

double data_total (const DataJob *job, const double *values)
{
    double sum = 0;
    int judged = 0;
    for (size_t c = 0; c < job->n_criteria; c++)
        if (!isnan (values[c])) {
            sum += job->weights[c] * values[c];
            judged = 1;
        }
    return judged ? sum : NAN;
}

json_t *data_scores (const DataJob *job, const double *values)
{
    json_t *o = json_object ();
    for (size_t c = 0; c < job->n_criteria; c++)
        json_object_set_new (o, job->names[c].ptr, isnan (values[c]) ? json_null () : json_real (values[c]));
    return o;
}
