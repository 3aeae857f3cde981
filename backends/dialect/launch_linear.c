/* SPDX-License-Identifier: Apache-2.0 */
/* Linear maps and their adjoints: launch_product.c says which matrices are multiplied. */
#include "launch.h"

static float alpha_of (const DpsOpCall *c) { return dps_opcall_f (c, 0) == 0 ? 1 : (float)dps_opcall_f (c, 0); }

static DpsStatus linear (const DpsLaunch *l, DpsOpCall *c)
{
    const DpsProduct p = {.a = c->in[0],
                          .w = c->in[1],
                          .orientation = DPS_PACK_FORWARD,
                          .alpha = alpha_of (c),
                          .bias = c->in[2],
                          .c = c->in[3],
                          .y = c->out[0],
                          .by_codes = 1};
    return dps_launch_product (l, &p, c->err);
}

static DpsStatus linear_dx (const DpsLaunch *l, DpsOpCall *c)
{
    const DpsProduct p = {
        .a = c->in[0], .w = c->in[1], .orientation = DPS_PACK_INPUT_GRAD, .alpha = alpha_of (c), .c = c->in[2], .y = c->out[0]};
    return dps_launch_product (l, &p, c->err);
}

static DpsStatus linear_dw (const DpsLaunch *l, DpsOpCall *c)
{
    DPS_TRY (dps_launch_roots (c, c->in[2], c->dim['N']));
    const DpsOuter o = {.dy = c->in[0], .x = c->in[1], .roots = c->in[2], .dw = c->out[0], .alpha = alpha_of (c)};
    return dps_launch_outer (l, &o, c->err);
}

const DpsLaunchOp dps_launch_linear[] = {
    {"linear", "x:N,K W:O,K:weight ?bias:O ?c:N,O", "y:N,O", NULL, linear},
    {"linear_dx", "dy:N,O W:O,K:weight ?c:N,K", "dx:N,K", NULL, linear_dx},
    {"linear_dw", "dy:N,O x:N,K roots:R:i32", "dW:O,K", NULL, linear_dw},
    {NULL, NULL, NULL, NULL, NULL},
};
