/* SPDX-License-Identifier: Apache-2.0 */
/* finish.c: the end of a run: *_results.json, the model card README.md, report.html. */
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/file.h"
#include "base/mem.h"
#include "ckpt/peft_config.h"
#include "observe/card.h"
#include "observe/report.h"
#include "train/trainer.h"

/* The texts a report and a card are made of; cut when they do not fit. */
typedef struct Texts {
    char subtitle[256], duration[32], steps[32], tokens[48], rate[48], loss[48], lr[48], batch[64], memory[64], adapter[128], schedule[64],
        seed[32], reward[64];
    char name[128];
} Texts;

static const char *adapter_kind (const DpsPeftConfig *c) { return c->plugin ? c->plugin : c->use_dora ? "dora" : "lora"; }

/* "lora, r 16, alpha 32, dropout 0.05"; of another plugin its own parameters, "ia3, bound 2". */
static void adapter_text (const DpsPeftConfig *c, char *out, size_t cap)
{
    size_t n = (size_t)snprintf (out, cap, "%s", adapter_kind (c));
    const char *key;
    json_t *value;
    if (!c->plugin)
        snprintf (out + n, cap - n, ", r %lld, alpha %g, dropout %g", (long long)c->r, c->lora_alpha, c->lora_dropout);
    json_object_foreach ((json_t *)c->plugin_args, key, value) {
        char *text = json_is_number (value) ? dps_strf ("%g", json_number_value (value)) : json_dumps (value, JSON_ENCODE_ANY);
        if (text && n < cap)
            n += (size_t)snprintf (out + n, cap - n, ", %s %s", key, text);
        dps_free (text);
    }
}

/* The configuration of the adapter as it was written: after adapter_init the recipe does not have it. */
static DpsStatus read_config (const DpsTrainer *t, DpsPeftConfig *out, DpsError *err)
{
    *out = (DpsPeftConfig){0};
    if (!t->is_adapter)
        return DPS_OK;
    char *path = dps_path_join (t->recipe->output_dir, DPS_CKPT_ADAPTER_CONFIG);
    DpsStatus st = path ? dps_peft_config_read (path, out, err) : dps_fail (err, DPS_ERR_NOMEM, "train: out of memory");
    dps_free (path);
    return st;
}

static void fill_texts (const DpsTrainer *t, const DpsPeftConfig *c, Texts *x)
{
    const DpsRecipe *r = t->recipe;
    char day[32];
    time_t now = time (NULL);
    struct tm tm;
    strftime (day, sizeof day, "%Y-%m-%d", gmtime_r (&now, &tm));
    double took = dps__trainer_now () - t->started;
    if (t->is_adapter)
        adapter_text (c, x->adapter, sizeof x->adapter);
    else
        snprintf (x->adapter, sizeof x->adapter, "none: every weight");
    const char *slash = strrchr (r->model_name_or_path, '/');
    snprintf (x->subtitle, sizeof x->subtitle, "%s of %s · %llu steps · %s", r->stage, slash ? slash + 1 : r->model_name_or_path,
              (unsigned long long)t->step, day);
    dps_duration_text (took, x->duration, sizeof x->duration);
    snprintf (x->steps, sizeof x->steps, "%llu", (unsigned long long)t->step);
    snprintf (x->tokens, sizeof x->tokens, "%llu", (unsigned long long)t->seen_tokens);
    snprintf (x->rate, sizeof x->rate, "%.0f", t->pace.total_s > 0 ? t->pace.total_tokens / t->pace.total_s : 0);
    snprintf (x->loss, sizeof x->loss, "none");
    if (t->loss_steps)
        snprintf (x->loss, sizeof x->loss, "%.4f", t->loss_total / (double)t->loss_steps);
    snprintf (x->lr, sizeof x->lr, "%g", r->learning_rate);
    snprintf (x->batch, sizeof x->batch, "%lld × %lld", (long long)r->per_device_train_batch_size,
              (long long)r->gradient_accumulation_steps);
    snprintf (x->memory, sizeof x->memory, "%.2f GiB", (double)dps_train_plan_total (&t->plan) / 0x1p30);
    snprintf (x->schedule, sizeof x->schedule, "%s", dps_schedule_name (t->schedule.type));
    snprintf (x->seed, sizeof x->seed, "%lld", (long long)r->seed);
    const char *dir = strrchr (r->output_dir, '/');
    snprintf (x->name, sizeof x->name, "%s", r->run_name ? r->run_name : dir && dir[1] ? dir + 1 : r->output_dir);
}

/* "0.271 → 0.482": what answers earned, as logged first and last; empty where nothing judged any. */
static void reward_text (const json_t *history, char *out, size_t cap)
{
    double first = NAN, last = NAN;
    size_t i;
    json_t *entry;
    json_array_foreach (history, i, entry) {
        const json_t *v = json_object_get (entry, "reward");
        v = v ? v : json_object_get (entry, "objective/scores"); /* ppo's name for it */
        if (!json_is_number (v))
            continue;
        last = json_number_value (v);
        first = isnan (first) ? last : first;
    }
    out[0] = '\0';
    if (isfinite (last))
        snprintf (out, cap, "%.3g → %.3g", first, last);
}

