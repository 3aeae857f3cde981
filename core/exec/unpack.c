/* SPDX-License-Identifier: Apache-2.0 */
#include "exec/unpack.h"

#include "exec/stage.h"

enum { PIECE = 256 }; /* rows asked for at a time */

static int is_packed (const DpsView *v) { return v && v->layout >= DPS_LAYOUT_PACKED; }

int dps__packed_input (const DpsOp *o)
{
    for (uint32_t i = 0; i < o->n_in; i++)
        if (is_packed (o->in[i]))
            return (int)i;
    return -1;
}

/* token_logprobs has the weight twice, the second time packed for input gradients, which rows do not need. */
const DpsOp *dps__unpacked_outline (const DpsExec *ex, const DpsOp *o, DpsUnpacked *out)
{
    int first = dps__packed_input (o);
    if (!ex->devices[0].pack || !ex->devices[0].pack->unpack_rows)
        return NULL;
    out->op = *o;
    out->op.in = out->in;
    for (uint32_t i = 0; i < o->n_in && i < DPS_OP_MAX_IN; i++)
        out->in[i] = is_packed (o->in[i]) ? NULL : o->in[i];
    out->rows = dps_view (o->in[first]->dtype, o->in[first]->rank, o->in[first]->shape, NULL);
    out->in[first] = &out->rows;
    return &out->op;
}

DpsStatus dps__unpack (DpsExec *ex, const DpsView *forward, DpsView *out_rows, DpsError *err)
{
    const DpsExecDevice *d = &ex->devices[0];
    *out_rows = *forward;
    if (!is_packed (forward))
        return DPS_OK;
    int64_t n = forward->shape[0], cols = forward->shape[1];
    uint64_t width = (uint64_t)cols * dps_dtype_bytes (forward->dtype);
    DpsBlock *room;
    DPS_TRY (dps__stage_room (ex, 0, (uint64_t)n * width, &room, err));
    for (int64_t row = 0; row < n; row += PIECE) {
        int32_t ids[PIECE];
        int64_t shape[2] = {n - row < PIECE ? n - row : PIECE, cols};
        for (int64_t i = 0; i < shape[0]; i++)
            ids[i] = (int32_t)(row + i);
        const DpsView y = dps_block_view (forward->dtype, 2, shape, room, (uint64_t)row * width);
        DPS_TRY (d->pack->unpack_rows (d->info.device, forward, ids, shape[0], &y, err));
    }
    *out_rows = dps_block_view (forward->dtype, 2, forward->shape, room, 0);
    return DPS_OK;
}
