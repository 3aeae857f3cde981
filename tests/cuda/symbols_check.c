/* SPDX-License-Identifier: Apache-2.0 */
/* symbols_check.c: the real cuBLASLt and NCCL have every function that backends/cuda looks for. symbols_check LIBCUBLASLT LIBNCCL; needs no driver. */
#include <dlfcn.h>
#include <stdio.h>

#include "backends/cuda/api.h"

static int missing;

static void look (void *library, const char *symbol)
{
    if (dlsym (library, symbol))
        return;
    printf ("there is no %s\n", symbol);
    missing++;
}

int main (int argc, char **argv)
{
    void *lt = argc > 2 ? dlopen (argv[1], RTLD_LAZY) : NULL, *nccl = argc > 2 ? dlopen (argv[2], RTLD_LAZY) : NULL;
    if (!lt || !nccl) {
        printf ("%s\n", argc > 2 ? dlerror () : "usage: symbols_check LIBCUBLASLT LIBNCCL");
        return 2;
    }
#define CUDA_X(member, symbol, result, args) look (lt, #symbol);
    CUDA_LT (CUDA_X)
#undef CUDA_X
#define CUDA_X(member, symbol, args) look (nccl, #symbol);
    CUDA_NCCL (CUDA_X)
#undef CUDA_X
    return missing != 0;
}
