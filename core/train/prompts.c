/* SPDX-License-Identifier: Apache-2.0 */
#include "train/prompts.h"

#include <string.h>

#include "base/mem.h"

static DpsStatus no_memory (DpsError *err) { return dps_fail (err, DPS_ERR_NOMEM, "rollout: out of memory for the prompts"); }

void dps_prompts_free (DpsPrompts *p)
{
    for (size_t i = 0; i < p->n; i++) {
        dps_free (p->items[i].ids);
        dps_buf_free (&p->items[i].text);
        dps_buf_free (&p->items[i].columns);
    }
    dps_free (p->items);
    *p = (DpsPrompts){0};
}

DpsStatus dps_ids_text (const DpsTokenizer *tok, const int32_t *ids, size_t n, DpsBuf *out, DpsError *err)
{
    if (tok)
        DPS_TRY (dps_tokenizer_decode (tok, ids, n, DPS_DETOKENIZE_KEEP_SPECIAL, out, err));
    int bad = dps_buf_str (out, "");
    for (size_t i = 0; !tok && !bad && i < n; i++)
        bad = dps_buf_printf (out, "%s%d", i ? " " : "", (int)ids[i]);
    return bad ? no_memory (err) : DPS_OK;
}

DpsStatus dps_prompt_columns (json_t *object, DpsBuf *out, DpsError *err)
{
    static const char *const shape[] = {"prompt",    "messages", "conversations",       "prompt_input_ids",
                                        "input_ids", "tools",    "chat_template_kwargs"};
    json_t *rest = dps_json_copy (object, 0);
    for (size_t i = 0; rest && i < sizeof shape / sizeof *shape; i++)
        json_object_del (rest, shape[i]);
    int bad = !rest || dps_json_write (out, rest, 0);
    json_decref (rest);
    return bad ? no_memory (err) : DPS_OK;
}

static DpsStatus add_one (DpsPrompts *p, DpsFeed *feed, const DpsTokenizer *tok, uint64_t epoch, uint64_t k, DpsError *err)
{
    DpsPlace place;
    json_t *object = NULL;
    if (DPS_GROW (p->items, p->n, p->capacity))
        return no_memory (err);
    DPS_TRY (dps_feed_get (feed, epoch, k, &place, err));
    DpsPrompt *item = &p->items[p->n++];
    *item = (DpsPrompt){.ids = (int32_t *)place.sequences[0].ids, .n = place.sequences[0].n};
    place.sequences[0].ids = NULL;
    dps_place_free (&place);
    DpsStatus st = dps_ids_text (tok, item->ids, item->n, &item->text, err);
    if (st == DPS_OK)
        st = dps_feed_object (feed, epoch, k, &object, err);
    if (st == DPS_OK)
        st = dps_prompt_columns (object, &item->columns, err);
    json_decref (object);
    return st;
}

DpsStatus dps_prompts_add (DpsPrompts *p, DpsFeed *feed, const DpsTokenizer *tok, uint64_t epoch, uint64_t first, uint64_t n, DpsError *err)
{
    for (uint64_t i = 0; i < n; i++)
        DPS_TRY (add_one (p, feed, tok, epoch, first + i, err));
    return DPS_OK;
}
