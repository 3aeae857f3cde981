/* SPDX-License-Identifier: Apache-2.0 */
/*
 * seal.h: what makes a flipped bit in a finished adapter or model show when it is loaded: digests.json beside its files, in the form of digests.h.
 * A folder without one (somebody else's) is not checked. Only files that a reader opens are worth a place in it.
 */
#ifndef DPS_BASE_SEAL_H
#define DPS_BASE_SEAL_H

#include "base/status.h"

#define DPS_SEAL_NAME "digests.json"

/** Before the first file of a sealed folder changes. An unsealed one is fine. Errors: IO, NOMEM. */
DpsStatus dps_seal_break (const char *dir, DpsError *err);
/** Seal those of names[0..n) that are files of dir. Errors: NOT_FOUND (none is there), INVALID, IO, NOMEM. */
DpsStatus dps_seal_write (const char *dir, const char *const *names, size_t n, DpsError *err);
/**
 * Every listed file that is there has the bytes it was saved with: those of the seal or, in a checkpoint, of its manifest (all but what only
 * a resumed run reads). Reads them once. A file that was taken away is its reader's to miss.
 * Errors: DIGEST, FORMAT, VERSION, LIMIT, IO, NOMEM. [any]
 */
DpsStatus dps_seal_check (const char *dir, DpsError *err);
/** The same by the seal alone, where no reader follows: a file, or the seal, that was taken away is missed here, with NOT_FOUND. [any] */
DpsStatus dps_seal_check_whole (const char *dir, DpsError *err);

#endif
