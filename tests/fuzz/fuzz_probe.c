/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_probe.c: any bytes as the report of a child in which a plugin is tried: a step fit to print, however the pipe cuts what was written. */
#include "base/utf8.h"
#include "fuzz.h"
#include "plugin/probe_report.h"

int LLVMFuzzerTestOneInput (const uint8_t *data, size_t size)
{
    DpsProbeReport whole = {.step = "start"}, parts = whole;
    const size_t cut = size ? data[0] % 7u + 1 : 1;
    DpsBuf text = fuzz_copy ((DpsStr){(const char *)data, size});
    dps__probe_take (&whole, text.data, text.len);
    for (size_t at = 0; at < text.len; at += cut)
        dps__probe_take (&parts, text.data + at, text.len - at < cut ? text.len - at : cut);
    require (!strcmp (whole.step, parts.step) && dps__probe_is_done (&whole) == dps__probe_is_done (&parts));
    require (memchr (whole.step, '\0', sizeof whole.step) && dps_utf8_is_plain (whole.step, strlen (whole.step)));
    dps_buf_free (&text);
    return 0;
}
