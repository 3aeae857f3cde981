/* SPDX-License-Identifier: Apache-2.0 */
/* verb_replay.c: run a record of backend calls again, on one backend or on two, and name the first call that fails or differs. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "diapason/cli.h"
#include "diapason/open_registry.h"
#include "exec/replay.h"
#include "graph/graph.h"
#include "plugin/host.h"

static int run_replay (int argc, char **argv);

const DpsVerb dps_verb_replay = {
    .name = "replay",
    .summary = "run recorded backend calls again, on another backend too",
    .synopsis = "FILE --backend X [--against Y] [--tolerance T] [--memory SIZE] [--json]",
    .help = "FILE was written by --record of train, generate, score, eval, merge or bench. It has ops, shapes, dtypes, places and "
            "order of the\n"
            "calls, no weights: numbers are drawn from seeds, token ids too unless --record-ids was given; other integers (row numbers,\n"
            "offsets, segment tables, dropout keys) are as they were.\n"
            "With --against every call runs on both backends with the same inputs; Y is the one believed. Reported per op: the largest\n"
            "difference over the largest number of an output; and the first call that failed, differed by more than T (0.001, with bf16 or "
            "f16\n"
            "0.02), or broke a rule of the ABI (--validate is on). Exit code 1 when there is one.\n\n"
            "Examples:\n"
            "  diapason train recipe.yaml --record calls.jsonl\n"
            "  diapason replay calls.jsonl --backend opencl --against ref",
    .run = run_replay,
};

static char *backend, *against, *memory;
static double tolerance;
static const GOptionEntry entries[] = {
    {"backend", 'b', 0, G_OPTION_ARG_STRING, &backend, "the backend or device in question", "X"},
    {"against", 0, 0, G_OPTION_ARG_STRING, &against, "the one to compare with", "Y"},
    {"tolerance", 0, 0, G_OPTION_ARG_DOUBLE, &tolerance, "what may differ, of the largest number (0.001; bf16, f16 0.02)", "T"},
    {"memory", 0, 0, G_OPTION_ARG_STRING, &memory, "of the record's buffers at most, on each backend (half of the machine's)", "SIZE"},
    {NULL, 0, 0, 0, NULL, NULL, NULL},
};

static void show_progress (void *ctx, double share)
{
    static int percent = -1;
    (void)ctx;
    if ((int)(100 * share) != percent)
        cli_progress_paced ("replaying", share, 1, 0);
    percent = (int)(100 * share);
}

static json_t *ops_json (const DpsReplay *r)
{
    json_t *ops = json_array ();
    for (int i = 0; i < DPS_OP_COUNT; i++) {
        const DpsReplayOp *op = &r->ops[i];
        if (!op->calls)
            continue;
        json_t *o = json_pack ("{s:s, s:I, s:I, s:f}", "op", dps_op_name ((DpsOpCode)i), "calls", (json_int_t)op->calls, "failed",
                               (json_int_t)op->failed, "seconds", op->seconds);
        if (against) {
            json_object_set_new (o, "worst_difference", isfinite (op->worst) ? json_real (op->worst) : json_string ("nan"));
            json_object_set_new (o, "worst_call", json_integer ((json_int_t)op->worst_call));
            json_object_set_new (o, "against_seconds", json_real (op->against_seconds));
        }
        json_array_append_new (ops, o);
    }
    return ops;
}

static void print_json (const DpsReplay *r)
{
    json_t *o = json_pack ("{s:s, s:s, s:s, s:s, s:I, s:I, s:o}", "backend", backend, "recorded_on", r->recorded_on, "ids", r->ids, "end",
                           r->end, "calls", (json_int_t)r->calls, "failed", (json_int_t)r->failed, "ops", ops_json (r));
    if (against)
        json_object_set_new (o, "against", json_string (against));
    if (r->failed)
        json_object_set_new (o, "first_failure",
                             json_pack ("{s:I, s:s, s:s, s:s, s:s}", "call", (json_int_t)r->first.call, "op", r->first.op, "device",
                                        r->first.device, "operands", r->first.operands, "reason", r->first.reason));
    if (r->recorded_failure[0])
        json_object_set_new (o, "recorded_failure",
                             json_pack ("{s:I, s:s}", "call", (json_int_t)r->recorded_failed_call, "message", r->recorded_failure));
    json_dumpf (o, stdout, JSON_COMPACT);
    putchar ('\n');
    json_decref (o);
}

static void print_text (const DpsReplay *r)
{
    printf ("%-18s %8s %8s %10s%s\n", "op", "calls", "failed", "seconds", against ? "   worst difference, in call" : "");
    for (int i = 0; i < DPS_OP_COUNT; i++) {
        const DpsReplayOp *op = &r->ops[i];
        if (!op->calls)
            continue;
        printf ("%-18s %8llu %8llu %10.4f", dps_op_name ((DpsOpCode)i), (unsigned long long)op->calls, (unsigned long long)op->failed,
                op->seconds);
        if (against)
            printf ("   %.3g, %llu", op->worst, (unsigned long long)op->worst_call);
        putchar ('\n');
    }
    if (r->recorded_failure[0])
        printf ("recorded failure, call %llu on %s: %s\n", (unsigned long long)r->recorded_failed_call, r->recorded_on,
                r->recorded_failure);
    if (!strcmp (r->end, "cut"))
        printf ("the recording process died in call %llu or before the next\n", (unsigned long long)r->last_call);
    if (r->failed)
        printf ("first failure, call %llu: %s on %s (%s): %s\n", (unsigned long long)r->first.call, r->first.op, r->first.device,
                r->first.operands, r->first.reason);
    else
        printf ("%llu calls: none failed\n", (unsigned long long)r->calls);
}

static DpsStatus replay (const char *path, DpsReplay *out, DpsError *err)
{
    DpsRegistry *reg = NULL;
    DpsMap map;
    DpsReplayOptions o = {.path = path,
                          .backend = backend,
                          .against = against,
                          .tolerance = tolerance,
                          .memory = memory ? cli_size (memory) : 0,
                          .progress = show_progress};
    if (setenv ("DIAPASON_VALIDATE", "1", 0))
        return dps_fail (err, DPS_ERR_NOMEM, "replay: out of memory");
    DPS_TRY (dps_map_open (path, &map, err));
    DpsStatus st = cli_open_registry (&reg, err);
    if (st == DPS_OK)
        st = dps_replay (reg, (const char *)map.data, map.len, &o, out, err);
    cli_progress_end ();
    dps_registry_close (reg);
    dps_map_close (&map);
    return st;
}

static int run_replay (int argc, char **argv)
{
    DpsError err = DPS_ERROR_INIT;
    int code = cli_parse (&dps_verb_replay, entries, &argc, &argv);
    if (code >= 0)
        return code;
    if (argc != 2 || !backend)
        return cli_usage (&dps_verb_replay, argc != 2 ? "one FILE is expected%s" : "--backend is missing%s", "");
    if (tolerance < 0 || !isfinite (tolerance) || (memory && !cli_size (memory)))
        return cli_usage (&dps_verb_replay, "--tolerance is %g and --memory %s: expected a number from 0 and a size such as 4GiB",
                          tolerance, memory ? memory : "unset");
    DpsReplay *result = dps_calloc (1, sizeof *result);
    DpsStatus st = result ? replay (argv[1], result, &err) : dps_fail (&err, DPS_ERR_NOMEM, "replay: out of memory");
    if (st == DPS_OK)
        (cli_common.json ? print_json : print_text) (result);
    int failed = st == DPS_OK && result->failed;
    dps_free (result);
    return st == DPS_OK ? failed : cli_fail (&dps_verb_replay, st, &err);
}
