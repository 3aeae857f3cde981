/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_elf.c: any bytes as a shared object, which the loader looks into before the dynamic linker does. Never reads past the end. */
#include "fuzz.h"
#include "plugin/elf.h"

int LLVMFuzzerTestOneInput (const uint8_t *data, size_t size)
{
    DpsError err = DPS_ERROR_INIT;
    DpsBuf copy = fuzz_copy ((DpsStr){(const char *)data, size});
    require (dps__elf_check ((const unsigned char *)(size ? copy.data : ""), size, "fuzz", &err) == DPS_OK || err.msg[0]);
    dps_buf_free (&copy);
    return 0;
}
