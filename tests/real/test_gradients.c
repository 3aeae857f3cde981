/* SPDX-License-Identifier: Apache-2.0 */
/* The LoRA batch of the parity set on the real Gemma: loss, tokens, the gradient's norm, and that of every adapter weight. */
#include <stdio.h>

#include "check.h"
#include "gguf_mini.h"
#include "unit/train/parity_run.h"

static const char *model;

static void check_number (const json_t *holder, const char *name, double got, double absolute, double relative)
{
    double want = json_number_value (json_object_get (holder, name));
    if (!(fabs (got - want) <= absolute + relative * want))
        printf ("\n    %s: %.9g, expected %.9g\n", name, got, want);
    CU_ASSERT (want > 0 && fabs (got - want) <= absolute + relative * want);
}

static void check_norms (DpsSession *s, const json_t *norms)
{
    size_t seen = 0;
    for (size_t i = s->model.n_base; i < s->model.n_weights; i++, seen++) {
        char name[256];
        double square = 0;
        float *g = gradient_of (&s->weights, (int32_t)i);
        CU_ASSERT_PTR_NOT_NULL_FATAL (g);
        for (int64_t k = 0; k < dps_weight_elements (&s->model.weights[i]); k++)
            square += (double)g[k] * (double)g[k];
        snprintf (name, sizeof name, "base_model.model.%s", s->model.weights[i].name);
        check_number (norms, name, sqrt (square), 0, 1e-3);
        free (g);
    }
    CU_ASSERT_EQUAL (seen, json_object_size (norms));
}

static void test_every_gradient_norm (void)
{
    static const DpsTrainOptions quiet = {0};
    char text[2048], rows[128];
    json_t *want = parity_json ("real/gemma-lora-sft.json");
    DpsRegistry *reg;
    DpsRecipe *recipe;
    DpsTrainer t;
    DpsPlace places[3];
    double loss, norm;
    int64_t scored = 0;
    CU_ASSERT_EQUAL_FATAL (json_array_size (json_object_get (want, "sequences")), 3);
    snprintf (rows, sizeof rows, "%s/rows.jsonl", folder);
    write_rows (rows, 0);
    int n = snprintf (text, sizeof text,
                      "model_name_or_path: %s\ndtype: float32\nadapter: lora\nadapter_init: %s\nlora_dropout: 0\noutput_dir: %s/run\n"
                      "max_steps: 1\nper_device_train_batch_size: 3\ndatasets: %s\n",
                      model, parity_path ("real/gemma-lora"), folder, rows);
    CHECK_OK (dps_recipe_parse (text, (size_t)n, "run", NULL, NULL, 0, &recipe, &err));
    CHECK_OK (dps_registry_open (NULL, &reg, &err));
    CHECK_OK (dps__trainer_open (&t, reg, recipe, &quiet, 0, &err));
    t.session.ex.sealed = 0; /* the batch below is not the one the recipe planned */
    for (size_t i = 0; i < 3; i++) {
        places[i] = (DpsPlace){0};
        place_add (&places[i], want, i, "completion_mask", 0);
        dps_batch_count (places[i].sequences, places[i].n, &places[i].counts);
        scored += places[i].counts.scored;
    }
    CHECK_OK (dps__trainer_gradients (&t, places, 3, &loss, &norm, &err));
    check_number (want, "loss", loss, 2e-4, 0);
    check_number (want, "grad_norm", norm, 0, 1e-3);
    check_number (json_object_get (want, "metrics"), "tokens", (double)scored, 0, 0);
    check_norms (&t.session, json_object_get (want, "grad_norms"));
    for (size_t i = 0; i < 3; i++)
        dps_place_free (&places[i]);
    dps__trainer_close (&t);
    dps_registry_close (reg);
    dps_recipe_free (recipe);
    json_decref (want);
}

CHECK_SUITE (run_tests, "parity: the LoRA batch on Gemma", T (test_every_gradient_norm))

int main (void)
{
    model = cached_model ("gemma-3-270m-q4_k_m.gguf");
    return model ? in_folder (run_tests) : 77;
}
