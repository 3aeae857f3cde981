#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# `diapason check` on plugins with one fault each: the case meant for the fault must not pass; and the healthy originals pass everything (of the backend,
# which is ref, the cases that faults are meant for: the rest is for the test that checks ref itself).
. "$(dirname "$0")/../lib.sh"
table=$src/tests/check/broken/faults
[[ $build != *sanitize* ]] || skip "faults under a sanitizer end as its reports"

check() { # MODULE ARGUMENT …: verdicts into out, complaints into err
    "$dia" check "$build/tests/broken/$1.so" --json "${@:2}" > out 2> err
}
n=0 failed=0
wrong() {
    echo "$*"
    failed=$((failed + 1))
    jq -c 'select (.verdict? and .verdict != "passed" and .verdict != "skipped")' out
    cat err
}
while read -r module fault case; do
    n=$((n + 1)) options=()
    [ "$case" = load ] || options+=(--filter "$case")
    case $fault in hangs | never_joins | ignores_abort) options+=(--timeout 3) ;; esac
    ! DIAPASON_BROKEN=$fault check "$module" "${options[@]}" &&
        jq -e --arg case "$case" -s 'any (.[]; .case == $case and (.verdict | IN ("failed", "crashed", "timed out")))' out > /dev/null ||
        wrong "$module, $fault: not caught by $case"
done < <(grep -v '^#' "$table")
DIAPASON_BROKEN=crashes_when_asked check backend || true
jq -e -s 'any (.[]; .case == "load" and (.message | test ("/broken/backend.so: the process ended .* enumerate$")))' out > /dev/null || wrong "who crashed at load is not named"
DIAPASON_BROKEN=aborts check backend --filter backend/matmul || true
jq -e -s 'any (.[]; .message | test ("crashed \\(SIGABRT\\) while running: .*(matmul|linear) \\("))' out > /dev/null || wrong "the op that aborts is not named: $(cat out)"
declare -A said=([has_no_name]='has no handle, or a name' [name_is_no_text]='has no handle, or a name' [is_called_ref]='has a name that means another backend')
for fault in "${!said[@]}"; do # a run that asks for such a device says so; one that does not goes on without it
    export DIAPASON_BROKEN=$fault DIAPASON_PLUGINS=$work/broken
    mkdir -p broken && cp "$build"/tests/broken/backend.{so,plugin} broken
    ! "$dia" explain "$src/tools/examples/tiny-sft.yaml" --set device=backend > out 2> err || wrong "$fault: a device without a name was taken"
    grep -q "test.backend: device [0-9]* .*${said[$fault]}" err || wrong "$fault: what is wrong with the device is not said"
    (cd "$src" && "$dia" explain tools/examples/tiny-sft.yaml) > out 2> err || wrong "$fault: a run on cpu does not go on without it"
done
"$dia" doctor > out && ! grep $'\033' out || wrong "doctor prints what $fault says as it is"
export DIAPASON_BROKEN=never_ends
! timeout 60 "$dia" explain "$src/tools/examples/tiny-sft.yaml" --set device=backend:none > out 2> err && grep -q 'test.backend: device 64 is one too many' err ||
    wrong "devices without end are not refused"
unset DIAPASON_BROKEN DIAPASON_PLUGINS
for module in objective adapter format reward collective; do
    check "$module" || wrong "$module without a fault does not pass"
done
for case in $(awk '$1 == "backend" && $3 != "load" { print $3 }' "$table" | sort -u); do
    only=
    [ "$case" != backend.bits/threads ] || only=has_linear_only # every op of ref on large operands takes minutes
    DIAPASON_BROKEN=$only check backend --filter "$case" || wrong "backend without a fault does not pass $case"
done
[ "$n" -ge 90 ] || fail "only $n faults are in the table"
[ "$failed" = 0 ] || fail "$failed of $n faults"
