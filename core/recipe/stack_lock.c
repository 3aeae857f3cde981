/* SPDX-License-Identifier: Apache-2.0 */
#include "recipe/stack_lock.h"

#include <string.h>

#include "base/file.h"
#include "base/log.h"
#include "plugin/module.h"
#include "recipe/internal.h"

enum { STACK_VERSION = 1 };
#define WITHOUT "train without --locked, which writes a new " DPS_STACK_LOCK

DpsStatus dps_stack_lock_write (const DpsLockEntry *entries, size_t n, const char *path, DpsError *err)
{
    DpsBuf text = {0};
    int bad =
        dps_buf_printf (&text, "# written by diapason; --locked refuses a difference\nstack_lock_version: %d\nstack:\n", STACK_VERSION);
    bad = bad || dps__lock_put_entries (&text, entries, n);
    return dps_file_write_buf (path, &text, bad, err);
}

static const char *next_step (const char *key)
{
    static const struct {
        const char *prefix, *step;
    } steps[] = {
        {"plugin ", "install that build of the plugin"},
        {"interfaces ", "install that build of the plugin"},
        {"runtime ", "install that version of the library"},
        {"isa.", "run where that device and its library are the same"}, /* of devices after the first */
        {"isa", "run where the device and its library are the same, or, of a CPU, lower the instruction set with DIAPASON_CPU_ISA"},
        {"device", "choose that device in the recipe"}};
    for (size_t i = 0; i < sizeof steps / sizeof *steps; i++)
        if (!strncmp (key, steps[i].prefix, strlen (steps[i].prefix)))
            return steps[i].step;
    return "install that build of diapason";
}

/* One line, whatever the file says. */
static void differ (const char *path, const char *key, const char *expected, const char *found)
{
    DpsError line = DPS_ERROR_INIT;
    dps_fail (&line, DPS_ERR_LOCK, "%.300s: %.120s: expected %.200s, found %.200s. Next step: %s, or " WITHOUT, path, key, expected, found,
              next_step (key));
    dps__one_line (line.msg);
    dps_log (DPS_LOG_ERROR, "%s", line.msg);
}

static size_t compare (const DpsLockEntry *entries, size_t n, const DpsYaml *stack, const char *path)
{
    size_t differences = 0;
    for (size_t i = 0; i < n; i++) {
        const DpsYaml *item = dps_yaml_get (stack, entries[i].key);
        const char *was = item && item->type == DPS_YAML_SCALAR ? item->text : NULL;
        if (was && !strcmp (was, entries[i].value))
            continue;
        differences++;
        differ (path, entries[i].key, was ? was : "none", entries[i].value);
    }
    for (const DpsYaml *item = stack->first; item; item = item->next) {
        size_t i = 0;
        while (i < n && strcmp (entries[i].key, item->key->text))
            i++;
        if (i < n)
            continue;
        differences++;
        differ (path, item->key->text, item->type == DPS_YAML_SCALAR ? item->text : "something", "none");
    }
    return differences;
}

static DpsStatus compare_all (const DpsLockEntry *entries, size_t n, const DpsYaml *root, const char *path, DpsError *err)
{
    int64_t version = 0;
    const DpsYaml *v = root ? dps_yaml_get (root, "stack_lock_version") : NULL, *stack = root ? dps_yaml_get (root, "stack") : NULL;
    if (!v || !dps_yaml_int (v, &version) || version != STACK_VERSION || !stack || stack->type != DPS_YAML_MAP || root->first->next->next)
        return dps_fail (err, DPS_ERR_LOCK, "%s: expected stack_lock_version %d, a map 'stack', and nothing beside them. Hint: " WITHOUT,
                         path, STACK_VERSION);
    size_t differences = compare (entries, n, stack, path);
    return differences ? dps_fail (err, DPS_ERR_LOCK, "%s: %zu difference%s from the stack that --locked asks for, named above", path,
                                   differences, differences > 1 ? "s" : "")
                       : DPS_OK;
}

DpsStatus dps_stack_lock_compare (const DpsLockEntry *entries, size_t n, const char *path, DpsError *err)
{
    DpsYamlDoc *doc;
    DpsStatus st = dps__lock_read (path, WITHOUT, &doc, err);
    if (st == DPS_ERR_NOT_FOUND)
        st = dps_fail (err, DPS_ERR_LOCK,
                       "%s does not exist, and --locked holds the run to it. Hint: train without --locked, which writes it; "
                       "--stack-lock PATH names another",
                       path);
    if (st == DPS_OK)
        st = compare_all (entries, n, doc->root, path, err);
    dps_yaml_free (doc);
    return st;
}
