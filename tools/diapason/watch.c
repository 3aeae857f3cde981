/* SPDX-License-Identifier: Apache-2.0 */
#include "diapason/watch.h"

#include <stdlib.h>

#include "exec/trace.h"
#include "plugin/validate.h"

CliWatch cli_watch;

DpsStatus cli_watch_begin (DpsError *err)
{
    uint64_t limit = cli_watch.record_limit ? cli_size (cli_watch.record_limit) : 0;
    if (cli_watch.record_limit && !limit)
        return dps_fail (err, DPS_ERR_USAGE, "--record-limit is '%s', expected a size such as 64MiB", cli_watch.record_limit);
    if (cli_watch.validate && setenv ("DIAPASON_VALIDATE", "1", 1))
        return dps_fail (err, DPS_ERR_NOMEM, "--validate: out of memory");
    if (!cli_watch.record)
        return cli_watch.record_ids || limit ? dps_fail (err, DPS_ERR_USAGE, "%s without --record FILE: there is nothing to record to",
                                                         limit ? "--record-limit" : "--record-ids")
                                             : DPS_OK;
    const DpsTraceOptions o = {.path = cli_watch.record, .limit = limit, .ids = cli_watch.record_ids};
    return dps_trace_begin (&o, err);
}

int cli_watch_end (int code)
{
    DpsError err = DPS_ERROR_INIT;
    uint64_t faults = dps_validate_faults ();
    if (dps_trace_end (&err) != DPS_OK) {
        fprintf (stderr, "diapason: error: %s\n", err.msg);
        code = code ? code : 1;
    }
    if (!faults)
        return code;
    fprintf (stderr, "diapason: error: --validate: %llu rules were broken, named above\n", (unsigned long long)faults);
    return code ? code : 1;
}
