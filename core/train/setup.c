/* SPDX-License-Identifier: Apache-2.0 */
/* setup.c: everything a run opens before its first step, in the order that finds mistakes cheaply: recipe, rows, model, memory. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "plugin/crumb.h"
#include "train/trainer.h"

static DpsQuantise wanted_quantise (const DpsRecipe *r)
{
    DpsQuantType four = strcmp (r->bnb_4bit_quant_type, "fp4") ? DPS_QUANT_NF4 : DPS_QUANT_FP4;
    return (DpsQuantise){.keep = r->quantization,
                         .make = r->load_in_4bit > 0   ? four
                                 : r->load_in_8bit > 0 ? DPS_QUANT_INT8
                                                       : DPS_QUANT_NONE,
                         .nested = r->bnb_4bit_use_double_quant > 0};
}

/* PEFT's rule: an output head that is trained whole is a weight of its own from then on, whatever it was tied to. */
static int trains_head (const DpsTrainer *t)
{
    int found = 0;
    for (size_t k = 0; k <= t->options->n_under; k++) {
        const DpsRecipe *r = k ? t->options->under[k - 1] : t->recipe;
        for (size_t i = 0; i < r->lora_modules_to_save.n; i++)
            found |= dps_module_is (DPS_PEFT_TIED_HEAD, r->lora_modules_to_save.items[i]);
    }
    return found;
}

static DpsStatus open_model (DpsTrainer *t, DpsSessionOptions *o, DpsError *err)
{
    const DpsRecipe *r = t->recipe;
    const int its_dropout = dps_recipe_given (r, DPS_KEY_lora_dropout) || dps_recipe_samples (r) || dps__rollout_compared (t);
    *o = (DpsSessionOptions){.model = r->model_name_or_path,
                             .adapter = r->adapter_init,
                             .frozen = (const char *const *)r->frozen_adapters.items,
                             .n_frozen = r->frozen_adapters.n,
                             .allow_base_mismatch = r->allow_base_mismatch > 0,
                             .dtype = r->dtype,
                             .devices = (const char *const *)r->device.items,
                             .n_devices = r->device.n,
                             .op_devices = r->op_devices,
                             .strict_device = r->strict_device > 0,
                             .dropout = its_dropout ? &r->lora_dropout : NULL,
                             .score = dps__trainer_scores (t),
                             .own_head = trains_head (t),
                             .value = dps__trainer_values (t),
                             .quantise = wanted_quantise (r),
                             .recipe = r,
                             .training = 1};
    if (!r->model_name_or_path)
        return dps_fail (err, DPS_ERR_USAGE, "%s: model_name_or_path is missing: the model to start from", r->file ? r->file : "recipe");
    DPS_TRY (dps_session_begin (&t->session, t->reg, o, err));
    if (!r->adapter && json_object_get (dps_source_config (t->session.source), "quantization_config"))
        return dps_fail (err, DPS_ERR_USAGE,
                         "%s: is quantised, and every weight is to be trained. Hint: adapter: lora keeps it frozen; diapason merge writes "
                         "it in numbers",
                         r->model_name_or_path);
    return dps__trainer_choose (t, err);
}

/* What of the objective the recipe's defaults depend on. */
static DpsRecipeObjective facts_of (const DpsTrainer *t)
{
    const DpsObjectiveInstance *o = t->objective;
    return (DpsRecipeObjective){.compares = o->info.unit != DPS_UNIT_SINGLE,
                                .score = dps__trainer_scores (t),
                                .value = dps_objective_signal (o, "value", "policy") >= 0,
                                .reference = dps__reference_wanted (t),
                                .rollout = dps__rollout_compared (t)};
}

static DpsStatus open_objective (DpsTrainer *t, DpsError *err)
{
    const DpsObjective *table = dps_registry_get (t->reg, DPS_OBJECTIVE_ID, t->recipe->stage);
    if (!table) {
        dps_registry_missing (t->reg, DPS_OBJECTIVE_ID, t->recipe->stage, err);
        dps_error_prefix (err, "%s: stage", dps_recipe_where (t->recipe, DPS_KEY_stage));
        return DPS_ERR_USAGE;
    }
    DpsStatus st = dps_objective_open (table, dps_recipe_objective_param, (void *)t->recipe, &t->objective, err);
    if (st == DPS_ERR_INVALID) { /* parameters that are each what they may be, and do not go together: the plugin's own words */
        dps_error_prefix (err, "%s", dps_recipe_where (t->recipe, DPS_KEY_stage));
        return DPS_ERR_USAGE;
    }
    DPS_TRY (st);
    const DpsObjectiveInfo *info = &t->objective->info;
    DPS_TRY (dps_recipe_args_known (t->recipe, DPS_KEY_objective_args, info->name, info->params, info->n_params, err));
    if (dps_params_index (info->params, info->n_params, "max_completion_length") == info->n_params &&
        dps_recipe_given (t->recipe, DPS_KEY_max_completion_length) && !dps_recipe_samples (t->recipe))
        return dps_fail (err, DPS_ERR_USAGE,
                         "%s: max_completion_length belongs to runs that sample their answers: give reward_funcs, or remove it",
                         dps_recipe_where (t->recipe, DPS_KEY_max_completion_length));
    return DPS_OK;
}

