/* SPDX-License-Identifier: Apache-2.0 */
#include "observe/observer.h"

#include <dirent.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/file.h"
#include "check.h"

static char dir[200];

static double fixed_now (void) { return 1764000000.25; }

static void fresh_dir (void)
{
    DpsError err = DPS_ERROR_INIT;
    snprintf (dir, sizeof dir, DPS_BUILD "/tests/observer-%ld", (long)getpid ());
    CHECK_OK (dps_remove_tree (dir, &err));
}

static char *slurp (const char *name)
{
    DpsError err = DPS_ERROR_INIT;
    static DpsBuf text[4];
    static int next;
    DpsBuf *b = &text[next++ % 4];
    char *path = dps_path_join (dir, name);
    dps_buf_free (b);
    CHECK_OK (dps_file_read (path, 1 << 20, b, &err));
    dps_free (path);
    return b->data;
}

static DpsStatus log_step (DpsObserver *o, uint64_t step, DpsError *err)
{
    DpsMetrics m = {0};
    DpsStatus st = dps_metrics_set (&m, "loss", 2.0 / (double)step) || dps_metrics_set (&m, "grad_norm", 1.25) ||
                           dps_metrics_set (&m, "learning_rate", 0.0002) || dps_metrics_set (&m, "num_tokens", 1000.0 * (double)step)
                       ? dps_fail (err, DPS_ERR_NOMEM, "metrics")
                       : dps_observer_log (o, step, (double)step / 4, &m, err);
    if (st == DPS_OK && step % 2 == 0)
        st = dps_observer_eval (o, step, (double)step / 4, &(DpsMetrics){.items = m.items, .n = 1}, err);
    dps_metrics_free (&m);
    return st;
}

static DpsStatus finish (DpsObserver *o, DpsError *err)
{
    DpsMetrics m = {0};
    DpsStatus st = dps_metrics_set (&m, "train_runtime", 12.5) || dps_metrics_set (&m, "train_loss", 1.1)
                       ? dps_fail (err, DPS_ERR_NOMEM, "metrics")
                       : dps_observer_finish (o, &m, err);
    dps_metrics_free (&m);
    return st;
}

static void test_lines_in_file_and_console (void)
{
    DpsError err = DPS_ERROR_INIT;
    DpsTrainerState state = {.max_steps = 4};
    DpsObserver *o;
    fresh_dir ();
    char *text = NULL;
    size_t len;
    FILE *console = open_memstream (&text, &len);
    CHECK_OK (dps_observer_open (&(DpsObserveOptions){.output_dir = dir, .console = console, .now = fixed_now}, &state, &o, &err));
    CHECK_OK (log_step (o, 1, &err));
    CHECK_OK (log_step (o, 2, &err));
    DpsMetrics bad = {0};
    CU_ASSERT_FATAL (!dps_metrics_set (&bad, "loss", NAN));
    CHECK_OK (dps_observer_log (o, 3, 0.75, &bad, &err));
    dps_metrics_free (&bad);
    CHECK_OK (finish (o, &err));
    dps_observer_close (o);
    fclose (console);
    CHECK_STR (slurp ("metrics.jsonl"),
               "{\"loss\": 2, \"grad_norm\": 1.25, \"learning_rate\": 0.0002, \"num_tokens\": 1000, \"epoch\": 0.25, \"step\": 1}\n"
               "{\"loss\": 1, \"grad_norm\": 1.25, \"learning_rate\": 0.0002, \"num_tokens\": 2000, \"epoch\": 0.5, \"step\": 2}\n"
               "{\"eval_loss\": 1, \"epoch\": 0.5, \"step\": 2}\n"
               "{\"loss\": null, \"epoch\": 0.75, \"step\": 3}\n"
               "{\"train_runtime\": 12.5, \"train_loss\": 1.1, \"epoch\": 0.75, \"step\": 3}\n");
    CHECK_STR (text, "{'loss': 2, 'grad_norm': 1.25, 'learning_rate': 0.0002, 'num_tokens': 1000, 'epoch': 0.25, 'step': 1}\n"
                     "{'loss': 1, 'grad_norm': 1.25, 'learning_rate': 0.0002, 'num_tokens': 2000, 'epoch': 0.5, 'step': 2}\n"
                     "{'eval_loss': 1, 'epoch': 0.5, 'step': 2}\n"
                     "{'loss': nan, 'epoch': 0.75, 'step': 3}\n"
                     "{'train_runtime': 12.5, 'train_loss': 1.1, 'epoch': 0.75, 'step': 3}\n");
    free (text);
    CHECK_STR (slurp ("train_results.json"), "{\n  \"train_runtime\": 12.5,\n  \"train_loss\": 1.1,\n  \"epoch\": 0.75\n}\n");
    CHECK_STR (slurp ("eval_results.json"), "{\n  \"eval_loss\": 1,\n  \"epoch\": 0.5\n}\n");
    CHECK_STR (slurp ("all_results.json"),
               "{\n  \"eval_loss\": 1,\n  \"epoch\": 0.75,\n  \"train_runtime\": 12.5,\n  \"train_loss\": 1.1\n}\n");
    CU_ASSERT (access (dir, F_OK) == 0);
}

