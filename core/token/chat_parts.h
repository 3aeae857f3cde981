/* SPDX-License-Identifier: Apache-2.0 */
/*
 * chat_parts.h: content as a list of {"type":"text","text":…} parts. A template that reads such lists (Gemma 3's trims each part) gets them as
 * transformers gives them. Any other would print them as Python does, stop, or leave the text out: it gets their texts joined. Which of the
 * two it is differs by role, and is found by rendering one part.
 */
#ifndef DPS_TOKEN_CHAT_PARTS_H
#define DPS_TOKEN_CHAT_PARTS_H

#include "token/chat.h"

enum { DPS_PARTS_SYSTEM, DPS_PARTS_USER, DPS_PARTS_ASSISTANT, DPS_PARTS_OTHER, DPS_PARTS_ROLES };

/** Which roles (bits) have a message whose content is a list. */
unsigned dps__parts_roles (const json_t *messages);
/** A conversation whose message of that role is one part; NULL when out of memory. */
json_t *dps__parts_probe (int role);
/** Was the part of the probe read, by what became of it? */
int dps__parts_were_read (const DpsBuf *text);
/** A copy of messages in which the lists of these roles are one text each. Errors: NOMEM. */
DpsStatus dps__parts_join (json_t *messages, unsigned roles, json_t **out, DpsError *err);

#endif
