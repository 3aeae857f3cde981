/* SPDX-License-Identifier: Apache-2.0 */
#include "optim/schedule.h"

#include "check.h"

/* Relative, one or two units in the last place: libm's cos is not Python's to the bit. */
static void check_rate (double got, double want) { CHECK_NEAR (got, want, 4e-16 * fabs (want)); }

static void test_every_golden_rate (void)
{
    DpsError err = DPS_ERROR_INIT;
    json_t *cases, *c;
    size_t i, n_rates = 0;
    CHECK_OK (dps_json_file (DPS_TEST_DATA "/optim/schedules.json", 1 << 20, 0, &cases, &err));
    json_array_foreach (cases, i, c) {
        DpsSchedule s;
        DpsScheduleOptions o = {.type = json_string_value (json_object_get (c, "type")),
                                .base_lr = json_number_value (json_object_get (c, "base_lr")),
                                .warmup = json_number_value (json_object_get (c, "warmup")),
                                .total_steps = (uint64_t)json_integer_value (json_object_get (c, "total_steps")),
                                .kwargs = json_object_get (c, "kwargs")};
        CHECK_OK (dps_schedule_init (&o, &s, &err));
        CHECK_STR (dps_schedule_name (s.type), o.type);
        json_t *want;
        size_t k;
        json_array_foreach (json_object_get (c, "lr"), k, want) {
            double got = dps_schedule_lr (&s, k), expected = json_number_value (want);
            n_rates++;
            /* Where a cosine comes back to zero its rounding noise, 1e-17 of the rate, is all that is left. */
            if (fabs (got - expected) > 1e-15 * o.base_lr)
                printf ("\n    case %zu (%s), step %zu", i, o.type, k);
            CHECK_NEAR (got, expected, 1e-15 * o.base_lr);
        }
    }
    CU_ASSERT (i >= 80 && n_rates > 1500);
    json_decref (cases);
}

static void test_every_rate_of_the_reference_runs (void)
{
    static const char *const runs[] = {"full-sft", "lora-sft", "lora-simpo"};
    DpsError err = DPS_ERROR_INIT;
    for (size_t r = 0; r < 3; r++) {
        char path[200];
        json_t *run, *step;
        size_t k;
        snprintf (path, sizeof path, DPS_TEST_DATA "/parity/optim/%s/trajectory.json", runs[r]);
        CHECK_OK (dps_json_file (path, 1 << 20, 0, &run, &err));
        DpsSchedule s;
        DpsScheduleOptions o = {.type = "cosine",
                                .base_lr = json_number_value (json_object_get (run, "base_lr")),
                                .warmup = json_number_value (json_object_get (run, "warmup_steps")),
                                .total_steps = (uint64_t)json_integer_value (json_object_get (run, "total_steps"))};
        CHECK_OK (dps_schedule_init (&o, &s, &err));
        json_array_foreach (json_object_get (run, "steps"), k, step)
            check_rate (dps_schedule_lr (&s, k), json_number_value (json_object_get (step, "lr")));
        CU_ASSERT_EQUAL (k, 10);
        json_decref (run);
    }
}

