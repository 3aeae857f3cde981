/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_process.c: any bytes as a line of a judging program: a score, a reason, or it is out of step. fuzz-sources: algorithms/reward_process/answer.c */
#include <math.h>

#include "algorithms/reward_process/answer.h"
#include "diapason/diapason.h"
#include "fuzz.h"

int LLVMFuzzerTestOneInput (const uint8_t *data, size_t size)
{
    Answer a;
    DpsBuf line = fuzz_copy ((DpsStr){(const char *)data, size});
    require (answer_read (line.len ? line.data : "", line.len, 17, &a, NULL) == DPS_OK);
    require (memchr (a.why, '\0', sizeof a.why) != NULL);
    require (a.out_of_step || (a.status == DPS_SCORE_OK) == (isfinite (a.score) != 0));
    require (a.out_of_step || (a.status == DPS_SCORE_FAILED) == (a.why[0] != '\0'));
    dps_buf_free (&line);
    return 0;
}
