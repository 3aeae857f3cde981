/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The checking layer (--validate) around ref, and around ref made to break each rule in turn: every fault is named with op, operand, what was found and
 * who is to blame; a healthy call has the same bits as without the layer.
 */
#include <pthread.h>
#include <semaphore.h>
#include <stdlib.h>

#include "base/log.h"
#include "base/mem.h"
#include "check.h"
#include "exec/layer.h"
#include "plugin/validate.h"

enum { ROWS = 4, COLS = 8, N = ROWS * COLS };

typedef enum Fault { NONE, NAN_OUT, UNWRITTEN, INPUT, BEYOND, BEFORE, DRY, SLOW, SAME_BUFFER, SKEWED, NO_HOST } Fault;

static DpsError err = DPS_ERROR_INIT;
static DpsRegistry *registry;
static const DpsBackend *ref;
static struct DpsDevice *ref_device;
static Fault fault;
static char logged[1024];
static sem_t is_inside, may_leave; /* the call that is SLOW */

static void keep_line (void *ctx, int level, const char *line)
{
    (void)ctx;
    if (level == DPS_LOG_ERROR)
        snprintf (logged, sizeof logged, "%s", line);
}

static void misbehave (const DpsOp *op)
{
    float *y = op->out[0]->host, *x = op->n_in ? op->in[0]->host : NULL;
    switch (fault) {
    case NAN_OUT: y[5] = NAN; break;
    case UNWRITTEN: memset (&y[7], 0xff, sizeof *y); break;
    case INPUT: x[3] += 1; break;
    case BEYOND: y[N] = 1; break;
    case BEFORE: y[-1] = 1; break;
    default: break;
    }
}

static DpsStatus broken_run (struct DpsDevice *dev, const DpsOp *op, uint32_t flags, DpsError *e)
{
    DPS_TRY (ref->run (dev, op, flags, e));
    if (fault == SLOW) {
        fault = NONE;
        sem_post (&is_inside);
        sem_wait (&may_leave);
    }
    if (!(flags & DPS_RUN_DRY))
        misbehave (op);
    else if (fault == DRY)
        ((float *)op->out[0]->host)[0] = 1;
    return DPS_OK;
}

static DpsStatus broken_alloc (struct DpsDevice *dev, uint64_t bytes, struct DpsBuffer **out, void **host, DpsError *e)
{
    static struct DpsBuffer *last;
    static void *last_host;
    if (fault == SAME_BUFFER) {
        *out = last;
        *host = last_host;
        return DPS_OK;
    }
    DPS_TRY (ref->alloc (dev, bytes + 64, out, host, e));
    last = *out;
    last_host = *host;
    *host = fault == NO_HOST ? NULL : (char *)*host + (fault == SKEWED ? 8 : 0);
    return DPS_OK;
}

static void broken_free (struct DpsDevice *dev, struct DpsBuffer *buffer)
{
    if (fault != SAME_BUFFER)
        ref->free (dev, buffer);
}

static const DpsPlugin plugin = {.id = "com.acme.broken", .name = "broken"}, neighbour = {.id = "com.acme.lingers", .name = "lingers"};
static DpsBackend broken;

/* shared: of the devices of one exec; *shared NULL: of the first. */
static DpsExecDevice open_beside (const DpsPlugin *of, Fault f, struct CheckedShared **shared)
{
    DpsExecDevice d = {.backend = &broken, .plugin = of, .info = {.size = sizeof d.info}};
    if (!registry)
        CHECK_OK (dps_registry_open (NULL, &registry, &err));
    ref = dps_registry_get (registry, DPS_BACKEND_ID, "dps.ref");
    CU_ASSERT_PTR_NOT_NULL_FATAL (ref);
    CHECK_OK (ref->enumerate (0, &d.info, &err));
    ref_device = d.info.device;
    broken = *ref;
    broken.run = broken_run;
    broken.alloc = broken_alloc;
    broken.free = broken_free;
    fault = f;
    CHECK_OK (dps__checked_add (&d, ref, shared, &err));
    logged[0] = '\0';
    return d;
}

static DpsExecDevice open_device (Fault f)
{
    struct CheckedShared *shared = NULL;
    return open_beside (&plugin, f, &shared);
}

