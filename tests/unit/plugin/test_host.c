/* SPDX-License-Identifier: Apache-2.0 */
#include "check.h"
#include "plugin/host.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "base/rng.h"

static DpsError err = DPS_ERROR_INIT;

static void test_dtypes_keep_their_numbers (void)
{
#define DPS_X(name, number, text, bytes)                                                                                                   \
    CU_ASSERT_EQUAL (dps_intern (text), number);                                                                                           \
    CHECK_STR (dps_intern_name (number), text);
    DPS_DTYPES (DPS_X)
#undef DPS_X
    uint32_t a = dps_intern ("linear"), b = dps_intern ("linear_dx");
    CU_ASSERT (a > DPS_DTYPE_BOOL && b > a);
    CU_ASSERT_EQUAL (dps_host ()->intern ((DpsStr){"linear, cut", 6}), a);
    CU_ASSERT (dps_str_is (dps_host ()->intern_name (b), "linear_dx"));
    CHECK_STR (dps_intern_name (0), "");
    CHECK_STR (dps_intern_name (UINT32_MAX), "");
    CU_ASSERT_EQUAL (dps_intern (""), 0);
    CU_ASSERT_EQUAL (dps_host ()->intern ((DpsStr){NULL, 3}), 0);
    CU_ASSERT_EQUAL (dps_host ()->intern ((DpsStr){"a\0b", 3}), 0);
}

static void *intern_many (void *out)
{
    uint32_t *numbers = out;
    for (int i = 0; i < 500; i++) {
        char name[32];
        snprintf (name, sizeof name, "thread.%d", i);
        numbers[i] = dps_intern (name);
        if (strcmp (dps_intern_name (numbers[i]), name))
            numbers[i] = 0;
    }
    return NULL;
}

static void test_threads_agree_on_numbers (void)
{
    static uint32_t numbers[4][500];
    pthread_t threads[4];
    for (int t = 0; t < 4; t++)
        CU_ASSERT_EQUAL_FATAL (pthread_create (&threads[t], NULL, intern_many, numbers[t]), 0);
    for (int t = 0; t < 4; t++)
        pthread_join (threads[t], NULL);
    for (int t = 1; t < 4; t++)
        CU_ASSERT_EQUAL (memcmp (numbers[0], numbers[t], sizeof numbers[0]), 0);
    for (int i = 0; i < 500; i++)
        CU_ASSERT (numbers[0][i] != 0);
}

static void test_a_full_table_answers_zero (void)
{
    char name[32];
    uint32_t last = 1;
    for (int i = 0; i < 5000; i++) {
        snprintf (name, sizeof name, "full.%d", i);
        last = dps_intern (name);
    }
    CU_ASSERT_EQUAL (last, 0);
    CU_ASSERT (dps_intern ("full.0") != 0);
    CU_ASSERT_EQUAL (dps_intern ("bf16"), DPS_DTYPE_BF16);
}

static void *put_later (void *unused)
{
    (void)unused;
    usleep (20000);
    dps_host ()->kv_put (dps_str ("late"), "now", 3, NULL);
    return NULL;
}

static void test_kv_waits_and_replaces (void)
{
    const DpsHost *host = dps_host ();
    char buf[8] = "";
    size_t n = 99;
    pthread_t thread;
    CHECK_FAILS (host->kv_get (dps_str ("absent"), 5, buf, sizeof buf, &n, &err), DPS_ERR_TIMEOUT, "nobody put 'absent' within 5 ms");
    CU_ASSERT_EQUAL_FATAL (pthread_create (&thread, NULL, put_later, NULL), 0);
    CHECK_OK (host->kv_get (dps_str ("late"), 10000, buf, sizeof buf, &n, &err));
    pthread_join (thread, NULL);
    CU_ASSERT (n == 3 && !memcmp (buf, "now", 3));
    CHECK_OK (host->kv_put (dps_str ("late"), "much longer", 11, &err));
    CHECK_FAILS (host->kv_get (dps_str ("late"), 0, buf, sizeof buf, &n, &err), DPS_ERR_LIMIT, "has 11 bytes, the buffer 8");
    CU_ASSERT_EQUAL (n, 11);
    CHECK_OK (host->kv_put (dps_str ("late"), "", 0, &err));
    CHECK_OK (host->kv_get (dps_str ("late"), 0, buf, sizeof buf, &n, &err));
    CU_ASSERT_EQUAL (n, 0);
    CHECK_FAILS (host->kv_put (dps_str (""), "x", 1, &err), DPS_ERR_INVALID, "a key has 1 to");
    CHECK_FAILS (host->kv_put (dps_str ("huge"), buf, 2 << 20, &err), DPS_ERR_LIMIT, "value of 'huge'");
}

static void count (void *ctx, uint64_t i)
{
    _Atomic uint32_t *seen = ctx;
    atomic_fetch_add (&seen[i], 1);
}

static void nested (void *ctx, uint64_t i)
{
    const DpsHostParallel *p = dps_host ()->get_interface (dps_str ("dps.host.parallel/1"));
    p->run (10, count, (_Atomic uint32_t *)ctx + 10 * i);
}

static void test_parallel_runs_each_index_once (void)
{
    static _Atomic uint32_t seen[1000];
    const DpsHostParallel *p = dps_host ()->get_interface (dps_str ("dps.host.parallel/1"));
    CHECK_OK (dps_host_config_set ("threads", "3", &err));
    CU_ASSERT_EQUAL (p->n_threads (), 3);
    for (int round = 0; round < 50; round++)
        p->run (1000, count, seen);
    p->run (0, count, seen);
    p->run (100, nested, seen);
    for (int i = 0; i < 1000; i++)
        CU_ASSERT_EQUAL (seen[i], 51);
}

