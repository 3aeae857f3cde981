/* SPDX-License-Identifier: Apache-2.0 */
/* verb_tokenize.c: text to ids and back, with a model's tokenizer alone: no weight is read. */
#include "data/dataset.h"
#include "diapason/cli.h"
#include "diapason/open_registry.h"
#include "diapason/output.h"
#include "infer/tokenizer_source.h"
#include "token/encode.h"

static int run_tokenize (int argc, char **argv);

const DpsVerb dps_verb_tokenize = {
    .name = "tokenize",
    .summary = "text to token ids, and back",
    .synopsis = "--model M --data F.jsonl [--no-special] [--decode] [--out O.jsonl]",
    .help = "Rows: {\"text\":…}, {\"messages\":[…]} (rendered by the chat template), {\"prompt\":…,\"completion\":…}, or {\"ids\":[…]} to "
            "decode.\n"
            "Writes {\"ids\":[…]} a row, and with --decode \"text\": what the ids stand for, special tokens kept with --no-special.\n\n"
            "Example: diapason tokenize --model \"$(tools/fetch gemma3-270m)\" --data texts.jsonl --decode",
    .run = run_tokenize,
};

static char *model, *data, *out;
static gboolean no_special, decode;
static const GOptionEntry entries[] = {
    {"model", 'm', 0, G_OPTION_ARG_FILENAME, &model, "Hugging Face folder, .gguf file or checkpoint", "M"},
    {"data", 'd', 0, G_OPTION_ARG_FILENAME, &data, "rows", "F.jsonl"},
    {"no-special", 0, 0, G_OPTION_ARG_NONE, &no_special, "leave out what the tokenizer adds itself", NULL},
    {"decode", 0, 0, G_OPTION_ARG_NONE, &decode, "write the text of the ids too", NULL},
    {"out", 'o', 0, G_OPTION_ARG_FILENAME, &out, "write there instead of to standard output", "O.jsonl"},
    {NULL, 0, 0, 0, NULL, NULL, NULL},
};

static DpsStatus put_ids (const DpsTokenizer *tok, const int32_t *ids, size_t n, DpsBuf *b, DpsError *err)
{
    DpsBuf text = {0};
    int bad = dps_buf_str (b, "{\"ids\":") || cli_put_ids (b, ids, n);
    DpsStatus st = decode ? dps_tokenizer_decode (tok, ids, n, no_special ? DPS_DETOKENIZE_KEEP_SPECIAL : 0, &text, err) : DPS_OK;
    if (decode && st == DPS_OK)
        bad = bad || dps_buf_str (b, ",\"text\":") || cli_put_text (b, text.data ? text.data : "", text.len);
    bad = bad || dps_buf_str (b, "}\n");
    dps_buf_free (&text);
    return st == DPS_OK && bad ? dps_fail (err, DPS_ERR_NOMEM, "tokenize: out of memory") : st;
}

static DpsStatus put_row (const DpsTokenizer *tok, const DpsEncoder *encoder, const DpsRow *row, DpsBuf *b, DpsError *err)
{
    if (row->kind == DPS_ROW_TEXT) {
        DpsIds ids = {0};
        DpsStatus st =
            dps_tokenizer_encode (tok, row->answers[0].text, row->answers[0].text_len, no_special ? 0 : DPS_TOKENIZE_SPECIAL, &ids, err);
        dps_row_place (row, st, err);
        if (st == DPS_OK)
            st = put_ids (tok, ids.ids, ids.n, b, err);
        dps_free (ids.ids);
        return st;
    }
    DpsEncoded x;
    DPS_TRY (row->kind == DPS_ROW_PROMPT ? dps_encode_prompt (encoder, row, &x, err) : dps_encode_row (encoder, row, &x, err));
    DpsStatus st = put_ids (tok, x.ids, x.n, b, err);
    dps_encoded_free (&x);
    return st;
}

static DpsStatus put_rows (const DpsTokenizer *tok, const DpsEncoder *encoder, const DpsDataset *ds, CliOutput *o, DpsError *err)
{
    for (uint64_t k = 0; k < ds->n_rows; k++) {
        DpsRow row;
        DPS_TRY (dps_dataset_row (ds, 0, k, &row, err));
        DpsStatus st = put_row (tok, encoder, &row, &o->buf, err);
        dps_row_clear (&row);
        DPS_TRY (st);
        if (o->buf.len > 1 << 16) {
            DPS_TRY (cli_output_flush (o, err));
            cli_progress ("tokenizing", (double)k, (double)ds->n_rows, "");
        }
    }
    return DPS_OK;
}

static DpsStatus tokenize_with (const DpsTokenizer *tok, DpsError *err)
{
    CliOutput o;
    DpsDataset *ds = NULL;
    DpsEncoder *encoder = NULL;
    DpsStatus st = dps_dataset_from_file (data, &ds, err);
    if (st == DPS_OK)
        st = dps_encoder_new (NULL, tok, &encoder, err);
    if (st == DPS_OK)
        st = dps_encoder_set_model (encoder, NULL, (int64_t)dps_tokenizer_vocab (tok), err);
    if (st == DPS_OK) {
        dps_encoder_ids_only (encoder);
        st = cli_output_begin (&o, out, err);
    }
    if (st == DPS_OK)
        st = cli_output_end (&o, put_rows (tok, encoder, ds, &o, err), err);
    cli_progress_end ();
    dps_encoder_free (encoder);
    dps_dataset_close (ds);
    return st;
}

static int run_tokenize (int argc, char **argv)
{
    DpsError err = DPS_ERROR_INIT;
    DpsRegistry *reg = NULL;
    DpsTokenizer *tok = NULL;
    int code = cli_parse (&dps_verb_tokenize, entries, &argc, &argv);
    if (code >= 0)
        return code;
    if (argc > 1 || !model || !data)
        return cli_usage (&dps_verb_tokenize, argc > 1 ? "unexpected '%s'" : "%s is missing",
                          argc > 1 ? argv[1]
                          : model  ? "--data"
                                   : "--model");
    DpsStatus st = cli_output_check (out, data, &err);
    if (st == DPS_OK)
        st = cli_open_registry (&reg, &err);
    if (st == DPS_OK)
        st = dps_tokenizer_open (reg, model, &tok, &err);
    if (st == DPS_OK)
        st = tokenize_with (tok, &err);
    dps_tokenizer_free (tok);
    if (reg)
        dps_registry_close (reg);
    return st == DPS_OK ? 0 : cli_fail (&dps_verb_tokenize, st, &err);
}