static void set_optimizer (DpsTrainer *t)
{
    const DpsRecipe *r = t->recipe;
    t->optim = (DpsOptim){.kind = strcmp (r->optim, "sgd") ? DPS_OPTIM_ADAMW : DPS_OPTIM_SGD,
                          .beta1 = r->adam_beta1,
                          .beta2 = r->adam_beta2,
                          .epsilon = r->adam_epsilon,
                          .momentum = r->sgd_momentum,
                          .weight_decay = r->weight_decay,
                          .max_grad_norm = r->max_grad_norm};
    t->guard = (DpsGuard)DPS_GUARD_INIT;
}

static void scan_progress (void *ctx, double share)
{
    const DpsTrainer *t = ctx;
    if (t->options->progress) {
        DpsTrainProgress p = {
            .phase = "reading rows", .step = (uint64_t)(1000 * share), .max_steps = 1000, .loss = NAN, .learning_rate = NAN};
        t->options->progress (t->options->ctx, &p);
    }
}

static DpsStatus count_steps (DpsTrainer *t, DpsError *err)
{
    const DpsRecipe *r = t->recipe;
    DpsStepPlace first;
    DPS_TRY (dps_feed_places (t->feed, 0, &t->plan.rows_per_epoch, err));
    DPS_TRY (dps__trainer_place (t, 0, &first, err));
    t->plan.steps_per_epoch = first.steps * (t->rollout.samples ? t->rollout.passes : 1);
    t->plan.steps = (uint64_t)r->max_steps;
    if (r->max_steps <= 0)
        DPS_TRY (dps__trainer_steps (t, r->num_train_epochs, &t->plan.steps, err));
    DpsScheduleOptions o = {.type = r->lr_scheduler_type,
                            .base_lr = r->learning_rate,
                            .warmup = r->warmup_steps > 0 ? r->warmup_steps : r->warmup_ratio,
                            .total_steps = t->plan.steps,
                            .kwargs = r->lr_scheduler_kwargs};
    DpsStatus st = dps_schedule_init (&o, &t->schedule, err);
    if (st == DPS_ERR_USAGE)
        dps_error_prefix (err, "%s",
                          dps_recipe_where (r, r->lr_scheduler_kwargs ? DPS_KEY_lr_scheduler_kwargs : DPS_KEY_lr_scheduler_type));
    return st;
}

static DpsStatus open_feed (DpsTrainer *t, int eval, DpsFeed **out, DpsError *err)
{
    return dps_feed_open (t->recipe, t->session.tok, dps_source_config (t->session.source), t->session.model.dec.vocab, eval, t->objective,
                          out, err);
}

static DpsStatus open_rows (DpsTrainer *t, DpsError *err)
{
    const DpsRecipe *r = t->recipe;
    if (r->stop_strings.n && !t->session.tok)
        return dps_fail (err, DPS_ERR_USAGE, "%s: stop_strings: the model has no tokenizer, so answers have no text: remove it",
                         dps_recipe_where (r, DPS_KEY_stop_strings));
    DPS_TRY (open_feed (t, 0, &t->feed, err));
    if (r->eval_datasets.n)
        DPS_TRY (open_feed (t, 1, &t->eval_feed, err));
    else if (strcmp (r->eval_strategy, "no"))
        return dps_fail (err, DPS_ERR_USAGE, "%s: eval_strategy needs eval_datasets", dps_recipe_where (r, DPS_KEY_eval_strategy));
    if (t->eval_feed)
        DPS_TRY (dps_feed_scan (t->eval_feed, &t->eval_exact, NULL, NULL, err));
    DPS_TRY (dps_feed_scan (t->feed, &t->plan.exact, scan_progress, t, err));
    return count_steps (t, err);
}

/*
 * What is resident only once a run goes: code that is touched late, threads' stacks, the backend's own scratch, the observer. Measured, with two
 * threads: 1.7 MiB on the tiny models, 20 MiB on Gemma 3 270M, where the 5 % that RSS may exceed a plan cover the rest.
 */
enum { LATER_BYTES = 4 << 20 };