static void test_bad_settings_are_refused_by_name (void)
{
    static const struct {
        DpsScheduleOptions o;
        const char *kwargs, *text;
    } cases[] = {
        {{.type = "cosin", .base_lr = 1, .total_steps = 1}, NULL, "'cosin' is not known"},
        {{.base_lr = -1, .total_steps = 1}, NULL, "learning_rate"},
        {{.base_lr = NAN, .total_steps = 1}, NULL, "learning_rate"},
        {{.base_lr = INFINITY, .total_steps = 1}, NULL, "learning_rate"},
        {{.base_lr = 1, .total_steps = 0}, NULL, "max_steps"},
        {{.base_lr = 1, .total_steps = UINT64_MAX}, NULL, "max_steps"},
        {{.base_lr = 1, .total_steps = 1, .warmup = -0.5}, NULL, "warmup_steps"},
        {{.base_lr = 1, .total_steps = 1, .warmup = NAN}, NULL, "warmup_steps"},
        {{.base_lr = 1, .total_steps = 1, .warmup = 1e300}, NULL, "warmup_steps"},
        {{.base_lr = 1, .total_steps = 9}, "[]", "expected a mapping"},
        {{.base_lr = 1, .total_steps = 9}, "{\"power\": 2}", "'power' is not a setting of linear"},
        {{.type = "cosine", .base_lr = 1, .total_steps = 9}, "{\"num_cycle\": 2}", "it takes: num_cycles"},
        {{.type = "cosine", .base_lr = 1, .total_steps = 9}, "{\"num_cycles\": \"2\"}", "expected a number"},
        {{.type = "cosine_with_min_lr", .base_lr = 1, .total_steps = 9}, NULL, "neither"},
        {{.type = "cosine_with_min_lr", .base_lr = 1, .total_steps = 9}, "{\"min_lr\": 0.1, \"min_lr_rate\": 0.1}", "both"},
        {{.type = "cosine_with_min_lr", .base_lr = 1, .total_steps = 9},
         "{\"min_lr\": 2}",
         "min_lr: expected a number from 0 to learning_rate"},
        {{.type = "cosine_with_min_lr", .base_lr = 1, .total_steps = 9}, "{\"min_lr_rate\": 2}", "min_lr_rate"},
        {{.type = "polynomial", .base_lr = 1e-8, .total_steps = 9}, NULL, "must be below learning_rate"},
        {{.type = "warmup_stable_decay", .base_lr = 1, .total_steps = 9}, "{\"decay_type\": \"square\"}", "found 'square'"},
        {{.type = "warmup_stable_decay", .base_lr = 1, .total_steps = 9}, "{\"num_decay_steps\": 1.5}", "number of steps"},
        {{.type = "warmup_stable_decay", .base_lr = 1, .total_steps = 9}, "{\"num_decay_steps\": 10}", "do not fit"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        DpsError err = DPS_ERROR_INIT;
        DpsSchedule s = {.total_steps = 77};
        DpsScheduleOptions o = cases[i].o;
        json_t *kwargs = cases[i].kwargs ? json_loads (cases[i].kwargs, 0, NULL) : NULL;
        o.kwargs = kwargs;
        CHECK_FAILS (dps_schedule_init (&o, &s, &err), DPS_ERR_USAGE, cases[i].text);
        CU_ASSERT_EQUAL (s.total_steps, 77);
        json_decref (kwargs);
    }
}

/* A warm-up longer than the run, a run of one step, and steps past the end must not divide by zero. */
static void test_rates_stay_finite_everywhere (void)
{
    static const double warmups[] = {0, 0.5, 1, 7, 100};
    static const uint64_t totals[] = {1, 2, 7, 50};
    for (int type = 0; type <= DPS_SCHEDULE_WARMUP_STABLE_DECAY; type++)
        for (size_t w = 0; w < 5; w++)
            for (size_t t = 0; t < 4; t++) {
                DpsError err = DPS_ERROR_INIT;
                DpsSchedule s;
                json_t *kwargs = type == DPS_SCHEDULE_COSINE_WITH_MIN_LR ? json_pack ("{sf}", "min_lr_rate", 0.1) : NULL;
                DpsScheduleOptions o = {.type = dps_schedule_name ((DpsScheduleType)type),
                                        .base_lr = 0.5,
                                        .warmup = warmups[w],
                                        .total_steps = totals[t],
                                        .kwargs = kwargs};
                CHECK_OK (dps_schedule_init (&o, &s, &err));
                for (uint64_t k = 0; k < 200; k++) {
                    double lr = dps_schedule_lr (&s, k);
                    CU_ASSERT (lr >= 0 && lr <= 0.5);
                }
                json_decref (kwargs);
            }
}

static void test_default_decay_is_a_tenth (void)
{
    DpsError err = DPS_ERROR_INIT;
    DpsSchedule s;
    DpsScheduleOptions o = {.type = "warmup_stable_decay", .base_lr = 1, .warmup = 5, .total_steps = 95};
    CHECK_OK (dps_schedule_init (&o, &s, &err));
    CU_ASSERT_EQUAL (s.decay_steps, 10);
    CU_ASSERT_EQUAL (s.stable_steps, 80);
    CHECK_NEAR (dps_schedule_lr (&s, 84), 1, 0);
    CHECK_NEAR (dps_schedule_lr (&s, 90), 0.5, 1e-15);
    CHECK_NEAR (dps_schedule_lr (&s, 95), 0, 0);
}

static void test_clip_factor (void)
{
    CHECK_NEAR (dps_clip_factor (0.5, 1), 1, 0);
    CHECK_NEAR (dps_clip_factor (4, 1), 1 / (4 + 1e-6), 0);
    CHECK_NEAR (dps_clip_factor (4, 2), 2 / (4 + 1e-6), 0);
    CHECK_NEAR (dps_clip_factor (0, 1), 1, 0);
    CHECK_NEAR (dps_clip_factor (4, 0), 1, 0);
}

CHECK_MAIN ("optim.schedule", T (test_every_golden_rate), T (test_every_rate_of_the_reference_runs),
            T (test_bad_settings_are_refused_by_name), T (test_rates_stay_finite_everywhere), T (test_default_decay_is_a_tenth),
            T (test_clip_factor))
