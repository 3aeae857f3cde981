/* SPDX-License-Identifier: Apache-2.0 */
#include "token/chat_parts.h"

#include <string.h>

#include "data/row.h"

#define PROBE "diapason"

static DpsStatus no_memory (DpsError *err) { return dps_fail (err, DPS_ERR_NOMEM, "out of memory for the chat text"); }

static int role_of (const json_t *message)
{
    static const char *const names[] = {"system", "user", "assistant"};
    const char *role = json_string_value (json_object_get (message, "role"));
    int i = 0;
    while (i < DPS_PARTS_OTHER && (!role || strcmp (role, names[i])))
        i++;
    return i;
}

unsigned dps__parts_roles (const json_t *messages)
{
    unsigned roles = 0;
    const json_t *message;
    size_t i;
    json_array_foreach (messages, i, message)
        if (json_is_array (json_object_get (message, "content")))
            roles |= 1u << role_of (message);
    return roles;
}

json_t *dps__parts_probe (int role)
{
    json_t *part = json_pack ("[{s:s, s:s}]", "type", "text", "text", PROBE);
    if (!part)
        return NULL;
    switch (role) { /* o takes the reference, of a call that fails too */
    case DPS_PARTS_SYSTEM: return json_pack ("[{s:s, s:o}, {s:s, s:s}]", "role", "system", "content", part, "role", "user", "content", "?");
    case DPS_PARTS_USER: return json_pack ("[{s:s, s:o}]", "role", "user", "content", part);
    case DPS_PARTS_ASSISTANT:
        return json_pack ("[{s:s, s:s}, {s:s, s:o}]", "role", "user", "content", "?", "role", "assistant", "content", part);
    default: json_decref (part); return NULL;
    }
}

/* As text of its own, that is, and not as a string in a list that was printed. */
int dps__parts_were_read (const DpsBuf *text)
{
    const char *at = text->data ? strstr (text->data, PROBE) : NULL;
    return at && !(at > text->data && strchr ("'\"", at[-1]) && at[-1] == at[strlen (PROBE)]);
}

static DpsStatus join (json_t *messages, size_t i, DpsError *err)
{
    DpsBuf text = {0};
    json_t *message = dps_json_copy (json_array_get (messages, i), 0);
    DpsStatus st = message && !dps_message_text (message, &text) ? DPS_OK : no_memory (err);
    if (st == DPS_OK && (json_object_set_new (message, "content", json_stringn (text.data ? text.data : "", text.len)) ||
                         json_array_set (messages, i, message)))
        st = no_memory (err);
    json_decref (message);
    dps_buf_free (&text);
    return st;
}

DpsStatus dps__parts_join (json_t *messages, unsigned roles, json_t **out, DpsError *err)
{
    DpsStatus st = (*out = dps_json_copy (messages, 0)) ? DPS_OK : no_memory (err);
    for (size_t i = 0; st == DPS_OK && i < json_array_size (*out); i++) {
        const json_t *message = json_array_get (*out, i);
        if (json_is_array (json_object_get (message, "content")) && roles >> role_of (message) & 1)
            st = join (*out, i, err);
    }
    if (st != DPS_OK) {
        json_decref (*out);
        *out = NULL;
    }
    return st;
}
