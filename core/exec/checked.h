/* SPDX-License-Identifier: Apache-2.0 */
/* checked.h: what the files of the checking layer share. Internal to the stage. */
#ifndef DPS_EXEC_CHECKED_H
#define DPS_EXEC_CHECKED_H

#include <pthread.h>
#include <stdatomic.h>

#include "exec/layer.h"
#include "exec/operands.h"

struct Checked;
struct Flight;

/** An allocation, live or freed. */
typedef struct Memory {
    struct DpsBuffer *buffer;
    char *host;
    uint64_t bytes, number; /* of the alloc, from 1 */
    int live;
    const struct Checked *owner;
} Memory;

enum { DPS_CHECKED_QUEUES = 16 /* open at a time */ };

/** What has ended for whoever has it: ops of queue i + 1 up to turns[i]. */
typedef struct Seen {
    uint64_t turns[DPS_CHECKED_QUEUES];
} Seen;

/** What the devices of one exec share, since each may be given the others' memory. Queues are called from threads of their own. */
typedef struct CheckedShared {
    pthread_mutex_t lock; /* recursive; held while the rest is looked at, never while a backend runs or copies */
    Memory *memory;
    size_t n_memory, memory_capacity;
    struct Flight *flights; /* work in queues that nobody has waited for */
    size_t n_flights, flight_capacity;
    unsigned char queue_taken[DPS_CHECKED_QUEUES]; /* the number i + 1 is an open queue's */
    uint32_t users;
    uint64_t allocs, turns;                   /* ops in queues so far */
    const char *_Atomic now, *_Atomic before; /* ids of the plugin called last, and of another that was before it; ref is none */
} CheckedShared;

typedef struct Checked {
    DpsCallLayer layer; /* the handle: struct DpsDevice * of its tables is this */
    DpsBackend table;
    DpsPack pack;
    DpsQueues queues, real_queues;
    const DpsBackend *ref;
    struct DpsDevice *ref_device;
    uint32_t op_ids[DPS_OP_COUNT];
    DpsQuantNames quants;
    CheckedShared *shared;
    _Atomic uint64_t calls, plans, queues_open, events_open;
    atomic_flag busy;
} Checked;

/** One op on its way through: what is looked at after it. */
typedef struct Watch {
    DpsOpCode code;
    uint64_t digest[DPS_OPERANDS_MAX]; /* of an input's bytes; of the memory beside an output */
    uint64_t bytes[DPS_OPERANDS_MAX];  /* of operands whose contents can be read; 0: not looked at */
    int finite;                        /* all that is read was, before the call; -1: not known yet */
} Watch;

enum { DPS_CHECKED_GUARD = 64 /* bytes behind every allocation, which nobody may write */ };
enum { DPS_BLAME_HOST, DPS_BLAME_PLUGIN, DPS_BLAME_WRITER /* the plugin, unless another's thread wrote */ };

/** Fill err with "validate: SUBJECT: WHAT. To blame: WHO", count it, return INVALID. */
DpsStatus dps__checked_fault (Checked *c, int blame, const char *subject, DpsError *err, const char *fmt, ...)
    __attribute__ ((format (printf, 5, 6)));

static inline void dps__checked_lock (const Checked *c) { pthread_mutex_lock (&c->shared->lock); }
/** st is passed on. */
static inline DpsStatus dps__checked_unlock (const Checked *c, DpsStatus st)
{
    pthread_mutex_unlock (&c->shared->lock);
    return st;
}

/** The same where no error can be returned: logged. */
void dps__checked_log (Checked *c, int blame, const char *subject, const char *fmt, ...) __attribute__ ((format (printf, 4, 5)));

/* checked_memory.c, with the lock held */

/** Remember what alloc gave. What is wrong with it is the plugin's: it is freed then, unless it is in use. Errors: INVALID, NOMEM. */
DpsStatus dps__checked_take (Checked *c, struct DpsBuffer *buffer, void *host, uint64_t bytes, DpsError *err);
/** 1 when `buffer` is to be freed; NULL is. */
int dps__checked_release (Checked *c, const struct DpsBuffer *buffer);
/** The allocation a view lies in: by its buffer, else by its address; NULL: the host's own memory. Good while the lock is held. */
Memory *dps__checked_memory (Checked *c, const struct DpsBuffer *buffer, const void *host);

/** Before: the host's side, then poison. A plan's scratch is no operand here. Errors: INVALID. */
DpsStatus dps__checked_before (Checked *c, const DpsOp *op, Watch *w, DpsError *err);
/** After: the plugin's side. Errors: INVALID. */
DpsStatus dps__checked_after (Checked *c, const DpsOp *op, Watch *w, DpsError *err);
/** One view by itself: within its memory, alive, aligned. Errors: INVALID. */
DpsStatus dps__checked_view (Checked *c, const DpsView *v, const char *subject, DpsError *err);

/** Work that has seen this (NULL: nothing) touches these operands now: none in a queue that it has not seen may be on them. Errors: INVALID. */
DpsStatus dps__checked_conflict (Checked *c, const Seen *seen, const DpsOp *op, DpsError *err);
/** Is work on this allocation in flight? */
int dps__checked_in_flight (const Checked *c, const Memory *m);

/** "linear in[1] bf16 (2048,640) packed" */
const char *dps__checked_subject (const Checked *c, const DpsOp *op, uint32_t operand, char *text, size_t cap);

#endif
