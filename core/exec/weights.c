/* SPDX-License-Identifier: Apache-2.0 */
#include "exec/weights.h"

#include <string.h>

#include "base/mem.h"
#include "exec/stage.h"
#include "graph/source_check.h"

enum { LOAD_ROWS = 1024 }; /* rows read and packed at a time: a multiple of 64 (backend.h, pack) */

int64_t dps_weight_elements (const DpsWeight *w) { return w->shape[0] * (w->rank > 1 ? w->shape[1] : 1); }

static int is_matrix (const DpsWeight *w)
{
    return w->role == DPS_WEIGHT_EMBED || w->role == DPS_WEIGHT_HEAD || w->role == DPS_WEIGHT_LINEAR;
}

/* Whether a weight is kept in the first device's packed layout: not when an op that reads it so was asked to run on another. */
static int packs_for (const DpsExec *ex, const DpsWeight *w, uint32_t orientation)
{
    int forward = dps_exec_elsewhere (ex, DPS_OP_linear), grad = dps_exec_elsewhere (ex, DPS_OP_linear_dx);
    if (!ex->devices[0].pack || !is_matrix (w))
        return 0;
    if (w->role == DPS_WEIGHT_LINEAR)
        return orientation == DPS_PACK_FORWARD ? !forward : !grad;
    return !forward && !grad && !dps_exec_elsewhere (ex, DPS_OP_token_logprobs) && !dps_exec_elsewhere (ex, DPS_OP_embed);
}

/* The forms one weight is kept in. */
typedef struct Forms {
    uint32_t rows_dtype; /* 0: none */
    uint64_t rows, packed[2], master, grad, moment;
    uint64_t lookups; /* the part of grad, at its end, that embed_dw adds to (dps_weights_grad) */
    uint32_t layout[2];
} Forms;

static Forms forms_of (DpsExec *ex, const DpsModel *m, size_t i, uint32_t compute, int training)
{
    Forms f = {0};
    const DpsWeight *w = &m->weights[i];
    const DpsExecDevice *d = &ex->devices[0];
    uint64_t n = (uint64_t)dps_weight_elements (w);
    int trains = training && w->trainable, packs = compute != DPS_DTYPE_F64 && packs_for (ex, w, DPS_PACK_FORWARD);
    int rows_for_grad = training && dps_exec_elsewhere (ex, DPS_OP_linear_dx);
    DpsError why = DPS_ERROR_INIT;
    if (dps__weight_quantised (w, training))
        return f;
    if (packs &&
        d->pack->query (d->info.device, w->shape[0], w->shape[1], compute, DPS_PACK_FORWARD, &f.packed[0], &f.layout[0], &why) != DPS_OK) {
        packs = 0;
        f.packed[0] = f.layout[0] = 0;
    }
    if (training && compute != DPS_DTYPE_F64 && packs_for (ex, w, DPS_PACK_INPUT_GRAD) &&
        (packs || dps_exec_elsewhere (ex, DPS_OP_linear)) &&
        d->pack->query (d->info.device, w->shape[0], w->shape[1], compute, DPS_PACK_INPUT_GRAD, &f.packed[1], &f.layout[1], &why) != DPS_OK)
        f.packed[1] = f.layout[1] = 0;
    int embeds = w->role == DPS_WEIGHT_EMBED && packs && !d->pack->unpack_rows;
    if (!packs || rows_for_grad || w->needs_rows || embeds || trains) {
        int vector = w->rank == 1 || w->role == DPS_WEIGHT_NORM || w->role == DPS_WEIGHT_BIAS;
        f.rows_dtype = compute == DPS_DTYPE_BF16 && vector ? DPS_DTYPE_F32 : compute;
        f.rows = n * dps_dtype_bytes (f.rows_dtype);
    }
    if (trains) {
        f.master = f.rows_dtype == DPS_DTYPE_F32 ? 0 : 4 * n;
        f.moment = 4 * n;
        f.lookups = m->embed == m->head && (int32_t)i == m->embed ? 4 * n : 0;
        f.grad = 4 * n + f.lookups;
    }
    return f;
}

