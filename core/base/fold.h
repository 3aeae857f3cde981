/* SPDX-License-Identifier: Apache-2.0 */
/* fold.h: texts made comparable: case, accents, spaces, punctuation. A plugin that uses it links utf8proc. */
#ifndef DPS_BASE_FOLD_H
#define DPS_BASE_FOLD_H

#include "base/mem.h"
#include "diapason/types.h"

enum {
    DPS_FOLD_CASE = 1,        /* full case folding: "STRASSE" and "straße" are alike */
    DPS_FOLD_MARKS = 2,       /* accents off: "é" is "e" */
    DPS_FOLD_SPACES = 4,      /* none at the ends, one between words, of any kind */
    DPS_FOLD_PUNCTUATION = 8, /* punctuation is space */
};

/** Append the text in compatibility decomposition, folded. Bytes that are no UTF-8 stay as they are. 0, or -1: no memory. [any] */
int dps_fold (DpsStr text, unsigned flags, DpsBuf *out);

/** Does a text hold `word` (not empty), and with `whole` neither preceded nor followed by a letter, mark or digit? In linear time. [any] */
int dps_has_word (DpsStr text, DpsStr word, int whole);

#endif
