/* SPDX-License-Identifier: Apache-2.0 */
/*
 * interface.c: copy at load (rule 4). After it the core may read every slot of its own struct whatever the plugin was built with, and
 * needs no check for the mandatory ones.
 */
#include "plugin/interface.h"

#include <string.h>

#include "base/mem.h"
#include "base/status.h"

enum { MAX_SLOTS = 11, MAX_TABLE = 1 << 16 };

typedef struct Slot {
    const char *name;
    size_t offset;
} Slot;

typedef struct Interface {
    const char *id;
    size_t size;
    Slot mandatory[MAX_SLOTS + 1]; /* ends with a NULL name */
} Interface;

#define SLOT(type, member)                                                                                                                 \
    {                                                                                                                                      \
#member, offsetof(type, member)                                                                                                    \
    }

static const Interface interfaces[DPS_N_INTERFACES] = {
    {DPS_ADAPTER_ID,
     sizeof (DpsAdapter),
     {SLOT (DpsAdapter, describe), SLOT (DpsAdapter, create), SLOT (DpsAdapter, destroy), SLOT (DpsAdapter, attach),
      SLOT (DpsAdapter, forward)}},
    {DPS_BACKEND_ID,
     sizeof (DpsBackend),
     {SLOT (DpsBackend, enumerate), SLOT (DpsBackend, alloc), SLOT (DpsBackend, free), SLOT (DpsBackend, copy), SLOT (DpsBackend, run)}},
    {DPS_COLLECTIVE_ID,
     sizeof (DpsCollective),
     {SLOT (DpsCollective, unique_id), SLOT (DpsCollective, init), SLOT (DpsCollective, all_reduce), SLOT (DpsCollective, reduce_scatter),
      SLOT (DpsCollective, all_gather), SLOT (DpsCollective, all_to_all), SLOT (DpsCollective, broadcast), SLOT (DpsCollective, send),
      SLOT (DpsCollective, recv), SLOT (DpsCollective, abort), SLOT (DpsCollective, destroy)}},
    {DPS_DLPACK_ID, sizeof (DpsDlpack), {SLOT (DpsDlpack, to), SLOT (DpsDlpack, from), SLOT (DpsDlpack, view), SLOT (DpsDlpack, release)}},
    {DPS_FORMAT_ID,
     sizeof (DpsFormat),
     {SLOT (DpsFormat, name), SLOT (DpsFormat, probe), SLOT (DpsFormat, open), SLOT (DpsFormat, close), SLOT (DpsFormat, info),
      SLOT (DpsFormat, tensor_info), SLOT (DpsFormat, meta), SLOT (DpsFormat, read), SLOT (DpsFormat, read_f32)}},
    {DPS_MEMORY_ID, sizeof (DpsMemory), {SLOT (DpsMemory, kind), SLOT (DpsMemory, alloc)}},
    {DPS_OBJECTIVE_ID,
     sizeof (DpsObjective),
     {SLOT (DpsObjective, describe), SLOT (DpsObjective, create), SLOT (DpsObjective, destroy), SLOT (DpsObjective, loss)}},
    {DPS_PACK_ID, sizeof (DpsPack), {SLOT (DpsPack, query), SLOT (DpsPack, pack)}},
    {DPS_PROFILE_ID, sizeof (DpsProfile), {SLOT (DpsProfile, start), SLOT (DpsProfile, stop), SLOT (DpsProfile, record)}},
    {DPS_QUANT_ID, sizeof (DpsQuant), {SLOT (DpsQuant, format), SLOT (DpsQuant, dequantize)}},
    {DPS_REWARD_ID,
     sizeof (DpsReward),
     {SLOT (DpsReward, describe), SLOT (DpsReward, open), SLOT (DpsReward, score), SLOT (DpsReward, close)}},
    {DPS_SEGMENT_ID,
     sizeof (DpsRecorder),
     {SLOT (DpsRecorder, query), SLOT (DpsRecorder, build), SLOT (DpsRecorder, run), SLOT (DpsRecorder, free)}},
    {DPS_STREAM_ID,
     sizeof (DpsQueues),
     {SLOT (DpsQueues, open), SLOT (DpsQueues, close), SLOT (DpsQueues, run), SLOT (DpsQueues, copy), SLOT (DpsQueues, record),
      SLOT (DpsQueues, wait), SLOT (DpsQueues, query), SLOT (DpsQueues, sync), SLOT (DpsQueues, event_free)}},
};

const char *dps__interface_id (size_t i) { return interfaces[i].id; }

size_t dps__interface_find (const char *id)
{
    size_t i = 0;
    while (i < DPS_N_INTERFACES && !dps_str_is (dps_str (id), interfaces[i].id))
        i++;
    return i;
}

static int slot_filled (const void *table, size_t offset) { return *(void *const *)((const char *)table + offset) != NULL; }

/* Slots that come together, all of them or none. */
static const struct {
    const char *id, *names;
    size_t slots[4];
} together[] = {
    {DPS_FORMAT_ID,
     "create, write, finish or abandon, which come together",
     {offsetof (DpsFormat, create), offsetof (DpsFormat, write), offsetof (DpsFormat, finish), offsetof (DpsFormat, abandon)}},
    {DPS_BACKEND_ID,
     "prepare, plan_info, run_plan or plan_free, which come together",
     {offsetof (DpsBackend, prepare), offsetof (DpsBackend, plan_info), offsetof (DpsBackend, run_plan), offsetof (DpsBackend, plan_free)}},
};

/* The names of slots of which a table has some and lacks some, or NULL. */
static const char *half_a_set (const char *id, const void *table)
{
    for (size_t i = 0; i < sizeof together / sizeof *together; i++) {
        int n = 0;
        if (strcmp (together[i].id, id) != 0)
            continue;
        for (int k = 0; k < 4; k++)
            n += slot_filled (table, together[i].slots[k]);
        if (n != 0 && n != 4)
            return together[i].names;
    }
    return NULL;
}

DpsStatus dps__interface_copy (size_t i, const void *theirs, const char *where, void **out, DpsError *err)
{
    const Interface *face = &interfaces[i];
    size_t size = *(const size_t *)theirs;
    if (size < sizeof size || size % sizeof (void *) || size > MAX_TABLE) /* half a pointer is none */
        return dps_fail (err, DPS_ERR_FORMAT, "%s: its %s table says %zu bytes, expected sizeof of the SDK's struct (here %zu)", where,
                         face->id, size, face->size);
    void *table = dps_calloc (1, face->size);
    if (!table)
        return dps_fail (err, DPS_ERR_NOMEM, "%s: out of memory", where);
    dps_table_copy (table, face->size, theirs);
    const char *missing = NULL;
    for (const Slot *slot = face->mandatory; slot->name && !missing; slot++)
        if (!slot_filled (table, slot->offset))
            missing = slot->name;
    if (!missing)
        missing = half_a_set (face->id, table);
    if (missing) {
        dps_free (table);
        return dps_fail (err, DPS_ERR_FORMAT, "%s: its %s table has no %s", where, face->id, missing);
    }
    *out = table;
    return DPS_OK;
}
