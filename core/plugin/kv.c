/* SPDX-License-Identifier: Apache-2.0 */
/* kv.c: the key-value store of dps.host/1 for one process. A launcher that runs several replaces it by one they share. */
#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <time.h>

#include "base/mem.h"
#include "plugin/host.h"

enum { MAX_ENTRIES = 1024, MAX_KEY = 256, MAX_VALUE = 1 << 20 };

static struct {
    char *key;
    char *data;
    size_t len;
} entries[MAX_ENTRIES];
static size_t n_entries;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed;
static pthread_once_t once = PTHREAD_ONCE_INIT;

/* Deadlines are on the monotonic clock: setting the time of day neither ends a wait nor prolongs it. */
static void make_condition (void)
{
    pthread_condattr_t attr;
    pthread_condattr_init (&attr);
    pthread_condattr_setclock (&attr, CLOCK_MONOTONIC);
    pthread_cond_init (&changed, &attr);
    pthread_condattr_destroy (&attr);
}

static size_t find (DpsStr key)
{
    size_t i = 0;
    while (i < n_entries && !dps_str_is (key, entries[i].key))
        i++;
    return i;
}

static DpsStatus check_key (DpsStr key, DpsError *err)
{
    if (key.ptr && key.len && key.len <= MAX_KEY && !memchr (key.ptr, '\0', key.len))
        return DPS_OK;
    return dps_fail (err, DPS_ERR_INVALID, "kv: a key has 1 to %d bytes and no NUL, this one has %zu bytes", MAX_KEY, key.len);
}

DpsStatus dps__kv_put (DpsStr key, const void *data, size_t len, DpsError *err)
{
    DPS_TRY (check_key (key, err));
    if (len > MAX_VALUE)
        return dps_fail (err, DPS_ERR_LIMIT, "kv: value of '%.*s' has %zu bytes, at most %d", (int)key.len, key.ptr, len, MAX_VALUE);
    char *copy = dps_strndup (data, len);
    char *name = dps_strndup (key.ptr, key.len);
    if (!copy || !name) {
        dps_free (copy);
        dps_free (name);
        return dps_fail (err, DPS_ERR_NOMEM, "kv: out of memory");
    }
    pthread_once (&once, make_condition);
    pthread_mutex_lock (&lock);
    size_t i = find (key);
    DpsStatus st = DPS_OK;
    if (i == MAX_ENTRIES) {
        st = dps_fail (err, DPS_ERR_LIMIT, "kv: more than %d keys", MAX_ENTRIES);
        dps_free (copy);
        dps_free (name);
    } else {
        dps_free (entries[i].data);
        dps_free (entries[i].key);
        entries[i].key = name;
        entries[i].data = copy;
        entries[i].len = len;
        n_entries += i == n_entries;
        pthread_cond_broadcast (&changed);
    }
    pthread_mutex_unlock (&lock);
    return st;
}

static struct timespec deadline_in (int64_t ms)
{
    struct timespec t;
    clock_gettime (CLOCK_MONOTONIC, &t);
    ms = ms < 0 ? 0 : ms > INT32_MAX ? INT32_MAX : ms;
    t.tv_sec += (time_t)(ms / 1000);
    t.tv_nsec += (long)(ms % 1000) * 1000000;
    if (t.tv_nsec >= 1000000000) {
        t.tv_nsec -= 1000000000;
        t.tv_sec++;
    }
    return t;
}

DpsStatus dps__kv_get (DpsStr key, int64_t timeout_ms, void *buf, size_t cap, size_t *out_len, DpsError *err)
{
    DPS_TRY (check_key (key, err));
    struct timespec deadline = deadline_in (timeout_ms);
    pthread_once (&once, make_condition);
    pthread_mutex_lock (&lock);
    size_t i;
    int waited = 0;
    while ((i = find (key)) == n_entries && waited != ETIMEDOUT)
        waited = pthread_cond_timedwait (&changed, &lock, &deadline);
    DpsStatus st = DPS_OK;
    if (i == n_entries)
        st = dps_fail (err, DPS_ERR_TIMEOUT, "kv: nobody put '%.*s' within %lld ms", (int)key.len, key.ptr, (long long)timeout_ms);
    else if (entries[i].len > cap)
        st = dps_fail (err, DPS_ERR_LIMIT, "kv: '%.*s' has %zu bytes, the buffer %zu", (int)key.len, key.ptr, entries[i].len, cap);
    else if (entries[i].len)
        memcpy (buf, entries[i].data, entries[i].len);
    if (i < n_entries && out_len)
        *out_len = entries[i].len;
    pthread_mutex_unlock (&lock);
    return st;
}
