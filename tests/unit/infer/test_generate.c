/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Rollouts on the six tiny models: the recorded log-probs are the bits of a training pass over the same group, and what a completion gets depends
 * on nothing but its prompt, its number and the seed.
 */
#include "base/rng.h"
#include "infer/generate.h"
#include "parity.h"

static const char *const models[] = {"gemma3", "gemma2", "llama", "qwen2", "qwen3", "mistral"};
static DpsError err = DPS_ERROR_INIT;
enum { N_MODELS = 6, N_PROMPTS = 5, MAX_TOKENS = 12, MOST = 8 * N_PROMPTS };

/** Where the numbers come from. */
typedef struct Setup {
    const char *model, *device;
    uint32_t compute;
    int lora;
} Setup;

typedef struct Rollout {
    Tiny t;
    DpsSequence *sequences; /* of batch.json: their beginnings are the prompts */
    size_t n_sequences;
    const int32_t *prompts[N_PROMPTS];
    size_t lengths[N_PROMPTS];
} Rollout;

static int has_device (const char *name)
{
    DpsRegistry *reg;
    CHECK_OK (dps_registry_open (NULL, &reg, &err));
    int there = dps_registry_get (reg, DPS_BACKEND_ID, name) != NULL;
    dps_registry_close (reg);
    return there;
}

/* LoRA on every linear map, with no factor zero. */
static void attach (Tiny *t)
{
    const double num[] = {4, 8, 0, 0};
    const DpsStr str[4] = {{NULL, 0}};
    DpsTargets *targets;
    const DpsAdapter *adapter = dps_registry_get (t->reg, DPS_ADAPTER_ID, "lora");
    CU_ASSERT_PTR_NOT_NULL_FATAL (adapter);
    CHECK_OK (dps_targets_new (&(DpsTargetSpec){.all_linear = 1}, &targets, &err));
    CHECK_OK (
        dps_model_attach (&t->model, &(DpsAttach){.adapter = adapter, .num = num, .str = str, .targets = targets, .trainable = 1}, &err));
    dps_targets_free (targets);
}

static void fill_adapters (Tiny *t)
{
    for (size_t i = t->model.n_base; i < t->model.n_weights; i++) {
        int64_t n = dps_weight_elements (&t->model.weights[i]);
        float *x = malloc ((size_t)n * sizeof *x);
        for (int64_t k = 0; k < n; k++)
            x[k] = (float)(0.4 * dps_rng_uniform (7, i, (uint64_t)k) - 0.2);
        CHECK_OK (dps_weights_set (&t->weights, (int32_t)i, x, &err));
        free (x);
    }
    CHECK_OK (dps_weights_refresh (&t->weights, &err));
}

static void rollout_open (Rollout *r, const Setup *s)
{
    tiny_open (&r->t, s->model, "config.json", s->device);
    if (s->lora)
        attach (&r->t);
    tiny_load_as (&r->t, s->compute, 1);
    if (s->lora)
        fill_adapters (&r->t);
    r->sequences = sequences_of (r->t.batch, NULL, &r->n_sequences);
    for (size_t i = 0; i < N_PROMPTS; i++) { /* of 1, 4, 7 … tokens, the last longer than the sliding windows */
        r->prompts[i] = r->sequences[i].ids;
        r->lengths[i] = i == 0 ? 1 : i < 4 ? 3 * i + 1 : r->sequences[i].n;
    }
}

static void rollout_close (Rollout *r)
{
    sequences_free (r->sequences, r->n_sequences);
    tiny_close (&r->t);
}

static void completions_free (DpsCompletion *c, size_t n)
{
    for (size_t i = 0; i < n; i++)
        dps_completion_free (&c[i]);
}

