/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_fold.c: any bytes made comparable, and words looked for in them. */
#include "base/fold.h"
#include "fuzz.h"

/* Input: flags, the length of the word, the word, the text. */
int LLVMFuzzerTestOneInput (const uint8_t *data, size_t size)
{
    if (size < 2)
        return 0;
    const size_t rest = size - 2, n = data[1] < rest ? data[1] : rest;
    const DpsStr word = {(const char *)data + 2, n}, text = {(const char *)data + 2 + n, rest - n};
    DpsBuf folded = {0}, twice = {0};
    require (dps_fold (text, data[0] & 15, &folded) == 0);
    const size_t len = folded.len;
    require (dps_fold (text, data[0] & 15, &folded) == 0); /* appended, the same again */
    require (folded.len == 2 * len && (!len || !memcmp (folded.data, folded.data + len, len)));
    if (word.len) {
        require (dps_has_word (word, word, 0) && dps_has_word (word, word, 1));
        require (!dps_has_word (text, word, 1) || dps_has_word (text, word, 0)); /* a whole word is there */
        require (dps_has_word (text, word, 0) == (memmem (text.ptr, text.len, word.ptr, word.len) != NULL));
        require (dps_fold (word, data[0] & 15, &twice) == 0);
        if (twice.len && len)
            (void)dps_has_word ((DpsStr){folded.data, len}, (DpsStr){twice.data, twice.len}, 1);
    }
    dps_buf_free (&folded);
    dps_buf_free (&twice);
    return 0;
}
