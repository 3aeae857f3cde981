/* SPDX-License-Identifier: Apache-2.0 */
/* html.h: text into HTML. Everything that comes from a model, a row or a recipe goes through here: none of it can become markup. */
#ifndef DPS_OBSERVE_HTML_H
#define DPS_OBSERVE_HTML_H

#include "base/mem.h"

/**
 * Append text for element content or a double-quoted attribute: & < > " ' as entities, control characters and invalid UTF-8 as U+FFFD.
 * NULL is empty. 0 or -1 (no memory). [any]
 */
int dps__html_text (DpsBuf *out, const char *text);
/** The same, cut after `limit` characters with "…". */
int dps__html_cut (DpsBuf *out, const char *text, size_t limit);

#endif
