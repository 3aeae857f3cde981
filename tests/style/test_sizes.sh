#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A .c file has at most 600 lines (400 is the aim), a public header 300, a function 60 (from its brace to its brace).
set -euo pipefail
cd "$(dirname "$0")/../.."
bad=0
say() { echo "$*" >&2; bad=1; }
while read -r lines file; do
    case $file in
    total) ;;
    core/include/*) [ "$lines" -le 300 ] || say "$file: $lines lines, a public header may have 300" ;;
    *) [ "$lines" -le 600 ] || say "$file: $lines lines, a source file may have 600" ;;
    esac
done < <(find $(ls -d core backends algorithms formats plugins.d tools tests 2>/dev/null) -name '*.[ch]' -print0 2>/dev/null | xargs -0 wc -l)
long=$(find $(ls -d core backends algorithms formats plugins.d tools 2>/dev/null) -name '*.c' -print0 2>/dev/null | xargs -0 awk '
    FNR == 1 { start = 0 }
    /^\{/ { start = FNR }
    /^\}/ && start { if (FNR - start - 1 > 60) print FILENAME ":" start ": a function of " FNR - start - 1 " lines, at most 60"; start = 0 }')
[ -z "$long" ] || say "$long"
exit $bad
