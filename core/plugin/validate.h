/* SPDX-License-Identifier: Apache-2.0 */
/*
 * validate.h: a layer between the host and a plugin's table that checks the rules both agreed to: thread tags, error codes, reasons,
 * writes past an error value. Switched on by DIAPASON_VALIDATE=1 for every plugin that is loaded.
 */
#ifndef DPS_PLUGIN_VALIDATE_H
#define DPS_PLUGIN_VALIDATE_H

#include <stddef.h>
#include <stdint.h>

/** 1 when DIAPASON_VALIDATE is set to anything but 0. [any] */
int dps__validating (void);

/**
 * Replace the functions of the host's copy `table` of interface `id` by checking ones. The thread that calls this is the one [init]
 * means. Interfaces without a checker, and plugins past the eighth of a kind, stay as they are. [init]
 */
void dps__validate_table (const char *id, void *table, const char *plugin);

/** One more rule is broken: of a layer of a later stage. [any] */
void dps__validate_count (void);

/** Rules seen broken since the process started; each is also logged as an error, or is the error of its call. [any] */
uint64_t dps_validate_faults (void);

#endif
