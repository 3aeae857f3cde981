#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# `diapason check` on plugins with one fault each: the case meant for the fault must not pass; and the healthy originals pass everything (of the backend,
# which is ref, the cases that faults are meant for: tests/check/test_check.sh runs all of them on ref).
set -euo pipefail
build=$1
table=$(cd "$(dirname "$0")" && pwd)/broken/faults
if grep -q '^DIAPASON_SANITIZE:BOOL=ON' "$build/CMakeCache.txt"; then echo "faults under a sanitizer end as its reports"; exit 77; fi
work=$(mktemp -d "$build/tests/broken.XXXXXX")
trap 'rm -rf "$work"' EXIT

check() { # MODULE ARGUMENT …: verdicts into out, complaints into err
    "$build/bin/diapason" check "$build/tests/broken/$1.so" --json "${@:2}" > "$work/out" 2> "$work/err"
}
n=0 failed=0
wrong() {
    echo "$*"
    failed=$((failed + 1))
    jq -c 'select (.verdict? and .verdict != "passed" and .verdict != "skipped")' "$work/out"
    cat "$work/err"
}
while read -r module fault case; do
    n=$((n + 1)) options=()
    [ "$case" = load ] || options+=(--filter "$case")
    [ "$fault" != hangs ] || options+=(--timeout 3)
    ! DIAPASON_BROKEN=$fault check "$module" "${options[@]}" &&
        jq -e --arg case "$case" -s 'any (.[]; .case == $case and (.verdict | IN ("failed", "crashed", "timed out")))' "$work/out" > "$work/unused" ||
        wrong "$module, $fault: not caught by $case"
done < <(grep -v '^#' "$table")
for module in objective adapter format reward; do
    check "$module" || wrong "$module without a fault does not pass"
done
for case in $(awk '$1 == "backend" { print $3 }' "$table" | sort -u); do
    check backend --filter "$case" || wrong "backend without a fault does not pass $case"
done
echo "$n faults, $failed wrong"
[ "$failed" = 0 ] && [ "$n" -ge 90 ]
