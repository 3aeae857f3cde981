/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Best fit over a sorted list of free ranges, walking the ops in order: an op's outputs are placed, then what it touched last is returned.
 * A range at the arena's end can grow, so the peak is what is needed and no more.
 */
#include "exec/plan.h"

#include <string.h>

#include "base/mem.h"

typedef struct Range {
    uint64_t start, end;
} Range;

typedef struct Space {
    Range *free; /* sorted by start, never adjacent */
    size_t n, capacity;
    uint64_t top; /* end of the highest byte ever placed */
} Space;

static uint64_t aligned (uint64_t bytes) { return (bytes + DPS_ARENA_ALIGN - 1) / DPS_ARENA_ALIGN * DPS_ARENA_ALIGN; }

static uint64_t place (Space *s, uint64_t bytes)
{
    size_t best = s->n;
    for (size_t i = 0; i < s->n; i++) {
        uint64_t room = s->free[i].end - s->free[i].start;
        if (room >= bytes && (best == s->n || room < s->free[best].end - s->free[best].start))
            best = i;
    }
    uint64_t at;
    if (best < s->n) {
        at = s->free[best].start;
        s->free[best].start += bytes;
        if (s->free[best].start == s->free[best].end) {
            memmove (&s->free[best], &s->free[best + 1], (s->n - best - 1) * sizeof *s->free);
            s->n--;
        }
        return at;
    }
    at = s->top;
    if (s->n && s->free[s->n - 1].end == s->top) /* grow the free range at the end */
        at = s->free[--s->n].start;
    s->top = at + bytes;
    return at;
}

static int give_back (Space *s, uint64_t start, uint64_t bytes)
{
    size_t i = 0;
    while (i < s->n && s->free[i].start < start)
        i++;
    int joins_left = i > 0 && s->free[i - 1].end == start, joins_right = i < s->n && s->free[i].start == start + bytes;
    if (joins_left && joins_right) {
        s->free[i - 1].end = s->free[i].end;
        memmove (&s->free[i], &s->free[i + 1], (s->n - i - 1) * sizeof *s->free);
        s->n--;
    } else if (joins_left)
        s->free[i - 1].end += bytes;
    else if (joins_right)
        s->free[i].start = start;
    else {
        if (DPS_GROW (s->free, s->n, s->capacity))
            return -1;
        memmove (&s->free[i + 1], &s->free[i], (s->n - i) * sizeof *s->free);
        s->free[i] = (Range){start, start + bytes};
        s->n++;
    }
    return 0;
}

static int is_laid (const DpsTensor *t) { return t->kind == DPS_TENSOR_TEMP && t->def >= 0; }

/* Operands of op i whose life ends there. An operand may stand twice: it is returned once. */
static int end_of_life (DpsGraph *g, Space *s, size_t i)
{
    DpsRecord *r = &g->ops[i];
    DpsNode nodes[DPS_OP_MAX_IN + DPS_OP_MAX_OUT];
    int n = 0;
    for (int k = 0; k < r->n_in; k++)
        nodes[n++] = r->in[k];
    for (int k = 0; k < r->n_out; k++)
        nodes[n++] = r->out[k];
    for (int k = 0; k < n; k++) {
        int seen = nodes[k] < 0;
        for (int j = 0; j < k && !seen; j++)
            seen = nodes[j] == nodes[k];
        if (seen)
            continue;
        DpsTensor *t = &g->tensors[nodes[k]];
        if (is_laid (t) && !t->keep && t->last == (int32_t)i && dps_tensor_bytes (t) &&
            give_back (s, t->offset, aligned (dps_tensor_bytes (t))))
            return -1;
    }
    return 0;
}

DpsStatus dps_plan_layout (DpsGraph *g, uint64_t *out_peak, DpsError *err)
{
    Space s = {0};
    int bad = 0;
    for (size_t i = 0; i < g->n_ops && !bad; i++) {
        for (int k = 0; k < g->ops[i].n_out; k++) {
            DpsNode node = g->ops[i].out[k];
            if (node >= 0 && is_laid (&g->tensors[node]) && g->tensors[node].def == (int32_t)i) {
                uint64_t bytes = aligned (dps_tensor_bytes (&g->tensors[node]));
                g->tensors[node].offset = bytes ? place (&s, bytes) : 0;
            }
        }
        bad = end_of_life (g, &s, i);
    }
    dps_free (s.free);
    *out_peak = s.top;
    return bad ? dps_fail (err, DPS_ERR_NOMEM, "plan: out of memory for %zu ops", g->n_ops) : DPS_OK;
}
