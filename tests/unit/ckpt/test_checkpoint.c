/* SPDX-License-Identifier: Apache-2.0 */
#include <fcntl.h>
#include <sys/stat.h>

#include "ckpt_kit.h"

static void test_what_is_saved_is_loaded (void)
{
    DpsError err = DPS_ERROR_INIT;
    const char *dir = kit_dir ("round");
    DpsCheckpoint *c;
    DpsTensorFile *f;
    char path[400];
    CHECK_OK (kit_save (dir, kit_format (), 40, &err));
    kit_watch ();
    CHECK_OK (dps_ckpt_resume (dir, "auto", kit_format (), &c, &err));
    CU_ASSERT_EQUAL (dps_ckpt_step (c), 40);
    CHECK_STR (kit_warning, "");
    CHECK_OK (kit_check (c, &err));
    CU_ASSERT (dps_ckpt_has (c, DPS_CKPT_LOCK) && !dps_ckpt_has (c, DPS_CKPT_MODEL));
    CHECK_OK (dps_ckpt_tensors (c, DPS_CKPT_ADAPTER, &f, &err));
    char *format = dps_tensors_meta (f, "format");
    CHECK_STR (format, "pt");
    dps_free (format);
    CU_ASSERT_EQUAL (dps_tensors_count (f), 3);
    CU_ASSERT_EQUAL (dps_tensors_find (f, "absent"), -1);
    float two[2];
    CHECK_FAILS (dps_tensors_read (f, 0, two, sizeof two, &err), DPS_ERR_SHAPE, "expected 8");
    dps_tensors_close (f);
    json_t *state;
    CHECK_OK (dps_ckpt_read_json (c, DPS_CKPT_STATE, &state, &err));
    CU_ASSERT_EQUAL (json_integer_value (json_object_get (state, "global_step")), 40);
    json_decref (state);
    CHECK_FAILS (dps_ckpt_read_json (c, "nothing.json", &state, &err), DPS_ERR_NOT_FOUND, "nothing.json");
    dps_ckpt_close (c);
    snprintf (path, sizeof path, "%s/checkpoint-40/", dir);
    CHECK_OK (dps_ckpt_resume ("elsewhere", path, kit_format (), &c, &err));
    dps_ckpt_close (c);
    CHECK_OK (dps_ckpt_resume ("elsewhere", dir, kit_format (), &c, &err));
    dps_ckpt_close (c);
    CHECK_OK (dps_remove_tree (dir, &err));
}

static void test_names_are_refused (void)
{
    static const char *const names[] = {"", ".", "..", ".hidden", "a/b", "/etc/passwd", "../x", "manifest.json", "a b", "é", "a\nb"};
    DpsError err = DPS_ERROR_INIT;
    const char *dir = kit_dir ("names");
    DpsCheckpointWriter *w;
    CHECK_OK (dps_ckpt_begin (kit_format (), dir, 1, &w, &err));
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        CHECK_FAILS (dps_ckpt_add_bytes (w, names[i], "x", 1, &err), DPS_ERR_INVALID, "not a file name");
    CHECK_OK (dps_ckpt_add_bytes (w, "x", "x", 1, &err));
    CHECK_FAILS (dps_ckpt_add_bytes (w, "x", "x", 1, &err), DPS_ERR_INVALID, "twice");
    CHECK_FAILS (dps_ckpt_add_json (w, "y", NULL, &err), DPS_ERR_NOMEM, "y");
    dps_ckpt_discard (w);
    CU_ASSERT (!dps_is_dir (DPS_BUILD "/tests/x"));
    CHECK_OK (dps_remove_tree (dir, &err));
}

static size_t count_steps (const char *dir, const char *want)
{
    DpsError err = DPS_ERROR_INIT;
    uint64_t *steps;
    size_t n;
    char text[200] = "";
    CHECK_OK (dps_ckpt_list (dir, &steps, &n, &err));
    for (size_t i = 0; i < n; i++)
        snprintf (text + strlen (text), sizeof text - strlen (text), "%s%llu", i ? " " : "", (unsigned long long)steps[i]);
    dps_free (steps);
    CHECK_STR (text, want);
    return n;
}