static void close_device (DpsExecDevice *d)
{
    DpsCallLayer *layer = d->layer;
    *d = layer->below;
    layer->close (layer);
}

static const int64_t shape[2] = {ROWS, COLS};

typedef struct Block {
    struct DpsBuffer *buffer;
    void *host;
} Block;

static Block block_of (const DpsExecDevice *d, uint64_t bytes)
{
    Block b = {0};
    CHECK_OK (d->backend->alloc (d->info.device, bytes, &b.buffer, &b.host, &err));
    return b;
}

/* A view of (ROWS, COLS) f32 at byte `offset` of a block. */
static DpsView view_at (const Block *b, uint64_t offset)
{
    DpsView v = dps_view (DPS_DTYPE_F32, 2, shape, (char *)b->host + offset);
    v.buffer = b->buffer;
    v.offset = offset;
    return v;
}

static DpsStatus call (const DpsExecDevice *d, const char *name, const DpsView *const *in, uint32_t n_in, const DpsView *const *out,
                       uint32_t flags)
{
    const DpsOp op = {.size = sizeof op, .id = dps_intern (name), .n_in = n_in, .n_out = 1, .in = in, .out = out};
    return d->backend->run (d->info.device, &op, flags, &err);
}

/* exp of numbers that are finite. */
static DpsStatus exponent (const DpsExecDevice *d, const DpsView *x, const DpsView *y, uint32_t flags)
{
    return call (d, "exp", (const DpsView *[]){x}, 1, (const DpsView *[]){y}, flags);
}

static void fill (const Block *b, int64_t n)
{
    for (int64_t i = 0; i < n; i++)
        ((float *)b->host)[i] = (float)i / 16;
}

static void test_a_healthy_call_is_the_same (void)
{
    DpsExecDevice d = open_device (NONE);
    uint64_t before = dps_validate_faults ();
    Block b = block_of (&d, 3 * 4 * N);
    fill (&b, N);
    DpsView x = view_at (&b, 0), y = view_at (&b, 4 * N), z = view_at (&b, 8 * N);
    CHECK_OK (exponent (&d, &x, &y, DPS_RUN_DRY));
    CHECK_OK (exponent (&d, &x, &y, 0));
    const DpsOp op = {
        .size = sizeof op, .id = dps_intern ("exp"), .n_in = 1, .n_out = 1, .in = (const DpsView *[]){&x}, .out = (const DpsView *[]){&z}};
    CHECK_OK (ref->run (ref_device, &op, 0, &err));
    CU_ASSERT_EQUAL (memcmp (y.host, z.host, 4 * N), 0);
    d.backend->free (d.info.device, b.buffer);
    close_device (&d);
    CU_ASSERT_EQUAL (dps_validate_faults (), before);
}

