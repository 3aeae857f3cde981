/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_rollout.c: any bytes as the rollout.json of a checkpoint: what reads is a rollout that can be trained, for each unit of an objective. */
#include "fuzz.h"
#include "train/trainer.h"

enum { STEPS = 2, VOCAB = 16 };

static DpsSignal signals[] = {{.name = "logp", .role = "policy", .axis = DPS_AXIS_TOKEN},
                              {.name = "logp", .role = "reference", .axis = DPS_AXIS_TOKEN},
                              {.name = "advantage", .role = "step", .axis = DPS_AXIS_ROW}};
static DpsObjectiveInstance objective = {.info = {.n_signals = sizeof signals / sizeof *signals}, .signals = signals};
static DpsTrainer *trainer;

int LLVMFuzzerInitialize (int *argc, char ***argv)
{
    (void)argc, (void)argv;
    trainer = calloc (1, sizeof *trainer);
    require (trainer != NULL);
    trainer->objective = &objective;
    trainer->session.model.dec.vocab = VOCAB;
    trainer->rollout.steps = STEPS;
    trainer->rollout.n_criteria = 1;
    trainer->rollout.firsts = calloc (STEPS + 1, sizeof *trainer->rollout.firsts);
    require (trainer->rollout.firsts != NULL);
    return 0;
}

static void look (const DpsPlace *p)
{
    require (p->n > 0 && (objective.info.unit != DPS_UNIT_SINGLE || p->n == 1) && (objective.info.unit != DPS_UNIT_PAIR || p->n == 2));
    for (size_t i = 0; i < p->n; i++) {
        require (p->sequences[i].prefix > 0 && p->sequences[i].n > p->sequences[i].prefix);
        for (size_t k = 0; k < p->sequences[i].n; k++)
            require (p->sequences[i].ids[k] >= 0 && p->sequences[i].ids[k] < VOCAB);
    }
}

int LLVMFuzzerTestOneInput (const uint8_t *data, size_t size)
{
    DpsError err = DPS_ERROR_INIT;
    DpsRollout *o = &trainer->rollout;
    json_t *all = fuzz_json ((DpsStr){(const char *)data, size});
    if (!all)
        return 0;
    for (uint32_t unit = DPS_UNIT_SINGLE; unit <= DPS_UNIT_GROUP; unit++) {
        objective.info.unit = unit;
        DpsStatus st = dps__rollout_read (trainer, all, &err);
        require (st == DPS_OK || err.msg[0]);
        for (uint64_t i = 0; st == DPS_OK && i < o->n_places; i++)
            look (&o->places[i]);
        require (st != DPS_OK || o->firsts[STEPS] <= o->n_places);
        dps__rollout_clear (o);
    }
    json_decref (all);
    return 0;
}
