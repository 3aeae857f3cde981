/* SPDX-License-Identifier: Apache-2.0 */
/*
 * schedule.c: formulas of transformers 5.23 (optimization.py), evaluated in f64 in the order of operations it uses, so that values agree to
 * the last bits. Departures: warmup_stable_decay has a default decay length, and a polynomial whose warm-up fills the run does not divide
 * by zero.
 */
#include "optim/schedule.h"

#include <math.h>
#include <string.h>

static const char *const type_names[] = {
#define DPS_X(name, text) text,
    DPS_SCHEDULES (DPS_X)
#undef DPS_X
};
enum { N_TYPES = sizeof type_names / sizeof *type_names };

static const char *const ramp_names[] = {"linear", "cosine", "1-sqrt"};

/* Which types take a key of lr_scheduler_kwargs. */
#define BIT(type) (1u << DPS_SCHEDULE_##type)
enum { COSINES = BIT (COSINE) | BIT (COSINE_WITH_RESTARTS) | BIT (COSINE_WITH_MIN_LR) };
typedef enum Kind { KIND_COUNT, KIND_NUMBER, KIND_RATE, KIND_MIN_LR, KIND_RAMP } Kind;
static const struct {
    const char *key;
    unsigned types;
    Kind kind;
    size_t offset;
} keys[] = {
    {"num_cycles", COSINES | BIT (WARMUP_STABLE_DECAY), KIND_NUMBER, offsetof (DpsSchedule, num_cycles)},
    {"power", BIT (POLYNOMIAL), KIND_NUMBER, offsetof (DpsSchedule, power)},
    {"lr_end", BIT (POLYNOMIAL), KIND_NUMBER, offsetof (DpsSchedule, lr_end)},
    {"min_lr", BIT (COSINE_WITH_MIN_LR), KIND_MIN_LR, offsetof (DpsSchedule, min_lr_rate)},
    {"min_lr_rate", BIT (COSINE_WITH_MIN_LR), KIND_RATE, offsetof (DpsSchedule, min_lr_rate)},
    {"min_lr_ratio", BIT (WARMUP_STABLE_DECAY), KIND_RATE, offsetof (DpsSchedule, min_lr_rate)},
    {"timescale", BIT (INVERSE_SQRT), KIND_COUNT, offsetof (DpsSchedule, timescale)},
    {"num_decay_steps", BIT (WARMUP_STABLE_DECAY), KIND_COUNT, offsetof (DpsSchedule, decay_steps)},
    {"num_stable_steps", BIT (WARMUP_STABLE_DECAY), KIND_COUNT, offsetof (DpsSchedule, stable_steps)},
    {"warmup_type", BIT (WARMUP_STABLE_DECAY), KIND_RAMP, offsetof (DpsSchedule, warmup_type)},
    {"decay_type", BIT (WARMUP_STABLE_DECAY), KIND_RAMP, offsetof (DpsSchedule, decay_type)},
};
enum { N_KEYS = sizeof keys / sizeof *keys };

const char *dps_schedule_name (DpsScheduleType type) { return (size_t)type < N_TYPES ? type_names[type] : "?"; }

/* "a, b, c": the names a message offers. */
static void join_names (char *to, size_t cap, const char *const *names, size_t n)
{
    size_t used = 0;
    to[0] = '\0';
    for (size_t i = 0; i < n && used < cap; i++)
        used += (size_t)snprintf (to + used, cap - used, "%s%s", i ? ", " : "", names[i]);
}

static DpsStatus find_type (const char *name, DpsScheduleType *out, DpsError *err)
{
    char known[400];
    for (size_t i = 0; i < N_TYPES; i++)
        if (!strcmp (type_names[i], name)) {
            *out = (DpsScheduleType)i;
            return DPS_OK;
        }
    join_names (known, sizeof known, type_names, N_TYPES);
    return dps_fail (err, DPS_ERR_USAGE, "lr_scheduler_type: '%.60s' is not known; there are: %s", name, known);
}

static DpsStatus set_ramp (const char *key, const json_t *value, DpsRamp *out, DpsError *err)
{
    const char *text = json_string_value (value);
    for (size_t i = 0; text && i < sizeof ramp_names / sizeof *ramp_names; i++)
        if (!strcmp (ramp_names[i], text)) {
            *out = (DpsRamp)i;
            return DPS_OK;
        }
    return dps_fail (err, DPS_ERR_USAGE, "lr_scheduler_kwargs.%s: expected linear, cosine or 1-sqrt, found '%.60s'", key,
                     text ? text : "something that is not a string");
}

