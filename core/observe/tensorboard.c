/* SPDX-License-Identifier: Apache-2.0 */
/* tensorboard.c: the protobuf is written by hand: five fields that have not changed since 2015 do not earn a code generator in the build.
 */
#include "observe/tensorboard.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"

struct DpsTensorboard {
    char *path;
    int fd;
    DpsBuf record, event, value; /* scratch, kept between events */
};

uint32_t dps_crc32c (const void *data, size_t len)
{
    const unsigned char *p = data;
    uint32_t c = ~0u;
    for (size_t i = 0; i < len; i++) {
        c ^= p[i];
        for (int bit = 0; bit < 8; bit++)
            c = (c >> 1) ^ (0x82f63b78u & (0u - (c & 1)));
    }
    return ~c;
}

static uint32_t masked (uint32_t c) { return ((c >> 15) | (c << 17)) + 0xa282ead8u; }

static int add_le (DpsBuf *b, uint64_t v, size_t bytes)
{
    unsigned char raw[8];
    for (size_t i = 0; i < bytes; i++)
        raw[i] = (unsigned char)(v >> (8 * i));
    return dps_buf_add (b, raw, bytes);
}

static int add_varint (DpsBuf *b, uint64_t v)
{
    unsigned char raw[10];
    size_t n = 0;
    do {
        raw[n++] = (unsigned char)((v & 0x7f) | (v > 0x7f ? 0x80 : 0));
        v >>= 7;
    } while (v);
    return dps_buf_add (b, raw, n);
}

/* Wire types of protobuf. */
enum { WIRE_VARINT = 0, WIRE_F64 = 1, WIRE_BYTES = 2, WIRE_F32 = 5 };
enum { EVENT_WALL_TIME = 1, EVENT_STEP = 2, EVENT_FILE_VERSION = 3, EVENT_SUMMARY = 5, EVENT_SESSION = 7 };

static int add_key (DpsBuf *b, unsigned field, unsigned wire) { return add_varint (b, field << 3 | wire); }

static int add_f64 (DpsBuf *b, unsigned field, double v)
{
    uint64_t bits;
    memcpy (&bits, &v, sizeof bits);
    return add_key (b, field, WIRE_F64) || add_le (b, bits, 8);
}

static int add_f32 (DpsBuf *b, unsigned field, float v)
{
    uint32_t bits;
    memcpy (&bits, &v, sizeof bits);
    return add_key (b, field, WIRE_F32) || add_le (b, bits, 4);
}

static int add_bytes (DpsBuf *b, unsigned field, const char *data, size_t len)
{
    return add_key (b, field, WIRE_BYTES) || add_varint (b, len) || dps_buf_add (b, data, len);
}

static int begin_event (DpsTensorboard *t, double wall_time, int64_t step)
{
    t->event.len = 0;
    return add_f64 (&t->event, EVENT_WALL_TIME, wall_time) || add_key (&t->event, EVENT_STEP, WIRE_VARINT) ||
           add_varint (&t->event, (uint64_t)step);
}

/* One write per record: a reader that follows the file never sees half of one for long. */
static DpsStatus end_event (DpsTensorboard *t, DpsError *err)
{
    DpsBuf *r = &t->record;
    r->len = 0;
    if (add_le (r, t->event.len, 8) || add_le (r, masked (dps_crc32c (r->data, 8)), 4) || dps_buf_add (r, t->event.data, t->event.len) ||
        add_le (r, masked (dps_crc32c (t->event.data, t->event.len)), 4))
        return dps_fail (err, DPS_ERR_NOMEM, "%s: out of memory", t->path);
    for (size_t done = 0; done < r->len;) {
        ssize_t n = write (t->fd, r->data + done, r->len - done);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return dps_fail (err, DPS_ERR_IO, "%s: cannot write: %s", t->path, strerror (n == 0 ? ENOSPC : errno));
        done += (size_t)n;
    }
    return DPS_OK;
}

