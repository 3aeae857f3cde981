/* SPDX-License-Identifier: Apache-2.0 */
/* diapason.h: every interface of the plugin ABI. What lies in draft/ has one user so far, and may still change (core/doc/ABI.md). */
#ifndef DIAPASON_DIAPASON_H
#define DIAPASON_DIAPASON_H

#include "diapason/adapter.h"
#include "diapason/backend.h"
#include "diapason/draft/collective.h"
#include "diapason/draft/memory.h"
#include "diapason/draft/stream.h"
#include "diapason/format.h"
#include "diapason/host.h"
#include "diapason/objective.h"
#include "diapason/ops.h"
#include "diapason/plugin.h"
#include "diapason/reward.h"
#include "diapason/tape.h"
#include "diapason/types.h"

#endif
