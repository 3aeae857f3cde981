/* SPDX-License-Identifier: Apache-2.0 */
/*
 * adjoint.c: every op that has an adjoint, alone in a graph on ref, against central differences in f64; recorded once and checkpointed (recomputed). And
 * shape.c: what does not fit is refused by name.
 */
#include "base/rng.h"
#include "check.h"
#include "exec/exec.h"
#include "exec/plan.h"
#include "graph/rules.h"

enum { A, B, C, W, V, HEAD, N_PARAMS };
enum { N = 5, D = 6, O = 4, S = 3, VOCAB = 7, MOST = 64 };

static DpsError err = DPS_ERROR_INIT;

/* Ragged rows: a prefix and its two children, which are one root, and a sequence alone. */
static const DpsSegment segments[] = {
    {0, 2, 0, 2, -1, 0, 0, 0}, {2, 1, 2, 1, 0, 2, 0, 0}, {3, 1, 3, 1, 0, 2, 0, 0}, {4, 1, 4, 1, -1, 9, 0, 0}};
static const int32_t ids[N] = {3, 0, 3, 1, 4}, roots[] = {0, 4, 5}, scored[S] = {4, 0, 2}, scored_roots[] = {0, 1, 3},
                     targets[S] = {6, 0, 2};
static const int64_t keys[N] = {5, 6, 7, 8, 1 << 20};
static const float inv_freq[D / 2] = {1, 0.3f, 0.01f}, weights[N] = {0.5f, -1, 0.75f, 1.25f, -0.25f}; /* of the rows in the loss */

typedef struct Step {
    DpsGraph g;
    uint32_t rank[N_PARAMS];
    int64_t shape[N_PARAMS][2];
    double value[N_PARAMS][MOST];
    float grad[N_PARAMS][MOST];
    DpsNode rows; /* (R) or (R,1): the loss is Σ weights·rows */
} Step;

/* A matrix, or a vector when cols is 0. */
static DpsNode param (Step *s, int i, int64_t rows, int64_t cols, int trained)
{
    s->rank[i] = cols ? 2 : 1;
    s->shape[i][0] = rows, s->shape[i][1] = cols ? cols : 1;
    for (int64_t k = 0; k < rows * s->shape[i][1]; k++)
        s->value[i][k] = dps_rng_normal (7, (uint64_t)i, (uint64_t)k);
    return dps_graph_param (&s->g, i, DPS_DTYPE_F64, s->rank[i], s->shape[i], trained);
}

static DpsNode op (Step *s, DpsOpCode code, const DpsNode *in, uint32_t n_in, const DpsScalar *attrs, uint32_t n_attrs, uint32_t n_out)
{
    return dps_graph_op (&s->g, code, in, n_in, attrs, n_attrs, DPS_DTYPE_F64, NULL, n_out);
}

/* An activation (N, cols) whose gradient arrives at parameter i. */
static DpsNode activation (Step *s, int i, int64_t cols, int trained)
{
    DpsNode at = dps_graph_input (&s->g, DPS_INPUT_IDS, DPS_DTYPE_I32, 1, (int64_t[]){N});
    return op (s, DPS_OP_embed, (DpsNode[]){param (s, i, N, cols, trained), at}, 2, (DpsScalar[]){{.f = 1.75}}, 1, 1);
}

static DpsNode table_of_segments (Step *s)
{
    return dps_graph_input (&s->g, DPS_INPUT_SEGMENTS, DPS_DTYPE_U8, 2, (int64_t[]){4, sizeof (DpsSegment)});
}

static DpsNode gathered (Step *s)
{
    dps_graph_input (&s->g, DPS_INPUT_SCORED_ROOTS, DPS_DTYPE_I32, 1, (int64_t[]){3});
    DpsNode at = dps_graph_input (&s->g, DPS_INPUT_SCORED, DPS_DTYPE_I32, 1, (int64_t[]){S});
    return op (s, DPS_OP_gather_rows, (DpsNode[]){activation (s, A, D, 1), at}, 2, NULL, 0, 1);
}

