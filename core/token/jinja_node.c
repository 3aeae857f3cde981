/* SPDX-License-Identifier: Apache-2.0 */
/* jinja_node.c: what the parsers of statements and expressions share: looking at the next token, stepping over it, saying what was expected. */
#include "token/jinja_node.h"

#include <stdio.h>
#include <string.h>

int dps__jinja_unexpected (DpsJparser *p, const char *expected)
{
    const DpsJtoken *t = p->at;
    char found[64];
    switch (t->kind) {
    case DPS_JT_END: snprintf (found, sizeof found, "the end of the template"); break;
    case DPS_JT_BLOCK_END: snprintf (found, sizeof found, "%%}"); break;
    case DPS_JT_VARIABLE_END: snprintf (found, sizeof found, "}}"); break;
    case DPS_JT_NAME: snprintf (found, sizeof found, "'%.*s'", (int)(t->value.len < 40 ? t->value.len : 40), t->value.s); break;
    default: snprintf (found, sizeof found, t->kind < 256 && t->kind > ' ' ? "'%c'" : "a value or operator", (char)t->kind); break;
    }
    p->in->line = t->line;
    return dps__jinja_fail (p->in, DPS_ERR_FORMAT, "found %s, expected %s", found, expected);
}

DpsJnode *dps__jinja_node (DpsJparser *p, int kind)
{
    DpsJnode *node = dps__jinja_alloc (p->in, 1, sizeof *node);
    if (node) {
        node->kind = kind;
        node->line = p->at->line;
    }
    return node;
}

int dps__jinja_is_name (const DpsJtoken *t, const char *name)
{
    return t->kind == DPS_JT_NAME && t->value.len == strlen (name) && !memcmp (t->value.s, name, t->value.len);
}

int dps__jinja_skip_op (DpsJparser *p, int kind)
{
    if (p->at->kind != kind)
        return 0;
    p->at++;
    return 1;
}

int dps__jinja_expect (DpsJparser *p, int kind)
{
    static const char *const names[] = {[DPS_JT_BLOCK_END] = "%}", [DPS_JT_VARIABLE_END] = "}}", [DPS_JT_NAME] = "a name"};
    char text[4] = {'\'', (char)kind, '\'', '\0'};
    if (dps__jinja_skip_op (p, kind))
        return 0;
    return dps__jinja_unexpected (p, kind <= DPS_JT_NAME && names[kind] ? names[kind] : text);
}