DpsStatus dps_weights_measure (DpsExec *ex, const DpsModel *model, uint32_t compute, int training, int n_moments, DpsWeightBytes *out,
                               DpsError *err)
{
    *out = (DpsWeightBytes){0};
    for (size_t i = 0; i < model->n_weights; i++) {
        uint64_t codes = 0;
        if (dps__weight_quantised (&model->weights[i], training)) {
            DPS_TRY (dps__quantised_bytes (&model->weights[i], &codes, err));
            out->quantised_numbers += (uint64_t)dps_weight_elements (&model->weights[i]);
        }
        out->quantised += codes;
        Forms f = forms_of (ex, model, i, compute, training);
        out->rows += f.rows;
        out->packed_forward += f.packed[0];
        out->packed_grad += f.packed[1];
        out->master += f.master;
        out->gradients += f.grad;
        out->optimizer += (uint64_t)n_moments * f.moment;
    }
    return DPS_OK;
}

DpsStatus dps_weights_outline (DpsWeights *w, DpsExec *ex, const DpsModel *model, uint32_t compute, int training, DpsError *err)
{
    *w = (DpsWeights){.ex = ex, .model = model, .compute = compute, .training = training, .outline = 1};
    w->stores = dps_calloc (model->n_weights, sizeof *w->stores);
    if (!w->stores)
        return dps_fail (err, DPS_ERR_NOMEM, "weights: out of memory");
    for (size_t i = 0; i < model->n_weights; i++) {
        Forms f = forms_of (ex, model, i, compute, training);
        w->stores[i].rows_dtype = f.rows_dtype;
        for (int k = 0; k < 2; k++)
            w->stores[i].layout[k] = f.layout[k];
        if (dps__weight_quantised (&model->weights[i], training)) {
            DpsStatus st = dps__quantised_open (w, (int32_t)i, err);
            if (st != DPS_OK) {
                dps_weights_free (w);
                return st;
            }
        }
    }
    return DPS_OK;
}

static DpsStatus zeroed (DpsExec *ex, uint64_t bytes, DpsBlock *out, DpsError *err)
{
    if (bytes == 0)
        return DPS_OK;
    DPS_TRY (dps_exec_alloc (ex, bytes, out, err));
    return dps_block_zero (ex, out, 0, bytes, err);
}

static DpsStatus allocate (DpsWeights *w, size_t i, int n_moments, DpsError *err)
{
    DpsStore *s = &w->stores[i];
    Forms f = forms_of (w->ex, w->model, i, w->compute, w->training);
    if (dps__weight_quantised (&w->model->weights[i], w->training))
        return dps__quantised_open (w, (int32_t)i, err);
    s->rows_dtype = f.rows_dtype;
    if (f.rows)
        DPS_TRY (dps_exec_alloc (w->ex, f.rows, &s->rows, err));
    for (int k = 0; k < 2; k++) {
        s->layout[k] = f.layout[k];
        if (f.packed[k])
            DPS_TRY (dps_exec_alloc (w->ex, f.packed[k], &s->packed[k], err));
    }
    if (f.master)
        DPS_TRY (dps_exec_alloc (w->ex, f.master, &s->master, err));
    s->lookups = f.lookups;
    DPS_TRY (zeroed (w->ex, f.grad, &s->grad, err));
    DPS_TRY (zeroed (w->ex, n_moments > 0 ? f.moment : 0, &s->m, err));
    return zeroed (w->ex, n_moments > 1 ? f.moment : 0, &s->v, err);
}

