/* SPDX-License-Identifier: Apache-2.0 */
/*
 * suite_backend_training.c: the whole of it: LoRA on a tiny model, with this program's train verb on the device under test. Its losses keep within a
 * band around those of ref, step by step; what one device saved goes on on the other.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "check/budgets.h"
#include "check/check.h"
#include "check/tiny.h"

enum { STEPS = 50, SAVE = 10, MORE = 20 };

typedef struct Runs {
    CheckContext *ctx;
    char plugins[4200]; /* DIAPASON_PLUGINS=… with the folder of the module under test first */
    const char *device; /* its name in recipes */
} Runs;

static DpsStatus begin (CheckContext *ctx, Runs *r, DpsError *err)
{
    const char *module = ctx->plugin->module, *slash = strrchr (module, '/'), *more = getenv ("DIAPASON_PLUGINS");
    *r = (Runs){.ctx = ctx, .device = ctx->device ? ctx->device : ctx->plugin->name};
    if (slash)
        snprintf (r->plugins, sizeof r->plugins, "DIAPASON_PLUGINS=%.*s%s%.2000s", (int)(slash - module < 2000 ? slash - module : 2000),
                  module, more ? ":" : "", more ? more : "");
    return tiny_write (ctx->scratch, ctx->seed, err);
}

/* The recipe of that name on `device`; resume: a checkpoint that another run left, or NULL. */
static DpsStatus train (const Runs *r, const char *name, const char *device, int steps, const char *resume, DpsError *err)
{
    char file[64], set[96];
    snprintf (file, sizeof file, "%s.yaml", name);
    snprintf (set, sizeof set, "device=%s", device);
    const char *const arguments[] = {"train",    file,   "--quiet", "--set", set, resume ? "--set" : NULL, "allow_device_change=true",
                                     "--resume", resume, NULL};
    const char *const environment[] = {r->plugins[0] ? r->plugins : NULL, NULL};
    DPS_TRY (tiny_recipe (r->ctx->scratch, name, steps, SAVE, err));
    if (check_program (r->ctx, name, arguments, environment, err) != DPS_OK)
        return dps_error_prefix (err, "training on %s", device);
    return DPS_OK;
}

/* Losses of steps [first, n) of one run within the band around those of another. */
static DpsStatus in_band (const Runs *r, const char *got_name, const char *want_name, int first, int n, DpsError *err)
{
    double got[STEPS], want[STEPS], worst = 0;
    const CheckBudget *b = check_budget ("training", NULL, 0);
    DPS_TRY (tiny_losses (r->ctx->scratch, got_name, n, got, err));
    DPS_TRY (tiny_losses (r->ctx->scratch, want_name, n, want, err));
    for (int i = first; i < n; i++) {
        double off = fabs (got[i] - want[i]), room = b->relative * fabs (want[i]) + b->floor;
        if (!(off <= room))
            return dps_fail (err, DPS_ERR_INVALID, "step %d: the loss is %.6g, on ref it is %.6g: the band is %.2g wide", i + 1, got[i],
                             want[i], room);
        worst = fmax (worst, off / room);
    }
    check_note_number (r->ctx, "worst", worst);
    return DPS_OK;
}

static DpsStatus loss_band (CheckContext *ctx, DpsError *err)
{
    Runs r;
    double losses[STEPS];
    DPS_TRY (begin (ctx, &r, err));
    DPS_TRY (train (&r, "oracle", "ref", STEPS, NULL, err));
    DPS_TRY (train (&r, "tested", r.device, STEPS, NULL, err));
    DPS_TRY (in_band (&r, "tested", "oracle", 0, STEPS, err));
    DPS_TRY (tiny_losses (ctx->scratch, "tested", STEPS, losses, err));
    check_note_number (ctx, "first_loss", losses[0]);
    check_note_number (ctx, "last_loss", losses[STEPS - 1]);
    if (!(losses[STEPS - 1] < 0.7 * losses[0]))
        return dps_fail (err, DPS_ERR_INVALID, "%d steps took the loss from %.4g to %.4g, expected less than 70 %% of it", STEPS, losses[0],
                         losses[STEPS - 1]);
    return DPS_OK;
}

/* From step 10 on the other device: the band holds on, optimizer state and order of rows included. */
static DpsStatus resume_between (CheckContext *ctx, int back, DpsError *err)
{
    Runs r;
    char later[300];
    DPS_TRY (begin (ctx, &r, err));
    if (!strcmp (r.device, "ref"))
        return check_skip (err, "there is no other device than ref to go on from");
    DPS_TRY (train (&r, "oracle", "ref", MORE, NULL, err));
    DPS_TRY (train (&r, "moved", back ? "ref" : r.device, MORE, NULL, err));
    snprintf (later, sizeof later, "%s/moved/checkpoint-%d", ctx->scratch, MORE);
    DPS_TRY (dps_remove_tree (later, err));
    DPS_TRY (train (&r, "moved", back ? r.device : "ref", MORE, "moved/checkpoint-10", err));
    return in_band (&r, "moved", "oracle", 0, MORE, err);
}

static DpsStatus saved_here_resumed_on_ref (CheckContext *ctx, DpsError *err) { return resume_between (ctx, 0, err); }
static DpsStatus saved_on_ref_resumed_here (CheckContext *ctx, DpsError *err) { return resume_between (ctx, 1, err); }

static const CheckCase cases[] = {
    CHECK_CASE (loss_band, 0, CHECK_REQUIRED),
    CHECK_CASE (saved_here_resumed_on_ref, 0, 0),
    CHECK_CASE (saved_on_ref_resumed_here, 0, 0),
};
const CheckSuite check_suite_backend_training = {"backend.training", DPS_BACKEND_ID, "training on the device", cases,
                                                 sizeof cases / sizeof *cases};
