#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Calls that a library must not make: ending the process, unbounded copies, unchecked conversions, hidden state, the heap behind base/.
# A block that libc allocated (realpath, getline) is freed with "allocated by libc" on the line.
set -euo pipefail
cd "$(dirname "$0")/../.."
bad=0
say() { printf '%s\n' "$*" >&2; bad=1; }

# search PATTERN REASON FILE …: comments and strings are removed first.
search() {
    local pattern=$1 reason=$2 hits
    shift 2
    [ $# -gt 0 ] || return 0
    hits=$(for file; do
        sed -e 's/"\([^"\\]\|\\.\)*"/""/g' -e 's|//.*||' "$file" | awk -v pattern="$pattern" -v file="$file" '
            { line = $0
              while (1) {
                  if (inside) { i = index(line, "*/"); if (!i) { line = ""; break }; line = substr(line, i + 2); inside = 0 }
                  i = index(line, "/*"); if (!i) break
                  rest = substr(line, i + 2); j = index(rest, "*/")
                  if (j) line = substr(line, 1, i - 1) " " substr(rest, j + 2); else { line = substr(line, 1, i - 1); inside = 1; break }
              }
              if (line ~ pattern && $0 !~ /allocated by libc/) print file ":" FNR ": " $0 }'
    done)
    [ -z "$hits" ] || say "$reason"$'\n'"$hits"
}
mapfile -t ours < <(find $(ls -d core backends algorithms formats plugins.d tools 2>/dev/null) -name '*.[ch]' ! -name 'test_*' 2>/dev/null | LC_ALL=C sort)
mapfile -t beyond_base < <(printf '%s\n' "${ours[@]}" | grep -v '^core/base/')
word='(^|[^A-Za-z0-9_>.])'
search "$word(exit|_exit|abort|assert|quick_exit) *\\(" "ends the process:" "${ours[@]}"
search "$word(strcpy|strcat|sprintf|vsprintf|gets|strtok|alloca) *\\(" "unbounded or not re-entrant:" "${ours[@]}"
search "$word(atoi|atol|atoll|atof) *\\(" "cannot report an error:" "${ours[@]}"
search "$word(rand|srand|random|srandom|drand48) *\\(" "hidden state; use base/rng.h:" "${ours[@]}"
search "$word(system|popen) *\\(" "a shell is no interface:" "${ours[@]}"
search "$word(malloc|calloc|realloc|free|strdup|strndup|aligned_alloc|posix_memalign) *\\(" "the heap is behind base/mem.h:" "${beyond_base[@]}"
search "$word(json_copy|json_deep_copy|json_object_update_missing|json_loads|json_loadb|json_load_file) *\\(" "goes on when out of memory; use base/json.h:" "${beyond_base[@]}"
mapfile -t headers < <(find core/include -name '*.h')
! grep -n -E 'TODO|FIXME|XXX' "${headers[@]}" >&2 || say "unfinished words in a public header"
exit $bad