static void test_what_a_plugin_breaks_is_named (void)
{
    static const struct {
        Fault fault;
        uint32_t flags;
        const char *what;
    } cases[] = {{NAN_OUT, 0, "exp out[0] f32 (4,8) on ref: element 5 is NaN, and every input is finite"},
                 {UNWRITTEN, 0, "exp out[0] f32 (4,8) on ref: element 7 was not written"},
                 {INPUT, 0, "exp in[0] f32 (4,8) on ref: an input was written"},
                 {BEYOND, 0, "exp out[0] f32 (4,8) on ref: memory within 64 bytes of it was written"},
                 {BEFORE, 0, "exp out[0] f32 (4,8) on ref: memory within 64 bytes of it was written"},
                 {DRY, DPS_RUN_DRY, "exp out[0] f32 (4,8) on ref: was written by a call with DPS_RUN_DRY"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        DpsExecDevice d = open_device (cases[i].fault);
        uint64_t before = dps_validate_faults ();
        Block b = block_of (&d, 8 * N + 256);
        fill (&b, N);
        DpsView x = view_at (&b, 0), y = view_at (&b, 4 * N + 128);
        CHECK_FAILS (exponent (&d, &x, &y, cases[i].flags), DPS_ERR_INVALID, cases[i].what);
        CU_ASSERT_PTR_NOT_NULL (strstr (err.msg, "To blame: plugin com.acme.broken"));
        d.backend->free (d.info.device, b.buffer);
        close_device (&d);
        CU_ASSERT_EQUAL (dps_validate_faults (), before + 1);
    }
}

/* What is written during a call may be another plugin's doing, whose call has returned; that has a name too. */
static void test_a_thread_left_running_is_suspected (void)
{
    struct CheckedShared *shared = NULL;
    DpsExecDevice before = open_beside (&neighbour, NONE, &shared), d = open_beside (&plugin, NONE, &shared);
    Block b = block_of (&d, 8 * N + 256);
    fill (&b, N);
    DpsView x = view_at (&b, 0), y = view_at (&b, 4 * N + 128);
    CHECK_OK (exponent (&before, &x, &y, 0));
    fault = INPUT;
    CHECK_FAILS (exponent (&d, &x, &y, 0), DPS_ERR_INVALID,
                 "To blame: plugin com.acme.broken, unless a thread that plugin com.acme.lingers left running wrote it");
    fault = NAN_OUT; /* what the call itself wrote is its own */
    CHECK_FAILS (exponent (&d, &x, &y, 0), DPS_ERR_INVALID, "To blame: plugin com.acme.broken");
    CU_ASSERT_PTR_NULL (strstr (err.msg, "lingers"));
    d.backend->free (d.info.device, b.buffer);
    close_device (&before);
    close_device (&d);
}

static void test_numbers_that_are_not_finite_are_handed_on (void)
{
    DpsExecDevice d = open_device (NONE);
    Block b = block_of (&d, 8 * N);
    fill (&b, N);
    ((float *)b.host)[2] = NAN;
    DpsView x = view_at (&b, 0), y = view_at (&b, 4 * N);
    CHECK_OK (exponent (&d, &x, &y, 0));
    d.backend->free (d.info.device, b.buffer);
    close_device (&d);
}

static void test_what_alloc_breaks_is_named (void)
{
    static const struct {
        Fault fault;
        const char *what;
    } cases[] = {{SAME_BUFFER, "alloc on ref: gave buffer 1 again, which is in use"},
                 {SKEWED, "expected a multiple of 64"},
                 {NO_HOST, "alloc on ref: returned no host address"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        DpsExecDevice d = open_device (NONE);
        Block b = block_of (&d, 64);
        struct DpsBuffer *other;
        void *host;
        fault = cases[i].fault;
        CHECK_FAILS (d.backend->alloc (d.info.device, 64, &other, &host, &err), DPS_ERR_INVALID, cases[i].what);
        CU_ASSERT_PTR_NULL (other);
        fault = NONE;
        d.backend->free (d.info.device, b.buffer);
        close_device (&d);
        CHECK_STR (logged, "");
    }
}

static void test_memory_outside_a_buffer_is_refused (void)
{
    DpsExecDevice d = open_device (NONE);
    Block b = block_of (&d, 8 * N), other = block_of (&d, 4 * N);
    fill (&b, 2 * N);
    DpsView x = view_at (&b, 0), y = view_at (&b, 4 * N), far = view_at (&b, 4 * N + 64), skew = view_at (&b, 4 * N), odd = view_at (&b, 2),
            wrong = view_at (&b, 4 * N), bare = dps_view (DPS_DTYPE_F32, 2, shape, (char *)b.host + 4 * N + 4);
    CHECK_FAILS (exponent (&d, &x, &far, 0), DPS_ERR_INVALID, "exp out[0] f32 (4,8) on ref: is bytes 192 + 128 of buffer 1, which has 256");
    CU_ASSERT_PTR_NOT_NULL (strstr (err.msg, "To blame: the host"));
    CHECK_FAILS (exponent (&d, &x, &bare, 0), DPS_ERR_INVALID, "is bytes 132 + 128 of buffer 1");
    skew.host = other.host;
    CHECK_FAILS (exponent (&d, &x, &skew, 0), DPS_ERR_INVALID, "expected buffer + offset");
    CHECK_FAILS (exponent (&d, &odd, &y, 0), DPS_ERR_INVALID,
                 "exp in[0] f32 (4,8) on ref: begins at byte 2, expected a multiple of its element's 4");
    wrong.buffer = (struct DpsBuffer *)(void *)&wrong;
    CHECK_FAILS (exponent (&d, &x, &wrong, 0), DPS_ERR_INVALID, "lies in a buffer that this device never gave");
    wrong.buffer = NULL;
    wrong.host = NULL;
    CHECK_FAILS (exponent (&d, &x, &wrong, 0), DPS_ERR_INVALID, "has neither buffer nor host memory");
    d.backend->free (d.info.device, b.buffer);
    CHECK_FAILS (exponent (&d, &x, &y, 0), DPS_ERR_INVALID, "lies in buffer 1, which was freed");
    CHECK_STR (logged, "");
    d.backend->free (d.info.device, b.buffer);
    CU_ASSERT_PTR_NOT_NULL (strstr (logged, "free on ref: buffer 1 is freed a second time; expected once. To blame: the host"));
    d.backend->free (d.info.device, (struct DpsBuffer *)(void *)&d);
    CU_ASSERT_PTR_NOT_NULL (strstr (logged, "a buffer that this device never gave"));
    struct DpsBuffer *leaked = other.buffer;
    close_device (&d);
    CU_ASSERT_PTR_NOT_NULL (strstr (logged, "buffer 2 of 128 bytes was never freed"));
    ref->free (ref_device, leaked);
}

static void test_shapes_overlap_and_indices_are_looked_at (void)
{
    DpsExecDevice d = open_device (NONE);
    static const int64_t narrow[2] = {ROWS, COLS - 1}, three = 3, table[2] = {5, COLS}, out[2] = {3, COLS}, wild[2] = {-1, 4},
                         five[5] = {1, 1, 1, 4, 8}, huge[2] = {INT64_MAX / 2, 4};
    int32_t ids[3] = {0, 4, 5}, roots[3] = {0, 3, 2};
    Block b = block_of (&d, 16 * N);
    fill (&b, 4 * N);
    DpsView x = view_at (&b, 0), y = view_at (&b, 4 * N), half = view_at (&b, 2 * N), thin = x,
            t = dps_view (DPS_DTYPE_F32, 2, table, b.host), i = dps_view (DPS_DTYPE_I32, 1, &three, ids),
            e = dps_view (DPS_DTYPE_F32, 2, out, (char *)b.host + 8 * N), at = dps_view (DPS_DTYPE_I32, 1, &three, roots),
            bias = dps_view (DPS_DTYPE_F32, 1, &shape[1], (char *)b.host + 8 * N), deep = x;
    thin.shape = narrow;
    CHECK_FAILS (call (&d, "mul", (const DpsView *[]){&x, &thin}, 2, (const DpsView *[]){&y}, 0), DPS_ERR_INVALID,
                 "expected the shapes of ops.h");
    CHECK_FAILS (exponent (&d, &x, &half, 0), DPS_ERR_INVALID, "exp out[0] f32 (4,8) on ref: shares memory with in[0]");
    CHECK_FAILS (exponent (&d, &x, &x, 0), DPS_ERR_INVALID, "shares memory with in[0]");
    CHECK_FAILS (call (&d, "embed", (const DpsView *[]){&t, &i}, 2, (const DpsView *[]){&e}, 0), DPS_ERR_INVALID,
                 "embed in[1] i32 (3) on ref: element 2 is 5, expected 0 to below 5");
    CHECK_FAILS (call (&d, "bias_db", (const DpsView *[]){&x, &at}, 2, (const DpsView *[]){&bias}, 0), DPS_ERR_INVALID,
                 "element 2 is 2, expected offsets that do not fall, at most 4");
    deep.rank = 5;
    deep.shape = five;
    CHECK_FAILS (exponent (&d, &deep, &y, 0), DPS_ERR_INVALID, "has a rank above 4");
    deep.rank = 2;
    deep.shape = wild;
    CHECK_FAILS (exponent (&d, &deep, &y, 0), DPS_ERR_INVALID, "negative or too large");
    deep.shape = huge;
    CHECK_FAILS (exponent (&d, &deep, &y, 0), DPS_ERR_INVALID, "negative or too large");
    deep = x;
    deep.dtype = 60000;
    CHECK_FAILS (exponent (&d, &deep, &y, 0), DPS_ERR_INVALID, "has a dtype number that nobody was given");
    CHECK_STR (logged, "");
    d.backend->free (d.info.device, b.buffer);
    close_device (&d);
}

/* An optimizer's step is in place; a gradient is added to. Neither is poisoned, and neither is an overlap. */
static void test_in_place_ops_are_no_overlap (void)
{
    DpsExecDevice d = open_device (NONE);
    Block b = block_of (&d, 16 * N);
    fill (&b, 4 * N);
    DpsView p = view_at (&b, 0), g = view_at (&b, 4 * N), m = view_at (&b, 8 * N), v = view_at (&b, 12 * N);
    const DpsScalar attrs[] = {{.f = 0.1}, {.f = 0.9}, {.f = 0.99}, {.f = 1e-8}, {.f = 0}, {.i = 1}};
    const DpsOp op = {.size = sizeof op,
                      .id = dps_intern ("adamw_step"),
                      .n_in = 5,
                      .n_out = 4,
                      .n_attrs = 6,
                      .in = (const DpsView *[]){&p, &g, &m, &v, NULL},
                      .out = (const DpsView *[]){&p, &m, &v, NULL},
                      .attrs = attrs};
    CHECK_OK (d.backend->run (d.info.device, &op, 0, &err));
    const DpsOp crossed = {.size = sizeof crossed,
                           .id = op.id,
                           .n_in = 5,
                           .n_out = 4,
                           .n_attrs = 6,
                           .in = op.in,
                           .out = (const DpsView *[]){&p, &v, &m, NULL},
                           .attrs = attrs};
    CHECK_FAILS (d.backend->run (d.info.device, &crossed, 0, &err), DPS_ERR_INVALID, "shares memory with in[3]");
    d.backend->free (d.info.device, b.buffer);
    close_device (&d);
}

static DpsExecDevice slow_device;
static DpsView slow_x, slow_y;

static void *run_slowly (void *ctx)
{
    DpsError mine = DPS_ERROR_INIT;
    const DpsOp op = {.size = sizeof op,
                      .id = dps_intern ("exp"),
                      .n_in = 1,
                      .n_out = 1,
                      .in = (const DpsView *[]){&slow_x},
                      .out = (const DpsView *[]){&slow_y}};
    *(DpsStatus *)ctx = slow_device.backend->run (slow_device.info.device, &op, 0, &mine);
    return NULL;
}

static void test_two_calls_at_once_are_refused (void)
{
    pthread_t thread;
    DpsStatus theirs = DPS_ERR_INTERNAL;
    slow_device = open_device (SLOW);
    Block b = block_of (&slow_device, 16 * N);
    fill (&b, N);
    slow_x = view_at (&b, 0);
    slow_y = view_at (&b, 4 * N);
    DpsView other = view_at (&b, 8 * N);
    sem_init (&is_inside, 0, 0);
    sem_init (&may_leave, 0, 0);
    CU_ASSERT_EQUAL_FATAL (pthread_create (&thread, NULL, run_slowly, &theirs), 0);
    sem_wait (&is_inside);
    CHECK_FAILS (exponent (&slow_device, &slow_x, &other, 0), DPS_ERR_INVALID, "it is [device-serial]. To blame: the host");
    sem_post (&may_leave);
    pthread_join (thread, NULL);
    CU_ASSERT_EQUAL (theirs, DPS_OK);
    slow_device.backend->free (slow_device.info.device, b.buffer);
    close_device (&slow_device);
}

CHECK_SUITE (run_all, "exec.checked", T (test_a_healthy_call_is_the_same), T (test_what_a_plugin_breaks_is_named),
             T (test_a_thread_left_running_is_suspected), T (test_numbers_that_are_not_finite_are_handed_on),
             T (test_what_alloc_breaks_is_named), T (test_memory_outside_a_buffer_is_refused),
             T (test_shapes_overlap_and_indices_are_looked_at), T (test_in_place_ops_are_no_overlap),
             T (test_two_calls_at_once_are_refused))

int main (void)
{
    dps_log_install (keep_line, NULL, DPS_LOG_ERROR);
    int code = run_all ();
    dps_registry_close (registry);
    return code;
}
