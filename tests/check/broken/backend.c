/* SPDX-License-Identifier: Apache-2.0 */
/* backend.c: the reference backend under another name, with the faults that a backend can have. */
#include <math.h>
#include <signal.h>
#include <string.h>

#include "../../../backends/ref/ref.h"
#include "base/mem.h"
#include "broken.h"
#include "diapason/diapason.h"
#include "manners.h"
#include "subtle.h"

extern const DpsPluginEntry dps_ref_plugin_entry;

static DpsBackend backend;
static DpsHost the_host;
static unsigned n_calls;

static const DpsBackend *ref (void) { return dps_ref_plugin_entry.get_interface (dps_str (DPS_BACKEND_ID)); }
static int is_op (const DpsOp *op, const char *name) { return dps_str_is (the_host.intern_name (op->id), name); }

static int64_t elements (const DpsView *v)
{
    int64_t n = 1;
    for (uint32_t i = 0; i < v->rank; i++)
        n *= v->shape[i];
    return n;
}

static DpsStatus enumerate (uint32_t i, DpsDeviceInfo *out, DpsError *err)
{
    static char moved[3], numbers[1024][16];
    if (IS (crashes_when_asked))
        raise (SIGSEGV);
    DpsStatus st = ref ()->enumerate (IS (never_ends) ? 0 : i, out, err);
    if (st == DPS_OK && out->size >= offsetof (DpsDeviceInfo, detail))
        out->name = IS (has_no_name) ? NULL : IS (name_is_no_text) ? "bro\x1b[31mken" : IS (is_called_ref) ? "ref:1" : "broken";
    if (st == DPS_OK && IS (never_ends) && out->size >= offsetof (DpsDeviceInfo, detail)) {
        snprintf (numbers[i % 1024], sizeof *numbers, "broken:%u", i);
        out->name = numbers[i % 1024];
    }
    if (st == DPS_OK && IS (renames_devices))
        out->name = &"broken"[n_calls++ % 3];
    if (st == DPS_OK && IS (moves_devices))
        out->device = (struct DpsDevice *)&moved[n_calls++ % 3];
    if (st == DPS_OK && IS (copy_ignores_offsets))
        out->flags = 0;
    return st;
}

static DpsStatus alloc_block (struct DpsDevice *dev, uint64_t bytes, struct DpsBuffer **out, void **out_host, DpsError *err)
{
    static struct DpsBuffer *first;
    static void *first_host;
    if (IS (trusts_malloc)) {
        volatile char *p = malloc (16); /* allocated by libc */
        *p = 1;
        free ((void *)(uintptr_t)p); /* allocated by libc */
    }
    if (IS (never_nomem) && bytes > UINT64_MAX / 4)
        bytes = 64;
    if (IS (shares_blocks) && first && bytes < 64) {
        *out = first;
        *out_host = first_host;
        return DPS_OK;
    }
    DpsStatus st = ref ()->alloc (dev, IS (unaligned_blocks) ? bytes + 64 : bytes, out, out_host, err);
    if (st == DPS_OK && IS (shares_blocks) && !first && bytes < 64) {
        first = *out;
        first_host = *out_host;
    }
    if (st == DPS_OK && IS (unaligned_blocks))
        *out_host = (char *)*out_host + 16;
    if (IS (copy_ignores_offsets))
        *out_host = NULL;
    return st;
}

static DpsStatus copy_views (struct DpsDevice *dev, const DpsView *from, const DpsView *to, DpsError *err)
{
    DpsView a = *from, b = *to;
    if (IS (copy_ignores_offsets))
        a.offset = b.offset = 0;
    return ref ()->copy (dev, &a, &b, err);
}

static void free_block (struct DpsDevice *dev, struct DpsBuffer *b)
{
    if (!IS (shares_blocks) && !IS (leaks_memory))
        ref ()->free (dev, b);
}

