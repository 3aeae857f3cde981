/* SPDX-License-Identifier: Apache-2.0 */
/*
 * certificate.h: a JSON object of what ran and how it went. Its last member, "sha256", is the digest of all the others, written compactly with
 * sorted keys: a certificate edited by hand is found out. It is no signature: whoever runs the check can write one.
 */
#ifndef DPS_TOOLS_CHECK_CERTIFICATE_H
#define DPS_TOOLS_CHECK_CERTIFICATE_H

#include <jansson.h>

#include "base/sha256.h"
#include "base/status.h"

struct CheckReport;

/** What ran, on what, with which verdicts, and a digest over all of it. Errors: IO. */
DpsStatus check_write_certificate (const struct CheckReport *c, const char *path, DpsError *err);
/**
 * The certificate at `path` is whole, its verdicts are all good, and plugin (at module_path, NULL: where the certificate says), ABI, suites and
 * budgets are those of today. *out: the certificate, a new reference. Errors: FORMAT, DIGEST (changed since), LOCK (of something else),
 * POLICY (it holds failures).
 */
DpsStatus check_verify_certificate (const char *path, const char *module_path, json_t **out, DpsError *err);

/** The digest of a certificate without its "sha256". Errors: NOMEM. */
DpsStatus check_certificate_digest (const json_t *body, DpsDigest *out, DpsError *err);

#endif
