/* SPDX-License-Identifier: Apache-2.0 */
#include "plugin/runtime.h"

#include <limits.h>
#include <link.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_RUNTIMES = 32, MAX_NAME = 64, BUILD_ID_BYTES = 20 };

/* What a library's file name begins with, up to its version. */
static const char *const arithmetic[] = {"libdnnl",     "libgomp",    "libomp",      "libiomp5",   "libm",      "libmvec",
                                         "libOpenCL",   "libclblast", "libpocl",     "libcuda",    "libcudart", "libcublas",
                                         "libcublasLt", "libnccl",    "libopenblas", "libmkl_core"};

typedef struct Runtime {
    char soname[MAX_NAME], build[2 * MAX_NAME];
} Runtime;

typedef struct Found {
    int (*also) (void *ctx, const char *soname);
    void *ctx;
    Runtime items[MAX_RUNTIMES];
    size_t n, n_seen;
} Found;

static int does_arithmetic (const char *file)
{
    for (size_t i = 0; i < sizeof arithmetic / sizeof *arithmetic; i++) {
        size_t n = strlen (arithmetic[i]);
        if (!strncmp (file, arithmetic[i], n) && !strncmp (file + n, ".so", 3))
            return 1;
    }
    return 0;
}

/* The GNU build id among the notes of a loaded object, in hexadecimal. */
static void build_id (const struct dl_phdr_info *info, char *out, size_t cap)
{
    snprintf (out, cap, "-");
    for (int i = 0; i < info->dlpi_phnum; i++) {
        if (info->dlpi_phdr[i].p_type != PT_NOTE)
            continue;
        const char *at = (const char *)(info->dlpi_addr + info->dlpi_phdr[i].p_vaddr), *end = at + info->dlpi_phdr[i].p_memsz;
        while ((size_t)(end - at) >= sizeof (ElfW (Nhdr))) {
            ElfW (Nhdr) note;
            memcpy (&note, at, sizeof note);
            size_t name = (note.n_namesz + 3u) / 4 * 4, desc = (note.n_descsz + 3u) / 4 * 4;
            if (note.n_type == NT_GNU_BUILD_ID && note.n_namesz == 4 && !memcmp (at + sizeof note, "GNU", 4)) {
                for (size_t k = 0; k < note.n_descsz && k < BUILD_ID_BYTES && 2 * k + 3 <= cap; k++)
                    snprintf (out + 2 * k, 3, "%02x", (unsigned char)at[sizeof note + name + k]);
                return;
            }
            if (name + desc > (size_t)(end - at) - sizeof note)
                return;
            at += sizeof note + name + desc;
        }
    }
}

static int look (struct dl_phdr_info *info, size_t size, void *ctx)
{
    Found *f = ctx;
    char real[PATH_MAX], id[2 * BUILD_ID_BYTES + 1];
    const char *slash = strrchr (info->dlpi_name, '/'), *file = slash ? slash + 1 : info->dlpi_name;
    (void)size;
    if (!f->n_seen++)
        file = "diapason"; /* the program itself comes first, and has no name here */
    else if (f->n == MAX_RUNTIMES || !(does_arithmetic (file) || f->also (f->ctx, file)))
        return 0;
    const char *whole = realpath (info->dlpi_name, real) ? strrchr (real, '/') + 1 : file;
    Runtime *r = &f->items[f->n++];
    build_id (info, id, sizeof id);
    snprintf (r->soname, sizeof r->soname, "%.63s", file);
    snprintf (r->build, sizeof r->build, "%.80s %s", whole, id);
    return 0;
}

static int by_name (const void *a, const void *b) { return strcmp (((const Runtime *)a)->soname, ((const Runtime *)b)->soname); }

int dps_runtimes (int (*also) (void *ctx, const char *soname), int (*visit) (void *ctx, const char *soname, const char *build), void *ctx)
{
    Found f = {.also = also, .ctx = ctx};
    int result = 0;
    dl_iterate_phdr (look, &f);
    qsort (f.items, f.n, sizeof *f.items, by_name);
    for (size_t i = 0; i < f.n && !result; i++)
        result = visit (ctx, f.items[i].soname, f.items[i].build);
    return result;
}