static double resident_bytes (void)
{
    char text[128];
    unsigned long pages = 0;
    FILE *f = fopen ("/proc/self/statm", "r");
    if (f && fgets (text, sizeof text, f)) {
        char *second = strchr (text, ' ');
        pages = second ? strtoul (second, NULL, 10) : 0;
    }
    if (f)
        fclose (f);
    return (double)pages * (double)sysconf (_SC_PAGESIZE);
}

static DpsStatus open_observer (DpsTrainer *t, const DpsCheckpoint *resumed, DpsError *err)
{
    const DpsRecipe *r = t->recipe;
    DpsTrainerState state = {0};
    json_t *saved = NULL;
    if (resumed) {
        DPS_TRY (dps_ckpt_read_json (resumed, DPS_CKPT_STATE, &saved, err));
        DpsStatus st = dps_trainer_state_from_json (saved, &state, err);
        json_decref (saved);
        DPS_TRY (st);
    } else {
        state.max_steps = t->plan.steps;
        state.num_train_epochs = r->num_train_epochs;
        state.logging_steps = (uint64_t)r->logging_steps;
        state.eval_steps = (uint64_t)r->eval_steps;
        state.save_steps = (uint64_t)r->save_steps;
        state.train_batch_size = (uint64_t)r->per_device_train_batch_size;
    }
    int tensorboard = r->report_to.n == 0;
    for (size_t i = 0; i < r->report_to.n; i++)
        tensorboard |= !strcmp (r->report_to.items[i], "tensorboard") || !strcmp (r->report_to.items[i], "all");
    DpsObserveOptions o = {.output_dir = r->output_dir,
                           .logging_dir = r->logging_dir,
                           .run_name = r->run_name,
                           .tensorboard = tensorboard,
                           .resumed = resumed != NULL,
                           .console = t->options->console ? stderr : NULL};
    DpsStatus st = dps_observer_open (&o, &state, &t->observer, err);
    if (st != DPS_OK)
        dps_trainer_state_free (&state);
    return st;
}

/* A run that is to go on, and has not got to its first checkpoint, starts. */
static DpsStatus find_checkpoint (const DpsTrainer *t, const char *where, DpsCheckpoint **out, DpsError *err)
{
    uint64_t *steps;
    size_t n;
    *out = NULL;
    DPS_TRY (dps_ckpt_list (t->recipe->output_dir, &steps, &n, err));
    dps_free (steps);
    if (n == 0 && (!strcmp (where, "auto") || !strcmp (where, "true"))) {
        dps_log (DPS_LOG_INFO, "%s holds no checkpoint yet: the run starts", t->recipe->output_dir);
        return DPS_OK;
    }
    return dps_ckpt_resume (t->recipe->output_dir, where, dps_registry_get (t->reg, DPS_FORMAT_ID, "checkpoint"), out, err);
}

/* A new run does not mix with the checkpoints of another, and does not delete them unasked. */
static DpsStatus clear_output (const DpsTrainer *t, DpsError *err)
{
    const char *dir = t->recipe->output_dir;
    uint64_t *steps;
    size_t n;
    DPS_TRY (dps_ckpt_list (dir, &steps, &n, err));
    uint64_t newest = n ? steps[n - 1] : 0;
    dps_free (steps);
    if (n == 0)
        return DPS_OK;
    if (t->recipe->overwrite_output_dir <= 0)
        return dps_fail (err, DPS_ERR_USAGE,
                         "%s holds a run (checkpoint-%llu). Hint: --resume goes on with it; --set output_dir=… starts another; "
                         "--set overwrite_output_dir=true deletes its checkpoints and starts anew",
                         dir, (unsigned long long)newest);
    return dps_ckpt_clear (dir, err);
}

static DpsStatus load_and_resume (DpsTrainer *t, const DpsSessionOptions *o, DpsError *err)
{
    const char *resume = t->options->resume ? t->options->resume : t->recipe->resume_from_checkpoint;
    DpsCheckpoint *c = NULL;
    dps__trainer_progress (t, "loading weights", NAN, NAN);
    DPS_TRY (dps_mkdirs (t->recipe->output_dir, err));
    DPS_TRY (dps_dir_hold (t->recipe->output_dir, &t->held, err));
    DPS_TRY (dps_ckpt_sweep (t->recipe->output_dir, err));
    dps_crumb_open (t->recipe->output_dir);
    DpsStatus st = resume ? find_checkpoint (t, resume, &c, err) : clear_output (t, err);
    if (st == DPS_OK)
        st = dps__trainer_stack (t, 0, err);
    if (st == DPS_OK)
        st = dps__trainer_lock (t, c, err);
    if (st == DPS_OK)
        st = dps__trainer_stack (t, 1, err);
    if (st == DPS_OK)
        st = dps_session_load (&t->session, o, dps_optim_moments (&t->optim), err);
    if (st == DPS_OK && t->is_adapter && !t->recipe->adapter_init)
        st = dps_weights_init (&t->session.weights, (uint64_t)t->recipe->seed, err);
    if (st == DPS_OK)
        st = dps_session_init_heads (&t->session, (uint64_t)t->recipe->seed, err);
    if (st == DPS_OK)
        st = dps__critic_load (t, err);
    if (st == DPS_OK)
        st = dps__trainer_reserve (t, err);
    if (st == DPS_OK)
        st = dps__reference_make (t, c ? dps_ckpt_step (c) : 0, err);
    if (st == DPS_OK && c)
        st = dps__trainer_restore (t, c, err);
    if (st == DPS_OK && t->rollout.samples)
        st = dps__answers_log_open (t, err);
    t->session.ex.sealed = t->arena_exact && (!t->eval_feed || t->eval_exact);
    t->resumed = c != NULL;
    if (st == DPS_OK)
        st = open_observer (t, c, err);
    dps_ckpt_close (c);
    return st;
}

