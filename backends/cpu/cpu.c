/* SPDX-License-Identifier: Apache-2.0 */
/* cpu.c: the plugin: one device, its memory, and the dispatch from op numbers to functions after a check of the operands. */
#include "cpu.h"

#include <omp.h>
#include <stdio.h>
#include <string.h>

#include "base/host_buffer.h"
#include "dnnl.h"

struct DpsDevice {
    int unused;
};

static struct DpsDevice device;
static CpuMachine machine;
DpsQuantNames cpu_quants;
static DpsHost host;

/* The products, beside the kernels of the instruction set. */
static const CpuOp products[] = {
    {"linear", "fq?f?f", "f", cpu_linear},
    {"linear_dx", "fq?f", "f", cpu_linear_dx},
    {"linear_dw", "ffi", "F", cpu_linear_dw},
    {"token_logprobs", "fwi?w", "?F?F?F?f", cpu_token_logprobs},
    {"row_logprobs", "Fi", "F", cpu_row_logprobs},
    {"token_logprobs_dw", "fwiFi", "F", cpu_token_logprobs_dw},
    {NULL, NULL, NULL, NULL},
};

enum { MAX_OPS = 64 };
static struct {
    uint32_t id;
    const CpuOp *op;
} ops[MAX_OPS];
static int n_ops;

static struct {
    void *data;
    uint64_t bytes;
} scratch[CPU_SLOTS];

const CpuMachine *cpu_machine (void) { return &machine; }
int cpu_threads (int most)
{
    int n = omp_get_max_threads ();
    return n < most ? n : most;
}
int cpu_thread (void) { return omp_get_thread_num (); }

void *cpu_scratch (int slot, uint64_t bytes)
{
    if (bytes > scratch[slot].bytes || !scratch[slot].data) {
        uint64_t rounded = (bytes + bytes / 8 + 4095) / 4096 * 4096;
        void *grown = dps_aligned_alloc (64, rounded, 1);
        if (!grown)
            return NULL;
        dps_free (scratch[slot].data);
        scratch[slot].data = grown;
        scratch[slot].bytes = rounded;
    }
    return scratch[slot].data;
}

static DpsStatus enumerate (uint32_t i, DpsDeviceInfo *out, DpsError *err)
{
    static char detail[160];
    if (i > 0)
        return dps_fail (err, DPS_ERR_NOT_FOUND, "cpu has one device");
    snprintf (detail, sizeof detail, "%s, %s%s, %d threads", dnnl_text (), machine.isa, machine.has_bf16 ? " with bf16 products" : "",
              omp_get_max_threads ());
    DpsDeviceInfo info = {.size = sizeof info, .device = &device, .name = "cpu", .detail = detail, .flags = DPS_DEVICE_HOST_MEMORY};
    dps_table_copy (out, out->size < sizeof info ? out->size : sizeof info, &info);
    return DPS_OK;
}

static size_t copied_bytes (uint32_t dtype)
{
    static const size_t bytes[] = {
#define DPS_X(id, number, text, size) [number] = size,
        DPS_DTYPES (DPS_X)
#undef DPS_X
    };
    return dtype < sizeof bytes / sizeof *bytes ? bytes[dtype] : 0;
}

static DpsStatus copy_views (struct DpsDevice *dev, const DpsView *from, const DpsView *to, DpsError *err)
{
    (void)dev;
    size_t bytes = copied_bytes (to->dtype);
    if (cpu_count (from) != cpu_count (to) || from->stride || to->stride)
        return dps_fail (err, DPS_ERR_SHAPE, "cpu: copy of %lld numbers into a window of %lld, or between strided ones",
                         (long long)cpu_count (from), (long long)cpu_count (to));
    if (from->dtype != to->dtype || !bytes)
        return dps_fail (err, DPS_ERR_DTYPE, "cpu: copy from dtype %u to %u; the op `copy` converts", (unsigned)from->dtype,
                         (unsigned)to->dtype);
    if (cpu_count (to) && (!from->host || !to->host))
        return dps_fail (err, DPS_ERR_INVALID, "cpu: copy without host memory");
    if (cpu_count (to))
        memcpy (to->host, from->host, (size_t)cpu_count (to) * bytes);
    return DPS_OK;
}

