/* SPDX-License-Identifier: Apache-2.0 */
/* checkpoint.c: dps.format/1 over a folder of files and its manifest. */
#include <string.h>

#include "base/file.h"
#include "diapason/sdk.h"
#include "file.h"

static DpsHost host;

DpsStatus checkpoint_safetensors (const DpsFormat **out, DpsError *err)
{
    *out = dps_sdk_format (&host, "safetensors");
    return *out ? DPS_OK : dps_fail (err, DPS_ERR_NOT_FOUND, "checkpoint: the safetensors plugin, which it is built on, is not loaded");
}

size_t checkpoint_split (DpsStr name)
{
    const char *slash = name.len ? memchr (name.ptr, '/', name.len) : NULL;
    size_t n = slash ? (size_t)(slash - name.ptr) : 0;
    return n + 1 < name.len ? n : 0;
}

static int32_t probe (DpsStr path, const void *head, size_t head_len)
{
    char *file = dps_strf ("%.*s/" DPS_DIGESTS_MANIFEST, (int)path.len, path.ptr);
    int there = !head && !head_len && file && dps_is_file (file);
    dps_free (file);
    return there ? 95 : 0;
}

static const DpsFormat format = {
    .size = sizeof (DpsFormat),
    .name = "checkpoint",
    .extensions = "",
    .probe = probe,
    .open = reader_open,
    .close = reader_close,
    .info = reader_info,
    .tensor_info = reader_tensor_info,
    .meta = reader_meta,
    .read = reader_read,
    .read_f32 = reader_read_f32,
    .map = reader_map,
    .create = writer_create,
    .write = writer_write,
    .finish = writer_finish,
    .abandon = writer_abandon,
    .release = reader_release,
};

DPS_PLUGIN_ONE_OF_HOST (DPS_FORMAT_ID, format, host);
