/* SPDX-License-Identifier: Apache-2.0 */
/* again.c: what a case runs in further processes: itself with another environment, other verbs. They share its group and its deadline. */
#include <stdio.h>
#include <string.h>

#include "base/json.h"
#include "check/run.h"

/* Wait for the end and say how it ended when that was not well. */
static DpsStatus ended (CheckProcess *p, const char *what, const char *err_file, DpsError *err)
{
    char how[96], last[500];
    while (!check_read (p))
        continue;
    int status = check_reap (p);
    if (status == 0)
        return DPS_OK;
    check_last_line (err_file, last, sizeof last);
    return dps_fail (err, DPS_ERR_INTERNAL, "%s: %s%s%s", what, check_status_text (status, how, sizeof how), last[0] ? ": " : "", last);
}

DpsStatus check_program (CheckContext *ctx, const char *name, const char *const *arguments, const char *const *environment, DpsError *err)
{
    enum { MOST = 62 };
    const char *all[MOST + 2] = {ctx->program};
    char out_file[300], err_file[300];
    CheckProcess p;
    for (int i = 0; i < MOST && arguments[i]; i++)
        all[i + 1] = arguments[i];
    snprintf (out_file, sizeof out_file, "%s/%s.out", ctx->scratch, name);
    snprintf (err_file, sizeof err_file, "%s/%s.err", ctx->scratch, name);
    DPS_TRY (check_spawn (&p, all, environment, ctx->scratch, out_file, err_file, 1, err));
    DpsStatus st = ended (&p, name, err_file, err);
    dps_buf_free (&p.verdict);
    return st;
}

/* The verdict line of a case that was run again. */
static DpsStatus read_verdict (const CheckProcess *p, const char *name, json_t **out_notes, DpsError *err)
{
    json_t *line = NULL;
    if (!p->verdict.len)
        return dps_fail (err, DPS_ERR_INTERNAL, "%s: the process ended well, and without a verdict", name);
    DPS_TRY (dps_json_parse (p->verdict.data ? p->verdict.data : "", p->verdict.len, name, 1, 0, &line, err));
    const char *verdict = json_string_value (json_object_get (line, "verdict")),
               *message = json_string_value (json_object_get (line, "message"));
    DpsStatus st = DPS_OK;
    if (verdict && !strcmp (verdict, check_verdict_names[CHECK_SKIP]))
        st = check_skip (err, "%s", message ? message : "");
    else if (!verdict || strcmp (verdict, check_verdict_names[CHECK_PASS]))
        st = dps_fail (err, DPS_ERR_INTERNAL, "%s", message ? message : "no verdict");
    if (out_notes)
        *out_notes = json_incref (json_object_get (line, "notes"));
    json_decref (line);
    return st;
}

DpsStatus check_again (CheckContext *ctx, const char *name, const char *const *environment, json_t **out_notes, DpsError *err)
{
    char full[160], seed[32], log[300];
    snprintf (full, sizeof full, "%s/%s", ctx->suite->name, name);
    snprintf (seed, sizeof seed, "--seed=%llu", (unsigned long long)ctx->seed);
    snprintf (log, sizeof log, "%s/%s.log", ctx->scratch, name);
    const char *const arguments[] = {ctx->program,
                                     "check",
                                     "--child",
                                     full,
                                     "--scratch",
                                     ctx->scratch,
                                     seed,
                                     ctx->device ? "--device" : "--",
                                     ctx->device ? ctx->device : ctx->target,
                                     ctx->device ? "--" : NULL,
                                     ctx->device ? ctx->target : NULL,
                                     NULL};
    CheckProcess p;
    if (out_notes)
        *out_notes = NULL;
    DPS_TRY (check_spawn (&p, arguments, environment, NULL, log, log, 1, err));
    DpsStatus st = ended (&p, name, log, err);
    if (st == DPS_OK)
        st = read_verdict (&p, name, out_notes, err);
    dps_buf_free (&p.verdict);
    return st;
}
