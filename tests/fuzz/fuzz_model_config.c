/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_model_config.c: any JSON as a model's config.json; what is accepted can be recorded as a graph. */
#include "fuzz.h"
#include "graph/model.h"

int LLVMFuzzerTestOneInput (const uint8_t *data, size_t size)
{
    static DpsForwardOut out;
    DpsError err = DPS_ERROR_INIT;
    json_t *config = NULL;
    if (dps_json_parse ((const char *)data, size, "config.json", 1, 0, &config, &err) != DPS_OK)
        return 0;
    DpsModel m = {0};
    if (dps_model_init (&m, config, &err) == DPS_OK) {
        if (m.dec.n_layers <= 8) {
            DpsGraph g;
            DpsForward f = {.n_tokens = 5, .n_segments = 1, .n_roots = 1, .n_scored = 2, .logprobs = 1};
            dps_model_train_all (&m);
            if (dps_graph_init (&g, m.n_weights, DPS_DTYPE_F32, 1, &err) == DPS_OK && dps_model_forward (&m, &g, &f, &out, &err) == DPS_OK)
                (void)dps_graph_backward (&g, 1, &err);
            dps_graph_free (&g);
        }
        dps_model_free (&m);
    } else
        require (err.msg[0] != '\0');
    json_decref (config);
    return 0;
}
