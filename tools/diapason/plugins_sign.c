/* SPDX-License-Identifier: Apache-2.0 */
#include "diapason/plugins_sign.h"

#include <glib.h>
#include <string.h>

#include "base/file.h"
#include "base/sha256.h"
#include "plugin/manifest.h"
#include "plugin/sign.h"

enum { MAX_KEY = 1 << 14 };

static DpsStatus read_manifest (const char *path, DpsBuf *text, DpsManifest *out, DpsError *err)
{
    DpsDigest digest;
    DPS_TRY (dps_file_read (path, DPS_MANIFEST_MAX_BYTES, text, err));
    DPS_TRY (dps__manifest_parse (text->data, text->len, path, out, err));
    g_autofree char *folder = g_path_get_dirname (path), *module = g_build_filename (folder, out->module, NULL);
    DPS_TRY (dps_sha256_file (module, &digest, err));
    if (strcmp (digest.hex, out->sha256))
        return dps_fail (err, DPS_ERR_DIGEST, "%s: its SHA-256 is %.12s…, %s says %.12s…. Hint: write-manifest --again %s", module,
                         digest.hex, path, out->sha256, path);
    return DPS_OK;
}

/* The manifest without the two lines of an earlier signature. */
static DpsStatus without_signature (const DpsBuf *text, DpsBuf *out, DpsError *err)
{
    int bad = 0;
    g_auto (GStrv) lines = g_strsplit (text->data, "\n", -1);
    for (char **line = lines; *line && !bad; line++)
        if (!g_str_has_prefix (*line, "signature=") && !g_str_has_prefix (*line, "signed-by=") && (**line || line[1]))
            bad = dps_buf_printf (out, "%s\n", *line);
    return bad ? dps_fail (err, DPS_ERR_NOMEM, "out of memory") : DPS_OK;
}

static DpsStatus add_signature (DpsBuf *text, const char *key, const char *signer, DpsError *err)
{
    char hex[129];
    DpsBuf pem = {0};
    g_autofree char *base = g_path_get_basename (key);
    base[strcspn (base, ".")] = '\0';
    DpsStatus st = dps_file_read (key, MAX_KEY, &pem, err);
    if (st == DPS_OK && dps_buf_printf (text, "signed-by=%s\n", signer ? signer : base))
        st = dps_fail (err, DPS_ERR_NOMEM, "out of memory");
    if (st == DPS_OK)
        st = dps__sign (&pem, key, text->data, text->len, hex, err);
    if (st == DPS_OK && dps_buf_printf (text, "signature=%s\n", hex))
        st = dps_fail (err, DPS_ERR_NOMEM, "out of memory");
    dps_buf_free (&pem);
    return st;
}

DpsStatus plugins_sign (const char *manifest, const char *key, const char *signer, DpsError *err)
{
    DpsManifest m;
    DpsBuf text = {0}, bare = {0};
    DpsStatus st = read_manifest (manifest, &text, &m, err);
    if (st == DPS_OK)
        st = without_signature (&text, &bare, err);
    if (st == DPS_OK)
        st = add_signature (&bare, key, signer, err);
    if (st == DPS_OK)
        st = dps__manifest_parse (bare.data, bare.len, manifest, &m, err);
    if (st == DPS_OK && !m.signature[0])
        st = dps_fail (err, DPS_ERR_FORMAT, "%s: the group [plugin] must be the last one, so that a signature can stand at its end",
                       manifest);
    if (st == DPS_OK)
        st = dps_file_write (manifest, bare.data, bare.len, err);
    dps_buf_free (&text);
    dps_buf_free (&bare);
    return st;
}

DpsStatus plugins_verify (const char *manifest, const char *key, DpsError *err)
{
    DpsManifest m;
    DpsBuf text = {0}, pem = {0};
    DpsStatus st = read_manifest (manifest, &text, &m, err);
    if (st == DPS_OK)
        st = dps_file_read (key, MAX_KEY, &pem, err);
    size_t n = st == DPS_OK ? dps__signed_bytes (text.data, text.len) : 0;
    if (st == DPS_OK && !n)
        st = dps_fail (err, DPS_ERR_FORMAT, "%s: not signed: its last line is not signature=…", manifest);
    if (st == DPS_OK && (st = dps__sign_check (&pem, key, text.data, n, m.signature, err)) != DPS_OK)
        dps_error_prefix (err, "%s", manifest);
    dps_buf_free (&text);
    dps_buf_free (&pem);
    return st;
}
