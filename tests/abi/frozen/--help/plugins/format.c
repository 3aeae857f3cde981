/* SPDX-License-Identifier: Apache-2.0 */
/*
 * format.c: reads NumPy's .npy (versions 1 to 3) when it holds little-endian f32 in C order: one tensor, named after the file.
 * Layout: "\x93NUMPY", major, minor, header length (u16, from version 2 on u32), a Python dict as text, the data.
 * Reference: numpy.lib.format. Every byte is hostile: lengths are checked before use and nothing is allocated from them.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "base/status.h"
#include "diapason/diapason.h"
#include "diapason/sdk.h"

enum { MAX_HEADER = 4096, MAX_RANK = 8 };

struct DpsFormatFile {
    int fd;
    char *path;
    const char *name;
    size_t name_len;
    int64_t shape[MAX_RANK];
    uint32_t rank;
    uint64_t n_elements, data_offset;
};

static const unsigned char magic[6] = {0x93, 'N', 'U', 'M', 'P', 'Y'};

static int32_t probe (DpsStr path, const void *head, size_t head_len)
{
    (void)path;
    return head_len >= sizeof magic && !memcmp (head, magic, sizeof magic) ? 100 : 0;
}

static DpsStatus read_at (const struct DpsFormatFile *f, uint64_t offset, void *to, uint64_t len, DpsError *err)
{
    char *p = to;
    while (len) {
        ssize_t n = pread (f->fd, p, len < 1 << 30 ? (size_t)len : 1 << 30, (off_t)offset);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return dps_fail (err, n ? DPS_ERR_IO : DPS_ERR_FORMAT, "%s: byte %llu: %s", f->path, (unsigned long long)offset,
                             n ? strerror (errno) : "the file ends here");
        p += n;
        offset += (uint64_t)n;
        len -= (uint64_t)n;
    }
    return DPS_OK;
}

/* The text after 'key': in the header, blanks skipped; NULL when there is none. */
static const char *value_of (const char *header, const char *key)
{
    const char *at = strstr (header, key);
    if (!at)
        return NULL;
    at += strlen (key);
    return at + strspn (at, " ");
}

/* shape: "(2, 3)", "(5,)" or "()". */
static DpsStatus parse_shape (struct DpsFormatFile *f, const char *at, DpsError *err)
{
    f->n_elements = 1;
    while (*++at != ')') {
        char *end;
        at += strspn (at, " ,");
        if (*at == ')')
            break;
        errno = 0;
        long long n = strtoll (at, &end, 10);
        if (end == at || errno || n < 0 || f->rank == MAX_RANK || __builtin_mul_overflow (f->n_elements, (uint64_t)n, &f->n_elements))
            return dps_fail (err, DPS_ERR_FORMAT, "%s: shape: expected at most %d dimensions whose product fits", f->path, MAX_RANK);
        f->shape[f->rank++] = n;
        at = end - 1;
    }
    return DPS_OK;
}

static DpsStatus parse_header (struct DpsFormatFile *f, DpsError *err)
{
    unsigned char head[12];
    char text[MAX_HEADER + 1];
    struct stat sb;
    DPS_TRY (read_at (f, 0, head, sizeof head, err));
    if (memcmp (head, magic, sizeof magic) || head[6] < 1 || head[6] > 3)
        return dps_fail (err, DPS_ERR_FORMAT, "%s: not a .npy file of version 1 to 3", f->path);
    size_t start = head[6] == 1 ? 10 : 12, len = head[8] | (size_t)head[9] << 8;
    if (head[6] > 1)
        len |= (size_t)head[10] << 16 | (size_t)head[11] << 24;
    if (len > MAX_HEADER)
        return dps_fail (err, DPS_ERR_LIMIT, "%s: header of %zu bytes, at most %d", f->path, len, MAX_HEADER);
    DPS_TRY (read_at (f, start, text, len, err));
    text[len] = '\0';
    const char *dtype = value_of (text, "'descr':"), *order = value_of (text, "'fortran_order':"), *shape = value_of (text, "'shape':");
    if (!dtype || !order || !shape || *shape != '(' || !strchr (shape, ')'))
        return dps_fail (err, DPS_ERR_FORMAT, "%s: the header lacks descr, fortran_order or shape", f->path);
    if (strncmp (dtype, "'<f4'", 5) || strncmp (order, "False", 5))
        return dps_fail (err, DPS_ERR_UNSUPPORTED, "%s: descr %.8s, fortran_order %.5s; only '<f4' in C order has a reader", f->path, dtype,
                         order);
    DPS_TRY (parse_shape (f, shape, err));
    f->data_offset = start + len;
    uint64_t bytes;
    if (fstat (f->fd, &sb) || __builtin_mul_overflow (f->n_elements, (uint64_t)4, &bytes) || bytes != (uint64_t)sb.st_size - f->data_offset)
        return dps_fail (err, DPS_ERR_FORMAT, "%s: %lld bytes, which is not what its shape needs", f->path, (long long)sb.st_size);
    return DPS_OK;
}

