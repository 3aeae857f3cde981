/* SPDX-License-Identifier: Apache-2.0 */
/* What the loader accepts, and what a plugin and the core then see of each other (ABI.md rules 1, 3, 4, 14, 16). */
#include "abi/box.h"

#include <dlfcn.h>

#include "plugin/host.h"

static DpsError err = DPS_ERROR_INIT;

static void told (char *buf, size_t cap)
{
    size_t n = 0;
    CHECK_OK (dps_host ()->kv_get (dps_str ("sample.path"), 0, buf, cap - 1, &n, &err));
    buf[n] = '\0';
}

static void test_good_plugin_loads_and_knows_its_path (void)
{
    Box box;
    char path[1024];
    box_make (&box);
    box_add (&box, "good", "", "");
    box_open (&box);
    box_loads (&box, "com.acme.good");
    const DpsPlugin *p = box_find (&box, "com.acme.good");
    CHECK_STR (p->name, "good");
    CHECK_STR (p->kinds, "objective");
    CHECK_STR (p->interfaces, DPS_OBJECTIVE_ID);
    CHECK_STR (p->version, "1.0");
    CHECK_STR (p->module, box_path (&box, "good.so"));
    told (path, sizeof path);
    CHECK_STR (path, p->module);
    const DpsObjective *o = dps_registry_get (box.reg, DPS_OBJECTIVE_ID, "good");
    CU_ASSERT_PTR_NOT_NULL_FATAL (o);
    CU_ASSERT_PTR_EQUAL (o, dps_registry_get (box.reg, DPS_OBJECTIVE_ID, "com.acme.good"));
    CHECK_STR (o->describe ()->name, "sample");
    CU_ASSERT_PTR_NULL (dps_registry_get (box.reg, DPS_FORMAT_ID, "good"));
    CU_ASSERT_PTR_NULL (dps_registry_get (box.reg, "com.acme.unknown/1", "good"));
    CU_ASSERT_PTR_NULL (dlsym (RTLD_DEFAULT, "dps_plugin_entry")); /* RTLD_LOCAL */
    box_drop (&box);
    told (path, sizeof path);
    CHECK_STR (path, "gone"); /* deinit ran */
}

static void test_code_is_the_sealed_copy_not_the_file (void)
{
    Box box;
    box_make (&box);
    box_add (&box, "sealed", "", "");
    box_open (&box);
    const DpsObjective *o = dps_registry_get (box.reg, DPS_OBJECTIVE_ID, "sealed");
    /* Overwritten in place: a plain dlopen would now run zeros. */
    struct stat sb;
    CU_ASSERT_EQUAL_FATAL (stat (box_path (&box, "sealed.so"), &sb), 0);
    FILE *f = fopen (box_path (&box, "sealed.so"), "r+b");
    CU_ASSERT_PTR_NOT_NULL_FATAL (f);
    for (off_t i = 0; i < sb.st_size; i++)
        fputc (0, f);
    fclose (f);
    CHECK_STR (o->describe ()->name, "sample");
    CU_ASSERT_EQUAL (o->step_end (NULL, 7, &err), DPS_OK);
    box_drop (&box);
}

static void test_missing_slots_are_null (void)
{
    Box box;
    box_make (&box);
    box_add (&box, "old", "-DTABLE_SIZE='offsetof(DpsObjective,step_end)'", "");
    box_add (&box, "plain", "", "");
    box_open (&box);
    box_loads (&box, "com.acme.old");
    const DpsObjective *old = dps_registry_get (box.reg, DPS_OBJECTIVE_ID, "old");
    const DpsObjective *plain = dps_registry_get (box.reg, DPS_OBJECTIVE_ID, "plain");
    CU_ASSERT_PTR_NOT_NULL_FATAL (old);
    CU_ASSERT_PTR_NOT_NULL_FATAL (plain);
    CU_ASSERT_EQUAL (old->size, sizeof (DpsObjective));
    CU_ASSERT_PTR_NOT_NULL (old->loss);
    CU_ASSERT_PTR_NULL (old->step_end);
    CU_ASSERT_PTR_NULL (old->state_load);
    CU_ASSERT_PTR_NOT_NULL (plain->step_end);
    CU_ASSERT_PTR_NULL (plain->score);
    box_drop (&box);
}

static void test_newer_plugin_loads_with_its_extra_slots_cut (void)
{
    Box box;
    box_make (&box);
    box_add (&box, "newer", "-DLARGER=40 -DMINOR=99", "abi=0.99");
    box_add (&box, "entry", "-DENTRY_SIZE='sizeof(DpsPluginEntry)'", "abi=0.1-0.7");
    box_open (&box);
    box_loads (&box, "com.acme.newer");
    box_loads (&box, "com.acme.entry");
    const DpsObjective *o = dps_registry_get (box.reg, DPS_OBJECTIVE_ID, "newer");
    CU_ASSERT_PTR_NOT_NULL_FATAL (o);
    CU_ASSERT_EQUAL (o->size, sizeof (DpsObjective));
    box_drop (&box);
}

