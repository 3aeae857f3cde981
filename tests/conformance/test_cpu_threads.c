/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bits that do not depend on threads: the program runs itself with OMP_NUM_THREADS 1, 2, 4 and 7 (OpenMP reads it once, at start), each time
 * hashing the outputs of ops that are large enough to be shared among threads.
 */
#include <sys/wait.h>
#include <unistd.h>

#include "base/sha256.h"
#include "conformance/device_kit.h"

enum { N = 333, D = 517, O = 1031, LINE = 96 };

static FILE *report; /* of a child: a line for each op */

static void note (const Call *c, const char *variant)
{
    DpsHasher *h = dps_hasher_new ();
    DpsDigest d;
    call (c);
    for (int i = 0; i < 4; i++)
        if (c->out[i])
            dps_hasher_add (h, c->out[i]->view.host, c->out[i]->bytes);
    CHECK_OK (dps_hasher_final (h, &d, &err));
    fprintf (report, "%s %s %.32s\n", c->name, variant, d.hex);
}

static void note_products (uint32_t t, const char *variant)
{
    Array *x = normals (t, N, D, 1), *w = normals (t, O, D, 1), *dy = normals (t, N, O, 1), *roots = roots_of (N);
    Array *head = normals (t, 16500, 64, 1), *h = normals (t, N, 64, 1), *targets = indices (N, 16500), *dlogp = normals (F32, N, -1, 1);
    note (&(Call){"linear", {x, w}, {array (t, N, O)}, {{0}}}, variant);
    note (&(Call){"linear_dx", {dy, w}, {array (t, N, D)}, {{0}}}, variant);
    note (&(Call){"linear_dw", {dy, x, roots}, {normals (F32, O, D, 1)}, {{0}}}, variant);
    note (
        &(Call){
            "token_logprobs", {h, head, targets}, {array (F32, N, -1), array (F32, N, -1), array (F32, N, -1), array (t, N, 64)}, {{0}}},
        variant);
    note (&(Call){"token_logprobs_dw", {h, head, targets, dlogp, roots}, {normals (F32, 16500, 64, 1)}, {{0}}}, variant);
    note (&(Call){"dora_norm", {w, normals (t, 4, D, 1), normals (t, O, 4, 1)}, {NULL, array (F32, O, -1)}, {{.f = 2}}}, variant);
    arrays_free ();
}

static void note_rows (uint32_t t, const char *variant)
{
    Array *x = normals (t, N, O, 1), *y = normals (t, N, O, 1), *roots = roots_of (N), *rstd = array (F32, N, -1),
          *w = normals (t, O, -1, 1);
    Array *ids = indices (N, 40), *keys = array (DPS_DTYPE_I64, N, -1);
    memset (keys->view.host, 0, keys->bytes);
    note (&(Call){"geglu", {x, y}, {array (t, N, O)}, {{0}}}, variant);
    note (&(Call){"swiglu_bwd", {x, y, x}, {array (t, N, O), array (t, N, O)}, {{0}}}, variant);
    note (&(Call){"mul_cols_dv", {x, y, roots}, {normals (F32, O, -1, 1)}, {{0}}}, variant);
    note (&(Call){"bias_db", {x, roots}, {normals (F32, O, -1, 1)}, {{0}}}, variant);
    note (&(Call){"rms_norm", {x, w}, {array (t, N, O), rstd}, {{.f = 1e-6}}}, variant);
    note (&(Call){"rms_norm_dx", {x, w, rstd, y}, {array (t, N, O)}, {{0}}}, variant);
    note (&(Call){"rms_norm_dw", {x, rstd, y, roots}, {normals (F32, O, -1, 1)}, {{0}}}, variant);
    note (&(Call){"scatter_rows", {x, ids}, {array (t, 40, O)}, {{0}}}, variant);
    note (&(Call){"embed_dw", {x, ids, roots}, {normals (F32, 40, O, 1)}, {{0}}}, variant);
    note (&(Call){"dropout", {x, keys}, {array (t, N, O)}, {{.f = 0.1}, {.i = 1}}}, variant);
    note (&(Call){"sumsq", {x}, {array (DPS_DTYPE_F64, 1, -1)}, {{0}}}, variant);
    arrays_free ();
}

