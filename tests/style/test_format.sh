#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Every C file is as clang-format 14 leaves it, and starts with its licence line; shell and CMake files carry theirs too.
set -euo pipefail
cd "$(dirname "$0")/../.."
command -v clang-format-14 >/dev/null || { echo "clang-format-14 is missing: run tools/deps --test" >&2; exit 1; }
sources() { find $(ls -d core backends algorithms formats plugins.d tools tests 2>/dev/null) -name '*.[ch]' -print 2>/dev/null | LC_ALL=C sort; }
bad=0
sources | xargs clang-format-14 --dry-run -Werror 2> >(grep -E 'error:' | cut -d: -f1 | sort -u >&2) || { echo "not formatted: run clang-format-14 -i on the files above" >&2; bad=1; }
for file in $(sources); do
    [ "$(head -n 1 "$file")" = '/* SPDX-License-Identifier: Apache-2.0 */' ] || { echo "$file: its first line is not the SPDX line" >&2; bad=1; }
done
for file in $(find . -path './build*' -prune -o \( -name '*.sh' -o -name CMakeLists.txt -o -name '*.cmake' -o -name '*.py' \) -print) tools/build tools/deps tools/fetch tools/test tools/quickstart; do
    head -n 2 "$file" | grep -q 'SPDX-License-Identifier: Apache-2.0' || { echo "$file: no SPDX line at its top" >&2; bad=1; }
done
exit $bad