/* Write rows [row, row+n) of a weight, given in f32, into every form it is kept in. */
static DpsStatus put_rows (DpsWeights *w, int32_t i, int64_t row, int64_t n, const float *values, DpsError *err)
{
    const DpsWeight *spec = &w->model->weights[i];
    DpsStore *s = &w->stores[i];
    const DpsExecDevice *d = &w->ex->devices[0];
    int64_t cols = spec->rank > 1 ? spec->shape[1] : 1, piece[2] = {n, cols};
    DpsView from = dps_view (DPS_DTYPE_F32, 2, piece, values);
    if (s->codes.buffer)
        return dps_fail (err, DPS_ERR_UNSUPPORTED, "weights: '%s' is quantised: its numbers cannot be set", spec->name);
    if (s->master.buffer)
        DPS_TRY (
            dps_block_put (w->ex, &s->master, (uint64_t)(row * cols) * sizeof *values, values, (uint64_t)(n * cols) * sizeof *values, err));
    if (s->rows.buffer) {
        DpsView to = dps_block_view (s->rows_dtype, 2, piece, &s->rows, (uint64_t)(row * cols) * dps_dtype_bytes (s->rows_dtype));
        if (!to.host || (const void *)to.host != values)
            DPS_TRY (dps_exec_op (w->ex, DPS_OP_copy, (DpsOp){DPS_IN (&from), DPS_OUT (&to)}, err));
    }
    for (uint32_t k = 0; k < 2; k++)
        if (s->packed[k].buffer) {
            DpsView to = dps_block_view (w->compute, 2, spec->shape, &s->packed[k], 0);
            to.layout = s->layout[k];
            DPS_TRY (d->pack->pack (d->info.device, &from, row, k, &to, err));
        }
    return DPS_OK;
}

static DpsStatus load_weight (DpsWeights *w, int32_t i, DpsSource *src, float *buffer, DpsError *err)
{
    const DpsWeight *spec = &w->model->weights[i];
    int64_t at = dps_source_find (src, spec->name), cols = spec->rank > 1 ? spec->shape[1] : 1;
    if (dps__weight_quantised (spec, w->training))
        return dps__quantised_load (w, i, src, buffer, LOAD_ROWS, err);
    for (int64_t row = 0; row < spec->shape[0]; row += LOAD_ROWS) {
        int64_t n = spec->shape[0] - row < LOAD_ROWS ? spec->shape[0] - row : LOAD_ROWS;
        DPS_TRY (dps_source_read (src, (size_t)at, (uint64_t)(row * cols), (uint64_t)(n * cols), buffer, err));
        DPS_TRY (put_rows (w, i, row, n, buffer, err));
    }
    dps_source_release (src, (size_t)at);
    return DPS_OK;
}

DpsStatus dps_weights_load (DpsWeights *w, DpsExec *ex, const DpsModel *model, DpsSource *src, uint32_t compute, int training,
                            int n_moments, DpsError *err)
{
    *w = (DpsWeights){.ex = ex, .model = model, .compute = compute, .training = training};
    int64_t widest = 1;
    if (src)
        DPS_TRY (dps_source_check (src, model, err));
    for (size_t i = 0; i < model->n_weights; i++)
        if (model->weights[i].rank > 1 && model->weights[i].shape[1] > widest)
            widest = model->weights[i].shape[1];
    w->stores = dps_calloc (model->n_weights, sizeof *w->stores);
    float *buffer = dps_malloc ((size_t)LOAD_ROWS * (size_t)widest, sizeof *buffer);
    DpsStatus st = w->stores && buffer ? dps_weights_measure (ex, model, compute, training, n_moments, &w->bytes, err)
                                       : dps_fail (err, DPS_ERR_NOMEM, "weights: out of memory");
    for (size_t i = 0; st == DPS_OK && i < model->n_weights; i++)
        st = allocate (w, i, n_moments, err);
    for (size_t i = 0; st == DPS_OK && src && i < model->n_base; i++)
        st = load_weight (w, (int32_t)i, src, buffer, err);
    dps_free (buffer);
    if (st != DPS_OK)
        dps_weights_free (w);
    return st;
}