static int is_float (uint32_t dtype) { return dtype == DPS_DTYPE_F32 || dtype == DPS_DTYPE_BF16; }

static DpsStatus check_quantised (const CpuOp *op, const DpsView *v, const char *side, uint32_t i, int dry, DpsError *err)
{
    DpsQuantised q;
    if (dps_quant_from_view (&cpu_quants, v, !dry, &q, err) != DPS_OK)
        return dps_error_prefix (err, "cpu: %s: %s %u", op->name, side, i);
    return cpu_count (v) ? DPS_OK : dps_fail (err, DPS_ERR_UNSUPPORTED, "cpu: %s: %s %u is an empty weight", op->name, side, i);
}

/* One operand against its letter. */
static DpsStatus check_operand (const CpuOp *op, char letter, int optional, const DpsView *v, const char *side, uint32_t i, int dry,
                                DpsError *err)
{
    if (!v)
        return optional ? DPS_OK : dps_fail (err, DPS_ERR_INVALID, "cpu: %s: %s %u is missing", op->name, side, i);
    if ((letter == 'q' || letter == 'r') && cpu_is_quantised (v))
        return check_quantised (op, v, side, i, dry, err);
    int ok = letter == 'f' || letter == 'w' || letter == 'q' || letter == 'r' ? is_float (v->dtype)
             : letter == 'F'                                                  ? v->dtype == DPS_DTYPE_F32
             : letter == 'h'                                                  ? v->dtype == DPS_DTYPE_BF16
             : letter == 'D'                                                  ? v->dtype == DPS_DTYPE_F64
             : letter == 'i'                                                  ? v->dtype == DPS_DTYPE_I32
             : letter == 'l'                                                  ? v->dtype == DPS_DTYPE_I64
                                                                              : v->dtype == DPS_DTYPE_U8;
    if (!ok)
        return dps_fail (err, DPS_ERR_DTYPE, "cpu: %s: %s %u has a dtype it has no kernel for", op->name, side, i);
    if (v->stride)
        for (int64_t expected = 1, k = v->rank; k-- > 0; expected *= v->shape[k])
            if (v->stride[k] != expected && v->shape[k] > 1)
                return dps_fail (err, DPS_ERR_UNSUPPORTED, "cpu: %s: %s %u is strided; contiguous rows are expected", op->name, side, i);
    int is_weight = letter == 'w' || letter == 'q';
    if (is_weight && cpu_count (v) == 0)
        return dps_fail (err, DPS_ERR_UNSUPPORTED, "cpu: %s: %s %u is an empty weight", op->name, side, i);
    if (v->layout >= DPS_LAYOUT_PACKED && !is_weight)
        return dps_fail (err, DPS_ERR_UNSUPPORTED, "cpu: %s: %s %u is packed", op->name, side, i);
    return DPS_OK;
}

static DpsStatus check_operands (const CpuOp *op, const char *spec, const DpsView *const *views, uint32_t n, const char *side, int dry,
                                 DpsError *err)
{
    uint32_t i = 0;
    for (; *spec; spec++, i++) {
        int optional = *spec == '?';
        spec += optional;
        DPS_TRY (check_operand (op, *spec, optional, i < n ? views[i] : NULL, side, i, dry, err));
    }
    return i >= n ? DPS_OK : dps_fail (err, DPS_ERR_INVALID, "cpu: %s has %u %ss, %u were given", op->name, i, side, n);
}

static DpsStatus run (struct DpsDevice *dev, const DpsOp *op, uint32_t flags, DpsError *err)
{
    (void)dev;
    for (int i = 0; i < n_ops; i++) {
        if (ops[i].id != op->id)
            continue;
        const CpuOp *known = ops[i].op;
        int dry = (flags & DPS_RUN_DRY) != 0;
        DPS_TRY (check_operands (known, known->in, op->in, op->n_in, "input", dry, err));
        DPS_TRY (check_operands (known, known->out, op->out, op->n_out, "output", dry, err));
        CpuCall call = {.name = known->name, .op = op, .err = err};
        return dry ? DPS_OK : known->run (&call);
    }
    DpsStr name = host.intern_name ? host.intern_name (op->id) : (DpsStr){"?", 1};
    return dps_fail (err, DPS_ERR_UNSUPPORTED, "cpu: no kernel for '%.*s'", (int)name.len, name.ptr);
}

