/* SPDX-License-Identifier: Apache-2.0 */
/* helper_observe.c FOLDER: the output of a small run that is interrupted and resumed: what test_tensorboard.sh has TensorBoard read. */
#include <math.h>

#include "observe/observer.h"

static DpsStatus step (DpsObserver *o, uint64_t k, double loss, DpsError *err)
{
    DpsMetrics m = {0}, e = {0};
    DpsStatus st = dps_metrics_set (&m, "loss", loss) || dps_metrics_set (&m, "learning_rate", 0.001 * (double)k) ||
                           dps_metrics_set (&m, "rewards/margins", k == 2 ? NAN : 0.5) || dps_metrics_set (&e, "loss", loss / 2)
                       ? dps_fail (err, DPS_ERR_NOMEM, "metrics")
                       : dps_observer_log (o, k, (double)k / 10, &m, err);
    if (st == DPS_OK && k % 2 == 0)
        st = dps_observer_eval (o, k, (double)k / 10, &e, err);
    dps_metrics_free (&m);
    dps_metrics_free (&e);
    return st;
}

static DpsStatus run (const char *folder, DpsError *err)
{
    DpsObserver *o;
    DpsTrainerState state = {.max_steps = 6}, saved = {0};
    DpsObserveOptions options = {.output_dir = folder, .tensorboard = 1, .run_name = "peer", .logging_dir = NULL};
    DPS_TRY (dps_observer_open (&options, &state, &o, err));
    DpsStatus st = DPS_OK;
    for (uint64_t k = 1; k <= 5 && st == DPS_OK; k++) {
        st = step (o, k, k > 3 ? 99 : 4.0 / (double)k, err); /* steps 4 and 5 will be forgotten */
        if (k == 3 && st == DPS_OK) {
            json_t *j = dps_trainer_state_json (dps_observer_state (o)), *copy = json_deep_copy (j);
            st = dps_trainer_state_from_json (copy, &saved, err);
            json_decref (copy);
            json_decref (j);
        }
    }
    dps_observer_close (o);
    DPS_TRY (st);
    options.resumed = 1;
    DPS_TRY (dps_observer_open (&options, &saved, &o, err));
    for (uint64_t k = 4; k <= 6 && st == DPS_OK; k++)
        st = step (o, k, 4.0 / (double)k, err);
    if (st == DPS_OK)
        st = dps_observer_sync (o, err);
    dps_observer_close (o);
    return st;
}

int main (int argc, char **argv)
{
    DpsError err = DPS_ERROR_INIT;
    if (argc != 2)
        return 2;
    DpsStatus st = run (argv[1], &err);
    if (st != DPS_OK)
        printf ("%s: %s\n", dps_status_name (st), err.msg);
    return st == DPS_OK ? 0 : 1;
}
