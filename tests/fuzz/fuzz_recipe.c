/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_recipe.c: any bytes as a recipe; an accepted one dumps and reads back to the same fingerprint. */
#include "fuzz.h"
#include "fuzz_yaml.h"
#include "recipe/recipe.h"

int LLVMFuzzerTestOneInput (const uint8_t *data, size_t size)
{
    DpsError err = DPS_ERROR_INIT;
    DpsRecipe *recipe, *again;
    DpsDigest a, b;
    DpsBuf text = {0};
    if (dps_recipe_parse ((const char *)data, size, "fuzz.yaml", "/tmp", NULL, 0, &recipe, &err) != DPS_OK) {
        require (err.msg[0] != '\0');
        return 0;
    }
    require (dps_recipe_dump (recipe, 0, &text, &err) == DPS_OK && dps_recipe_fingerprint (recipe, &a, &err) == DPS_OK);
    require (dps_recipe_parse (text.data, text.len, "again.yaml", "/tmp", NULL, 0, &again, &err) == DPS_OK);
    require (dps_recipe_fingerprint (again, &b, &err) == DPS_OK && !strcmp (a.hex, b.hex));
    dps_recipe_free (recipe);
    dps_recipe_free (again);
    dps_buf_free (&text);
    return 0;
}
