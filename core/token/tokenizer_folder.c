/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tokenizer_folder.c: what surrounds the model of a Hugging Face tokenizer: post-processor, names of special tokens, ends of generation,
 * chat template. transformers 4 and 5 spellings.
 */
#include "token/tokenizer_folder.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "token/utf8.h"

enum {
    LARGEST_TOKENIZER = 512 << 20, /* bytes of tokenizer.json */
    LARGEST_CONFIG = 16 << 20
};

static DpsStatus template_id (DpsTokenizer *tok, json_t *id, DpsIds *to, DpsError *err)
{
    json_int_t value = json_is_integer (id) ? json_integer_value (id) : -1;
    if (value < 0 || (uint64_t)value >= tok->vocab.n)
        return dps_fail (err, DPS_ERR_FORMAT, "post_processor adds an id that is not in the vocabulary");
    return dps_ids_add (to, (int32_t)value, err);
}

/* "single" is a list of special tokens around the sequence A. */
static DpsStatus read_template (json_t *part, DpsTokenizer *tok, DpsError *err)
{
    json_t *single = json_object_get (part, "single"), *tokens = json_object_get (part, "special_tokens"), *piece, *id;
    size_t i, j;
    DpsIds *to = &tok->prefix;
    if (!json_is_array (single))
        return dps_fail (err, DPS_ERR_UNSUPPORTED, "post_processor TemplateProcessing whose \"single\" is no array");
    json_array_foreach (single, i, piece) {
        json_t *special = json_object_get (piece, "SpecialToken"), *sequence = json_object_get (piece, "Sequence");
        if (sequence) {
            to = &tok->suffix;
            continue;
        }
        const char *name = json_string_value (json_object_get (special, "id"));
        json_t *ids = name ? json_object_get (json_object_get (tokens, name), "ids") : NULL;
        if (!json_is_array (ids))
            return dps_fail (err, DPS_ERR_FORMAT, "post_processor names the special token \"%.60s\", which it does not define",
                             name ? name : "");
        json_array_foreach (ids, j, id)
            DPS_TRY (template_id (tok, id, to, err));
    }
    return DPS_OK;
}

DpsStatus dps__post_processor (json_t *part, DpsTokenizer *tok, int depth, DpsError *err)
{
    const char *type = json_string_value (json_object_get (part, "type"));
    if (!part || json_is_null (part))
        return DPS_OK;
    if (!type || !*type)
        return dps_fail (err, DPS_ERR_FORMAT, "post_processor: \"type\" is missing, empty or no string");
    if (depth > DPS_STEPS_DEPTH)
        return dps_fail (err, DPS_ERR_LIMIT, "post_processor nested deeper than %d", DPS_STEPS_DEPTH);
    if (!strcmp (type, "ByteLevel"))
        return DPS_OK;
    if (!strcmp (type, "TemplateProcessing"))
        return read_template (part, tok, err);
    if (!strcmp (type, "BertProcessing") || !strcmp (type, "RobertaProcessing")) {
        DPS_TRY (template_id (tok, json_array_get (json_object_get (part, "cls"), 1), &tok->prefix, err));
        return template_id (tok, json_array_get (json_object_get (part, "sep"), 1), &tok->suffix, err);
    }
    if (strcmp (type, "Sequence"))
        return dps_fail (err, DPS_ERR_UNSUPPORTED,
                         "post_processor %.60s is not supported; supported are Sequence, ByteLevel, TemplateProcessing, BertProcessing, "
                         "RobertaProcessing",
                         type);
    json_t *list = json_object_get (part, "processors"), *child;
    size_t i;
    json_array_foreach (list, i, child)
        DPS_TRY (dps__post_processor (child, tok, depth + 1, err));
    return DPS_OK;
}

/* A special token by name ("bos_token"): a string or {"content": …}; -1 when it is absent or no token. */
static int32_t named (const DpsTokenizer *tok, const DpsTokenizerFiles *f, const char *name)
{
    json_t *const where[] = {f->config, f->special_map};
    for (int i = 0; i < 2; i++) {
        json_t *value = json_object_get (where[i], name);
        if (json_is_object (value))
            value = json_object_get (value, "content");
        if (json_is_string (value))
            return dps_tokenizer_id (tok, json_string_value (value), json_string_length (value));
    }
    return -1;
}

