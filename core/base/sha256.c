/* SPDX-License-Identifier: Apache-2.0 */
#include "base/sha256.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"

struct DpsHasher {
    EVP_MD_CTX *ctx;
    int failed;
};

DpsHasher *dps_hasher_new (void)
{
    DpsHasher *h = dps_calloc (1, sizeof *h);
    if (!h)
        return NULL;
    h->ctx = EVP_MD_CTX_new ();
    if (!h->ctx || EVP_DigestInit_ex (h->ctx, EVP_sha256 (), NULL) != 1) {
        EVP_MD_CTX_free (h->ctx);
        dps_free (h);
        return NULL;
    }
    return h;
}

void dps_hasher_add (DpsHasher *h, const void *data, size_t len)
{
    if (len && EVP_DigestUpdate (h->ctx, data, len) != 1)
        h->failed = 1;
}

DpsStatus dps_hasher_final (DpsHasher *h, DpsDigest *out, DpsError *err)
{
    unsigned char md[EVP_MAX_MD_SIZE];
    unsigned int n = 0;
    int ok = !h->failed && EVP_DigestFinal_ex (h->ctx, md, &n) == 1 && n == 32;
    EVP_MD_CTX_free (h->ctx);
    dps_free (h);
    if (!ok)
        return dps_fail (err, DPS_ERR_INTERNAL, "SHA-256 failed in libcrypto");
    for (int i = 0; i < 32; i++) {
        out->hex[2 * i] = "0123456789abcdef"[md[i] >> 4];
        out->hex[2 * i + 1] = "0123456789abcdef"[md[i] & 15];
    }
    out->hex[64] = '\0';
    return DPS_OK;
}

DpsStatus dps_sha256 (const void *data, size_t len, DpsDigest *out, DpsError *err)
{
    DpsHasher *h = dps_hasher_new ();
    if (!h)
        return dps_fail (err, DPS_ERR_NOMEM, "out of memory");
    dps_hasher_add (h, data, len);
    return dps_hasher_final (h, out, err);
}

DpsStatus dps_sha256_file (const char *path, DpsDigest *out, DpsError *err)
{
    const size_t piece = 1 << 20;
    int fd = open (path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a pipe nobody writes to is opened at once */
    if (fd < 0)
        return dps_fail (err, errno == ENOENT ? DPS_ERR_NOT_FOUND : DPS_ERR_IO, "%s: cannot open: %s", path, strerror (errno));
    struct stat sb;
    if (fstat (fd, &sb) != 0 || !S_ISREG (sb.st_mode)) { /* a device has no end */
        close (fd);
        return dps_fail (err, DPS_ERR_IO, "%s: not a regular file", path);
    }
    DpsHasher *h = dps_hasher_new ();
    char *buffer = dps_malloc (piece, 1);
    DpsStatus st = h && buffer ? DPS_OK : dps_fail (err, DPS_ERR_NOMEM, "%s: out of memory", path);
    while (st == DPS_OK) {
        ssize_t n = read (fd, buffer, piece);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            st = dps_fail (err, DPS_ERR_IO, "%s: cannot read: %s", path, strerror (errno));
        if (n <= 0)
            break;
        dps_hasher_add (h, buffer, (size_t)n);
    }
    close (fd);
    dps_free (buffer);
    if (h) {
        DpsDigest digest;
        DpsStatus done = dps_hasher_final (h, &digest, st == DPS_OK ? err : NULL);
        if (st == DPS_OK && (st = done) == DPS_OK)
            *out = digest;
    }
    return st;
}
