/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_shard_index.c: any bytes as model.safetensors.index.json: every shard of an accepted one is a file of its folder, each once. */
#include "fuzz.h"
#include "graph/shard_index.h"

int LLVMFuzzerTestOneInput (const uint8_t *data, size_t size)
{
    DpsError err = DPS_ERROR_INIT;
    DpsShardIndex x;
    fuzz_file ("a.safetensors", "", 0);
    fuzz_file ("b.safetensors", "", 0);
    fuzz_file (DPS_SHARD_INDEX, data, size);
    if (dps__shard_index_open (fuzz_folder (), &x, &err) == DPS_OK) {
        require (json_object_size (x.map) > 0 && x.n_names > 0 && x.n_names <= json_object_size (x.map));
        for (size_t i = 0; i < x.n_names; i++) {
            require (!strchr (x.names[i], '/') && x.names[i][0] != '.');
            for (size_t k = 0; k < i; k++)
                require (strcmp (x.names[i], x.names[k]) != 0);
        }
        dps__shard_index_compare (&x, fuzz_folder (), 0);
    } else
        require (err.msg[0] != '\0');
    dps__shard_index_close (&x);
    return 0;
}