static void close_file (struct DpsFormatFile *f)
{
    if (!f)
        return;
    if (f->fd >= 0)
        close (f->fd);
    dps_free (f->path);
    dps_free (f);
}

static DpsStatus open_file (DpsStr path, struct DpsFormatFile **out, DpsError *err)
{
    struct DpsFormatFile *f = dps_calloc (1, sizeof *f);
    if (!f || !(f->path = dps_strndup (path.ptr, path.len))) {
        dps_free (f);
        return dps_fail (err, DPS_ERR_NOMEM, "npy: out of memory");
    }
    f->fd = open (f->path, O_RDONLY | O_CLOEXEC);
    DpsStatus st = DPS_OK;
    if (f->fd < 0)
        st = dps_fail (err, errno == ENOENT ? DPS_ERR_NOT_FOUND : DPS_ERR_IO, "%s: cannot open: %s", f->path, strerror (errno));
    else
        st = parse_header (f, err);
    if (st != DPS_OK) {
        close_file (f);
        return st;
    }
    const char *slash = strrchr (f->path, '/');
    f->name = slash ? slash + 1 : f->path;
    const char *dot = strrchr (f->name, '.');
    f->name_len = dot && dot > f->name ? (size_t)(dot - f->name) : strlen (f->name);
    *out = f;
    return DPS_OK;
}

static DpsStatus info (struct DpsFormatFile *f, uint64_t *out_n_tensors, uint64_t *out_n_meta, DpsError *err)
{
    (void)f;
    (void)err;
    if (out_n_tensors)
        *out_n_tensors = 1;
    if (out_n_meta)
        *out_n_meta = 0;
    return DPS_OK;
}

static DpsStatus check_index (const struct DpsFormatFile *f, uint64_t i, DpsError *err)
{
    return i == 0 ? DPS_OK : dps_fail (err, DPS_ERR_INVALID, "%s: one tensor, asked for number %llu", f->path, (unsigned long long)i);
}

static DpsStatus tensor_info (struct DpsFormatFile *f, uint64_t i, DpsTensorInfo *out, DpsError *err)
{
    DPS_TRY (check_index (f, i, err));
    const DpsTensorInfo mine = {.size = sizeof mine,
                                .name = {f->name, f->name_len},
                                .dtype = {"F32", 3},
                                .rank = f->rank,
                                .shape = f->shape,
                                .n_elements = f->n_elements,
                                .bytes = 4 * f->n_elements,
                                .file_offset = f->data_offset};
    size_t theirs = out->size;
    memcpy (out, &mine, theirs < sizeof mine ? theirs : sizeof mine);
    out->size = theirs;
    return DPS_OK;
}

static DpsStatus meta (struct DpsFormatFile *f, uint64_t i, DpsMeta *out, DpsError *err)
{
    (void)out;
    return dps_fail (err, DPS_ERR_INVALID, "%s: no metadata, asked for number %llu", f->path, (unsigned long long)i);
}

static DpsStatus read_bytes (struct DpsFormatFile *f, uint64_t i, uint64_t offset, uint64_t len, void *dst, DpsError *err)
{
    DPS_TRY (check_index (f, i, err));
    if (offset > 4 * f->n_elements || len > 4 * f->n_elements - offset)
        return dps_fail (err, DPS_ERR_SHAPE, "%s: bytes %llu+%llu lie outside the tensor", f->path, (unsigned long long)offset,
                         (unsigned long long)len);
    return read_at (f, f->data_offset + offset, dst, len, err);
}

static DpsStatus read_f32 (struct DpsFormatFile *f, uint64_t i, uint64_t first, uint64_t n, float *dst, DpsError *err)
{
    if (first > f->n_elements || n > f->n_elements - first)
        return dps_fail (err, DPS_ERR_SHAPE, "%s: elements %llu+%llu lie outside the tensor", f->path, (unsigned long long)first,
                         (unsigned long long)n);
    return read_bytes (f, i, 4 * first, 4 * n, dst, err);
}

static const DpsFormat format = {.size = sizeof format,
                                 .name = "npy",
                                 .extensions = ".npy",
                                 .probe = probe,
                                 .open = open_file,
                                 .close = close_file,
                                 .info = info,
                                 .tensor_info = tensor_info,
                                 .meta = meta,
                                 .read = read_bytes,
                                 .read_f32 = read_f32};

DPS_PLUGIN_ONE (DPS_FORMAT_ID, format);