/* The first id of generation_config's KEY (an integer or a list), or -1; every one ends generation when `ends`. */
static int32_t generation_id (DpsTokenizer *tok, json_t *generation, const char *key, int ends)
{
    json_t *value = json_object_get (generation, key);
    int32_t first = -1;
    for (size_t i = 0; i < (json_is_array (value) ? json_array_size (value) : 1); i++) {
        json_t *id = json_is_array (value) ? json_array_get (value, i) : value;
        json_int_t number = json_is_integer (id) ? json_integer_value (id) : -1;
        if (number < 0 || (uint64_t)number >= tok->vocab.n)
            continue;
        first = first < 0 ? (int32_t)number : first;
        if (ends)
            dps__tokenizer_set_end (tok, number);
    }
    return first;
}

/* tokenizer_config.json may say what is added, over the post-processor: transformers 4 and 5 both obey it. */
static DpsStatus explicit_ends (const DpsTokenizerFiles *f, DpsTokenizer *tok, DpsError *err)
{
    json_t *bos = json_object_get (f->config, "add_bos_token"), *eos = json_object_get (f->config, "add_eos_token");
    if (!json_is_boolean (bos) && !json_is_boolean (eos))
        return DPS_OK;
    tok->prefix.n = tok->suffix.n = 0;
    if (json_is_true (bos) && tok->named[DPS_NAMED_BOS] >= 0)
        DPS_TRY (dps_ids_add (&tok->prefix, tok->named[DPS_NAMED_BOS], err));
    return json_is_true (eos) && tok->named[DPS_NAMED_EOS] >= 0 ? dps_ids_add (&tok->suffix, tok->named[DPS_NAMED_EOS], err) : DPS_OK;
}

static DpsStatus add_chat (const DpsTokenizerFiles *f, DpsTokenizer *tok, const char *name, const char *source, const char *file,
                           const char *key, DpsError *err)
{
    char *where = dps_strf ("%s/%s%s", f->folder ? f->folder : "", file, key);
    DpsStatus st = where ? dps__tokenizer_add_chat (tok, name, (DpsStr){source, strlen (source)}, where, err)
                         : dps_fail (err, DPS_ERR_NOMEM, "out of memory for the chat template");
    dps_free (where);
    return st;
}

static DpsStatus wrong_chat (const char *file, DpsError *err)
{
    return dps_fail (err, DPS_ERR_FORMAT, "%s: chat_template: expected text, or texts by name as [{\"name\": …, \"template\": …}, …]",
                     file);
}

/* "chat_template" of a JSON file: one template, or several as [{"name": …, "template": …}, …] or {name: template, …}. */
static DpsStatus json_chats (const DpsTokenizerFiles *f, DpsTokenizer *tok, json_t *holder, const char *file, DpsError *err)
{
    json_t *value = json_object_get (holder, "chat_template"), *item;
    const char *name;
    size_t i;
    if (json_is_string (value))
        return add_chat (f, tok, "default", json_string_value (value), file, ": chat_template", err);
    if (value && !json_is_null (value) && !json_is_array (value) && !json_is_object (value))
        return wrong_chat (file, err);
    json_array_foreach (value, i, item) {
        const char *source = json_string_value (json_object_get (item, "template"));
        name = json_string_value (json_object_get (item, "name"));
        DPS_TRY (name && source ? add_chat (f, tok, name, source, file, ": chat_template", err) : wrong_chat (file, err));
    }
    json_object_foreach (value, name, item)
        DPS_TRY (json_is_string (item) ? add_chat (f, tok, name, json_string_value (item), file, ": chat_template", err)
                                       : wrong_chat (file, err));
    return DPS_OK;
}

/* Files of their own, where there are any, replace what tokenizer_config.json says, and that chat_template.json: as in transformers 5. */
static DpsStatus find_chats (const DpsTokenizerFiles *f, DpsTokenizer *tok, DpsError *err)
{
    if (f->chat_template)
        DPS_TRY (add_chat (f, tok, "default", f->chat_template, DPS_CHAT_FILE, "", err));
    if (f->tool_template)
        DPS_TRY (add_chat (f, tok, "tool_use", f->tool_template, DPS_CHAT_TOOL_FILE, "", err));
    if (f->chat_template || f->tool_template)
        return DPS_OK;
    json_t *value = json_object_get (f->config, "chat_template");
    return value && !json_is_null (value) ? json_chats (f, tok, f->config, DPS_TOKENIZER_CONFIG, err)
                                          : json_chats (f, tok, f->chat, "chat_template.json", err);
}

