/* SPDX-License-Identifier: Apache-2.0 */
/* rollout.json of a checkpoint, as dps__rollout_read takes it: whole, or refused by what is wrong in it. */
#include <stdlib.h>

#include "base/json.h"
#include "check.h"
#include "train/trainer.h"

static DpsError err = DPS_ERROR_INIT;
static DpsSignal signals[] = {{.name = "logp", .role = "reference", .axis = DPS_AXIS_TOKEN},
                              {.name = "advantage", .role = "step", .axis = DPS_AXIS_ROW}};
static DpsObjectiveInstance objective = {.info = {.unit = DPS_UNIT_GROUP, .n_signals = 2}, .signals = signals};
static uint64_t firsts[2];
static DpsTrainer trainer = {.objective = &objective, .rollout = {.steps = 1, .n_criteria = 1, .firsts = firsts}};

/* Two answers of one token each to a prompt of one. */
static DpsStatus read (const char *logp, const char *rewards, const char *truncated, const char *reference)
{
    char text[512];
    json_t *all = NULL;
    snprintf (text, sizeof text,
              "{\"made_at\": 4, \"firsts\": [0, 1], \"places\": [{\"prefix\": 1, \"key\": 9, \"ids\": [[1, 2], [1, 3]], \"logp\": %s, "
              "\"rewards\": %s, \"truncated\": %s, \"signals\": [%s, [0.5, -0.5]]}]}",
              logp, rewards, truncated, reference);
    CHECK_OK (dps_json_parse (text, strlen (text), "test", 1, 0, &all, &err));
    trainer.session.model.dec.vocab = 4;
    DpsStatus st = dps__rollout_read (&trainer, all, &err);
    json_decref (all);
    return st;
}

static void test_a_rollout_is_whole_or_refused (void)
{
    static const char *const good[] = {"[-1.5, -2]", "[1, null]", "[0, 1]", "null"};
    static const struct {
        int which;
        const char *instead, *error;
    } bad[] = {{0, "[-1.5]", "arrays of other lengths"},
               {0, "[-1.5, null]", "arrays of other lengths"},
               {1, "[1]", "arrays of other lengths"},
               {2, "[0]", "arrays of other lengths"},
               {2, "[]", "arrays of other lengths"},
               {3, "[-1]", "logp"},
               {3, "[-1, null]", "logp"}};
    CHECK_OK (read (good[0], good[1], good[2], good[3]));
    const DpsPlace *p = trainer.rollout.places;
    CU_ASSERT (trainer.rollout.made_at == 4 && trainer.rollout.n_places == 1 && p->n == 2 && p->truncated[1] == 1);
    CU_ASSERT (trainer.rollout.logp[0][1] == -2 && p->rewards[0] == 1 && isnan (p->rewards[1]) && p->step[1][1] == -0.5);
    dps__rollout_clear (&trainer.rollout);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        const char *with[4] = {good[0], good[1], good[2], good[3]};
        with[bad[i].which] = bad[i].instead;
        CHECK_FAILS (read (with[0], with[1], with[2], with[3]), DPS_ERR_FORMAT, bad[i].error);
        dps__rollout_clear (&trainer.rollout);
    }
}

CHECK_MAIN ("train.rollout_read", T (test_a_rollout_is_whole_or_refused))