static void test_state_has_the_trainer_s_keys (void)
{
    static const char *const keys[] = {"best_global_step",
                                       "best_metric",
                                       "best_model_checkpoint",
                                       "epoch",
                                       "eval_steps",
                                       "global_step",
                                       "is_hyper_param_search",
                                       "is_local_process_zero",
                                       "is_world_process_zero",
                                       "log_history",
                                       "logging_steps",
                                       "max_steps",
                                       "num_input_tokens_seen",
                                       "num_train_epochs",
                                       "save_steps",
                                       "stateful_callbacks",
                                       "total_flos",
                                       "train_batch_size",
                                       "trial_name",
                                       "trial_params"};
    DpsError err = DPS_ERROR_INIT;
    DpsTrainerState state = {.max_steps = 4, .num_train_epochs = 1, .logging_steps = 1, .train_batch_size = 8}, again;
    DpsObserver *o;
    fresh_dir ();
    CHECK_OK (dps_observer_open (&(DpsObserveOptions){.output_dir = dir, .tensorboard = 1, .run_name = "one"}, &state, &o, &err));
    CHECK_OK (log_step (o, 1, &err));
    CU_ASSERT_EQUAL (dps_trainer_state_best (dps_observer_state (o), 2, 0, 1, "checkpoint-1"), 1);
    CU_ASSERT_EQUAL (dps_trainer_state_best (dps_observer_state (o), 3, 0, 2, "checkpoint-2"), 0);
    CU_ASSERT_EQUAL (dps_trainer_state_best (dps_observer_state (o), NAN, 0, 2, "checkpoint-2"), 0);
    CU_ASSERT_EQUAL (dps_trainer_state_best (dps_observer_state (o), 1.5, 0, 3, "checkpoint-3"), 1);
    dps_observer_state (o)->elapsed_s = 3.5;
    CHECK_OK (dps_observer_write_state (o, &err));
    dps_observer_close (o);
    json_t *j;
    char path[300];
    snprintf (path, sizeof path, "%s/trainer_state.json", dir);
    CHECK_OK (dps_json_file (path, 1 << 20, DPS_JSON_UNIQUE, &j, &err));
    CU_ASSERT_EQUAL (json_object_size (j), sizeof keys / sizeof *keys);
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        CU_ASSERT_PTR_NOT_NULL (json_object_get (j, keys[i]));
    CHECK_OK (dps_trainer_state_from_json (j, &again, &err));
    CU_ASSERT (again.max_steps == 4 && again.train_batch_size == 8 && again.global_step == 1 && again.epoch == 0.25);
    CU_ASSERT (again.has_best && again.best_metric == 1.5 && again.best_global_step == 3 && again.elapsed_s == 3.5);
    CHECK_STR (again.best_model_checkpoint, "checkpoint-3");
    CHECK_STR (again.run_folder, "one");
    CU_ASSERT_EQUAL (json_array_size (again.log_history), 1);
    dps_trainer_state_free (&again);
    json_decref (j);
}

/* A run that died after step 3 goes on from its checkpoint of step 2: the file ends up as if nothing had happened. */
static void test_resume_leaves_no_line_twice_and_loses_none (void)
{
    static const char *const damage[] = {NULL, "", "{\"loss\": 7, \"st", "{\"loss\": 1}\n{\"loss\""};
    DpsError err = DPS_ERROR_INIT;
    char whole[4000], path[300];
    DpsObserver *o;
    for (int died = 0; died < 5; died++) {
        DpsTrainerState state = {.max_steps = 4}, saved = {0};
        fresh_dir ();
        DpsObserveOptions options = {.output_dir = dir, .tensorboard = 1, .now = fixed_now};
        CHECK_OK (dps_observer_open (&options, &state, &o, &err));
        for (uint64_t step = 1; step <= (died ? 3 : 4); step++) {
            CHECK_OK (log_step (o, step, &err));
            if (step == 2) {
                json_t *j = dps_trainer_state_json (dps_observer_state (o));
                char *text = json_dumps (j, 0);
                json_t *again = json_loads (text, 0, NULL);
                CHECK_OK (dps_trainer_state_from_json (again, &saved, &err));
                json_decref (again);
                dps_free (text);
                json_decref (j);
            }
        }
        if (!died)
            CHECK_OK (finish (o, &err));
        dps_observer_close (o);
        if (died) {
            snprintf (path, sizeof path, "%s/metrics.jsonl", dir);
            if (damage[died - 1])
                CHECK_OK (dps_file_write (path, damage[died - 1], strlen (damage[died - 1]), &err));
            options.resumed = 1;
            CHECK_OK (dps_observer_open (&options, &saved, &o, &err));
            for (uint64_t step = 3; step <= 4; step++)
                CHECK_OK (log_step (o, step, &err));
            CHECK_OK (finish (o, &err));
            dps_observer_close (o);
            CHECK_STR (slurp ("metrics.jsonl"), whole);
        } else {
            snprintf (whole, sizeof whole, "%s", slurp ("metrics.jsonl"));
            dps_trainer_state_free (&saved);
        }
    }
}