/* events.out.tfevents.<seconds>.<host>.<pid>.<n>: n tells files of one process and second apart. */
static char *event_path (const char *folder, double wall_time)
{
    static _Atomic unsigned n_files;
    char host[256];
    if (gethostname (host, sizeof host) != 0)
        snprintf (host, sizeof host, "localhost");
    host[sizeof host - 1] = '\0';
    for (char *c = host; *c; c++)
        if (*c == '/' || (unsigned char)*c < ' ')
            *c = '_';
    return dps_strf ("%s/events.out.tfevents.%lld.%s.%ld.%u", folder, (long long)wall_time, host, (long)getpid (),
                     atomic_fetch_add (&n_files, 1));
}

DpsStatus dps_tensorboard_open (const char *folder, double wall_time, int64_t resumed_step, DpsTensorboard **out, DpsError *err)
{
    static const char version[] = "brain.Event:2", start[] = {1 << 3 | WIRE_VARINT, 1};
    DPS_TRY (dps_mkdirs (folder, err));
    DpsTensorboard *t = dps_calloc (1, sizeof *t);
    if (!t || !(t->path = event_path (folder, wall_time))) {
        dps_free (t);
        return dps_fail (err, DPS_ERR_NOMEM, "%s: out of memory", folder);
    }
    DpsStatus st = DPS_OK;
    t->fd = open (t->path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_APPEND, 0644);
    if (t->fd < 0)
        st = dps_fail (err, DPS_ERR_IO, "%s: cannot create: %s", t->path, strerror (errno));
    if (st == DPS_OK)
        st = begin_event (t, wall_time, 0) || add_bytes (&t->event, EVENT_FILE_VERSION, version, sizeof version - 1)
                 ? dps_fail (err, DPS_ERR_NOMEM, "%s: out of memory", t->path)
                 : end_event (t, err);
    if (st == DPS_OK && resumed_step >= 0)
        st = begin_event (t, wall_time, resumed_step + 1) || add_bytes (&t->event, EVENT_SESSION, start, sizeof start)
                 ? dps_fail (err, DPS_ERR_NOMEM, "%s: out of memory", t->path)
                 : end_event (t, err);
    if (st != DPS_OK) {
        dps_tensorboard_close (t);
        return st;
    }
    *out = t;
    return DPS_OK;
}

/* Summary.value: { 1 tag, 2 simple_value } */
static int add_scalar (DpsBuf *summary, DpsBuf *scratch, const char *key, double v)
{
    int is_eval = strncmp (key, "eval_", 5) == 0;
    char *tag = dps_strf ("%s/%s", is_eval ? "eval" : "train", is_eval ? key + 5 : key);
    scratch->len = 0;
    int bad = !tag || add_bytes (scratch, 1, tag, strlen (tag)) || add_f32 (scratch, 2, (float)v) ||
              add_bytes (summary, 1, scratch->data, scratch->len);
    dps_free (tag);
    return bad;
}

DpsStatus dps_tensorboard_add (DpsTensorboard *t, double wall_time, int64_t step, const json_t *object, DpsError *err)
{
    const char *key;
    json_t *v;
    DpsBuf summary = {0};
    int bad = 0;
    json_object_foreach ((json_t *)object, key, v) {
        if (bad || !strcmp (key, "step") || !(json_is_number (v) || json_is_null (v)))
            continue;
        bad = add_scalar (&summary, &t->value, key, json_is_null (v) ? NAN : json_number_value (v));
    }
    bad = bad || begin_event (t, wall_time, step) || add_bytes (&t->event, EVENT_SUMMARY, summary.data ? summary.data : "", summary.len);
    dps_buf_free (&summary);
    return bad ? dps_fail (err, DPS_ERR_NOMEM, "%s: out of memory", t->path) : end_event (t, err);
}

DpsStatus dps_tensorboard_sync (DpsTensorboard *t, DpsError *err)
{
    return fsync (t->fd) == 0 ? DPS_OK : dps_fail (err, DPS_ERR_IO, "%s: cannot sync: %s", t->path, strerror (errno));
}

void dps_tensorboard_close (DpsTensorboard *t)
{
    if (!t)
        return;
    if (t->fd >= 0)
        close (t->fd);
    dps_buf_free (&t->record);
    dps_buf_free (&t->event);
    dps_buf_free (&t->value);
    dps_free (t->path);
    dps_free (t);
}