static void test_order_is_sorted_and_first_of_one_id_wins (void)
{
    Box box;
    const DpsPlugin *p;
    box_make (&box);
    box_add (&box, "b", "", "id=com.acme.twin");
    box_add (&box, "a", "", "id=com.acme.twin");
    box_add (&box, "z", "", "id=dps.same");
    box_add (&box, "c", "", "id=com.acme.same");
    box_open (&box);
    box_loads (&box, "com.acme.twin");
    CHECK_STR (box_find (&box, "com.acme.twin")->module, box_path (&box, "a.so"));
    unsigned refused = 0;
    for (size_t i = 0; i < dps_registry_count (box.reg); i++) {
        p = dps_registry_at (box.reg, i);
        if (i)
            CU_ASSERT (strcmp (dps_registry_at (box.reg, i - 1)->id, p->id) <= 0);
        if (!p->loaded && strstr (p->reason, "id com.acme.twin is taken by"))
            refused++;
    }
    CU_ASSERT_EQUAL (refused, 1);
    /* A stranger does not take over a short name of ours. */
    const void *same = dps_registry_get (box.reg, DPS_OBJECTIVE_ID, "same");
    CU_ASSERT_PTR_EQUAL (same, dps_registry_get (box.reg, DPS_OBJECTIVE_ID, "dps.same"));
    CU_ASSERT_PTR_EQUAL (dps_registry_nth (box.reg, DPS_OBJECTIVE_ID, 0, &p),
                         dps_registry_get (box.reg, DPS_OBJECTIVE_ID, "com.acme.same"));
    CHECK_STR (p->id, "com.acme.same");
    CU_ASSERT_PTR_NULL (dps_registry_nth (box.reg, DPS_OBJECTIVE_ID, 3, &p));
    CHECK_FAILS (dps_registry_missing (box.reg, DPS_OBJECTIVE_ID, "dpo", &err), DPS_ERR_NOT_FOUND,
                 "no objective plugin 'dpo'; there are: same, twin, same");
    box_drop (&box);
}

static void test_registries_share_one_loaded_module (void)
{
    Box box, again;
    char path[1024];
    box_make (&box);
    box_add (&box, "shared", "", "");
    box_open (&box);
    again = box;
    again.reg = NULL;
    box_open (&again);
    const DpsObjective *a = dps_registry_get (box.reg, DPS_OBJECTIVE_ID, "shared");
    const DpsObjective *b = dps_registry_get (again.reg, DPS_OBJECTIVE_ID, "shared");
    CU_ASSERT_PTR_NOT_NULL_FATAL (a);
    CU_ASSERT_PTR_NOT_EQUAL (a, b);
    CU_ASSERT_PTR_EQUAL (a->describe, b->describe);
    dps_registry_close (again.reg);
    told (path, sizeof path);
    CHECK_STR (path, box_path (&box, "shared.so")); /* deinit waits for the last user */
    box_drop (&box);
}

static void test_nothing_leaks_and_every_allocation_may_fail (void)
{
    Box box;
    box_make (&box);
    box_add (&box, "mem", "", "");
    box_open (&box); /* the module and the kv key stay for good */
    dps_registry_close (box.reg);
    const char *const folders[] = {box.dir};
    DpsRegistryOptions options = {.folders = folders, .n_folders = 1};
    int64_t live = dps_mem_live ();
    int done = 0;
    for (uint64_t k = 1; !done && k < 500; k++) {
        DpsRegistry *reg = NULL;
        dps_mem_fail_at (k);
        DpsStatus st = dps_registry_open (&options, &reg, &err);
        done = dps_mem_count () < k;
        dps_mem_fail_at (0);
        CU_ASSERT (st == DPS_OK || (st == DPS_ERR_NOMEM && !reg));
        if (reg && !dps_registry_get (reg, DPS_OBJECTIVE_ID, "mem")) /* refused for what its own init said alone */
            CU_ASSERT_PTR_NOT_NULL (strstr (dps_registry_at (reg, 0)->reason, "init failed (NOMEM)"));
        dps_registry_close (reg);
        CU_ASSERT_EQUAL (dps_mem_live (), live);
    }
    CU_ASSERT_TRUE (done);
    box.reg = NULL;
    box_drop (&box);
}

CHECK_MAIN ("abi.load", T (test_good_plugin_loads_and_knows_its_path), T (test_code_is_the_sealed_copy_not_the_file),
            T (test_missing_slots_are_null), T (test_newer_plugin_loads_with_its_extra_slots_cut),
            T (test_order_is_sorted_and_first_of_one_id_wins), T (test_registries_share_one_loaded_module),
            T (test_nothing_leaks_and_every_allocation_may_fail))
