/* SPDX-License-Identifier: Apache-2.0 */
/* elf.h: a look into a shared object before the dynamic linker gets it: whole, for this machine, and not pointing at other folders. */
#ifndef DPS_PLUGIN_ELF_H
#define DPS_PLUGIN_ELF_H

#include "base/status.h"

/**
 * Check the bytes of a shared object: every loaded segment inside the file; no RUNPATH, RPATH, audit or filter library; no needed
 * library given by path; nothing exported but dps_plugin_entry. `where` names the file in errors.
 * Errors: FORMAT (not a whole ELF shared object of this machine), POLICY (search path, exported names and the like). Bounded by len, pure. [any]
 */
DpsStatus dps__elf_check (const unsigned char *data, size_t len, const char *where, DpsError *err);

#endif
