/* SPDX-License-Identifier: Apache-2.0 */
/*
 * kit.h: one op on the backend under test and the same op in f64. Arrays lie in the device's own memory between guard bytes, at addresses that
 * are only as aligned as their elements; every call is first asked dry, and what it may not touch is looked at afterwards. All bytes that
 * nobody wrote are 0xff: a NaN in every float dtype, so that reading past an end or leaving an output unwritten shows in the numbers.
 *
 * The oracle is `ref` with f64 outputs, and where graph/decompose.h has one the op's decomposition, run in f64 on ref: not ref's own kernel.
 */
#ifndef DPS_TOOLS_CHECK_KIT_H
#define DPS_TOOLS_CHECK_KIT_H

#include "base/quant.h"
#include "check/budgets.h"
#include "check/check.h"
#include "exec/exec.h"

enum { KIT_GUARD = 192, KIT_BYTE = 0xff, KIT_MAX_IN = 8, KIT_MAX_OUT = 4, KIT_ATTRS = 8 };
enum { F32 = DPS_DTYPE_F32, BF16 = DPS_DTYPE_BF16, F16 = DPS_DTYPE_F16, F64 = DPS_DTYPE_F64, I32 = DPS_DTYPE_I32 };

/** Returned beside DPS_OK and errors: the backend refused, politely. */
enum { KIT_REFUSED = 1001 };

typedef struct KitArray {
    DpsView view;
    int64_t shape[4], stride[4], n;
    size_t item;           /* bytes of one element */
    size_t first;          /* where the elements begin in `room` */
    size_t span;           /* bytes from the first element to past the last, gaps of strides included */
    size_t bytes;          /* of the room */
    unsigned char *room;   /* the host's image of it: the memory itself where the device shares the host's */
    unsigned char *before; /* what it held when a call began */
    struct DpsBuffer *buffer;
    int mirrored;              /* room is a copy, or the device has none */
    DpsPart parts[DPS_QPARTS]; /* of a quantised weight, in the same room as its codes */
    const DpsPart *list[DPS_QPARTS];
    struct KitArray *plain; /* of packed and quantised weights: the numbers as rows, for the oracle; NULL: the array itself */
    struct KitArray *next;
} KitArray;

typedef struct Kit {
    CheckContext *ctx;
    const DpsBackend *backend;
    DpsDeviceInfo info;
    struct DpsDevice *device;
    const DpsPack *pack; /* NULL: none */
    DpsExec ref;         /* one device: the oracle's */
    DpsBlock scratch;    /* of decompositions */
    KitArray *arrays;
    uint64_t draws; /* arrays made: each has its own numbers and its own misalignment */
    uint64_t seed;
    int failed_alloc;
    int host_only; /* arrays made now are the oracle's: no memory of the device */
    int apart;     /* matrices of floats made now for the device have strides */
    long n_compared, n_refused;
    double worst; /* the largest error, in budgets */
    char worst_at[64];
    char refusal[400]; /* the last one's words */
    json_t *ops;       /* op: calls compared */
} Kit;

/** A case on the device under test (ctx->device, else the first). kit_close turns "everything was refused" into a skip and notes what ran. */
DpsStatus kit_open (Kit *k, CheckContext *ctx, DpsError *err);
DpsStatus kit_close (Kit *k, DpsStatus st, DpsError *err);
/** Defines check_NAME, a case's function, around `static DpsStatus name (Kit *k, DpsError *err)`. */
#define KIT_CASE(name)                                                                                                                     \
    static DpsStatus check_##name (CheckContext *ctx, DpsError *err)                                                                       \
    {                                                                                                                                      \
        Kit kit;                                                                                                                           \
        DpsStatus kit_st_ = kit_open (&kit, ctx, err);                                                                                     \
        return kit_close (&kit, kit_st_ == DPS_OK ? name (&kit, err) : kit_st_, err);                                                      \
    }
/** The case's line in its suite's table. */
#define KIT_LINE(function, level_, flags_, ...)                                                                                            \
    {                                                                                                                                      \
        .name = #function, .level = (level_), .flags = (flags_), .run = check_##function, __VA_ARGS__                                      \
    }

/**
 * Arrays, freed by kit_clear. cols < 0: a vector. NULL when out of memory, which kit_call reports. Elements hold KIT_BYTE until somebody writes
 * them. `strided`: rows lie three elements further apart than they need to.
 */
KitArray *kit_array (Kit *k, uint32_t dtype, int64_t rows, int64_t cols);
KitArray *kit_array_strided (Kit *k, uint32_t dtype, int64_t rows, int64_t cols);
KitArray *kit_filled (Kit *k, uint32_t dtype, int64_t rows, int64_t cols, double value);
/** Numbers around 0, of deviation `scale`, each a bf16 number whatever the dtype, so that a conversion to bf16 inside the backend loses nothing. */
KitArray *kit_normals (Kit *k, uint32_t dtype, int64_t rows, int64_t cols, double scale);
/** n numbers of [0, limit), or those given. With the host's copy beside them where the device has memory of its own, as segments have. */
KitArray *kit_indices (Kit *k, int64_t n, int64_t limit);
KitArray *kit_i32s (Kit *k, int64_t n, const int32_t *values);
/** Offsets of roots over n rows: one empty, one of a single row, the rest in two. */
KitArray *kit_roots (Kit *k, int64_t n);
KitArray *kit_segments (Kit *k, int64_t n, const DpsSegment *s);
KitArray *kit_copy (Kit *k, const KitArray *a);
/** Rows [first, first + n) of a contiguous array, as one of their own. */
KitArray *kit_rows_of (Kit *k, const KitArray *a, int64_t first, int64_t n);
/** An array of bytes with a view of the caller's making on it (packed and quantised weights): `bytes` of them, aligned to `align`. */
KitArray *kit_bytes (Kit *k, uint64_t bytes, size_t align);
/**
 * kit_pack.c: W as the backend packs it, in pieces of 64, 128 and 192 rows; W itself where there is no dps.pack/1 or it says UNSUPPORTED (*out_refused
 * 1). _as: for products in another dtype than W has.
 */
