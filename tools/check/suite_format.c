/* SPDX-License-Identifier: Apache-2.0 */
/*
 * suite_format.c: a format as a reader that trusts no byte and a writer that loses none. What is written comes from --sample, or is made up; a format that
 * cannot write is read from --sample alone.
 */
#include <errno.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/rng.h"
#include "check/alloc_hook.h"
#include "check/content.h"
#include "check/damage.h"
#include "check/pages.h"
#include "check/plugin.h"
#include "ckpt/sink.h"

enum { PATH_CAP = 512 };

/* Few in --quick, many in a case of its own. */
static const CheckDamages few = {300, 640}, many = {3000, 8000};

static const DpsFormat *format_of (const CheckContext *ctx) { return ctx->table; }

static const char *at (const CheckContext *ctx, const char *name, char path[PATH_CAP])
{
    snprintf (path, PATH_CAP, "%s/%s", ctx->scratch, name);
    return path;
}

/* The content, and files of it at `path`: written, or the sample itself. SKIPPED where neither can be had. */
static DpsStatus good_files (CheckContext *ctx, const char *path, CheckContent *c, CheckFiles *files, DpsError *err)
{
    int folder;
    if (!format_of (ctx)->create && !ctx->sample)
        return check_skip (err, "the format cannot write. Hint: --sample FILE gives it one to read");
    DPS_TRY (check_content_open (ctx, c, err));
    DpsStatus st = DPS_OK;
    if (format_of (ctx)->create)
        st = check_content_write (c, path, &(CheckWriting){.piece = 0}, &folder, err);
    if ((st == DPS_ERR_INVALID || st == DPS_ERR_DTYPE) && !ctx->sample)
        st = check_skip (err, "%.800s. Hint: --sample FILE gives names and texts that the format takes", err->msg);
    if (st == DPS_OK)
        st = check_files_read (format_of (ctx)->create ? path : ctx->sample, files, err);
    if (st != DPS_OK)
        check_content_free (c);
    return st;
}

static DpsStatus describe (CheckContext *ctx, DpsError *err)
{
    const DpsFormat *f = ctx->table;
    if (!check_is_text (f->name) || !f->extensions || (*f->extensions && *f->extensions != '.'))
        return dps_fail (err, DPS_ERR_INVALID,
                         "name '%s', extensions '%s': expected a name, and endings like \".gguf,.bin\" (or none, for a folder)",
                         f->name ? f->name : "", f->extensions ? f->extensions : "(null)");
    f->close (NULL);
    return check_own_name (ctx, f->name, err);
}

/* Noise is never claimed; what the format wrote is. head ends at a forbidden page. */
static DpsStatus probe (CheckContext *ctx, DpsError *err)
{
    static CheckContent c;
    CheckFiles files = {.n = 0};
    char path[PATH_CAP], noise[PATH_CAP];
    unsigned char bytes[4096];
    at (ctx, "good", path);
    at (ctx, "noise", noise);
    for (uint64_t i = 0; i < 300; i++) {
        size_t len = i < 40 ? i : (size_t)dps_rng_below (ctx->seed, 1, i, sizeof bytes + 1);
        for (size_t k = 0; k < len; k++)
            bytes[k] = (unsigned char)dps_rng_u64 (ctx->seed, 2 + i, k);
        void *head = check_pages (bytes, len, CHECK_GUARD_BEHIND, 1);
        int32_t sure = head ? format_of (ctx)->probe (dps_str (noise), head, len) : 0;
        if (sure != 0)
            return dps_fail (err, DPS_ERR_INVALID, "probe is %d sure of %zu random bytes, expected 0", sure, len);
    }
    if (format_of (ctx)->probe (dps_str (ctx->scratch), NULL, 0) != 0)
        return dps_fail (err, DPS_ERR_INVALID, "probe claims an empty folder");
    DpsStatus st = good_files (ctx, path, &c, &files, err);
    if (st != DPS_OK)
        return st == CHECK_SKIPPED ? DPS_OK : st;
    size_t len = files.data[0].len < 4096 ? files.data[0].len : 4096;
    const void *head = files.folder ? NULL : check_pages (files.data[0].data, len, CHECK_GUARD_BEHIND, 1);
    int32_t sure = format_of (ctx)->probe (dps_str (files.folder && ctx->sample ? ctx->sample : path), head, files.folder ? 0 : len);
    if (sure < 1 || sure > 100)
        st = dps_fail (err, DPS_ERR_INVALID, "probe is %d sure of a good file, expected 1 to 100", sure);
    check_files_free (&files);
    check_content_free (&c);
    return st;
}

