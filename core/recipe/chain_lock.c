/* SPDX-License-Identifier: Apache-2.0 */
/*
 * chain_lock.c: chain.lock.yaml:
 *
 *     # written by diapason; --resume goes on after the stages that have a result
 *     chain_lock_version: 1
 *     stages:
 *       - {name: "it", result: "SHA-256 of it/digests.json", merged: null}
 */
#include <string.h>

#include "base/file.h"
#include "recipe/chain.h"
#include "recipe/internal.h"

enum { VERSION = 1 };

static int put_digest (DpsBuf *b, const char *key, const DpsDigest *d)
{
    return d->hex[0] ? dps_buf_printf (b, ", %s: \"%s\"", key, d->hex) : dps_buf_printf (b, ", %s: null", key);
}

DpsStatus dps_chain_lock_write (const DpsChain *c, const DpsChainDone *done, DpsError *err)
{
    DpsBuf b = {0};
    int bad = dps_buf_printf (
        &b, "# written by diapason; --resume goes on after the stages that have a result\nchain_lock_version: %d\nstages:\n", VERSION);
    for (size_t i = 0; i < c->n && !bad; i++)
        bad = dps_buf_printf (&b, "  - {name: \"%s\"", c->stages[i].name) || put_digest (&b, "result", &done[i].result) ||
              put_digest (&b, "merged", &done[i].merged) || dps_buf_str (&b, "}\n");
    return dps_file_write_buf (c->lock, &b, bad, err);
}

static int read_digest (const DpsYaml *n, DpsDigest *out)
{
    if (!n || n->type != DPS_YAML_SCALAR || dps_yaml_is_null (n))
        return n && n->type == DPS_YAML_SCALAR ? 0 : -1;
    if (strlen (n->text) != 64 || strspn (n->text, "0123456789abcdef") != 64)
        return -1;
    memcpy (out->hex, n->text, 65);
    return 0;
}

static DpsStatus read_stages (const DpsChain *c, const DpsYaml *list, DpsChainDone *done, DpsError *err)
{
    for (const DpsYaml *item = list && list->type == DPS_YAML_LIST ? list->first : NULL; item; item = item->next) {
        const DpsYaml *name = dps_yaml_get (item, "name");
        DpsChainDone d = {0};
        if (!name || name->type != DPS_YAML_SCALAR || read_digest (dps_yaml_get (item, "result"), &d.result) ||
            read_digest (dps_yaml_get (item, "merged"), &d.merged))
            return dps_yaml_fail (item, err, "expected {name, result, merged}");
        size_t i = 0;
        while (i < c->n && strcmp (c->stages[i].name, name->text))
            i++;
        if (i < c->n)
            done[i] = d;
        else if (d.result.hex[0])
            return dps_yaml_fail (item, err, "stage '%.64s' is finished, and %s has none of that name", name->text, c->file);
    }
    return DPS_OK;
}

DpsStatus dps_chain_lock_read (const DpsChain *c, DpsChainDone *done, int *found, DpsError *err)
{
    DpsYamlDoc *doc;
    int64_t version = 0;
    memset (done, 0, c->n * sizeof *done);
    *found = 0;
    DpsStatus st = dps__lock_read (c->lock, DPS__LOCK_RESUME, &doc, err);
    const DpsYaml *v = st == DPS_OK && doc->root ? dps_yaml_get (doc->root, "chain_lock_version") : NULL;
    if (st == DPS_OK && (!v || !dps_yaml_int (v, &version) || version != VERSION))
        st = dps_fail (err, DPS_ERR_LOCK, "%s: chain_lock_version is not %d: it was written by another version", c->lock, VERSION);
    if (st == DPS_OK)
        st = dps__lock_damaged (read_stages (c, dps_yaml_get (doc->root, "stages"), done, err), DPS__LOCK_RESUME, err);
    *found = st == DPS_OK;
    dps_yaml_free (doc);
    return st == DPS_ERR_NOT_FOUND ? DPS_OK : st;
}