static DpsNode copy (Step *s)
{
    DpsNode x = activation (s, A, D, 1);
    return dps_graph_op (&s->g, DPS_OP_copy, &x, 1, NULL, 0, DPS_DTYPE_F32, NULL, 1);
}

static DpsNode two (Step *s, DpsOpCode code, double alpha, double beta, int trained)
{
    const DpsScalar attrs[] = {{.f = alpha}, {.f = beta}};
    return op (s, code, (DpsNode[]){activation (s, A, D, 1), activation (s, B, D, trained)}, 2, attrs, alpha == 0 ? 0 : 2, 1);
}

static DpsNode add (Step *s) { return two (s, DPS_OP_add, 0, 0, 1); }
static DpsNode subtract (Step *s) { return two (s, DPS_OP_add, 1, -1, 1); }
static DpsNode blend (Step *s) { return two (s, DPS_OP_add, 2, -0.5, 1); }
static DpsNode mul (Step *s) { return two (s, DPS_OP_mul, 0, 0, 1); }
static DpsNode divide (Step *s) { return two (s, DPS_OP_div, 0, 0, 0); } /* the divisor is detached */
static DpsNode geglu (Step *s) { return two (s, DPS_OP_geglu, 0, 0, 1); }
static DpsNode swiglu (Step *s) { return two (s, DPS_OP_swiglu, 0, 0, 1); }

static DpsNode squared (Step *s)
{
    DpsNode x = activation (s, A, D, 1);
    return op (s, DPS_OP_mul, (DpsNode[]){x, x}, 2, NULL, 0, 1);
}

static DpsNode columns (Step *s, DpsOpCode code)
{
    return op (s, code, (DpsNode[]){activation (s, A, D, 1), param (s, V, D, 0, 1)}, 2, NULL, 0, 1);
}

static DpsNode mul_cols (Step *s) { return columns (s, DPS_OP_mul_cols); }
static DpsNode add_cols (Step *s) { return columns (s, DPS_OP_add_cols); }
static DpsNode embed (Step *s) { return activation (s, A, D, 1); }

/* x is read again after the norm: its gradients are added up on the way, with and without an operand c. */
static DpsNode rms_norm (Step *s)
{
    const DpsScalar attrs[] = {{.f = 1e-3}, {.f = 1}, {.i = D / 2}};
    DpsNode x = activation (s, A, D, 1);
    DpsNode y = op (s, DPS_OP_rms_norm, (DpsNode[]){x, param (s, V, D / 2, 0, 1)}, 2, attrs, 3, 2);
    return op (s, DPS_OP_add, (DpsNode[]){x, y}, 2, NULL, 0, 1);
}

static DpsNode linear (Step *s)
{
    DpsNode x = activation (s, A, D, 1), c = activation (s, B, D, 1);
    DpsNode y =
        op (s, DPS_OP_linear, (DpsNode[]){x, param (s, W, D, D, 1), param (s, V, D, 0, 1), c}, 4, (DpsScalar[]){{.f = -0.75}}, 1, 1);
    return op (s, DPS_OP_add, (DpsNode[]){x, y}, 2, NULL, 0, 1);
}

/* On the scored rows, whose roots are others. */
static DpsNode linear_of_scored (Step *s)
{
    return op (s, DPS_OP_linear, (DpsNode[]){gathered (s), param (s, W, O, D, 1), -1, -1}, 4, NULL, 0, 1);
}

static DpsNode rope (Step *s)
{
    const DpsScalar attrs[] = {{.i = D}, {.i = 0}, {.f = 1.5}};
    DpsNode table = dps_graph_input (&s->g, DPS_INPUT_ROPE0, DPS_DTYPE_F32, 1, (int64_t[]){D / 2});
    return op (s, DPS_OP_rope, (DpsNode[]){activation (s, A, D, 1), table_of_segments (s), table}, 3, attrs, 3, 1);
}

