/* SPDX-License-Identifier: Apache-2.0 */
/*
 * parallel.c: dps.host.parallel/1, one pool of sleeping threads per process, started by its first use. It is for the host's plain loops
 * (decoding blocks, scoring rows); the cpu backend has its own OpenMP threads. Threads live until the process ends: nothing to join.
 */
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "plugin/host.h"

enum { MAX_THREADS = 256 };

static struct {
    pthread_mutex_t lock;
    pthread_cond_t start, done;
    int running;         /* a call is using the pool; under lock, as all below but next */
    uint32_t n_workers;  /* threads started, the caller not counted */
    uint32_t busy;       /* workers that have not finished the current job */
    uint64_t generation; /* of the job, so that a worker takes each once */
    _Atomic uint64_t next;
    uint64_t n;
    void (*f) (void *ctx, uint64_t i);
    void *ctx;
} pool = {.lock = PTHREAD_MUTEX_INITIALIZER, .start = PTHREAD_COND_INITIALIZER, .done = PTHREAD_COND_INITIALIZER};

static _Thread_local int inside; /* this thread is running a job: nested calls are inline */

static uint32_t parse_threads (const char *s)
{
    char *end;
    unsigned long n = strtoul (s, &end, 10);
    return end != s && (*end == '\0' || *end == ',') && n >= 1 ? (uint32_t)(n < MAX_THREADS ? n : MAX_THREADS) : 0;
}

uint32_t dps_parallel_threads (void)
{
    char configured[32];
    const char *omp = getenv ("OMP_NUM_THREADS");
    uint32_t n = dps_host ()->config_get (dps_str ("threads"), configured, sizeof configured) ? parse_threads (configured) : 0;
    if (!n && omp)
        n = parse_threads (omp);
    cpu_set_t set;
    if (!n && sched_getaffinity (0, sizeof set, &set) == 0)
        n = (uint32_t)CPU_COUNT (&set);
    return n < 1 ? 1 : n < MAX_THREADS ? n : MAX_THREADS;
}

static void take_items (void)
{
    inside = 1;
    for (uint64_t i; (i = atomic_fetch_add (&pool.next, 1)) < pool.n;)
        pool.f (pool.ctx, i);
    inside = 0;
}

static void *work (void *unused)
{
    uint64_t seen = 0;
    (void)unused;
    for (;;) {
        pthread_mutex_lock (&pool.lock);
        while (pool.generation == seen || !pool.running)
            pthread_cond_wait (&pool.start, &pool.lock);
        seen = pool.generation;
        pthread_mutex_unlock (&pool.lock);
        take_items ();
        pthread_mutex_lock (&pool.lock);
        if (--pool.busy == 0)
            pthread_cond_signal (&pool.done);
        pthread_mutex_unlock (&pool.lock);
    }
    return NULL;
}

/* Under lock. Fewer threads than wanted is slower, never wrong. */
static void start_workers (uint32_t wanted)
{
    pthread_attr_t attr;
    pthread_t thread;
    pthread_attr_init (&attr);
    pthread_attr_setdetachstate (&attr, PTHREAD_CREATE_DETACHED);
    while (pool.n_workers < wanted && pthread_create (&thread, &attr, work, NULL) == 0)
        pool.n_workers++;
    pthread_attr_destroy (&attr);
}

void dps_parallel_run (uint64_t n, void (*f) (void *ctx, uint64_t i), void *ctx)
{
    uint32_t threads = inside || n < 2 ? 1 : dps_parallel_threads ();
    pthread_mutex_lock (&pool.lock);
    int alone = threads < 2 || pool.running;
    if (!alone) {
        start_workers (threads - 1);
        pool.running = 1;
        pool.n = n;
        pool.f = f;
        pool.ctx = ctx;
        atomic_store (&pool.next, 0);
        pool.busy = pool.n_workers;
        pool.generation++;
        pthread_cond_broadcast (&pool.start);
    }
    pthread_mutex_unlock (&pool.lock);
    if (alone) {
        for (uint64_t i = 0; i < n; i++)
            f (ctx, i);
        return;
    }
    take_items ();
    pthread_mutex_lock (&pool.lock);
    while (pool.busy)
        pthread_cond_wait (&pool.done, &pool.lock);
    pool.running = 0;
    pthread_mutex_unlock (&pool.lock);
}
