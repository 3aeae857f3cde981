/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tensorboard.h: event files as TensorBoard reads them: events.out.tfevents.<seconds>.<host>.<pid>.<n>.
 *
 * A file is records of: u64 length, u32 masked crc32c of those 8 bytes, data, u32 masked crc32c of the data; little-endian; the mask is
 * ((c >> 15) | (c << 17)) + 0xa282ead8. The data is one Event in protobuf: 1 wall_time double, 2 step int64, and one of 3 file_version
 * string, 5 Summary { repeated 1 Value { 1 tag string, 2 simple_value float } }, 7 SessionLog { 1 status: 1 START }.
 */
#ifndef DPS_OBSERVE_TENSORBOARD_H
#define DPS_OBSERVE_TENSORBOARD_H

#include "base/json.h"

typedef struct DpsTensorboard DpsTensorboard;

/**
 * Create the folder and a new event file in it. resumed_step ≥ 0 makes TensorBoard forget what earlier files of the folder say about later
 * steps (a START record at resumed_step + 1); -1 for a fresh run. wall_time: seconds since 1970.
 * Errors: IO, NOMEM. Thread: [any], one at a time per writer.
 */
DpsStatus dps_tensorboard_open (const char *folder, double wall_time, int64_t resumed_step, DpsTensorboard **out, DpsError *err);

/** One event for the numbers of `object` but "step": "eval_x" becomes eval/x, everything else train/x; null becomes NaN. */
DpsStatus dps_tensorboard_add (DpsTensorboard *t, double wall_time, int64_t step, const json_t *object, DpsError *err);

/** Make what was written durable. */
DpsStatus dps_tensorboard_sync (DpsTensorboard *t, DpsError *err);
void dps_tensorboard_close (DpsTensorboard *t);

/** CRC-32C (Castagnoli, reflected polynomial 0x82f63b78) of a byte range. [any] */
uint32_t dps_crc32c (const void *data, size_t len);

#endif
