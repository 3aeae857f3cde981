/* SPDX-License-Identifier: Apache-2.0 */
#include "diapason/model_options.h"

#include "diapason/open_registry.h"

CliModel cli_model;

DpsStatus cli_open_model (CliSession *s, DpsError *err)
{
    *s = (CliSession){0};
    if (!cli_model.model)
        return dps_fail (err, DPS_ERR_USAGE, "--model is missing: a Hugging Face folder, a .gguf file or a checkpoint");
    const char *device = cli_model.device;
    const DpsSessionOptions o = {.model = cli_model.model,
                                 .adapter = cli_model.adapter,
                                 .dtype = cli_model.dtype ? cli_model.dtype : "float32",
                                 .devices = device ? &device : NULL,
                                 .n_devices = device ? 1 : 0,
                                 .allow_base_mismatch = cli_model.allow_base_mismatch};
    DPS_TRY (cli_open_registry (&s->reg, err));
    DPS_TRY (dps_session_open (&s->session, s->reg, &o, err));
    DPS_TRY (dps_encoder_new (NULL, s->session.tok, &s->encoder, err));
    return dps_encoder_set_model (s->encoder, dps_source_config (s->session.source), s->session.model.dec.vocab, err);
}

void cli_close_model (CliSession *s)
{
    dps_encoder_free (s->encoder);
    if (s->reg) {
        dps_session_close (&s->session);
        dps_registry_close (s->reg);
    }
    *s = (CliSession){0};
}
