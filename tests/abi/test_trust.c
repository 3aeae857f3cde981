/* SPDX-License-Identifier: Apache-2.0 */
/* Whose files are loaded: folders and parents nobody else can change, no links, no relative paths (ABI.md rule 13). */
#include "abi/box.h"

#include "plugin/trust.h"

static DpsError err = DPS_ERROR_INIT;

/* The folder itself must be refused, shown as one row, and nothing in it read. */
static void folder_refused (Box *box, const char *reason)
{
    box_open (box);
    CU_ASSERT_PTR_NULL (box_find (box, "com.acme.good"));
    box_refuses (box, "(folder)", reason);
}

static void test_a_folder_others_can_write_to (void)
{
    Box box;
    box_make (&box);
    box_add (&box, "good", "", "");
    CU_ASSERT_EQUAL (chmod (box.dir, 0777), 0);
    folder_refused (&box, "writable by others (mode 0777). Hint: chmod go-w");
    CU_ASSERT_EQUAL (chmod (box.dir, 01777), 0); /* the sticky bit does not stop new files */
    folder_refused (&box, "writable by others (mode 1777)");
    CU_ASSERT_EQUAL (chmod (box.dir, 0755), 0);
    box_open (&box);
    box_loads (&box, "com.acme.good");
    box_drop (&box);
}

static void test_a_parent_others_can_write_to (void)
{
    Box box, inner;
    box_make (&box);
    inner = box;
    snprintf (inner.dir, sizeof inner.dir, "%s", box_path (&box, "plugins"));
    CU_ASSERT_EQUAL (mkdir (inner.dir, 0755), 0);
    box_add (&inner, "good", "", "");
    CU_ASSERT_EQUAL (chmod (box.dir, 0777), 0);
    folder_refused (&inner, "writable by others");
    CU_ASSERT_EQUAL (chmod (box.dir, 01777), 0); /* as /tmp: others cannot replace what is ours */
    box_open (&inner);
    box_loads (&inner, "com.acme.good");
    dps_registry_close (inner.reg);
    box_drop (&box);
}

static void test_owners (void)
{
    if (geteuid () != 0)
        return; /* only root can give files away */
    Box box;
    box_make (&box);
    box_add (&box, "good", "", "");
    box_add (&box, "given", "", "");
    box_add (&box, "group", "", "");
    CU_ASSERT_EQUAL (chown (box_path (&box, "given.so"), 12345, 0), 0);
    CU_ASSERT_EQUAL (chown (box_path (&box, "group.so"), 0, 12345), 0);
    CU_ASSERT_EQUAL (chmod (box_path (&box, "group.so"), 0775), 0);
    box_open (&box);
    box_refuses (&box, "com.acme.given", "belongs to user 12345, expected root or user 0");
    box_refuses (&box, "com.acme.group", "writable by others (mode 0775)");
    box_loads (&box, "com.acme.good");
    CU_ASSERT_EQUAL (chown (box.dir, 12345, 12345), 0);
    folder_refused (&box, "belongs to user 12345");
    CU_ASSERT_EQUAL (chown (box.dir, 0, 0), 0);
    CU_ASSERT_EQUAL (chmod (box.dir, 0775), 0); /* a private group: root's own */
    box_open (&box);
    box_loads (&box, "com.acme.good");
    box_drop (&box);
}

static void test_files_that_are_links_or_writable (void)
{
    Box box;
    box_make (&box);
    box_add (&box, "good", "", "");
    box_add (&box, "open", "", "");
    box_add (&box, "link", "", "");
    CU_ASSERT_EQUAL (chmod (box_path (&box, "open.so"), 0666), 0);
    CU_ASSERT_EQUAL (unlink (box_path (&box, "link.so")), 0);
    CU_ASSERT_EQUAL (symlink ("good.so", box_path (&box, "link.so")), 0);
    CU_ASSERT_EQUAL (symlink ("good.plugin", box_path (&box, "alias.plugin")), 0);
    box_open (&box);
    box_refuses (&box, "com.acme.open", "open.so: writable by others (mode 0666)");
    box_refuses (&box, "com.acme.link", "link.so: is a symbolic link");
    box_refuses (&box, "alias", "alias.plugin: is a symbolic link");
    box_loads (&box, "com.acme.good");
    box_drop (&box);
}

