/* SPDX-License-Identifier: Apache-2.0 */
#include "subtle.h"

#include <math.h>
#include <string.h>

#include "../../../backends/ref/ref.h"
#include "base/mem.h"
#include "broken.h"

enum { ROWS_LAYOUT = DPS_LAYOUT_PACKED };

static int64_t rows_of (const DpsView *v) { return dps__ref_rows (v); }
static int64_t cols_of (const DpsView *v) { return dps__ref_cols (v); }

/* Numbers of row r of y (and x, one by one), changed. */
static void change (const DpsView *y, const DpsView *x, double (*f) (double y, double x, int64_t col))
{
    double to[4200], from[4200] = {0};
    for (int64_t r = 0; y && cols_of (y) <= 4200 && r < rows_of (y); r++) {
        dps__ref_load (y, r, to);
        if (x && r < rows_of (x) && cols_of (x) <= 4200)
            dps__ref_load (x, r, from);
        for (int64_t i = 0; i < cols_of (y); i++)
            to[i] = f (to[i], from[i], i);
        dps__ref_store (y, r, to);
    }
}

static double negated (double y, double x, int64_t i) { return (void)x, (void)i, -y; }
static double overflows (double y, double x, int64_t i) { return (void)i, fabs (x) > 11 ? (double)NAN : y; }
static double underflows (double y, double x, int64_t i) { return (void)x, (void)i, y < -85 ? -(double)INFINITY : y; }

/* f32 cut to bf16. */
static double cut (double y, double x, int64_t i)
{
    float f = (float)x;
    uint32_t bits;
    (void)i, (void)y;
    memcpy (&bits, &f, sizeof bits);
    bits &= 0xffff0000;
    memcpy (&f, &bits, sizeof f);
    return (double)f;
}

/* x/(√mean + eps) for x/√(mean + eps). */
static void eps_outside (const DpsOp *op)
{
    const DpsView *x = op->in[0], *y = op->out[0];
    double row[4200], eps = op->attrs[0].f;
    int64_t h = op->n_attrs > 2 && op->attrs[2].i ? op->attrs[2].i : cols_of (x);
    for (int64_t r = 0; r < rows_of (x); r++) {
        dps__ref_load (x, r, row);
        double factor[4200];
        for (int64_t g = 0; g < cols_of (x); g += h) {
            double sum = 0;
            for (int64_t i = 0; i < h; i++)
                sum += row[g + i] * row[g + i];
            sum /= (double)h;
            for (int64_t i = 0; i < h; i++)
                factor[g + i] = sqrt (sum + eps) / (sqrt (sum) + eps);
        }
        dps__ref_load (y, r, row);
        for (int64_t i = 0; i < cols_of (x); i++)
            row[i] *= factor[i];
        dps__ref_store (y, r, row);
    }
}

