/* SPDX-License-Identifier: Apache-2.0 */
/* damage.h: damaged copies of good files: each cut short somewhere, or with one bit of it turned. */
#ifndef DPS_CHECK_DAMAGE_H
#define DPS_CHECK_DAMAGE_H

#include "check/content.h"

/** How many copies are tried at most. */
typedef struct CheckDamages {
    size_t cuts, flips;
} CheckDamages;

/** Make copy, which is as good is, the damaged copy number k. 0: there are no more. Pure. [any] */
typedef int (*CheckDamage) (const CheckDamages *most, CheckFiles *copy, const CheckFiles *good, size_t k);

/** One file ends early: every cut of small files; of larger ones those near their ends, and some between. */
int check_damage_cut (const CheckDamages *most, CheckFiles *copy, const CheckFiles *good, size_t k);
/** One bit is another: of the first bytes, where a header is, and then some everywhere. */
int check_damage_flip (const CheckDamages *most, CheckFiles *copy, const CheckFiles *good, size_t k);

/** Bytes of all files together. */
size_t check_files_bytes (const CheckFiles *f);

#endif
