/* SPDX-License-Identifier: Apache-2.0 */
/*
 * dora.cl: norm = ‖W + s·B·A‖ of every output row, v = m/norm (arXiv:2402.09353). Launch: a group for every row of W; A is read once a row.
 */
#include "vector.h"

KERNEL (dps_dora_norm) (IN (w), IN (a), IN (b), IN (m), OUT (v), OUT (norm), i64 k, i32 rank, float s)
{
    LOCAL float tmp[DPS_LANES];
    const i64 row = GROUP (0);
    vf squares = vf_splat (0);
    for (i64 i = LANE * WIDTH; i < k; i += DPS_LANES * WIDTH) {
        vf x = vf_load_n (w, w_off + row * k + i, w_t, k - i);
        for (i32 t = 0; t < rank; t++)
            x = FMA (vf_load_n (a, a_off + t * k + i, a_t, k - i), vf_splat (s * LOAD (b, row * rank + t)), x);
        squares = FMA (x, x, squares);
    }
    const float sum = SQRT (dps_lanes_sum (vf_sum (squares), tmp)), length = sum < 1.17549435e-38f ? 1.17549435e-38f : sum;
    if (LANE > 0)
        return;
    if (v_t != DT_NONE)
        STORE (v, row, LOAD (m, row) / length);
    if (norm_t != DT_NONE)
        STORE (norm, row, length);
}
