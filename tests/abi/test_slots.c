/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Copy at load, for every interface the host knows: tables cut at every byte, extended, with each slot missing in turn and in random sets. Which slots there
 * are is read from offsets.h; which are mandatory stands here a second time, as a vendor reads it in the headers.
 */
#include <stdlib.h>

#include "base/file.h"
#include "base/mem.h"
#include "base/rng.h"
#include "check.h"
#include "plugin/interface.h"

enum { MAX_MEMBERS = 24, MAX_WORDS = 64 };

static DpsError err = DPS_ERROR_INIT;

static const struct Face {
    const char *id, *name, *mandatory, *together;
} faces[] = {
    {DPS_ADAPTER_ID, "DpsAdapter", " describe create destroy attach forward ", ""},
    {DPS_BACKEND_ID, "DpsBackend", " enumerate alloc free copy run ", " prepare plan_info run_plan plan_free "},
    {DPS_COLLECTIVE_ID, "DpsCollective",
     " unique_id init all_reduce reduce_scatter all_gather all_to_all broadcast send recv abort destroy ", ""},
    {DPS_DLPACK_ID, "DpsDlpack", " to from view release ", ""},
    {DPS_FORMAT_ID, "DpsFormat", " name probe open close info tensor_info meta read read_f32 ", " create write finish abandon "},
    {DPS_MEMORY_ID, "DpsMemory", " kind alloc ", ""},
    {DPS_OBJECTIVE_ID, "DpsObjective", " describe create destroy loss ", ""},
    {DPS_PACK_ID, "DpsPack", " query pack ", ""},
    {DPS_PROFILE_ID, "DpsProfile", " start stop record ", ""},
    {DPS_QUANT_ID, "DpsQuant", " format dequantize ", ""},
    {DPS_REWARD_ID, "DpsReward", " describe open score close ", ""},
    {DPS_SEGMENT_ID, "DpsRecorder", " query build run free ", ""},
    {DPS_STREAM_ID, "DpsQueues", " open close run copy record wait query sync event_free ", ""},
};

typedef struct Layout {
    const struct Face *face;
    size_t number, size, n;
    struct {
        char name[40];
        size_t offset;
    } member[MAX_MEMBERS]; /* all but size */
} Layout;

static int in_list (const char *list, const char *name)
{
    char word[48];
    snprintf (word, sizeof word, " %s ", name);
    return strstr (list, word) != NULL;
}

/* The struct as tests/abi/offsets.h pins it. */
static void read_layout (const DpsBuf *text, size_t i, Layout *out)
{
    char line[96];
    *out = (Layout){.face = &faces[i], .number = dps__interface_find (faces[i].id)};
    CU_ASSERT_FATAL (out->number < DPS_N_INTERFACES);
    snprintf (line, sizeof line, "_Static_assert (offsetof (%s, ", faces[i].name);
    for (const char *at = strstr (text->data, line); at; at = strstr (at + 1, line)) {
        CU_ASSERT_FATAL (out->n < MAX_MEMBERS);
        int read = sscanf (at + strlen (line), "%39[a-z0-9_]) == %zu", out->member[out->n].name, &out->member[out->n].offset);
        CU_ASSERT_EQUAL_FATAL (read, 2);
        out->n += out->member[out->n].offset > 0;
    }
    snprintf (line, sizeof line, "_Static_assert (sizeof (%s) == ", faces[i].name);
    const char *at = strstr (text->data, line);
    CU_ASSERT_FATAL (at && sscanf (at + strlen (line), "%zu", &out->size) == 1);
    CU_ASSERT_FATAL (out->n >= 2 && out->size == (out->n + 1) * sizeof (void *));
}

/* What must come of a table with these slots filled: "" when it is taken, else the name of what is missing. */
static const char *expected (const Layout *l, const uintptr_t *table, size_t size)
{
    unsigned some = 0, all = 0;
    if (size < sizeof size || size % sizeof (void *) || size > 1 << 16)
        return "bytes";
    for (size_t k = 0; k < l->n; k++) {
        int filled = l->member[k].offset + sizeof (void *) <= size && table[l->member[k].offset / sizeof (void *)];
        if (!filled && in_list (l->face->mandatory, l->member[k].name))
            return l->member[k].name;
        if (in_list (l->face->together, l->member[k].name)) {
            all++;
            some += filled;
        }
    }
    return some == 0 || some == all ? "" : "which come together";
}