/* What is not the format's is refused, in words that name the path. */
static DpsStatus refuses (CheckContext *ctx, DpsError *err)
{
    char path[PATH_CAP];
    unsigned char bytes[512];
    for (int i = 0; i < 60; i++) {
        DpsError said = DPS_ERROR_INIT;
        struct DpsFormatFile *f = NULL;
        size_t len = i < 20 ? (size_t)i : sizeof bytes;
        for (size_t k = 0; k < len; k++)
            bytes[k] = i == 20 ? 0 : i == 21 ? 0xFF : (unsigned char)dps_rng_u64 (ctx->seed, 900 + (uint64_t)i, k);
        CheckFiles noise = {.n = 1, .data = {{.data = (char *)bytes, .len = len}}};
        at (ctx, i ? "noise" : "missing", path);
        if (i)
            DPS_TRY (check_files_write (&noise, path, err));
        DpsStatus st = format_of (ctx)->open (dps_str (path), &f, &said);
        if (st == DPS_OK)
            return dps_fail (err, DPS_ERR_INVALID, i ? "%zu bytes of noise were opened" : "a file that does not exist was opened", len);
        DPS_TRY (check_told ("open of noise", st, &said, err));
        if (f)
            return dps_fail (err, DPS_ERR_INVALID, "open failed and set *out: it stays untouched then");
        if (i == 0 && st != DPS_ERR_NOT_FOUND && st != DPS_ERR_IO)
            return dps_fail (err, DPS_ERR_INVALID, "a missing file is %s, expected NOT_FOUND", dps_status_name (st));
        if (!strstr (said.msg, path))
            return dps_fail (err, DPS_ERR_INVALID, "open's refusal does not name the file: \"%.200s\"", said.msg);
    }
    return DPS_OK;
}

/* Written at once and in odd pieces: the same bytes, and all of them come back. */
static DpsStatus round_trip (CheckContext *ctx, DpsError *err)
{
    static CheckContent c;
    CheckFiles files = {.n = 0}, again = {.n = 0};
    char path[PATH_CAP], other[PATH_CAP];
    int folder;
    if (!format_of (ctx)->create)
        return check_skip (err, "the format cannot write");
    DPS_TRY (good_files (ctx, at (ctx, "good", path), &c, &files, err));
    DpsStatus st = check_content_compare (&c, path, err);
    if (st == DPS_OK)
        st = check_content_write (&c, at (ctx, "pieces", other), &(CheckWriting){.piece = 3}, &folder, err);
    if (st == DPS_OK)
        st = check_files_read (other, &again, err);
    for (size_t i = 0; st == DPS_OK && i < files.n; i++)
        if (again.n != files.n || strcmp (files.names[i], again.names[i]) || files.data[i].len != again.data[i].len ||
            (files.data[i].len && memcmp (files.data[i].data, again.data[i].data, files.data[i].len)))
            st = dps_fail (err, DPS_ERR_INVALID, "the same content, written in pieces of 3 bytes, gives another file%s%s",
                           folder ? " " : "", files.names[i]);
    check_files_free (&files);
    check_files_free (&again);
    check_content_free (&c);
    return st;
}