static void test_rotation_keeps_the_newest_and_the_best (void)
{
    DpsError err = DPS_ERROR_INIT;
    const char *dir = kit_dir ("rotate");
    char path[400];
    for (uint64_t step = 5; step <= 25; step += 5)
        CHECK_OK (kit_save (dir, kit_format (), step, &err));
    CHECK_OK (kit_save (dir, kit_format (), 100, &err));
    snprintf (path, sizeof path, "%s/checkpoint-best", dir);
    CHECK_OK (dps_mkdirs (path, &err));
    snprintf (path, sizeof path, "%s/checkpoint-007", dir);
    CHECK_OK (dps_mkdirs (path, &err));
    count_steps (dir, "5 10 15 20 25 100");
    CHECK_OK (dps_ckpt_rotate (dir, 0, NULL, &err));
    count_steps (dir, "5 10 15 20 25 100");
    CHECK_OK (dps_ckpt_rotate (dir, 4, "checkpoint-10", &err));
    count_steps (dir, "10 20 25 100");
    CHECK_OK (dps_ckpt_rotate (dir, 2, NULL, &err));
    count_steps (dir, "25 100");
    CHECK_OK (dps_ckpt_rotate (dir, 1, "checkpoint-25", &err));
    count_steps (dir, "25 100");
    CHECK_OK (dps_ckpt_rotate (dir, 1, "checkpoint-9", &err));
    count_steps (dir, "100");
    CHECK_OK (dps_ckpt_rotate (dir, 1, NULL, &err));
    count_steps (dir, "100");
    CHECK_OK (dps_remove_tree (dir, &err));
    CHECK_OK (dps_ckpt_rotate (dir, 1, NULL, &err));
}

static void test_a_step_written_again_replaces_the_old_one (void)
{
    DpsError err = DPS_ERROR_INIT;
    const char *dir = kit_dir ("again");
    DpsCheckpointWriter *w;
    DpsCheckpoint *c;
    CHECK_OK (kit_save (dir, kit_format (), 3, &err));
    CHECK_OK (dps_ckpt_begin (kit_format (), dir, 3, &w, &err));
    CHECK_OK (dps_ckpt_add_bytes (w, "only", "new", 3, &err));
    CHECK_OK (dps_ckpt_commit (w, &err));
    CHECK_OK (dps_ckpt_resume (dir, NULL, kit_format (), &c, &err));
    CU_ASSERT (dps_ckpt_has (c, "only") && !dps_ckpt_has (c, DPS_CKPT_ADAPTER));
    dps_ckpt_close (c);
    count_steps (dir, "3");
    CHECK_OK (dps_remove_tree (dir, &err));
}

static void touch (const char *dir, const char *name)
{
    DpsError err = DPS_ERROR_INIT;
    char path[500];
    snprintf (path, sizeof path, "%s/%s", dir, name);
    CHECK_OK (dps_file_write (path, "x", 1, &err));
}

static void test_sweep_takes_only_left_overs (void)
{
    static const char *const gone[] = {"metrics.jsonl.tmp-123", ".checkpoint-4.tmp-99", ".checkpoint-4.tmp-99.old"};
    static const char *const stay[] = {"metrics.jsonl", "notes.tmp", "a.tmp-b", "b.tmp-12.txt", ".tmp-", "checkpoint.tmp-1x"};
    DpsError err = DPS_ERROR_INIT;
    const char *dir = kit_dir ("sweep");
    char path[500];
    CHECK_OK (dps_mkdirs (dir, &err));
    for (size_t i = 0; i < 3; i++)
        touch (dir, gone[i]);
    for (size_t i = 0; i < 6; i++)
        touch (dir, stay[i]);
    snprintf (path, sizeof path, "%s/.checkpoint-7.tmp-1/inner", dir);
    CHECK_OK (dps_mkdirs (path, &err));
    CHECK_OK (dps_ckpt_sweep (dir, &err));
    for (size_t i = 0; i < 3; i++) {
        snprintf (path, sizeof path, "%s/%s", dir, gone[i]);
        CU_ASSERT (!dps_is_file (path));
    }
    for (size_t i = 0; i < 6; i++) {
        snprintf (path, sizeof path, "%s/%s", dir, stay[i]);
        CU_ASSERT (dps_is_file (path));
    }
    snprintf (path, sizeof path, "%s/.checkpoint-7.tmp-1", dir);
    CU_ASSERT (!dps_is_dir (path));
    CHECK_OK (dps_remove_tree (dir, &err));
    CHECK_OK (dps_ckpt_sweep (dir, &err));
}