static DpsStatus load (const DpsTokenizerFiles *f, DpsTokenizer *tok, DpsError *err)
{
    DpsStatus st = dps__tokenizer_json (f->tokenizer, f->tokenizer_len, tok, err);
    if (st != DPS_OK)
        return dps_error_prefix (err, "tokenizer.json");
    tok->is_end = dps_calloc (tok->vocab.n, 1);
    if (!tok->is_end)
        return dps_fail (err, DPS_ERR_NOMEM, "out of memory for special tokens");
    for (int i = 0; i < DPS_NAMED_TOKENS; i++)
        tok->named[i] = named (tok, f, dps_named_token (i));
    DPS_TRY (explicit_ends (f, tok, err));
    static const char *const keys[] = {"bos_token_id", "eos_token_id", "pad_token_id"};
    for (int i = DPS_NAMED_BOS; i <= DPS_NAMED_PAD; i++) {
        int32_t id = generation_id (tok, f->generation, keys[i], i == DPS_NAMED_EOS);
        tok->named[i] = tok->named[i] < 0 ? id : tok->named[i];
    }
    DPS_TRY (find_chats (f, tok, err));
    return dps__tokenizer_finish (tok, err);
}

DpsStatus dps__tokenizer_from_files (const DpsTokenizerFiles *files, DpsTokenizer **out, DpsError *err)
{
    *out = NULL;
    DpsTokenizer *tok = dps__tokenizer_new ();
    DpsStatus st = tok ? load (files, tok, err) : dps_fail (err, DPS_ERR_NOMEM, "out of memory for a tokenizer");
    if (st == DPS_OK)
        *out = tok;
    else
        dps_tokenizer_free (tok);
    return st;
}

/* A JSON file of the folder that may be missing. */
static DpsStatus optional_json (const char *folder, const char *name, json_t **out, DpsError *err)
{
    char *path = dps_path_join (folder, name);
    *out = NULL;
    if (!path)
        return dps_fail (err, DPS_ERR_NOMEM, "out of memory for a path");
    DpsStatus st = dps_is_file (path) ? dps_json_file (path, LARGEST_CONFIG, DPS_JSON_WIDE, out, err) : DPS_OK;
    dps_free (path);
    return st;
}

static DpsStatus optional_text (const char *folder, const char *name, DpsBuf *out, DpsError *err)
{
    char *path = dps_path_join (folder, name);
    if (!path)
        return dps_fail (err, DPS_ERR_NOMEM, "out of memory for a path");
    DpsStatus st = dps_is_file (path) ? dps_file_read (path, LARGEST_CONFIG, out, err) : DPS_OK;
    dps_free (path);
    return st;
}

static DpsStatus read_folder (const char *folder, DpsTokenizerFiles *f, DpsBuf templates[2], DpsError *err)
{
    DPS_TRY (optional_json (folder, DPS_TOKENIZER_CONFIG, &f->config, err));
    DPS_TRY (optional_json (folder, "special_tokens_map.json", &f->special_map, err));
    DPS_TRY (optional_json (folder, "generation_config.json", &f->generation, err));
    DPS_TRY (optional_json (folder, "chat_template.json", &f->chat, err));
    DPS_TRY (optional_text (folder, DPS_CHAT_FILE, &templates[0], err));
    DPS_TRY (optional_text (folder, DPS_CHAT_TOOL_FILE, &templates[1], err));
    f->folder = folder;
    f->chat_template = templates[0].data;
    f->tool_template = templates[1].data;
    return DPS_OK;
}