static DpsNode attention (Step *s, int64_t window, double softcap)
{
    const DpsScalar attrs[] = {{.i = 2}, {.i = 1}, {.i = D / 2}, {.f = 0.7}, {.i = window}, {.f = softcap}};
    DpsNode q = activation (s, A, D, 1), k = activation (s, B, D / 2, 1), v = activation (s, C, D / 2, 1);
    return op (s, DPS_OP_attention, (DpsNode[]){q, k, v, table_of_segments (s)}, 4, attrs, 6, 2);
}

static DpsNode attention_to_parents (Step *s) { return attention (s, 0, 0); }
static DpsNode attention_capped (Step *s) { return attention (s, 2, 1.5); }

static DpsNode dropout (Step *s)
{
    const DpsScalar attrs[] = {{.f = 0.4}, {.i = 11}, {.i = 2}};
    DpsNode of = dps_graph_input (&s->g, DPS_INPUT_KEYS, DPS_DTYPE_I64, 1, (int64_t[]){N});
    return op (s, DPS_OP_dropout, (DpsNode[]){activation (s, A, D, 1), of}, 2, attrs, 3, 1);
}

static DpsNode token_logprobs (Step *s)
{
    const DpsScalar attrs[] = {{.f = 1.5}, {.f = 0.7}};
    DpsNode h = gathered (s), at = dps_graph_input (&s->g, DPS_INPUT_TARGETS, DPS_DTYPE_I32, 1, (int64_t[]){S});
    return op (s, DPS_OP_token_logprobs, (DpsNode[]){h, param (s, W, VOCAB, D, 1), at, -1}, 4, attrs, 2, 4);
}

static const struct {
    DpsOpCode op;
    const char *what;
    DpsNode (*record) (Step *s);
} cases[] = {
    {DPS_OP_copy, "copy", copy},
    {DPS_OP_add, "add", add},
    {DPS_OP_add, "a - b", subtract},
    {DPS_OP_add, "2a - b/2", blend},
    {DPS_OP_mul, "mul", mul},
    {DPS_OP_mul, "mul of one operand", squared},
    {DPS_OP_mul_cols, "mul_cols", mul_cols},
    {DPS_OP_add_cols, "add_cols", add_cols},
    {DPS_OP_embed, "embed", embed},
    {DPS_OP_rms_norm, "rms_norm", rms_norm},
    {DPS_OP_linear, "linear", linear},
    {DPS_OP_linear, "linear of scored rows", linear_of_scored},
    {DPS_OP_rope, "rope", rope},
    {DPS_OP_attention, "attention", attention_to_parents},
    {DPS_OP_attention, "attention, window, softcap", attention_capped},
    {DPS_OP_geglu, "geglu", geglu},
    {DPS_OP_swiglu, "swiglu", swiglu},
    {DPS_OP_gather_rows, "gather_rows", gathered},
    {DPS_OP_dropout, "dropout", dropout},
    {DPS_OP_token_logprobs, "token_logprobs", token_logprobs},
    {DPS_OP_div, "div", divide},
};
enum { N_CASES = sizeof cases / sizeof *cases };

static DpsStatus resolve (void *ctx, DpsTensorKind kind, int32_t index, DpsOpCode code, int slot, DpsView *out, DpsError *e)
{
    Step *s = ctx;
    (void)code, (void)slot, (void)e;
    *out = kind == DPS_TENSOR_GRAD ? dps_view (DPS_DTYPE_F32, s->rank[index], s->shape[index], s->grad[index])
                                   : dps_view (DPS_DTYPE_F64, s->rank[index], s->shape[index], s->value[index]);
    return DPS_OK;
}

static const DpsBindings *bindings (Step *s)
{
    static DpsBindings b;
    b = (DpsBindings){.ctx = s,
                      .resolve = resolve,
                      .inputs = {[DPS_INPUT_IDS] = ids,
                                 [DPS_INPUT_SEGMENTS] = segments,
                                 [DPS_INPUT_ROOTS] = roots,
                                 [DPS_INPUT_SCORED] = scored,
                                 [DPS_INPUT_TARGETS] = targets,
                                 [DPS_INPUT_SCORED_ROOTS] = scored_roots,
                                 [DPS_INPUT_KEYS] = keys,
                                 [DPS_INPUT_DLOGP] = weights,
                                 [DPS_INPUT_DSCORE] = weights,
                                 [DPS_INPUT_ROPE0] = inv_freq}};
    return &b;
}

