/* SPDX-License-Identifier: Apache-2.0 */
/* source_check.h: whether a stored model is the model its configuration describes, before a number of it is read. */
#ifndef DPS_GRAPH_SOURCE_CHECK_H
#define DPS_GRAPH_SOURCE_CHECK_H

#include "graph/model.h"
#include "graph/source.h"

/**
 * Every weight of the model is there in its shape, and no tensor of the decoder's layers is left over: a bias the configuration denies or a
 * layer it does not count would otherwise be ignored in silence. Errors: SHAPE, DTYPE, FORMAT, each with the tensor's name. [any]
 */
DpsStatus dps_source_check (const DpsSource *src, const DpsModel *model, DpsError *err);
/** The model that the configuration describes: dps_model_init, whose errors say which model's configuration it is and what to do. [any] */
DpsStatus dps_source_model (const DpsSource *src, DpsModel *out, DpsError *err);

#endif
