/* SPDX-License-Identifier: Apache-2.0 */
/*
 * host.h: `dps.host/1`, what the core offers every plugin. Received in init; copy it (dps_table_copy) before use. What it and get_interface
 * point to is good for the life of the process. A plugin that cannot work without an extension says so in its manifest (needs=). Since: ABI 0.1.
 */
#ifndef DIAPASON_HOST_H
#define DIAPASON_HOST_H

#include "diapason/format.h"

enum { DPS_HOST_LOG_ERROR = 0, DPS_HOST_LOG_WARNING = 1, DPS_HOST_LOG_INFO = 2, DPS_HOST_LOG_DEBUG = 3 };

typedef struct DpsHost {
    size_t size;

    /** An extension of the host by id ("dps.host.tape/1", "dps.host.rng/1" …), or NULL. [any] */
    const void *(*get_interface) (DpsStr id);

    /** Hand one line (UTF-8, no newline) to the host's log; level is a DPS_HOST_LOG_*. Keeps no pointer. [any] */
    void (*log) (uint32_t level, DpsStr line);

    /** Name what is about to run; after a crash, or an exit () in the plugin, the host names it as the culprit. Keeps no pointer. [any] */
    void (*breadcrumb) (DpsStr what);

    /** 1 when the user asked to stop; long operations return DPS_ERR_CANCELLED soon after. [any] */
    int32_t (*should_stop) (void);

    /**
     * A configuration value of this process ("threads", "isa"; "opencl.device" is also DIAPASON_OPENCL_DEVICE): copied into buf (NUL-terminated,
     * cut at cap). Its length; 0: there is none. [any]
     */
    size_t (*config_get) (DpsStr key, char *buf, size_t cap);

    /** The interned number of a name (an op, a dtype, a part role): the same for the life of the process, never 0; 0 when full. [any] */
    uint32_t (*intern) (DpsStr name);
    /** The name of an interned number, static storage; empty when unknown. [any] */
    DpsStr (*intern_name) (uint32_t number);

    /**
     * A process-wide key-value store through which collectives bootstrap: kv_put copies; kv_get waits up to timeout_ms (< 0: for ever) and
     * copies at most cap bytes, *out_len their number. Errors: of kv_put LIMIT, NOMEM; of kv_get TIMEOUT, LIMIT (cap too small). [any]
     */
    DpsStatus (*kv_put) (DpsStr key, const void *data, size_t len, DpsError *err);
    DpsStatus (*kv_get) (DpsStr key, int64_t timeout_ms, void *buf, size_t cap, size_t *out_len, DpsError *err);
} DpsHost;

/**
 * `dps.host.rng/1`: draw number `index` of a stream of a seed, in any order: counter-based, so that a run does not depend on threads. u64: 64
 * uniform bits; uniform: in [0, 1) by 2^-53; normal: N(0, 1). The generator is described in core/base/rng.h. Pure. [any]
 */
typedef struct DpsHostRng {
    size_t size;
    uint64_t (*u64) (uint64_t seed, uint64_t stream, uint64_t index);
    double (*uniform) (uint64_t seed, uint64_t stream, uint64_t index);
    double (*normal) (uint64_t seed, uint64_t stream, uint64_t index);
} DpsHostRng;

/** `dps.host.parallel/1`: f(ctx, i) for i in [0, n), any order, any thread; returns when all are done. f calls no run. [any] */
typedef struct DpsHostParallel {
    size_t size;
    uint32_t (*n_threads) (void); /* that run works with, this one included */
    void (*run) (uint64_t n, void (*f) (void *ctx, uint64_t i), void *ctx);
} DpsHostParallel;

/**
 * `dps.host.formats/1`: formats that are built on other formats: a folder of safetensors, an adapter in a GGUF. Ask when a file is opened
 * or created, not in init: other plugins may load later. [any]
 */
typedef struct DpsHostFormats {
    size_t size;
    /** The loaded format of a short name ("safetensors") or id, or NULL. Good until the files and writers opened with it are closed. */
    const DpsFormat *(*find) (DpsStr name);
} DpsHostFormats;

#endif
