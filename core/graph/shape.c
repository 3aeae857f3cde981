/* SPDX-License-Identifier: Apache-2.0 */
/* shape.c: one rule per family of ops: the shapes of outputs from those of inputs. Names are those in ops.def. */
#include "graph/rules.h"

typedef struct Rule {
    DpsGraph *g;
    DpsRecord *r;
    uint32_t dtype;
    int needs_grad;
} Rule;

static DpsTensor in (const Rule *s, int i) { return s->r->in[i] >= 0 ? s->g->tensors[s->r->in[i]] : (DpsTensor){0}; }

static int64_t rows (const DpsTensor *t) { return t->rank ? t->shape[0] : 1; }
static int64_t width (const DpsTensor *t) { return t->rank ? dps_tensor_elements (t) / (t->shape[0] ? t->shape[0] : 1) : 1; }

static void make (Rule *s, int i, uint32_t dtype, uint32_t rank, const int64_t *shape)
{
    if (i < s->r->n_out)
        s->r->out[i] = dps_graph_temp (s->g, dtype, rank, shape);
}

static void expect (Rule *s, int ok, const char *what, int64_t got, int64_t want)
{
    if (!ok)
        dps_graph_fail (s->g, DPS_ERR_SHAPE, "%s: %s is %lld, expected %lld", dps_op_name (s->r->op), what, (long long)got,
                        (long long)want);
}

static void shape_given (Rule *s)
{
    for (int i = 0; i < s->r->n_out; i++)
        if (s->r->out[i] >= 0 && s->g->tensors[s->r->out[i]].kind == DPS_TENSOR_INPUT)
            dps_graph_fail (s->g, DPS_ERR_INTERNAL, "%s writes an input", dps_op_name (s->r->op));
}

static void shape_same (Rule *s)
{
    DpsTensor x = in (s, 0);
    make (s, 0, s->dtype, x.rank, x.shape);
}

static void shape_embed (Rule *s)
{
    DpsTensor table = in (s, 0), ids = in (s, 1);
    make (s, 0, s->dtype, 2, (int64_t[]){ids.shape[0], table.shape[1]});
}

static void shape_rms_norm (Rule *s)
{
    DpsTensor x = in (s, 0), w = in (s, 1);
    int64_t h = s->r->attrs[2].i ? s->r->attrs[2].i : width (&x);
    if (h <= 0 || dps_tensor_elements (&x) % h) {
        expect (s, 0, "row width", width (&x), h);
        return;
    }
    expect (s, dps_tensor_elements (&w) == h, "weight", dps_tensor_elements (&w), h);
    make (s, 0, s->dtype, x.rank, x.shape);
    if (s->needs_grad)
        make (s, 1, DPS_DTYPE_F32, 1, (int64_t[]){dps_tensor_elements (&x) / h});
}

static void shape_linear (Rule *s)
{
    DpsTensor x = in (s, 0), w = in (s, 1);
    expect (s, width (&x) == w.shape[1], "input width", width (&x), w.shape[1]);
    make (s, 0, s->dtype, 2, (int64_t[]){rows (&x), w.shape[0]});
}

static void shape_linear_dx (Rule *s)
{
    DpsTensor dy = in (s, 0), w = in (s, 1);
    expect (s, width (&dy) == w.shape[0], "gradient width", width (&dy), w.shape[0]);
    make (s, 0, s->dtype, 2, (int64_t[]){rows (&dy), w.shape[1]});
}

static void shape_attention (Rule *s)
{
    DpsTensor q = in (s, 0), k = in (s, 1), v = in (s, 2);
    int64_t heads = s->r->attrs[0].i, kv = s->r->attrs[1].i, h = s->r->attrs[2].i;
    if (heads <= 0 || kv <= 0 || heads % kv) {
        expect (s, 0, "query heads", heads, kv);
        return;
    }
    expect (s, width (&q) == heads * h, "q width", width (&q), heads * h);
    expect (s, width (&k) == kv * h, "k width", width (&k), kv * h);
    expect (s, width (&v) == kv * h, "v width", width (&v), kv * h);
    make (s, 0, s->dtype, 2, (int64_t[]){rows (&q), heads * h});
    if (s->needs_grad)
        make (s, 1, DPS_DTYPE_F32, 2, (int64_t[]){rows (&q), heads});
}

static void shape_attention_bwd (Rule *s)
{
    for (int i = 0; i < 3; i++) {
        DpsTensor t = in (s, i);
        make (s, i, s->dtype, t.rank, t.shape);
    }
}

static void shape_gate_bwd (Rule *s)
{
    DpsTensor t = in (s, 0);
    make (s, 0, s->dtype, t.rank, t.shape);
    make (s, 1, s->dtype, t.rank, t.shape);
}

static void shape_gather_rows (Rule *s)
{
    DpsTensor x = in (s, 0), at = in (s, 1);
    make (s, 0, s->dtype, 2, (int64_t[]){at.shape[0], width (&x)});
}

static void shape_row_max (Rule *s)
{
    DpsTensor x = in (s, 0);
    make (s, 0, s->dtype, 2, (int64_t[]){rows (&x), 1});
    make (s, 1, DPS_DTYPE_I32, 1, (int64_t[]){rows (&x)});
}

static void shape_token_logprobs (Rule *s)
{
    DpsTensor h = in (s, 0), w = in (s, 1);
    expect (s, width (&h) == w.shape[1], "hidden width", width (&h), w.shape[1]);
    for (int i = 0; i < 3; i++)
        make (s, i, DPS_DTYPE_F32, 1, (int64_t[]){rows (&h)});
    if (s->needs_grad && s->r->in[0] >= 0 && s->g->tensors[s->r->in[0]].requires_grad)
        make (s, 3, DPS_DTYPE_F32, 2, (int64_t[]){rows (&h), width (&h)});
}

static void shape_row_logprobs (Rule *s)
{
    DpsTensor z = in (s, 0), targets = in (s, 1);
    expect (s, rows (&targets) == rows (&z), "targets", rows (&targets), rows (&z));
    make (s, 0, DPS_DTYPE_F32, 1, (int64_t[]){rows (&z)});
}

static void shape_dora_norm (Rule *s)
{
    DpsTensor w = in (s, 0);
    if (s->r->in[3] >= 0)
        make (s, 0, DPS_DTYPE_F32, 1, w.shape);
    make (s, 1, DPS_DTYPE_F32, 1, w.shape);
}

void dps__op_shape (DpsGraph *g, DpsRecord *r, uint32_t dtype, int needs_grad)
{
    static void (*const rules[]) (Rule *) = {
#define OP(name, n_in, n_out, shape, adjoint) shape_##shape,
#include "graph/ops.def"
#undef OP
    };
    Rule s = {g, r, dtype, needs_grad};
    rules[r->op](&s);
}
