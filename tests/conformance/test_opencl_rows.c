/* SPDX-License-Identifier: Apache-2.0 */
/* The cases of test_cpu_rows.c on opencl. */
#define KIT_DEVICE "opencl"
#include "conformance/test_cpu_rows.c"
