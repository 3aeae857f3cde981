/* SPDX-License-Identifier: Apache-2.0 */
/* R4: no flipped bit goes unseen. R7: a damaged newest checkpoint is named and the one before it is used. */
#include <fcntl.h>
#include <sys/stat.h>

#include "base/log.h"
#include "ckpt_kit.h"

static const char *const files[] = {DPS_CKPT_ADAPTER, DPS_CKPT_OPTIMIZER, DPS_CKPT_STATE, DPS_CKPT_RUN, DPS_CKPT_LOCK, DPS_CKPT_MANIFEST};

static void test_every_flipped_bit_of_every_file_is_seen (void)
{
    DpsError err = DPS_ERROR_INIT;
    const char *dir = kit_dir ("flip");
    char folder[400], path[500];
    size_t n_flips = 0;
    CHECK_OK (kit_save (dir, kit_format (), 2, &err));
    snprintf (folder, sizeof folder, "%s/checkpoint-2", dir);
    for (size_t f = 0; f < sizeof files / sizeof *files; f++) {
        snprintf (path, sizeof path, "%s/%s", folder, files[f]);
        int fd = open (path, O_RDWR);
        CU_ASSERT_FATAL (fd >= 0);
        unsigned char byte, bad;
        for (off_t at = 0; pread (fd, &byte, 1, at) == 1; at++)
            for (int bit = 0; bit < 8; bit++) {
                DpsCheckpoint *c = NULL;
                bad = (unsigned char)(byte ^ (1 << bit));
                CU_ASSERT_FATAL (pwrite (fd, &bad, 1, at) == 1);
                DpsStatus st = dps_ckpt_open (folder, kit_format (), &c, &err);
                if (st == DPS_OK) {
                    printf ("\n    %s: bit %d of byte %lld went unseen", files[f], bit, (long long)at);
                    dps_ckpt_close (c);
                }
                CU_ASSERT (st != DPS_OK && strstr (err.msg, files[f]));
                CU_ASSERT_FATAL (pwrite (fd, &byte, 1, at) == 1);
                n_flips++;
            }
        close (fd);
    }
    CU_ASSERT (n_flips > 10000);
    DpsCheckpoint *c;
    CHECK_OK (dps_ckpt_open (folder, kit_format (), &c, &err)); /* whole again */
    dps_ckpt_close (c);
    CHECK_OK (dps_remove_tree (dir, &err));
}

typedef struct Damage {
    const char *what;
    const char *text; /* in the message */
    void (*apply) (const char *folder);
} Damage;

static char *at (const char *folder, const char *name)
{
    static char path[4][600];
    static int next;
    char *p = path[next++ % 4];
    snprintf (p, sizeof path[0], "%s/%s", folder, name);
    return p;
}

static void must (int ok) { CU_ASSERT_FATAL (ok); }

static void resize_file (const char *folder, const char *name, off_t by)
{
    struct stat sb;
    must (stat (at (folder, name), &sb) == 0);
    must (truncate (at (folder, name), by == 0 ? 0 : sb.st_size + by) == 0);
}

static void flip (const char *folder, const char *name, off_t from_end)
{
    unsigned char b;
    struct stat sb;
    int fd = open (at (folder, name), O_RDWR);
    must (fd >= 0 && fstat (fd, &sb) == 0);
    off_t where = from_end > 0 ? sb.st_size - from_end : -from_end;
    must (pread (fd, &b, 1, where) == 1);
    b ^= 16;
    must (pwrite (fd, &b, 1, where) == 1);
    close (fd);
}

static void copy (const char *from, const char *to)
{
    DpsError err = DPS_ERROR_INIT;
    DpsBuf b = {0};
    CHECK_OK (dps_file_read (from, 1 << 20, &b, &err));
    CHECK_OK (dps_file_write (to, b.data ? b.data : "", b.len, &err));
    dps_buf_free (&b);
}

static void zero_fill (const char *folder, const char *name)
{
    static const char zeros[1 << 16];
    DpsError err = DPS_ERROR_INIT;
    struct stat sb;
    must (stat (at (folder, name), &sb) == 0 && (size_t)sb.st_size < sizeof zeros);
    CHECK_OK (dps_file_write (at (folder, name), zeros, (size_t)sb.st_size, &err));
}

