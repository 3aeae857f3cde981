/* SPDX-License-Identifier: Apache-2.0 */
#include "observe/state.h"

#include <math.h>
#include <string.h>

/* What Hugging Face's format has no key for sits where it lets callbacks keep theirs. */
static const char callback[] = "DiapasonObserver";

static json_t *count (uint64_t v) { return json_integer ((json_int_t)v); }

static json_t *text_or_null (const char *s) { return s ? json_string (s) : json_null (); }

static json_t *number_or_null (double v, int known) { return known && isfinite (v) ? json_real (v) : json_null (); }

json_t *dps_trainer_state_json (const DpsTrainerState *s)
{
    json_t *folder = text_or_null (s->run_folder); /* apart: json_pack turns a string it has no memory for into nothing */
    json_t *extra =
        folder ? json_pack ("{s{s{} s{so sf}}}", callback, "args", "attributes", "run_folder", folder, "elapsed_s", s->elapsed_s) : NULL;
    json_t *history = s->log_history ? json_incref (s->log_history) : json_array ();
    json_t *o = json_object ();
    const struct {
        const char *key;
        json_t *value;
    } fields[] = {
        {"best_global_step", s->has_best ? count (s->best_global_step) : json_null ()},
        {"best_metric", number_or_null (s->best_metric, s->has_best)},
        {"best_model_checkpoint", text_or_null (s->best_model_checkpoint)},
        {"epoch", json_real (s->epoch)},
        {"eval_steps", count (s->eval_steps)},
        {"global_step", count (s->global_step)},
        {"is_hyper_param_search", json_false ()},
        {"is_local_process_zero", json_true ()},
        {"is_world_process_zero", json_true ()},
        {"log_history", history},
        {"logging_steps", count (s->logging_steps)},
        {"max_steps", count (s->max_steps)},
        {"num_input_tokens_seen", count (s->num_input_tokens_seen)},
        {"num_train_epochs", json_real (s->num_train_epochs)},
        {"save_steps", count (s->save_steps)},
        {"stateful_callbacks", extra},
        {"total_flos", json_real (s->total_flos)},
        {"train_batch_size", count (s->train_batch_size)},
        {"trial_name", json_null ()},
        {"trial_params", json_null ()},
    };
    int bad = !o;
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++)
        bad |= json_object_set_new (o, fields[i].key, fields[i].value) != 0; /* takes the value even when it fails */
    if (bad) {
        json_decref (o);
        return NULL;
    }
    return o;
}

static DpsStatus get_count (const json_t *j, const char *key, uint64_t *out, DpsError *err)
{
    const json_t *v = json_object_get (j, key);
    double x = json_is_number (v) ? json_number_value (v) : json_is_null (v) ? 0 : NAN;
    if (!(x >= 0 && x <= 0x1p53 && x == floor (x)))
        return dps_fail (err, DPS_ERR_FORMAT, "trainer_state.json: '%s': expected a whole number, 0 or more", key);
    *out = (uint64_t)x;
    return DPS_OK;
}

static DpsStatus get_number (const json_t *j, const char *key, double *out, DpsError *err)
{
    const json_t *v = json_object_get (j, key);
    if (!json_is_number (v))
        return dps_fail (err, DPS_ERR_FORMAT, "trainer_state.json: '%s': expected a number", key);
    *out = json_number_value (v);
    return DPS_OK;
}

static DpsStatus get_text (const json_t *v, const char *key, char **out, DpsError *err)
{
    if (!v || json_is_null (v))
        return DPS_OK;
    if (!json_is_string (v) || strlen (json_string_value (v)) != json_string_length (v))
        return dps_fail (err, DPS_ERR_FORMAT, "trainer_state.json: '%s': expected a string", key);
    *out = dps_strdup (json_string_value (v));
    return *out ? DPS_OK : dps_fail (err, DPS_ERR_NOMEM, "trainer_state.json: out of memory");
}

static DpsStatus read_state (const json_t *j, DpsTrainerState *s, DpsError *err)
{
    const struct {
        const char *key;
        uint64_t *out;
    } counts[] = {
        {"global_step", &s->global_step},
        {"max_steps", &s->max_steps},
        {"logging_steps", &s->logging_steps},
        {"eval_steps", &s->eval_steps},
        {"save_steps", &s->save_steps},
        {"train_batch_size", &s->train_batch_size},
        {"num_input_tokens_seen", &s->num_input_tokens_seen},
    };
    if (!json_is_object (j))
        return dps_fail (err, DPS_ERR_FORMAT, "trainer_state.json: expected an object");
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++)
        DPS_TRY (get_count (j, counts[i].key, counts[i].out, err));
    DPS_TRY (get_number (j, "epoch", &s->epoch, err));
    DPS_TRY (get_number (j, "num_train_epochs", &s->num_train_epochs, err));
    DPS_TRY (get_number (j, "total_flos", &s->total_flos, err));
    DPS_TRY (get_text (json_object_get (j, "best_model_checkpoint"), "best_model_checkpoint", &s->best_model_checkpoint, err));
    s->has_best = json_is_number (json_object_get (j, "best_metric"));
    if (s->has_best) {
        s->best_metric = json_number_value (json_object_get (j, "best_metric"));
        DPS_TRY (get_count (j, "best_global_step", &s->best_global_step, err));
    }
    const json_t *mine = json_object_get (json_object_get (json_object_get (j, "stateful_callbacks"), callback), "attributes");
    DPS_TRY (get_text (json_object_get (mine, "run_folder"), "run_folder", &s->run_folder, err));
    if (json_is_number (json_object_get (mine, "elapsed_s")))
        s->elapsed_s = json_number_value (json_object_get (mine, "elapsed_s"));
    json_t *history = json_object_get (j, "log_history"), *line;
    size_t i;
    if (!json_is_array (history))
        return dps_fail (err, DPS_ERR_FORMAT, "trainer_state.json: 'log_history': expected an array");
    json_array_foreach (history, i, line)
        if (!json_is_object (line))
            return dps_fail (err, DPS_ERR_FORMAT, "trainer_state.json: 'log_history': item %zu is not an object", i);
    s->log_history = json_incref (history);
    return DPS_OK;
}

DpsStatus dps_trainer_state_from_json (const json_t *j, DpsTrainerState *out, DpsError *err)
{
    DpsTrainerState s = {0};
    DpsStatus st = read_state (j, &s, err);
    if (st != DPS_OK)
        dps_trainer_state_free (&s);
    else
        *out = s;
    return st;
}

int dps_trainer_state_best (DpsTrainerState *s, double metric, int greater_is_better, uint64_t step, const char *checkpoint)
{
    int better = !s->has_best ? !isnan (metric) : greater_is_better ? metric > s->best_metric : metric < s->best_metric;
    if (!better)
        return 0;
    char *name = dps_strdup (checkpoint);
    if (!name)
        return -1;
    dps_free (s->best_model_checkpoint);
    s->best_model_checkpoint = name;
    s->has_best = 1;
    s->best_metric = metric;
    s->best_global_step = step;
    return 1;
}

void dps_trainer_state_free (DpsTrainerState *s)
{
    dps_free (s->best_model_checkpoint);
    dps_free (s->run_folder);
    json_decref (s->log_history);
    *s = (DpsTrainerState){0};
}
