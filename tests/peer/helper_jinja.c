/* SPDX-License-Identifier: Apache-2.0 */
/* helper_jinja.c: for tests/peer: rows {"template", "messages", "go", "tools", "kwargs"} on standard input → {"text"} or {"error"}. */
#include <stdio.h>
#include <stdlib.h>

#include "token/chat.h"

static json_t *render (json_t *row)
{
    DpsError err = DPS_ERROR_INIT;
    DpsRendered r;
    json_t *tools = json_object_get (row, "tools");
    const DpsChatOptions o = {.kwargs = json_object_get (row, "kwargs"),
                              .tools = json_is_array (tools) ? tools : NULL,
                              .add_generation_prompt = json_is_true (json_object_get (row, "go"))};
    DpsStatus st =
        dps_chat_render (json_string_value (json_object_get (row, "template")), NULL, json_object_get (row, "messages"), &o, &r, &err);
    json_t *out = st == DPS_OK ? json_pack ("{s:s%}", "text", r.text.data, r.text.len) : json_pack ("{s:s}", "error", err.msg);
    if (st == DPS_OK)
        dps_rendered_free (&r);
    return out;
}

int main (void)
{
    char *line = NULL;
    size_t capacity = 0;
    dps_json_init ();
    while (getline (&line, &capacity, stdin) > 0) {
        json_t *row = json_loads (line, 0, NULL), *out = row ? render (row) : NULL;
        if (!out)
            return 1;
        json_dumpf (out, stdout, JSON_COMPACT);
        putchar ('\n');
        json_decref (row);
        json_decref (out);
    }
    free (line);
    return 0;
}
