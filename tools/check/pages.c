/* SPDX-License-Identifier: Apache-2.0 */
#include "check/pages.h"

#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

void *check_pages (const void *data, size_t bytes, int guard, int read_only)
{
    size_t page = (size_t)sysconf (_SC_PAGESIZE), inner = (bytes + page - 1) / page * page;
    inner = inner ? inner : page;
    unsigned char *all = mmap (NULL, inner + 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (all == MAP_FAILED)
        return NULL;
    unsigned char *at = all + page + (guard == CHECK_GUARD_BEHIND ? inner - bytes : 0);
    if (data && bytes)
        memcpy (at, data, bytes);
    if (mprotect (all, page, PROT_NONE) || mprotect (all + page + inner, page, PROT_NONE) ||
        (read_only && mprotect (all + page, inner, PROT_READ)))
        return NULL;
    return at;
}
