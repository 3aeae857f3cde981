/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DIAPASON_CUDA_GEMM=int8: linear with a weight of INT8 has the bits of the plain formula; what cuBLASLt takes no codes of has those of numbers; how
 * far it is from exact inputs.
 */
#include <math.h>

#include "cuda/cuda_kit.h"
#include "quant_kit.h"

#include "plugin/host.h"

/* One linear: x (M,K), bias (N), c (M,N), y (M,N), all f32 in host memory but y. */
typedef struct Linear {
    int64_t M, K, N, of_x[2], of_c[2];
    Quantised *w;
    float *x, *bias, *c;
    Vec y;
    DpsView views[3];
    const DpsView *in[4];
    DpsScalar alpha;
} Linear;

static DpsView rows (const int64_t *shape, uint32_t rank, float *host)
{
    return (DpsView){.size = sizeof (DpsView), .dtype = DPS_DTYPE_F32, .rank = rank, .shape = shape, .host = host};
}

static float *normal (int64_t n, uint64_t seed)
{
    float *v = calloc ((size_t)n, sizeof *v);
    for (int64_t i = 0; i < n; i++)
        v[i] = (float)dps_rng_normal (seed, 1, (uint64_t)i);
    return v;
}

static Linear *linear_make (int64_t M, int64_t K, int64_t N)
{
    DpsQuantNames names;
    Linear *l = calloc (1, sizeof *l);
    CU_ASSERT_PTR_NOT_NULL_FATAL (l);
    CU_ASSERT_EQUAL_FATAL (dps_quant_names (dps_host ()->intern, &names), 0);
    *l = (Linear){.M = M, .K = K, .N = N, .of_x = {M, K}, .of_c = {M, N}, .alpha = {.f = 1}};
    l->w = quantised (&names, (DpsQuantForm){DPS_QUANT_INT8, 0, 0}, N, K, 7);
    l->x = normal (M * K, 1), l->bias = normal (N, 2), l->c = normal (M * N, 3);
    l->views[0] = rows (l->of_x, 2, l->x), l->views[1] = rows (&l->of_c[1], 1, l->bias), l->views[2] = rows (l->of_c, 2, l->c);
    l->in[0] = &l->views[0], l->in[1] = &l->w->view, l->in[2] = &l->views[1], l->in[3] = &l->views[2];
    vec (&l->y, M, N, 0, 0);
    return l;
}

static void linear_free (Linear *l)
{
    quantised_free (l->w);
    free (l->x), free (l->bias), free (l->c);
    vec_free (&l->y);
    free (l);
}

static DpsStatus linear_run (Linear *l)
{
    const DpsView *out[1] = {&l->y.view};
    const DpsOp op = {
        .size = sizeof op, .id = dps_intern ("linear"), .n_in = 4, .n_out = 1, .n_attrs = 1, .in = l->in, .out = out, .attrs = &l->alpha};
    return be->run (dev, &op, 0, &err);
}

static double exact (const Linear *l, int64_t m, int64_t n)
{
    double sum = 0;
    for (int64_t k = 0; k < l->K; k++)
        sum += (double)l->x[m * l->K + k] * (double)l->w->values[n * l->K + k];
    return l->alpha.f * sum + (l->in[2] ? (double)l->bias[n] : 0) + (l->in[3] ? (double)l->c[m * l->N + n] : 0);
}

/* The formula, operation by operation: one row. */
static void by_codes (const Linear *l, int64_t m, float *y)
{
    const int8_t *b = l->w->view.host;
    const float *scales = l->w->bytes[DPS_QPART_SCALES];
    int8_t *a = calloc ((size_t)l->K, 1);
    float scale;
    CHECK_OK (dps_quant_encode_row (l->x + m * l->K, l->K, a, &scale, &err));
    for (int64_t n = 0; n < l->N; n++) {
        int32_t sum = 0;
        for (int64_t k = 0; k < l->K; k++)
            sum += a[k] * b[n * l->K + k];
        const float share = scales[n] * (1.0f / 16129), product = (float)sum * scale * share;
        y[n] = (float)l->alpha.f * product;
        if (l->in[2])
            y[n] += l->bias[n];
        if (l->in[3])
            y[n] += l->c[m * l->N + n];
    }
    free (a);
}

