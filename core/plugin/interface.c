/* SPDX-License-Identifier: Apache-2.0 */
/*
 * interface.c: copy at load (rule 4). After it the core may read every slot of its own struct whatever the plugin was built with, and
 * needs no check for the mandatory ones.
 */
#include "plugin/interface.h"

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
    {DPS_FORMAT_ID,
     sizeof (DpsFormat),
     {SLOT (DpsFormat, name), SLOT (DpsFormat, probe), SLOT (DpsFormat, open), SLOT (DpsFormat, close), SLOT (DpsFormat, info),
      SLOT (DpsFormat, tensor_info), SLOT (DpsFormat, meta), SLOT (DpsFormat, read), SLOT (DpsFormat, read_f32)}},
    {DPS_OBJECTIVE_ID,
     sizeof (DpsObjective),
     {SLOT (DpsObjective, describe), SLOT (DpsObjective, create), SLOT (DpsObjective, destroy), SLOT (DpsObjective, loss)}},
    {DPS_PACK_ID, sizeof (DpsPack), {SLOT (DpsPack, query), SLOT (DpsPack, pack)}},
    {DPS_REWARD_ID,
     sizeof (DpsReward),
     {SLOT (DpsReward, describe), SLOT (DpsReward, open), SLOT (DpsReward, score), SLOT (DpsReward, close)}},
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

/* Slots that come together: a format writes with all four or with none. */
static int half_a_writer (const DpsFormat *f)
{
    int n = (f->create != NULL) + (f->write != NULL) + (f->finish != NULL) + (f->abandon != NULL);
    return n != 0 && n != 4;
}

DpsStatus dps__interface_copy (size_t i, const void *theirs, const char *where, void **out, DpsError *err)
{
    const Interface *face = &interfaces[i];
    size_t size = *(const size_t *)theirs;
    if (size < sizeof size || size > MAX_TABLE)
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
    if (!missing && i == dps__interface_find (DPS_FORMAT_ID) && half_a_writer (table))
        missing = "create, write, finish or abandon, which come together";
    if (missing) {
        dps_free (table);
        return dps_fail (err, DPS_ERR_FORMAT, "%s: its %s table has no %s", where, face->id, missing);
    }
    *out = table;
    return DPS_OK;
}
