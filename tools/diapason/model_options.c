/* SPDX-License-Identifier: Apache-2.0 */
#include "diapason/model_options.h"

#include "diapason/open_registry.h"

CliModel cli_model;

DpsSessionOptions cli_session_options (void)
{
    size_t n = cli_model.adapters ? g_strv_length (cli_model.adapters) : 0;
    return (DpsSessionOptions){.model = cli_model.model,
                               .adapter = n ? cli_model.adapters[n - 1] : NULL,
                               .frozen = (const char *const *)cli_model.adapters,
                               .n_frozen = n ? n - 1 : 0,
                               .devices = cli_model.device ? (const char *const *)&cli_model.device : NULL,
                               .n_devices = cli_model.device ? 1 : 0,
                               .allow_base_mismatch = cli_model.allow_base_mismatch};
}

DpsStatus cli_open_model (CliSession *s, DpsError *err)
{
    *s = (CliSession){0};
    if (!cli_model.model)
        return dps_fail (err, DPS_ERR_USAGE, "--model is missing: a Hugging Face folder, a .gguf file or a checkpoint");
    DpsSessionOptions o = cli_session_options ();
    o.dtype = cli_model.dtype ? cli_model.dtype : "float32";
    DPS_TRY (dps_quantise_parse (cli_model.quantization, &o.quantise, err));
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
