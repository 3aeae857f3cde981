/* SPDX-License-Identifier: Apache-2.0 */
/*
 * typical.c: one line per op. An operand is a letter for what stands in it and letters for its shape:
 *   t numbers in the dtype asked for   f in f32   p positive f32   q positive t   d f64   j i32 to be written
 *   iNV  N indices below V             uN the numbers 0 … N-1      lN keys (i64)   rN roots of N rows   g segments over N rows
 *   + in front: has numbers before the call (it is added to, or written in part);   =2 input 2 itself, in place
 * Shapes: N D O V as in typical.h, Q = H·h, P = G·h, H, E = h/2, R = 4, M = N·D, 1.
 */
#include "check/typical.h"

#include <math.h>
#include <string.h>

const TypicalSize typical_small = {7, 18, 13, 29, 2, 1, 6};
const TypicalSize typical_large = {333, 517, 1031, 2053, 4, 2, 64};
const TypicalSize typical_step = {1024, 640, 2048, 16384, 4, 1, 256};

static const struct {
    const char *op, *in, *out;
    DpsScalar attrs[7];
} lines[] = {
    {"fill", "", "tND", {{.f = -1.25}}},
    {"copy", "tND", "tND", {{0}}},
    {"add", "tND tND", "tND", {{0}}},
    {"mul", "tND tND", "tND", {{0}}},
    {"div", "tND qND", "tND", {{0}}},
    {"softcap", "tND", "tND", {{.f = 2}}},
    {"exp", "tND", "tND", {{0}}},
    {"log", "qND", "tND", {{0}}},
    {"sqrt", "qND", "tND", {{0}}},
    {"mul_cols", "tND tD", "tND", {{0}}},
    {"add_cols", "tND tD", "tND", {{0}}},
    {"mul_cols_dv", "tND tND rN", "+fD", {{0}}},
    {"scale_rows", "tND fN", "tND", {{0}}},
    {"dropout", "tND lN", "tND", {{.f = 0.1}, {.i = 1}}},
    {"embed", "tVD iNV", "tND", {{.f = 1.5}}},
    {"embed_dw", "tND iNV rN", "+fVD", {{0}}},
    {"gather_rows", "tVD iNV", "tND", {{0}}},
    {"scatter_rows", "tND iNV", "tVD", {{0}}},
    {"put_rows", "tND uN", "+tVD", {{0}}},
    {"rms_norm", "tND tD", "tND fN", {{.f = 1e-6}}},
    {"rms_norm_dx", "tND tD pN tND", "tND", {{.f = 1e-6}}},
    {"rms_norm_dw", "tND pN tND rN", "+fD", {{.f = 1e-6}}},
    {"linear", "tND tOD", "tNO", {{0}}},
    {"linear_dx", "tNO tOD", "tND", {{0}}},
    {"linear_dw", "tNO tND rN", "+fOD", {{0}}},
    {"bias_db", "tNO rN", "+fO", {{0}}},
    {"dora_norm", "tOD tRD tOR fO", "fO fO", {{.f = 2}}},
    {"rope", "tNQ g pE", "tNQ", {{0}}},
    {"attention", "tNQ tNP tNP g", "tNQ fNH", {{0}}},
    {"attention_bwd", "tNQ tNP tNP tNQ fNH tNQ g", "tNQ tNP tNP", {{0}}},
    {"geglu", "tND tND", "tND", {{0}}},
    {"swiglu", "tND tND", "tND", {{0}}},
    {"geglu_bwd", "tND tND tND", "tND tND", {{0}}},
    {"swiglu_bwd", "tND tND tND", "tND tND", {{0}}},
    {"token_logprobs", "tND tVD iNV", "fN fN fN tND", {{0}}},
    {"row_logprobs", "fNV iNV", "fN", {{0}}},
    {"token_logprobs_dw", "tND tVD iNV fN rN", "+fVD", {{0}}},
    {"sumsq", "tND", "d1", {{0}}},
    {"range", "", "jN", {{.i = 3}, {.i = 1}}},
    {"row_max", "tND", "tN1 jN", {{0}}},
    {"one_hot", "iNV", "tNV", {{0}}},
    {"segment_mask", "g", "tNN", {{0}}},
    {"rope_angles", "g pE", "tNE tNE", {{0}}},
    {"adamw_step", "fM fM fM pM", "=0 =2 =3", {{.f = 0.1}, {.f = 0.9}, {.f = 0.99}, {.f = 1e-8}, {.f = 0.01}, {.i = 1}}},
    {"sgd_step", "fM fM fM", "=0 =2", {{.f = 0.1}, {.f = 0.9}}},
};
enum { N_LINES = sizeof lines / sizeof *lines };

static int64_t letter (const TypicalSize *z, char c)
{
    switch (c) {
    case 'N': return z->N;
    case 'D': return z->D;
    case 'O': return z->O;
    case 'V': return z->V;
    case 'H': return z->H;
    case 'Q': return z->H * z->h;
    case 'P': return z->G * z->h;
    case 'E': return z->h / 2;
    case 'R': return 4;
    case 'M': return z->N * z->D;
    default: return 1;
    }
}