/* Two files are open at once: neither hears of the other. */
static DpsStatus two_at_once (CheckContext *ctx, DpsError *err)
{
    static CheckContent a, b;
    CheckFiles files = {.n = 0};
    CheckContext other = *ctx;
    char path[PATH_CAP], other_path[PATH_CAP];
    int folder;
    if (!format_of (ctx)->create)
        return check_skip (err, "the format cannot write");
    DPS_TRY (good_files (ctx, at (ctx, "good", path), &a, &files, err));
    check_files_free (&files);
    other.seed++;
    DpsStatus st = check_content_open (&other, &b, err);
    if (st == DPS_OK)
        st = check_content_write (&b, at (ctx, "other", other_path), &(CheckWriting){.piece = 0}, &folder, err);
    if (st == DPS_OK && check_content_compare_both (&a, path, &b, other_path, err) != DPS_OK)
        st = dps_error_prefix (err, "two files open at once");
    check_content_free (&b);
    check_content_free (&a);
    return st;
}

/* All of a good file can be used; ranges and numbers past the end cannot. */
static DpsStatus ranges (CheckContext *ctx, DpsError *err)
{
    static CheckContent c;
    CheckFiles files = {.n = 0};
    char path[PATH_CAP];
    uint64_t sum;
    DPS_TRY (good_files (ctx, at (ctx, "good", path), &c, &files, err));
    DpsStatus st = check_content_compare (&c, ctx->sample && !c.format->create ? ctx->sample : path, err);
    if (st == DPS_OK)
        st = check_content_use (c.format, c.format->create ? path : ctx->sample, &sum, err);
    check_files_free (&files);
    check_content_free (&c);
    return st;
}

/* A caller of an older SDK has a smaller struct: nothing is written behind it. */
static DpsStatus older_structs (CheckContext *ctx, DpsError *err)
{
    static CheckContent c;
    CheckFiles files = {.n = 0};
    char path[PATH_CAP];
    struct DpsFormatFile *f = NULL;
    DPS_TRY (good_files (ctx, at (ctx, "good", path), &c, &files, err));
    DpsStatus st = c.format->open (dps_str (c.format->create ? path : ctx->sample), &f, err);
    for (size_t size = sizeof (size_t); st == DPS_OK && size <= sizeof (DpsTensorInfo); size += 8) {
        DpsTensorInfo t;
        memset (&t, 0xA5, sizeof t);
        t.size = size;
        st = c.n_tensors ? c.format->tensor_info (f, 0, &t, err) : DPS_OK;
        for (size_t i = size; st == DPS_OK && i < sizeof t; i++)
            if (((unsigned char *)&t)[i] != 0xA5)
                st = dps_fail (err, DPS_ERR_INVALID, "tensor_info wrote behind the %zu bytes of an older caller's struct", size);
    }
    for (size_t size = offsetof (DpsMeta, v); st == DPS_OK && c.n_meta && size <= sizeof (DpsMeta); size += 8) {
        DpsMeta m;
        memset (&m, 0xA5, sizeof m);
        m.size = size;
        st = c.format->meta (f, 0, &m, err);
        for (size_t i = size; st == DPS_OK && i < sizeof m; i++)
            if (((unsigned char *)&m)[i] != 0xA5)
                st = dps_fail (err, DPS_ERR_INVALID, "meta wrote behind the %zu bytes of an older caller's struct", size);
    }
    c.format->close (f);
    check_files_free (&files);
    check_content_free (&c);
    return st;
}

/* No more memory than the file's own size explains; not under a sanitizer, which maps what it likes. */
static void bound_memory (size_t len)
{
#ifndef __SANITIZE_ADDRESS__
    unsigned long pages = 0;
    FILE *statm = fopen ("/proc/self/statm", "r");
    if (statm && fscanf (statm, "%lu", &pages) == 1) {
        rlim_t most = pages * (rlim_t)sysconf (_SC_PAGESIZE) + 16 * len + (64 << 20);
        setrlimit (RLIMIT_AS, &(struct rlimit){most, most});
    }
    if (statm)
        fclose (statm);
#else
    (void)len;
#endif
}