/* The folder of what this run reads, in its own words, or NULL: output_dir is none of them. */
static const char *read_from_output (const DpsRecipe *r)
{
    const char *const read[][2] = {{r->model_name_or_path, "the model"},
                                   {r->adapter_init, "the adapter of adapter_init"},
                                   {r->reward_model, "the reward model"},
                                   {r->value_model, "the value model"}};
    for (size_t i = 0; i < sizeof read / sizeof *read; i++)
        if (read[i][0] && dps_same_file (read[i][0], r->output_dir))
            return read[i][1];
    for (size_t i = 0; i < r->frozen_adapters.n; i++)
        if (dps_same_file (r->frozen_adapters.items[i], r->output_dir))
            return "a frozen adapter";
    return NULL;
}

static DpsStatus check_output (const DpsRecipe *r, int plan_only, DpsError *err)
{
    const char *read = read_from_output (r);
    if (read)
        return dps_fail (err, DPS_ERR_USAGE, "%s: output_dir is %s itself, which the run would write over. Hint: give another folder",
                         dps_recipe_where (r, DPS_KEY_output_dir), read);
    DpsStatus st = plan_only || r->overwrite_output_dir > 0 ? DPS_OK : dps_ckpt_check_own (r->output_dir, err);
    if (st == DPS_ERR_USAGE)
        dps_error_prefix (err, "%s", dps_recipe_where (r, DPS_KEY_output_dir));
    return st;
}

static DpsStatus open_all (DpsTrainer *t, DpsRecipe *recipe, int plan_only, DpsError *err)
{
    DpsSessionOptions o;
    set_optimizer (t);
    DPS_TRY (open_objective (t, err));
    const DpsRecipeObjective facts = facts_of (t);
    DPS_TRY (dps_recipe_settle_objective (recipe, &facts, err));
    DPS_TRY (dps__rollout_open (t, err));
    DPS_TRY (check_output (recipe, plan_only, err));
    DPS_TRY (open_model (t, &o, err));
    DPS_TRY (dps__critic_open (t, err));
    DPS_TRY (open_rows (t, err));
    t->plan.fixed = (uint64_t)resident_bytes () + LATER_BYTES;
    if (plan_only)
        return DPS_OK;
    DPS_TRY (dps__trainer_plan (t, 0, err));
    DPS_TRY (dps_source_digest (t->session.source, &t->base, err));
    return load_and_resume (t, &o, err);
}

DpsStatus dps__trainer_open (DpsTrainer *t, const DpsRegistry *reg, DpsRecipe *recipe, const DpsTrainOptions *o, int plan_only,
                             DpsError *err)
{
    *t = (DpsTrainer){.reg = reg, .recipe = recipe, .options = o, .held = -1, .started = dps__trainer_now ()};
    DpsStatus st = open_all (t, recipe, plan_only, err);
    if (st != DPS_OK)
        dps__trainer_close (t);
    return st;
}

void dps__trainer_close (DpsTrainer *t)
{
    dps_crumb_close ();
    if (t->observer)
        dps_observer_close (t->observer);
    if (t->objective)
        dps_objective_close (t->objective);
    dps_feed_close (t->feed);
    dps_feed_close (t->eval_feed);
    dps__rollout_close (&t->rollout);
    dps__reference_free (&t->reference);
    dps__reference_free (&t->eval_reference);
    dps__critic_close (&t->critic);
    dps_session_close (&t->session);
    dps_step_free (&t->sums);
    dps_step_free (&t->scored);
    dps_step_free (&t->window.sums);
    dps_buf_free (&t->lock);
    if (t->held >= 0)
        close (t->held);
    t->held = -1;
    t->observer = NULL;
    t->objective = NULL;
    t->feed = t->eval_feed = NULL;
}
