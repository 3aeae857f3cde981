/* SPDX-License-Identifier: Apache-2.0 */
/* verb_train.c: a recipe from beginning to end. The first SIGINT or SIGTERM saves and leaves with 75; a second one ends the process. */
#include <errno.h>
#include <math.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/json.h"
#include "diapason/run_recipe.h"
#include "diapason/watch.h"
#include "plugin/crumb.h"
#include "plugin/host.h"
#include "train/chain.h"

static int run_train (int argc, char **argv);

const DpsVerb dps_verb_train = {
    .name = "train",
    .summary = "train an adapter or a model from a recipe, or a chain of them",
    .synopsis = "RECIPE [--set key=value …] [--resume [auto|PATH]] [--locked [--stack-lock PATH]]",
    .help = "Writes metrics.jsonl, trainer_state.json, checkpoint-N/, the adapter or model, recipe.lock.yaml, stack.lock, README.md, "
            "runs/ and report.html\n"
            "into the recipe's output_dir. Interrupted once (Ctrl-C, SIGTERM) it saves a checkpoint and leaves with 75; --resume goes on\n"
            "from the newest sound checkpoint, or starts when there is none, and ends in the same bytes.\n"
            "A recipe with `stages` is a chain: each stage starts from what the one before left, and writes to output_dir/NAME; --resume\n"
            "leaves finished stages alone; --set NAME.key=value is for one stage.\n\n"
            "Examples:\n"
            "  diapason train recipe.yaml --set learning_rate=1e-4 --set output_dir=run2\n"
            "  diapason train recipe.yaml --resume\n"
            "  diapason train chain.yaml --set it.max_steps=200",
    .run = run_train,
};

static char *resume, *stack_lock;
static gboolean locked;

static gboolean take_resume (const char *option, const char *value, void *data, GError **error)
{
    (void)option, (void)data, (void)error;
    g_free (resume);
    resume = g_strdup (value ? value : "auto");
    return TRUE;
}

static const GOptionEntry entries[] = {
    CLI_SET_ENTRY,
    CLI_WATCH_ENTRIES,
    {"locked", 0, 0, G_OPTION_ARG_NONE, &locked,
     "refuse (exit 4) another stack of plugins, libraries and CPU than stack.lock in output_dir has", NULL},
    {"stack-lock", 0, 0, G_OPTION_ARG_FILENAME, &stack_lock, "with --locked: another stack.lock", "PATH"},
    CLI_PROGRAMS_ENTRY,
    {"resume", 0, G_OPTION_FLAG_OPTIONAL_ARG, G_OPTION_ARG_CALLBACK, (void *)take_resume,
     "go on from the newest sound checkpoint, or from PATH", "[auto|PATH]"},
    {NULL, 0, 0, 0, NULL, NULL, NULL},
};

/* Only write(2) and stores: it may interrupt anything. */
static void on_signal (int sig)
{
    static const char said[] = "\nstopping after this step at the latest, then saving; a second signal stops at once, unsaved\n";
    const int kept = errno;
    (void)sig;
    if (dps_host_should_stop ()) {
        dps_crumb_stopped ();
        signal (SIGINT, SIG_DFL);
        raise (SIGINT);
        return;
    }
    dps_host_request_stop (1);
    if (!cli_common.quiet && write (STDERR_FILENO, said, sizeof said - 1) < 0)
        errno = kept; /* nobody to tell, and what was interrupted is not to see it */
}

static void show_progress (void *ctx, const DpsTrainProgress *p)
{
    char detail[160];
    (void)ctx;
    if (!p->pace) {
        cli_progress_paced (p->phase, (double)p->step, (double)p->max_steps, 0);
        return;
    }
    if (!isfinite (p->loss)) { /* loading, evaluating: before the first step nothing is counted */
        cli_progress (p->phase, (double)p->step, p->step ? (double)p->max_steps : 0, p->pace);
        return;
    }
    snprintf (detail, sizeof detail, "step %llu/%llu  loss %.4f  %s", (unsigned long long)p->step, (unsigned long long)p->max_steps,
              p->loss, p->pace);
    cli_progress (p->phase, (double)p->step, (double)p->max_steps, detail);
}

