/* SPDX-License-Identifier: Apache-2.0 */
/* sdk_pairs.h: what objectives on preference pairs share: row 0 of a unit is the chosen answer, row 1 the rejected one. */
#ifndef DIAPASON_SDK_PAIRS_H
#define DIAPASON_SDK_PAIRS_H

#include "diapason/sdk.h"

/** Errors: SHAPE when a unit is not two rows, or one of them has no scored token. [any] */
static inline DpsStatus dps_sdk_check_pairs (const DpsObjectiveBatch *b, DpsError *err)
{
    for (uint64_t u = 0; u < b->n_units; u++)
        if (b->unit_offsets[u + 1] - b->unit_offsets[u] != 2)
            return dps_sdk_fail (err, DPS_ERR_SHAPE, "a unit is not a pair of rows: chosen and rejected");
    for (uint64_t r = 0; r < b->n_rows; r++)
        if (b->row_offsets[r + 1] == b->row_offsets[r])
            return dps_sdk_fail (err, DPS_ERR_SHAPE, "an answer has no scored token");
    return DPS_OK;
}

/** Report x (per row) under two names: of the chosen and of the rejected answers. One report a pair. [any] */
static inline void dps_sdk_report_sides (const DpsMetricSink *sink, const DpsObjectiveBatch *b, const char *chosen, const char *rejected,
                                         const double *x)
{
    for (uint64_t u = 0; x && u < b->n_units; u++) {
        sink->add (sink->ctx, dps_str (chosen), x[b->unit_offsets[u]], 1);
        sink->add (sink->ctx, dps_str (rejected), x[b->unit_offsets[u] + 1], 1);
    }
}

/** TRL's rewards/chosen, rewards/rejected, rewards/accuracies, rewards/margins; reward is per row. [any] */
static inline void dps_sdk_report_rewards (const DpsMetricSink *sink, const DpsObjectiveBatch *b, const double *reward)
{
    dps_sdk_report_sides (sink, b, "rewards/chosen", "rewards/rejected", reward);
    for (uint64_t u = 0; reward && u < b->n_units; u++) {
        const double *of = reward + b->unit_offsets[u];
        sink->add (sink->ctx, dps_str ("rewards/accuracies"), of[0] > of[1] ? 1 : 0, 1);
        sink->add (sink->ctx, dps_str ("rewards/margins"), of[0] - of[1], 1);
    }
}

#endif
