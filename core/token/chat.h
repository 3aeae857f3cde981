/* SPDX-License-Identifier: Apache-2.0 */
/* chat.h: messages → text, by the model's own Jinja template, interpreted within fixed bounds, or by Gemma's turn format. */
#ifndef DPS_TOKEN_CHAT_H
#define DPS_TOKEN_CHAT_H

#include "base/json.h"
#include "token/tokenizer.h"

typedef struct DpsChatOptions {
    json_t *tools;  /* array, or NULL; borrowed */
    json_t *kwargs; /* chat_template_kwargs object, or NULL; borrowed */
    int add_generation_prompt;
    const char *where; /* names the template in errors; NULL: "template" */
    const char *date;  /* strftime_now's clock as "YYYY-MM-DD", so that renderings are reproducible; NULL: 2024-07-26 */
} DpsChatOptions;

typedef struct DpsRendered {
    DpsBuf text;
    DpsSpan *generation; /* what lay inside {% generation %} … {% endgeneration %}; for the Gemma format: each model reply with its
                            end of turn and line; n_generation 0 when the template has no such block */
    size_t n_generation;
    DpsSpan *literal; /* control-token look-alikes that came from the messages: text, never control tokens */
    size_t n_literal;
} DpsRendered;

/**
 * Render a JSON array of messages. template_source: Jinja, or NULL for Gemma's turn format (parity/README "chat.jsonl").
 * Errors: FORMAT "WHERE:LINE: …" for what the template refuses (raise_exception) or the subset lacks; LIMIT for steps, depth, output.
 * Thread: [any].
 */
DpsStatus dps_chat_render (const char *template_source, const DpsTokenizer *tok, json_t *messages, const DpsChatOptions *options,
                           DpsRendered *out, DpsError *err);
void dps_rendered_free (DpsRendered *r);

#endif