static DpsStatus set_key (DpsSchedule *s, size_t i, const json_t *value, DpsError *err)
{
    void *field = (char *)s + keys[i].offset;
    if (keys[i].kind == KIND_RAMP)
        return set_ramp (keys[i].key, value, field, err);
    double v = json_is_number (value) ? json_number_value (value) : NAN;
    if (keys[i].kind == KIND_COUNT) {
        if (!json_is_integer (value) || json_integer_value (value) < 0)
            return dps_fail (err, DPS_ERR_USAGE, "lr_scheduler_kwargs.%s: expected a number of steps, 0 or more", keys[i].key);
        *(uint64_t *)field = (uint64_t)json_integer_value (value);
        return DPS_OK;
    }
    if (keys[i].kind == KIND_MIN_LR)
        v /= s->base_lr;
    if (keys[i].kind != KIND_NUMBER && !(v >= 0 && v <= 1))
        return dps_fail (err, DPS_ERR_USAGE, "lr_scheduler_kwargs.%s: expected a number from 0 to %s", keys[i].key,
                         keys[i].kind == KIND_MIN_LR ? "learning_rate" : "1");
    if (!(v >= 0 && v <= 1e6))
        return dps_fail (err, DPS_ERR_USAGE, "lr_scheduler_kwargs.%s: expected a number from 0 to 1000000", keys[i].key);
    *(double *)field = v;
    return DPS_OK;
}

static DpsStatus set_kwargs (DpsSchedule *s, const json_t *kwargs, unsigned *given, DpsError *err)
{
    const char *key;
    json_t *value;
    if (kwargs && !json_is_object (kwargs))
        return dps_fail (err, DPS_ERR_USAGE, "lr_scheduler_kwargs: expected a mapping of names to values");
    json_object_foreach ((json_t *)kwargs, key, value) {
        size_t i = 0;
        while (i < N_KEYS && strcmp (keys[i].key, key))
            i++;
        if (i == N_KEYS || !(keys[i].types & (1u << s->type))) {
            const char *allowed[N_KEYS];
            char text[300];
            size_t n = 0;
            for (size_t k = 0; k < N_KEYS; k++)
                if (keys[k].types & (1u << s->type))
                    allowed[n++] = keys[k].key;
            join_names (text, sizeof text, allowed, n);
            return dps_fail (err, DPS_ERR_USAGE, "lr_scheduler_kwargs: '%.60s' is not a setting of %s; it takes: %s", key,
                             type_names[s->type], n ? text : "none");
        }
        DPS_TRY (set_key (s, i, value, err));
        *given |= 1u << i;
    }
    return DPS_OK;
}

static int was_given (unsigned given, const char *key)
{
    for (size_t i = 0; i < N_KEYS; i++)
        if (!strcmp (keys[i].key, key))
            return (given >> i) & 1;
    return 0;
}

/* Checks that need several settings at once, and the defaults that depend on others. */
static DpsStatus resolve (DpsSchedule *s, unsigned given, DpsError *err)
{
    if (s->type == DPS_SCHEDULE_COSINE_WITH_MIN_LR && was_given (given, "min_lr") == was_given (given, "min_lr_rate"))
        return dps_fail (err, DPS_ERR_USAGE,
                         "lr_scheduler_kwargs: cosine_with_min_lr needs either min_lr or min_lr_rate, found %s. "
                         "Hint: lr_scheduler_kwargs: {min_lr_rate: 0.1}",
                         given ? "both" : "neither");
    if (s->type == DPS_SCHEDULE_POLYNOMIAL && !(s->lr_end < s->base_lr))
        return dps_fail (err, DPS_ERR_USAGE, "lr_scheduler_kwargs.lr_end: %g must be below learning_rate %g", s->lr_end, s->base_lr);
    if (s->timescale == 0)
        s->timescale = s->warmup_steps ? s->warmup_steps : 10000;
    if (s->type != DPS_SCHEDULE_WARMUP_STABLE_DECAY)
        return DPS_OK;
    uint64_t left = s->warmup_steps < s->total_steps ? s->total_steps - s->warmup_steps : 0;
    if (!was_given (given, "num_decay_steps"))
        s->decay_steps = left < (s->total_steps + 9) / 10 ? left : (s->total_steps + 9) / 10;
    if (!was_given (given, "num_stable_steps")) {
        if (s->decay_steps > left)
            return dps_fail (err, DPS_ERR_USAGE, "lr_scheduler_kwargs.num_decay_steps: %llu do not fit after %llu warm-up steps of %llu",
                             (unsigned long long)s->decay_steps, (unsigned long long)s->warmup_steps, (unsigned long long)s->total_steps);
        s->stable_steps = left - s->decay_steps;
    }
    return DPS_OK;
}

