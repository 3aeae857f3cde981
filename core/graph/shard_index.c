/* SPDX-License-Identifier: Apache-2.0 */
#include "graph/shard_index.h"

#include <string.h>

#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "graph/weight_files.h"

enum { INDEX_LIMIT = 1 << 26 };

static DpsStatus no_memory (const char *folder, DpsError *err)
{
    return dps_fail (err, DPS_ERR_NOMEM, "%s/" DPS_SHARD_INDEX ": out of memory", folder);
}

static int plain_file_name (const char *name)
{
    return name && *name && *name != '.' && strlen (name) < 256 && !strchr (name, '/') && !strchr (name, '\\');
}

static DpsStatus check_there (const char *folder, const char *shard, DpsError *err)
{
    char *path = dps_path_join (folder, shard);
    DpsStatus st = path ? DPS_OK : no_memory (folder, err);
    if (st == DPS_OK && !dps_is_file (path))
        st = dps_fail (err, DPS_ERR_FORMAT,
                       "%s: no such shard, though " DPS_SHARD_INDEX " names it. Hint: download the folder again, whole", path);
    dps_free (path);
    return st;
}

static DpsStatus list_shards (const char *folder, DpsShardIndex *x, DpsError *err)
{
    json_t *value, *seen = json_object ();
    const char *tensor;
    DpsStatus st = seen ? DPS_OK : no_memory (folder, err);
    x->names = dps_calloc (DPS_WEIGHT_FILES_MAX, sizeof *x->names);
    if (!x->names)
        st = no_memory (folder, err);
    if (st == DPS_OK)
        json_object_foreach (x->map, tensor, value) {
            const char *shard = json_string_value (value);
            if (!plain_file_name (shard))
                st =
                    dps_fail (err, DPS_ERR_FORMAT,
                              "%s/" DPS_SHARD_INDEX ": the shard of '%.100s' is '%.100s', expected a plain file name of that folder. Hint: "
                              "take the model from a source you trust",
                              folder, tensor, shard ? shard : "(no text)");
            else if (!json_object_get (seen, shard)) {
                if (x->n_names == DPS_WEIGHT_FILES_MAX)
                    st = dps_fail (err, DPS_ERR_LIMIT, "%s/" DPS_SHARD_INDEX ": more than %d shards. Hint: save the model in larger ones",
                                   folder, DPS_WEIGHT_FILES_MAX);
                else
                    st = json_object_set_new (seen, shard, json_true ()) ? no_memory (folder, err) : check_there (folder, shard, err);
                if (st == DPS_OK)
                    x->names[x->n_names++] = shard;
            }
            if (st != DPS_OK)
                break;
        }
    json_decref (seen);
    return st;
}

DpsStatus dps__shard_index_open (const char *folder, DpsShardIndex *out, DpsError *err)
{
    *out = (DpsShardIndex){0};
    char *path = dps_path_join (folder, DPS_SHARD_INDEX);
    DpsStatus st = path ? dps_json_file (path, INDEX_LIMIT, DPS_JSON_WIDE, &out->root, err) : no_memory (folder, err);
    dps_free (path);
    DPS_TRY (st);
    out->map = json_object_get (out->root, "weight_map");
    if (!json_is_object (out->map) || json_object_size (out->map) == 0)
        return dps_fail (err, DPS_ERR_FORMAT,
                         "%s/" DPS_SHARD_INDEX ": \"weight_map\" is %s, expected an object that gives every tensor its shard. Hint: "
                         "download the folder again, whole",
                         folder,
                         json_is_object (out->map) ? "empty"
                         : out->map                ? "no object"
                                                   : "missing");
    return list_shards (folder, out, err);
}

void dps__shard_index_close (DpsShardIndex *index)
{
    dps_free (index->names);
    json_decref (index->root);
    *index = (DpsShardIndex){0};
}

/* No error: every tensor is checked by name and shape, and there are sound models whose index has the wrong number. */
void dps__shard_index_compare (const DpsShardIndex *index, const char *folder, uint64_t bytes)
{
    const json_t *total = json_object_get (json_object_get (index->root, "metadata"), "total_size");
    if (total && (!json_is_number (total) || json_number_value (total) != (double)bytes))
        dps_log (DPS_LOG_WARNING,
                 "%s/" DPS_SHARD_INDEX
                 ": \"total_size\" is %.15g, but the shards hold %llu bytes of tensors. Hint: if the shards come from several "
                 "downloads, download the folder again, whole",
                 folder, json_number_value (total), (unsigned long long)bytes);
}
