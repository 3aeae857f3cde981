/* SPDX-License-Identifier: Apache-2.0 */
/*
 * exec.h: the only caller of backends: opens devices, places every op of a graph on one, lays out memory, runs. An op goes to the first device
 * of the priority list that accepts it, whole or as the simple ops it is made of (graph/decompose.h); `ref` is the last. Why the others refused
 * is kept for `diapason explain`.
 */
#ifndef DPS_EXEC_EXEC_H
#define DPS_EXEC_EXEC_H

#include "base/quant.h"
#include "graph/graph.h"
#include "plugin/registry.h"

enum { DPS_EXEC_MAX_DEVICES = 8 };

typedef struct DpsExecDevice {
    const DpsBackend *backend;
    const DpsPack *pack; /* NULL: weights stay row-major */
    DpsDeviceInfo info;
    const DpsPlugin *plugin;    /* the registry's */
    struct DpsCallLayer *layer; /* what checks or records its calls (layer.h); NULL: the tables are the plugin's */
} DpsExecDevice;

/** A persistent allocation on the primary device. host: NULL where that has memory of its own (stage.h puts and gets bytes). */
typedef struct DpsBlock {
    struct DpsExec *owner;
    struct DpsBuffer *buffer;
    void *host;
    uint64_t bytes;
} DpsBlock;

/** What placement looks at in an operand; all 0: absent. */
typedef struct DpsOperandKind {
    uint32_t dtype, layout, rank;
} DpsOperandKind;

/** Where ops of one kind (name, dtypes, layouts, ranks) go, those of them that go there, and why the first such did not go elsewhere. */
typedef struct DpsCase {
    DpsOpCode op;
    uint32_t n_in, n_out;
    DpsOperandKind kinds[DPS_OP_MAX_IN + DPS_OP_MAX_OUT]; /* inputs, then outputs */
    size_t before;                                        /* 1 + the case of this op that was placed before; 0: none */
    int device;
    int head;       /* it goes where token_logprobs goes (DpsExec.head) */
    int decomposed; /* the device runs it as simple ops */
    uint64_t runs;
    double seconds;               /* when profiling */
    uint64_t in_bytes, out_bytes; /* in a dry run: of operands that would be copied to where the device reaches them, and back */
    char operands[96];            /* "bf16, bf16 packed → bf16" */
    char *reasons;                /* refusals, one per line; NULL: the first device took it */
} DpsCase;

typedef struct DpsExec {
    DpsExecDevice devices[DPS_EXEC_MAX_DEVICES];
    int n_devices;
    uint8_t prefer[DPS_OP_COUNT]; /* 1 + the device an op was asked to run on; 0: the first that takes it */
    int head;    /* 1 + the device of token_logprobs, for the head's products and row_logprobs, which have its bits there alone; 0: any */
    int strict;  /* refuse instead of falling back */
    int profile; /* time each case */
    int dry;     /* place ops and count them, run none */
    uint32_t op_ids[DPS_OP_COUNT];
    DpsQuantNames quants;
    DpsBlock arena;
    DpsBlock scratch;  /* intermediates of decomposed ops; what plans of single ops ask for */
    int scratch_taken; /* by the decomposed op that is running */
    struct DpsPrepared *prepared;
    int sealed;          /* arena and scratch were sized for the whole run: to grow is an error */
    uint64_t arena_peak; /* highest byte any run has used */
    uint64_t scratch_peak;
    uint64_t persistent_bytes; /* live blocks */
    DpsCase *cases;
    size_t n_cases, case_capacity;
    size_t newest_case[DPS_OP_COUNT]; /* 1 + the last of an op's cases; 0: none */
    /* Where the first device has memory of its own, and for ops that go to another memory: stage.h. */
    DpsBlock inputs; /* of the run, at input_at[] */
    uint64_t input_at[DPS_INPUT_COUNT];
    DpsBlock staged[DPS_EXEC_MAX_DEVICES]; /* operands of an op on a device that does not share the host's memory */
    void *stage, *mirror;                  /* operands in host memory; what was fetched of the arena */
    uint64_t stage_bytes, mirror_bytes;
    uint64_t most_staged_host, most_staged[DPS_EXEC_MAX_DEVICES]; /* of the ops that were measured */
} DpsExec;

/** How a tensor of the graph is found at run time. Borrowed by run. */
typedef struct DpsBindings {
    void *ctx;
    /** The view of a parameter, a gradient or a state as operand `slot` of `op`: packed forms are chosen by op; dtype 0: absent. */
    DpsStatus (*resolve) (void *ctx, DpsTensorKind kind, int32_t index, DpsOpCode op, int slot, DpsView *out, DpsError *err);
    const void *inputs[DPS_INPUT_COUNT];
    int outline; /* no memory behind the views: for dps_exec_measure */
} DpsBindings;

/** Device i of a backend, its plugin named as the culprit of a crash. *out is set whole. Errors: enumerate's; NOT_FOUND past the last. [init] */
DpsStatus dps_exec_device (const DpsPlugin *plugin, const DpsBackend *be, uint32_t i, DpsDeviceInfo *out, DpsError *err);