static void test_files_are_copied (void)
{
    DpsError err = DPS_ERROR_INIT;
    char model[300], path[320];
    snprintf (model, sizeof model, "%s", kit_dir ("model"));
    CHECK_OK (dps_mkdirs (model, &err));
    touch (model, "tokenizer.json");
    snprintf (path, sizeof path, "%s/tokenizer.json", model);
    const char *dir = kit_dir ("copies");
    DpsCheckpointWriter *w;
    DpsCheckpoint *c;
    CHECK_OK (dps_ckpt_begin (kit_format (), dir, 1, &w, &err));
    CHECK_OK (dps_ckpt_add_copy (w, "tokenizer.json", path, &err));
    CHECK_FAILS (dps_ckpt_add_copy (w, "a", "/nonexistent", &err), DPS_ERR_NOT_FOUND, "/nonexistent");
    CHECK_OK (dps_ckpt_commit (w, &err));
    CHECK_OK (dps_ckpt_resume (dir, NULL, kit_format (), &c, &err));
    CU_ASSERT (dps_ckpt_has (c, "tokenizer.json") && !dps_ckpt_has (c, "a"));
    dps_ckpt_close (c);
    CHECK_OK (dps_remove_tree (dir, &err));
    CHECK_OK (dps_remove_tree (model, &err));
}

/* R8: whichever allocation fails: an error, no leak, nothing half-written, and the older checkpoint is the one that loads. */
static void test_every_allocation_may_fail_while_saving (void)
{
    const DpsFormat *format = kit_format ();
    int64_t live = dps_mem_live ();
    for (uint64_t k = 1; k < 3000; k++) {
        DpsError err = DPS_ERROR_INIT;
        const char *dir = kit_dir ("nomem");
        DpsCheckpoint *c;
        CHECK_OK (kit_save (dir, format, 1, &err));
        dps_mem_fail_at (k);
        DpsStatus st = kit_save (dir, format, 2, &err);
        uint64_t used = dps_mem_count ();
        dps_mem_fail_at (0);
        CU_ASSERT_EQUAL (dps_mem_live (), live);
        CU_ASSERT (st == DPS_OK || st == DPS_ERR_NOMEM || st == DPS_ERR_INTERNAL);
        DpsError err2 = DPS_ERROR_INIT;
        kit_watch ();
        DpsStatus opened = dps_ckpt_resume (dir, "auto", format, &c, &err2);
        CU_ASSERT_EQUAL_FATAL (opened, DPS_OK);
        uint64_t step = dps_ckpt_step (c);
        CU_ASSERT (st == DPS_OK ? step == 2 : step <= 2);
        CU_ASSERT_EQUAL (kit_check (c, &err2), DPS_OK);
        CHECK_STR (kit_warning, "");
        dps_ckpt_close (c);
        if (st == DPS_OK && used < k) {
            CU_ASSERT (k > 60);
            CHECK_OK (dps_remove_tree (dir, &err));
            return;
        }
    }
    CU_FAIL ("never succeeded");
}

static void test_every_allocation_may_fail_while_loading (void)
{
    const DpsFormat *format = kit_format ();
    DpsError err = DPS_ERROR_INIT;
    const char *dir = kit_dir ("nomem-load");
    CHECK_OK (kit_save (dir, format, 1, &err));
    CHECK_OK (kit_save (dir, format, 2, &err));
    int64_t live = dps_mem_live ();
    for (uint64_t k = 1; k < 3000; k++) {
        DpsCheckpoint *c = NULL;
        kit_watch ();
        dps_mem_fail_at (k);
        DpsStatus st = dps_ckpt_resume (dir, "auto", format, &c, &err);
        uint64_t used = dps_mem_count ();
        dps_mem_fail_at (0);
        if (st == DPS_OK) /* memory that ran out must never look like damage */
            CHECK_STR (kit_warning, "");
        dps_ckpt_close (c);
        CU_ASSERT_EQUAL (dps_mem_live (), live);
        if (st == DPS_OK && used < k) {
            CU_ASSERT (k > 3); /* the host's own; the format's are in formats/checkpoint/test_checkpoint.c */
            CHECK_OK (dps_remove_tree (dir, &err));
            return;
        }
        CU_ASSERT (st == DPS_ERR_NOMEM || st == DPS_ERR_INTERNAL);
    }
    CU_FAIL ("never succeeded");
}

static void test_init (void) { dps_json_init (); }

CHECK_MAIN ("ckpt.checkpoint", T (test_init), T (test_what_is_saved_is_loaded), T (test_names_are_refused),
            T (test_rotation_keeps_the_newest_and_the_best), T (test_a_step_written_again_replaces_the_old_one),
            T (test_sweep_takes_only_left_overs), T (test_files_are_copied), T (test_every_allocation_may_fail_while_saving),
            T (test_every_allocation_may_fail_while_loading))
