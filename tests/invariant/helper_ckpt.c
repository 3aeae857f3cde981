/* SPDX-License-Identifier: Apache-2.0 */
/*
 * helper_ckpt.c save FOLDER FIRST LAST: write checkpoints FIRST … LAST, keeping one. helper_ckpt.c check FOLDER: the newest sound one must
 * hold what was written for its step; prints the step. Exit 1 with a message when something fails.
 */
#include "unit/ckpt/ckpt_kit.h"

static DpsStatus save (const char *dir, const DpsFormat *format, uint64_t first, uint64_t last, DpsError *err)
{
    DPS_TRY (dps_ckpt_sweep (dir, err));
    for (uint64_t step = first; step <= last; step++) {
        DPS_TRY (kit_save (dir, format, step, err));
        DPS_TRY (dps_ckpt_rotate (dir, 1, NULL, err));
    }
    return DPS_OK;
}

static DpsStatus check (const char *dir, const DpsFormat *format, DpsError *err)
{
    DpsCheckpoint *c;
    kit_watch ();
    DPS_TRY (dps_ckpt_resume (dir, "auto", format, &c, err));
    DpsStatus st = kit_check (c, err);
    if (st == DPS_OK && kit_warning[0])
        st = dps_fail (err, DPS_ERR_DIGEST, "a damaged checkpoint was left: %s", kit_warning);
    if (st == DPS_OK)
        printf ("%llu\n", (unsigned long long)dps_ckpt_step (c));
    dps_ckpt_close (c);
    return st;
}

int main (int argc, char **argv)
{
    DpsError err = DPS_ERROR_INIT;
    DpsRegistry *reg;
    if (argc < 3)
        return 2;
    DpsStatus st = dps_registry_open (NULL, &reg, &err);
    if (st == DPS_OK) {
        const DpsFormat *format = dps_registry_get (reg, DPS_FORMAT_ID, "checkpoint");
        if (!format)
            st = dps_registry_missing (reg, DPS_FORMAT_ID, "checkpoint", &err);
        else if (!strcmp (argv[1], "save") && argc == 5)
            st = save (argv[2], format, strtoull (argv[3], NULL, 10), strtoull (argv[4], NULL, 10), &err);
        else
            st = check (argv[2], format, &err);
        dps_registry_close (reg);
    }
    if (st != DPS_OK)
        printf ("%s: %s\n", dps_status_name (st), err.msg);
    return st == DPS_OK ? 0 : 1;
}
