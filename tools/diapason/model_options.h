/* SPDX-License-Identifier: Apache-2.0 */
/* model_options.h: what the verbs that take --model share. */
#ifndef DPS_TOOLS_MODEL_OPTIONS_H
#define DPS_TOOLS_MODEL_OPTIONS_H

#include "diapason/watch.h"
#include "token/encode.h"
#include "train/session.h"

typedef struct CliModel {
    char *model, **adapters, *dtype, *device, *quantization;
    gboolean allow_base_mismatch;
} CliModel;
extern CliModel cli_model;

#define CLI_MODEL_ENTRIES                                                                                                                  \
    {"model", 'm', 0, G_OPTION_ARG_FILENAME, &cli_model.model, "Hugging Face folder, .gguf file or checkpoint", "M"},                      \
        {"adapter", 'a', 0, G_OPTION_ARG_FILENAME_ARRAY, &cli_model.adapters, "PEFT folder; again for one on top of it", "A"},             \
        {"dtype", 0, 0, G_OPTION_ARG_STRING, &cli_model.dtype, "float32 (default), bfloat16 or auto", "D"},                                \
        {"quantization",                                                                                                                   \
         0,                                                                                                                                \
         0,                                                                                                                                \
         G_OPTION_ARG_STRING,                                                                                                              \
         &cli_model.quantization,                                                                                                          \
         "auto (default): as a bitsandbytes folder is stored; none, gguf (the file's blocks), nf4, fp4, int8",                             \
         "Q"},                                                                                                                             \
        {"device", 0, 0, G_OPTION_ARG_STRING, &cli_model.device, "backend to prefer", "NAME"}, CLI_WATCH_ENTRIES,                          \
    {                                                                                                                                      \
        "allow-base-mismatch", 0, 0, G_OPTION_ARG_NONE, &cli_model.allow_base_mismatch, "take an adapter of other base weights", NULL      \
    }

/** A model ready to work, with its plugins. All zeros is closed. */
typedef struct CliSession {
    DpsRegistry *reg;
    DpsSession session;
    DpsEncoder *encoder; /* of rows, as scoring and generation read them */
} CliSession;

/** What the options say of the session, but --dtype. [any] */
DpsSessionOptions cli_session_options (void);
/** Open what the options name. Errors: USAGE without --model; those of dps_session_open. Close in any case. [init] */
DpsStatus cli_open_model (CliSession *s, DpsError *err);
void cli_close_model (CliSession *s);

#endif