/**
 * What is wrong with device i of a backend as enumerate described it, NULL: nothing. Its name is compared, printed and written into JSON and locks, and
 * may not mean another backend. [any]
 */
const char *dps_exec_device_fault (const DpsRegistry *reg, const DpsBackend *be, uint32_t i, const DpsDeviceInfo *info);

/**
 * Open the devices named (NULL or 0: every backend there is, `ref` last). A name may be a backend's ("cpu") or a device's ("opencl:0").
 * Without names, those that share the host's memory and that no manifest keeps back. Errors: NOT_FOUND with the names there are; what a driver
 * that was named says. [init]
 */
DpsStatus dps_exec_open (DpsExec *ex, const DpsRegistry *reg, const char *const *names, size_t n_names, DpsError *err);
void dps_exec_close (DpsExec *ex);
/**
 * Ask for an op (its name) to run on a device (a name as above) when that takes it. Before weights are measured or loaded: those that such an op
 * reads stay row-major, since a packed layout is the first device's own. Errors: NOT_FOUND: no such op, or the device was not opened. [init]
 */
DpsStatus dps_exec_prefer (DpsExec *ex, const char *op, const char *device, DpsError *err);
/** The device that takes an op with these operands, of which no memory is looked at; -1: none. Errors: NOMEM. [device-serial] */
DpsStatus dps_exec_place (DpsExec *ex, DpsOpCode op, DpsOp call, int *out_device, DpsError *err);
/** 1 when an op was asked to run on another device than the first. */
int dps_exec_elsewhere (const DpsExec *ex, DpsOpCode op);

/** Persistent memory, contents undefined. Errors: NOMEM. [device-serial] */
DpsStatus dps_exec_alloc (DpsExec *ex, uint64_t bytes, DpsBlock *out, DpsError *err);
void dps_exec_free (DpsExec *ex, DpsBlock *block);

/** Size the arena once, before the run. A larger graph later grows it, which is logged, or an error when sealed. [device-serial] */
DpsStatus dps_exec_reserve (DpsExec *ex, uint64_t bytes, DpsError *err);

/**
 * The scratch that ops of g need, decomposed or by plan, from placement alone: views come from b, their memory is not looked at. Pure but for the placement
 * it remembers. Errors: those of placement. [device-serial]
 */
DpsStatus dps_exec_measure (DpsExec *ex, const DpsGraph *g, const DpsBindings *b, uint64_t *out_scratch, DpsError *err);
DpsStatus dps_exec_reserve_scratch (DpsExec *ex, uint64_t bytes, DpsError *err);

/**
 * What copies of operands take beside blocks, where an op goes to a device that does not reach them: the most of any op that was measured (by
 * dps_exec_measure, dps_exec_op_scratch) since this was last asked. An op in pieces counts as one. [device-serial]
 */
uint64_t dps_exec_staging (DpsExec *ex);
/** What such copies have taken so far. */
uint64_t dps_exec_staged (const DpsExec *ex);

/** Run ops [first, end) of a laid-out graph. Errors: the backend's, prefixed with op and device. [device-serial] */
DpsStatus dps_exec_run (DpsExec *ex, const DpsGraph *g, uint64_t peak, size_t first, size_t end, const DpsBindings *b, DpsError *err);

/** Members of a DpsOp as lists: (DpsOp){DPS_IN (&x, &w), DPS_OUT (&y), DPS_ATTRS ({.f = 1})}. An operand may be NULL: absent. */
#define DPS_IN(...)    .in = (const DpsView *[]){__VA_ARGS__}, .n_in = sizeof (const DpsView *[]){__VA_ARGS__} / sizeof (const DpsView *)
#define DPS_OUT(...)   .out = (const DpsView *[]){__VA_ARGS__}, .n_out = sizeof (const DpsView *[]){__VA_ARGS__} / sizeof (const DpsView *)
#define DPS_ATTRS(...) .attrs = (const DpsScalar[]){__VA_ARGS__}, .n_attrs = sizeof (const DpsScalar[]){__VA_ARGS__} / sizeof (DpsScalar)

/** Run one op on views, outside any graph (optimizer steps, packing helpers). Of `call` the operands and attributes count. [device-serial] */
DpsStatus dps_exec_op (DpsExec *ex, DpsOpCode op, DpsOp call, DpsError *err);
/** What dps_exec_op would need of the scratch: for its simple ops, or for its plan. The views need no memory. [device-serial] */
DpsStatus dps_exec_op_scratch (DpsExec *ex, DpsOpCode op, DpsOp call, uint64_t *out_bytes, DpsError *err);

/** The bytes of a temporary after a run; where blocks are no host memory, after dps_exec_fetch. */
void *dps_exec_temp (const DpsExec *ex, const DpsGraph *g, DpsNode node);

/** A contiguous host view. shape is borrowed. */
DpsView dps_view (uint32_t dtype, uint32_t rank, const int64_t *shape, const void *host);

#endif