/* c: of the adapter, zeroed where there is none. */
static DpsStatus write_pages (DpsTrainer *t, const DpsPeftConfig *c, DpsError *err)
{
    const DpsRecipe *r = t->recipe;
    Texts x;
    fill_texts (t, c, &x);
    reward_text (dps_observer_state (t->observer)->log_history, x.reward, sizeof x.reward);
    const int judged = x.reward[0] != '\0'; /* the last fact only there */
    const DpsReportPair facts[] = {{"Duration", x.duration}, {"Steps", x.steps},        {"Tokens", x.tokens},
                                   {"Tokens/s", x.rate},     {"Training loss", x.loss}, {"Reward", x.reward}};
    const DpsReportPair settings[] = {{"stage", r->stage},
                                      {"adapter", x.adapter},
                                      {"dtype", t->plan.dtype},
                                      {"learning_rate", x.lr},
                                      {"lr_scheduler_type", x.schedule},
                                      {"batch (rows × accumulation)", x.batch},
                                      {"seed", x.seed},
                                      {"planned memory", x.memory}};
    const DpsReportPair base[] = {{"model", r->model_name_or_path}, {"sha256", t->base.hex}, {"device", t->plan.device}};
    DpsReportPair data[32];
    const char *names[32], *path, *sha256;
    size_t n_data = 0;
    while (n_data < 32 && dps_feed_file (t->feed, n_data, &path, &sha256)) {
        names[n_data] = path;
        data[n_data++] = (DpsReportPair){path, sha256};
    }
    const DpsReportGroup groups[] = {
        {"Recipe", settings, sizeof settings / sizeof *settings}, {"Base model", base, 3}, {"Data", data, n_data}};
    DpsReport report = {.title = x.name,
                        .subtitle = x.subtitle,
                        .version = DIAPASON_VERSION,
                        .facts = facts,
                        .n_facts = sizeof facts / sizeof *facts - !judged,
                        .groups = groups,
                        .n_groups = 3,
                        .log_history = dps_observer_state (t->observer)->log_history};
    const char *tags[] = {r->stage, adapter_kind (c)};
    DpsCard card = {.name = x.name,
                    .base_model = r->model_name_or_path,
                    .base_sha256 = t->base.hex,
                    .is_adapter = t->is_adapter,
                    .is_foreign = c->plugin != NULL,
                    .tags = tags,
                    .n_tags = t->is_adapter ? 2 : 1,
                    .datasets = names,
                    .n_datasets = n_data,
                    .settings = settings,
                    .n_settings = sizeof settings / sizeof *settings,
                    .version = DIAPASON_VERSION};
    DpsRolloutSamples samples;
    DPS_TRY (dps__rollout_samples (t, &samples, err));
    report.samples = samples.items;
    report.n_samples = samples.n;
    char *html = dps_path_join (r->output_dir, "report.html"), *readme = dps_path_join (r->output_dir, "README.md");
    DpsStatus st = html && readme ? dps_report_write (html, &report, err) : dps_fail (err, DPS_ERR_NOMEM, "train: out of memory");
    if (st == DPS_OK)
        st = dps_card_write (readme, &card, err);
    dps__rollout_samples_free (&samples);
    dps_free (html);
    dps_free (readme);
    return st;
}

DpsStatus dps__trainer_finish (DpsTrainer *t, DpsError *err)
{
    DpsMetrics m = {0};
    double took = dps__trainer_now () - t->started;
    DpsTrainerState *state = dps_observer_state (t->observer);
    state->num_input_tokens_seen = t->seen_tokens;
    state->global_step = t->step;
    state->epoch = t->epoch;
    state->total_flos = t->plan.flops_per_step * (double)t->step;
    int bad = dps_metrics_set (&m, "train_runtime", took) ||
              (t->step > t->step_at_start && /* a finished run that was resumed made none */
               (dps_metrics_set (&m, "train_samples_per_second", (double)t->rows_done / took) ||
                dps_metrics_set (&m, "train_steps_per_second", (double)(t->step - t->step_at_start) / took))) ||
              dps_metrics_set (&m, "total_flos", state->total_flos) ||
              (t->loss_steps && dps_metrics_set (&m, "train_loss", t->loss_total / (double)t->loss_steps));
    DpsStatus st = bad ? dps_fail (err, DPS_ERR_NOMEM, "train: out of memory") : dps_observer_finish (t->observer, &m, err);
    dps_metrics_free (&m);
    if (st != DPS_OK)
        return st;
    DpsPeftConfig c;
    DPS_TRY (read_config (t, &c, err));
    st = write_pages (t, &c, err);
    dps_peft_config_free (&c);
    return st;
}
