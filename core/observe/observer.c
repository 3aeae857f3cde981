/* SPDX-License-Identifier: Apache-2.0 */
#include "observe/observer.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/file.h"
#include "ckpt/checkpoint.h"
#include "observe/tensorboard.h"

struct DpsObserver {
    DpsTrainerState state;
    char *dir, *metrics_path;
    int metrics_fd;
    FILE *console;
    double (*now) (void);
    DpsTensorboard *tensorboard;
    DpsBuf line; /* scratch */
};

static double system_now (void)
{
    struct timespec t;
    clock_gettime (CLOCK_REALTIME, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static DpsStatus no_memory (DpsError *err, const char *what) { return dps_fail (err, DPS_ERR_NOMEM, "%s: out of memory", what); }

static DpsStatus write_json (const char *dir, const char *name, const json_t *value, DpsError *err)
{
    DpsBuf text = {0};
    char *path = dps_path_join (dir, name);
    DpsStatus st = !value || !path || dps_json_write (&text, value, 2) || dps_buf_str (&text, "\n")
                       ? no_memory (err, name)
                       : dps_file_write (path, text.data, text.len, err);
    dps_buf_free (&text);
    dps_free (path);
    return st;
}

/* metrics.jsonl as the history has it: also for a fresh run in a folder that an older one used. */
static DpsStatus rewrite_metrics (DpsObserver *o, DpsError *err)
{
    DpsBuf text = {0};
    json_t *entry;
    size_t i;
    int bad = 0;
    json_array_foreach (o->state.log_history, i, entry)
        bad = bad || dps_json_write (&text, entry, 0) || dps_buf_str (&text, "\n");
    DPS_TRY (dps_file_write_buf (o->metrics_path, &text, bad, err));
    o->metrics_fd = open (o->metrics_path, O_WRONLY | O_APPEND | O_CLOEXEC);
    return o->metrics_fd >= 0 ? DPS_OK : dps_fail (err, DPS_ERR_IO, "%s: cannot open: %s", o->metrics_path, strerror (errno));
}

/* A name for one folder: a checkpoint's word is not trusted to lead elsewhere. */
static int is_plain_name (const char *s) { return s && *s && strcmp (s, ".") != 0 && strcmp (s, "..") != 0 && !strchr (s, '/'); }

static DpsStatus choose_run_folder (DpsObserver *o, const char *run_name, DpsError *err)
{
    char stamp[40] = "", host[200] = "";
    struct tm tm;
    time_t now = (time_t)o->now ();
    if (is_plain_name (o->state.run_folder))
        return DPS_OK;
    dps_free (o->state.run_folder);
    if (!is_plain_name (run_name)) {
        gethostname (host, sizeof host - 1);
        if (localtime_r (&now, &tm))
            strftime (stamp, sizeof stamp, "%b%d_%H-%M-%S", &tm);
    }
    o->state.run_folder = stamp[0] ? dps_strf ("%s_%s", stamp, host) : dps_strdup (run_name ? run_name : "run");
    return o->state.run_folder ? DPS_OK : no_memory (err, o->dir);
}

static DpsStatus open_tensorboard (DpsObserver *o, const DpsObserveOptions *options, DpsError *err)
{
    const char *dir = options->logging_dir ? options->logging_dir : getenv ("TENSORBOARD_LOGGING_DIR");
    DPS_TRY (choose_run_folder (o, options->run_name, err));
    char *own = dir && *dir ? NULL : dps_path_join (o->dir, "runs");
    char *folder = own || (dir && *dir) ? dps_path_join (own ? own : dir, o->state.run_folder) : NULL;
    int64_t step = options->resumed ? (int64_t)o->state.global_step : -1;
    DpsStatus st = folder ? dps_tensorboard_open (folder, o->now (), step, &o->tensorboard, err) : no_memory (err, o->dir);
    dps_free (folder);
    dps_free (own);
    return st;
}

DpsStatus dps_observer_open (const DpsObserveOptions *options, DpsTrainerState *state, DpsObserver **out, DpsError *err)
{
    DpsObserver *o = dps_calloc (1, sizeof *o);
    if (!o)
        return no_memory (err, options->output_dir);
    o->metrics_fd = -1;
    o->now = options->now ? options->now : system_now;
    o->console = options->console;
    o->state = *state;
    o->dir = dps_strdup (options->output_dir);
    o->metrics_path = dps_path_join (options->output_dir, "metrics.jsonl");
    if (!o->state.log_history)
        o->state.log_history = json_array ();
    DpsStatus st = o->dir && o->metrics_path && o->state.log_history ? dps_mkdirs (o->dir, err) : no_memory (err, options->output_dir);
    if (st == DPS_OK)
        st = dps_ckpt_sweep (o->dir, err);
    if (st == DPS_OK)
        st = rewrite_metrics (o, err);
    if (st == DPS_OK && options->tensorboard)
        st = open_tensorboard (o, options, err);
    *state = st == DPS_OK ? (DpsTrainerState){0} : o->state;
    if (st != DPS_OK) {
        o->state = (DpsTrainerState){0};
        dps_observer_close (o);
        return st;
    }
    *out = o;
    return DPS_OK;
}

DpsTrainerState *dps_observer_state (DpsObserver *obs) { return &obs->state; }

static DpsStatus append_line (DpsObserver *o, const json_t *entry, DpsError *err)
{
    o->line.len = 0;
    if (dps_json_write (&o->line, entry, 0) || dps_buf_str (&o->line, "\n"))
        return no_memory (err, o->metrics_path);
    for (size_t done = 0; done < o->line.len;) {
        ssize_t n = write (o->metrics_fd, o->line.data + done, o->line.len - done);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return dps_fail (err, DPS_ERR_IO, "%s: cannot write: %s", o->metrics_path, strerror (n == 0 ? ENOSPC : errno));
        done += (size_t)n;
    }
    return DPS_OK;
}

static DpsStatus print_line (DpsObserver *o, const json_t *entry, DpsError *err)
{
    if (!o->console)
        return DPS_OK;
    o->line.len = 0;
    if (dps_metrics_python (&o->line, entry))
        return no_memory (err, "console");
    fprintf (o->console, "%s\n", o->line.data);
    fflush (o->console);
    return DPS_OK;
}

static DpsStatus record (DpsObserver *o, const char *prefix, uint64_t step, double epoch, const DpsMetrics *metrics, DpsError *err)
{
    DpsMetrics all = {0};
    json_t *entry = NULL;
    if (!dps_metrics_merge (&all, prefix, metrics) && !dps_metrics_set (&all, "epoch", epoch) &&
        !dps_metrics_set (&all, "step", (double)step))
        entry = dps_metrics_json (&all);
    dps_metrics_free (&all);
    if (!entry || json_array_append (o->state.log_history, entry)) {
        json_decref (entry);
        return no_memory (err, o->metrics_path);
    }
    o->state.global_step = step;
    o->state.epoch = epoch;
    DpsStatus st = append_line (o, entry, err);
    if (st == DPS_OK)
        st = print_line (o, entry, err);
    if (st == DPS_OK && o->tensorboard)
        st = dps_tensorboard_add (o->tensorboard, o->now (), (int64_t)step, entry, err);
    json_decref (entry);
    return st;
}

DpsStatus dps_observer_log (DpsObserver *obs, uint64_t step, double epoch, const DpsMetrics *metrics, DpsError *err)
{
    return record (obs, "", step, epoch, metrics, err);
}

DpsStatus dps_observer_eval (DpsObserver *obs, uint64_t step, double epoch, const DpsMetrics *metrics, DpsError *err)
{
    return record (obs, "eval_", step, epoch, metrics, err);
}

DpsStatus dps_observer_sync (DpsObserver *obs, DpsError *err)
{
    if (fsync (obs->metrics_fd) != 0)
        return dps_fail (err, DPS_ERR_IO, "%s: cannot sync: %s", obs->metrics_path, strerror (errno));
    return obs->tensorboard ? dps_tensorboard_sync (obs->tensorboard, err) : DPS_OK;
}

DpsStatus dps_observer_write_state (DpsObserver *obs, DpsError *err)
{
    json_t *j = dps_trainer_state_json (&obs->state);
    DpsStatus st = write_json (obs->dir, "trainer_state.json", j, err);
    json_decref (j);
    return st;
}

/* The last evaluation in the history, borrowed; NULL when there was none. */
static json_t *last_evaluation (const DpsObserver *o)
{
    for (size_t i = json_array_size (o->state.log_history); i-- > 0;) {
        json_t *entry = json_array_get (o->state.log_history, i);
        if (json_object_get (entry, "eval_loss"))
            return entry;
    }
    return NULL;
}

/* train_results.json, eval_results.json, all_results.json: numbers of the whole run, so without a step. */
static DpsStatus write_results (DpsObserver *o, json_t *train, json_t *eval, json_t *all, DpsError *err)
{
    if (!train || !all || json_object_set_new (train, "epoch", json_real (o->state.epoch)) || (eval && json_object_update (all, eval)) ||
        json_object_update (all, train))
        return no_memory (err, o->dir);
    DPS_TRY (write_json (o->dir, "train_results.json", train, err));
    if (eval)
        DPS_TRY (write_json (o->dir, "eval_results.json", eval, err));
    return write_json (o->dir, "all_results.json", all, err);
}

DpsStatus dps_observer_finish (DpsObserver *obs, const DpsMetrics *summary, DpsError *err)
{
    json_t *last = last_evaluation (obs), *eval = last ? dps_json_copy (last, 0) : NULL;
    if (last && !eval)
        return no_memory (err, obs->dir);
    json_object_del (eval, "step");
    json_t *train = dps_metrics_json (summary), *all = json_object ();
    DpsStatus st = record (obs, "", obs->state.global_step, obs->state.epoch, summary, err);
    if (st == DPS_OK)
        st = write_results (obs, train, eval, all, err);
    if (st == DPS_OK)
        st = dps_observer_write_state (obs, err);
    if (st == DPS_OK)
        st = dps_observer_sync (obs, err);
    json_decref (train);
    json_decref (eval);
    json_decref (all);
    return st;
}

void dps_observer_close (DpsObserver *obs)
{
    if (!obs)
        return;
    if (obs->metrics_fd >= 0)
        close (obs->metrics_fd);
    dps_tensorboard_close (obs->tensorboard);
    dps_trainer_state_free (&obs->state);
    dps_buf_free (&obs->line);
    dps_free (obs->metrics_path);
    dps_free (obs->dir);
    dps_free (obs);
}
