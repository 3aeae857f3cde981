/* SPDX-License-Identifier: Apache-2.0 */
/* report_style.h: the fixed texts of report.html. */
#ifndef DPS_OBSERVE_REPORT_STYLE_H
#define DPS_OBSERVE_REPORT_STYLE_H

extern const char dps__report_style[];
extern const char dps__report_mark[];

#endif
