/* SPDX-License-Identifier: Apache-2.0 */
#include "check/alloc_hook.h"

#include <dlfcn.h>
#include <elf.h>
#include <link.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static _Atomic uint64_t n_calls, fail_at;
static _Atomic int64_t n_live;

static int must_fail (void) { return atomic_fetch_add (&n_calls, 1) + 1 == atomic_load (&fail_at); }

static void *counted (void *p)
{
    if (p)
        atomic_fetch_add (&n_live, 1);
    return p;
}

/* The heap itself is meant here, not base/mem.h: these stand in for libc's functions in the module's table. */
static void *hooked_malloc (size_t n) { return must_fail () ? NULL : counted (malloc (n)); }                    /* allocated by libc */
static void *hooked_calloc (size_t n, size_t size) { return must_fail () ? NULL : counted (calloc (n, size)); } /* allocated by libc */
static void *hooked_aligned_alloc (size_t align, size_t n)
{
    return must_fail () ? NULL : counted (aligned_alloc (align, n)); /* allocated by libc */
}

static void *hooked_realloc (void *p, size_t n)
{
    if (must_fail ())
        return NULL;
    void *q = realloc (p, n); /* allocated by libc */
    return p ? q : counted (q);
}

static int hooked_posix_memalign (void **out, size_t align, size_t n)
{
    int code = must_fail () ? 12 /* ENOMEM */ : posix_memalign (out, align, n); /* allocated by libc */
    if (!code)
        counted (*out);
    return code;
}

static void hooked_free (void *p)
{
    if (p)
        atomic_fetch_sub (&n_live, 1);
    free (p); /* allocated by libc */
}

static _Atomic int64_t shift_s;

static time_t hooked_time (time_t *out)
{
    time_t now = time (NULL) + (time_t)atomic_load (&shift_s);
    if (out)
        *out = now;
    return now;
}

static int hooked_clock_gettime (clockid_t clock, struct timespec *out)
{
    int code = clock_gettime (clock, out);
    if (!code && clock == CLOCK_REALTIME)
        out->tv_sec += (time_t)atomic_load (&shift_s);
    return code;
}

static int hooked_gettimeofday (struct timeval *out, void *zone)
{
    int code = gettimeofday (out, zone);
    if (!code)
        out->tv_sec += (time_t)atomic_load (&shift_s);
    return code;
}

typedef void (*Function) (void);
static const struct {
    const char *name;
    Function function;
    int allocates;
} hooks[] = {
    {"malloc", (Function)hooked_malloc, 1},
    {"calloc", (Function)hooked_calloc, 1},
    {"aligned_alloc", (Function)hooked_aligned_alloc, 1},
    {"realloc", (Function)hooked_realloc, 1},
    {"free", (Function)hooked_free, 1},
    {"posix_memalign", (Function)hooked_posix_memalign, 1},
    {"time", (Function)hooked_time, 0},
    {"clock_gettime", (Function)hooked_clock_gettime, 0},
    {"gettimeofday", (Function)hooked_gettimeofday, 0},
};

typedef struct Module {
    const void *inside; /* an address in it */
    int hooked;
} Module;

/* The linker may have made the table read-only after it was filled. */
static int put (void *slot, Function function)
{
    long page = sysconf (_SC_PAGESIZE);
    void *start = (void *)((uintptr_t)slot / (uintptr_t)page * (uintptr_t)page);
    if (mprotect (start, (size_t)page, PROT_READ | PROT_WRITE) != 0)
        return 0;
    memcpy (slot, &function, sizeof function);
    return 1;
}

static int hook_table (uintptr_t base, const ElfW (Rela) * table, size_t n, const ElfW (Sym) * symbols, const char *names)
{
    int found = 0;
    for (size_t i = 0; table && i < n; i++) {
        const char *name = names + symbols[ELF64_R_SYM (table[i].r_info)].st_name;
        for (size_t h = 0; ELF64_R_SYM (table[i].r_info) && h < sizeof hooks / sizeof *hooks; h++)
            if (!strcmp (name, hooks[h].name))
                found += put ((void *)(base + table[i].r_offset), hooks[h].function) && hooks[h].allocates;
    }
    return found;
}

/* The dynamic section's addresses are relocated by the loader already. */
static int hook_module (struct dl_phdr_info *info, size_t size, void *ctx)
{
    Module *m = ctx;
    const ElfW (Dyn) *dynamic = NULL;
    int inside = 0;
    (void)size;
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW (Phdr) *p = &info->dlpi_phdr[i];
        uintptr_t start = info->dlpi_addr + p->p_vaddr;
        inside |= p->p_type == PT_LOAD && (uintptr_t)m->inside >= start && (uintptr_t)m->inside < start + p->p_memsz;
        if (p->p_type == PT_DYNAMIC)
            dynamic = (const ElfW (Dyn) *)start;
    }
    if (!inside || !dynamic)
        return 0;
    const ElfW (Rela) *plt = NULL, *rela = NULL;
    const ElfW (Sym) *symbols = NULL;
    const char *names = NULL;
    size_t plt_bytes = 0, rela_bytes = 0;
    for (; dynamic->d_tag != DT_NULL; dynamic++)
        switch (dynamic->d_tag) {
        case DT_JMPREL: plt = (const void *)dynamic->d_un.d_ptr; break;
        case DT_PLTRELSZ: plt_bytes = dynamic->d_un.d_val; break;
        case DT_RELA: rela = (const void *)dynamic->d_un.d_ptr; break;
        case DT_RELASZ: rela_bytes = dynamic->d_un.d_val; break;
        case DT_SYMTAB: symbols = (const void *)dynamic->d_un.d_ptr; break;
        case DT_STRTAB: names = (const void *)dynamic->d_un.d_ptr; break;
        default: break;
        }
    if (symbols && names) {
        m->hooked += hook_table (info->dlpi_addr, plt, plt_bytes / sizeof *plt, symbols, names);
        m->hooked += hook_table (info->dlpi_addr, rela, rela_bytes / sizeof *rela, symbols, names);
    }
    return 1;
}

int alloc_hook (const void *function)
{
    Module m = {.inside = function};
    atomic_store (&n_live, 0);
    dl_iterate_phdr (hook_module, &m);
    return m.hooked;
}

void alloc_hook_fail_at (uint64_t k)
{
    atomic_store (&n_calls, 0);
    atomic_store (&fail_at, k);
}

void alloc_hook_shift_clock (int64_t seconds) { atomic_store (&shift_s, seconds); }

uint64_t alloc_hook_count (void) { return atomic_load (&n_calls); }
int64_t alloc_hook_live (void) { return atomic_load (&n_live); }
