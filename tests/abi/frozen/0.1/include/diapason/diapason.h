/* SPDX-License-Identifier: Apache-2.0 */
/* diapason.h: every interface of the plugin ABI. All are drafts until two backends and three objectives use them (core/doc/ABI.md). */
#ifndef DIAPASON_DIAPASON_H
#define DIAPASON_DIAPASON_H

#include "diapason/draft/adapter.h"
#include "diapason/draft/backend.h"
#include "diapason/draft/collective.h"
#include "diapason/draft/format.h"
#include "diapason/draft/host.h"
#include "diapason/draft/memory.h"
#include "diapason/draft/objective.h"
#include "diapason/draft/ops.h"
#include "diapason/draft/plugin.h"
#include "diapason/draft/reward.h"
#include "diapason/draft/stream.h"
#include "diapason/draft/tape.h"
#include "diapason/draft/types.h"

#endif