static void note_attention (uint32_t t, const char *variant)
{
    const DpsSegment s[] = {{0, 200, 0, 200, -1, 0, 0, 0}, {200, 70, 200, 70, 0, 200, 0, 0}, {270, 63, 270, 63, 0, 200, 0, 0}};
    Array *q = normals (t, N, 4 * 64, 1), *k = normals (t, N, 2 * 64, 1), *v = normals (t, N, 2 * 64, 1), *table = segment_table (3, s);
    Array *o = array (t, N, 4 * 64), *lse = array (F32, N, 4), *freq = normals (F32, 32, -1, 1);
    const DpsScalar a[] = {{.i = 4}, {.i = 2}, {.i = 64}, {.f = 0.125}, {.i = 150}};
    note (&(Call){"rope", {q, table, freq}, {array (t, N, 4 * 64)}, {{.i = 64}}}, variant);
    note (&(Call){"attention", {q, k, v, table}, {o, lse}, {a[0], a[1], a[2], a[3], a[4]}}, variant);
    note (&(Call){"attention_bwd",
                  {q, k, v, o, lse, q, table},
                  {array (t, N, 4 * 64), array (t, N, 2 * 64), array (t, N, 2 * 64)},
                  {a[0], a[1], a[2], a[3], a[4]}},
          variant);
    Array *p = normals (F32, 300001, -1, 1), *g = normals (F32, 300001, -1, 1), *m = normals (F32, 300001, -1, 1),
          *v2 = filled (F32, 300001, -1, 1);
    note (&(Call){"adamw_step", {p, g, m, v2}, {p, m, v2}, {{.f = 0.1}, {.f = 0.9}, {.f = 0.99}, {.f = 1e-8}, {0}, {.i = 1}}}, variant);
    arrays_free ();
}

static void test_note_all (void)
{
    note_products (F32, "f32"), note_products (BF16, "bf16");
    note_rows (F32, "f32"), note_rows (BF16, "bf16");
    note_attention (F32, "f32"), note_attention (BF16, "bf16");
    kit_close ();
}

CHECK_SUITE (child, "cpu.threads of a child", T (test_note_all))

/* The lines of a run of this program with `threads`. */
static char *lines_with (const char *threads)
{
    char path[] = "/tmp/diapason-threads-XXXXXX", *text = calloc (1, 1 << 16);
    int fd = mkstemp (path), status = -1;
    CU_ASSERT_FATAL (fd >= 0 && text);
    pid_t pid = fork (); /* OpenMP has not started here */
    if (pid == 0) {
        setenv ("OMP_NUM_THREADS", threads, 1);
        execl ("/proc/self/exe", "cpu_threads", path, (char *)NULL);
        _exit (127);
    }
    CU_ASSERT_EQUAL (waitpid (pid, &status, 0), pid);
    CU_ASSERT_EQUAL (status, 0);
    ssize_t n = read (fd, text, (1 << 16) - 1);
    CU_ASSERT (n > 0);
    close (fd);
    unlink (path);
    return text;
}

static void test_threads_change_no_bit (void)
{
    static const char *const counts[] = {"2", "4", "7"};
    char *one = lines_with ("1");
    for (int i = 0; i < 3; i++) {
        char *other = lines_with (counts[i]), *a = one, *b = other;
        for (size_t n; *a && *b; a += n + 1, b += strcspn (b, "\n") + 1) {
            n = strcspn (a, "\n");
            if (strncmp (a, b, n + 1))
                printf ("\n    with %s threads: %.*s, with one: %.*s\n", counts[i], (int)strcspn (b, "\n"), b, (int)n, a);
        }
        CU_ASSERT_STRING_EQUAL (one, other);
        free (other);
    }
    free (one);
}

CHECK_SUITE (parent, "cpu.threads", T (test_threads_change_no_bit))

int main (int argc, char **argv)
{
    if (argc < 2)
        return parent ();
    report = fopen (argv[1], "w");
    int failed = !report || child ();
    return failed || fclose (report) != 0;
}
