/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_chain.c: any bytes as a chain; each stage of an accepted one is a recipe that dumps and reads back to the same fingerprint. */
#include "fuzz.h"
#include "fuzz_yaml.h"
#include "recipe/chain.h"

static void check (const DpsRecipe *r)
{
    DpsError err = DPS_ERROR_INIT;
    DpsRecipe *again;
    DpsDigest a, b;
    DpsBuf text = {0};
    require (dps_recipe_dump (r, 0, &text, &err) == DPS_OK && dps_recipe_fingerprint (r, &a, &err) == DPS_OK);
    require (dps_recipe_parse (text.data, text.len, "again.yaml", "/tmp", NULL, 0, &again, &err) == DPS_OK);
    require (dps_recipe_fingerprint (again, &b, &err) == DPS_OK && !strcmp (a.hex, b.hex));
    dps_recipe_free (again);
    dps_buf_free (&text);
}

int LLVMFuzzerTestOneInput (const uint8_t *data, size_t size)
{
    static const char *const sets[] = {"it.max_steps=3", "seed=1"};
    DpsError err = DPS_ERROR_INIT;
    DpsChain *c;
    if (dps_chain_parse ((const char *)data, size, "/tmp/fuzz.yaml", sets, size % 3, &c, &err) != DPS_OK) {
        require (err.msg[0] != '\0' && !c);
        return 0;
    }
    for (size_t i = 0; i < c->n; i++) {
        const DpsChainStage *s = &c->stages[i];
        require (s->from < (int)i && (s->from >= 0) == (s->stand_in != NULL) && dps_chain_plan (c, i));
        check (s->recipe);
        if (s->stand_in)
            check (s->stand_in);
    }
    dps_chain_free (c);
    return 0;
}