static int has_codes_bits (const Linear *l)
{
    float *want = calloc ((size_t)l->N, sizeof *want);
    int64_t same = 0;
    for (int64_t m = 0; m < l->M; m++) {
        by_codes (l, m, want);
        same += !memcmp (want, l->y.host + m * l->N, (size_t)l->N * sizeof *want);
    }
    free (want);
    return same == l->M;
}

static void test_formula (void)
{
    static const int64_t shapes[][3] = {{1, 4, 4}, {7, 64, 12}, {33, 640, 2052}};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        Linear *l = linear_make (shapes[i][0], shapes[i][1], shapes[i][2]);
        memset (l->x, 0, (size_t)l->K * sizeof (float)); /* a row of zeros has scale 0 */
        l->alpha.f = 0.75;
        CHECK_OK (linear_run (l));
        CU_ASSERT (has_codes_bits (l));
        l->in[2] = l->in[3] = NULL;
        CHECK_OK (linear_run (l));
        CU_ASSERT (has_codes_bits (l));
        CU_ASSERT (l->y.host[0] == 0);
        linear_free (l);
    }
}

/* Halves are rounded to even, as bitsandbytes does; the least number there is does not overflow its scale. */
static void test_rounding (void)
{
    const float x[8] = {127, 0.5f, 1.5f, -2.5f, 1e-45f, 0, 0, 0};
    Linear *l = linear_make (2, 4, 4);
    l->in[2] = l->in[3] = NULL;
    memcpy (l->x, x, sizeof x);
    memset (l->w->view.host, 0, 16);
    for (int n = 0; n < 4; n++) { /* y[n] is x[n], by an identity */
        ((int8_t *)l->w->view.host)[5 * n] = 127;
        ((float *)l->w->bytes[DPS_QPART_SCALES])[n] = 1;
    }
    CHECK_OK (linear_run (l));
    const double want[4] = {127, 0, 2, -2};
    for (int n = 0; n < 4; n++)
        CHECK_NEAR ((double)l->y.host[n], want[n], 1e-5);
    CU_ASSERT (l->y.host[4] == 1e-45f);
    linear_free (l);
}

/* bf16 in and out: the same codes, one rounding at the end. A NaN or an infinity poisons its row and no other. */
static void test_bf16 (void)
{
    Linear *l = linear_make (3, 16, 8);
    uint16_t half[3 * 16], y[3 * 8];
    for (int i = 0; i < 3 * 16; i++) {
        uint32_t bits;
        memcpy (&bits, &l->x[i], 4);
        half[i] = (uint16_t)(bits >> 16);
        bits &= 0xffff0000u;
        memcpy (&l->x[i], &bits, 4);
    }
    half[16 + 3] = 0x7f80, half[32 + 5] = 0x7fc0;
    l->views[0].dtype = l->y.view.dtype = DPS_DTYPE_BF16;
    l->views[0].host = half;
    CHECK_OK (linear_run (l));
    memcpy (y, l->y.host, sizeof y);
    float want[8];
    by_codes (l, 0, want);
    for (int n = 0; n < 8; n++) {
        uint32_t bits;
        memcpy (&bits, &want[n], 4);
        CU_ASSERT_EQUAL (y[n], (bits + 0x7fff + (bits >> 16 & 1)) >> 16);
        CU_ASSERT ((y[8 + n] & 0x7fff) > 0x7f80 && (y[16 + n] & 0x7fff) > 0x7f80);
    }
    linear_free (l);
}

static void test_takes_numbers_elsewhere (void)
{
    static const int64_t shapes[][3] = {{5, 6, 8}, {5, 8, 6}, {3, 0, 8}, {0, 8, 8}};
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
        Linear *l = linear_make (shapes[i][0], shapes[i][1], shapes[i][2]);
        CHECK_OK (linear_run (l));
        for (int64_t j = 0; j < l->M * l->N; j++)
            CHECK_NEAR ((double)l->y.host[j], exact (l, j / l->N, j % l->N), 1e-5);
        linear_free (l);
    }
    Linear *l = linear_make (5, 8, 8);
    struct DpsBuffer *b;
    unsigned char *host;
    void *at;
    CHECK_OK (be->alloc (dev, 65, &b, &at, &err));
    host = at;
    memcpy (host + 1, l->w->view.host, 64);
    DpsView moved = l->w->view;
    moved.buffer = b, moved.host = NULL, moved.offset = 1; /* no whole word */
    l->in[1] = &moved;
    CHECK_OK (linear_run (l));
    for (int64_t j = 0; j < 40; j++)
        CHECK_NEAR ((double)l->y.host[j], exact (l, j / 8, j % 8), 1e-5);
    be->free (dev, b);
    linear_free (l);
}