/* Accepted means: everything in it reads as it did (`same`), or at least reads. */
static DpsStatus damaged (CheckContext *ctx, CheckDamage damage, int same, const char *what, DpsError *err)
{
    static CheckContent c;
    CheckFiles good = {.n = 0}, copy = {.n = 0};
    char path[PATH_CAP], bad[PATH_CAP];
    uint64_t right, sum;
    size_t k = 0, refused = 0;
    DPS_TRY (good_files (ctx, at (ctx, "good", path), &c, &good, err));
    const char *from = c.format->create ? path : ctx->sample;
    DpsStatus st = check_files_read (from, &copy, err);
    at (ctx, "bad", bad);
    if (st == DPS_OK)
        st = check_files_write (&copy, bad, err);
    if (st == DPS_OK)
        st = check_content_use (c.format, bad, &right, err); /* there: a file's name may be its tensor's */
    bound_memory (check_files_bytes (&good));
    for (; st == DPS_OK && damage (ctx->test->data, &copy, &good, k); k++) {
        DpsError said = DPS_ERROR_INIT;
        if ((st = check_files_write (&copy, bad, err)) != DPS_OK)
            break;
        DpsStatus got = check_content_use (c.format, bad, &sum, &said);
        st = check_told (what, got, &said, err);
        refused += got != DPS_OK;
        if (st == DPS_OK && got == DPS_ERR_INTERNAL)
            st = dps_fail (err, DPS_ERR_INVALID, "%s %zu: %.800s", what, k, said.msg);
        else if (st == DPS_OK && got == DPS_ERR_NOMEM)
            st = dps_fail (err, DPS_ERR_INVALID, "%s %zu: asks for more memory than the file's size explains: %.700s", what, k, said.msg);
        else if (st == DPS_OK && same && got == DPS_OK && sum != right)
            st = dps_fail (err, DPS_ERR_INVALID, "%s %zu was opened and read to the end, as something else than was written", what, k);
        for (size_t i = 0; i < good.n; i++) {
            copy.data[i].len = good.data[i].len;
            if (good.data[i].len)
                memcpy (copy.data[i].data, good.data[i].data, good.data[i].len);
        }
    }
    check_note_number (ctx, "tried", (double)k);
    check_note_number (ctx, "refused", (double)refused);
    check_files_free (&good);
    check_files_free (&copy);
    check_content_free (&c);
    return st;
}

static DpsStatus truncated (CheckContext *ctx, DpsError *err) { return damaged (ctx, check_damage_cut, 1, "cut", err); }
static DpsStatus flipped (CheckContext *ctx, DpsError *err) { return damaged (ctx, check_damage_flip, 0, "flipped bit", err); }

/* Nothing stands at a path whose writer did not finish: too few bytes, too many, abandoned, killed. */
static DpsStatus nothing_left (const char *path, const char *how, DpsError *err)
{
    struct stat sb;
    return lstat (path, &sb) ? DPS_OK : dps_fail (err, DPS_ERR_INVALID, "%s, and a file stands there as if it were whole", how);
}

static DpsStatus not_finished (const CheckContent *c, const char *path, DpsError *err)
{
    static const struct {
        CheckWriting how;
        const char *what;
    } ways[] = {{{.miss = 1}, "a byte was missing"}, {{.miss = -1}, "a byte too many came"}, {{.abandon = 1}, "the writer was abandoned"}};
    for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
        CheckWriting how = ways[i].how;
        DpsError said = DPS_ERROR_INIT;
        int folder;
        DpsStatus st = check_content_write (c, path, &how, &folder, &said);
        if (st == DPS_OK && !how.abandon)
            return dps_fail (err, DPS_ERR_INVALID, "%s, and finish says all is well", ways[i].what);
        DPS_TRY (check_told (ways[i].what, st, &said, err));
        DPS_TRY (nothing_left (path, ways[i].what, err));
    }
    return DPS_OK;
}