/* Elements of a contiguous f32 or bf16 output, one by one. */
static void each (const DpsView *v, float (*change) (float x, int64_t i))
{
    for (int64_t i = 0; v && !v->stride && v->dtype == DPS_DTYPE_F32 && i < elements (v); i++) {
        float *x = (float *)dps__ref_data (v) + i;
        *x = change (*x, i);
    }
}

static float negated (float x, int64_t i) { return (void)i, -x; }
static float without_nan (float x, int64_t i) { return (void)i, isnan (x) ? 0 : x; }
static float other_bit (float x, int64_t i) { return i == 0 ? nextafterf (x, 2 * x) : x; }
static float nudged (float x, int64_t i) { return (void)i, nextafterf (x, 2 * x); }

/* y in f32 first, then cut to bf16 instead of rounded. */
static DpsStatus cut_to_bf16 (struct DpsDevice *dev, const DpsOp *op, DpsError *err)
{
    int64_t n = elements (op->out[0]);
    float *y = dps_malloc ((size_t)n, sizeof *y);
    if (!y)
        return dps_fail (err, DPS_ERR_NOMEM, "no memory");
    DpsView wide = *op->out[0];
    wide.dtype = DPS_DTYPE_F32;
    wide.buffer = NULL;
    wide.offset = 0;
    wide.host = y;
    DpsView *outs[] = {&wide};
    DpsOp in_f32 = *op;
    in_f32.out = (void *)outs;
    DpsStatus st = ref ()->run (dev, &in_f32, 0, err);
    for (int64_t i = 0; st == DPS_OK && i < n; i++) {
        uint32_t bits;
        memcpy (&bits, &y[i], sizeof bits);
        ((uint16_t *)dps__ref_data (op->out[0]))[i] = (uint16_t)(bits >> 16);
    }
    dps_free (y);
    return st;
}

/* An f16 output that was a bf16 number on its way: three bits are gone. */
static DpsStatus through_bf16 (struct DpsDevice *dev, const DpsOp *op, DpsError *err)
{
    DPS_TRY (ref ()->run (dev, op, 0, err));
    for (int64_t i = 0; !op->out[0]->stride && i < elements (op->out[0]); i++)
        ((uint16_t *)dps__ref_data (op->out[0]))[i] &= 0xfff8;
    return DPS_OK;
}

static void after (const DpsOp *op)
{
    const DpsView *y = op->n_out ? op->out[0] : NULL;
    int linear = is_op (op, "linear");
    if (IS (wrong_sign_norm) && is_op (op, "rms_norm_dx"))
        each (y, negated);
    if (IS (wrong_sign_attention) && is_op (op, "attention_bwd"))
        each (op->out[1], negated);
    if (!linear || !y || y->dtype != DPS_DTYPE_F32 || y->stride)
        return;
    float *first = dps__ref_data (y);
    if (IS (reads_too_far) && elements (y))
        first[0] += 0 * ((const float *)dps__ref_data (op->in[0]))[elements (op->in[0])];
    if (IS (bits_by_threads) && strcmp (getenv ("OMP_NUM_THREADS") ? getenv ("OMP_NUM_THREADS") : "1", "1"))
        each (y, other_bit);
    if (IS (wrong_codes) && op->in[1]->n_parts)
        each (y, negated);
    if (IS (off_by_one_write))
        first[elements (y)] = 0;
    if (IS (writes_input) && op->in[0]->dtype == DPS_DTYPE_F32 && elements (op->in[0]))
        *(float *)dps__ref_data (op->in[0]) += 1;
    if (IS (batch_depends_on_rows) && y->shape[0] > 4)
        each (y, nudged);
    if (IS (random_bits) && n_calls++ % 2)
        each (y, other_bit);
    if (IS (swallows_nan))
        each (y, without_nan);
    if (IS (skips_last_row) && y->shape[0] > 1)
        memset (first + elements (y) - y->shape[1], 0, (size_t)y->shape[1] * sizeof *first);
}

