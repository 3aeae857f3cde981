/* SPDX-License-Identifier: Apache-2.0 */
/*
 * layer.h: what lies between exec and a backend when it is asked for: tables of the same shape that hand on, with a device handle of their own,
 * since a table's functions carry no other context. Views and buffers are the backend's. `checked` looks at every call, `trace` writes it down.
 * Internal to the stage, but for the queues of checked.
 */
#ifndef DPS_EXEC_LAYER_H
#define DPS_EXEC_LAYER_H

#include "exec/exec.h"

/** The head of a layer's device. Owned by the device it is on; closed from the top down. */
typedef struct DpsCallLayer {
    DpsExecDevice below;
    void (*close) (struct DpsCallLayer *layer); /* frees it */
} DpsCallLayer;

/** Put the layers that this process asked for on all devices of ex. Errors: NOMEM. [init] */
DpsStatus dps__layers_add (DpsExec *ex, const DpsRegistry *reg, DpsError *err);
/** After the last buffer was freed. [init] */
void dps__layers_close (DpsExec *ex);

/**
 * Checks every call of a device: bounds, shapes, overlap, indices, life of buffers, outputs poisoned before and read after, inputs unchanged, no
 * NaN from finite numbers. A broken rule is INVALID: op, operand, what was found and expected, and whether host or plugin is to blame; rules broken
 * where no error can be returned are logged. All count in dps_validate_faults. d is replaced. ref may be NULL: shapes are then not compared.
 * *shared: NULL for the first device of an exec, made here, and given to the others. Errors: NOMEM. [init]
 */
struct CheckedShared;
DpsStatus dps__checked_add (DpsExecDevice *d, const DpsBackend *ref, struct CheckedShared **shared, DpsError *err);

/**
 * The same for the queues (`dps.stream/1`) of a checked device: beside the above, that no memory is touched by others while work on it may still be
 * going on. NULL: out of memory. Valid until the device is closed. [init]
 */
const DpsQueues *dps_checked_queues (DpsExecDevice *d, const DpsQueues *real);

#endif
