/* SPDX-License-Identifier: Apache-2.0 */
/* sdk.h: what plugins would otherwise write again: inline, compiled into the plugin, no part of the ABI. */
#ifndef DIAPASON_SDK_H
#define DIAPASON_SDK_H

#include "diapason/adapter.h"
#include "diapason/host.h"
#include "diapason/plugin.h"

/** A plugin of one interface that needs nothing from the host: DPS_PLUGIN_ONE (DPS_OBJECTIVE_ID, objective). */
#define DPS_PLUGIN_ONE(interface_id, table)                                                                                                \
    static DpsStatus sdk_init (const struct DpsHost *sdk_host, const char *sdk_path, DpsError *sdk_err)                                    \
    {                                                                                                                                      \
        (void)sdk_host, (void)sdk_path, (void)sdk_err;                                                                                     \
        return DPS_OK;                                                                                                                     \
    }                                                                                                                                      \
    static const void *sdk_get_interface (DpsStr id) { return dps_str_is (id, interface_id) ? &(table) : NULL; }                           \
    DPS_PLUGIN (sdk_init, NULL, sdk_get_interface)

/** The same for a plugin that calls the host: `host`, a DpsHost of its own, is filled when it loads; slots an older host lacks are NULL. */
#define DPS_PLUGIN_ONE_OF_HOST(interface_id, table, host)                                                                                  \
    static DpsStatus sdk_init (const struct DpsHost *sdk_host, const char *sdk_path, DpsError *sdk_err)                                    \
    {                                                                                                                                      \
        (void)sdk_path, (void)sdk_err;                                                                                                     \
        dps_table_copy (&(host), sizeof (host), sdk_host);                                                                                 \
        return DPS_OK;                                                                                                                     \
    }                                                                                                                                      \
    static const void *sdk_get_interface (DpsStr id) { return dps_str_is (id, interface_id) ? &(table) : NULL; }                           \
    DPS_PLUGIN (sdk_init, NULL, sdk_get_interface)

/** Initialiser of one DpsParam: choices is NULL but for strings. */
#define DPS_SDK_PARAM(name, type, def, min, max, choices, help)                                                                            \
    {                                                                                                                                      \
        sizeof (DpsParam), name, type, 0, def, min, max, choices, help                                                                     \
    }

/** Put a code and a fixed text into err (may be NULL); returns the code. [any] */
static inline DpsStatus dps_sdk_fail (DpsError *err, DpsStatus code, const char *text)
{
    size_t i = 0;
    if (!err)
        return code;
    for (; text[i] && i + 1 < sizeof err->msg; i++)
        err->msg[i] = text[i];
    err->msg[i] = '\0';
    err->code = code;
    err->vendor_code = 0;
    return code;
}

/** A format this one is built on, through dps.host.formats/1 (manifest: needs=); host as copied in init. NULL: not loaded. [any] */
static inline const DpsFormat *dps_sdk_format (const DpsHost *host, const char *name)
{
    DpsHostFormats formats = {sizeof formats, NULL};
    const void *theirs = host->get_interface ? host->get_interface (dps_str ("dps.host.formats/1")) : NULL;
    if (theirs)
        dps_table_copy (&formats, sizeof formats, theirs);
    return formats.find ? formats.find (dps_str (name)) : NULL;
}

/** create and destroy of an objective or adapter without parameters and state. [init] */
static inline DpsStatus dps_sdk_create_nothing (const double *num, const DpsStr *str, void **out, DpsError *err)
{
    (void)num, (void)str, (void)err;
    *out = NULL;
    return DPS_OK;
}

static inline void dps_sdk_destroy_nothing (void *self) { (void)self; }

/** One trainable tensor of an adapter: (rows, cols), or a vector when cols is 0. out->size is the caller's. [any] */
static inline void dps_sdk_adapter_param (DpsAdapterParam *out, const char *suffix, uint32_t init, int64_t rows, int64_t cols)
{
    out->suffix = suffix;
    out->rank = cols ? 2 : 1;
    out->init = init;
    out->shape[0] = rows;
    out->shape[1] = cols;
    out->init_scale = 0;
}

/**
 * Report the mean of scale·x over the tokens of the batch, weighted by its weights; x is a per-token signal. One report a row, so that
 * the step's mean does not depend on how it is split into micro-batches. [any]
 */
static inline void dps_sdk_report_tokens (const DpsMetricSink *sink, const DpsObjectiveBatch *b, const char *name, const double *x,
                                          double scale)
{
    for (uint64_t r = 0; x && r < b->n_rows; r++) {
        double sum = 0, weight = 0;
        for (int64_t i = b->row_offsets[r]; i < b->row_offsets[r + 1]; i++) {
            sum += b->weights[i] * x[i];
            weight += b->weights[i];
        }
        if (weight > 0)
            sink->add (sink->ctx, dps_str (name), scale * sum / weight, weight);
    }
}

#endif
