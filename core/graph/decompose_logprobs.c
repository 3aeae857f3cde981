/* SPDX-License-Identifier: Apache-2.0 */
/* decompose_logprobs.c: token_logprobs, its weight gradient, and row_logprobs, with all S × V logits in memory. */
#include "graph/decompose_kit.h"

typedef struct Head {
    DpsGraph *g;
    int64_t v;
    double cap, temperature;
    DpsNode capped, z, p; /* (S,V): capped logits, those over the temperature, their softmax */
    DpsNode lse, hot;     /* (S,1); (S,V): 1 at the target */
    DpsNode at;           /* i32 (S): the arg max */
} Head;

/* products: h·Wᵀ, (S,V) */
static Head softmax_of (DpsGraph *g, const DpsRecord *r, DpsNode products, DpsNode targets)
{
    Head h = {.g = g, .v = kit_cols (g, products), .cap = r->attrs[0].f, .temperature = r->attrs[1].f == 0 ? 1 : r->attrs[1].f};
    h.capped = kit_softcap (g, products, h.cap);
    h.z = kit_scale (g, h.capped, 1 / h.temperature);
    DpsNode max = kit_row_max (g, h.z, &h.at), e = kit_map (g, DPS_OP_exp, kit_add (g, h.z, kit_spread (g, max, h.v), 1, -1));
    DpsNode sum = kit_row_sum (g, e);
    h.p = kit_div (g, e, kit_spread (g, sum, h.v));
    h.lse = kit_add (g, max, kit_map (g, DPS_OP_log, sum), 1, 1);
    h.hot = kit_one_hot (g, targets, h.v);
    return h;
}

static Head head_of (DpsGraph *g, const DpsRecord *r) { return softmax_of (g, r, kit_linear (g, r->in[0], r->in[1], 1), r->in[2]); }

static DpsNode logp_of (const Head *h) { return kit_add (h->g, kit_row_sum (h->g, kit_mul (h->g, h->z, h->hot)), h->lse, 1, -1); }

/* d logp / d logits, (S,V) */
static DpsNode logits_slope (const Head *h)
{
    DpsGraph *g = h->g;
    DpsNode d = kit_add (g, h->hot, h->p, 1 / h->temperature, -1 / h->temperature);
    return h->cap > 0 ? kit_mul (g, d, kit_softcap_slope (g, h->capped, h->cap)) : d;
}

void dps__decompose_token_logprobs (DpsGraph *g, const DpsRecord *r)
{
    Head h = head_of (g, r);
    DpsNode backward = r->n_in > 3 && r->in[3] >= 0 ? r->in[3] : r->in[1];
    kit_store (g, logp_of (&h), r->out[0]);
    if (r->out[1] >= 0)
        kit_store (g, kit_add (g, h.lse, kit_row_sum (g, kit_mul (g, h.p, h.z)), 1, -1), r->out[1]);
    if (r->out[2] >= 0)
        kit_store (g, kit_row_sum (g, kit_mul (g, kit_one_hot (g, h.at, h.v), h.hot)), r->out[2]);
    if (r->out[3] >= 0)
        kit_store (g, kit_linear_dx (g, logits_slope (&h), backward, 1), r->out[3]);
}

void dps__decompose_row_logprobs (DpsGraph *g, const DpsRecord *r)
{
    Head h = softmax_of (g, r, r->in[0], r->in[1]);
    kit_store (g, logp_of (&h), r->out[0]);
}

void dps__decompose_token_logprobs_dw (DpsGraph *g, const DpsRecord *r)
{
    Head h = head_of (g, r);
    DpsNode dlogp = kit_as (g, r->in[3], kit_rows (g, r->in[0]), 1);
    kit_linear_dw (g, kit_mul (g, logits_slope (&h), kit_spread (g, dlogp, h.v)), r->in[0], r->in[4], 1, r->out[0]);
}
