/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_format.h: the target that the format readers share. A file that opens must answer for every tensor and value it announces. */
#include <sys/mman.h>

#include "base/mem.h"
#include "base/status.h"
#include "diapason/diapason.h"
#include "fuzz.h"

extern const DpsPluginEntry dps_plugin_entry;

static volatile unsigned sum; /* so that reads are not optimised away */

static void use_strings (const DpsMeta *m)
{
    const DpsStr *s = m->type == DPS_META_STR ? &m->v.s : m->v.array;
    if (m->type == DPS_META_STR || (m->type == DPS_META_ARRAY && m->elem_type == DPS_META_STR))
        for (uint64_t i = 0; i < m->n; i++)
            sum += s[i].len ? (unsigned char)s[i].ptr[0] + (unsigned char)s[i].ptr[s[i].len - 1] : 0;
    else if (m->type == DPS_META_ARRAY && m->n)
        sum += ((const unsigned char *)m->v.array)[m->n * (m->elem_type == DPS_META_BOOL ? 1 : 8) - 1];
}

static void use_tensor (const DpsFormat *format, struct DpsFormatFile *f, uint64_t i)
{
    DpsError err = DPS_ERROR_INIT;
    DpsTensorInfo t = {.size = sizeof t};
    float values[64];
    unsigned char raw[64];
    require (format->tensor_info (f, i, &t, &err) == DPS_OK);
    uint64_t n = t.n_elements < 64 ? t.n_elements : 64, bytes = t.bytes < 64 ? t.bytes : 64;
    DpsStatus first = format->read_f32 (f, i, 0, n, values, &err), last = format->read_f32 (f, i, t.n_elements - n, n, values, &err);
    require (first == last && (first == DPS_OK || first == DPS_ERR_UNSUPPORTED));
    require (format->read_f32 (f, i, t.n_elements, 1, values, &err) == DPS_ERR_SHAPE);
    require (format->read (f, i, t.bytes - bytes, bytes, raw, &err) == DPS_OK);
    require (format->read (f, i, t.bytes, 1, raw, &err) == DPS_ERR_SHAPE);
    uint64_t product = 1;
    for (uint32_t d = 0; d < t.rank; d++)
        product *= (uint64_t)t.shape[d];
    require (product == t.n_elements);
    sum += raw[0];
}

int LLVMFuzzerTestOneInput (const uint8_t *data, size_t size)
{
    static int fd = -1;
    DpsError err = DPS_ERROR_INIT;
    struct DpsFormatFile *f = NULL;
    char path[64];
    const DpsFormat *format = dps_plugin_entry.get_interface (dps_str (DPS_FORMAT_ID));
    if (fd < 0)
        fd = memfd_create ("fuzz", 0);
    require (fd >= 0 && ftruncate (fd, 0) == 0 && pwrite (fd, data, size, 0) == (ssize_t)size);
    snprintf (path, sizeof path, "/proc/self/fd/%d", fd);
    int64_t live = dps_mem_live ();
    (void)format->probe (dps_str (path), data, size < 4096 ? size : 4096);
    if (format->open (dps_str (path), &f, &err) == DPS_OK) {
        uint64_t n_tensors, n_meta;
        require (format->info (f, &n_tensors, &n_meta, &err) == DPS_OK);
        for (uint64_t i = 0; i < n_meta; i++) {
            DpsMeta m = {.size = sizeof m};
            require (format->meta (f, i, &m, &err) == DPS_OK);
            use_strings (&m);
        }
        for (uint64_t i = 0; i < n_tensors; i++)
            use_tensor (format, f, i);
        format->close (f);
    } else
        require (f == NULL && err.msg[0]);
    require (dps_mem_live () == live);
    return 0;
}
