/* SPDX-License-Identifier: Apache-2.0 */
/* The six tiny models against PyTorch, every entry of their files that pretraining and SFT touch, on every backend, in both config layouts. */
#include "parity.h"

static const char *const models[] = {"gemma3", "gemma2", "llama", "qwen2", "qwen3", "mistral"};
static const char *const configs[] = {"config.json", "config_classic.json"};
enum { N_MODELS = 6 };

static void open_expected (StFile *f, const char *model)
{
    char rest[256];
    snprintf (rest, sizeof rest, "models/%s/expected.safetensors", model);
    st_open (f, parity_path (rest));
}

static const float *pass_output (Tiny *t, DpsPass *p, const DpsBatch *b, const DpsPassOptions *o, DpsNode (*node) (const DpsPass *p))
{
    DpsError err = DPS_ERROR_INIT;
    CHECK_OK (dps_pass_open (p, &t->weights, b, o, &err));
    CHECK_OK (dps_pass_forward (p, &err));
    CHECK_OK (dps_exec_fetch (&t->ex, &p->graph, node (p), &err));
    return dps_exec_temp (&t->ex, &p->graph, node (p));
}

static DpsNode node_logits (const DpsPass *p) { return p->out.logits; }
static DpsNode node_hidden (const DpsPass *p) { return p->out.hidden; }
static DpsNode node_logp (const DpsPass *p) { return p->out.logp; }

/* Score every position of a sequence, the last one too: its "target" is its own first token, which nothing looks at. */
static void all_rows (const DpsSequence *s, DpsBatch *b, int32_t *rows)
{
    DpsError err = DPS_ERROR_INIT;
    CHECK_OK (dps_batch_build (s, 1, 1 << 20, b, &err));
    dps_free (b->scored);
    b->scored = dps_calloc (s->n, sizeof *rows);
    for (size_t i = 0; i < s->n; i++)
        b->scored[i] = (int32_t)i;
    b->n_scored = (int64_t)s->n;
}

static void check_sequence (Tiny *t, const StFile *expected, const DpsSequence *s, size_t i, const char *where)
{
    char name[128], label[256];
    DpsBatch b;
    DpsPass p;
    DpsError err = DPS_ERROR_INIT;
    DpsPassOptions logits = {.logits = 1}, hidden = {.hidden_only = 1, .keep_layers = 1}, logp = {0};
    all_rows (s, &b, NULL);
    snprintf (name, sizeof name, "logits.%zu", i);
    snprintf (label, sizeof label, "%s %s", where, name);
    StTensor want = st_get (expected, name);
    check_close (label, pass_output (t, &p, &b, &logits, node_logits), &want, 1e-4);
    dps_pass_close (&p);
    snprintf (name, sizeof name, "hidden.%zu", i);
    snprintf (label, sizeof label, "%s %s", where, name);
    want = st_get (expected, name);
    check_close (label, pass_output (t, &p, &b, &hidden, node_hidden), &want, 1e-4);
    for (int64_t layer = 0; i == 1 && layer < t->model.dec.n_layers; layer++) { /* the last layer_output is hidden.1 */
        snprintf (name, sizeof name, "layer_output.%lld", (long long)layer);
        snprintf (label, sizeof label, "%s %s", where, name);
        want = st_get (expected, name);
        CHECK_OK (dps_exec_fetch (&t->ex, &p.graph, p.out.layer_out[layer], &err));
        check_close (label, dps_exec_temp (&t->ex, &p.graph, p.out.layer_out[layer]), &want, 1e-4);
    }
    dps_pass_close (&p);
    dps_batch_free (&b);
    CHECK_OK (dps_batch_build (s, 1, t->model.dec.vocab, &b, &err));
    snprintf (name, sizeof name, "logps.%zu", i);
    snprintf (label, sizeof label, "%s %s", where, name);
    want = st_get (expected, name);
    CU_ASSERT_EQUAL (want.n, b.n_scored);
    check_close (label, pass_output (t, &p, &b, &logp, node_logp), &want, 1e-4);
    dps_pass_close (&p);
    dps_batch_free (&b);
}

