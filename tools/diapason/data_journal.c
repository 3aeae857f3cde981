/* SPDX-License-Identifier: Apache-2.0 */
/* data_journal.c: the lines that `data simulate` has written so far: each is synced, and a run that asks the same goes on behind the last. */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "base/file.h"
#include "diapason/data.h"

static DpsStatus failed (const DataJournal *j, DpsError *err) { return dps_fail (err, DPS_ERR_IO, "%s: %s", j->path, strerror (errno)); }

static DpsStatus write_all (const DataJournal *j, const char *data, size_t len, DpsError *err)
{
    while (len) {
        ssize_t n = write (j->fd, data, len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return failed (j, err);
        data += n;
        len -= (size_t)n;
    }
    return fdatasync (j->fd) ? failed (j, err) : DPS_OK;
}

/* The journal goes on after its last whole line when its first says the same, else it begins anew. */
static DpsStatus find_end (DataJournal *j, const char *what, DpsError *err)
{
    DpsMap map;
    size_t len = strlen (what), end = 0;
    DPS_TRY (dps_map_open (j->path, &map, err));
    const char *text = (const char *)map.data, *line;
    if (map.len > len && !memcmp (text, what, len) && text[len] == '\n')
        end = len + 1;
    for (size_t at = end; at && at < map.len && (line = memchr (text + at, '\n', map.len - at)); j->n++)
        at = end = (size_t)(line - text) + 1;
    dps_map_close (&map);
    if (ftruncate (j->fd, (off_t)end) || lseek (j->fd, 0, SEEK_END) < 0)
        return failed (j, err);
    if (end)
        return DPS_OK;
    DPS_TRY (write_all (j, what, len, err));
    return write_all (j, "\n", 1, err);
}

DpsStatus data_journal_open (const char *out, const char *what, DataJournal *j, DpsError *err)
{
    *j = (DataJournal){.path = dps_strf ("%s.partial", out), .fd = -1};
    if (!j->path)
        return dps_fail (err, DPS_ERR_NOMEM, "%s: out of memory", out);
    j->fd = open (j->path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0666);
    if (j->fd < 0)
        return failed (j, err);
    if (flock (j->fd, LOCK_EX | LOCK_NB))
        return dps_fail (err, DPS_ERR_LOCK, "%s: another process is writing it", j->path);
    return find_end (j, what, err);
}

DpsStatus data_journal_add (DataJournal *j, const DpsBuf *lines, uint64_t n, DpsError *err)
{
    DPS_TRY (write_all (j, lines->data, lines->len, err));
    j->n += n;
    return DPS_OK;
}

DpsStatus data_journal_read (const DataJournal *j, DpsStatus (*visit) (void *ctx, char what, DpsStr line, DpsError *err), void *ctx,
                             DpsError *err)
{
    DpsMap map;
    DPS_TRY (dps_map_open (j->path, &map, err));
    DpsStatus st = DPS_OK;
    const char *text = (const char *)map.data, *at = memchr (text, '\n', map.len), *end = text + map.len, *next;
    for (at = at ? at + 1 : end; st == DPS_OK && at < end && (next = memchr (at, '\n', (size_t)(end - at))); at = next + 1)
        st = visit (ctx, *at, (DpsStr){at + 1, (size_t)(next - at) - 1}, err);
    dps_map_close (&map);
    return st;
}

void data_journal_close (DataJournal *j, int remove)
{
    if (remove)
        unlink (j->path);
    if (j->fd >= 0)
        close (j->fd);
    dps_free (j->path);
    *j = (DataJournal){.fd = -1};
}
