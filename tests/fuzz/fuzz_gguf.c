/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_gguf.c: any bytes into the GGUF reader; what opens offers all of itself. fuzz-sources: formats/gguf/*.c */
#include "fuzz_format.h"
