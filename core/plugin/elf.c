/* SPDX-License-Identifier: Apache-2.0 */
/*
 * elf.c: bounded reader of the parts of an ELF file that decide what else dlopen would bring in. Addresses are resolved through the
 * loaded segments, as the dynamic linker does, not through section headers, which it ignores.
 */
#include "plugin/elf.h"

#include <elf.h>
#include <link.h>
#include <string.h>

#include "diapason/plugin.h"

#if __SIZEOF_POINTER__ == 8
#define NATIVE_CLASS ELFCLASS64
#else
#define NATIVE_CLASS ELFCLASS32
#endif
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define NATIVE_DATA ELFDATA2LSB
#else
#define NATIVE_DATA ELFDATA2MSB
#endif
#if defined(__x86_64__)
#define NATIVE_MACHINE EM_X86_64
#elif defined(__aarch64__)
#define NATIVE_MACHINE EM_AARCH64
#elif defined(__riscv)
#define NATIVE_MACHINE EM_RISCV
#elif defined(__powerpc64__)
#define NATIVE_MACHINE EM_PPC64
#elif defined(__s390x__)
#define NATIVE_MACHINE EM_S390
#else
#define NATIVE_MACHINE 0 /* not checked: the dynamic linker will */
#endif

enum { MAX_HEADERS = 256 };

typedef struct Image {
    const unsigned char *data;
    size_t len;
    const char *where;
    size_t headers; /* file offset of the program headers */
    unsigned n_headers;
} Image;

static ElfW (Phdr) header_at (const Image *im, unsigned i)
{
    ElfW (Phdr) h;
    memcpy (&h, im->data + im->headers + i * sizeof h, sizeof h);
    return h;
}

/* File offset of `bytes` bytes at a virtual address, and in *out_room how many more the segment holds; 0 when it is not in the file. */
static int offset_of (const Image *im, uint64_t address, size_t bytes, size_t *out_offset, size_t *out_room)
{
    for (unsigned i = 0; i < im->n_headers; i++) {
        ElfW (Phdr) h = header_at (im, i);
        if (h.p_type != PT_LOAD || address < h.p_vaddr || address - h.p_vaddr > h.p_filesz || h.p_filesz - (address - h.p_vaddr) < bytes)
            continue;
        *out_offset = (size_t)(h.p_offset + (address - h.p_vaddr));
        *out_room = (size_t)(h.p_filesz - (address - h.p_vaddr));
        return 1;
    }
    return 0;
}

static DpsStatus check_head (Image *im, DpsError *err)
{
    ElfW (Ehdr) e;
    if (im->len < sizeof e)
        return dps_fail (err, DPS_ERR_FORMAT, "%s: %zu bytes are too few for a shared object; was the file cut?", im->where, im->len);
    memcpy (&e, im->data, sizeof e);
    if (memcmp (e.e_ident, ELFMAG, SELFMAG))
        return dps_fail (err, DPS_ERR_FORMAT, "%s: not an ELF file", im->where);
    if (e.e_ident[EI_CLASS] != NATIVE_CLASS || e.e_ident[EI_DATA] != NATIVE_DATA || (NATIVE_MACHINE && e.e_machine != NATIVE_MACHINE))
        return dps_fail (err, DPS_ERR_FORMAT, "%s: built for another machine (ELF machine %u, this one is %d)", im->where,
                         (unsigned)e.e_machine, NATIVE_MACHINE);
    if (e.e_type != ET_DYN || e.e_phentsize != sizeof (ElfW (Phdr)) || !e.e_phnum)
        return dps_fail (err, DPS_ERR_FORMAT, "%s: not a shared object (ELF type %u)", im->where, (unsigned)e.e_type);
    if (e.e_phnum > MAX_HEADERS) /* every address is looked up in them */
        return dps_fail (err, DPS_ERR_FORMAT, "%s: %u program headers, at most %d are read", im->where, (unsigned)e.e_phnum, MAX_HEADERS);
    size_t table = (size_t)e.e_phnum * sizeof (ElfW (Phdr));
    if (e.e_phoff > im->len || im->len - e.e_phoff < table)
        return dps_fail (err, DPS_ERR_FORMAT, "%s: program headers lie outside the %zu bytes; was the file cut?", im->where, im->len);
    im->headers = (size_t)e.e_phoff;
    im->n_headers = e.e_phnum;
    return DPS_OK;
}

