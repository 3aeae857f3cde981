/* SPDX-License-Identifier: Apache-2.0 */
/* R4 for what stands at the top of an output folder: no flipped bit of a finished adapter or model goes unseen when it is loaded. */
#include <fcntl.h>
#include <sys/stat.h>

#include "base/seal.h"
#include "ckpt/peft.h"
#include "ckpt_kit.h"
#include "graph/source.h"

static const char *const adapter_files[] = {DPS_CKPT_ADAPTER, DPS_CKPT_ADAPTER_CONFIG};
static const char *const model_files[] = {"model-00001-of-00002.safetensors",
                                          "model-00002-of-00002.safetensors",
                                          "model.safetensors.index.json",
                                          "config.json",
                                          "tokenizer.json",
                                          "chat_template.jinja"};

/* Opens as every verb does. */
typedef DpsStatus (*Open) (const char *dir, DpsError *err);

static DpsStatus open_adapter (const char *dir, DpsError *err)
{
    DpsPeftAdapter *a = NULL;
    DPS_TRY (dps_peft_open (dir, kit_plugin ("peft"), &a, err));
    dps_peft_close (a);
    return DPS_OK;
}

static DpsStatus open_model (const char *dir, DpsError *err)
{
    DpsSource *s = NULL;
    DPS_TRY (dps_source_open (kit_registry, dir, &s, err));
    dps_source_close (s);
    return DPS_OK;
}

static void write_text (const char *dir, const char *name, const char *text)
{
    DpsError err = DPS_ERROR_INIT;
    char path[500];
    snprintf (path, sizeof path, "%s/%s", dir, name);
    CHECK_OK (dps_file_write (path, text, strlen (text), &err));
}

static void write_adapter (const char *dir)
{
    static const float a[4] = {1, -2, 3, 0.5f}, b[3] = {0.25f, 0, -1};
    DpsError err = DPS_ERROR_INIT;
    const DpsTensorOut list[] = {
        {.name = "base_model.model.q_proj.lora_A.weight", .dtype = DPS_DTYPE_F32, .rank = 2, .shape = {1, 4}, .data = a},
        {.name = "base_model.model.q_proj.lora_B.weight", .dtype = DPS_DTYPE_F32, .rank = 2, .shape = {3, 1}, .data = b}};
    static const char *const names[] = {"q_proj"};
    const DpsPeftConfig config = {.r = 1, .lora_alpha = 16, .base_model = "base", .targets = {.modules = {names, 1}}};
    CHECK_OK (dps_peft_write (&(DpsPeftOut){.config = &config, .tensors = list, .n = 2}, dir, NULL, kit_plugin ("peft"), &err));
    CHECK_OK (dps_seal_write (dir, adapter_files, 2, &err));
}

static void write_model (const char *dir)
{
    static const float values[6] = {1, 2, 3, 4, 5, 6};
    static const uint16_t halves[4] = {0x3f80, 0x4000, 0, 0xbf80};
    DpsError err = DPS_ERROR_INIT;
    char path[500];
    const DpsTensorOut one = {.name = "a", .dtype = DPS_DTYPE_F32, .rank = 2, .shape = {2, 3}, .data = values},
                       two = {.name = "b", .dtype = DPS_DTYPE_BF16, .rank = 1, .shape = {4}, .data = halves};
    CHECK_OK (dps_mkdirs (dir, &err));
    snprintf (path, sizeof path, "%s/%s", dir, model_files[0]);
    CHECK_OK (dps_tensors_write (kit_plugin ("safetensors"), path, &one, 1, NULL, 0, &err));
    snprintf (path, sizeof path, "%s/%s", dir, model_files[1]);
    CHECK_OK (dps_tensors_write (kit_plugin ("safetensors"), path, &two, 1, NULL, 0, &err));
    write_text (dir, model_files[2],
                "{\"weight_map\": {\"a\": \"model-00001-of-00002.safetensors\", \"b\": \"model-00002-of-00002.safetensors\"}}\n");
    write_text (dir, "config.json", "{\"model_type\": \"llama\", \"rms_norm_eps\": 1e-06}\n");
    write_text (dir, "tokenizer.json", "{\"model\": {\"type\": \"BPE\"}}\n");
    write_text (dir, "chat_template.jinja", "{{ messages[0].content }}");
    CHECK_OK (dps_seal_write (dir, model_files, 6, &err));
}

/* Every bit of every file, one at a time. */
static size_t flip_all (const char *dir, const char *name, Open open_it)
{
    DpsError err = DPS_ERROR_INIT;
    char path[500];
    size_t n = 0;
    snprintf (path, sizeof path, "%s/%s", dir, name);
    int fd = open (path, O_RDWR);
    CU_ASSERT_FATAL (fd >= 0);
    unsigned char byte;
    for (off_t at = 0; pread (fd, &byte, 1, at) == 1; at++)
        for (int bit = 0; bit < 8; bit++, n++) {
            unsigned char bad = (unsigned char)(byte ^ (1 << bit));
            CU_ASSERT_FATAL (pwrite (fd, &bad, 1, at) == 1);
            DpsStatus st = open_it (dir, &err);
            if (st == DPS_OK || !strstr (err.msg, name))
                printf ("\n    %s: bit %d of byte %lld: %s", name, bit, (long long)at, st == DPS_OK ? "went unseen" : err.msg);
            CU_ASSERT (st != DPS_OK && strstr (err.msg, name));
            CU_ASSERT_FATAL (pwrite (fd, &byte, 1, at) == 1);
        }
    close (fd);
    CHECK_OK (open_it (dir, &err)); /* whole again */
    return n;
}