static void cut_tensors (const char *d) { resize_file (d, DPS_CKPT_ADAPTER, -1); }
static void empty_tensors (const char *d) { resize_file (d, DPS_CKPT_ADAPTER, 0); }
static void grow_tensors (const char *d) { resize_file (d, DPS_CKPT_ADAPTER, 1); }
static void lose_tensors (const char *d) { must (unlink (at (d, DPS_CKPT_ADAPTER)) == 0); }
static void flip_tensor (const char *d) { flip (d, DPS_CKPT_ADAPTER, 20); }
static void flip_header (const char *d) { flip (d, DPS_CKPT_ADAPTER, -30); }
static void zero_tensors (const char *d) { zero_fill (d, DPS_CKPT_ADAPTER); }
static void other_optimizer (const char *d) { copy (at (d, "../checkpoint-1/" DPS_CKPT_OPTIMIZER), at (d, DPS_CKPT_OPTIMIZER)); }
static void edit_state (const char *d) { flip (d, DPS_CKPT_STATE, 5); }
static void lose_run (const char *d) { must (unlink (at (d, DPS_CKPT_RUN)) == 0); }
static void lose_manifest (const char *d) { must (unlink (at (d, DPS_CKPT_MANIFEST)) == 0); }
static void cut_manifest (const char *d) { resize_file (d, DPS_CKPT_MANIFEST, -1); }
static void empty_manifest (const char *d) { resize_file (d, DPS_CKPT_MANIFEST, 0); }
static void zero_manifest (const char *d) { zero_fill (d, DPS_CKPT_MANIFEST); }
static void edit_manifest (const char *d) { flip (d, DPS_CKPT_MANIFEST, -40); }
static void other_manifest (const char *d) { copy (at (d, "../checkpoint-1/" DPS_CKPT_MANIFEST), at (d, DPS_CKPT_MANIFEST)); }
static void rename_folder (const char *d) { must (rename (d, at (d, "../checkpoint-9")) == 0); }

static void swap_files (const char *d)
{
    must (rename (at (d, DPS_CKPT_STATE), at (d, "x")) == 0 && rename (at (d, DPS_CKPT_RUN), at (d, DPS_CKPT_STATE)) == 0);
    must (rename (at (d, "x"), at (d, DPS_CKPT_RUN)) == 0);
}

static void folder_for_file (const char *d)
{
    lose_tensors (d);
    must (mkdir (at (d, DPS_CKPT_ADAPTER), 0755) == 0);
}

static void fifo_for_file (const char *d)
{
    lose_tensors (d);
    must (mkfifo (at (d, DPS_CKPT_ADAPTER), 0644) == 0);
}

static void dangling_link (const char *d)
{
    lose_tensors (d);
    must (symlink ("/nonexistent/weights", at (d, DPS_CKPT_ADAPTER)) == 0);
}

static void fifo_for_manifest (const char *d)
{
    lose_manifest (d);
    must (mkfifo (at (d, DPS_CKPT_MANIFEST), 0644) == 0);
}

static void empty_folder (const char *d)
{
    DpsError err = DPS_ERROR_INIT;
    CHECK_OK (dps_remove_tree (d, &err));
    must (mkdir (d, 0755) == 0);
}

