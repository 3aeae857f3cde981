/* SPDX-License-Identifier: Apache-2.0 */
#include "observe/guard.h"

#include <math.h>

DpsVerdict dps_guard_judge (DpsGuard *g, double loss, double grad_norm)
{
    if (isfinite (loss) && isfinite (grad_norm)) {
        g->in_a_row = 0;
        return DPS_GUARD_APPLY;
    }
    g->skipped++;
    if (++g->in_a_row < g->max_in_a_row)
        return DPS_GUARD_SKIP;
    g->in_a_row = 0;
    g->total_rollbacks++;
    return ++g->rollbacks > g->max_rollbacks ? DPS_GUARD_GIVE_UP : DPS_GUARD_ROLLBACK;
}

DpsGuard dps_guard_after_rollback (const DpsGuard *now, const DpsGuard *saved)
{
    DpsGuard g = *saved;
    g.in_a_row = 0;
    g.rollbacks = now->rollbacks;
    g.skipped = now->skipped;
    g.total_rollbacks = now->total_rollbacks;
    return g;
}

void dps_guard_progress (DpsGuard *g)
{
    if (g->in_a_row == 0)
        g->rollbacks = 0;
}

json_t *dps_guard_json (const DpsGuard *g)
{
    return json_pack ("{sI sI sI sI sI sI}", "in_a_row", (json_int_t)g->in_a_row, "max_in_a_row", (json_int_t)g->max_in_a_row,
                      "max_rollbacks", (json_int_t)g->max_rollbacks, "rollbacks", (json_int_t)g->rollbacks, "skipped",
                      (json_int_t)g->skipped, "total_rollbacks", (json_int_t)g->total_rollbacks);
}

static DpsStatus count (const json_t *j, const char *key, json_int_t min, json_int_t max, json_int_t *out, DpsError *err)
{
    const json_t *v = json_object_get (j, key);
    if (!json_is_integer (v) || json_integer_value (v) < min || json_integer_value (v) > max)
        return dps_fail (err, DPS_ERR_FORMAT, "guard.%s: expected a whole number from %lld to %lld", key, (long long)min, (long long)max);
    *out = json_integer_value (v);
    return DPS_OK;
}

DpsStatus dps_guard_from_json (const json_t *j, DpsGuard *out, DpsError *err)
{
    static const char *const keys[6] = {"in_a_row", "max_in_a_row", "max_rollbacks", "rollbacks", "skipped", "total_rollbacks"};
    json_int_t v[6];
    for (int i = 0; i < 6; i++)
        DPS_TRY (count (j, keys[i], i == 1 ? 1 : 0, i < 4 ? INT32_MAX : (json_int_t)1 << 53, &v[i], err));
    *out = (DpsGuard){(uint32_t)v[0], (uint32_t)v[1], (uint32_t)v[2], (uint32_t)v[3], (uint64_t)v[4], (uint64_t)v[5]};
    return DPS_OK;
}
