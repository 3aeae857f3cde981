/* SPDX-License-Identifier: Apache-2.0 */
/* The cases of test_cpu_attention.c on opencl. */
#define KIT_DEVICE "opencl"
#include "conformance/test_cpu_attention.c"
