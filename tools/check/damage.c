/* SPDX-License-Identifier: Apache-2.0 */
#include "check/damage.h"

#include "base/rng.h"

size_t check_files_bytes (const CheckFiles *f)
{
    size_t n = 0;
    for (size_t i = 0; i < f->n; i++)
        n += f->data[i].len;
    return n;
}

/* Byte `place` of all files one after the other. */
static void locate (const CheckFiles *f, size_t place, size_t *file, size_t *byte)
{
    for (*file = 0; place >= f->data[*file].len && *file + 1 < f->n; ++*file)
        place -= f->data[*file].len;
    *byte = place;
}

int check_damage_cut (const CheckDamages *most, CheckFiles *copy, const CheckFiles *good, size_t k)
{
    const size_t n = check_files_bytes (good), third = most->cuts / 3;
    size_t file, byte, place = k;
    if (k >= n || k >= most->cuts)
        return 0;
    if (n > most->cuts)
        place = k < third ? k : k < 2 * third ? n - (2 * third - k) : third + (n - 2 * third) / (third + 3) * (k - 2 * third);
    locate (good, place, &file, &byte);
    copy->data[file].len = byte;
    return 1;
}

int check_damage_flip (const CheckDamages *most, CheckFiles *copy, const CheckFiles *good, size_t k)
{
    const size_t n = check_files_bytes (good), head = most->flips / 16;
    size_t file, byte, bit = k & 7, place = k / 8;
    if (k >= most->flips || place >= n)
        return 0;
    if (n > 2 * head && place >= head)
        place = head + (size_t)dps_rng_below (3, 4, k, n - head);
    locate (good, place, &file, &byte);
    copy->data[file].data[byte] ^= (char)(1 << bit);
    return 1;
}
