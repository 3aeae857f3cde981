/* SPDX-License-Identifier: Apache-2.0 */
/*
 * broken.h: each source here is one healthy small plugin with faults in it, of which the environment's DIAPASON_BROKEN chooses one by name; without
 * it the plugin is healthy. The table `faults` says which case of `diapason check` must catch which.
 */
#ifndef DPS_TESTS_BROKEN_H
#define DPS_TESTS_BROKEN_H

#include <stdlib.h>
#include <string.h>

#define IS(fault) broken_is (#fault)

static inline int broken_is (const char *fault)
{
    const char *chosen = getenv ("DIAPASON_BROKEN");
    return chosen && !strcmp (chosen, fault);
}

#endif
