/* SPDX-License-Identifier: Apache-2.0 */
/*
 * data_provenance.c: where simulated rows come from, by digest: model, adapters, rows and the prompts they became (by whatever template and columns),
 * rewards, and the settings of the sampling.
 */
#include <math.h>
#include <string.h>

#include "base/file.h"
#include "ckpt/peft.h"
#include "diapason/data.h"

static DpsStatus add_adapter (json_t *list, const char *path, DpsError *err)
{
    DpsDigest digest;
    DPS_TRY (dps_peft_digest (path, &digest, err));
    json_array_append_new (list, json_pack ("{s:s, s:s}", "path", path, "sha256", digest.hex));
    return DPS_OK;
}

static DpsStatus adapters_of (const DpsRecipe *r, json_t *list, DpsError *err)
{
    for (size_t i = 0; i < r->frozen_adapters.n; i++)
        DPS_TRY (add_adapter (list, r->frozen_adapters.items[i], err));
    return r->adapter_init ? add_adapter (list, r->adapter_init, err) : DPS_OK;
}

/* What stands at a path parameter: a file's digest, or an adapter's. */
static void add_path_digest (json_t *digests, const char *name, const char *path)
{
    DpsDigest digest;
    if ((dps_is_file (path) && dps_sha256_file (path, &digest, NULL) == DPS_OK) || dps_peft_digest (path, &digest, NULL) == DPS_OK)
        json_object_set_new (digests, name, json_string (digest.hex));
}

static json_t *reward_of (const DataJob *job, size_t i)
{
    const DpsRecipeReward *f = &job->recipe->reward_funcs.items[i];
    json_t *o = json_pack ("{s:s, s:O}", "name", f->name, "args", f->args), *digests = json_object (), *path;
    const DpsPlugin *plugin = NULL;
    const char *name;
    for (size_t k = 0; dps_registry_nth (job->reg, DPS_REWARD_ID, k, &plugin); k++)
        if (!strcmp (plugin->name, f->name) || !strcmp (plugin->id, f->name))
            json_object_set_new (digests, "plugin", json_string (plugin->digest.hex));
    json_object_foreach (f->paths, name, path)
        add_path_digest (digests, name, json_string_value (path));
    json_object_set_new (o, "sha256", digests);
    return o;
}

static json_t *rewards_of (const DataJob *job)
{
    json_t *list = json_array (), *criteria = json_object ();
    for (size_t i = 0; i < job->recipe->reward_funcs.n; i++)
        json_array_append_new (list, reward_of (job, i));
    for (size_t c = 0; c < job->n_criteria; c++)
        json_object_set_new (criteria, job->names[c].ptr, json_real (job->weights[c]));
    return json_pack ("{s:o, s:o}", "reward_funcs", list, "weights", criteria);
}

static json_t *rows_of (const DpsDataset *ds)
{
    json_t *list = json_array ();
    for (size_t i = 0; i < ds->n_files; i++)
        json_array_append_new (list, json_pack ("{s:s, s:s, s:I, s:I}", "path", ds->files[i].name, "sha256",
                                                dps_rows_digest (ds->files[i].rows)->hex, "first", (json_int_t)ds->files[i].first, "rows",
                                                (json_int_t)ds->files[i].n));
    return list;
}

/* Tokens and other columns of all prompts: what a row becomes depends on more than its file. */
static DpsStatus digest_prompts (const DataJob *job, const DpsSession *s, const DpsEncoder *e, DpsDigest *out, DpsError *err)
{
    DpsHasher *h = dps_hasher_new ();
    DpsStatus st = h ? DPS_OK : dps_fail (err, DPS_ERR_NOMEM, "simulate: out of memory");
    for (uint64_t k = 0; st == DPS_OK && k < job->ds->n_rows; k++) {
        DataPrompt p = {0};
        st = data_prompt_read (job, e, s->tok, k, &p, err);
        if (st == DPS_OK) {
            const DpsEncoded *x = p.unit.rows;
            const uint64_t sizes[] = {x->n, p.columns.len};
            dps_hasher_add (h, sizes, sizeof sizes);
            dps_hasher_add (h, x->ids, x->n * sizeof *x->ids);
            dps_hasher_add (h, p.columns.data, p.columns.len);
        }
        data_prompt_free (&p);
        if (k % 256 == 0)
            cli_progress ("reading prompts", (double)k, (double)job->ds->n_rows, "");
    }
    cli_progress_end ();
    DpsStatus hashed = h ? dps_hasher_final (h, out, st == DPS_OK ? err : NULL) : st;
    return st == DPS_OK ? hashed : st;
}

static json_t *sampling_of (const DpsRecipe *r)
{
    json_t *stop = json_array ();
    for (size_t i = 0; i < r->stop_strings.n; i++)
        json_array_append_new (stop, json_string (r->stop_strings.items[i]));
    return json_pack ("{s:I, s:I, s:f, s:f, s:I, s:f, s:f, s:I, s:I, s:o}", "num_generations", (json_int_t)r->num_generations,
                      "max_completion_length", (json_int_t)r->max_completion_length, "temperature", r->temperature, "top_p", r->top_p,
                      "top_k", (json_int_t)r->top_k, "min_p", r->min_p, "repetition_penalty", r->repetition_penalty, "seed",
                      (json_int_t)r->seed, "max_prompt_length", (json_int_t)r->max_prompt_length, "stop_strings", stop);
}

DpsStatus data_provenance (const DataJob *job, DpsSession *s, const DpsEncoder *e, const char *format, json_t **out, DpsError *err)
{
    const DpsRecipe *r = job->recipe;
    const DpsDigest *base = NULL;
    DpsDigest prompts;
    json_t *adapters = json_array ();
    *out = NULL;
    DpsStatus st = digest_prompts (job, s, e, &prompts, err);
    if (st == DPS_OK)
        st = dps_session_base (s, &base, err);
    if (st == DPS_OK)
        st = adapters_of (r, adapters, err);
    if (st != DPS_OK) {
        json_decref (adapters);
        return st;
    }
    *out = json_pack ("{s:s, s:s, s:{s:s, s:s, s:s}, s:o, s:o, s:s, s:o, s:o}", "tool", "diapason " DIAPASON_VERSION, "format", format,
                      "model", "path", r->model_name_or_path, "sha256", base->hex, "dtype",
                      s->compute == DPS_DTYPE_BF16 ? "bfloat16" : "float32", "adapters", adapters, "rows", rows_of (job->ds),
                      "prompts_sha256", prompts.hex, "sampling", sampling_of (r), "rewards", rewards_of (job));
    return *out ? DPS_OK : dps_fail (err, DPS_ERR_NOMEM, "simulate: out of memory");
}
