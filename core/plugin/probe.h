/* SPDX-License-Identifier: Apache-2.0 */
/*
 * probe.h: a module nobody has seen before is loaded in a child process first (rule 15): what crashes, hangs or leaves there does not take the
 * host with it. The child is this program with a hidden verb; it gets the sealed copy that the host will load, not a path.
 */
#ifndef DPS_PLUGIN_PROBE_H
#define DPS_PLUGIN_PROBE_H

#include "plugin/trust.h"

#define DPS_PROBE_VERB "probe-plugin"

/** Descriptors the child finds: the sealed module, and where it says how far it got. */
enum { DPS_PROBE_MODULE_FD = 3, DPS_PROBE_REPORT_FD = 4 };

/**
 * Run `program` DPS_PROBE_VERB path. OK: it came through, also when the plugin refused itself with a reason. Each step of it has deadline_ms.
 * Errors: POLICY: it crashed, hung or ended the process: the message says how, and in which step. IO, NOMEM: it could not be tried. [init]
 */
DpsStatus dps__probe (const char *program, int deadline_ms, const DpsSealed *sealed, const char *path, DpsError *err);

/**
 * What the child does: load, init, ask for each interface, its description and devices, deinit; its caller returns, and destructors run. Never fails:
 * the parent reads the report.
 */
void dps__probe_child (const char *path);

#endif
