/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fault.c: the reference backend under the name "fault", whose log-probabilities are NaN in the calls that DIAPASON_TEST_FAULT names:
 * "8,12-14". For tests of what a run does then (R12).
 *
 * DIAPASON_TEST_BREAK="OP WIDTH HOW [CALL]" breaks an op whose first output's rows have WIDTH numbers, from the CALL-th such call (1) on. HOW: fail,
 * wrong (one number), nan, input (writes one), beyond (writes past its output), segv, kill.
 */
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../backends/ref/ref.h"

extern const DpsPluginEntry dps_ref_plugin_entry;

static DpsBackend backend;
static uint32_t victim;
static unsigned long calls;

static int is_bad (unsigned long call)
{
    const char *list = getenv ("DIAPASON_TEST_FAULT");
    for (char *s = (char *)list; s && *s;) {
        unsigned long first = strtoul (s, &s, 10), last = *s == '-' ? strtoul (s + 1, &s, 10) : first;
        if (call >= first && call <= last)
            return 1;
        s += *s == ',';
    }
    return 0;
}

static const DpsBackend *ref (void) { return dps_ref_plugin_entry.get_interface (dps_str (DPS_BACKEND_ID)); }

static DpsStatus enumerate (uint32_t i, DpsDeviceInfo *out, DpsError *err)
{
    DpsStatus st = ref ()->enumerate (i, out, err);
    if (st == DPS_OK)
        out->name = "fault";
    return st;
}

/* What DIAPASON_TEST_BREAK asks for. */
static struct {
    uint32_t op;
    int64_t width;
    char how[16];
    unsigned long from, seen;
} broken;

static void read_broken (const DpsHost *host)
{
    char op[32] = "";
    long long width = 0;
    const char *text = getenv ("DIAPASON_TEST_BREAK");
    broken.from = 1;
    if (text && sscanf (text, "%31s %lld %15s %lu", op, &width, broken.how, &broken.from) >= 3)
        broken.op = host->intern (dps_str (op));
    broken.width = width;
}

static int breaks (const DpsOp *op)
{
    const DpsView *y = op->n_out ? op->out[0] : NULL;
    return broken.op && op->id == broken.op && y && y->rank && y->shape[y->rank - 1] == broken.width && ++broken.seen >= broken.from;
}

static DpsStatus break_it (const DpsOp *op, DpsError *err)
{
    float *y = dps__ref_data (op->out[0]);
    if (!strcmp (broken.how, "fail"))
        return dps_fail (err, DPS_ERR_DEVICE, "fault: told to fail");
    if (!strcmp (broken.how, "segv"))
        raise (SIGSEGV);
    if (!strcmp (broken.how, "kill"))
        raise (SIGKILL);
    if (!strcmp (broken.how, "wrong"))
        y[0] += 1;
    if (!strcmp (broken.how, "nan"))
        y[0] = NAN;
    if (!strcmp (broken.how, "input"))
        ((float *)dps__ref_data (op->in[0]))[0] += 1;
    if (!strcmp (broken.how, "beyond"))
        y[dps__ref_count (op->out[0])] += 1;
    return DPS_OK;
}

static DpsStatus run (struct DpsDevice *dev, const DpsOp *op, uint32_t flags, DpsError *err)
{
    DpsStatus st = ref ()->run (dev, op, flags, err);
    if (st == DPS_OK && op->id == victim && !(flags & DPS_RUN_DRY) && is_bad (++calls))
        ((float *)dps__ref_data (op->out[0]))[0] = NAN;
    if (st == DPS_OK && !(flags & DPS_RUN_DRY) && breaks (op))
        st = break_it (op, err);
    return st;
}

static DpsStatus init (const DpsHost *host, const char *path, DpsError *err)
{
    victim = host->intern (dps_str ("token_logprobs"));
    read_broken (host);
    backend = *ref ();
    backend.enumerate = enumerate;
    backend.run = run;
    return dps_ref_plugin_entry.init (host, path, err);
}

static const void *get_interface (DpsStr id) { return dps_str_is (id, DPS_BACKEND_ID) ? &backend : NULL; }

DPS_PLUGIN (init, NULL, get_interface);
