/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_targets.c: target_modules as typed by a stranger (names, a regular expression) against module paths, within the step limits. */
#include "fuzz.h"
#include "graph/targets.h"

/* Input: the text, a NUL, then module paths separated by NULs. */
int LLVMFuzzerTestOneInput (const uint8_t *data, size_t size)
{
    DpsError err = DPS_ERROR_INIT;
    DpsTargetSpec rest = {.where = "fuzz"};
    DpsTargets *targets = NULL;
    char *copy = dps_strndup ((const char *)data, size);
    if (!copy)
        return 0;
    memcpy (copy, data, size);
    if (dps_targets_from_text (copy, &rest, &targets, &err) == DPS_OK) {
        for (size_t at = strlen (copy) + 1; at < size; at += strlen (copy + at) + 1)
            (void)dps_targets_match (targets, copy + at);
        (void)dps_targets_match (targets, "model.layers.3.self_attn.q_proj");
        (void)dps_targets_check (targets, &err);
        dps_targets_free (targets);
    } else
        require (err.msg[0] != '\0');
    dps_free (copy);
    return 0;
}
