/* SPDX-License-Identifier: Apache-2.0 */
#include "plugin/ledger.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/file.h"
#include "plugin/module.h"
#include "plugin/trust.h"

enum { MAX_LEDGER = 1 << 20 };

char *dps__ledger_path (void)
{
    const char *state = getenv ("XDG_STATE_HOME"), *home = getenv ("HOME");
    if (!dps__environment_counts ())
        return NULL;
    if (state && state[0] == '/')
        return dps_path_join (state, "diapason/plugins");
    return home && home[0] == '/' ? dps_path_join (home, ".local/state/diapason/plugins") : NULL;
}

/* The folder of the file, its last component cut off; dps_free. */
static char *folder_of (const char *path) { return dps_strndup (path, (size_t)(strrchr (path, '/') - path)); }

/* Empty when there is nothing that can be believed: then unknown plugins are probed again, which costs time only. */
static void read_all (const char *path, DpsBuf *out)
{
    DpsFolder folder = {.fd = -1};
    DpsError why = DPS_ERROR_INIT;
    char *dir = folder_of (path);
    int fd = -1;
    if (dir && dps__folder_open (dir, &folder, &why) == DPS_OK &&
        dps__folder_file (&folder, strrchr (path, '/') + 1, &fd, &why) == DPS_OK &&
        dps__fd_read (fd, path, MAX_LEDGER, out, &why) != DPS_OK)
        out->len = 0;
    if (fd >= 0)
        close (fd);
    dps__folder_close (&folder);
    dps_free (dir);
}

/* The next word of a line that ends at `end`, into out (cut); where it ended. */
static const char *word (const char *at, const char *end, char *out, size_t room)
{
    while (at < end && *at == ' ')
        at++;
    size_t n = 0;
    for (; at < end && *at != ' '; at++)
        if (n + 1 < room)
            out[n++] = *at;
    out[n] = '\0';
    return at;
}

static int parse (const char *at, const char *end, char hex[65], DpsLedgerLine *out)
{
    char verdict[16];
    *out = (DpsLedgerLine){.verdict = DPS_LEDGER_UNKNOWN};
    at = word (at, end, verdict, sizeof verdict);
    at = word (at, end, hex, 65);
    at = word (at, end, out->id, sizeof out->id);
    if (strlen (hex) != 64 || strspn (hex, "0123456789abcdef") != 64)
        return 0;
    if (!strcmp (verdict, "good"))
        out->verdict = DPS_LEDGER_GOOD;
    else if (!strcmp (verdict, "quarantined")) {
        out->verdict = DPS_LEDGER_QUARANTINED;
        at = word (at, end, out->date, sizeof out->date);
        while (at < end && *at == ' ')
            at++;
        size_t n = (size_t)(end - at) < sizeof out->reason - 1 ? (size_t)(end - at) : sizeof out->reason - 1;
        memcpy (out->reason, at, n);
        out->reason[n] = '\0';
        dps__one_line (out->reason);
    }
    return out->verdict != DPS_LEDGER_UNKNOWN;
}

/* Calls for each sound line; one of `digest` goes to *found, others are appended to `rest` when there is one. */
static int scan (const DpsBuf *text, const char *digest, DpsLedgerLine *found, DpsBuf *rest)
{
    char hex[65];
    int bad = 0;
    const char *stop = text->len ? text->data + text->len : NULL;
    for (const char *at = text->data; at && at < stop;) {
        DpsLedgerLine line;
        const char *end = memchr (at, '\n', (size_t)(stop - at));
        end = end ? end : stop;
        if (parse (at, end, hex, &line)) {
            if (!strcmp (hex, digest))
                *found = line;
            else if (rest)
                bad |= dps_buf_add (rest, at, (size_t)(end - at)) || dps_buf_str (rest, "\n");
        }
        at = end + 1;
    }
    return bad;
}

DpsLedgerLine dps__ledger_find (const char *path, const DpsDigest *digest)
{
    DpsLedgerLine line = {.verdict = DPS_LEDGER_UNKNOWN};
    DpsBuf text = {0};
    if (path)
        read_all (path, &text);
    scan (&text, digest->hex, &line, NULL);
    dps_buf_free (&text);
    return line;
}

static int add_line (DpsBuf *to, const char *hex, const DpsLedgerLine *line)
{
    char date[11] = "";
    time_t now = time (NULL);
    struct tm day;
    if (line->verdict == DPS_LEDGER_UNKNOWN)
        return 0;
    if (line->verdict == DPS_LEDGER_GOOD)
        return dps_buf_printf (to, "good %s %s\n", hex, line->id);
    if (gmtime_r (&now, &day))
        strftime (date, sizeof date, "%Y-%m-%d", &day);
    return dps_buf_printf (to, "quarantined %s %s %s %s\n", hex, line->id, date, line->reason);
}

DpsStatus dps__ledger_set (const char *path, const DpsDigest *digest, const DpsLedgerLine *line, DpsError *err)
{
    DpsLedgerLine before;
    DpsBuf old = {0}, text = {0};
    if (!path)
        return dps_fail (err, DPS_ERR_UNSUPPORTED, "there is no state folder to remember plugins in. Hint: set HOME or XDG_STATE_HOME");
    char *dir = folder_of (path);
    DpsStatus st = dir ? dps_mkdirs (dir, err) : dps_fail (err, DPS_ERR_NOMEM, "%s: out of memory", path);
    read_all (path, &old);
    if (st == DPS_OK && access (path, F_OK) == 0 && !dps_is_file (path)) /* writing to a pipe would wait for its reader */
        st = dps_fail (err, DPS_ERR_POLICY, "%s: not a regular file", path);
    if (st == DPS_OK && (scan (&old, digest->hex, &before, &text) || add_line (&text, digest->hex, line)))
        st = dps_fail (err, DPS_ERR_NOMEM, "%s: out of memory", path);
    if (st == DPS_OK)
        st = dps_file_write (path, text.len ? text.data : "", text.len, err);
    dps_buf_free (&old);
    dps_buf_free (&text);
    dps_free (dir);
    return st;
}
