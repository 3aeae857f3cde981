/* SPDX-License-Identifier: Apache-2.0 */
/* The double itself: that it sees what it is there to see. Each misuse of the driver is counted as one breach, with its name. */
#include "cuda/cuda_kit.h"

#include "backends/cuda/api.h"

static CudaDriver cu;

#define CHECK_BREACH(text)                                                                                                                 \
    do {                                                                                                                                   \
        uint64_t seen_ = twin.breaches ();                                                                                                 \
        CU_ASSERT_EQUAL (seen_, before + 1);                                                                                               \
        if (seen_ > before && !strstr (twin.last_breach (), text))                                                                         \
            printf ("\n    the breach is \"%s\", expected \"%s\"\n", twin.last_breach (), text);                                           \
        CU_ASSERT_PTR_NOT_NULL (strstr (twin.last_breach (), text));                                                                       \
        before = seen_;                                                                                                                    \
    } while (0)

static void find_driver (void)
{
    void *library = dlopen ("libcuda.so.1", RTLD_NOW);
    CU_ASSERT_PTR_NOT_NULL_FATAL (library);
#define CUDA_X(member, symbol, args)                                                                                                       \
    {                                                                                                                                      \
        void *f = dlsym (library, #symbol);                                                                                                \
        CU_ASSERT_PTR_NOT_NULL_FATAL (f);                                                                                                  \
        memcpy (&cu.member, &f, sizeof f);                                                                                                 \
    }
    CUDA_DRIVER (CUDA_X)
#undef CUDA_X
}

static void test_sees_misuse (void)
{
    CuPointer p, q;
    CuStream s;
    CuContext c;
    unsigned char back[64];
    uint64_t before = twin.breaches ();
    int64_t live = twin.live ();
    find_driver ();
    CU_ASSERT_EQUAL (cu.context_retain (&c, 0), CU_OK);
    CU_ASSERT_EQUAL (cu.context_use (c), CU_OK);
    CU_ASSERT_EQUAL (cu.stream_create (&s, CU_NON_BLOCKING, 0), CU_OK);
    CU_ASSERT_EQUAL (cu.mem_alloc (&p, 64), CU_OK);
    CU_ASSERT_EQUAL (twin.live (), live + 3);

    ((unsigned char *)(uintptr_t)p)[64] = 1;
    CHECK_BREACH ("past a block of 64 bytes");
    ((unsigned char *)(uintptr_t)p)[-1] = 1;
    CHECK_BREACH ("before a block");
    CU_ASSERT_EQUAL (cu.copy_out (back, p + 8, 64, s), CU_ILLEGAL_ADDRESS);
    CHECK_BREACH ("reaches past");
    CU_ASSERT_EQUAL (cu.copy_in ((CuPointer)(uintptr_t)back, back, 8, s), CU_ILLEGAL_ADDRESS);
    CHECK_BREACH ("no block holds");

    CU_ASSERT_EQUAL (cu.mem_free (p), CU_OK);
    CU_ASSERT_EQUAL (cu.mem_free (p), CU_INVALID_VALUE);
    CHECK_BREACH ("freed twice");
    CU_ASSERT_EQUAL (cu.copy_out (back, p, 8, s), CU_ILLEGAL_ADDRESS);
    CHECK_BREACH ("after it was freed");
    *(unsigned char *)(uintptr_t)p = 0;
    CHECK_BREACH ("after it was freed");

    CU_ASSERT_EQUAL (cu.mem_managed (&q, 8, CU_ATTACH_GLOBAL), CU_OK);
    CU_ASSERT_EQUAL (cu.host_free ((void *)(uintptr_t)q), CU_INVALID_VALUE);
    CHECK_BREACH ("is freed as one of kind");
    CU_ASSERT_EQUAL (cu.stream_destroy (s), CU_OK);
    CU_ASSERT_EQUAL (cu.context_use (NULL), CU_OK);
    CU_ASSERT_EQUAL (cu.mem_alloc (&p, 64), 201); /* no context */
    CU_ASSERT_EQUAL (cu.context_release (0), CU_OK);
    CU_ASSERT_EQUAL (twin.live (), live);
}

CHECK_SUITE (run_tests, "the double", T (test_sees_misuse))

int main (void)
{
    if (!twins_load ()) {
        printf ("skipped: the double of CUDA is not built: tools/deps --test, then tools/build\n");
        return 77;
    }
    return run_tests ();
}
