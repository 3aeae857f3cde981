/* SPDX-License-Identifier: Apache-2.0 */
/* objective_state.c: what an objective keeps from step to step (PPO's adaptive coefficient): told of each step, and in checkpoints. */

#include "base/mem.h"
#include "train/trainer.h"

static DpsStatus theirs (const DpsTrainer *t, DpsStatus st, DpsError *their, DpsError *err)
{
    if (st == DPS_OK)
        return DPS_OK;
    const char *why = dps_error_said (their, st);
    return dps_fail (err, their->code, "%s: %s", t->objective->info.name, why);
}

DpsStatus dps__objective_step_end (DpsTrainer *t, DpsError *err)
{
    const DpsObjectiveInstance *o = t->objective;
    DpsError their = DPS_ERROR_INIT;
    return o->table.step_end ? theirs (t, o->table.step_end (o->self, t->step, &their), &their, err) : DPS_OK;
}

DpsStatus dps__objective_save (const DpsTrainer *t, DpsCheckpointWriter *w, DpsError *err)
{
    const DpsObjectiveInstance *o = t->objective;
    DpsError their = DPS_ERROR_INIT;
    size_t n = 0, written = 0;
    if (!o->table.state_save)
        return DPS_OK;
    DPS_TRY (theirs (t, o->table.state_save (o->self, NULL, 0, &n, &their), &their, err));
    char *state = dps_calloc (n, 1);
    if (!state)
        return dps_fail (err, DPS_ERR_NOMEM, "checkpoint: out of memory");
    DpsStatus st = theirs (t, o->table.state_save (o->self, state, n, &written, &their), &their, err);
    if (st == DPS_OK)
        st = dps_ckpt_add_bytes (w, DPS_CKPT_OBJECTIVE, state, written < n ? written : n, err);
    dps_free (state);
    return st;
}

enum { MAX_STATE_BYTES = 64 << 20 };

DpsStatus dps__objective_restore (DpsTrainer *t, const DpsCheckpoint *c, DpsError *err)
{
    const DpsObjectiveInstance *o = t->objective;
    DpsError their = DPS_ERROR_INIT;
    DpsBuf state = {0};
    if (!o->table.state_load)
        return DPS_OK;
    DpsStatus st = dps_ckpt_read (c, DPS_CKPT_OBJECTIVE, MAX_STATE_BYTES, &state, err);
    if (st == DPS_OK)
        st = theirs (t, o->table.state_load (o->self, state.data, state.len, &their), &their, err);
    if (st == DPS_ERR_FORMAT || st == DPS_ERR_VERSION)
        dps_error_prefix (err, "%s/%s", dps_ckpt_path (c), DPS_CKPT_OBJECTIVE);
    dps_buf_free (&state);
    return st;
}