static double loss (DpsExec *ex, Step *s, uint64_t peak)
{
    const DpsTensor *t = &s->g.tensors[s->rows];
    double sum = 0;
    CHECK_OK (dps_exec_run (ex, &s->g, peak, 0, s->g.n_forward, bindings (s), &err));
    const void *at = dps_exec_temp (ex, &s->g, s->rows);
    for (int64_t i = 0; i < t->shape[0]; i++)
        sum += (double)weights[i] * (t->dtype == DPS_DTYPE_F64 ? ((const double *)at)[i] : (double)((const float *)at)[i]);
    return sum;
}

static void record (Step *s, size_t c, int checkpoint, uint64_t *out_peak)
{
    *s = (Step){.rows = -1};
    CHECK_OK (dps_graph_init (&s->g, N_PARAMS, DPS_DTYPE_F64, 1, &err));
    dps_graph_input (&s->g, DPS_INPUT_ROOTS, DPS_DTYPE_I32, 1, (int64_t[]){3});
    s->g.layer = 0; /* so that checkpointing records all of it again */
    DpsNode y = cases[c].record (s);
    s->rows = y;
    if (cases[c].op != DPS_OP_token_logprobs)
        s->rows = op (s, DPS_OP_linear, (DpsNode[]){y, param (s, HEAD, 1, s->g.tensors[y].shape[1], 0), -1, -1}, 4, NULL, 0, 1);
    CHECK_OK (dps_graph_status (&s->g, &err));
    s->g.tensors[s->rows].keep = 1;
    dps_graph_seed (&s->g, s->rows, cases[c].op == DPS_OP_token_logprobs ? DPS_INPUT_DLOGP : DPS_INPUT_DSCORE);
    CHECK_OK (dps_graph_backward (&s->g, checkpoint, &err));
    CHECK_OK (dps_plan_layout (&s->g, out_peak, &err));
}

/* A trained parameter's gradient is the slope of the loss; one that is not trained has none. */
static void check_slopes (DpsExec *ex, Step *s, uint64_t peak, const char *what, int checkpoint)
{
    const double step = 1e-3;
    for (int i = 0; i < N_PARAMS; i++) {
        double wrong = 0, norm = 0;
        int64_t n = s->rank[i] ? s->shape[i][0] * s->shape[i][1] : 0;
        if (s->g.grads[i] < 0) {
            CU_ASSERT (n == 0 || !s->g.tensors[s->g.params[i]].requires_grad);
            continue;
        }
        for (int64_t k = 0; k < n; k++) {
            double *at = &s->value[i][k], keep = *at;
            *at = keep + step;
            double up = loss (ex, s, peak);
            *at = keep - step;
            double slope = (up - loss (ex, s, peak)) / (2 * step), got = (double)s->grad[i][k];
            *at = keep;
            wrong += (slope - got) * (slope - got);
            norm += got * got;
        }
        if (!(norm > 0 && sqrt (wrong) <= 1e-3 * sqrt (norm)))
            printf ("\n    %s%s: the gradient of parameter %d is off by %g of %g", what, checkpoint ? ", checkpointed" : "", i,
                    sqrt (wrong), sqrt (norm));
        CU_ASSERT (norm > 0 && sqrt (wrong) <= 1e-3 * sqrt (norm));
    }
}

