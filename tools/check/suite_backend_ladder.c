/* SPDX-License-Identifier: Apache-2.0 */
/*
 * suite_backend_ladder.c: which ops of a training step the device takes, asked dry, and which of those it refuses weighs most: by the share of a
 * step's time that step_profile.def records. It judges nothing; what a rung demands is in the other suites.
 */
#include <string.h>

#include "check/typical.h"

static const struct {
    const char *op;
    double share;
} profile[] = {
#define STEP_OF(text)
#define STEP(op, share) {#op, share},
#include "check/step_profile.def"
#undef STEP
#undef STEP_OF
};
static const char profiled[] =
#define STEP(op, share)
#define STEP_OF(text) text
#include "check/step_profile.def"
    ;
#undef STEP
#undef STEP_OF
enum { N_OPS = sizeof profile / sizeof *profile };

static int takes (Kit *k, const char *op, uint32_t dtype, DpsError *err)
{
    KitCall c;
    int ok = typical_call (k, op, dtype, &typical_small, &c, err) == DPS_OK && kit_run (k, &c, DPS_RUN_DRY, err) == DPS_OK;
    kit_clear (k);
    return ok;
}

/* The profile is sorted: the first op refused is the heaviest. f32 first: without it there is no step at all. */
static DpsStatus coverage (Kit *k, DpsError *err)
{
    for (int m = 0; m < 2; m++) {
        double covered = 0;
        json_t *missing = json_array ();
        for (int i = 0; i < N_OPS; i++) {
            if (takes (k, profile[i].op, kit_mixed (m, 0), err)) {
                covered += profile[i].share;
                continue;
            }
            json_array_append_new (missing,
                                   json_pack ("{s:s, s:f, s:s}", "op", profile[i].op, "share", profile[i].share, "reason", err->msg));
            if (!json_object_get (k->ctx->notes, "next_op"))
                json_object_set_new (k->ctx->notes, "next_op",
                                     json_pack ("{s:s, s:s, s:f, s:s, s:s}", "op", profile[i].op, "dtype",
                                                dps_dtype_name (kit_mixed (m, 0)), "share", profile[i].share, "of", profiled, "refused",
                                                err->msg));
        }
        check_note_number (k->ctx, m ? "covered_bf16" : "covered_f32", covered);
        json_object_set_new (k->ctx->notes, m ? "missing_bf16" : "missing_f32", missing);
    }
    k->n_compared++;
    return DPS_OK;
}

KIT_CASE (coverage)

static const CheckCase cases[] = {KIT_LINE (coverage, 0, 0)};
const CheckSuite check_suite_backend_ladder = {"backend.ladder", DPS_BACKEND_ID, "what of a training step it takes", cases,
                                               sizeof cases / sizeof *cases};