static void test_hostile_states_are_refused (void)
{
    static const struct {
        const char *json, *text;
    } cases[] = {
        {"[]", "expected an object"},
        {"{}", "'global_step'"},
        {"{\"global_step\": -1}", "'global_step'"},
        {"{\"global_step\": 1e300}", "'global_step'"},
        {"{\"global_step\": \"1\"}", "'global_step'"},
        {"{\"global_step\":1,\"max_steps\":1,\"logging_steps\":1,\"eval_steps\":1,\"save_steps\":1,\"train_batch_size\":1,"
         "\"num_input_tokens_seen\":0,\"epoch\":1,\"num_train_epochs\":1,\"total_flos\":0,\"log_history\":{}}",
         "'log_history'"},
        {"{\"global_step\":1,\"max_steps\":1,\"logging_steps\":1,\"eval_steps\":1,\"save_steps\":1,\"train_batch_size\":1,"
         "\"num_input_tokens_seen\":0,\"epoch\":1,\"num_train_epochs\":1,\"total_flos\":0,\"log_history\":[{}, 3]}",
         "item 1"},
        {"{\"global_step\":1,\"max_steps\":1,\"logging_steps\":1,\"eval_steps\":1,\"save_steps\":1,\"train_batch_size\":1,"
         "\"num_input_tokens_seen\":0,\"epoch\":1,\"num_train_epochs\":1,\"total_flos\":0,\"log_history\":[],"
         "\"best_model_checkpoint\":7}",
         "'best_model_checkpoint'"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        DpsError err = DPS_ERROR_INIT;
        DpsTrainerState s;
        json_t *j = json_loads (cases[i].json, 0, NULL);
        CHECK_FAILS (dps_trainer_state_from_json (j, &s, &err), DPS_ERR_FORMAT, cases[i].text);
        json_decref (j);
    }
}

/* A checkpoint's run folder must not lead out of the output folder. */
static void test_a_run_folder_is_a_plain_name (void)
{
    DpsError err = DPS_ERROR_INIT;
    DpsTrainerState state = {.run_folder = dps_strdup ("../../outside")};
    DpsObserver *o;
    fresh_dir ();
    CHECK_OK (dps_observer_open (&(DpsObserveOptions){.output_dir = dir, .tensorboard = 1, .run_name = "../x"}, &state, &o, &err));
    CU_ASSERT_PTR_NULL (strchr (dps_observer_state (o)->run_folder, '/'));
    dps_observer_close (o);
}

static void test_every_allocation_may_fail (void)
{
    int64_t live = dps_mem_live ();
    for (uint64_t k = 1; k < 2000; k++) {
        DpsError err = DPS_ERROR_INIT;
        DpsTrainerState state = {.max_steps = 4};
        DpsObserver *o = NULL;
        fresh_dir ();
        dps_mem_fail_at (k);
        DpsStatus st = dps_observer_open (&(DpsObserveOptions){.output_dir = dir, .tensorboard = 1, .now = fixed_now}, &state, &o, &err);
        if (st == DPS_OK)
            st = log_step (o, 2, &err);
        if (st == DPS_OK)
            st = finish (o, &err);
        uint64_t used = dps_mem_count ();
        dps_mem_fail_at (0);
        dps_observer_close (o);
        dps_trainer_state_free (&state);
        if (dps_mem_live () != live)
            printf ("\n    allocation %llu: %lld blocks leaked", (unsigned long long)k, (long long)(dps_mem_live () - live));
        CU_ASSERT_EQUAL (dps_mem_live (), live);
        if (st == DPS_OK && used < k) {
            CU_ASSERT (k > 50);
            return;
        }
        if (st != DPS_ERR_NOMEM)
            printf ("\n    allocation %llu: %s %s", (unsigned long long)k, dps_status_name (st), err.msg);
        CU_ASSERT_EQUAL (st, DPS_ERR_NOMEM);
    }
    CU_FAIL ("never succeeded");
}

static void test_clean_up (void)
{
    DpsError err = DPS_ERROR_INIT;
    CHECK_OK (dps_remove_tree (dir, &err));
}

static void test_init_json (void) { dps_json_init (); }

CHECK_MAIN ("observe.observer", T (test_init_json), T (test_lines_in_file_and_console), T (test_state_has_the_trainer_s_keys),
            T (test_resume_leaves_no_line_twice_and_loses_none), T (test_hostile_states_are_refused), T (test_a_run_folder_is_a_plain_name),
            T (test_every_allocation_may_fail), T (test_clean_up))
