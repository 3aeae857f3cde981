/* SPDX-License-Identifier: Apache-2.0 */
#include "graph/untie.h"

#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "graph/decoder.h"
#include "graph/source_internal.h"

enum { CHUNK = 1 << 16 };

static DpsStatus differ (DpsSource *s, size_t a, size_t b, uint64_t n, int *out, DpsError *err)
{
    float *x = dps_malloc (2 * CHUNK, sizeof *x), *y = x ? x + CHUNK : NULL;
    DpsStatus st = x ? DPS_OK : dps_fail (err, DPS_ERR_NOMEM, "%s: out of memory", dps_source_path (s));
    *out = 0;
    for (uint64_t at = 0; st == DPS_OK && at < n && !*out; at += CHUNK) {
        uint64_t some = n - at < CHUNK ? n - at : CHUNK;
        st = dps_source_read (s, a, at, some, x, err);
        if (st == DPS_OK)
            st = dps_source_read (s, b, at, some, y, err);
        *out = st == DPS_OK && memcmp (x, y, some * sizeof *x) != 0;
    }
    dps_free (x);
    return st;
}

static DpsStatus say_untied (DpsSource *s, DpsError *err)
{
    return json_object_set_new (s->config, "tie_word_embeddings", json_false ())
               ? dps_fail (err, DPS_ERR_NOMEM, "%s: out of memory", s->path)
               : DPS_OK;
}

/* A configuration that no architecture reads ties nothing: it is reported by who reads it. */
static int is_tied (const DpsSource *s)
{
    DpsError ignored = DPS_ERROR_INIT;
    DpsDecoder dec;
    return dps_decoder_read (s->config, &dec, &ignored) == DPS_OK && dec.tied;
}

DpsStatus dps__source_untie (DpsSource *s, DpsError *err)
{
    int64_t head = dps_source_find (s, "lm_head.weight"), embed = dps_source_find (s, "model.embed_tokens.weight");
    DpsTensorInfo h = {.size = sizeof h}, e = {.size = sizeof e};
    int other = 1;
    if (head < 0 || embed < 0 || !is_tied (s))
        return DPS_OK;
    DPS_TRY (dps_source_info (s, (size_t)head, &h, err));
    DPS_TRY (dps_source_info (s, (size_t)embed, &e, err));
    if (h.n_elements == e.n_elements)
        DPS_TRY (differ (s, (size_t)head, (size_t)embed, h.n_elements, &other, err));
    if (!other)
        return DPS_OK;
    dps_log (DPS_LOG_WARNING,
             "%s: config.json ties the output head to the embedding, but the files hold a head of its own, which is used. "
             "Hint: \"tie_word_embeddings\": false says so",
             dps_source_path (s));
    return say_untied (s, err);
}

DpsStatus dps_source_own_head (DpsSource *s, DpsError *err)
{
    if (!is_tied (s))
        return DPS_OK;
    s->head_is_embed = dps_source_find (s, "lm_head.weight") < 0;
    return say_untied (s, err);
}
