/* SPDX-License-Identifier: Apache-2.0 */
/* What the loader refuses, each with one readable line, while the plugin beside it loads (ABI.md rules 2, 4, 8, 10, 12, 13, 16). */
#include "abi/box.h"

#include <fcntl.h>

static DpsError err = DPS_ERROR_INIT;

/* A box with a good plugin in it, to see that it loads whatever lies beside it. */
static void begin (Box *box)
{
    box_make (box);
    box_add (box, "good", "", "");
}

static void finish (Box *box)
{
    box_loads (box, "com.acme.good");
    box_drop (box);
}

static void test_modules_that_are_no_plugins (void)
{
    static const struct {
        const char *name, *flags, *lines, *reason;
    } cases[] = {
        {"nosymbol", "-DNO_SYMBOL", "", "exports no symbol dps_plugin_entry, so it is not a Diapason plugin"},
        {"function", "-DNO_SYMBOL -DFUNCTION_SYMBOL", "", "dps_plugin_entry does not begin with the plugin magic"},
        {"magic", "-DMAGIC=0x12345678", "", "(0x12345678, expected 0x44505331)"},
        {"major", "-DMAJOR=7", "", "built for ABI 7.1, this host speaks 0.1. Hint: rebuild it"},
        {"majormanifest", "", "abi=3.0", "built for ABI 3.0, this host speaks 0.1"},
        {"shortentry", "-DENTRY_SIZE=24", "", "dps_plugin_entry says 24 bytes"},
        {"longentry", "-DENTRY_SIZE=100000", "", "dps_plugin_entry says 100000 bytes"},
        {"noinit", "-DNO_INIT", "", "dps_plugin_entry has no init"},
        {"undefined", "-DUNDEFINED", "", "does not load: undefined symbol: dps_function_nobody_has"},
        {"initfails", "-DINIT_FAILS", "", "init failed (DEVICE): no such device ? today"},
        {"initsilent", "-DINIT_SILENT", "", "init failed (NOMEM): it gave no reason"},
        {"initnonul", "-DINIT_NO_NUL", "", "init failed (INTERNAL): xxxxxxxx"},
        {"table0", "-DTABLE_SIZE=0", "", "its dps.objective/1 table says 0 bytes"},
        {"table1", "-DTABLE_SIZE=1", "", "its dps.objective/1 table says 1 bytes"},
        {"tablehuge", "-DTABLE_SIZE='~(size_t)0'", "", "its dps.objective/1 table says 18446744073709551615 bytes"},
        {"tableshort", "-DTABLE_SIZE='offsetof(DpsObjective,loss)'", "", "its dps.objective/1 table has no loss"},
        {"nullslot", "-DNO_LOSS", "", "its dps.objective/1 table has no loss"},
        {"kind", "-DKIND_ID='\"dps.objective/2\"'", "", "its manifest promises kind objective, but it has no dps.objective/1"},
        {"kinds", "", "kinds=objective;format", "its manifest promises kind format, but it has no dps.format/1"},
    };
    Box box;
    begin (&box);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        box_add (&box, cases[i].name, cases[i].flags, cases[i].lines);
    box_open (&box);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char id[64];
        snprintf (id, sizeof id, "com.acme.%s", cases[i].name);
        box_refuses (&box, id, cases[i].reason);
    }
    /* Refused again, and nothing worse, by a second registry of the same process. */
    box_open (&box);
    box_refuses (&box, "com.acme.major", "built for ABI 7.1");
    finish (&box);
}

static int trace_left (const Box *box, const char *name) { return access (box_path (box, name), F_OK) == 0; }

static void add_traced (const Box *box, const char *name, const char *flags, const char *lines)
{
    char all[2048];
    snprintf (all, sizeof all, "-DCONSTRUCTOR_FILE='\"%s/%s.ran\"' %s", box->dir, name, flags);
    box_add (box, name, all, lines);
}

