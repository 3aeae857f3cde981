/* SPDX-License-Identifier: Apache-2.0 */
#include "infer/score.h"

#include <string.h>

#include "base/mem.h"

static void spread (const DpsSequence *sequences, size_t n, const float *logp, float *out)
{
    for (size_t i = 0; i < n; i++) {
        if (sequences[i].n == 0)
            continue;
        *out++ = 0;
        memcpy (out, logp, (sequences[i].n - 1) * sizeof *out);
        out += sequences[i].n - 1;
        logp += sequences[i].n - 1;
    }
}

DpsStatus dps_score (DpsWeights *w, const DpsSequence *sequences, size_t n, float *out, DpsError *err)
{
    static const DpsPassOptions options = {0};
    DpsBatch b;
    DpsPass p;
    DpsSequence *plain = dps_malloc (n ? n : 1, sizeof *plain);
    if (!plain)
        return dps_fail (err, DPS_ERR_NOMEM, "score: out of memory");
    for (size_t i = 0; i < n; i++) {
        plain[i] = sequences[i];
        plain[i].weights = NULL;
    }
    DpsStatus st = dps_batch_build (plain, n, w->model->dec.vocab, &b, err);
    dps_free (plain);
    DPS_TRY (st);
    if (b.n_scored == 0) {
        spread (sequences, n, NULL, out);
        dps_batch_free (&b);
        return DPS_OK;
    }
    st = dps_pass_open (&p, w, &b, &options, err);
    if (st == DPS_OK) {
        st = dps_exec_reserve (w->ex, p.peak, err);
        if (st == DPS_OK)
            st = dps_pass_forward (&p, err);
        if (st == DPS_OK)
            spread (sequences, n, dps_pass_logp (&p), out);
        dps_pass_close (&p);
    }
    dps_batch_free (&b);
    return st;
}
