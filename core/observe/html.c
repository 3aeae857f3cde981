/* SPDX-License-Identifier: Apache-2.0 */
#include "observe/html.h"

#include <glib.h>
#include <string.h>

static const char replacement[] = "\xef\xbf\xbd";

static const char *entity (gunichar c)
{
    switch (c) {
    case '&': return "&amp;";
    case '<': return "&lt;";
    case '>': return "&gt;";
    case '"': return "&quot;";
    case '\'': return "&#39;";
    default: return NULL;
    }
}

int dps__html_cut (DpsBuf *out, const char *text, size_t limit)
{
    size_t len = text ? strlen (text) : 0, n = 0;
    for (size_t i = 0; i < len; n++) {
        if (n == limit)
            return dps_buf_str (out, "…");
        gunichar c = g_utf8_get_char_validated (text + i, (gssize)(len - i));
        int valid = c != (gunichar)-1 && c != (gunichar)-2;
        size_t bytes = valid ? (size_t)g_unichar_to_utf8 (c, NULL) : 1;
        int control = valid && c != '\n' && c != '\t' && (c < 0x20 || (c >= 0x7f && c < 0xa0));
        const char *e = valid ? entity (c) : replacement;
        if (control)
            e = replacement;
        if (e ? dps_buf_str (out, e) : dps_buf_add (out, text + i, bytes))
            return -1;
        i += bytes;
    }
    return 0;
}

int dps__html_text (DpsBuf *out, const char *text) { return dps__html_cut (out, text, SIZE_MAX); }
