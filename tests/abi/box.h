/* SPDX-License-Identifier: Apache-2.0 */
/* box.h: a temporary plugin folder for the loader's tests, filled with variants of sample.c. */
#ifndef DPS_TESTS_ABI_BOX_H
#define DPS_TESTS_ABI_BOX_H

#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/sha256.h"
#include "check.h"
#include "plugin/registry.h"

typedef struct Box {
    char dir[512];
    DpsRegistry *reg;
} Box;

__attribute__ ((unused)) static char *box_path (const Box *box, const char *name)
{
    static char path[4][1024];
    static unsigned turn;
    char *p = path[turn++ % 4];
    snprintf (p, 1024, "%s/%s", box->dir, name);
    return p;
}

__attribute__ ((unused)) static void box_make (Box *box)
{
    snprintf (box->dir, sizeof box->dir, "%s/tests/box.XXXXXX", DPS_BUILD);
    box->reg = NULL;
    CU_ASSERT_PTR_NOT_NULL_FATAL (mkdtemp (box->dir));
}

__attribute__ ((unused)) static void box_drop (Box *box)
{
    dps_registry_close (box->reg);
    CU_ASSERT_EQUAL (dps_remove_tree (box->dir, NULL), DPS_OK);
}

__attribute__ ((unused)) static void box_write (const Box *box, const char *name, const void *data, size_t len)
{
    FILE *f = fopen (box_path (box, name), "wb");
    CU_ASSERT_PTR_NOT_NULL_FATAL (f);
    CU_ASSERT_EQUAL (fwrite (data, 1, len, f), len);
    CU_ASSERT_EQUAL (fclose (f), 0);
}

/* Compile sample.c with `flags` into NAME.so. */
__attribute__ ((unused)) static void box_compile (const Box *box, const char *name, const char *flags)
{
    char command[4096];
    snprintf (command, sizeof command, "cc -w -shared -fPIC -fvisibility=hidden -I%s/core/include %s -o %s/%s.so %s/tests/abi/sample.c",
              DPS_SOURCE, flags, box->dir, name, DPS_SOURCE);
    CU_ASSERT_EQUAL_FATAL (system (command), 0);
}

/* A manifest for NAME.so with its true digest; `lines` replace those of the same key or are added. */
__attribute__ ((unused)) static void box_manifest (const Box *box, const char *name, const char *lines)
{
    static const char *const defaults[] = {"kinds=objective", "version=1.0",    "licence=Apache-2.0", "summary=a sample",
                                           "abi=0.1",         "id=com.acme.%s", "module=%s.so",       "sha256=%s"};
    char text[4096] = "[plugin]\n", module[300];
    DpsDigest digest = {.hex = "0000000000000000000000000000000000000000000000000000000000000000"};
    snprintf (module, sizeof module, "%s.so", name);
    dps_sha256_file (box_path (box, module), &digest, NULL);
    for (size_t i = 0; i < sizeof defaults / sizeof *defaults; i++) {
        char key[32];
        size_t n = strcspn (defaults[i], "=") + 1, used = strlen (text);
        memcpy (key, defaults[i], n);
        key[n] = '\0';
        if (strstr (lines, key) == lines || strstr (lines, key) > lines)
            continue;
        snprintf (text + used, sizeof text - used, defaults[i], i == 7 ? digest.hex : name);
        strcat (text, "\n");
    }
    strcat (strcat (text, lines), "\n");
    snprintf (module, sizeof module, "%s.plugin", name);
    box_write (box, module, text, strlen (text));
}

__attribute__ ((unused)) static void box_add (const Box *box, const char *name, const char *flags, const char *lines)
{
    box_compile (box, name, flags);
    box_manifest (box, name, lines);
}

__attribute__ ((unused)) static void box_open (Box *box)
{
    DpsError err = DPS_ERROR_INIT;
    const char *const folders[] = {box->dir};
    dps_registry_close (box->reg);
    box->reg = NULL;
    CHECK_OK (dps_registry_open (&(DpsRegistryOptions){.folders = folders, .n_folders = 1}, &box->reg, &err));
}

__attribute__ ((unused)) static const DpsPlugin *box_find (const Box *box, const char *id)
{
    for (size_t i = 0; i < dps_registry_count (box->reg); i++)
        if (!strcmp (dps_registry_at (box->reg, i)->id, id))
            return dps_registry_at (box->reg, i);
    return NULL;
}

/* The plugin must be there, refused, with one readable line that contains `text`. */
__attribute__ ((unused)) static void box_refuses (const Box *box, const char *id, const char *text)
{
    const DpsPlugin *p = box_find (box, id);
    CU_ASSERT_PTR_NOT_NULL_FATAL (p);
    CU_ASSERT_FALSE (p->loaded);
    if (p->loaded || !strstr (p->reason, text))
        printf ("\n    %s: \"%s\", expected \"%s\"\n", id, p->reason, text);
    CU_ASSERT_PTR_NOT_NULL (strstr (p->reason, text));
    CU_ASSERT_PTR_NULL (strpbrk (p->reason, "\n\r\033"));
    CU_ASSERT_PTR_NULL (dps_registry_get (box->reg, DPS_OBJECTIVE_ID, id));
}

__attribute__ ((unused)) static void box_loads (const Box *box, const char *id)
{
    const DpsPlugin *p = box_find (box, id);
    CU_ASSERT_PTR_NOT_NULL_FATAL (p);
    if (!p->loaded)
        printf ("\n    %s: refused: %s\n", id, p->reason);
    CU_ASSERT_TRUE (p->loaded);
    CHECK_STR (p->reason, "");
}

#endif
