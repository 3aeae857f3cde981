/* SPDX-License-Identifier: Apache-2.0 */
/* LoRA, rsLoRA and DoRA on the tiny models against PEFT, every entry that SFT touches: logits, loss, gradients, their norm; and the merged weights' logits. */
#include "parity.h"

static const struct {
    const char *folder, *model, *adapter;
} cases[] = {{"gemma3-lora", "gemma3", "lora"}, {"gemma3-rslora", "gemma3", "lora"}, {"gemma3-dora", "gemma3", "dora"},
             {"llama-lora", "llama", "lora"},   {"llama-rslora", "llama", "lora"},   {"llama-dora", "llama", "dora"}};
enum { N_CASES = sizeof cases / sizeof *cases };

static DpsError err = DPS_ERROR_INIT;

static void open_file (StFile *f, const char *folder, const char *file)
{
    char rest[256];
    snprintf (rest, sizeof rest, "lora/%s/%s", folder, file);
    st_open (f, parity_path (rest));
}

/* The base frozen, the adapter attached as adapter_config.json says, all weights set. */
static void open_adapted (Tiny *t, int c, const char *device)
{
    char rest[256], name[256];
    StFile parts;
    DpsTargets *targets;
    tiny_open (t, cases[c].model, "config.json", device);
    snprintf (rest, sizeof rest, "lora/%s/adapter_config.json", cases[c].folder);
    json_t *config = parity_json (rest);
    double num[] = {json_number_value (json_object_get (config, "r")), json_number_value (json_object_get (config, "lora_alpha")), 0,
                    json_is_true (json_object_get (config, "use_rslora"))};
    DpsStr str[4] = {{NULL, 0}};
    json_decref (config);
    const DpsAdapter *adapter = dps_registry_get (t->reg, DPS_ADAPTER_ID, cases[c].adapter);
    CU_ASSERT_PTR_NOT_NULL_FATAL (adapter);
    CHECK_OK (dps_targets_new (&(DpsTargetSpec){.all_linear = 1}, &targets, &err));
    CHECK_OK (
        dps_model_attach (&t->model, &(DpsAttach){.adapter = adapter, .num = num, .str = str, .targets = targets, .trainable = 1}, &err));
    dps_targets_free (targets);
    tiny_load (t, 1);
    open_file (&parts, cases[c].folder, "adapter_model.safetensors");
    for (size_t i = t->model.n_base; i < t->model.n_weights; i++) {
        snprintf (name, sizeof name, "base_model.model.%s", t->model.weights[i].name);
        StTensor x = st_get (&parts, name);
        set_weight (&t->weights, (int32_t)i, &x);
    }
    st_close (&parts);
    CHECK_OK (dps_weights_refresh (&t->weights, &err));
}

/* Logits of every position: all rows of a sequence scored. */
static void check_logits (Tiny *t, const StFile *expected, const DpsSequence *s, size_t i, const char *where)
{
    char name[64], label[256];
    DpsBatch b;
    DpsPass p;
    CHECK_OK (dps_batch_build (s, 1, t->model.dec.vocab, &b, &err));
    dps_free (b.scored);
    b.scored = dps_calloc (s->n, sizeof *b.scored);
    CU_ASSERT_PTR_NOT_NULL_FATAL (b.scored);
    for (size_t k = 0; k < s->n; k++)
        b.scored[k] = (int32_t)k;
    b.n_scored = (int64_t)s->n;
    CHECK_OK (dps_pass_open (&p, &t->weights, &b, &(DpsPassOptions){.logits = 1}, &err));
    CHECK_OK (dps_pass_forward (&p, &err));
    snprintf (name, sizeof name, "logits.%zu", i);
    snprintf (label, sizeof label, "%s %s", where, name);
    StTensor want = st_get (expected, name);
    CHECK_OK (dps_exec_fetch (&t->ex, &p.graph, p.out.logits, &err));
    check_close (label, dps_exec_temp (&t->ex, &p.graph, p.out.logits), &want, 1e-4);
    dps_pass_close (&p);
    dps_batch_free (&b);
}

/* expected.json says the scalars again, and the norm of every gradient. */
static void check_scalar (const json_t *holder, const char *name, double got, double absolute, double relative)
{
    json_t *want = json_object_get (holder, name);
    CU_ASSERT_FATAL (json_is_number (want));
    CHECK_NEAR (got, json_number_value (want), absolute + relative * json_number_value (want));
}

