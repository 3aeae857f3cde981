/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_rows.c: any bytes as a file of rows, the first byte choosing its kind: every row is read, recognised and, when it is ids, encoded. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "data/dataset.h"
#include "token/encode.h"

static void require (int ok)
{
    if (!ok)
        __builtin_trap ();
}

static char folder[] = "/tmp/diapason-fuzz-XXXXXX";
static DpsEncoder *encoder;

int LLVMFuzzerInitialize (int *argc, char ***argv)
{
    (void)argc, (void)argv;
    dps_json_init ();
    require (mkdtemp (folder) != NULL && dps_encoder_new (NULL, NULL, &encoder, NULL) == DPS_OK);
    return 0;
}

static void read_rows (const char *path)
{
    DpsError err = DPS_ERROR_INIT;
    DpsDataset *ds;
    if (dps_dataset_from_file (path, &ds, &err) != DPS_OK) {
        require (err.msg[0] != '\0');
        return;
    }
    for (uint64_t k = 0; k < ds->n_rows && k < 1000; k++) {
        DpsRow row;
        DpsEncoded x;
        err.msg[0] = '\0';
        if (dps_dataset_row (ds, 0, k, &row, &err) != DPS_OK) {
            require (err.msg[0] != '\0');
            continue;
        }
        if (dps_encode_row (encoder, &row, &x, &err) == DPS_OK)
            dps_encoded_free (&x);
        dps_row_clear (&row);
    }
    dps_dataset_close (ds);
}

int LLVMFuzzerTestOneInput (const uint8_t *data, size_t size)
{
    static const char *const ends[] = {"jsonl", "json", "csv", "txt"};
    char path[128];
    if (size == 0)
        return 0;
    snprintf (path, sizeof path, "%s/rows.%s", folder, ends[data[0] % 4]);
    FILE *f = fopen (path, "w");
    require (f && fwrite (data + 1, 1, size - 1, f) == size - 1 && fclose (f) == 0);
    read_rows (path);
    unlink (path);
    return 0;
}
