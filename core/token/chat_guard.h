/* SPDX-License-Identifier: Apache-2.0 */
/*
 * chat_guard.h: control tokens come from the template, never from a message. Whatever in a message reads like one is put between two marks (a
 * pair of Unicode noncharacters that the messages do not hold) before rendering; afterwards the marks are taken out and their places kept as
 * literal ranges. A template that cuts one mark off leaves the other, which is enough.
 */
#ifndef DPS_TOKEN_CHAT_GUARD_H
#define DPS_TOKEN_CHAT_GUARD_H

#include "token/chat.h"

typedef struct DpsChatGuard {
    const DpsTokenizer *tok; /* NULL: nothing is guarded */
    char open[4], close[4];  /* the marks, UTF-8 */
    int used;
} DpsChatGuard;

/** Choose marks for these values (NULL ones are fine). Errors: FORMAT when all are taken. */
DpsStatus dps__guard_init (DpsChatGuard *g, const DpsTokenizer *tok, const json_t *messages, const json_t *tools, DpsError *err);
/** A guarded copy, or another reference of value itself when there was nothing to mark. Errors: FORMAT (a key like a control token), NOMEM. */
DpsStatus dps__guard_copy (DpsChatGuard *g, json_t *value, json_t **out, DpsError *err);
/** Take the marks out of r->text, move r->generation along, fill r->literal. */
DpsStatus dps__guard_remove (const DpsChatGuard *g, DpsRendered *r, DpsError *err);

#endif
