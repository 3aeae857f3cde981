/* SPDX-License-Identifier: Apache-2.0 */
/* The event file byte by byte; that TensorBoard itself reads it is tests/peer/test_tensorboard.sh. */
#include "observe/tensorboard.h"

#include <dirent.h>
#include <unistd.h>

#include "base/file.h"
#include "check.h"

static void test_crc32c (void)
{
    unsigned char zeros[32] = {0}, ones[32];
    memset (ones, 0xff, sizeof ones);
    CU_ASSERT_EQUAL (dps_crc32c ("123456789", 9), 0xe3069283u);
    CU_ASSERT_EQUAL (dps_crc32c (zeros, 32), 0x8a9136aau); /* RFC 3720, B.4 */
    CU_ASSERT_EQUAL (dps_crc32c (ones, 32), 0x62a8ab43u);
    CU_ASSERT_EQUAL (dps_crc32c ("", 0), 0);
}

static void test_bytes_of_a_file (void)
{
    /* Each record: length, checks, Event. 1764000000.25 is 41da490910080000... as a double. */
    DpsError err = DPS_ERROR_INIT;
    char folder[200], path[600] = "";
    DpsTensorboard *t;
    snprintf (folder, sizeof folder, DPS_BUILD "/tests/tensorboard-%ld", (long)getpid ());
    CHECK_OK (dps_remove_tree (folder, &err));
    CHECK_OK (dps_tensorboard_open (folder, 1764000000.25, 7, &t, &err));
    json_t *o = json_pack ("{sf si sn si}", "loss", 0.5, "eval_n", 3, "bad", "step", 300);
    CHECK_OK (dps_tensorboard_add (t, 1764000001, 300, o, &err));
    CHECK_OK (dps_tensorboard_sync (t, &err));
    json_decref (o);
    dps_tensorboard_close (t);
    DIR *d = opendir (folder);
    for (struct dirent *e; d && (e = readdir (d));)
        if (!strncmp (e->d_name, "events.out.tfevents.1764000000.", 31))
            snprintf (path, sizeof path, "%s/%s", folder, e->d_name);
    closedir (d);
    DpsBuf b = {0};
    CHECK_OK (dps_file_read (path, 1 << 16, &b, &err));
    static const size_t lengths[3] = {9 + 2 + 15, 9 + 2 + 4, 9 + 3 + 2 + 19 + 15 + 18};
    static const char summary[] = "\x0a\x11\x0a\x0atrain/loss\x15\x00\x00\x00\x3f\x0a\x0d\x0a\x06"
                                  "eval/n\x15\x00\x00\x40\x40";
    size_t at = 0;
    for (int r = 0; r < 3; r++) {
        uint64_t len;
        CU_ASSERT_FATAL (b.len >= at + 12);
        memcpy (&len, b.data + at, 8);
        CU_ASSERT_EQUAL_FATAL (len, lengths[r]);
        const unsigned char *event = (const unsigned char *)b.data + at + 12;
        CU_ASSERT_EQUAL (event[0], 0x09); /* field 1, 64 bits */
        CU_ASSERT_EQUAL (event[9], 0x10); /* field 2, varint */
        if (r == 0)
            CU_ASSERT_EQUAL (memcmp (event + 10,
                                     "\x00\x1a\x0d"
                                     "brain.Event:2",
                                     16),
                             0);
        if (r == 1)
            CU_ASSERT_EQUAL (memcmp (event + 10, "\x08\x3a\x02\x08\x01", 5), 0);
        if (r == 2) {
            CU_ASSERT_EQUAL (memcmp (event + 10, "\xac\x02\x2a", 3), 0);
            CU_ASSERT_EQUAL (memcmp (event + 14, summary, sizeof summary - 1), 0);
        }
        at += 16 + len;
    }
    CU_ASSERT_EQUAL (at, b.len);
    dps_buf_free (&b);
    CHECK_OK (dps_remove_tree (folder, &err));
}

CHECK_MAIN ("observe.tensorboard", T (test_crc32c), T (test_bytes_of_a_file))
