/* SPDX-License-Identifier: Apache-2.0 */
/* folder.c: the checkpoints of an output folder as a whole: which there are, which go, what killed processes left behind. */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "ckpt/checkpoint.h"
#include "plugin/crumb.h"
#include "recipe/chain.h"
#include "recipe/stack_lock.h"

/* f(ctx, name) for every entry but . and .. */
static DpsStatus each_entry (const char *dir, DpsStatus (*f) (void *ctx, const char *name, DpsError *err), void *ctx, DpsError *err)
{
    DIR *d = opendir (dir);
    if (!d)
        return errno == ENOENT ? DPS_OK : dps_fail (err, DPS_ERR_IO, "%s: cannot open: %s", dir, strerror (errno));
    DpsStatus st = DPS_OK;
    for (struct dirent *e; st == DPS_OK && (e = readdir (d));)
        if (strcmp (e->d_name, ".") != 0 && strcmp (e->d_name, "..") != 0)
            st = f (ctx, e->d_name, err);
    closedir (d);
    return st;
}

/* The number of "checkpoint-N" written without leading zeros, or -1. */
static int64_t step_of (const char *name)
{
    static const char prefix[] = "checkpoint-";
    const char *digits = name + sizeof prefix - 1;
    if (strncmp (name, prefix, sizeof prefix - 1) != 0)
        return -1;
    size_t n = strspn (digits, "0123456789");
    if (n == 0 || n > 18 || digits[n] || (digits[0] == '0' && n > 1))
        return -1;
    return strtoll (digits, NULL, 10);
}

typedef struct Steps {
    uint64_t *steps;
    size_t n, capacity;
} Steps;

static DpsStatus collect_step (void *ctx, const char *name, DpsError *err)
{
    Steps *s = ctx;
    int64_t step = step_of (name);
    if (step < 0)
        return DPS_OK;
    if (DPS_GROW (s->steps, s->n, s->capacity))
        return dps_fail (err, DPS_ERR_NOMEM, "%s: out of memory", name);
    s->steps[s->n++] = (uint64_t)step;
    return DPS_OK;
}

static int by_step (const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

DpsStatus dps_ckpt_list (const char *output_dir, uint64_t **out, size_t *n, DpsError *err)
{
    Steps s = {0};
    DpsStatus st = each_entry (output_dir, collect_step, &s, err);
    if (st != DPS_OK) {
        dps_free (s.steps);
        return st;
    }
    if (s.n)
        qsort (s.steps, s.n, sizeof *s.steps, by_step);
    *out = s.steps;
    *n = s.n;
    return DPS_OK;
}

/* Renamed away first: a kill in the middle must not leave a damaged folder under a checkpoint's name. */
static DpsStatus remove_checkpoint (const char *output_dir, uint64_t step, DpsError *err)
{
    char *path = dps_strf ("%s/checkpoint-%llu", output_dir, (unsigned long long)step);
    char *trash = dps_strf ("%s/.checkpoint-%llu.tmp-%ld", output_dir, (unsigned long long)step, (long)getpid ());
    DpsStatus st = path && trash ? dps_remove_tree (trash, err) : dps_fail (err, DPS_ERR_NOMEM, "%s: out of memory", output_dir);
    if (st == DPS_OK && rename (path, trash) != 0)
        st = dps_fail (err, DPS_ERR_IO, "%s: cannot remove: %s", path, strerror (errno));
    if (st == DPS_OK)
        st = dps_remove_tree (trash, err);
    dps_free (path);
    dps_free (trash);
    return st;
}

DpsStatus dps_ckpt_rotate (const char *output_dir, uint64_t limit, const char *best, DpsError *err)
{
    uint64_t *steps;
    size_t n;
    if (limit == 0)
        return DPS_OK;
    DPS_TRY (dps_ckpt_list (output_dir, &steps, &n, err));
    int64_t kept = best ? step_of (best) : -1;
    uint64_t left = n;
    DpsStatus st = DPS_OK;
    for (size_t i = 0; i + 1 < n && left > limit && st == DPS_OK; i++) {
        if (kept >= 0 && steps[i] == (uint64_t)kept)
            continue;
        st = remove_checkpoint (output_dir, steps[i], err);
        left--;
    }
    dps_free (steps);
    return st;
}

DpsStatus dps_ckpt_clear (const char *output_dir, DpsError *err)
{
    uint64_t *steps;
    size_t n;
    DPS_TRY (dps_ckpt_list (output_dir, &steps, &n, err));
    DpsStatus st = DPS_OK;
    for (size_t i = 0; i < n && st == DPS_OK; i++)
        st = remove_checkpoint (output_dir, steps[i], err);
    dps_free (steps);
    return st;
}

/* "x.tmp-123" or ".checkpoint-4.tmp-123[.old]": names only this project's writers give. */
static int is_left_over (const char *name)
{
    const char *tmp = strstr (name, ".tmp-");
    if (!tmp)
        return 0;
    size_t digits = strspn (tmp + 5, "0123456789");
    const char *rest = tmp + 5 + digits;
    return digits > 0 && (*rest == '\0' || (name[0] == '.' && !strcmp (rest, ".old")));
}

static DpsStatus sweep_entry (void *ctx, const char *name, DpsError *err)
{
    if (!is_left_over (name))
        return DPS_OK;
    char *path = dps_path_join (ctx, name);
    DpsStatus st = path ? dps_remove_tree (path, err) : dps_fail (err, DPS_ERR_NOMEM, "%s: out of memory", name);
    dps_free (path);
    return st;
}

DpsStatus dps_ckpt_sweep (const char *output_dir, DpsError *err) { return each_entry (output_dir, sweep_entry, (void *)output_dir, err); }

/* What an output folder holds: marks of a run, and the first name that is neither a mark nor what lies beside a recipe. */
typedef struct Inhabitants {
    int run;
    char foreign[256];
} Inhabitants;

static int is_among (const char *const *names, const char *name)
{
    while (*names && strcmp (*names, name) != 0)
        names++;
    return *names != NULL;
}

static DpsStatus look_at (void *ctx, const char *name, DpsError *err)
{
    static const char *const marks[] = {DPS_CKPT_LOCK, DPS_CHAIN_LOCK, DPS_STACK_LOCK, DPS_CRUMB_NAME, NULL};
    static const char *const beside[] = {".yaml", ".yml", ".jsonl",     ".gguf",    ".py",   ".sh", ".log",
                                         ".txt",  ".out", ".gitignore", ".gitkeep", ".keep", NULL};
    Inhabitants *in = ctx;
    const char *end = strrchr (name, '.');
    (void)err;
    in->run |= step_of (name) >= 0 || is_left_over (name) || is_among (marks, name);
    if (!*in->foreign && !(end && is_among (beside, end)))
        snprintf (in->foreign, sizeof in->foreign, "%s", name);
    return DPS_OK;
}

DpsStatus dps_ckpt_check_own (const char *output_dir, DpsError *err)
{
    Inhabitants in = {0};
    if (!dps_is_dir (output_dir)) /* whoever makes it says what is wrong */
        return DPS_OK;
    DPS_TRY (each_entry (output_dir, look_at, &in, err));
    if (in.run || !*in.foreign)
        return DPS_OK;
    return dps_fail (
        err, DPS_ERR_USAGE,
        "%s: holds '%.100s' and no run: a dozen files would be written among what is there. Hint: name a folder of the run's own, or "
        "--set overwrite_output_dir=true where that is meant",
        output_dir, in.foreign);
}
