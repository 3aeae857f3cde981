/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_rows.c: any bytes as a file of rows, the first byte choosing its kind: every row is read, recognised and, when it is ids, encoded. */
#include "base/file.h"
#include "data/dataset.h"
#include "fuzz.h"
#include "token/encode.h"

static DpsEncoder *encoder;

int LLVMFuzzerInitialize (int *argc, char ***argv)
{
    (void)argc, (void)argv;
    require (dps_encoder_new (NULL, NULL, &encoder, NULL) == DPS_OK);
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
    static const char *const names[] = {"rows.jsonl", "rows.json", "rows.csv", "rows.txt"};
    if (size)
        read_rows (fuzz_file (names[data[0] % 4], data + 1, size - 1));
    return 0;
}