DpsStatus kit_packed (Kit *k, KitArray *w, uint32_t orientation, KitArray **out, int *out_refused, DpsError *err);
DpsStatus kit_packed_as (Kit *k, KitArray *w, uint32_t dtype, uint32_t orientation, KitArray **out, int *out_refused, DpsError *err);
/** kit_quant.c: every form of quantised weights there is: GGUF's types, codes plain and nested. */
extern const DpsQuantForm kit_forms[];
enum { KIT_FORMS = 19 };
/** A quantised (O, K) matrix; `plain` are its numbers as rows of `dtype`, which the oracle gets. *out NULL: the form has no rows of K numbers. */
DpsStatus kit_quantised (Kit *k, const DpsQuantForm *form, int64_t O, int64_t K, uint32_t dtype, KitArray **out, DpsError *err);
void kit_clear (Kit *k);

double kit_get (const KitArray *a, int64_t i);
void kit_put (KitArray *a, int64_t i, double value);
unsigned char *kit_data (const KitArray *a); /* of the host's image */
size_t kit_item (uint32_t dtype);

/** One op call: operands in the order of ops.h, NULL where absent. */
typedef struct KitCall {
    const char *name;
    KitArray *in[KIT_MAX_IN], *out[KIT_MAX_OUT];
    DpsScalar attrs[KIT_ATTRS];
    int64_t length; /* of the longest sum, for the budget; 0: 1 */
    double scale;   /* what the floor is multiplied by; 0: 1 */
} KitCall;

/**
 * The op struct of a call, with room for one more input (a plan's scratch). Trailing attributes of 0 and operands of NULL are left out: what stands
 * behind those given are bytes of KIT_BYTE. Not to be copied: it points into itself.
 */
typedef struct KitOp {
    DpsOp op;
    const DpsView *in[KIT_MAX_IN + 1], *out[KIT_MAX_OUT];
    DpsScalar attrs[KIT_ATTRS];
} KitOp;
void kit_op (const KitCall *c, KitOp *o);

/**
 * On the backend: dry, then for real. A dry call changes nothing; a call changes its outputs alone; both agree. Errors: KIT_REFUSED when the dry
 * call refuses with a reason and the real one does too; INVALID with what was broken.
 */
DpsStatus kit_call (Kit *k, const KitCall *c, DpsError *err);
/** kit_call, then every output against the oracle. A refusal is counted and DPS_OK. */
DpsStatus kit_compare (Kit *k, const KitCall *c, DpsError *err);
/** The op as the backend gets it, nothing looked at: bring inputs to the device before, and outputs back after. */
DpsStatus kit_run (Kit *k, const KitCall *c, uint32_t flags, DpsError *err);
DpsStatus kit_upload (Kit *k, const KitCall *c, DpsError *err);
DpsStatus kit_download (Kit *k, const KitCall *c, DpsError *err);
/** kit_run between the two. */
DpsStatus kit_run_moved (Kit *k, const KitCall *c, DpsError *err);
/** "linear (f32 3x17, bf16 5x17 -> f32 3x5)". Returns out. */
const char *kit_call_text (const KitCall *c, char *out, size_t cap);
/** The oracle's outputs: out[i] for every c->out[i], f64 (integers as they are). Parameters and gradients start as the call's do. */
DpsStatus kit_oracle (Kit *k, const KitCall *c, KitArray *out[KIT_MAX_OUT], DpsError *err);
/** The call itself on ref, in its own dtypes. */
DpsStatus kit_on_ref (Kit *k, const KitCall *c, DpsError *err);
/** got against want within the call's budget for output `output`. */
DpsStatus kit_close_to (Kit *k, const KitCall *c, int output, const KitArray *got, const KitArray *want, DpsError *err);
/** The real call must fail with `code` and words of its own, and leave the guard bytes alone. A refusal of the dry call is KIT_REFUSED. */
DpsStatus kit_must_fail (Kit *k, const KitCall *c, DpsStatus code, DpsError *err);
/** The bytes of both must be the same: "what: rows …". */
DpsStatus kit_same_bits (const char *what, const KitArray *got, const KitArray *want, DpsError *err);
/** Pass KIT_REFUSED on as DPS_OK, counted. */
DpsStatus kit_refusable (Kit *k, DpsStatus st);

/** Shapes that break vector loops, as all suites use them. */
extern const int64_t kit_sizes[];
extern const int64_t kit_row_counts[];
enum { KIT_SIZES = 9, KIT_ROW_COUNTS = 4 };
/** Operand `i` of mix m: every combination of f32 and bf16. */
static inline uint32_t kit_mixed (int m, int i) { return m >> i & 1 ? BF16 : F32; }

#define KIT_EACH_SHAPE(N, D)                                                                                                               \
    for (int r_ = 0; r_ < KIT_ROW_COUNTS; r_++)                                                                                            \
        for (int d_ = 0; d_ < KIT_SIZES; d_++)                                                                                             \
            for (int64_t N = kit_row_counts[r_], D = kit_sizes[d_], once_ = 1; once_; once_ = 0)

#endif
