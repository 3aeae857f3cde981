/* SPDX-License-Identifier: Apache-2.0 */
/*
 * adapter_kit.h: an adapter plugin loaded as in production, random nodes of the builder that `diapason check` has (it computes at once), and the
 * merged weights of the parity set.
 */
#ifndef DPS_TESTS_ADAPTER_KIT_H
#define DPS_TESTS_ADAPTER_KIT_H

#include "base/rng.h"
#include "check/builder.h"
#include "diapason/diapason.h"
#include "plugin/params.h"
#include "plugin/registry.h"
#include "safetensors_mini.h"

enum { KIT_MAX_SIZE = 4096 };

static inline DpsNode kit_random (struct DpsBuilder *b, int64_t rows, int64_t cols)
{
    DpsNode n = check_node (b, rows, cols, NULL);
    CU_ASSERT_FATAL (n >= 0);
    for (int64_t i = 0; i < rows * cols; i++)
        b->nodes[n].v[i] = dps_rng_normal (9, (uint64_t)n, (uint64_t)i);
    return n;
}

static inline const DpsAdapter *kit_open (const char *name, DpsRegistry **out_reg)
{
    DpsError err = DPS_ERROR_INIT;
    const char *folders[] = {DPS_BUILD "/lib/diapason/plugins"};
    CHECK_OK (dps_registry_open (&(DpsRegistryOptions){.folders = folders, .n_folders = 1}, out_reg, &err));
    const DpsAdapter *adapter = dps_registry_get (*out_reg, DPS_ADAPTER_ID, name);
    CU_ASSERT_PTR_NOT_NULL_FATAL (adapter);
    return adapter;
}

/* Every weight of lora/FOLDER/merged.safetensors from the base's and the adapter's. Returns how many were checked. */
static inline int kit_check_merge (const DpsAdapter *adapter, const char *model, const char *folder)
{
    DpsError err = DPS_ERROR_INIT;
    StFile base, parts, merged;
    json_t *config;
    char path[128], name[256];
    int n_checked = 0;
    snprintf (path, sizeof path, "models/%s/model.safetensors", model);
    st_open (&base, parity_path (path));
    snprintf (path, sizeof path, "lora/%s/adapter_model.safetensors", folder);
    st_open (&parts, parity_path (path));
    snprintf (path, sizeof path, "lora/%s/merged.safetensors", folder);
    st_open (&merged, parity_path (path));
    snprintf (path, sizeof path, "lora/%s/adapter_config.json", folder);
    CHECK_OK (dps_json_file (parity_path (path), 1 << 20, 0, &config, &err));
    double num[] = {json_number_value (json_object_get (config, "r")), json_number_value (json_object_get (config, "lora_alpha")), 0,
                    json_is_true (json_object_get (config, "use_rslora"))};
    void *self;
    CHECK_OK (adapter->create (num, NULL, &self, &err));
    ST_EACH (&merged, want)
    {
        StTensor w = st_get (&base, want.name);
        float copy[KIT_MAX_SIZE];
        const float *params[8];
        DpsAdapterParam layout[8], *list[8];
        uint32_t n = 8;
        for (int i = 0; i < 8; i++) {
            layout[i] = (DpsAdapterParam){.size = sizeof *layout};
            list[i] = &layout[i];
        }
        CU_ASSERT_FATAL (want.rank == 2 && w.n == want.n && w.n <= KIT_MAX_SIZE);
        memcpy (copy, w.data, w.bytes);
        CHECK_OK (adapter->attach (self, dps_str (want.name), w.shape[0], w.shape[1], list, &n, &err));
        for (uint32_t i = 0; i < n; i++) {
            snprintf (name, sizeof name, "base_model.model.%.*s.%s", (int)strlen (want.name) - 7, want.name, layout[i].suffix);
            StTensor p = st_get (&parts, name);
            CU_ASSERT_EQUAL_FATAL (p.rank, layout[i].rank);
            for (uint32_t a = 0; a < p.rank; a++)
                CU_ASSERT_EQUAL_FATAL (p.shape[a], layout[i].shape[a]);
            params[i] = p.data;
        }
        int64_t half = w.shape[0] / 2; /* in two pieces: rows count from the weight's first */
        CHECK_OK (adapter->merge (self, params, w.shape[0], w.shape[1], 0, half, copy, &err));
        CHECK_OK (adapter->merge (self, params, w.shape[0], w.shape[1], half, w.shape[0] - half, copy + half * w.shape[1], &err));
        for (int64_t i = 0; i < w.n; i++)
            CHECK_NEAR ((double)copy[i], (double)((const float *)want.data)[i], 5e-6);
        n_checked++;
    }
    adapter->destroy (self);
    json_decref (config);
    st_close (&base);
    st_close (&parts);
    st_close (&merged);
    return n_checked;
}

#endif
