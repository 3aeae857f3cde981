/* SPDX-License-Identifier: Apache-2.0 */
/*
 * check.h: the conformance kit behind `diapason check`. A suite is a table of cases for one interface; it lies in suite_NAME.c and is found by
 * its place: `const CheckSuite check_suite_NAME`. Every case runs in a child process of its own, with a deadline: it may crash, hang or
 * exit, and the report says so by the case's name. No plugin is ever loaded into the process that reports.
 */
#ifndef DPS_TOOLS_CHECK_H
#define DPS_TOOLS_CHECK_H

#include <jansson.h>

#include "base/status.h"
#include "plugin/registry.h"

#define CHECK_SUITE_VERSION "2" /* of all suites together: written into certificates */

/** Returned by a case beside DPS_OK (passed) and any other code (failed): nothing to test here, with the reason in err. */
enum { CHECK_SKIPPED = 1000 };

enum {
    CHECK_REQUIRED = 1,    /* a skip counts as a failure where the case's level is asked for */
    CHECK_ALL_PLUGINS = 2, /* the registry holds every plugin there is, the one under test first; else that one and ref */
    CHECK_HIDDEN = 4,      /* run by other cases only (check_again) */
    CHECK_PERF = 8,        /* measures: run with --perf only */
    CHECK_LONG = 16        /* minutes: left out of --quick */
};

struct CheckContext;

typedef struct CheckCase {
    const char *name;  /* what is proved: "linear", "dry_writes_nothing" */
    int level;         /* rung of the ladder (ABI.md) that demands it; 0 for plugins without a ladder */
    uint32_t flags;    /* CHECK_REQUIRED … */
    const char *needs; /* an interface the plugin must have, else the case is skipped; NULL: none but the suite's */
    DpsStatus (*run) (struct CheckContext *ctx, DpsError *err); /* err->msg: what was expected and what was found */
    const void *data;                                           /* for run: ctx->test->data */
    double timeout_s;                                           /* 0: the default */
} CheckCase;

typedef struct CheckSuite {
    const char *name;         /* "backend.ops": a case is called "backend.ops/linear" */
    const char *interface_id; /* of the plugins it is for: DPS_BACKEND_ID */
    const char *summary;
    const CheckCase *cases;
    size_t n_cases;
} CheckSuite;

/** Put a case's line into a table: CHECK_CASE (name, level, flags): the function is `name`. */
#define CHECK_CASE(function, level_, flags_)                                                                                               \
    {                                                                                                                                      \
        .name = #function, .level = (level_), .flags = (flags_), .run = function                                                           \
    }

/** What a case has, in its child. Everything is borrowed. */
typedef struct CheckContext {
    const CheckSuite *suite;
    const CheckCase *test;
    DpsRegistry *registry;
    const DpsPlugin *plugin; /* under test */
    const void *table;       /* the host's copy of its table of the suite's interface */
    const DpsBackend *ref;   /* the oracle: f64 arithmetic, and f64 storage where operands are f64 */
    struct DpsDevice *ref_device;
    uint64_t seed;       /* of everything random */
    const char *scratch; /* an empty folder of the case's own, removed afterwards */
    const char *program; /* path of this program, to run other verbs with */
    const char *target;  /* PLUGIN.so or NAME, as given */
    const char *args;    /* "name: value, …": parameters of an objective, adapter or reward; NULL: none */
    const char *sample;  /* a file or folder of a format; NULL: none */
    const char *device;  /* the device of a backend to test, NULL: each of them, or the first where one must do */
    json_t *notes;       /* numbers and texts that go into the report: check_note_… */
} CheckContext;

/** Leave a case: there is nothing to test. Returns CHECK_SKIPPED. */
DpsStatus check_skip (DpsError *err, const char *fmt, ...) __attribute__ ((format (printf, 2, 3)));

/** A number or a text beside the verdict, in JSON reports and the certificate; the table shows those of measuring cases. */
void check_note_number (CheckContext *ctx, const char *key, double value);
void check_note_text (CheckContext *ctx, const char *key, const char *value);

/**
 * Run case `name` of this suite again in a process of its own, with `environment` ("OMP_NUM_THREADS=2", …, NULL) added to this one's: for what
 * a process reads once. Its notes come back in *out_notes (a new reference, NULL: not wanted). Returns its verdict, with its message.
 * A crash or a missing verdict is INTERNAL.
 */
DpsStatus check_again (CheckContext *ctx, const char *name, const char *const *environment, json_t **out_notes, DpsError *err);

/**
 * Run this program with `arguments` (NULL at the end, the verb first) in the folder ctx->scratch; its output goes to scratch/NAME.out and
 * .err. Errors: INTERNAL with the exit code or signal and the last line of its standard error.
 */
DpsStatus check_program (CheckContext *ctx, const char *name, const char *const *arguments, const char *const *environment, DpsError *err);

/** All suites; NULL at the end. */
extern const CheckSuite *const check_suites[];

#endif
