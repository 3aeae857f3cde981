/* SPDX-License-Identifier: Apache-2.0 */
/* ckpt_kit.h: a small checkpoint to save, damage and load: 3 tensors of weights, 2 of the optimizer, 2 JSON files, a recipe. */
#ifndef DPS_TESTS_CKPT_KIT_H
#define DPS_TESTS_CKPT_KIT_H

#include <stdlib.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "check.h"
#include "ckpt/checkpoint.h"
#include "plugin/registry.h"

static DpsRegistry *kit_registry;

/** A format plugin of this build. */
static inline const DpsFormat *kit_plugin (const char *name)
{
    DpsError err = DPS_ERROR_INIT;
    if (!kit_registry)
        CHECK_OK (dps_registry_open (NULL, &kit_registry, &err));
    const DpsFormat *f = dps_registry_get (kit_registry, DPS_FORMAT_ID, name);
    CU_ASSERT_PTR_NOT_NULL_FATAL (f);
    return f;
}

static inline const DpsFormat *kit_format (void) { return kit_plugin ("checkpoint"); }

static char kit_warning[2000]; /* the last one since kit_watch */

static inline void kit_keep_warning (void *ctx, int level, const char *line)
{
    (void)ctx;
    (void)level;
    snprintf (kit_warning, sizeof kit_warning, "%s", line);
}

/** Keep warnings from now on: a damaged checkpoint that is passed over is named in one. */
static inline void kit_watch (void)
{
    kit_warning[0] = '\0';
    dps_log_install (kit_keep_warning, NULL, DPS_LOG_WARNING);
}

/** A folder of this process, emptied. */
static inline const char *kit_dir (const char *name)
{
    static char dir[300];
    DpsError err = DPS_ERROR_INIT;
    snprintf (dir, sizeof dir, DPS_BUILD "/tests/ckpt-%s-%ld", name, (long)getpid ());
    CHECK_OK (dps_remove_tree (dir, &err));
    return dir;
}

/* Values that tell steps apart. */
static inline void kit_fill (float *v, size_t n, uint64_t step, int which)
{
    for (size_t i = 0; i < n; i++)
        v[i] = (float)step + 0.125f * (float)i - (float)which;
}

static inline DpsStatus kit_read_piece (void *ctx, uint64_t offset, uint64_t len, void *dst, DpsError *err)
{
    (void)err;
    memcpy (dst, (const char *)ctx + offset, len);
    return DPS_OK;
}

static inline DpsStatus kit_add_tensors (DpsCheckpointWriter *w, uint64_t step, DpsError *err)
{
    static float a[12], b[12], m[12]; /* read when the checkpoint is committed */
    static uint16_t half[3] = {0x3f80, 0x4000};
    static int64_t counter;
    half[2] = (uint16_t)step;
    counter = (int64_t)step;
    kit_fill (a, 12, step, 0);
    kit_fill (b, 12, step, 1);
    kit_fill (m, 12, step, 2);
    const DpsTensorOut model[] = {
        {.name = "layers.0.lora_A.weight", .dtype = DPS_DTYPE_F32, .rank = 2, .shape = {3, 4}, .data = a},
        {.name = "layers.0.lora_B.weight", .dtype = DPS_DTYPE_F32, .rank = 2, .shape = {4, 3}, .read = kit_read_piece, .ctx = b},
        {.name = "half", .dtype = DPS_DTYPE_BF16, .rank = 1, .shape = {3}, .data = half}};
    const DpsTensorOut optimizer[] = {{.name = "exp_avg.0", .dtype = DPS_DTYPE_F32, .rank = 2, .shape = {3, 4}, .data = m},
                                      {.name = "step", .dtype = DPS_DTYPE_I64, .rank = 0, .data = &counter}};
    const DpsTensorMeta meta[] = {{.key = "format", .value = "pt"}};
    DPS_TRY (dps_ckpt_add_tensors (w, DPS_CKPT_ADAPTER, model, 3, meta, 1, err));
    return dps_ckpt_add_tensors (w, DPS_CKPT_OPTIMIZER, optimizer, 2, NULL, 0, err);
}

static inline DpsStatus kit_save (const char *dir, const DpsFormat *format, uint64_t step, DpsError *err)
{
    DpsCheckpointWriter *w;
    DPS_TRY (dps_ckpt_begin (format, dir, step, &w, err));
    DpsStatus st = kit_add_tensors (w, step, err);
    json_t *state = json_pack ("{sI}", "global_step", (json_int_t)step),
           *run = json_pack ("{sI si}", "cursor", (json_int_t)step * 8, "seed", 42);
    if (st == DPS_OK)
        st = dps_ckpt_add_json (w, DPS_CKPT_STATE, state, err);
    if (st == DPS_OK)
        st = dps_ckpt_add_json (w, DPS_CKPT_RUN, run, err);
    json_decref (state);
    json_decref (run);
    if (st == DPS_OK)
        st = dps_ckpt_add_bytes (w, DPS_CKPT_LOCK, "seed: 42\n", 9, err);
    if (st != DPS_OK) {
        dps_ckpt_discard (w);
        return st;
    }
    return dps_ckpt_commit (w, err);
}

/** Everything in an opened checkpoint is what kit_save wrote for its step. */
static inline DpsStatus kit_check (const DpsCheckpoint *c, DpsError *err)
{
    DpsTensorFile *f;
    json_t *j;
    float got[12], want[12];
    uint64_t step = dps_ckpt_step (c);
    static const char *const names[] = {"layers.0.lora_A.weight", "layers.0.lora_B.weight"};
    DPS_TRY (dps_ckpt_tensors (c, DPS_CKPT_ADAPTER, &f, err));
    DpsStatus st = DPS_OK;
    for (int k = 0; k < 2 && st == DPS_OK; k++) {
        int64_t at = dps_tensors_find (f, names[k]);
        kit_fill (want, 12, step, k);
        st = at < 0 ? dps_fail (err, DPS_ERR_NOT_FOUND, "no tensor %s", names[k]) : dps_tensors_read (f, (size_t)at, got, sizeof got, err);
        if (st == DPS_OK && memcmp (got, want, sizeof got) != 0)
            st = dps_fail (err, DPS_ERR_DIGEST, "wrong values in %s", names[k]);
    }
    dps_tensors_close (f);
    DPS_TRY (st);
    DPS_TRY (dps_ckpt_read_json (c, DPS_CKPT_RUN, &j, err));
    if (json_integer_value (json_object_get (j, "cursor")) != (json_int_t)step * 8)
        st = dps_fail (err, DPS_ERR_DIGEST, "wrong cursor");
    json_decref (j);
    return st;
}

#endif
