/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_elf.c: any bytes as a shared object, which the loader looks into before the dynamic linker does. Never reads past the end. */
#include <stdlib.h>
#include <string.h>

#include "plugin/elf.h"

int LLVMFuzzerTestOneInput (const uint8_t *data, size_t size)
{
    DpsError err = {.size = sizeof err};
    /* A block of exactly the size, so that the sanitizer sees one byte too far. */
    unsigned char *copy = malloc (size ? size : 1);
    if (!copy)
        return 0;
    memcpy (copy, data, size);
    if (dps__elf_check (copy, size, "fuzz", &err) != DPS_OK && !err.msg[0])
        __builtin_trap ();
    free (copy);
    return 0;
}