static void test_every_flipped_bit_of_an_adapter_is_seen (void)
{
    DpsError err = DPS_ERROR_INIT;
    const char *dir = kit_dir ("seal-adapter");
    size_t n = 0;
    write_adapter (dir);
    for (size_t i = 0; i < 2; i++)
        n += flip_all (dir, adapter_files[i], open_adapter);
    n += flip_all (dir, DPS_SEAL_NAME, open_adapter);
    CU_ASSERT (n > 8000);
    CHECK_OK (dps_remove_tree (dir, &err));
}

static void test_every_flipped_bit_of_a_model_is_seen (void)
{
    DpsError err = DPS_ERROR_INIT;
    const char *dir = kit_dir ("seal-model");
    size_t n = 0;
    kit_plugin ("safetensors");
    write_model (dir);
    for (size_t i = 0; i < sizeof model_files / sizeof *model_files; i++)
        n += flip_all (dir, model_files[i], open_model);
    n += flip_all (dir, DPS_SEAL_NAME, open_model);
    CU_ASSERT (n > 10000);
    CHECK_OK (dps_remove_tree (dir, &err));
}

static void test_a_checkpoint_used_as_an_adapter_is_checked_by_its_manifest (void)
{
    DpsError err = DPS_ERROR_INIT;
    char folder[400], path[500];
    const char *dir = kit_dir ("seal-checkpoint");
    DpsBuf text = {0};
    CHECK_OK (kit_save (dir, kit_format (), 2, &err));
    snprintf (folder, sizeof folder, "%s/checkpoint-2", dir);
    CHECK_OK (dps_seal_check (folder, &err));
    snprintf (path, sizeof path, "%s/" DPS_CKPT_ADAPTER, folder);
    CHECK_OK (dps_file_read (path, 1 << 20, &text, &err));
    text.data[text.len - 1] ^= 1;
    CHECK_OK (dps_file_write (path, text.data, text.len, &err));
    CHECK_FAILS (dps_seal_check (folder, &err), DPS_ERR_DIGEST, DPS_CKPT_ADAPTER);
    text.data[text.len - 1] ^= 1;
    CHECK_OK (dps_file_write (path, text.data, text.len, &err));
    dps_buf_free (&text);
    snprintf (path, sizeof path, "%s/" DPS_CKPT_OPTIMIZER, folder); /* stripped to be given away */
    CU_ASSERT_EQUAL (unlink (path), 0);
    CHECK_OK (dps_seal_check (folder, &err));
    CHECK_OK (dps_remove_tree (dir, &err));
}

static void test_what_is_not_sealed_is_not_checked (void)
{
    DpsError err = DPS_ERROR_INIT;
    const char *dir = kit_dir ("seal-none");
    write_adapter (dir);
    CHECK_OK (dps_seal_break (dir, &err));
    CHECK_OK (dps_seal_break (dir, &err));
    write_text (dir, DPS_CKPT_ADAPTER_CONFIG, "{\"peft_type\": \"LORA\", \"r\": 1, \"lora_alpha\": 17, \"target_modules\": [\"q_proj\"]}");
    CHECK_OK (open_adapter (dir, &err));
    write_text (dir, "manifest.json", "{\"name\": \"another program's\"}");
    CHECK_OK (open_adapter (dir, &err));
    write_text (dir, "manifest.json", "");
    CHECK_OK (open_adapter (dir, &err));
    write_text (dir, "manifest.json", "{\"diapason_checkpoint\": 1}");
    CHECK_FAILS (open_adapter (dir, &err), DPS_ERR_FORMAT, "manifest.json");
    CHECK_OK (dps_remove_tree (dir, &err));
}

static void test_a_seal_says_how_to_go_on (void)
{
    static const char *const none[] = {"absent"}, *const outside[] = {"../seal-hint-x"};
    DpsError err = DPS_ERROR_INIT;
    const char *dir = kit_dir ("seal-hint");
    write_adapter (dir);
    write_text (dir, DPS_CKPT_ADAPTER_CONFIG, "{}");
    CHECK_FAILS (open_adapter (dir, &err), DPS_ERR_DIGEST, "if it was changed on purpose, remove ");
    CHECK_FAILS (open_adapter (dir, &err), DPS_ERR_DIGEST, "2 bytes");
    CHECK_FAILS (dps_seal_write (dir, none, 1, &err), DPS_ERR_NOT_FOUND, "nothing to seal");
    char path[500];
    snprintf (path, sizeof path, "%s/../seal-hint-x", dir);
    CHECK_OK (dps_file_write (path, "x", 1, &err));
    CHECK_FAILS (dps_seal_write (dir, outside, 1, &err), DPS_ERR_INVALID, "not plain");
    CHECK_OK (dps_remove_tree (path, &err));
    CHECK_OK (dps_remove_tree (dir, &err));
}

/* A path may come from a stranger's file, and a device has no end. */
static void test_only_files_have_a_digest (void)
{
    DpsError err = DPS_ERROR_INIT;
    DpsDigest digest;
    CHECK_FAILS (dps_sha256_file ("/dev/zero", &digest, &err), DPS_ERR_IO, "not a regular file");
    CHECK_FAILS (dps_sha256_file ("/dev", &digest, &err), DPS_ERR_IO, "not a regular file");
}

CHECK_SUITE (check_all, "seal", T (test_every_flipped_bit_of_an_adapter_is_seen), T (test_every_flipped_bit_of_a_model_is_seen),
             T (test_a_checkpoint_used_as_an_adapter_is_checked_by_its_manifest), T (test_what_is_not_sealed_is_not_checked),
             T (test_a_seal_says_how_to_go_on), T (test_only_files_have_a_digest))

int main (void)
{
    int code = check_all ();
    dps_registry_close (kit_registry);
    return code;
}
