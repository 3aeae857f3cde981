/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_checkpoint.c: any bytes as what a checkpoint's JSON files hold: the manifest (without its own digest, which no fuzzer would guess;
 * an accepted one is written with it, read back and compared), trainer_state.json, and the guard's state.
 */
#include "base/digests.h"
#include "fuzz.h"
#include "observe/guard.h"
#include "observe/state.h"

static void fuzz_manifest (const char *data, size_t size)
{
    DpsError err = DPS_ERROR_INIT;
    DpsDigests m = {0}, again = {0};
    DpsBuf text = {0};
    require (dps_digests_read (data, size, "manifest", &again, &err) != DPS_OK || size > 80);
    dps_digests_free (&again);
    if (dps_digests_parse (data, size, "manifest", &m, &err) != DPS_OK) {
        require (m.n == 0 && m.files == NULL);
        return;
    }
    require (dps_digests_write (&m, &text, &err) == DPS_OK);
    require (dps_digests_read (text.data, text.len, "again", &again, &err) == DPS_OK);
    require (m.step == again.step && m.n == again.n);
    for (size_t i = 0; i < m.n; i++) {
        require (!strcmp (m.files[i].name, again.files[i].name) && m.files[i].bytes == again.files[i].bytes);
        require (m.files[i].n_tensors == again.files[i].n_tensors);
    }
    dps_digests_free (&m);
    dps_digests_free (&again);
    dps_buf_free (&text);
}

static void fuzz_states (const char *data, size_t size)
{
    json_t *j = NULL;
    DpsTrainerState s = {0};
    DpsGuard g;
    if (dps_json_parse (data, size, "state", 1, 0, &j, NULL) != DPS_OK)
        return;
    if (dps_trainer_state_from_json (j, &s, NULL) == DPS_OK) {
        json_t *again = dps_trainer_state_json (&s);
        DpsTrainerState t = {0};
        require (again && dps_trainer_state_from_json (again, &t, NULL) == DPS_OK && t.global_step == s.global_step);
        dps_trainer_state_free (&t);
        json_decref (again);
        dps_trainer_state_free (&s);
    }
    if (dps_guard_from_json (j, &g, NULL) == DPS_OK) {
        json_t *again = dps_guard_json (&g);
        DpsGuard h;
        require (again && dps_guard_from_json (again, &h, NULL) == DPS_OK && !memcmp (&g, &h, sizeof g));
        json_decref (again);
    }
    json_decref (j);
}

int LLVMFuzzerTestOneInput (const uint8_t *data, size_t size)
{
    fuzz_manifest ((const char *)data, size);
    fuzz_states ((const char *)data, size);
    return 0;
}