static void test_configuration_is_cut_to_the_buffer (void)
{
    char buf[4] = "xxx";
    CHECK_OK (dps_host_config_set ("isa", "avx2", &err));
    CHECK_OK (dps_host_config_set ("isa", "avx512", &err));
    CU_ASSERT_EQUAL (dps_host ()->config_get (dps_str ("isa"), buf, sizeof buf), 6);
    CHECK_STR (buf, "avx");
    CU_ASSERT_EQUAL (dps_host ()->config_get (dps_str ("nothing"), buf, sizeof buf), 0);
    CHECK_STR (buf, "");
    CHECK_FAILS (dps_host_config_set ("a-key-longer-than-thirty-two-bytes-is-refused", "", &err), DPS_ERR_LIMIT, "does not fit");
}

static void test_extensions_can_be_provided (void)
{
    static const struct {
        size_t size;
    } table = {sizeof table};
    CU_ASSERT_PTR_NULL (dps_host ()->get_interface (dps_str ("com.acme.test/1")));
    CHECK_OK (dps_host_provide ("com.acme.test/1", &table, &err));
    CU_ASSERT_PTR_EQUAL (dps_host ()->get_interface (dps_str ("com.acme.test/1")), &table);
    CU_ASSERT_PTR_EQUAL (dps_host ()->get_interface (dps_str ("dps.host/1")), dps_host ());
    const DpsHostRng *rng = dps_host ()->get_interface (dps_str ("dps.host.rng/1"));
    CU_ASSERT_EQUAL (rng->u64 (1, 2, 3), dps_rng_u64 (1, 2, 3));
}

static char logged[256];
static void keep_line (void *ctx, int level, const char *line)
{
    (void)ctx;
    snprintf (logged, sizeof logged, "%d:%s", level, line);
}

static void test_log_reaches_the_sink (void)
{
    dps_log_install (keep_line, NULL, DPS_LOG_DEBUG);
    dps_host ()->log (DPS_HOST_LOG_WARNING, (DpsStr){"watch out, and more", 9});
    CHECK_STR (logged, "1:watch out");
    dps_host ()->log (77, dps_str ("%s"));
    CHECK_STR (logged, "3:%s");
    dps_log_install (NULL, NULL, 0);
}

static void test_stop_is_seen_by_plugins (void)
{
    CU_ASSERT_EQUAL (dps_host ()->should_stop (), 0);
    dps_host_request_stop (1);
    CU_ASSERT_EQUAL (dps_host ()->should_stop (), 1);
    dps_host_request_stop (0);
    CU_ASSERT_EQUAL (dps_host_should_stop (), 0);
}

static void test_crash_names_the_breadcrumb (void)
{
    int fds[2], status = 0;
    char text[512] = "";
    CU_ASSERT_EQUAL_FATAL (pipe (fds), 0);
    fflush (stdout);
    pid_t child = fork ();
    if (child == 0) {
        dup2 (fds[1], STDERR_FILENO);
        dps_crash_report_install ();
        dps_host ()->breadcrumb (dps_str ("cpu: linear 270×640×2048"));
        raise (SIGSEGV);
        _exit (0);
    }
    close (fds[1]);
    waitpid (child, &status, 0);
    CU_ASSERT (read (fds[0], text, sizeof text - 1) > 0);
    close (fds[0]);
    CU_ASSERT (WIFSIGNALED (status) && WTERMSIG (status) == SIGSEGV);
    CHECK_STR (text, "\ndiapason: crashed (SIGSEGV) while running: cpu: linear 270×640×2048\n");
}

/* What a plugin built on another format sees: the newest open registry that has it, by name or id; nothing once all are closed. */
static void test_formats_find_formats (void)
{
    DpsRegistry *older = NULL, *newer = NULL;
    const DpsHostFormats *formats = dps_host ()->get_interface (dps_str ("dps.host.formats/1"));
    CU_ASSERT_PTR_NOT_NULL_FATAL (formats);
    CU_ASSERT_PTR_NULL (formats->find (dps_str ("safetensors")));
    CHECK_OK (dps_registry_open (NULL, &older, &err));
    CHECK_OK (dps_registry_open (NULL, &newer, &err));
    const DpsFormat *first = dps_registry_get (older, DPS_FORMAT_ID, "safetensors");
    const DpsFormat *second = dps_registry_get (newer, DPS_FORMAT_ID, "safetensors");
    CU_ASSERT (first && second && first != second);
    CU_ASSERT_PTR_EQUAL (formats->find (dps_str ("safetensors")), second);
    CU_ASSERT_PTR_EQUAL (formats->find (dps_str ("dps.safetensors")), second);
    CU_ASSERT_PTR_NULL (formats->find (dps_str ("sft"))); /* no format */
    CU_ASSERT_PTR_NULL (formats->find ((DpsStr){"safetensors and more", 4096}));
    dps_registry_close (newer);
    CU_ASSERT_PTR_EQUAL (formats->find (dps_str ("safetensors")), first);
    dps_registry_close (older);
    CU_ASSERT_PTR_NULL (formats->find (dps_str ("safetensors")));
}

CHECK_MAIN ("plugin.host", T (test_dtypes_keep_their_numbers), T (test_threads_agree_on_numbers), T (test_kv_waits_and_replaces),
            T (test_parallel_runs_each_index_once), T (test_configuration_is_cut_to_the_buffer), T (test_extensions_can_be_provided),
            T (test_log_reaches_the_sink), T (test_stop_is_seen_by_plugins), T (test_crash_names_the_breadcrumb),
            T (test_formats_find_formats), T (test_a_full_table_answers_zero))
