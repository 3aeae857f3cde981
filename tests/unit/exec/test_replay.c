/* SPDX-License-Identifier: Apache-2.0 */
/* A record replayed while the k-th allocation fails, for every k: an error with a message and no leak. And a recorded exec whose memory runs out. */
#include <math.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/file.h"
#include "check.h"
#include "exec/operands.h"
#include "exec/replay.h"
#include "exec/trace.h"

static DpsError err = DPS_ERROR_INIT;
static const char *const nowhere[] = {"/"}; /* ref alone */
static const DpsRegistryOptions none = {.folders = nowhere, .n_folders = 1};

/* One call of `op` out of the fuzzer's seeds. */
static DpsBuf seed (const char *op)
{
    DpsBuf text = {0};
    char path[512];
    snprintf (path, sizeof path, "%s/tests/fuzz/seeds/trace/%s.jsonl", DPS_SOURCE, op);
    CHECK_OK (dps_file_read (path, 1 << 20, &text, &err));
    return text;
}

static void sweep (const DpsRegistry *reg, const char *op, int checked)
{
    DpsBuf text = seed (op);
    DpsReplay *out = malloc (sizeof *out);
    const DpsReplayOptions o = {.path = op, .backend = "ref", .against = checked ? NULL : "ref"};
    DpsStatus st = DPS_ERR_NOMEM;
    uint64_t k = 1, failures = 0;
    if (checked)
        setenv ("DIAPASON_VALIDATE", "1", 1);
    for (; st != DPS_OK && k < 5000; k++) {
        int64_t live = dps_mem_live ();
        err = (DpsError)DPS_ERROR_INIT;
        dps_mem_fail_at (k);
        st = dps_replay (reg, text.data, text.len, &o, out, &err);
        dps_mem_fail_at (0);
        if (st == DPS_OK && out->failed) { /* the backend had no memory for its scratch, and the call says so */
            st = DPS_ERR_NOMEM;
            CU_ASSERT (out->first.reason[0] != '\0');
        } else if (st != DPS_OK)
            CU_ASSERT (err.msg[0] != '\0');
        failures += st != DPS_OK;
        if (dps_mem_live () != live)
            printf ("\n    %s: allocation %llu: %lld blocks leak\n", op, (unsigned long long)k, (long long)(dps_mem_live () - live));
        CU_ASSERT_EQUAL (dps_mem_live (), live);
    }
    unsetenv ("DIAPASON_VALIDATE");
    if (st != DPS_OK)
        printf ("\n    %s still fails: %s%s\n", op, err.msg, out->first.reason);
    CHECK_OK (st);
    CU_ASSERT (failures > 10);
    CU_ASSERT_EQUAL (out->calls, 1);
    free (out);
    dps_buf_free (&text);
}

static void test_every_allocation_may_fail (void)
{
    DpsRegistry *reg;
    CHECK_OK (dps_registry_open (&none, &reg, &err));
    sweep (reg, "linear", 0);
    sweep (reg, "attention", 0);
    sweep (reg, "embed", 1);
    sweep (reg, "token_logprobs", 1);
    dps_registry_close (reg);
}

/* Attributes that no operand fits, on an op that is taken apart too: the call fails and says why (found by fuzz_trace: a product overflowed). */
static void test_attributes_out_of_range (void)
{
    static const char *const cases[][3] = {{"attention", "[4,2,12,", "[42,4598871928832275229,8,"},
                                           {"attention", "[4,2,12,", "[4611686018427387904,2,12,"},
                                           {"attention", "[4,2,12,", "[4,2,-12,"},
                                           {"attention", "[4,2,12,", "[4,4611686018427387904,12,"},
                                           {"rope", "[12,", "[-9223372036854775807,"}};
    DpsRegistry *reg;
    DpsReplay *out = malloc (sizeof *out);
    CHECK_OK (dps_registry_open (&none, &reg, &err));
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        DpsBuf text = seed (cases[i][0]), changed = {0};
        const DpsReplayOptions o = {.path = cases[i][0], .backend = "ref"};
        const char *attrs = strstr (text.data, "\"attrs\":"), *at = attrs ? strstr (attrs, cases[i][1]) : NULL;
        CU_ASSERT_FATAL (at != NULL);
        CU_ASSERT_FATAL (!dps_buf_add (&changed, text.data, (size_t)(at - text.data)) &&
                         !dps_buf_printf (&changed, "%s%s", cases[i][2], at + strlen (cases[i][1])));
        CHECK_OK (dps_replay (reg, changed.data, changed.len, &o, out, &err));
        CU_ASSERT_EQUAL (out->failed, 1);
        CU_ASSERT (out->first.reason[0] != '\0');
        dps_buf_free (&text);
        dps_buf_free (&changed);
    }
    free (out);
    dps_registry_close (reg);
}