static uint32_t determinism (struct DpsDevice *dev)
{
    (void)dev;
    return DPS_DETERMINISM_BATCH;
}

static const DpsBackend backend = {
    .size = sizeof (DpsBackend),
    .enumerate = enumerate,
    .alloc = dps_host_buffer_alloc,
    .free = dps_host_buffer_free,
    .copy = copy_views,
    .run = run,
    .determinism = determinism,
};

/* From the least: what one has, those after it have too. bf16 products are a step of their own. */
enum { ISA_BASE, ISA_AVX2, ISA_AVX512, ISA_AVX512_BF16, ISAS };
static const char *const isa_names[ISAS] = {"x86-64", "avx2", "avx512", "avx512_bf16"};

static int best_isa (void)
{
    __builtin_cpu_init ();
    if (!__builtin_cpu_supports ("avx2") || !__builtin_cpu_supports ("fma"))
        return ISA_BASE;
    if (!__builtin_cpu_supports ("avx512f") || !__builtin_cpu_supports ("avx512bw") || !__builtin_cpu_supports ("avx512vl") ||
        !__builtin_cpu_supports ("avx512dq"))
        return ISA_AVX2;
    return __builtin_cpu_supports ("avx512bf16") ? ISA_AVX512_BF16 : ISA_AVX512;
}

/* The host's "isa" can lower the choice, never raise it. */
static DpsStatus find_machine (DpsError *err)
{
    char asked[32];
    int isa = best_isa (), most = 0;
    size_t n = host.config_get ? host.config_get (dps_str ("isa"), asked, sizeof asked) : 0;
    while (n && most < ISAS && strcmp (asked, isa_names[most]))
        most++;
    if (most == ISAS)
        return dps_fail (err, DPS_ERR_USAGE, "cpu: isa '%s' is unknown. Hint: DIAPASON_CPU_ISA is one of x86-64, avx2, avx512, avx512_bf16",
                         asked);
    isa = n && most < isa ? most : isa;
    machine.isa = isa_names[isa == ISA_AVX512_BF16 ? ISA_AVX512 : isa];
    machine.kernels = isa >= ISA_AVX512 ? cpu_kernels_avx512 : isa == ISA_AVX2 ? cpu_kernels_avx2 : cpu_kernels_base;
    machine.vector = isa >= ISA_AVX512 ? &cpu_vector_avx512 : isa == ISA_AVX2 ? &cpu_vector_avx2 : &cpu_vector_base;
    machine.has_avx512 = isa >= ISA_AVX512;
    machine.has_bf16 = isa == ISA_AVX512_BF16;
    return DPS_OK;
}

static DpsStatus add_ops (const CpuOp *list, DpsError *err)
{
    for (; list->name; list++) {
        uint32_t id = host.intern (dps_str (list->name));
        if (!id || n_ops == MAX_OPS)
            return dps_fail (err, DPS_ERR_LIMIT, "cpu: no room for op '%s'", list->name);
        ops[n_ops].id = id;
        ops[n_ops++].op = list;
    }
    return DPS_OK;
}

static DpsStatus init (const DpsHost *from, const char *path, DpsError *err)
{
    (void)path;
    dps_table_copy (&host, sizeof host, from);
    DPS_TRY (find_machine (err));
    if (dps_quant_names (host.intern, &cpu_quants))
        return dps_fail (err, DPS_ERR_LIMIT, "cpu: no room for the quantised dtypes");
    n_ops = 0;
    DPS_TRY (add_ops (products, err));
    return add_ops (machine.kernels, err);
}

static const void *get_interface (DpsStr id)
{
    if (dps_str_is (id, DPS_BACKEND_ID))
        return &backend;
    return dps_str_is (id, DPS_PACK_ID) ? &cpu_pack : NULL;
}

DPS_PLUGIN (init, NULL, get_interface);