static void test_refused_before_any_code_runs (void)
{
    static const struct {
        const char *name, *flags, *lines, *reason;
    } cases[] = {
        {"needs", "", "needs=dps.host.rng/1;dps.host.tape/9", "needs host interface dps.host.tape/9, which Diapason"},
        {"isa", "", "isa=avx1024", "needs CPU feature avx1024, which this CPU ("},
        {"soname", "", "runtimes=libno_such_thing.so.9", "needs library libno_such_thing.so.9, which does not load"},
        {"version", "", "runtimes=no_such_thing=13", "needs library libno_such_thing.so.13"},
        {"digest", "", "sha256=00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff", "its manifest says 001122334455…"},
        {"abi", "", "abi=1.0", "built for ABI 1.0"},
        {"runpath", "-Wl,-rpath,/opt/x -Wl,--enable-new-dtags", "", "contains a RUNPATH, which decides where other code comes from"},
        {"rpath", "-Wl,-rpath,/opt/x -Wl,--disable-new-dtags", "", "contains an RPATH"},
        {"origin", "-Wl,-rpath,'$ORIGIN'", "", "contains a R"},
        {"audit", "-Wl,--audit=libx.so", "", "contains an audit library"},
        {"filter", "-Wl,-f,libx.so", "", "contains a filter library"},
        {"extra", "-DEXTRA_SYMBOL", "", "exports 'dps_helper'; a plugin exports dps_plugin_entry and nothing else. Hint: -fvisibility"},
        {"extrasysv", "-DEXTRA_SYMBOL -Wl,--hash-style=sysv", "", "exports 'dps_helper'"},
        {"escape", "", "module=../escape.so", "key 'module' is '../escape.so', expected a file name"},
        {"typo", "", "neds=dps.host.tape/9", "unknown key 'neds'; did you mean 'needs'?"},
    };
    Box box;
    begin (&box);
    add_traced (&box, "control", "", "");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        add_traced (&box, cases[i].name, cases[i].flags, cases[i].lines);
    box_open (&box);
    CU_ASSERT_TRUE (trace_left (&box, "control.ran"));
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char id[64], ran[64];
        snprintf (id, sizeof id, i < 13 ? "com.acme.%s" : "%s", cases[i].name);
        snprintf (ran, sizeof ran, "%s.ran", cases[i].name);
        box_refuses (&box, id, cases[i].reason);
        CU_ASSERT_FALSE (trace_left (&box, ran));
    }
    finish (&box);
}

static void test_files_that_are_not_whole (void)
{
    Box box;
    DpsBuf module = {0};
    char name[32], id[64];
    begin (&box);
    CHECK_OK (dps_file_read (box_path (&box, "good.so"), 1 << 22, &module, &err));
    /* Cut files with a manifest that agrees with them: the ELF reader alone stands between them and a SIGBUS. */
    static const size_t cuts[] = {0, 1, 15, 63, 64, 200, 1000, 4095, 4096, 5000, 8192, 9000, 12000};
    for (size_t i = 0; i < sizeof cuts / sizeof *cuts; i++) {
        snprintf (name, sizeof name, "cut%zu.so", cuts[i]);
        box_write (&box, name, module.data, cuts[i] < module.len ? cuts[i] : module.len);
        snprintf (name, sizeof name, "cut%zu", cuts[i]);
        box_manifest (&box, name, "");
    }
    box_write (&box, "text.so", "#!/bin/sh\necho I am not an object file, however long I go on about it\n", 70);
    box_manifest (&box, "text", "");
    module.data[18] = 0x28; /* e_machine: 32-bit Arm */
    box_write (&box, "arm.so", module.data, module.len);
    box_manifest (&box, "arm", "");
    box_manifest (&box, "absent", "sha256=00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff");
    box_open (&box);
    for (size_t i = 0; i < sizeof cuts / sizeof *cuts; i++) {
        snprintf (id, sizeof id, "com.acme.cut%zu", cuts[i]);
        box_refuses (&box, id, cuts[i] ? "was the file cut?" : "the file is empty");
    }
    box_refuses (&box, "com.acme.text", "not an ELF file");
    box_refuses (&box, "com.acme.arm", "built for another machine");
    box_refuses (&box, "com.acme.absent", "absent.so: cannot open: No such file");
    dps_buf_free (&module);
    finish (&box);
}

static void test_hostile_manifests (void)
{
    Box box;
    DpsBuf big = {0};
    begin (&box);
    dps_buf_str (&big, "[plugin]\n");
    while (big.len < 1 << 20)
        dps_buf_printf (&big, "key%zu=value\n", big.len);
    box_write (&box, "huge.plugin", big.data, big.len);
    dps_buf_free (&big);
    box_write (&box, "empty.plugin", "", 0);
    box_write (&box, "binary.plugin", "\x7f\x45\x4c\x46\x00\xff\xfe", 7);
    box_write (&box, "nul.plugin", "[plugin]\nid=com.acme.x\0evil\n", 28);
    box_write (&box, "esc\033[31m\n\xc2\x9b.plugin", "[plugin]\nid=x\n", 14);
    box_write (&box, ".hidden.plugin", "[plugin]\n", 9);
    box_write (&box, "later.plugin.tmp-1", "[plugin]\n", 9);
    CU_ASSERT_EQUAL (mkdir (box_path (&box, "folder.plugin"), 0755), 0);
    CU_ASSERT_EQUAL (mkfifo (box_path (&box, "fifo.plugin"), 0600), 0);
    box_open (&box);
    box_refuses (&box, "huge", "huge.plugin: longer than the 65536 bytes");
    box_refuses (&box, "empty", "empty.plugin: the file is empty");
    box_refuses (&box, "binary", "binary.plugin: not UTF-8");
    box_refuses (&box, "nul", "nul.plugin: not UTF-8");
    box_refuses (&box, "folder", "not a regular file");
    box_refuses (&box, "fifo", "not a regular file");
    box_refuses (&box, "esc [31m   ", "key 'id' is 'x'");
    CU_ASSERT_PTR_NULL (box_find (&box, ".hidden"));
    finish (&box);
}

CHECK_MAIN ("abi.refuse", T (test_modules_that_are_no_plugins), T (test_refused_before_any_code_runs), T (test_files_that_are_not_whole),
            T (test_hostile_manifests))