DpsStatus dps_tokenizer_from_folder (const char *folder, DpsTokenizer **out, DpsError *err)
{
    DpsTokenizerFiles files = {0};
    DpsBuf templates[2] = {0};
    DpsMap map = {0};
    *out = NULL;
    char *path = dps_path_join (folder, "tokenizer.json");
    if (!path)
        return dps_fail (err, DPS_ERR_NOMEM, "%s: out of memory", folder);
    DpsStatus st = DPS_OK;
    if (!dps_is_file (path))
        st = dps_fail (err, DPS_ERR_NOT_FOUND, "%s: no tokenizer.json; a folder without one takes rows of token ids only", folder);
    if (st == DPS_OK)
        st = dps_map_open (path, &map, err);
    int opened = st == DPS_OK;
    if (st == DPS_OK && map.len > LARGEST_TOKENIZER)
        st = dps_fail (err, DPS_ERR_LIMIT, "%s: %zu bytes, the limit is %d", path, map.len, LARGEST_TOKENIZER);
    if (st == DPS_OK)
        st = read_folder (folder, &files, templates, err);
    if (st == DPS_OK) {
        files.tokenizer = map.data ? (const char *)map.data : "";
        files.tokenizer_len = map.len;
        st = dps__tokenizer_from_files (&files, out, err);
        if (st != DPS_OK)
            dps_error_prefix (err, "%s", folder);
    }
    if (opened)
        dps_map_close (&map);
    json_decref (files.config);
    json_decref (files.special_map);
    json_decref (files.generation);
    json_decref (files.chat);
    dps_buf_free (&templates[0]);
    dps_buf_free (&templates[1]);
    dps_free (path);
    return st;
}

/* {"name": …, "template": …} onto the list, where there is such a template. */
static DpsStatus list_chat (json_t *list, const char *name, size_t name_len, const char *folder, const char *file, DpsError *err)
{
    DpsBuf text = {0};
    DpsStatus st = optional_text (folder, file, &text, err);
    if (st == DPS_OK && text.data && dps_utf8_valid (text.data, text.len) < text.len)
        st = dps_fail (err, DPS_ERR_FORMAT, "%s/%s: not UTF-8", folder, file);
    else if (st == DPS_OK && text.data &&
             json_array_append_new (list, json_pack ("{s:s%, s:s%}", "name", name, name_len, "template", text.data, text.len)))
        st = dps_fail (err, DPS_ERR_NOMEM, "%s/%s: out of memory", folder, file);
    dps_buf_free (&text);
    return st;
}

static const char chat_ending[] = ".jinja";

static size_t chat_name_len (const char *file)
{
    size_t n = strlen (file), m = strlen (chat_ending);
    return n > m && !strcmp (file + n - m, chat_ending) ? n - m : 0;
}

static int is_chat (const struct dirent *e) { return chat_name_len (e->d_name) > 0; }

static int by_name (const struct dirent **a, const struct dirent **b) { return strcmp ((*a)->d_name, (*b)->d_name); }

/* Those of DPS_CHAT_FOLDER, in the order of their names. */
static DpsStatus list_folder (json_t *list, const char *folder, DpsError *err)
{
    struct dirent **files = NULL;
    char *dir = dps_path_join (folder, DPS_CHAT_FOLDER);
    if (!dir)
        return dps_fail (err, DPS_ERR_NOMEM, "%s: out of memory", folder);
    int n = dps_is_dir (dir) ? scandir (dir, &files, is_chat, by_name) : 0;
    DpsStatus st = n < 0 ? dps_fail (err, DPS_ERR_IO, "%s: cannot list: %s", dir, strerror (errno)) : DPS_OK;
    for (int i = 0; i < n; i++) {
        char *file = dps_strf ("%s/%s", DPS_CHAT_FOLDER, files[i]->d_name);
        if (st == DPS_OK)
            st = file ? list_chat (list, files[i]->d_name, chat_name_len (files[i]->d_name), folder, file, err)
                      : dps_fail (err, DPS_ERR_NOMEM, "%s: out of memory", dir);
        dps_free (file);
        free (files[i]); /* allocated by libc */
    }
    free (files); /* allocated by libc */
    dps_free (dir);
    return st;
}

DpsStatus dps_tokenizer_gather_chats (const char *folder, DpsBuf *out, DpsError *err)
{
    json_t *config = NULL, *list = json_array ();
    DpsStatus st = list ? list_folder (list, folder, err) : dps_fail (err, DPS_ERR_NOMEM, "%s: out of memory", folder);
    if (st == DPS_OK && json_array_size (list)) {
        st = list_chat (list, "default", strlen ("default"), folder, DPS_CHAT_FILE, err);
        if (st == DPS_OK)
            st = optional_json (folder, DPS_TOKENIZER_CONFIG, &config, err);
        config = config ? config : json_object ();
        if (st == DPS_OK && (json_object_set (config, "chat_template", list) || dps_json_write (out, config, 2) || dps_buf_str (out, "\n")))
            st = dps_fail (err, DPS_ERR_NOMEM, "%s: out of memory for its chat templates", folder);
    }
    json_decref (config);
    json_decref (list);
    return st;
}
