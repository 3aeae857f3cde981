/* SPDX-License-Identifier: Apache-2.0 */
/*
 * host.h: the core's side of `dps.host/1` (declared in diapason/host.h): what later stages and the program put into the table
 * that plugins receive. The table itself is dps_host () of registry.h.
 */
#ifndef DPS_PLUGIN_HOST_H
#define DPS_PLUGIN_HOST_H

#include "plugin/registry.h"

/**
 * Offer plugins an extension: get_interface (id) answers `table` from now on. Both pointers are static storage of the caller.
 * The same id again replaces the table. Errors: LIMIT past 32 extensions. Thread: [init], before dps_registry_open.
 */
DpsStatus dps_host_provide (const char *id, const void *table, DpsError *err);

/** A value that plugins read with config_get ("threads", "isa"); replaces an earlier one. Errors: LIMIT. [init] */
DpsStatus dps_host_config_set (const char *key, const char *value, DpsError *err);

/** Make should_stop answer 1 (or, with 0, withdraw the request). Async-signal-safe. [any] */
void dps_host_request_stop (int stop);
int dps_host_should_stop (void);

/**
 * On SIGSEGV, SIGBUS, SIGILL, SIGFPE and SIGABRT write one line naming the signal and the breadcrumb of the crashing thread, then let the
 * signal do what it would have done. [init]
 */
void dps_crash_report_install (void);

/** Threads dps.host.parallel/1 uses: config "threads", else OMP_NUM_THREADS, else the CPUs this process may run on. [any] */
uint32_t dps_parallel_threads (void);

/** f (ctx, i) for i in [0, n), on those threads, any order; returns when all are done. A call from inside f runs inline. [any] */
void dps_parallel_run (uint64_t n, void (*f) (void *ctx, uint64_t i), void *ctx);

/* Parts of the table with a file of their own. */
DpsStatus dps__kv_put (DpsStr key, const void *data, size_t len, DpsError *err);
DpsStatus dps__kv_get (DpsStr key, int64_t timeout_ms, void *buf, size_t cap, size_t *out_len, DpsError *err);
uint32_t dps__intern (DpsStr name);

#endif
