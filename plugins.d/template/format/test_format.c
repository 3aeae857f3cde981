/* SPDX-License-Identifier: Apache-2.0 */
/* A file as NumPy writes it, every cut of it, and headers that lie. */
#include <stdlib.h>
#include <unistd.h>

#include "base/file.h"
#include "check.h"
#include "plugin/registry.h"

static DpsError err = DPS_ERROR_INIT;
static char path[] = "/tmp/npy-XXXXXX";

#define HEADER "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }          \n"

static size_t npy (char *to, const char *header, const float *values, size_t n)
{
    size_t len = strlen (header);
    memcpy (to, "\x93NUMPY\x01\x00", 8);
    to[8] = (char)(len & 255);
    to[9] = (char)(len >> 8);
    memcpy (to + 10, header, len);
    memcpy (to + 10 + len, values, n * sizeof *values);
    return 10 + len + n * sizeof *values;
}

static DpsStatus open_bytes (const DpsFormat *format, const void *data, size_t len, struct DpsFormatFile **out)
{
    CHECK_OK (dps_file_write (path, data, len, &err));
    return format->open (dps_str (path), out, &err);
}

static void test_reads_and_refuses (void)
{
    static const float values[6] = {1, -2, 3.5f, 0, 1e-30f, 7};
    static const struct {
        const char *header, *message;
    } liars[] = {
        {"{'descr': '<f8', 'fortran_order': False, 'shape': (2, 3), }", "only '<f4' in C order has a reader"},
        {"{'descr': '<f4', 'fortran_order': True, 'shape': (2, 3), }", "only '<f4' in C order"},
        {"{'descr': '<f4', 'fortran_order': False}", "lacks descr, fortran_order or shape"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3", "lacks descr, fortran_order or shape"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (-2, 3)}", "shape: expected"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (4294967296, 4294967296)}", "shape: expected"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (4611686018427387904, )}", "not what its shape needs"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (1,1,1,1,1,1,1,1,1)}", "shape: expected"},
        {"{'descr': '<f4', 'fortran_order': False, 'shape': (2, 4), }", "not what its shape needs"},
    };
    char bytes[1024];
    DpsRegistry *reg = NULL;
    struct DpsFormatFile *f = NULL;
    uint64_t n_tensors = 0;
    float got[3];
    CU_ASSERT_FATAL (mkstemp (path) >= 0);
    CHECK_OK (dps_registry_open (NULL, &reg, &err));
    const DpsFormat *format = dps_registry_get (reg, DPS_FORMAT_ID, "com.example.npy");
    CU_ASSERT_PTR_NOT_NULL_FATAL (format);
    size_t len = npy (bytes, HEADER, values, 6);
    CU_ASSERT_EQUAL (format->probe (dps_str (path), bytes, len), 100);
    CU_ASSERT_EQUAL (format->probe (dps_str (path), "GGUF", 4), 0);
    CHECK_OK (open_bytes (format, bytes, len, &f));
    CHECK_OK (format->info (f, &n_tensors, NULL, &err));
    DpsTensorInfo info = {.size = sizeof info};
    CHECK_OK (format->tensor_info (f, 0, &info, &err));
    CU_ASSERT (n_tensors == 1 && info.rank == 2 && info.shape[0] == 2 && info.shape[1] == 3 && info.bytes == 24);
    CHECK_OK (format->read_f32 (f, 0, 2, 3, got, &err));
    CU_ASSERT_EQUAL (memcmp (got, values + 2, sizeof got), 0);
    CHECK_FAILS (format->read_f32 (f, 0, 4, 3, got, &err), DPS_ERR_SHAPE, "elements 4+3 lie outside");
    CHECK_FAILS (format->read_f32 (f, 1, 0, 1, got, &err), DPS_ERR_INVALID, "one tensor");
    format->close (f);
    for (size_t cut = 0; cut < len; cut++)
        CU_ASSERT_NOT_EQUAL (open_bytes (format, bytes, cut, &f), DPS_OK);
    for (size_t i = 0; i < sizeof liars / sizeof *liars; i++) {
        len = npy (bytes, liars[i].header, values, 6);
        DpsStatus st = open_bytes (format, bytes, len, &f);
        CU_ASSERT_NOT_EQUAL (st, DPS_OK);
        CHECK_FAILS (st, st, liars[i].message);
    }
    unlink (path);
    dps_registry_close (reg);
}

CHECK_MAIN ("npy", T (test_reads_and_refuses))
