/* SPDX-License-Identifier: Apache-2.0 */
/* The PEFT format: two files in, two files out; folders that are no adapter and pickles are refused; no allocation is taken for granted. */
#include "ckpt/tensors.h"
#include "format_kit.h"
#include "plugin/registry.h"

#define CONFIG "{\"peft_type\": \"LORA\"}\n"

static DpsError err = DPS_ERROR_INIT;
static DpsRegistry *registry;

static void test_init (void)
{
    CHECK_OK (dps_registry_open (NULL, &registry, &err));
    CHECK_OK (dps_plugin_entry.init (dps_host (), "peft", &err));
}

static void test_done (void) { dps_registry_close (registry); }

static const char *new_dir (void)
{
    static char dir[300];
    snprintf (dir, sizeof dir, DPS_BUILD "/tests/format-peft-%ld", (long)getpid ());
    CHECK_OK (dps_remove_tree (dir, &err));
    CHECK_OK (dps_mkdirs (dir, &err));
    return dir;
}

static const float values[6] = {1, 2, 3, 4, 5, 6};
static const DpsTensorOut tensors[] = {
    {.name = "base_model.model.q.lora_A.weight", .dtype = DPS_DTYPE_F32, .rank = 2, .shape = {2, 3}, .data = values},
    {.name = "base_model.model.q.lora_B.weight", .dtype = DPS_DTYPE_F32, .rank = 2, .shape = {1, 2}, .data = values}};
static const DpsTensorMeta meta[] = {{.key = "format", .value = "pt"}, {.key = "adapter_config.json", .value = CONFIG}};

static DpsStatus write_good (const char *dir) { return dps_tensors_write (kit_format (), dir, tensors, 2, meta, 2, &err); }

static void test_two_files_come_back (void)
{
    const DpsFormat *format = kit_format ();
    const char *dir = new_dir ();
    DpsTensorFile *f;
    struct DpsFormatFile *raw;
    float got[6];
    CHECK_OK (write_good (dir));
    CU_ASSERT_EQUAL (format->probe (dps_str (dir), NULL, 0), 90);
    CU_ASSERT_EQUAL (format->probe (dps_str (DPS_BUILD), NULL, 0), 0);
    CHECK_OK (dps_tensors_open (format, dir, &f, &err));
    CU_ASSERT_EQUAL (dps_tensors_count (f), 2);
    CHECK_OK (dps_tensors_read_f32 (f, 0, got, 6, &err));
    CU_ASSERT_EQUAL (got[5], 6);
    char *config = dps_tensors_meta (f, "adapter_config.json"), *kind = dps_tensors_meta (f, "format");
    CHECK_STR (config, CONFIG);
    CHECK_STR (kind, "pt");
    dps_free (config);
    dps_free (kind);
    dps_tensors_close (f);
    CHECK_OK (format->open (dps_str (dir), &raw, &err));
    kit_use (raw);
    format->close (raw);
    CHECK_OK (dps_remove_tree (dir, &err));
}

static void put (const char *dir, const char *name, const char *text, size_t len)
{
    char path[400];
    snprintf (path, sizeof path, "%s/%s", dir, name);
    CHECK_OK (dps_file_write (path, text, len, &err));
}

static void test_what_is_no_adapter_is_refused (void)
{
    const DpsFormat *format = kit_format ();
    const char *dir = new_dir ();
    struct DpsFormatFile *f = NULL;
    CHECK_FAILS (format->open (dps_str ("/nowhere"), &f, &err), DPS_ERR_NOT_FOUND, "/nowhere: no such adapter folder");
    CHECK_FAILS (format->open (dps_str (dir), &f, &err), DPS_ERR_NOT_FOUND, "adapter_config.json: missing: not a PEFT adapter folder");
    CHECK_OK (write_good (dir));
    put (dir, "adapter_config.json", "{}\0", 3);
    CHECK_FAILS (format->open (dps_str (dir), &f, &err), DPS_ERR_FORMAT, "adapter_config.json: a NUL byte, expected JSON");
    put (dir, "adapter_config.json", "{}", 2);
    put (dir, "adapter_model.safetensors", "cut", 3);
    CHECK_FAILS (format->open (dps_str (dir), &f, &err), DPS_ERR_FORMAT, "adapter_model.safetensors");
    char path[400];
    snprintf (path, sizeof path, "%s/adapter_model.safetensors", dir);
    CU_ASSERT_EQUAL (unlink (path), 0);
    CHECK_FAILS (format->open (dps_str (dir), &f, &err), DPS_ERR_NOT_FOUND, "adapter_model.safetensors: missing");
    put (dir, "adapter_model.bin", "\x80\x04", 2);
    CHECK_FAILS (format->open (dps_str (dir), &f, &err), DPS_ERR_POLICY, "a pickle can run code");
    const DpsTensorOut foreign = {.name = "model.q.weight", .dtype = DPS_DTYPE_F32, .rank = 1, .shape = {2}, .data = values};
    CHECK_OK (dps_tensors_write (kit_format (), dir, &foreign, 1, meta, 2, &err));
    CHECK_FAILS (format->open (dps_str (dir), &f, &err), DPS_ERR_FORMAT,
                 "'model.q.weight': expected a name that starts with 'base_model.model.'");
    CHECK_FAILS (dps_tensors_write (kit_format (), dir, tensors, 2, meta, 1, &err), DPS_ERR_INVALID, "no metadata 'adapter_config.json'");
    CHECK_FAILS (dps_tensors_write (kit_format (), DPS_BUILD "/tests/one-file", tensors, 2, meta, 2, &err), DPS_ERR_UNSUPPORTED,
                 "cannot be written into one file");
    CHECK_OK (dps_remove_tree (dir, &err));
}

static void test_every_allocation_may_fail (void)
{
    const char *dir = new_dir ();
    int64_t live = dps_mem_live ();
    int done[2] = {0, 0};
    for (int opening = 0; opening < 2; opening++)
        for (uint64_t k = 1; !done[opening] && k < 1000; k++) {
            struct DpsFormatFile *f = NULL;
            dps_mem_fail_at (k);
            DpsStatus st = opening ? kit_format ()->open (dps_str (dir), &f, &err) : write_good (dir);
            done[opening] = dps_mem_count () < k;
            dps_mem_fail_at (0);
            kit_format ()->close (f);
            CU_ASSERT_EQUAL_FATAL (dps_mem_live (), live);
            CU_ASSERT (done[opening] ? st == DPS_OK : st != DPS_OK || k > 4);
        }
    CU_ASSERT (done[0] && done[1]);
    CHECK_OK (dps_remove_tree (dir, &err));
}

CHECK_MAIN ("format.peft", T (test_init), T (test_two_files_come_back), T (test_what_is_no_adapter_is_refused),
            T (test_every_allocation_may_fail), T (test_done))