/* A group as training has it: the prompt once, the completions after it. Its log-probs, one after the other, equal the recorded ones. */
static void check_group (Rollout *r, size_t prompt, const DpsCompletion *c, size_t k, double temperature, const char *where)
{
    DpsSequence group[8];
    DpsBatch b;
    DpsPass p;
    size_t n_prompt = r->lengths[prompt];
    for (size_t i = 0; i < k; i++) {
        int32_t *ids = malloc ((n_prompt + c[i].n) * sizeof *ids);
        float *weights = calloc (n_prompt + c[i].n, sizeof *weights);
        memcpy (ids, r->prompts[prompt], n_prompt * sizeof *ids);
        memcpy (ids + n_prompt, c[i].ids, c[i].n * sizeof *ids);
        for (size_t t = 0; t < c[i].n; t++)
            weights[n_prompt + t] = 1;
        group[i] = (DpsSequence){.ids = ids, .weights = weights, .n = n_prompt + c[i].n, .prefix = n_prompt, .joins = i > 0};
    }
    CHECK_OK (dps_batch_build (group, k, r->t.model.dec.vocab, &b, &err));
    const DpsPassOptions o = {.training = 1, .checkpoint = k > 1, .temperature = temperature};
    CHECK_OK (dps_pass_open (&p, &r->t.weights, &b, &o, &err));
    CHECK_OK (dps_pass_forward (&p, &err));
    const float *logp = dps_pass_logp (&p);
    for (size_t i = 0; i < k; i++) {
        int same = !memcmp (logp, c[i].logp, c[i].n * sizeof *logp);
        if (!same)
            printf ("\n    %s prompt %zu, completion %zu of %zu: log-probs are not those of training", where, prompt, i, k);
        CU_ASSERT (same);
        logp += c[i].n;
    }
    dps_pass_close (&p);
    dps_batch_free (&b);
    for (size_t i = 0; i < k; i++) {
        free ((void *)group[i].ids);
        free ((void *)group[i].weights);
    }
}

static DpsGenerateOptions options_of (int64_t k, int64_t batch, double temperature)
{
    return (DpsGenerateOptions){
        .sampling = {.temperature = temperature, .top_k = 20, .top_p = 0.95, .repetition_penalty = k > 1 ? 1.2 : 1, .seed = 5},
        .max_tokens = MAX_TOKENS,
        .n_samples = k,
        .want_logp = 1,
        .batch = batch};
}

static void check_logp (const Setup *s, int64_t k, int64_t batch, double temperature)
{
    Rollout r;
    DpsCompletion c[MOST];
    char where[128];
    DpsGenerateOptions o = options_of (k, batch, temperature);
    snprintf (where, sizeof where, "%s on %s, %s%s, T %g, K %d, batch %d:", s->model, s->device, dps_dtype_name (s->compute),
              s->lora ? ", lora" : "", temperature, (int)k, (int)batch);
    rollout_open (&r, s);
    CHECK_OK (dps_generate (&r.t.weights, NULL, r.prompts, r.lengths, N_PROMPTS, &o, c, &err));
    for (size_t i = 0; i < N_PROMPTS; i++)
        check_group (&r, i, c + i * (size_t)k, (size_t)k, temperature, where);
    completions_free (c, N_PROMPTS * (size_t)k);
    rollout_close (&r);
}

static void test_recorded_logp_is_training_s (void)
{
    static const struct {
        const char *device;
        uint32_t compute;
    } on[] = {{"ref", DPS_DTYPE_F32}, {"cpu", DPS_DTYPE_F32}, {"cpu", DPS_DTYPE_BF16}};
    for (int d = 0; d < 3; d++)
        for (int m = 0; m < N_MODELS && has_device (on[d].device); m++)
            for (int lora = 0; lora < 2; lora++) {
                const Setup s = {models[m], on[d].device, on[d].compute, lora};
                check_logp (&s, 1, 16, 1);
                check_logp (&s, 8, 3, 0.7);
                check_logp (&s, 8, 40, 1);
            }
}

static int same_completion (const DpsCompletion *a, const DpsCompletion *b)
{
    return a->n == b->n && a->stopped == b->stopped && !memcmp (a->ids, b->ids, a->n * sizeof *a->ids) &&
           !memcmp (a->logp, b->logp, a->n * sizeof *a->logp);
}

