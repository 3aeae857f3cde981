/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_completions.c: any bytes as completions.jsonl of a run that is resumed and reported: what was sampled later goes, the rest stays. */
#include "base/file.h"
#include "fuzz.h"
#include "train/trainer.h"

static DpsTrainer *trainer;

int LLVMFuzzerInitialize (int *argc, char ***argv)
{
    (void)argc, (void)argv;
    DpsRecipe *recipe = calloc (1, sizeof *recipe);
    trainer = calloc (1, sizeof *trainer);
    require (recipe && trainer);
    recipe->output_dir = (char *)fuzz_folder ();
    recipe->log_completions = 1;
    trainer->recipe = recipe;
    trainer->rollout.samples = 1;
    return 0;
}

int LLVMFuzzerTestOneInput (const uint8_t *data, size_t size)
{
    DpsError err = DPS_ERROR_INIT;
    DpsRolloutSamples samples;
    DpsBuf kept = {0};
    if (!size)
        return 0;
    trainer->step = data[0];
    const char *path = fuzz_file (DPS_COMPLETIONS_FILE, data + 1, size - 1);
    DpsStatus st = dps__rollout_samples (trainer, &samples, &err);
    require (samples.n <= DPS_ROLLOUT_SAMPLES && (st == DPS_OK || err.msg[0]));
    for (size_t i = 0; st == DPS_OK && i < samples.n; i++)
        require (samples.items[i].prompt && samples.items[i].early && samples.items[i].late);
    dps__rollout_samples_free (&samples);
    require (dps__answers_log_open (trainer, &err) == DPS_OK);
    if (dps_is_file (path)) {
        require (dps_file_read (path, SIZE_MAX, &kept, &err) == DPS_OK && kept.len && kept.len <= size - 1);
        require (!memcmp (kept.data, data + 1, kept.len) && kept.data[kept.len - 1] == '\n');
    }
    dps_buf_free (&kept);
    return 0;
}