DpsStatus dps_schedule_init (const DpsScheduleOptions *o, DpsSchedule *out, DpsError *err)
{
    DpsSchedule s = {.decay_type = DPS_RAMP_COSINE, .base_lr = o->base_lr, .power = 1, .lr_end = 1e-7, .total_steps = o->total_steps};
    DPS_TRY (find_type (o->type ? o->type : "linear", &s.type, err));
    if (!(o->base_lr >= 0 && o->base_lr <= 1e6))
        return dps_fail (err, DPS_ERR_USAGE, "learning_rate: expected a number from 0 to 1000000, found %g", o->base_lr);
    if (o->total_steps == 0 || o->total_steps > (UINT64_C (1) << 53))
        return dps_fail (err, DPS_ERR_USAGE, "max_steps: a schedule needs 1 to 2^53 steps, found %llu", (unsigned long long)o->total_steps);
    if (!(o->warmup >= 0 && o->warmup <= 0x1p53))
        return dps_fail (err, DPS_ERR_USAGE, "warmup_steps: expected 0 or more, or a ratio below 1, found %g", o->warmup);
    s.warmup_steps = (uint64_t)(o->warmup >= 1 ? o->warmup : ceil ((double)o->total_steps * o->warmup));
    s.num_cycles = s.type == DPS_SCHEDULE_COSINE_WITH_RESTARTS ? 1 : 0.5;
    unsigned given = 0;
    DPS_TRY (set_kwargs (&s, o->kwargs, &given, err));
    DPS_TRY (resolve (&s, given, err));
    *out = s;
    return DPS_OK;
}

static double at_least_1 (uint64_t n) { return n > 1 ? (double)n : 1.0; }

static double cosine (double cycles, double p) { return 0.5 * (1.0 + cos (M_PI * cycles * 2.0 * p)); }

static double polynomial (const DpsSchedule *s, uint64_t step)
{
    if (step > s->total_steps || s->total_steps <= s->warmup_steps)
        return s->lr_end / s->base_lr;
    double left = 1 - (double)(step - s->warmup_steps) / (double)(s->total_steps - s->warmup_steps);
    return ((s->base_lr - s->lr_end) * pow (left, s->power) + s->lr_end) / s->base_lr;
}

static double stable_decay (const DpsSchedule *s, uint64_t step)
{
    double floor = s->min_lr_rate, f;
    if (step < s->warmup_steps) {
        double p = (double)step / at_least_1 (s->warmup_steps);
        f = s->warmup_type == DPS_RAMP_LINEAR ? p : s->warmup_type == DPS_RAMP_COSINE ? 0.5 * (1.0 - cos (M_PI * p)) : 1.0 - sqrt (1.0 - p);
        return f * (1.0 - floor) + floor;
    }
    uint64_t after = step - s->warmup_steps;
    if (after < s->stable_steps)
        return 1.0;
    after -= s->stable_steps;
    if (after >= s->decay_steps)
        return floor;
    double p = (double)after / at_least_1 (s->decay_steps);
    f = s->decay_type == DPS_RAMP_LINEAR ? 1.0 - p : s->decay_type == DPS_RAMP_COSINE ? cosine (s->num_cycles, p) : 1.0 - sqrt (p);
    return f * (1.0 - floor) + floor;
}

static double factor (const DpsSchedule *s, uint64_t step)
{
    if (s->type == DPS_SCHEDULE_CONSTANT)
        return 1.0;
    if (s->type == DPS_SCHEDULE_WARMUP_STABLE_DECAY)
        return stable_decay (s, step);
    if (step < s->warmup_steps)
        return (double)step / at_least_1 (s->warmup_steps);
    double span = s->total_steps > s->warmup_steps ? (double)(s->total_steps - s->warmup_steps) : 1.0;
    double p = (double)(step - s->warmup_steps) / span;
    switch (s->type) {
    case DPS_SCHEDULE_LINEAR: return ((double)s->total_steps - (double)step) / span;
    case DPS_SCHEDULE_COSINE: return cosine (s->num_cycles, p);
    case DPS_SCHEDULE_COSINE_WITH_RESTARTS: return p >= 1.0 ? 0.0 : 0.5 * (1.0 + cos (M_PI * fmod (s->num_cycles * p, 1.0)));
    case DPS_SCHEDULE_COSINE_WITH_MIN_LR: return cosine (s->num_cycles, p) * (1.0 - s->min_lr_rate) + s->min_lr_rate;
    case DPS_SCHEDULE_POLYNOMIAL: return polynomial (s, step);
    case DPS_SCHEDULE_INVERSE_SQRT:
        return 1.0 / sqrt (((double)step + ((double)s->timescale - (double)s->warmup_steps)) / (double)s->timescale);
    default: return 1.0;
    }
}

double dps_schedule_lr (const DpsSchedule *s, uint64_t step)
{
    double f = s->base_lr > 0 ? factor (s, step) : 0.0;
    return s->base_lr * (f > 0 ? f : 0.0);
}

double dps_clip_factor (double norm, double max_norm)
{
    double f = max_norm / (norm + 1e-6);
    return max_norm > 0 && f < 1.0 ? f : 1.0;
}