void dps_weights_free (DpsWeights *w)
{
    for (size_t i = 0; w->stores && i < w->model->n_weights; i++) {
        DpsStore *s = &w->stores[i];
        DpsBlock *blocks[] = {&s->rows, &s->packed[0], &s->packed[1], &s->master, &s->grad, &s->m, &s->v, &s->codes};
        for (size_t k = 0; k < sizeof blocks / sizeof *blocks; k++)
            dps_exec_free (w->ex, blocks[k]);
    }
    dps_free (w->stores);
    *w = (DpsWeights){0};
}

static const DpsBlock no_block;

const DpsBlock *dps_weights_master_block (const DpsWeights *w, int32_t weight)
{
    const DpsStore *s = &w->stores[weight];
    return s->master.buffer ? &s->master : s->rows_dtype == DPS_DTYPE_F32 ? &s->rows : &no_block;
}

float *dps_weights_master (const DpsWeights *w, int32_t weight) { return dps_weights_master_block (w, weight)->host; }

DpsStatus dps_weights_join_grad (DpsWeights *w, int32_t weight, DpsError *err)
{
    const DpsStore *s = &w->stores[weight];
    int64_t n = (int64_t)(s->lookups / sizeof (float));
    if (!n)
        return DPS_OK;
    if (s->grad.host) {
        dps_weights_grad (w, weight);
        return DPS_OK;
    }
    DpsView sum = dps_block_view (DPS_DTYPE_F32, 1, &n, &s->grad, 0), more = dps_block_view (DPS_DTYPE_F32, 1, &n, &s->grad, s->lookups);
    DPS_TRY (dps_exec_op (w->ex, DPS_OP_add, (DpsOp){DPS_IN (&sum, &more), DPS_OUT (&sum)}, err));
    return dps_block_zero (w->ex, &s->grad, s->lookups, s->lookups, err);
}

float *dps_weights_grad (const DpsWeights *w, int32_t weight)
{
    const DpsStore *s = &w->stores[weight];
    float *grad = s->grad.host;
    if (s->lookups) {
        size_t n = s->lookups / sizeof *grad;
        for (size_t k = 0; k < n; k++)
            grad[k] += grad[n + k];
        memset (grad + n, 0, s->lookups);
    }
    return grad;
}

DpsStatus dps_weights_get (const DpsWeights *w, int32_t weight, float *out, DpsError *err)
{
    const DpsWeight *spec = &w->model->weights[weight];
    const DpsBlock *master = dps_weights_master_block (w, weight);
    if (master->buffer)
        return dps_block_get (w->ex, master, 0, out, (uint64_t)dps_weight_elements (spec) * sizeof *out, err);
    return dps_weights_rows (w, weight, 0, spec->shape[0], out, err);
}

DpsStatus dps_weights_set (DpsWeights *w, int32_t weight, const float *values, DpsError *err)
{
    const DpsWeight *spec = &w->model->weights[weight];
    int64_t cols = spec->rank > 1 ? spec->shape[1] : 1;
    for (int64_t row = 0; row < spec->shape[0]; row += LOAD_ROWS) {
        int64_t n = spec->shape[0] - row < LOAD_ROWS ? spec->shape[0] - row : LOAD_ROWS;
        DPS_TRY (put_rows (w, weight, row, n, values + row * cols, err));
    }
    return DPS_OK;
}

DpsStatus dps_weights_zero_grads (DpsWeights *w, DpsError *err)
{
    for (size_t i = 0; i < w->model->n_weights; i++)
        if (w->stores[i].grad.buffer)
            DPS_TRY (dps_block_zero (w->ex, &w->stores[i].grad, 0, w->stores[i].grad.bytes, err));
    return DPS_OK;
}