static void test_forward_equals_pytorch (void)
{
    EACH_DEVICE (device)
        for (int m = 0; m < N_MODELS; m++)
            for (int c = 0; c < 2; c++) {
                char where[128];
                StFile expected;
                Tiny t;
                size_t n;
                snprintf (where, sizeof where, "%s %s on %s:", models[m], configs[c], device);
                open_expected (&expected, models[m]);
                tiny_open (&t, models[m], configs[c], device);
                tiny_load (&t, 0);
                DpsSequence *s = sequences_of (t.batch, NULL, &n);
                for (size_t i = 0; i < n; i++)
                    check_sequence (&t, &expected, &s[i], i, where);
                sequences_free (s, n);
                tiny_close (&t);
                st_close (&expected);
            }
}

/* expected.json: norms of all six; expected.safetensors: whole gradients where stored. */
static void check_gradients (Tiny *t, const StFile *expected, json_t *scalars, const char *loss, const char *where)
{
    double total = 0;
    for (size_t i = 0; i < t->model.n_weights; i++) {
        char name[256], label[400];
        StTensor want;
        int64_t n = dps_weight_elements (&t->model.weights[i]);
        float *g = gradient_of (&t->weights, (int32_t)i);
        double sum = 0;
        snprintf (name, sizeof name, "grad.%s.%s", loss, t->model.weights[i].name);
        snprintf (label, sizeof label, "%s %s", where, name);
        for (int64_t k = 0; k < n; k++)
            sum += (double)g[k] * (double)g[k];
        total += sum;
        json_t *norm = json_object_get (json_object_get (scalars, "grad_norms"), t->model.weights[i].name);
        CU_ASSERT_FATAL (norm != NULL);
        double relative = fabs (sqrt (sum) / json_number_value (norm) - 1);
        if (!(relative <= 1e-4))
            printf ("\n    %s: norm off by %g\n", label, relative);
        CU_ASSERT (relative <= 1e-4);
        if (st_find (expected, name, &want))
            check_gradient (label, g, n, &want, 1e-4);
        else
            CU_ASSERT (strcmp (t->model.dec.arch, "gemma3") && strcmp (t->model.dec.arch, "llama"));
        free (g);
    }
    double want_norm = json_number_value (json_object_get (scalars, "grad_norm"));
    CHECK_NEAR (sqrt (total) / want_norm, 1, 1e-4);
}

static void check_loss (const char *model, const char *config, const char *device, const char *loss, int checkpoint)
{
    char where[128], rest[128];
    StFile expected;
    Tiny t;
    size_t n;
    snprintf (where, sizeof where, "%s on %s%s:", model, device, checkpoint ? ", checkpointed" : "");
    open_expected (&expected, model);
    tiny_open (&t, model, config, device);
    dps_model_train_all (&t.model);
    tiny_load (&t, 1);
    snprintf (rest, sizeof rest, "models/%s/expected.json", model);
    json_t *all = parity_json (rest), *scalars = json_object_get (all, loss);
    DpsSequence *s = sequences_of (t.batch, strcmp (loss, "sft") ? NULL : "sft_mask", &n);
    double want = json_number_value (json_object_get (scalars, "loss"));
    CHECK_NEAR (nll_pass (&t, s, n, 1, checkpoint, 0), want, 2e-5 + 1e-5 * want);
    check_metrics (&expected, loss);
    check_gradients (&t, &expected, scalars, loss, where);
    sequences_free (s, n);
    json_decref (all);
    tiny_close (&t);
    st_close (&expected);
}

/* Pretraining and SFT, plain and checkpointed; two of the four on opencl, whose kernels do not know whether a pass is checkpointed. */
static void test_losses_and_gradients_equal_pytorch (void)
{
    EACH_DEVICE (device)
        for (int m = 0; m < N_MODELS; m++)
            for (int k = 0; k < 4; k += strcmp (device, "opencl") ? 1 : 3)
                check_loss (models[m], configs[(m + k) % 2], device, k % 2 ? "sft" : "pretrain", k / 2);
}

CHECK_MAIN ("parity: the six tiny models", T (test_forward_equals_pytorch), T (test_losses_and_gradients_equal_pytorch))
