/* SPDX-License-Identifier: Apache-2.0 */
/* settle_objective.c: what follows from what an objective says of itself, once it is open. No stage is named here: a plugin of any name gets the same. */
#include "recipe/internal.h"

/* TRL's learning rates: of reward models, of PPO, of stages that compare answers or policies; the others' is in keys.def. */
static double rate_of (const DpsRecipe *r, const DpsRecipeObjective *o)
{
    if (o->score)
        return 1e-4;
    if (o->value)
        return 3e-6;
    return o->compares || o->reference || o->rollout ? 1e-6 : r->learning_rate;
}

DpsStatus dps_recipe_settle_objective (DpsRecipe *r, const DpsRecipeObjective *o, DpsError *err)
{
    if (!r->place[DPS_KEY_learning_rate])
        r->learning_rate = rate_of (r, o);
    if (!o->rollout && !dps_recipe_samples (r))
        return DPS_OK;
    /* A log-prob that is trained must be the one that was sampled with, and dropout draws anew in each pass. */
    if (!r->place[DPS_KEY_lora_dropout])
        r->lora_dropout = 0;
    return r->lora_dropout > 0 ? dps_fail (err, DPS_ERR_USAGE,
                                           "%s: lora_dropout: above 0 the policy that is trained is not the one that answered: set it to "
                                           "0, which is the default here",
                                           dps_recipe_where (r, DPS_KEY_lora_dropout))
                               : DPS_OK;
}