static DpsStatus run (struct DpsDevice *dev, const DpsOp *op, uint32_t flags, DpsError *err)
{
    static volatile int for_ever = 1, *nowhere;
    static __thread int is_this_thread;
    static int n_threads;
    static DpsError *kept;
    int dry = (flags & DPS_RUN_DRY) != 0, linear = is_op (op, "linear");
    if (IS (knows_one_thread) && !is_this_thread && n_threads++)
        return dps_fail (err, DPS_ERR_DEVICE, "who is asking?");
    is_this_thread = 1;
    if (IS (keeps_err) && kept && !dry)
        snprintf (kept->msg, sizeof kept->msg, "what was wrong before");
    kept = err;
    if (IS (hangs) && !dry && linear)
        while (for_ever)
            ;
    if (IS (crashes) && !dry && linear)
        *nowhere = 1;
    if (IS (aborts) && linear)
        abort ();
    if (!dry && linear)
        misbehave ();
    if (IS (dry_writes) && linear)
        flags = 0;
    if (IS (dry_promises) && linear)
        return dry ? DPS_OK : dps_fail (err, DPS_ERR_UNSUPPORTED, "not today");
    if (IS (dry_forgets_depth) && !dry && linear && op->in[0]->rank == 2 && op->in[0]->shape[1] > 2048)
        return dps_fail (err, DPS_ERR_UNSUPPORTED, "too deep");
    if ((IS (bits_by_threads) || IS (has_linear_only)) && !linear)
        return dps_fail (err, DPS_ERR_UNSUPPORTED, "linear is all that there is");
    if (IS (halves_in_bf16) && !dry && op->n_out && op->out[0] && op->out[0]->dtype == DPS_DTYPE_F16)
        return through_bf16 (dev, op, err);
    if (IS (bf16_toward_zero) && !dry && linear && op->out[0] && op->out[0]->dtype == DPS_DTYPE_BF16 && !op->out[0]->stride)
        return cut_to_bf16 (dev, op, err);
    if (IS (overwrites_sum) && !dry && is_op (op, "linear_dw") && op->out[0] && !op->out[0]->stride && op->out[0]->dtype == DPS_DTYPE_F32)
        memset (dps__ref_data (op->out[0]), 0, (size_t)elements (op->out[0]) * sizeof (float));
    SubtleCall changed;
    subtle_before (op, dry, is_op, &changed);
    if (IS (dropout_by_call) && is_op (op, "dropout") && !dry)
        changed.attrs[2].i += n_calls++;
    if (IS (decay_twice) && is_op (op, "adamw_step"))
        changed.attrs[4].f *= 2;
    DpsError unsaid = DPS_ERROR_INIT;
    DpsStatus st = ref ()->run (dev, &changed.op, flags, IS (says_nothing) ? &unsaid : err);
    if (st == DPS_OK && !dry)
        after (op), subtle_after (op, is_op);
    st = subtle_status (op, st, is_op);
    return st == DPS_ERR_UNSUPPORTED && IS (does_unknown_ops) ? DPS_OK : st;
}

static DpsStatus init (const DpsHost *host, const char *path, DpsError *err)
{
    dps_table_copy (&the_host, sizeof the_host, host);
    if (!the_host.intern_name)
        return dps_fail (err, DPS_ERR_VERSION, "this host cannot name ops");
    backend = *ref ();
    backend.enumerate = enumerate;
    backend.alloc = alloc_block;
    backend.free = free_block;
    backend.run = subtle_run = run;
    backend.copy = copy_views;
    return dps_ref_plugin_entry.init (host, path, err);
}

static const void *get_interface (DpsStr id)
{
    const void *all[] = {&backend, &subtle_pack, &subtle_recorder};
    const char *const ids[] = {DPS_BACKEND_ID, DPS_PACK_ID, DPS_SEGMENT_ID};
    for (int i = 0; i < 3; i++)
        if (dps_str_is (id, ids[i]))
            return all[i];
    return NULL;
}

DPS_PLUGIN (init, NULL, get_interface);
