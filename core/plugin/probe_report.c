/* SPDX-License-Identifier: Apache-2.0 */
#include "plugin/probe_report.h"

#include <string.h>

#include "plugin/module.h"

int dps__probe_is_done (const DpsProbeReport *r) { return !strcmp (r->step, "done"); }

void dps__probe_take (DpsProbeReport *r, const char *data, size_t n)
{
    for (size_t i = 0; i < n && !dps__probe_is_done (r); i++)
        if (data[i] == '\n') {
            r->line[r->line_len < sizeof r->line - 1 ? r->line_len : sizeof r->line - 1] = '\0';
            dps__one_line (r->line);
            memcpy (r->step, r->line, sizeof r->step);
            r->line_len = 0;
        } else if (r->line_len++ < sizeof r->line - 1)
            r->line[r->line_len - 1] = data[i];
}
