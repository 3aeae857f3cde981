/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_safetensors.c: any bytes into the safetensors reader; what opens offers all of itself. fuzz-sources: formats/safetensors/*.c */
#include "fuzz_format.h"