static const Damage damages[] = {
    {"tensor file cut by a byte", DPS_CKPT_ADAPTER ": has ", cut_tensors},
    {"tensor file emptied", DPS_CKPT_ADAPTER ": has 0 bytes", empty_tensors},
    {"tensor file longer by a byte", DPS_CKPT_ADAPTER ": has ", grow_tensors},
    {"tensor file lost", DPS_CKPT_ADAPTER ": missing", lose_tensors},
    {"a bit of a tensor", "tensor 'layers.0.lora_B.weight' is damaged", flip_tensor},
    {"a bit of the tensor file's header", DPS_CKPT_ADAPTER ": damaged", flip_header},
    {"tensor file full of zeros, as after a power loss", DPS_CKPT_ADAPTER ": damaged", zero_tensors},
    {"optimizer of another step", "tensor 'exp_avg.0' is damaged", other_optimizer},
    {"state changed", DPS_CKPT_STATE ": damaged", edit_state},
    {"run state lost", DPS_CKPT_RUN ": missing", lose_run},
    {"manifest lost", "manifest.json: missing: not a Diapason checkpoint, or one that was never finished", lose_manifest},
    {"manifest cut", "manifest.json: cut short", cut_manifest},
    {"manifest emptied", "manifest.json: cut short", empty_manifest},
    {"manifest full of zeros", "manifest.json: cut short", zero_manifest},
    {"manifest changed by hand", "manifest.json: its own SHA-256 does not match", edit_manifest},
    {"manifest of another step", "holds step 1, so it should be called checkpoint-1", other_manifest},
    {"folder renamed", "holds step 2, so it should be called checkpoint-2", rename_folder},
    {"two files swapped", DPS_CKPT_STATE, swap_files},
    {"a folder in place of a file", DPS_CKPT_ADAPTER ": not a regular file", folder_for_file},
    {"a pipe in place of a file", DPS_CKPT_ADAPTER ": not a regular file", fifo_for_file},
    {"a link to nowhere in place of a file", DPS_CKPT_ADAPTER ": missing", dangling_link},
    {"a pipe in place of the manifest", "manifest.json: missing", fifo_for_manifest},
    {"an empty folder", "manifest.json: missing", empty_folder},
};

static void test_every_kind_of_damage_falls_back (void)
{
    for (size_t i = 0; i < sizeof damages / sizeof *damages; i++) {
        DpsError err = DPS_ERROR_INIT;
        const char *dir = kit_dir ("damage");
        char folder[400];
        DpsCheckpoint *c = NULL;
        CHECK_OK (kit_save (dir, kit_format (), 1, &err));
        CHECK_OK (kit_save (dir, kit_format (), 2, &err));
        snprintf (folder, sizeof folder, "%s/checkpoint-2", dir);
        damages[i].apply (folder);
        kit_watch ();
        CHECK_OK (dps_ckpt_resume (dir, "auto", kit_format (), &c, &err));
        CU_ASSERT_EQUAL_FATAL (dps_ckpt_step (c), 1);
        CHECK_OK (kit_check (c, &err));
        if (!strstr (kit_warning, damages[i].text))
            printf ("\n    %s: warned '%s'", damages[i].what, kit_warning);
        CU_ASSERT_PTR_NOT_NULL (strstr (kit_warning, damages[i].text));
        CU_ASSERT_PTR_NOT_NULL (strstr (kit_warning, "is not usable"));
        dps_ckpt_close (c);
        CHECK_OK (dps_remove_tree (dir, &err));
    }
    dps_log_install (NULL, NULL, 0);
}

static void test_a_named_damaged_checkpoint_is_an_error_that_names_a_sound_one (void)
{
    DpsError err = DPS_ERROR_INIT;
    const char *dir = kit_dir ("named");
    char folder[400];
    DpsCheckpoint *c = NULL;
    CHECK_FAILS (dps_ckpt_resume (dir, "auto", kit_format (), &c, &err), DPS_ERR_NOT_FOUND, "no checkpoint-N folder");
    CHECK_OK (kit_save (dir, kit_format (), 1, &err));
    CHECK_OK (kit_save (dir, kit_format (), 2, &err));
    snprintf (folder, sizeof folder, "%s/checkpoint-2", dir);
    flip_tensor (folder);
    CHECK_FAILS (dps_ckpt_resume (dir, folder, kit_format (), &c, &err), DPS_ERR_DIGEST, "/checkpoint-1 is sound");
    CU_ASSERT_PTR_NOT_NULL (strstr (err.msg, "tensor 'layers.0.lora_B.weight' is damaged"));
    snprintf (folder, sizeof folder, "%s/checkpoint-1", dir);
    flip_tensor (folder);
    CHECK_FAILS (dps_ckpt_resume (dir, "auto", kit_format (), &c, &err), DPS_ERR_DIGEST, "none of its 2 checkpoints is sound");
    CHECK_FAILS (dps_ckpt_resume (dir, "/nonexistent", kit_format (), &c, &err), DPS_ERR_NOT_FOUND, "/nonexistent");
    CHECK_OK (dps_remove_tree (dir, &err));
}

CHECK_MAIN ("ckpt.damage", T (test_every_flipped_bit_of_every_file_is_seen), T (test_every_kind_of_damage_falls_back),
            T (test_a_named_damaged_checkpoint_is_an_error_that_names_a_sound_one))