/* Every segment in the file, and exactly one dynamic section. A mapping past the end of a file would crash at its first read. */
static DpsStatus check_segments (const Image *im, ElfW (Phdr) * out_dynamic, DpsError *err)
{
    unsigned n_dynamic = 0;
    uint64_t end = 0;
    for (unsigned i = 0; i < im->n_headers; i++) {
        ElfW (Phdr) h = header_at (im, i);
        if (h.p_type == PT_DYNAMIC && ++n_dynamic)
            *out_dynamic = h;
        if (h.p_type != PT_LOAD)
            continue;
        if (h.p_offset > im->len || h.p_filesz > im->len - h.p_offset)
            return dps_fail (err, DPS_ERR_FORMAT, "%s: segment %u ends past the %zu bytes of the file; was the file cut?", im->where, i,
                             im->len);
        if (h.p_vaddr < end || h.p_memsz < h.p_filesz || h.p_memsz > UINT64_MAX / 4 || h.p_vaddr > UINT64_MAX / 4)
            return dps_fail (err, DPS_ERR_FORMAT, "%s: segment %u overlaps another or has impossible addresses", im->where, i);
        end = h.p_vaddr + h.p_memsz;
    }
    if (n_dynamic != 1)
        return dps_fail (err, DPS_ERR_FORMAT, "%s: %u dynamic sections, expected 1", im->where, n_dynamic);
    return DPS_OK;
}

/* Names the entries through which a module would search or load code from somewhere else. */
static const char *forbidden_tag (int64_t tag)
{
    switch (tag) {
    case DT_RPATH: return "an RPATH";
    case DT_RUNPATH: return "a RUNPATH";
    case DT_AUDIT:
    case DT_DEPAUDIT: return "an audit library";
    case DT_AUXILIARY:
    case DT_FILTER: return "a filter library";
    default: return NULL;
    }
}

static DpsStatus check_needed (const Image *im, uint64_t strings, uint64_t name, DpsError *err)
{
    size_t offset, room;
    if (strings > UINT64_MAX - name || !offset_of (im, strings + name, 1, &offset, &room) || !memchr (im->data + offset, '\0', room))
        return dps_fail (err, DPS_ERR_FORMAT, "%s: a needed library's name lies outside the file", im->where);
    const char *library = (const char *)im->data + offset;
    if (strchr (library, '/'))
        return dps_fail (err, DPS_ERR_POLICY, "%s: needs library '%.100s' by path. Hint: link with its soname", im->where, library);
    return DPS_OK;
}

/* Where the dynamic section says symbols are; 0: not said. Addresses. */
typedef struct Tables {
    uint64_t strings, symbols, hash, gnu_hash;
} Tables;

static int word_at (const Image *im, uint64_t address, uint64_t index, uint32_t *out)
{
    size_t offset, room;
    if (index > im->len || address > UINT64_MAX / 2 || !offset_of (im, address + 4 * index, 4, &offset, &room))
        return 0;
    memcpy (out, im->data + offset, 4);
    return 1;
}

/*
 * The symbols [*first, *end) that the dynamic linker can find here. DT_GNU_HASH lists what is exported last, in chains whose last member has its
 * lowest bit set; DT_HASH only counts all symbols.
 */
static int exported_range (const Image *im, const Tables *t, uint64_t *first, uint64_t *end)
{
    uint32_t head[4], bucket, link, last = 0;
    *first = *end = 0;
    if (!t->gnu_hash) {
        if (!t->hash)
            return 1;
        int good = word_at (im, t->hash, 1, &link);
        *end = good ? link : 0;
        return good;
    }
    for (unsigned i = 0; i < 4; i++)
        if (!word_at (im, t->gnu_hash, i, &head[i]))
            return 0;
    uint64_t buckets = 4 + (uint64_t)head[2] * (sizeof (ElfW (Addr)) / 4), chains = buckets + head[0];
    for (uint32_t i = 0; i < head[0]; i++) {
        if (!word_at (im, t->gnu_hash, buckets + i, &bucket))
            return 0;
        last = bucket > last ? bucket : last;
    }
    *first = *end = head[1];
    if (last < head[1])
        return last == 0;
    do {
        if (!word_at (im, t->gnu_hash, chains + (last - head[1]), &link))
            return 0;
        last++;
    } while (!(link & 1));
    *end = last;
    return 1;
}

