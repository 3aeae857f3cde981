/* SPDX-License-Identifier: Apache-2.0 */
#include "answer.h"

#include <math.h>
#include <stdio.h>

#include "base/json.h"
#include "diapason/reward.h"

DpsStatus answer_read (const char *line, size_t len, uint64_t id, Answer *out, DpsError *err)
{
    json_t *v = NULL;
    DpsError why = DPS_ERROR_INIT;
    DpsStatus st = dps_json_parse (line, len, "the child's answer", 1, 0, &v, &why);
    *out = (Answer){.status = DPS_SCORE_FAILED, .score = NAN};
    if (st == DPS_ERR_NOMEM)
        return dps_fail (err, st, "out of memory");
    const json_t *score = json_is_object (v) ? json_object_get (v, "score") : v, *error = json_object_get (v, "error");
    const json_t *theirs = json_object_get (v, "id");
    out->out_of_step = theirs && (!json_is_integer (theirs) || (uint64_t)json_integer_value (theirs) != id);
    if (json_is_number (score) && !error) {
        out->status = DPS_SCORE_OK;
        out->score = json_number_value (score);
    } else if (json_is_null (score) && !error)
        out->status = DPS_SCORE_NOT_JUDGED;
    else
        snprintf (out->why, sizeof out->why, "%s: %.200s", error ? "the child says" : "the child's answer is no score",
                  json_is_string (error) ? json_string_value (error)
                  : st != DPS_OK         ? why.msg
                                         : "expected a number, null, or an object with score or error");
    json_decref (v);
    return DPS_OK;
}