static void check_sft (Tiny *t, const StFile *expected, const json_t *scalars, int checkpoint, const char *where)
{
    char name[256], label[400];
    size_t n;
    double total = 0, want_loss = st_scalar (expected, "loss.sft");
    DpsSequence *s = sequences_of (t->batch, "sft_mask", &n);
    CHECK_OK (dps_weights_zero_grads (&t->weights, &err));
    double loss = nll_pass (t, s, n, 1, checkpoint, 0);
    const json_t *metrics = json_object_get (scalars, "metrics"), *norms = json_object_get (scalars, "grad_norms");
    size_t seen = 0;
    CHECK_NEAR (loss, want_loss, 2e-5 + 1e-5 * want_loss);
    check_scalar (scalars, "loss", loss, 2e-5, 1e-5);
    check_metrics (expected, "sft");
    check_scalar (metrics, "tokens", pass_scored, 0, 0);
    check_scalar (metrics, "token_accuracy", pass_hits / pass_scored, 3e-5, 0);
    for (size_t i = 0; i < t->model.n_weights; i++) {
        float *g = gradient_of (&t->weights, (int32_t)i);
        CU_ASSERT_EQUAL_FATAL (g != NULL, i >= t->model.n_base); /* the base is frozen */
        if (!g)
            continue;
        int64_t count = dps_weight_elements (&t->model.weights[i]);
        snprintf (name, sizeof name, "grad.sft.base_model.model.%s", t->model.weights[i].name);
        snprintf (label, sizeof label, "%s %s", where, name);
        StTensor want = st_get (expected, name);
        check_gradient (label, g, count, &want, 1e-4);
        double square = 0;
        for (int64_t k = 0; k < count; k++)
            square += (double)g[k] * (double)g[k];
        check_scalar (norms, name + strlen ("grad.sft."), sqrt (square), 0, 1e-4);
        total += square;
        seen++;
        free (g);
    }
    CU_ASSERT_EQUAL (seen, json_object_size (norms));
    check_scalar (scalars, "grad_norm", sqrt (total), 0, 1e-4);
    CHECK_NEAR (sqrt (total) / st_scalar (expected, "grad_norm.sft"), 1, 1e-4);
    sequences_free (s, n);
}

static void check_all_logits (Tiny *t, const StFile *expected, const char *where)
{
    size_t n;
    DpsSequence *s = sequences_of (t->batch, NULL, &n);
    for (size_t i = 0; i < n; i++)
        check_logits (t, expected, &s[i], i, where);
    sequences_free (s, n);
}

/* The base with PEFT's merged weights in place of its own is the adapted model. */
static void check_merged (int c, const StFile *expected, const char *device, const char *where)
{
    char label[160];
    StFile merged;
    StTensor x;
    Tiny t;
    size_t n_merged = 0;
    snprintf (label, sizeof label, "%s merged,", where);
    tiny_open (&t, cases[c].model, "config.json", device);
    tiny_load (&t, 0);
    open_file (&merged, cases[c].folder, "merged.safetensors");
    for (size_t i = 0; i < t.model.n_weights; i++)
        if (st_find (&merged, t.model.weights[i].name, &x)) {
            set_weight (&t.weights, (int32_t)i, &x);
            n_merged++;
        }
    CU_ASSERT_EQUAL (n_merged, 7 * (size_t)t.model.dec.n_layers);
    check_all_logits (&t, expected, label);
    st_close (&merged);
    tiny_close (&t);
}

static void test_adapters_equal_peft (void)
{
    EACH_DEVICE (device)
        for (int c = 0; c < N_CASES; c++) {
            char where[128], rest[128];
            StFile expected;
            Tiny t;
            snprintf (where, sizeof where, "%s on %s:", cases[c].folder, device);
            open_file (&expected, cases[c].folder, "expected.safetensors");
            snprintf (rest, sizeof rest, "lora/%s/expected.json", cases[c].folder);
            json_t *all = parity_json (rest), *scalars = json_object_get (all, "sft");
            open_adapted (&t, c, device);
            check_all_logits (&t, &expected, where);
            check_sft (&t, &expected, scalars, 0, where);
            check_sft (&t, &expected, scalars, 1, where);
            json_decref (all);
            tiny_close (&t);
            check_merged (c, &expected, device, where);
            st_close (&expected);
        }
}

CHECK_MAIN ("parity: adapters", T (test_adapters_equal_peft))