/* Every form from the f32 master, which is on a device of its own memory: rows there, packed forms through the host. */
static DpsStatus refresh_there (DpsWeights *w, int32_t i, DpsError *err)
{
    const DpsStore *s = &w->stores[i];
    int64_t n = dps_weight_elements (&w->model->weights[i]);
    if (!s->packed[0].buffer) {
        DpsView from = dps_block_view (DPS_DTYPE_F32, 1, &n, &s->master, 0), to = dps_block_view (s->rows_dtype, 1, &n, &s->rows, 0);
        return dps_exec_op (w->ex, DPS_OP_copy, (DpsOp){DPS_IN (&from), DPS_OUT (&to)}, err);
    }
    float *values = dps_malloc ((size_t)n, sizeof *values);
    DpsStatus st = values ? dps_weights_get (w, i, values, err) : dps_fail (err, DPS_ERR_NOMEM, "weights: out of memory");
    if (st == DPS_OK)
        st = dps_weights_set (w, i, values, err);
    dps_free (values);
    return st;
}

DpsStatus dps_weights_refresh (DpsWeights *w, DpsError *err)
{
    for (size_t i = 0; i < w->model->n_weights; i++) {
        const DpsStore *s = &w->stores[i];
        int derived = s->master.buffer || s->packed[0].buffer;
        if (!s->grad.buffer || !derived)
            continue;
        if (!s->grad.host)
            DPS_TRY (refresh_there (w, (int32_t)i, err));
        else
            DPS_TRY (dps_weights_set (w, (int32_t)i, dps_weights_master (w, (int32_t)i), err));
    }
    return DPS_OK;
}

/* Which form of a matrix an operand wants: -1 the rows, else a packed orientation. */
static int form_for (DpsOpCode op, int slot)
{
    if (op == DPS_OP_linear_dx || (op == DPS_OP_token_logprobs && slot == 3))
        return DPS_PACK_INPUT_GRAD;
    return op == DPS_OP_dora_norm ? -1 : DPS_PACK_FORWARD;
}

DpsStatus dps_weights_resolve (void *ctx, DpsTensorKind kind, int32_t index, DpsOpCode op, int slot, DpsView *out, DpsError *err)
{
    DpsWeights *w = ctx;
    if (kind == DPS_TENSOR_STATE) {
        if ((size_t)index >= w->n_states)
            return dps_fail (err, DPS_ERR_INTERNAL, "%s: no cache %d", dps_op_name (op), index);
        out->buffer = w->states[index].buffer;
        out->host = w->states[index].host;
        return DPS_OK;
    }
    const DpsStore *s = &w->stores[index];
    if (kind == DPS_TENSOR_GRAD) {
        out->buffer = s->grad.buffer;
        out->host = s->grad.host;
        if (op == DPS_OP_embed_dw && s->lookups) {
            out->offset = s->grad.bytes - s->lookups;
            out->host = s->grad.host ? (char *)s->grad.host + out->offset : NULL;
        }
        return s->grad.buffer || w->outline
                   ? DPS_OK
                   : dps_fail (err, DPS_ERR_INTERNAL, "%s: '%s' has no gradient", dps_op_name (op), w->model->weights[index].name);
    }
    int form = form_for (op, slot);
    if (dps__weight_quantised (&w->model->weights[index], w->training)) {
        dps__quantised_view (w, index, out);
        return DPS_OK;
    }
    if (form >= 0 && s->layout[form]) {
        out->buffer = s->packed[form].buffer;
        out->host = s->packed[form].host;
        out->layout = s->layout[form];
        out->dtype = w->compute;
        return DPS_OK;
    }
    if (op == DPS_OP_token_logprobs && slot == 3) { /* no pack for input gradients: the op has the rows in slot 1 */
        out->dtype = 0;
        return DPS_OK;
    }
    if (!s->rows_dtype)
        return dps_fail (err, DPS_ERR_INTERNAL, "%s: '%s' is kept packed only", dps_op_name (op), w->model->weights[index].name);
    out->buffer = s->rows.buffer;
    out->host = s->rows.host;
    out->dtype = s->rows_dtype;
    return DPS_OK;
}