static void test_every_adjoint_is_the_slope (void)
{
    static Step s;
    DpsRegistry *reg;
    DpsExec ex;
    const char *device = "ref";
    CHECK_OK (dps_registry_open (NULL, &reg, &err));
    CHECK_OK (dps_exec_open (&ex, reg, &device, 1, &err));
    for (size_t c = 0; c < 2 * N_CASES; c++) {
        uint64_t peak;
        record (&s, c / 2, (int)(c % 2), &peak);
        CHECK_OK (dps_exec_reserve (&ex, peak, &err));
        CHECK_OK (dps_exec_run (&ex, &s.g, peak, 0, s.g.n_ops, bindings (&s), &err));
        check_slopes (&ex, &s, peak, cases[c / 2].what, (int)(c % 2));
        dps_graph_free (&s.g);
    }
    dps_exec_close (&ex);
    dps_registry_close (reg);
}

static void test_no_adjoint_is_left_out (void)
{
    for (int code = 0; code < DPS_OP_COUNT; code++) {
        size_t c = 0;
        while (c < N_CASES && (int)cases[c].op != code)
            c++;
        if ((c < N_CASES) != (dps__op_differentiable ((DpsOpCode)code) != 0))
            printf ("\n    %s", dps_op_name ((DpsOpCode)code));
        CU_ASSERT_EQUAL (c < N_CASES, dps__op_differentiable ((DpsOpCode)code) != 0);
    }
}

static void test_shapes_that_do_not_fit_are_named (void)
{
    static const struct {
        DpsOpCode op;
        int64_t in[4][2]; /* 0: absent; a vector where the second is 0 */
        DpsScalar attrs[4];
        const char *message;
    } bad[] = {
        {DPS_OP_rms_norm, {{3, 6}, {6, 0}}, {{0}, {0}, {.i = 4}}, "rms_norm: row width is 6, expected 4"},
        {DPS_OP_rms_norm, {{3, 6}, {5, 0}}, {{0}}, "rms_norm: weight is 5, expected 6"},
        {DPS_OP_linear, {{3, 6}, {4, 5}}, {{0}}, "linear: input width is 6, expected 5"},
        {DPS_OP_linear_dx, {{3, 6}, {4, 5}}, {{0}}, "linear_dx: gradient width is 6, expected 4"},
        {DPS_OP_attention, {{3, 6}, {3, 6}, {3, 6}}, {{.i = 3}, {.i = 2}, {.i = 2}}, "attention: query heads is 3, expected 2"},
        {DPS_OP_attention, {{3, 6}, {3, 2}, {3, 2}}, {{.i = 2}, {.i = 1}, {.i = 2}}, "attention: q width is 6, expected 4"},
        {DPS_OP_attention, {{3, 4}, {3, 6}, {3, 2}}, {{.i = 2}, {.i = 1}, {.i = 2}}, "attention: k width is 6, expected 2"},
        {DPS_OP_attention, {{3, 4}, {3, 2}, {3, 6}}, {{.i = 2}, {.i = 1}, {.i = 2}}, "attention: v width is 6, expected 2"},
        {DPS_OP_token_logprobs, {{3, 6}, {7, 5}}, {{0}}, "token_logprobs: hidden width is 6, expected 5"},
        {DPS_OP_row_logprobs, {{3, 6}, {2, 0}}, {{0}}, "row_logprobs: targets is 2, expected 3"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        DpsGraph g;
        DpsNode in[4] = {-1, -1, -1, -1};
        CHECK_OK (dps_graph_init (&g, 0, DPS_DTYPE_F32, 0, &err));
        for (int k = 0; k < 4; k++)
            if (bad[i].in[k][0])
                in[k] = dps_graph_temp (&g, DPS_DTYPE_F32, bad[i].in[k][1] ? 2 : 1, bad[i].in[k]);
        CU_ASSERT_EQUAL (dps_graph_op (&g, bad[i].op, in, 4, bad[i].attrs, 4, DPS_DTYPE_F32, NULL, 1), -1);
        CHECK_FAILS (dps_graph_status (&g, &err), DPS_ERR_SHAPE, bad[i].message);
        dps_graph_free (&g);
    }
}

CHECK_MAIN ("graph: adjoints and shapes", T (test_every_adjoint_is_the_slope), T (test_no_adjoint_is_left_out),
            T (test_shapes_that_do_not_fit_are_named))
