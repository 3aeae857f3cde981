/* SPDX-License-Identifier: Apache-2.0 */
/*
 * crumb.h: the breadcrumb (ABI.md rule 15): which plugin runs what, in memory that outlives the process: a mapped file in the folder of a run. A
 * process that ends in order takes it away; one that is found there names the culprit of a crash or kill.
 *
 * The file `breadcrumb`, 512 bytes, numbers little-endian on the machines there are (it is read where it was written):
 *
 *       0   8  "DPSCRUMB"
 *       8   4  version, 1
 *      12   4  process id
 *      16   8  step of the run, from 1; 0: before the first
 *      24   8  when the call began, nanoseconds since 1970; 0: no plugin runs
 *      32  64  plugin's id, NUL-terminated
 *      96  64  what it was asked for: an op, "loss" …
 *     160 256  the plugin's own words (dps.host/1 breadcrumb), "" when it said nothing
 *     416   4  1: a second signal ended the process, as its user wished
 *     420  92  zeros
 */
#ifndef DPS_PLUGIN_CRUMB_H
#define DPS_PLUGIN_CRUMB_H

#include "base/status.h"

#define DPS_CRUMB_NAME "breadcrumb"

/**
 * Keep the breadcrumb in `folder` from now on. What a process before left there is said in a warning first. A folder that cannot hold it costs the
 * breadcrumb, not the run. [init]
 */
void dps_crumb_open (const char *folder);
/** The run has ended, well or not: nothing to tell. [init] */
void dps_crumb_close (void);

/** The process ends at once because its user says so: no plugin is to blame. Async-signal-safe. */
void dps_crumb_stopped (void);

/** The step that is being made. */
void dps_crumb_step (uint64_t step);
/** A plugin begins and ends a call. Strings are copied. One thread at a time. */
void dps_crumb_enter (const char *plugin, const char *what);
void dps_crumb_leave (void);
/** The plugin's own words. */
void dps__crumb_detail (const char *text);

/** "dps.cpu" and "linear"; "" when no plugin runs. Async-signal-safe. */
const char *dps__crumb_plugin (void);
const char *dps__crumb_what (void);

#endif