/* K completions of each prompt; then with other batches; then every one alone, by its number. */
static void check_independence (const char *model, const char *device)
{
    const Setup s = {model, device, DPS_DTYPE_F32, 1};
    static const int64_t batches[] = {1, 2, 5, 64};
    enum { K = 6 };
    Rollout r;
    DpsCompletion want[K * N_PROMPTS], got[K * N_PROMPTS], probe[K * N_PROMPTS];
    DpsGenerateOptions o = options_of (K, 16, 1);
    rollout_open (&r, &s);
    o.first = 3;
    o.ignore_end = 1;
    CHECK_OK (dps_generate (&r.t.weights, NULL, r.prompts, r.lengths, N_PROMPTS, &o, probe, &err));
    o.ignore_end = 0; /* a token that was drawn somewhere in the middle ends completions from now on: some early, some not */
    r.t.model.dec.eos = probe[1].ids[MAX_TOKENS / 2];
    completions_free (probe, K * N_PROMPTS);
    CHECK_OK (dps_generate (&r.t.weights, NULL, r.prompts, r.lengths, N_PROMPTS, &o, want, &err));
    size_t stopped = 0;
    for (size_t i = 0; i < K * N_PROMPTS; i++) {
        stopped += want[i].stopped != 0;
        CU_ASSERT (want[i].stopped == (want[i].ids[want[i].n - 1] == r.t.model.dec.eos));
        CU_ASSERT (want[i].stopped || want[i].n == MAX_TOKENS);
    }
    CU_ASSERT (stopped > 0 && stopped < K * N_PROMPTS);
    for (size_t b = 0; b < sizeof batches / sizeof *batches; b++) {
        o.batch = batches[b];
        CHECK_OK (dps_generate (&r.t.weights, NULL, r.prompts, r.lengths, N_PROMPTS, &o, got, &err));
        for (size_t i = 0; i < K * N_PROMPTS; i++)
            CU_ASSERT (same_completion (&got[i], &want[i]));
        completions_free (got, K * N_PROMPTS);
    }
    o.n_samples = 1;
    for (size_t i = 0; i < K * N_PROMPTS; i++) {
        o.first = 3 + i;
        CHECK_OK (dps_generate (&r.t.weights, NULL, &r.prompts[i / K], &r.lengths[i / K], 1, &o, got, &err));
        CU_ASSERT (same_completion (&got[0], &want[i]));
        dps_completion_free (got);
    }
    /* One of several end tokens ends just as well. */
    r.t.model.dec.more_ends[r.t.model.dec.n_more_ends++] = r.t.model.dec.eos;
    r.t.model.dec.eos = -1;
    o = options_of (K, 16, 1);
    o.first = 3;
    CHECK_OK (dps_generate (&r.t.weights, NULL, r.prompts, r.lengths, N_PROMPTS, &o, got, &err));
    for (size_t i = 0; i < K * N_PROMPTS; i++)
        CU_ASSERT (same_completion (&got[i], &want[i]));
    completions_free (got, K * N_PROMPTS);
    completions_free (want, K * N_PROMPTS);
    rollout_close (&r);
}

static void test_a_completion_does_not_depend_on_the_others (void)
{
    check_independence ("gemma3", "ref");
    for (int m = 0; m < N_MODELS && has_device ("cpu"); m++)
        check_independence (models[m], "cpu");
}

static void test_limits_and_refusals (void)
{
    const Setup s = {"llama", "ref", DPS_DTYPE_F32, 0};
    const char *empty = "";
    Rollout r;
    DpsCompletion c[2 * N_PROMPTS];
    DpsGenerateOptions o = options_of (2, 4, 1);
    rollout_open (&r, &s);
    o.want_logp = 0;
    o.max_tokens = 1;
    CHECK_OK (dps_generate (&r.t.weights, NULL, r.prompts, r.lengths, N_PROMPTS, &o, c, &err));
    for (size_t i = 0; i < 2 * N_PROMPTS; i++)
        CU_ASSERT (c[i].n == 1 && c[i].logp == NULL && c[i].text == NULL);
    completions_free (c, 2 * N_PROMPTS);
    o.stop = &empty;
    o.n_stop = 1;
    CHECK_FAILS (dps_generate (&r.t.weights, NULL, r.prompts, r.lengths, 1, &o, c, &err), DPS_ERR_INVALID, "stop string 1 is empty");
    o.n_stop = 0;
    r.lengths[1] = 0;
    CHECK_FAILS (dps_generate (&r.t.weights, NULL, r.prompts, r.lengths, 2, &o, c, &err), DPS_ERR_INVALID, "prompt 2 is empty");
    CHECK_OK (dps_generate (&r.t.weights, NULL, r.prompts, r.lengths, 0, &o, c, &err));
    rollout_close (&r);
}