/* A process that dies half-way. */
static DpsStatus killed (const CheckContent *c, const char *path, DpsError *err)
{
    int folder, status;
    pid_t child = fork ();
    if (child == 0) {
        CheckWriting how = {.kill_at = 2, .abandon = 1};
        check_content_write (c, path, &how, &folder, NULL);
        raise (SIGKILL);
    }
    if (child < 0 || waitpid (child, &status, 0) != child)
        return dps_fail (err, DPS_ERR_IO, "check: fork: %s", strerror (errno));
    /* A folder may hold members that are whole: what matters is that it does not open as one. */
    uint64_t sum;
    if (dps_is_dir (path) && check_content_use (c->format, path, &sum, err) == DPS_OK)
        return dps_fail (err, DPS_ERR_INVALID,
                         "the process was killed between create and finish, and the folder opens as if it were whole");
    return dps_is_dir (path) ? dps_remove_tree (path, err) : nothing_left (path, "the process was killed between create and finish", err);
}

static DpsStatus unfinished (CheckContext *ctx, DpsError *err)
{
    static CheckContent c;
    CheckFiles files = {.n = 0};
    char path[PATH_CAP];
    if (!format_of (ctx)->create)
        return check_skip (err, "the format cannot write");
    DPS_TRY (good_files (ctx, at (ctx, "good", path), &c, &files, err));
    DpsStatus st = not_finished (&c, at (ctx, "unfinished", path), err);
    if (st == DPS_OK)
        st = killed (&c, path, err);
    check_files_free (&files);
    check_content_free (&c);
    return st;
}

/* Each call of the stream fails once: its own error comes back, and nothing leaks. */
static DpsStatus stream_fails (CheckContext *ctx, DpsError *err)
{
    static CheckContent c;
    CheckFiles files = {.n = 0};
    char path[PATH_CAP];
    int folder, done = 0;
    if (!format_of (ctx)->create)
        return check_skip (err, "the format cannot write");
    DPS_TRY (check_heap_watch ((const void *)format_of (ctx)->open, err));
    DPS_TRY (good_files (ctx, at (ctx, "good", path), &c, &files, err));
    at (ctx, "full", path);
    DpsStatus st = DPS_OK;
    int64_t before = alloc_hook_live ();
    for (uint64_t k = 1; st == DPS_OK && !done && k < 400; k += 1 + k / 16) {
        DpsError said = DPS_ERROR_INIT;
        CheckWriting how = {.fail_at = k};
        DpsStatus got = check_content_write (&c, path, &how, &folder, &said);
        done = how.n_calls < k;
        if (!done && (got != DPS_ERR_IO || !strstr (said.msg, "the disk is full")))
            st = dps_fail (err, DPS_ERR_INVALID,
                           "call %llu of the stream failed (IO, \"the disk is full\") and the writer says %s \"%.200s\"",
                           (unsigned long long)k, dps_status_name (got), got ? said.msg : "");
        else if (!done && alloc_hook_live () != before)
            st = dps_fail (err, DPS_ERR_INVALID, "call %llu of the stream failed, and %lld blocks were left behind", (unsigned long long)k,
                           (long long)(alloc_hook_live () - before));
        dps_remove_tree (path, NULL);
    }
    check_files_free (&files);
    check_content_free (&c);
    return st;
}

/* A file opened, used and closed; and written, where it can be. */
static DpsStatus life (CheckContext *ctx, const CheckContent *c, DpsError *err)
{
    char path[PATH_CAP];
    uint64_t sum;
    int folder;
    at (ctx, "life", path);
    if (c->format->create) {
        dps_remove_tree (path, NULL);
        DPS_TRY (check_content_write (c, path, &(CheckWriting){.piece = 0}, &folder, err));
    }
    return check_content_use (c->format, c->format->create ? path : ctx->sample, &sum, err);
}