/* Scales that begin within an element would be read from another place. */
static void test_part_between_elements (void)
{
    Linear *l = linear_make (5, 8, 8);
    struct DpsBuffer *b;
    CHECK_OK (be->alloc (dev, 40, &b, NULL, &err));
    DpsPart *scales = &l->w->parts[DPS_QPART_SCALES];
    scales->buffer = b, scales->host = NULL, scales->offset = 2;
    CHECK_FAILS (linear_run (l), DPS_ERR_INVALID, "begins at byte 2 of its buffer");
    be->free (dev, b);
    linear_free (l);
}

/* The gradient of the input takes numbers, as ever. */
static void test_input_gradient (void)
{
    Linear *l = linear_make (5, 8, 12);
    Vec dx;
    vec (&dx, 5, 8, 0, 0);
    const DpsView *in[3] = {&l->views[2], &l->w->view, NULL}, *out[1] = {&dx.view};
    const DpsOp op = {
        .size = sizeof op, .id = dps_intern ("linear_dx"), .n_in = 3, .n_out = 1, .n_attrs = 1, .in = in, .out = out, .attrs = &l->alpha};
    CHECK_OK (be->run (dev, &op, 0, &err));
    for (int64_t m = 0; m < 5; m++)
        for (int64_t k = 0; k < 8; k++) {
            double sum = 0;
            for (int64_t n = 0; n < 12; n++)
                sum += (double)l->c[m * 12 + n] * (double)l->w->values[n * 8 + k];
            CHECK_NEAR ((double)dx.host[m * 8 + k], sum, 1e-5);
        }
    vec_free (&dx);
    linear_free (l);
}

/* ‖y − exact‖ / ‖exact‖. */
static double error_of (int64_t M, int64_t K, int64_t N, float outlier)
{
    Linear *l = linear_make (M, K, N);
    double off = 0, all = 0;
    l->in[2] = l->in[3] = NULL;
    for (int64_t m = 0; m < M; m++)
        l->x[m * K + 3] *= outlier;
    CHECK_OK (linear_run (l));
    for (int64_t j = 0; j < M * N; j++) {
        double want = exact (l, j / N, j % N), d = (double)l->y.host[j] - want;
        off += d * d;
        all += want * want;
    }
    linear_free (l);
    return sqrt (off / all);
}

/* The README has these numbers. */
static void test_error (void)
{
    const double tiny = error_of (16, 32, 64, 1), gemma = error_of (16, 640, 2048, 1), wide = error_of (16, 2048, 640, 1),
                 outlier = error_of (16, 640, 2048, 60);
    printf ("(%.4f %.4f %.4f, an outlier %.4f) ", tiny, gemma, wide, outlier);
    CU_ASSERT (tiny > 1e-4 && tiny < 0.01);
    CU_ASSERT (gemma > 1e-4 && gemma < 0.01);
    CU_ASSERT (wide > 1e-4 && wide < 0.01);
    CU_ASSERT (outlier > gemma);
}

static void test_values_there_are (void)
{
    dps_registry_close (registry);
    CHECK_OK (dps_host_config_set ("cuda.gemm", "int4", &err));
    CHECK_FAILS (kit_open (&err), DPS_ERR_INVALID, "DIAPASON_CUDA_GEMM is 'int4', expected cublaslt, dialect or int8");
    CHECK_OK (dps_host_config_set ("cuda.gemm", "cublaslt", &err));
    CHECK_OK (kit_open (&err));
    Linear *l = linear_make (5, 8, 12);
    CHECK_OK (linear_run (l));
    CU_ASSERT (!has_codes_bits (l));
    CHECK_NEAR ((double)l->y.host[59], exact (l, 4, 11), 1e-5);
    linear_free (l);
}

CHECK_SUITE (run_tests, "cuda int8", T (test_formula), T (test_rounding), T (test_bf16), T (test_takes_numbers_elsewhere),
             T (test_part_between_elements), T (test_input_gradient), T (test_error), T (test_values_there_are))

__attribute__ ((constructor)) static void by_int8 (void) { setenv ("DIAPASON_CUDA_GEMM", "int8", 1); }

KIT_MAIN (run_tests)
