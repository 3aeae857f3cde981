/* SPDX-License-Identifier: Apache-2.0 */
/* DIAPASON_VALIDATE=1: the checking layer sees a plugin, or a host, that breaks the rules both agreed to (ABI.md rules 8 and 9). */
#include "abi/box.h"

#include <pthread.h>

#include "base/log.h"
#include "plugin/validate.h"

static DpsError err = DPS_ERROR_INIT;
static char logged[2048];

static void keep_line (void *ctx, int level, const char *line)
{
    (void)ctx;
    if (level == DPS_LOG_ERROR)
        snprintf (logged, sizeof logged, "%s", line);
}

static DpsStatus call_loss (const DpsObjective *o, void *self)
{
    DpsVal out = -1;
    logged[0] = '\0';
    return o->loss (self, NULL, NULL, NULL, NULL, NULL, &out, &err);
}

static const DpsObjective *checked (Box *box, const char *name, const char *flags)
{
    box_add (box, name, flags, "");
    box_open (box);
    const DpsObjective *o = dps_registry_get (box->reg, DPS_OBJECTIVE_ID, name);
    CU_ASSERT_PTR_NOT_NULL_FATAL (o);
    return o;
}

static void expect (const char *text)
{
    if (!strstr (logged, text))
        printf ("\n    logged \"%s\", expected \"%s\"\n", logged, text);
    CU_ASSERT_PTR_NOT_NULL (strstr (logged, text));
}

static void test_broken_promises_are_named (void)
{
    Box box;
    box_make (&box);
    setenv ("DIAPASON_VALIDATE", "1", 1);
    dps_log_install (keep_line, NULL, DPS_LOG_ERROR);
    uint64_t before = dps_validate_faults ();

    CHECK_OK (call_loss (checked (&box, "fine", ""), NULL));
    CHECK_STR (logged, "");
    CU_ASSERT_EQUAL (call_loss (checked (&box, "code", "-DLOSS_CODE=4711"), NULL), DPS_ERR_INTERNAL);
    CU_ASSERT_EQUAL (dps_validate_faults (), before + 2); /* the code, and no reason given */
    expect ("validate: plugin com.acme.code: loss failed without a reason");
    CU_ASSERT_EQUAL (call_loss (checked (&box, "silent", "-DLOSS_CODE=DPS_ERR_SHAPE"), NULL), DPS_ERR_SHAPE);
    expect ("plugin com.acme.silent: loss failed without a reason");
    CU_ASSERT_EQUAL (call_loss (checked (&box, "overrun", "-O0 -DLOSS_OVERRUN"), NULL), DPS_ERR_SHAPE);
    CU_ASSERT_EQUAL (dps_validate_faults (), before + 5);
    expect ("plugin com.acme.overrun: loss left its message without an end");
    CU_ASSERT_EQUAL (err.msg[sizeof err.msg - 1], '\0');

    dps_log_install (NULL, NULL, 0);
    unsetenv ("DIAPASON_VALIDATE");
    box_drop (&box);
}

static void *call_from_thread (void *objective)
{
    DpsVal out;
    void *self;
    ((const DpsObjective *)objective)->create (NULL, NULL, &self, NULL);
    return (void *)(intptr_t)((const DpsObjective *)objective)->loss ((void *)1, NULL, NULL, NULL, NULL, NULL, &out, NULL);
}

static void test_thread_tags_are_checked (void)
{
    Box box;
    pthread_t thread;
    void *result = NULL;
    box_make (&box);
    setenv ("DIAPASON_VALIDATE", "1", 1);
    const DpsObjective *o = checked (&box, "slow", "-DLOSS_SLOW");
    uint64_t before = dps_validate_faults ();
    CU_ASSERT_EQUAL_FATAL (pthread_create (&thread, NULL, call_from_thread, (void *)o), 0);
    usleep (30000);
    DpsStatus ours = call_loss (o, (void *)1);
    pthread_join (thread, &result);
    CU_ASSERT (ours == DPS_ERR_INTERNAL || (intptr_t)result == DPS_ERR_INTERNAL);
    CU_ASSERT_EQUAL (dps_validate_faults (), before + 2); /* create is [init]; loss is one call at a time per instance */
    CHECK_OK (call_loss (o, (void *)1));
    unsetenv ("DIAPASON_VALIDATE");
    box_drop (&box);
}

static void test_without_the_variable_nothing_is_between (void)
{
    Box box;
    box_make (&box);
    unsetenv ("DIAPASON_VALIDATE");
    const DpsObjective *o = checked (&box, "plain", "-DLOSS_CODE=4711");
    uint64_t before = dps_validate_faults ();
    CU_ASSERT_EQUAL (call_loss (o, NULL), 4711);
    CU_ASSERT_EQUAL (dps_validate_faults (), before);
    box_drop (&box);
}

CHECK_MAIN ("abi.validate", T (test_without_the_variable_nothing_is_between), T (test_broken_promises_are_named),
            T (test_thread_tags_are_checked))