static DpsStatus memory (CheckContext *ctx, int fail, DpsError *err)
{
    static CheckContent c;
    CheckFiles files = {.n = 0};
    char path[PATH_CAP];
    DPS_TRY (check_heap_watch ((const void *)format_of (ctx)->open, err));
    DPS_TRY (good_files (ctx, at (ctx, "good", path), &c, &files, err));
    DpsStatus st = life (ctx, &c, err);
    for (uint64_t k = 1; st == DPS_OK && k < (fail ? 5000 : 10); k += fail ? 1 + k / 32 : 1) { /* later ones are much like earlier ones */
        DpsError said = DPS_ERROR_INIT;
        int64_t before = alloc_hook_live ();
        alloc_hook_fail_at (fail ? k : 0);
        DpsStatus got = life (ctx, &c, &said);
        uint64_t made = alloc_hook_count ();
        alloc_hook_fail_at (0);
        st = check_told ("without memory", got, &said, err);
        if (st == DPS_OK && got != DPS_OK && (!fail || got != DPS_ERR_NOMEM))
            st = dps_fail (err, DPS_ERR_INVALID, "allocation %llu failed: %s \"%.300s\", expected NOMEM", (unsigned long long)k,
                           dps_status_name (got), said.msg);
        if (st == DPS_OK && alloc_hook_live () != before)
            st = dps_fail (err, DPS_ERR_INVALID,
                           fail ? "allocation %llu failed, and %lld blocks were left behind" : "use %llu of a file left %lld blocks behind",
                           (unsigned long long)k, (long long)(alloc_hook_live () - before));
        if (fail && made < k)
            break;
    }
    check_files_free (&files);
    check_content_free (&c);
    return st;
}

static DpsStatus leaks (CheckContext *ctx, DpsError *err) { return memory (ctx, 0, err); }
static DpsStatus allocations (CheckContext *ctx, DpsError *err) { return memory (ctx, 1, err); }
static DpsStatus older_host (CheckContext *ctx, DpsError *err) { return check_older_hosts ((const void *)format_of (ctx)->open, err); }

#define WITH_ALL(function)                                                                                                                 \
    {                                                                                                                                      \
        .name = #function, .flags = CHECK_ALL_PLUGINS, .run = function                                                                     \
    }

static const CheckCase cases[] = {
    CHECK_CASE (describe, 0, 0),
    WITH_ALL (probe),
    WITH_ALL (refuses),
    WITH_ALL (round_trip),
    WITH_ALL (two_at_once),
    WITH_ALL (ranges),
    WITH_ALL (older_structs),
    {.name = "truncated", .flags = CHECK_ALL_PLUGINS, .run = truncated, .data = &few},
    {.name = "flipped", .flags = CHECK_ALL_PLUGINS, .run = flipped, .data = &few},
    {.name = "truncated_often", .flags = CHECK_ALL_PLUGINS | CHECK_LONG, .run = truncated, .data = &many, .timeout_s = 600},
    {.name = "flipped_often", .flags = CHECK_ALL_PLUGINS | CHECK_LONG, .run = flipped, .data = &many, .timeout_s = 600},
    WITH_ALL (unfinished),
    WITH_ALL (stream_fails),
    WITH_ALL (leaks),
    {.name = "allocations", .flags = CHECK_ALL_PLUGINS, .run = allocations, .timeout_s = 300},
    CHECK_CASE (older_host, 0, 0),
};

const CheckSuite check_suite_format = {.name = "format",
                                       .interface_id = DPS_FORMAT_ID,
                                       .summary = "a format as a reader of hostile bytes and a writer that loses none",
                                       .cases = cases,
                                       .n_cases = sizeof cases / sizeof *cases};
