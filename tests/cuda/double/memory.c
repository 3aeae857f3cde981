/* SPDX-License-Identifier: Apache-2.0 */
/* memory.c: blocks between guard bytes, full of NaNs; what is freed is buried, not reused, and looked at again. */
#include <stdlib.h>
#include <string.h>

#include "inside.h"

enum { BURIED_MOST = 64 << 20 /* bytes of freed blocks that are kept */ };

static Block *blocks;
static uint64_t buried_bytes;

Block *double_block_new (uint64_t bytes, BlockKind kind, void *registered)
{
    if (bytes > (uint64_t)1 << 34) /* all that the device says it has */
        return NULL;
    Block *b = calloc (1, sizeof *b);
    unsigned char *room = registered ? NULL : aligned_alloc (GUARD, (2 * GUARD + bytes + GUARD - 1) / GUARD * GUARD);
    if (!b || (!registered && !room)) {
        free (b);
        free (room);
        return NULL;
    }
    *b = (Block){registered ? registered : room + GUARD, room, bytes, kind, 1, blocks};
    if (room) {
        memset (room, GUARD_BYTE, 2 * GUARD + bytes);
        memset (b->data, POISON, bytes);
    }
    double_object (1);
    return blocks = b;
}

static void check_guards (const Block *b)
{
    for (int i = 0; b->room && i < GUARD; i++)
        if (b->room[i] != GUARD_BYTE || b->data[b->bytes + (uint64_t)i] != GUARD_BYTE) {
            double_breach ("a write %s a block of %llu bytes", b->room[i] != GUARD_BYTE ? "before" : "past", (unsigned long long)b->bytes);
            b->room[i] = b->data[b->bytes + (uint64_t)i] = GUARD_BYTE;
            return;
        }
}

static void check_buried (Block *b)
{
    for (uint64_t i = 0; i < b->bytes; i++)
        if (b->data[i] != BURIED) {
            double_breach ("a write to a block of %llu bytes after it was freed", (unsigned long long)b->bytes);
            memset (b->data, BURIED, b->bytes);
            return;
        }
}

void double_check_guards (void)
{
    for (Block *b = blocks; b; b = b->next)
        if (b->live)
            check_guards (b);
        else if (b->room)
            check_buried (b);
}

/* Holds p, an empty block at its own address. */
static int holds (const Block *b, const void *p)
{
    const unsigned char *at = p;
    return at >= b->data && at < b->data + (b->bytes ? b->bytes : 1);
}

int double_is_block (const void *p)
{
    for (const Block *b = blocks; b; b = b->next)
        if (b->live && holds (b, p))
            return 1;
    return 0;
}

Block *double_block_of (const void *p, const char *who)
{
    const Block *dead = NULL;
    for (Block *b = blocks; b; b = b->next) {
        if (holds (b, p) && b->live)
            return b;
        dead = holds (b, p) ? b : dead;
    }
    double_breach (dead ? "%s uses a block after it was freed" : "%s uses memory that no block holds", who);
    return NULL;
}

int double_holds (const void *p, uint64_t bytes, const char *who)
{
    double_lock ();
    const Block *b = double_block_of (p, who);
    int inside = b && bytes <= b->bytes - (uint64_t)((const unsigned char *)p - b->data);
    if (b && !inside)
        double_breach ("%s reaches past a block of %llu bytes", who, (unsigned long long)b->bytes);
    double_unlock ();
    return inside;
}

static void bury (Block *b)
{
    b->live = 0;
    double_object (-1);
    if (!b->room)
        return;
    memset (b->data, BURIED, b->bytes);
    buried_bytes += b->bytes;
    for (Block **at = &blocks; *at && buried_bytes > BURIED_MOST;) { /* the newest go first: what is old was looked at most */
        Block *old = *at;
        if (old->live || old == b) {
            at = &old->next;
            continue;
        }
        *at = old->next;
        buried_bytes -= old->room ? old->bytes : 0;
        free (old->room);
        free (old);
    }
}

CuResult double_block_free (void *p, BlockKind kind, int any_device_kind)
{
    for (Block *b = blocks; b; b = b->next) {
        int fits = b->kind == kind || (any_device_kind && (b->kind == BLOCK_DEVICE || b->kind == BLOCK_MANAGED));
        if (b->data != p || !b->live)
            continue;
        if (!fits)
            double_breach ("a block of kind %d is freed as one of kind %d", (int)b->kind, (int)kind);
        check_guards (b);
        bury (b);
        return fits ? CU_OK : CU_INVALID_VALUE;
    }
    double_breach ("a block is freed twice, or was none");
    return CU_INVALID_VALUE;
}

void double_forget_blocks (void)
{
    for (Block *b = blocks; b; b = b->next)
        if (b->live) {
            b->live = 0;
            double_object (-1);
            if (b->room)
                memset (b->data, BURIED, b->bytes);
        }
}