static void try_table (const Layout *l, const uintptr_t *table)
{
    size_t size = table[0];
    const char *want = expected (l, table, size);
    void *copy = NULL;
    err.msg[0] = '\0';
    DpsStatus st = dps__interface_copy (l->number, table, "it", &copy, &err);
    if ((st == DPS_OK) != !*want || (*want && !strstr (err.msg, want)))
        printf ("\n    %s of %zu bytes: status %d \"%s\", expected \"%s\"\n", l->face->name, size, st, err.msg, want);
    CU_ASSERT_EQUAL (st, *want ? DPS_ERR_FORMAT : DPS_OK);
    CU_ASSERT (!*want || strstr (err.msg, want));
    const uintptr_t *got = copy;
    for (size_t k = 0; got && k < l->n; k++) {
        size_t at = l->member[k].offset / sizeof (void *);
        CU_ASSERT_EQUAL (got[at], l->member[k].offset + sizeof (void *) <= size ? table[at] : 0);
    }
    CU_ASSERT (!got || got[0] == l->size);
    dps_free (copy);
}

static void fill (const Layout *l, uintptr_t *table)
{
    for (size_t i = 0; i < MAX_WORDS; i++)
        table[i] = 0x1000 + 16 * i;
    table[0] = l->size;
}

static void each_layout (void (*f) (const Layout *l))
{
    DpsBuf text = {0};
    Layout l;
    CHECK_OK (dps_file_read (DPS_SOURCE "/tests/abi/offsets.h", 1 << 22, &text, &err));
    CU_ASSERT_EQUAL_FATAL (sizeof faces / sizeof *faces, DPS_N_INTERFACES);
    for (size_t i = 0; i < sizeof faces / sizeof *faces; i++) {
        read_layout (&text, i, &l);
        f (&l);
    }
    dps_buf_free (&text);
}

static void truncate_and_extend (const Layout *l)
{
    uintptr_t table[MAX_WORDS];
    for (size_t size = 0; size < sizeof table; size++) {
        fill (l, table);
        table[0] = size;
        try_table (l, table);
    }
    static const size_t impossible[] = {1 << 20, (size_t)1 << 32, SIZE_MAX, SIZE_MAX - 7, SIZE_MAX / 2};
    for (size_t i = 0; i < sizeof impossible / sizeof *impossible; i++) {
        table[0] = impossible[i];
        try_table (l, table);
    }
}

static void each_slot_missing (const Layout *l)
{
    uintptr_t table[MAX_WORDS];
    unsigned n_mandatory = 0;
    for (size_t k = 0; k < l->n; k++) {
        fill (l, table);
        table[l->member[k].offset / sizeof (void *)] = 0;
        n_mandatory += in_list (l->face->mandatory, l->member[k].name);
        try_table (l, table);
    }
    CU_ASSERT (n_mandatory >= 2); /* the lists above name members that there are */
}

static void random_sets (const Layout *l)
{
    uintptr_t table[MAX_WORDS];
    uint64_t draw = 0, stream = dps_rng_stream (l->face->name);
    for (int round = 0; round < 2000; round++) {
        fill (l, table);
        table[0] = (dps_rng_u64 (7, stream, draw++) % (MAX_WORDS + 1)) * (round % 8 ? sizeof (void *) : 1);
        for (size_t i = 1; i < MAX_WORDS; i++)
            if (dps_rng_u64 (7, stream, draw++) % 12 == 0)
                table[i] = 0;
        try_table (l, table);
    }
}

static void test_tables_cut_at_every_byte_and_extended (void) { each_layout (truncate_and_extend); }
static void test_each_slot_missing_in_turn (void) { each_layout (each_slot_missing); }
static void test_random_sets_of_slots (void) { each_layout (random_sets); }

CHECK_MAIN ("abi.slots", T (test_tables_cut_at_every_byte_and_extended), T (test_each_slot_missing_in_turn), T (test_random_sets_of_slots))
