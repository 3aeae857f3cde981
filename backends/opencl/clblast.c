/* SPDX-License-Identifier: Apache-2.0 */
/*
 * clblast.c: products by CLBlast, where DIAPASON_OPENCL_GEMM=clblast asks for it: found at run time, nothing is linked. It chooses a kernel by the whole
 * product's shape, so a row's bits depend on the number of rows: the class is DPS_DETERMINISM_THREADS then, as with cuBLASLt.
 * Reference: CLBlast 1.5, clblast_c.h.
 */
#include "opencl.h"

#include <dlfcn.h>
#include <string.h>

enum { ROW_MAJOR = 101, NOT_TRANSPOSED = 111, TRANSPOSED = 112 };

typedef int (*Sgemm) (int layout, int a_transpose, int b_transpose, size_t m, size_t n, size_t k, float alpha, cl_mem a, size_t a_offset,
                      size_t a_ld, cl_mem b, size_t b_offset, size_t b_ld, float beta, cl_mem c, size_t c_offset, size_t c_ld,
                      cl_command_queue *queue, cl_event *event);

static Sgemm sgemm; /* NULL: not asked for */

DpsStatus opencl_clblast_open (DpsError *err)
{
    char which[32] = "";
    if (!opencl_host.config_get || !opencl_host.config_get (dps_str ("opencl.gemm"), which, sizeof which) || !strcmp (which, "own"))
        return DPS_OK;
    if (strcmp (which, "clblast"))
        return dps_fail (err, DPS_ERR_INVALID, "opencl: DIAPASON_OPENCL_GEMM is '%.31s', expected own or clblast", which);
    void *library = dlopen ("libclblast.so.1", RTLD_NOW | RTLD_LOCAL);
    void *symbol = library ? dlsym (library, "CLBlastSgemm") : NULL;
    if (!symbol)
        return dps_fail (err, DPS_ERR_DEVICE, "opencl: DIAPASON_OPENCL_GEMM asks for CLBlast: %s. Hint: apt install libclblast1",
                         dlerror ());
    memcpy (&sgemm, &symbol, sizeof sgemm);
    return DPS_OK;
}

int opencl_clblast_used (void) { return sgemm != NULL; }

static size_t first_of (const DpsView *v) { return v->offset / sizeof (float); }

DpsStatus opencl_clblast_multiply (const DpsLaunch *l, const DpsMatrices *p, DpsError *err)
{
    struct DpsQueue *q = l->ctx;
    int direct = p->y->dtype == DPS_DTYPE_F32 && dps_launch_adds_to_y (p);
    int64_t shapes[3] = {0, 0, p->M * p->N};
    DpsView a, b, to = *p->y;
    DPS_TRY (dps_launch_as_dtype (l, p->a, DPS_DTYPE_F32, DPS_SCRATCH_A, &shapes[0], &a, err));
    DPS_TRY (dps_launch_as_dtype (l, p->b, DPS_DTYPE_F32, DPS_SCRATCH_PANELS, &shapes[1], &b, err));
    if (!direct)
        DPS_TRY (dps_launch_temp (l, DPS_SCRATCH_SUM, DPS_DTYPE_F32, 1, &shapes[2], &to, err));
    int e = sgemm (ROW_MAJOR, p->a_turned ? TRANSPOSED : NOT_TRANSPOSED, p->b_turned ? NOT_TRANSPOSED : TRANSPOSED, (size_t)p->M,
                   (size_t)p->N, (size_t)p->K, p->alpha, a.buffer->memory, first_of (&a), (size_t)(p->a_turned ? p->M : p->K),
                   b.buffer->memory, first_of (&b), (size_t)(p->b_turned ? p->N : p->K), direct && p->c ? 1.0f : 0.0f, to.buffer->memory,
                   first_of (&to), (size_t)(direct ? p->ldy : p->N), &q->queue, NULL);
    if (e != 0)
        return opencl_fail (err, DPS_ERR_DEVICE, e, "CLBlast's Sgemm");
    return direct ? DPS_OK : dps_launch_finish (l, p, &to, err);
}