/* Three sequences: one by itself, two that share a prefix. */
static KitArray *segments (Kit *k, int64_t n)
{
    int32_t a = (int32_t)(n / 3), b = (int32_t)(n / 2), c = (int32_t)(n - n / 6), e = (int32_t)n;
    const DpsSegment s[] = {{0, a, 0, a, -1, 0, 0, 0},
                            {a, b - a, a, b - a, -1, 0, 0, 0},
                            {b, c - b, b, c - b, 1, b - a, 0, 0},
                            {c, e - c, c, e - c, 1, b - a, 0, 0}};
    return kit_segments (k, 4, s);
}

static void make_positive (KitArray *a)
{
    for (int64_t i = 0; a && i < a->n; i++)
        kit_put (a, i, fabs (kit_get (a, i)) + 0.25);
}

static KitArray *counted (Kit *k, uint32_t dtype, int64_t n)
{
    KitArray *a = kit_array (k, dtype, n, -1);
    for (int64_t i = 0; a && i < n; i++)
        kit_put (a, i, (double)i);
    return a;
}

/* One operand at s ("tND", "iNV" …); the call's inputs are there already. */
static KitArray *operand (Kit *k, const char *s, uint32_t t, const TypicalSize *z, const KitCall *c, int is_input)
{
    int filled = is_input;
    if (*s == '=')
        return c->in[s[1] - '0'];
    if (*s == '+') {
        filled = 1;
        s++;
    }
    int64_t rows = letter (z, s[1]), cols = s[1] && s[2] && s[2] != ' ' ? letter (z, s[2]) : -1;
    switch (*s) {
    case 'i': return kit_indices (k, rows, cols);
    case 'u': return counted (k, I32, rows);
    case 'l': return counted (k, DPS_DTYPE_I64, rows);
    case 'r': return kit_roots (k, rows);
    case 'g': return segments (k, z->N);
    case 'j': return kit_array (k, I32, rows, -1);
    default: break;
    }
    uint32_t dtype = *s == 't' || *s == 'q' ? t : *s == 'd' ? F64 : F32;
    KitArray *a = filled ? kit_normals (k, dtype, rows, cols, 1) : kit_array (k, dtype, rows, cols);
    if (*s == 'p' || *s == 'q')
        make_positive (a);
    return a;
}

static void set_attention_attrs (KitCall *c, const TypicalSize *z)
{
    const DpsScalar attention[] = {{.i = z->H}, {.i = z->G}, {.i = z->h}, {.f = 1 / sqrt ((double)z->h)}, {.i = z->N > 200 ? 150 : 0}};
    if (!strncmp (c->name, "attention", 9))
        memcpy (c->attrs, attention, sizeof attention);
    else if (!strcmp (c->name, "rope"))
        c->attrs[0].i = z->h;
}

DpsStatus typical_call (Kit *k, const char *op, uint32_t dtype, const TypicalSize *z, KitCall *out, DpsError *err)
{
    int line = 0, n = 0;
    while (line < N_LINES && strcmp (lines[line].op, op) != 0)
        line++;
    if (line == N_LINES)
        return dps_fail (err, DPS_ERR_INTERNAL, "typical.c has no line for op '%s'", op);
    *out = (KitCall){.name = lines[line].op};
    memcpy (out->attrs, lines[line].attrs, sizeof lines[line].attrs);
    set_attention_attrs (out, z);
    for (const char *s = lines[line].in; *s; s += strcspn (s, " "), s += *s == ' ')
        out->in[n++] = operand (k, s, dtype, z, out, 1);
    n = 0;
    for (const char *s = lines[line].out; *s; s += strcspn (s, " "), s += *s == ' ')
        out->out[n++] = operand (k, s, dtype, z, out, 0);
    return k->failed_alloc ? dps_fail (err, DPS_ERR_NOMEM, "%s: no memory for the operands", op) : DPS_OK;
}

double typical_flops (const char *op, const TypicalSize *z)
{
    double N = (double)z->N, product = 2 * N * (double)z->D, seen = 0;
    /* keys that the rows of segments () see: half of its own run, and all of its ancestors' */
    const double runs[] = {N / 3, N / 6, N / 3, N / 6}, before[] = {0, 0, N / 6, N / 6};
    for (int i = 0; i < 4; i++)
        seen += runs[i] * (runs[i] / 2 + before[i]);
    if (!strcmp (op, "linear") || !strcmp (op, "linear_dx") || !strcmp (op, "linear_dw"))
        return product * (double)z->O;
    if (!strcmp (op, "token_logprobs") || !strcmp (op, "token_logprobs_dw")) /* logits, and the sum over rows of W or of h */
        return 2 * product * (double)z->V;
    if (!strcmp (op, "attention"))
        return 4 * seen * (double)(z->H * z->h);
    if (!strcmp (op, "attention_bwd"))
        return 10 * seen * (double)(z->H * z->h);
    return 0;
}

double typical_bytes (const KitCall *c)
{
    double bytes = 0;
    for (int i = 0; i < KIT_MAX_IN; i++)
        bytes += c->in[i] ? (double)c->in[i]->span : 0;
    for (int i = 0; i < KIT_MAX_OUT; i++)
        bytes += c->out[i] ? (double)c->out[i]->span : 0;
    return bytes;
}
