/* SPDX-License-Identifier: Apache-2.0 */
/* quantise.h: which weights of a model stay quantised while they are frozen, and in what form. */
#ifndef DPS_GRAPH_QUANTISE_H
#define DPS_GRAPH_QUANTISE_H

#include "graph/model.h"
#include "graph/source.h"

/** All zeros: what bitsandbytes saved stays as it is, a GGUF's blocks become numbers. */
typedef struct DpsQuantise {
    const char *keep;  /* "auto" (NULL); "none": numbers, whatever the storage; "gguf": the blocks of a GGUF */
    DpsQuantType make; /* NF4, FP4, INT8: linear maps that are numbers, or a GGUF's blocks, are quantised; NONE: they are not */
    int nested;        /* of make: absmax in 8 bits too */
} DpsQuantise;

/** "auto", "none", "gguf", "nf4", "fp4" or "int8"; NULL: auto. Errors: USAGE. [any] */
DpsStatus dps_quantise_parse (const char *name, DpsQuantise *out, DpsError *err);

/**
 * Give every linear map of the layers its form. how may be NULL. Errors: USAGE (gguf of something else; 8 bits of a 4-bit folder), SHAPE
 * with the tensor's name. [any]
 */
DpsStatus dps_model_quantise (DpsModel *m, const DpsSource *src, const DpsQuantise *how, DpsError *err);

/** The first weight of the model that has a form, or -1. [any] */
int32_t dps_model_quantised (const DpsModel *m);

#endif
