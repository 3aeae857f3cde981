/* SPDX-License-Identifier: Apache-2.0 */
#include "plugin/sign.h"

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <stdio.h>
#include <string.h>

enum { SIGNATURE_BYTES = 64 };

size_t dps__signed_bytes (const char *text, size_t len)
{
    static const char head[] = "signature=";
    size_t end = len;
    while (end && (text[end - 1] == '\n' || text[end - 1] == '\r'))
        end--;
    const char *line = end ? memrchr (text, '\n', end) : NULL;
    size_t at = line ? (size_t)(line - text) + 1 : 0;
    return line && end - at > sizeof head - 1 && !memcmp (text + at, head, sizeof head - 1) ? at : 0;
}

/* A passphrase is never asked for: there may be nobody at the terminal. */
static int no_passphrase (char *buf, int size, int writing, void *ctx)
{
    (void)buf, (void)size, (void)writing, (void)ctx;
    return 0;
}

static DpsStatus read_key (const DpsBuf *text, const char *where, int secret, EVP_PKEY **out, DpsError *err)
{
    BIO *bio = BIO_new_mem_buf (text->len ? text->data : "", (int)text->len);
    if (!bio)
        return dps_fail (err, DPS_ERR_NOMEM, "%s: out of memory", where);
    *out = secret ? PEM_read_bio_PrivateKey (bio, NULL, no_passphrase, NULL) : PEM_read_bio_PUBKEY (bio, NULL, no_passphrase, NULL);
    BIO_free (bio);
    if (*out && EVP_PKEY_id (*out) == EVP_PKEY_ED25519)
        return DPS_OK;
    EVP_PKEY_free (*out);
    return dps_fail (err, DPS_ERR_FORMAT, "%s: not an Ed25519 %s key in PEM. Hint: openssl %s", where, secret ? "private" : "public",
                     secret ? "genpkey -algorithm ed25519 -out vendor.pem" : "pkey -in vendor.pem -pubout -out vendor.pub.pem");
}

DpsStatus dps__sign (const DpsBuf *key, const char *where, const void *text, size_t len, char out_hex[129], DpsError *err)
{
    unsigned char signature[SIGNATURE_BYTES];
    size_t n = sizeof signature;
    EVP_PKEY *k;
    DPS_TRY (read_key (key, where, 1, &k, err));
    EVP_MD_CTX *ctx = EVP_MD_CTX_new ();
    int good = ctx && EVP_DigestSignInit (ctx, NULL, NULL, NULL, k) == 1 && EVP_DigestSign (ctx, signature, &n, text, len) == 1 &&
               n == sizeof signature;
    EVP_MD_CTX_free (ctx);
    EVP_PKEY_free (k);
    if (!good)
        return dps_fail (err, DPS_ERR_INTERNAL, "%s: libcrypto could not sign with it", where);
    for (size_t i = 0; i < sizeof signature; i++)
        snprintf (out_hex + 2 * i, 3, "%02x", signature[i]);
    return DPS_OK;
}

static int from_hex (const char *hex, unsigned char out[SIGNATURE_BYTES])
{
    if (strlen (hex) != 2 * SIGNATURE_BYTES)
        return -1;
    for (size_t i = 0; i < SIGNATURE_BYTES; i++) {
        unsigned byte;
        if (sscanf (hex + 2 * i, "%2x", &byte) != 1)
            return -1;
        out[i] = (unsigned char)byte;
    }
    return 0;
}

DpsStatus dps__sign_check (const DpsBuf *key, const char *where, const void *text, size_t len, const char *hex, DpsError *err)
{
    unsigned char signature[SIGNATURE_BYTES];
    EVP_PKEY *k;
    if (from_hex (hex, signature))
        return dps_fail (err, DPS_ERR_FORMAT, "a signature is %d hexadecimal digits", 2 * SIGNATURE_BYTES);
    DPS_TRY (read_key (key, where, 0, &k, err));
    EVP_MD_CTX *ctx = EVP_MD_CTX_new ();
    int good =
        ctx && EVP_DigestVerifyInit (ctx, NULL, NULL, NULL, k) == 1 && EVP_DigestVerify (ctx, signature, sizeof signature, text, len) == 1;
    EVP_MD_CTX_free (ctx);
    EVP_PKEY_free (k);
    return good ? DPS_OK : dps_fail (err, DPS_ERR_DIGEST, "the signature is not that of key %s", where);
}
