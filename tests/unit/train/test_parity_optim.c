/* SPDX-License-Identifier: Apache-2.0 */
/* The AdamW runs of the parity set, step by step: learning rate, loss, gradient norm, and every final weight. */
#include <unistd.h>

#include "objective/tape.h"
#include "parity_kit.h"
#include "places.h"

static DpsError err = DPS_ERROR_INIT;
static char folder[] = "/tmp/diapason-test-XXXXXX";

/* The recipe of a run; its rows only open the trainer, the steps take the sequences the trajectory names. */
static DpsRecipe *recipe_of (const json_t *run, const char *device, const char *adapter, int pairs)
{
    char text[2048], rows[128];
    double lr = json_number_value (json_object_get (run, "base_lr")), decay = json_number_value (json_object_get (run, "weight_decay"));
    snprintf (rows, sizeof rows, "%s/rows.jsonl", folder);
    write_rows (rows, pairs);
    int n = snprintf (text, sizeof text,
                      "model_name_or_path: %s\ndevice: %s\nstrict_device: true\ndtype: float32\noutput_dir: %s/run\nlearning_rate: "
                      "%.17g\nweight_decay: %.17g\n"
                      "lr_scheduler_type: cosine\nwarmup_steps: 3\nmax_steps: 10\nper_device_train_batch_size: 4\n%s%s%s\n"
                      "gradient_checkpointing: false\noverwrite_output_dir: true\ndatasets: %s\nstage: %s\n",
                      parity_path ("models/gemma3"), device, folder, lr, decay, adapter ? "adapter_init: " : "adapter: none",
                      adapter ? adapter : "", adapter ? "\nadapter: lora\nlora_dropout: 0" : "", rows, pairs ? "simpo" : "sft");
    CU_ASSERT_FATAL (n > 0 && (size_t)n < sizeof text);
    DpsRecipe *r;
    CHECK_OK (dps_recipe_parse (text, (size_t)n, "run", NULL, NULL, 0, &r, &err));
    return r;
}

static void check_step (DpsTrainer *t, const json_t *step, const json_t *batch, int pairs)
{
    json_t *indices = json_object_get (step, "indices");
    size_t n = json_array_size (indices);
    DpsPlace places[16];
    double loss, norm, lr = dps_schedule_lr (&t->schedule, t->step);
    CU_ASSERT_FATAL (n > 0 && n <= 16);
    for (size_t i = 0; i < n; i++) {
        size_t index = (size_t)json_integer_value (json_array_get (indices, i));
        places[i] = pairs ? place_of_pair (batch, index, 1, 0) : place_of_sequence (batch, index);
    }
    CHECK_OK (dps__trainer_gradients (t, places, n, &loss, &norm, &err));
    double want_norm = json_number_value (json_object_get (step, "grad_norm"));
    CHECK_NEAR (lr, json_number_value (json_object_get (step, "lr")), 1e-12);
    CHECK_NEAR (loss, json_number_value (json_object_get (step, "loss")), 2e-5);
    CHECK_NEAR (norm, want_norm, 1e-4 * want_norm);
    CHECK_OK (dps_optim_step (&t->optim, &t->session.weights, lr, norm, &err));
    t->step++;
    for (size_t i = 0; i < n; i++)
        dps_place_free (&places[i]);
}

static void check_final (const DpsTrainer *t, const StFile *final)
{
    size_t seen = 0;
    for (size_t i = t->is_adapter ? t->session.model.n_base : 0; i < t->session.model.n_weights; i++, seen++) {
        char name[256];
        snprintf (name, sizeof name, "%s%s", t->is_adapter ? "base_model.model." : "", t->session.model.weights[i].name);
        StTensor want = st_get (final, name);
        CU_ASSERT_EQUAL_FATAL (want.n, dps_weight_elements (&t->session.model.weights[i]));
        float *got = malloc (want.bytes);
        CU_ASSERT_PTR_NOT_NULL_FATAL (got);
        CHECK_OK (dps_weights_get (&t->session.weights, (int32_t)i, got, &err));
        check_close (name, got, &want, 5e-6);
        free (got);
    }
    CU_ASSERT_EQUAL (seen, json_object_size (final->header) - (json_object_get (final->header, "__metadata__") != NULL));
}

static void check_run_of (const char *run, int is_adapter, int pairs, const char *device)
{
    char rest[128], initial[512];
    static const DpsTrainOptions quiet = {0};
    DpsRegistry *reg;
    DpsTrainer t;
    StFile final;
    snprintf (rest, sizeof rest, "optim/%s/trajectory.json", run);
    json_t *trajectory = parity_json (rest), *batch = parity_json ("models/gemma3/batch.json"), *step;
    snprintf (rest, sizeof rest, "optim/%s/final.safetensors", run);
    st_open (&final, parity_path (rest));
    snprintf (rest, sizeof rest, "optim/%s/initial", run);
    snprintf (initial, sizeof initial, "%s", parity_path (rest));
    DpsRecipe *r = recipe_of (trajectory, device, is_adapter ? initial : NULL, pairs);
    CHECK_OK (dps_registry_open (NULL, &reg, &err));
    CHECK_OK (dps__trainer_open (&t, reg, r, &quiet, 0, &err));
    t.session.ex.sealed = 0; /* the batches below are not those the recipe planned */
    size_t i;
    json_array_foreach (json_object_get (trajectory, "steps"), i, step)
        check_step (&t, step, batch, pairs);
    CU_ASSERT_EQUAL (t.step, 10);
    check_final (&t, &final);
    dps__trainer_close (&t);
    dps_registry_close (reg);
    dps_recipe_free (r);
    st_close (&final);
    json_decref (trajectory);
    json_decref (batch);
}

static void test_full (void)
{
    EACH_DEVICE (device)
        check_run_of ("full-sft", 0, 0, device);
}

static void test_lora (void)
{
    EACH_DEVICE (device)
        check_run_of ("lora-sft", 1, 0, device);
}

static void test_lora_simpo (void)
{
    EACH_DEVICE (device)
        check_run_of ("lora-simpo", 1, 1, device);
}

CHECK_SUITE (check_all, "AdamW runs", T (test_full), T (test_lora), T (test_lora_simpo))

int main (void)
{
    DpsError ignored;
    if (!mkdtemp (folder) || dps_tape_provide (&err) != DPS_OK)
        return 2;
    int code = check_all ();
    return dps_remove_tree (folder, &ignored) == DPS_OK ? code : 2;
}