/* What linkers define by themselves. */
static int is_linker_s (const char *name)
{
    static const char *const names[] = {"_init", "_fini", "_edata", "_end", "__bss_start"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (!strcmp (name, names[i]))
            return 1;
    return 0;
}

/* Rule 1: a second name would be found by other modules' lookups, or, when it is a C++ unique symbol, replace theirs. */
static DpsStatus check_exports (const Image *im, const Tables *t, DpsError *err)
{
    uint64_t first, end;
    size_t offset, room;
    if (!exported_range (im, t, &first, &end))
        return dps_fail (err, DPS_ERR_FORMAT, "%s: its symbol table lies outside the file", im->where);
    for (uint64_t i = first; i < end; i++) {
        ElfW (Sym) symbol;
        if (t->symbols > UINT64_MAX / 2 || !offset_of (im, t->symbols + i * sizeof symbol, sizeof symbol, &offset, &room))
            return dps_fail (err, DPS_ERR_FORMAT, "%s: its symbol table lies outside the file", im->where);
        memcpy (&symbol, im->data + offset, sizeof symbol);
        if (symbol.st_shndx == SHN_UNDEF || ELF64_ST_BIND (symbol.st_info) == STB_LOCAL)
            continue;
        if (t->strings > UINT64_MAX / 2 || !offset_of (im, t->strings + symbol.st_name, 1, &offset, &room) ||
            !memchr (im->data + offset, '\0', room))
            return dps_fail (err, DPS_ERR_FORMAT, "%s: a symbol's name lies outside the file", im->where);
        const char *name = (const char *)im->data + offset;
        if (strcmp (name, DPS_PLUGIN_SYMBOL) != 0 && !is_linker_s (name))
            return dps_fail (err, DPS_ERR_POLICY,
                             "%s: exports '%.100s'; a plugin exports " DPS_PLUGIN_SYMBOL
                             " and nothing else. Hint: -fvisibility=hidden, or a version script with local: *",
                             im->where, name);
    }
    return DPS_OK;
}

DpsStatus dps__elf_check (const unsigned char *data, size_t len, const char *where, DpsError *err)
{
    Image im = {.data = data, .len = len, .where = where};
    ElfW (Phdr) dynamic = {0};
    ElfW (Dyn) d;
    size_t at, room;
    Tables t = {0};
    DPS_TRY (check_head (&im, err));
    DPS_TRY (check_segments (&im, &dynamic, err));
    if (!offset_of (&im, dynamic.p_vaddr, sizeof d, &at, &room))
        return dps_fail (err, DPS_ERR_FORMAT, "%s: the dynamic section lies outside the loaded segments", where);
    size_t n = room / sizeof d;
    for (size_t i = 0; i < n; i++) {
        memcpy (&d, data + at + i * sizeof d, sizeof d);
        if (d.d_tag == DT_NULL)
            n = i;
        else if (forbidden_tag (d.d_tag))
            return dps_fail (err, DPS_ERR_POLICY, "%s: contains %s, which decides where other code comes from. Hint: link without -rpath",
                             where, forbidden_tag (d.d_tag));
        else if (d.d_tag == DT_STRTAB)
            t.strings = d.d_un.d_ptr;
        else if (d.d_tag == DT_SYMTAB)
            t.symbols = d.d_un.d_ptr;
        else if (d.d_tag == DT_HASH)
            t.hash = d.d_un.d_ptr;
        else if (d.d_tag == DT_GNU_HASH)
            t.gnu_hash = d.d_un.d_ptr;
    }
    for (size_t i = 0; i < n; i++) {
        memcpy (&d, data + at + i * sizeof d, sizeof d);
        if (d.d_tag == DT_NEEDED)
            DPS_TRY (check_needed (&im, t.strings, d.d_un.d_val, err));
    }
    return check_exports (&im, &t, err);
}