void subtle_before (const DpsOp *op, int dry, SubtleIs *is, SubtleCall *out)
{
    static const char *const with_roots[] = {"mul_cols_dv", "embed_dw", "rms_norm_dw", "linear_dw", "bias_db", "token_logprobs_dw"};
    static const uint32_t roots_at[] = {2, 2, 3, 2, 1, 4};
    out->op = *op;
    memset (out->attrs, 0, sizeof out->attrs);
    memcpy (out->attrs, op->attrs, (op->n_attrs < SUBTLE_ATTRS ? op->n_attrs : SUBTLE_ATTRS) * sizeof *out->attrs);
    memcpy (out->in, op->in, (op->n_in < SUBTLE_IN ? op->n_in : SUBTLE_IN) * sizeof *out->in);
    out->op.attrs = out->attrs;
    out->op.in = out->in;
    if (IS (reads_attrs_not_given) && is (op, "linear") && !op->n_attrs) {
        out->attrs[0] = op->attrs[0];
        out->op.n_attrs = 1;
    }
    if (IS (reads_inputs_not_given) && is (op, "linear") && op->n_in == 2 && op->in[2] && op->in[2]->rank == 1) {
        out->in[2] = op->in[2];
        out->op.n_in = 3;
    }
    if (IS (dry_reads_rows) && dry && is (op, "gather_rows"))
        *(volatile int32_t *)dps__ref_data (op->in[1]);
    if (IS (adam_without_eps) && is (op, "adamw_step"))
        out->attrs[3].f = 0;
    if (IS (dropout_seed_of_32_bits) && is (op, "dropout"))
        out->attrs[1].i &= 0xffffffff;
    if (IS (caps_without_temperature) && is (op, "token_logprobs") && out->attrs[1].f == 0)
        out->attrs[0].f = 0;
    for (int i = 0; i < 6 && IS (ignores_roots) && !dry; i++)
        if (is (op, with_roots[i]) && op->n_in > roots_at[i]) {
            const DpsView *roots = op->in[roots_at[i]];
            out->roots[0] = 0;
            out->roots[1] = (int32_t)rows_of (op->in[0]);
            out->shape[0] = 2;
            out->view = (DpsView){.size = sizeof out->view, .dtype = roots->dtype, .rank = 1, .shape = out->shape, .host = out->roots};
            out->in[roots_at[i]] = &out->view;
        }
    const uint32_t table = is (op, "attention") ? 3 : is (op, "attention_bwd") ? 6 : 0;
    if (IS (segments_of_32_bytes) && table && op->in[table]->shape[1] > 32) {
        out->view = *op->in[table];
        out->shape[0] = op->in[table]->shape[0], out->shape[1] = 32;
        out->view.shape = out->shape;
        out->in[table] = &out->view;
    }
    for (uint32_t i = 0; i < op->n_in && i < SUBTLE_IN; i++)
        if (out->in[i] && out->in[i]->layout == ROWS_LAYOUT) {
            out->rows[i] = *out->in[i];
            out->rows[i].layout = DPS_LAYOUT_ROW_MAJOR;
            out->in[i] = &out->rows[i];
        }
}

void subtle_after (const DpsOp *op, SubtleIs *is)
{
    const DpsView *y = op->n_out ? op->out[0] : NULL, *x = op->n_in ? op->in[0] : NULL;
    int attention = is (op, "attention") || is (op, "attention_bwd");
    if (!y || !x)
        return;
    if (IS (copy_cuts) && is (op, "copy") && y->dtype == DPS_DTYPE_BF16 && x->dtype == DPS_DTYPE_F32)
        change (y, x, cut);
    if (IS (strided_in_f32_only) && is (op, "add") && x->stride && x->dtype == DPS_DTYPE_BF16)
        change (y, NULL, negated);
    if (IS (strided_rows_of_norm) && is (op, "rms_norm") && x->stride)
        change (y, NULL, negated);
    if (IS (eps_outside_of_long_rows) && is (op, "rms_norm") && cols_of (x) >= 64)
        eps_outside (op);
    if (IS (heads_of_128_at_most) && attention && op->attrs[2].i > 128)
        change (y, NULL, negated);
    if (IS (keys_of_512_at_most) && attention && rows_of (op->in[1]) > 512)
        change (y, NULL, negated);
    if (IS (bf16_sums_of_2048_at_most) && is (op, "linear") && x->dtype == DPS_DTYPE_BF16 && cols_of (x) > 2048)
        change (y, NULL, negated);
    if (IS (dx_sums_of_2048_at_most) && is (op, "linear_dx") && cols_of (x) > 2048)
        change (y, NULL, negated);
    if (IS (dw_rows_of_1024_at_most) && is (op, "linear_dw") && rows_of (x) > 1024)
        change (y, NULL, negated);
    if (IS (no_maximum_taken) && is (op, "token_logprobs"))
        change (y, NULL, underflows);
    if (IS (gelu_overflows) && is (op, "geglu"))
        change (y, x, overflows);
    if (IS (silu_bwd_overflows) && is (op, "swiglu_bwd"))
        change (y, x, overflows);
    if (IS (softcap_overflows) && is (op, "softcap"))
        change (y, x, overflows);
    if (IS (deep_bits_by_threads) && is (op, "linear") && cols_of (x) > 4096 && getenv ("OMP_NUM_THREADS") &&
        strcmp (getenv ("OMP_NUM_THREADS"), "1"))
        *(uint32_t *)dps__ref_data (y) ^= 1;
}