/* A record that has no memory ends, says so at the end, and does not disturb what is recorded. */
static void test_a_record_without_memory_ends (void)
{
    static const char *const ref = "ref";
    DpsRegistry *reg;
    char path[] = "/tmp/diapason-test-record-XXXXXX";
    const int64_t n = 4;
    float x[4] = {1, 2, 3, 4}, y[4];
    int fd = mkstemp (path);
    CU_ASSERT_FATAL (fd >= 0);
    close (fd);
    CHECK_OK (dps_registry_open (&none, &reg, &err));
    uint64_t broken = 0;
    for (uint64_t k = 1; k < 40; k++) {
        const DpsTraceOptions o = {.path = path};
        DpsExec ex;
        DpsView from = dps_view (DPS_DTYPE_F32, 1, &n, x), to = dps_view (DPS_DTYPE_F32, 1, &n, y);
        int64_t live = dps_mem_live ();
        CHECK_OK (dps_trace_begin (&o, &err));
        CHECK_OK (dps_exec_open (&ex, reg, &ref, 1, &err));
        dps_mem_fail_at (k);
        memset (y, 0, sizeof y);
        DpsStatus st = dps_exec_op (&ex, DPS_OP_copy, (DpsOp){DPS_IN (&from), DPS_OUT (&to)}, &err);
        dps_mem_fail_at (0);
        CU_ASSERT (st == DPS_ERR_NOMEM || !memcmp (x, y, sizeof x));
        dps_exec_close (&ex);
        DpsStatus end = dps_trace_end (&err);
        broken += end == DPS_ERR_NOMEM;
        CU_ASSERT (end == DPS_OK || (end == DPS_ERR_NOMEM && strstr (err.msg, "the record ends there")));
        CU_ASSERT_EQUAL (dps_mem_live (), live);
    }
    CU_ASSERT (broken > 0);
    dps_registry_close (reg);
    unlink (path);
}

/* Synthetic numbers of f16: every one there is comes back, and what lies between two goes to the nearer, or to the even. */
static void test_halves (void)
{
    for (uint32_t h = 0; h < 0x10000; h++) {
        uint16_t from = (uint16_t)h, to = 0;
        double x = dps__element (DPS_DTYPE_F16, &from, 0);
        dps__put_element (DPS_DTYPE_F16, &to, 0, x);
        CU_ASSERT_EQUAL (to, isnan (x) ? 0x7e00 : from);
        if ((h & 0x7fff) >= 0x7bff)
            continue;
        uint16_t next = (uint16_t)(h + 1), between;
        double up = dps__element (DPS_DTYPE_F16, &next, 0);
        dps__put_element (DPS_DTYPE_F16, &between, 0, (x + up) / 2);
        CU_ASSERT_EQUAL (between, h & 1 ? next : from);
        dps__put_element (DPS_DTYPE_F16, &between, 0, x * 0.49 + up * 0.51);
        CU_ASSERT_EQUAL (between, next);
    }
    uint16_t most;
    dps__put_element (DPS_DTYPE_F16, &most, 0, 65519);
    CU_ASSERT_EQUAL (most, 0x7bff);
    dps__put_element (DPS_DTYPE_F16, &most, 0, -65520);
    CU_ASSERT_EQUAL (most, 0xfc00);
}

CHECK_MAIN ("exec.replay", T (test_halves), T (test_every_allocation_may_fail), T (test_attributes_out_of_range),
            T (test_a_record_without_memory_ends))