/* A sealed arena of the bytes that were measured is enough, and all of it is used. */
static void test_measured_bytes_are_what_a_run_uses (void)
{
    for (int m = 0; m < N_MODELS; m++) {
        const Setup s = {models[m], "ref", DPS_DTYPE_F32, 1};
        Rollout r;
        DpsCompletion c[8];
        DpsGenerateBytes bytes;
        DpsGenerateOptions o = options_of (8, 0, 1);
        rollout_open (&r, &s);
        o.ignore_end = 1;
        CHECK_OK (dps_generate_measure (&r.t.weights, r.lengths[4], 1, &o, &bytes, &err));
        CHECK_OK (dps_exec_reserve (&r.t.ex, bytes.arena, &err));
        r.t.ex.sealed = 1;
        uint64_t before = r.t.ex.persistent_bytes;
        CHECK_OK (dps_generate (&r.t.weights, NULL, &r.prompts[4], &r.lengths[4], 1, &o, c, &err));
        CU_ASSERT_EQUAL (r.t.ex.arena_peak, bytes.arena);
        CU_ASSERT_EQUAL (bytes.scratch, 0);
        const DpsDecoder *d = &r.t.model.dec;
        CU_ASSERT_EQUAL (bytes.cache, 2 * 4 * (r.lengths[4] + 8 * MAX_TOKENS) * (size_t)(d->n_layers * d->n_kv_heads * d->head_dim));
        CU_ASSERT_EQUAL (r.t.ex.persistent_bytes, before);
        completions_free (c, 8);
        rollout_close (&r);
    }
}

static int twice_polled (void)
{
    static int n;
    return ++n % 3 == 0;
}

/* Interrupted, and out of memory at every place: an error value, and nothing left behind but what the caller frees. */
static void test_failures_leak_nothing (void)
{
    const Setup s = {"llama", "ref", DPS_DTYPE_F32, 0};
    Rollout r;
    DpsCompletion c[2 * N_PROMPTS];
    DpsGenerateOptions o = options_of (2, 3, 1);
    rollout_open (&r, &s);
    o.max_tokens = 3;
    CHECK_OK (dps_generate (&r.t.weights, NULL, r.prompts, r.lengths, 2, &o, c, &err)); /* the arena is there */
    completions_free (c, 4);
    int64_t live = dps_mem_live ();
    o.should_stop = twice_polled;
    CHECK_FAILS (dps_generate (&r.t.weights, NULL, r.prompts, r.lengths, 2, &o, c, &err), DPS_ERR_CANCELLED, "interrupted");
    completions_free (c, 4);
    CU_ASSERT_EQUAL (dps_mem_live (), live);
    o.should_stop = NULL;
    DpsStatus st = DPS_ERR_NOMEM;
    for (uint64_t k = 1; st != DPS_OK && k < 20000; k += k < 200 ? 1 : 97) {
        dps_mem_fail_at (k);
        st = dps_generate (&r.t.weights, NULL, r.prompts, r.lengths, 2, &o, c, &err);
        CU_ASSERT (st == DPS_OK || st == DPS_ERR_NOMEM);
        completions_free (c, 4);
        CU_ASSERT_EQUAL (dps_mem_live (), live);
    }
    dps_mem_fail_at (0);
    CU_ASSERT_EQUAL (st, DPS_OK);
    rollout_close (&r);
}

CHECK_MAIN ("infer.generate", T (test_recorded_logp_is_training_s), T (test_a_completion_does_not_depend_on_the_others),
            T (test_limits_and_refusals), T (test_measured_bytes_are_what_a_run_uses), T (test_failures_leak_nothing))