DpsStatus subtle_status (const DpsOp *op, DpsStatus st, SubtleIs *is)
{
    if (st == DPS_ERR_INVALID && IS (takes_any_target) && is (op, "token_logprobs_dw"))
        return DPS_OK;
    return st;
}

static DpsStatus query (struct DpsDevice *dev, int64_t out_features, int64_t in_features, uint32_t dtype, uint32_t orientation,
                        uint64_t *out_bytes, uint32_t *out_layout, DpsError *err)
{
    (void)dev, (void)orientation, (void)err;
    *out_bytes = (uint64_t)(out_features * in_features) * (dtype == DPS_DTYPE_F32 ? 4 : 2);
    *out_layout = ROWS_LAYOUT;
    return DPS_OK;
}

static DpsStatus pack (struct DpsDevice *dev, const DpsView *from, int64_t row, uint32_t orientation, const DpsView *to, DpsError *err)
{
    double values[4200];
    (void)dev, (void)orientation, (void)err;
    DpsView rows = *to;
    rows.layout = DPS_LAYOUT_ROW_MAJOR;
    for (int64_t r = 0; r < rows_of (from) && (r < 64 || !IS (packs_64_rows_at_most)); r++) {
        dps__ref_load (from, r, values);
        for (int64_t i = 0; IS (pack_cuts) && i < cols_of (from); i++)
            values[i] = cut (0, values[i], i);
        dps__ref_store (&rows, row + r, values);
    }
    return DPS_OK;
}

const DpsPack subtle_pack = {.size = sizeof subtle_pack, .query = query, .pack = pack};

/* Of a pair of ops, as they were built with: the fault looks at these. */
struct DpsRecorded {
    struct DpsDevice *dev;
    DpsOp op[2];
    DpsView views[2][SUBTLE_IN];
    const DpsView *in[2][SUBTLE_IN], *out[2][1];
};

DpsStatus (*subtle_run) (struct DpsDevice *dev, const DpsOp *op, uint32_t flags, DpsError *err);

static DpsStatus query_segment (struct DpsDevice *dev, const DpsOp *const *ops, uint64_t n, uint64_t *out_n, DpsError *err)
{
    *out_n = n < 2 ? n : 2;
    for (uint64_t i = 0; i < *out_n; i++) {
        DPS_TRY (subtle_run (dev, ops[i], DPS_RUN_DRY, err));
        if (ops[i]->n_in >= SUBTLE_IN || ops[i]->n_out != 1)
            return dps_fail (err, DPS_ERR_UNSUPPORTED, "more operands than are kept");
    }
    return DPS_OK;
}

static DpsStatus build_segment (struct DpsDevice *dev, const DpsOp *const *ops, uint64_t n, struct DpsRecorded **out, uint64_t *out_bytes,
                                DpsError *err)
{
    struct DpsRecorded *r = dps_calloc (1, sizeof *r);
    if (!r)
        return dps_fail (err, DPS_ERR_NOMEM, "no memory");
    r->dev = dev;
    for (uint64_t o = 0; o < n; o++) {
        r->op[o] = *ops[o];
        for (uint32_t i = 0; i < ops[o]->n_in; i++) {
            r->views[o][i] = *ops[o]->in[i];
            r->in[o][i] = &r->views[o][i];
        }
        r->views[o][SUBTLE_IN - 1] = *ops[o]->out[0];
        r->out[o][0] = &r->views[o][SUBTLE_IN - 1];
        r->op[o].in = r->in[o];
        r->op[o].out = r->out[o];
    }
    *out = r;
    *out_bytes = 0;
    return DPS_OK;
}

static DpsStatus run_segment (struct DpsRecorded *r, const DpsOp *const *ops, uint64_t n, const DpsView *scratch, struct DpsQueue *q,
                              DpsError *err)
{
    (void)scratch, (void)q;
    for (uint64_t i = 0; i < n; i++)
        DPS_TRY (subtle_run (r->dev, IS (segment_keeps_buffers) ? &r->op[i] : ops[i], 0, err));
    return DPS_OK;
}

static void free_segment (struct DpsRecorded *r) { dps_free (r); }

DpsRecorder subtle_recorder = {
    .size = sizeof subtle_recorder, .query = query_segment, .build = build_segment, .run = run_segment, .free = free_segment};