/* name: the stage's, or NULL. */
static void print_result (const DpsRecipe *r, const char *name, const DpsTrainResult *out)
{
    char mean[40] = "no step had anything to learn from";
    if (isfinite (out->train_loss))
        snprintf (mean, sizeof mean, "mean loss %.4f", out->train_loss);
    if (cli_common.json) {
        json_t *o = json_pack ("{s:I, s:o, s:f, s:s}", "step", (json_int_t)out->step, "train_loss",
                               isfinite (out->train_loss) ? json_real (out->train_loss) : json_null (), "train_runtime", out->runtime_s,
                               "output_dir", out->output_dir);
        if (name)
            json_object_set_new (o, "name", json_string (name));
        json_dumpf (o, stdout, JSON_COMPACT);
        putchar ('\n');
        json_decref (o);
    } else if (!cli_common.quiet)
        fprintf (stderr, "%s written to %s (%llu steps, %s, %.0f s); open %s/report.html\n", r->adapter ? "Adapter" : "Model",
                 out->output_dir, (unsigned long long)out->step, mean, out->runtime_s, out->output_dir);
}

static void show_merging (double share) { cli_progress_paced ("merging", share, 1, 0); }

static void show_stage (void *ctx, const DpsChain *c, size_t i, DpsChainEvent event, const DpsTrainResult *result)
{
    static const char *const said[] = {[DPS_CHAIN_MERGES] = "merging the adapter of the stage it starts from",
                                       [DPS_CHAIN_STARTS] = "training",
                                       [DPS_CHAIN_FINISHED] = "was finished"};
    (void)ctx;
    cli_progress_end ();
    if (event == DPS_CHAIN_ENDS)
        print_result (c->stages[i].recipe, c->stages[i].name, result);
    else if (!cli_common.quiet)
        fprintf (stderr, "Stage '%s', %zu of %zu: %s\n", c->stages[i].name, i + 1, c->n, said[event]);
}

static DpsStatus train_recipe (const DpsRegistry *reg, DpsRecipe *recipe, const DpsTrainOptions *options, DpsError *err)
{
    DpsTrainResult result;
    DpsStatus st = dps_train (reg, recipe, options, &result, err);
    cli_progress_end ();
    if (st == DPS_OK)
        print_result (recipe, NULL, &result);
    dps_free (result.output_dir);
    return st;
}

static DpsStatus train (const char *path, DpsError *err)
{
    DpsChain *chain;
    DpsRegistry *reg;
    DPS_TRY (cli_open_chain (path, &chain, &reg, err));
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
    sigaction (SIGINT, &action, NULL);
    sigaction (SIGTERM, &action, NULL);
    const DpsTrainOptions options = {.resume = resume,
                                     .locked = !locked      ? NULL
                                               : stack_lock ? stack_lock
                                                            : "",
                                     .console = !isatty (STDERR_FILENO) && !cli_common.quiet,
                                     .progress = show_progress,
                                     .should_stop = dps_host_should_stop};
    const DpsChainOptions stages = {.train = options, .resume = resume != NULL, .merging = show_merging, .stage = show_stage};
    DpsStatus st;
    if (!chain->lock)
        st = train_recipe (reg, chain->stages[0].recipe, &options, err);
    else if (resume && strcmp (resume, "auto") && strcmp (resume, "true"))
        st = dps_fail (err, DPS_ERR_USAGE, "--resume %s: a chain finds its own place to go on from: give --resume alone", resume);
    else
        st = dps_train_chain (reg, chain, &stages, err);
    dps_registry_close (reg);
    dps_chain_free (chain);
    return st;
}

static int run_train (int argc, char **argv)
{
    DpsError err = DPS_ERROR_INIT;
    int code = cli_parse (&dps_verb_train, entries, &argc, &argv);
    if (code >= 0)
        return code;
    /* In `--resume recipe.yaml` the recipe is no checkpoint: only folders are. */
    char *recipe[] = {argv[0], resume};
    if (argc == 1 && resume && dps_is_file (resume)) {
        argv = recipe;
        argc = 2;
        resume = g_strdup ("auto");
    }
    if (stack_lock && !locked)
        return cli_usage (&dps_verb_train, "--stack-lock %s without --locked: nothing is held to it", stack_lock);
    code = cli_one_recipe (&dps_verb_train, argc, argv);
    if (code >= 0)
        return code;
    DpsStatus st = train (argv[1], &err);
    return st == DPS_OK ? 0 : cli_fail (&dps_verb_train, st, &err);
}
