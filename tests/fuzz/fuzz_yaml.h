/* SPDX-License-Identifier: Apache-2.0 */
/* fuzz_yaml.h: for targets that read YAML. libfyaml 0.7.12 loses the scratch of a quoted scalar with many escapes (its issue 233): not ours to free. */
#ifndef DPS_TESTS_FUZZ_YAML_H
#define DPS_TESTS_FUZZ_YAML_H

const char *__lsan_default_suppressions (void);
const char *__lsan_default_suppressions (void) { return "leak:libfyaml.so"; }

#endif