static void test_a_folder_reached_by_a_link_is_judged_where_it_lies (void)
{
    Box box, by_link;
    box_make (&box);
    box_add (&box, "good", "", "");
    by_link = box;
    CU_ASSERT (strlen (strcat (by_link.dir, ".link")) < sizeof by_link.dir);
    CU_ASSERT_EQUAL (symlink (box.dir, by_link.dir), 0);
    box_open (&by_link);
    box_loads (&by_link, "com.acme.good");
    CHECK_STR (box_find (&by_link, "com.acme.good")->module, box_path (&box, "good.so"));
    CU_ASSERT_EQUAL (chmod (box.dir, 0777), 0);
    folder_refused (&by_link, "writable by others");
    dps_registry_close (by_link.reg);
    CU_ASSERT_EQUAL (unlink (by_link.dir), 0);
    box_drop (&box);
}

static void test_the_current_directory_is_never_searched (void)
{
    Box box;
    DpsRegistry *reg = NULL;
    box_make (&box);
    box_add (&box, "good", "", "");
    CU_ASSERT_EQUAL_FATAL (chdir (box.dir), 0);
    const char *const relative[] = {".", "", "./", "../x", "plugins"};
    for (size_t i = 0; i < sizeof relative / sizeof *relative; i++) {
        Box here = {.reg = NULL};
        snprintf (here.dir, sizeof here.dir, "%s", relative[i]);
        folder_refused (&here, "is relative, and the current directory is never searched");
        dps_registry_close (here.reg);
    }
    setenv ("DIAPASON_PLUGINS", ".:relative", 1);
    CHECK_OK (dps_registry_open (NULL, &reg, &err));
    box.reg = reg;
    CU_ASSERT_PTR_NULL (box_find (&box, "com.acme.good"));
    box_refuses (&box, "(folder)", "plugin folder '.' is relative");
    unsetenv ("DIAPASON_PLUGINS");
    CU_ASSERT_EQUAL (chdir ("/"), 0);
    box_drop (&box);
}

static void test_the_environment_adds_folders (void)
{
    Box box;
    char value[2048];
    box_make (&box);
    box_add (&box, "good", "", "");
    snprintf (value, sizeof value, ":/nowhere/at/all:%s:", box.dir);
    setenv ("DIAPASON_PLUGINS", value, 1);
    CHECK_OK (dps_registry_open (NULL, &box.reg, &err));
    box_loads (&box, "com.acme.good");
    box_refuses (&box, "(folder)", "/nowhere/at/all: no such plugin folder");
    CU_ASSERT_PTR_NOT_NULL (strstr (dps_registry_searched (box.reg), box.dir));
    unsetenv ("DIAPASON_PLUGINS");
    CU_ASSERT_FALSE (dps__privileged ());
    box_drop (&box);
}

static void test_a_folder_asked_for_must_exist (void)
{
    DpsRegistry *reg = NULL;
    const char *const folders[] = {"/nowhere/at/all"};
    CHECK_FAILS (dps_registry_open (&(DpsRegistryOptions){.folders = folders, .n_folders = 1}, &reg, &err), DPS_ERR_NOT_FOUND,
                 "/nowhere/at/all: no such plugin folder");
    CU_ASSERT_PTR_NULL (reg);
}

static void test_the_sealed_copy_cannot_be_written (void)
{
    Box box;
    DpsSealed sealed;
    box_make (&box);
    box_write (&box, "data", "hello", 5);
    FILE *f = fopen (box_path (&box, "data"), "rb");
    CU_ASSERT_PTR_NOT_NULL_FATAL (f);
    CHECK_OK (dps__seal_copy (fileno (f), "data", &sealed, &err));
    fclose (f);
    CU_ASSERT (sealed.len == 5 && !memcmp (sealed.data, "hello", 5));
    CHECK_STR (sealed.digest.hex, "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824");
    CU_ASSERT_EQUAL (pwrite (sealed.fd, "J", 1, 0), -1);
    CU_ASSERT_EQUAL (ftruncate (sealed.fd, 0), -1);
    dps__seal_close (&sealed);
    box_drop (&box);
}

CHECK_MAIN ("abi.trust", T (test_a_folder_others_can_write_to), T (test_a_parent_others_can_write_to), T (test_owners),
            T (test_files_that_are_links_or_writable), T (test_a_folder_reached_by_a_link_is_judged_where_it_lies),
            T (test_the_current_directory_is_never_searched), T (test_the_environment_adds_folders), T (test_a_folder_asked_for_must_exist),
            T (test_the_sealed_copy_cannot_be_written))
