/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_jinja.c: any bytes as a chat template, rendered over one conversation: bounded in steps, depth and output, and every refusal says why. */
#include "fuzz.h"
#include "token/chat.h"

static json_t *messages, *tools;

int LLVMFuzzerInitialize (int *argc, char ***argv)
{
    (void)argc, (void)argv;
    messages = json_pack ("[{s:s,s:s},{s:s,s:[{s:s,s:s}]},{s:s,s:n,s:[{s:s,s:{s:s,s:{s:i}}}]},{s:s,s:s}]", "role", "system", "content",
                          "be brief", "role", "user", "content", "type", "text", "text", "h\xc3\xa9 ", "role", "assistant", "content",
                          "tool_calls", "type", "function", "function", "name", "f", "arguments", "x", 1, "role", "tool", "content", "42");
    tools = json_pack ("[{s:s,s:{s:s}}]", "type", "function", "function", "name", "f");
    require (messages && tools);
    return 0;
}

int LLVMFuzzerTestOneInput (const uint8_t *data, size_t size)
{
    DpsError err = DPS_ERROR_INIT;
    DpsRendered r;
    const DpsChatOptions o = {.tools = tools, .add_generation_prompt = 1};
    char *source = dps_strndup ((const char *)data, size);
    require (source != NULL);
    if (dps_chat_render (source, NULL, messages, &o, &r, &err) != DPS_OK)
        require (err.msg[0] != '\0');
    else {
        for (size_t i = 0; i < r.n_generation; i++)
            require (r.generation[i].start <= r.generation[i].end && r.generation[i].end <= r.text.len);
        dps_rendered_free (&r);
    }
    dps_free (source);
    return 0;
}
