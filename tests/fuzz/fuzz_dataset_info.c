/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_dataset_info.c: any bytes as LLaMA-Factory's dataset_info.json beside a file of rows: an accepted entry names that file, and its rows read. */
#include "data/dataset.h"
#include "fuzz.h"

static const char rows[] =
    "{\"instruction\":\"i\",\"input\":\"x\",\"output\":\"o\",\"system\":\"s\",\"history\":[[\"a\",\"b\"]]}\n"
    "{\"conversations\":[{\"from\":\"human\",\"value\":\"q\"},{\"from\":\"gpt\",\"value\":\"a\"}],\"chosen\":\"c\",\"rejected\":\"r\"}\n"
    "{\"messages\":[{\"role\":\"user\",\"content\":\"q\"},{\"role\":\"assistant\",\"content\":\"a\"}],\"tools\":\"[]\",\"text\":\"t\"}\n";

int LLVMFuzzerTestOneInput (const uint8_t *data, size_t size)
{
    DpsError err = DPS_ERROR_INIT;
    DpsDataset *ds;
    fuzz_file ("rows.jsonl", rows, sizeof rows - 1);
    DpsRecipeDataset one = {.path = (char *)fuzz_file ("dataset_info.json", data, size), .name = (char *)"a", .fraction = 1};
    const DpsRecipeDatasets sets = {.items = &one, .n = 1};
    if (dps_dataset_open (&(DpsDatasetOptions){.sets = &sets, .text_field = "text"}, &ds, &err) != DPS_OK) {
        require (err.msg[0] != '\0');
        return 0;
    }
    for (uint64_t k = 0; k < ds->n_rows && k < 16; k++) {
        DpsRow row;
        err.msg[0] = '\0';
        if (dps_dataset_row (ds, 0, k, &row, &err) == DPS_OK)
            dps_row_clear (&row);
        else
            require (err.msg[0] != '\0');
    }
    dps_dataset_close (ds);
    return 0;
}
