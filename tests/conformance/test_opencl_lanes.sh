#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The dialect as GPUs run it, 64 lanes a group, on a CPU: the cases of opencl's conformance tests. tools/test --full only: a minute or two of PoCL's compiler.
. "$(dirname "$0")/../lib.sh" "$1"
[[ $build != *sanitize* ]] || skip "the kernels are in the ordinary build"
[ "$full" != 0 ] || skip "with tools/test --full only; tests/cuda runs the same kernels with 128 lanes"
[ -x "$build/tests/conformance.opencl_rows" ] || fail "no conformance.opencl_rows in $build/tests: run tools/build"
export DIAPASON_OPENCL_LANES=64
for part in attention products quant rows; do
    code=0
    "$build/tests/conformance.opencl_$part" > "$part.out" 2>&1 || code=$?
    [ "$code" != 77 ] || skip "$(tail -n 1 "$part.out")"
    [ "$code" = 0 ] || fail "opencl_$part with 64 lanes: exit code $code: $(tail -n 40 "$part.out")"
    ok "opencl_$part: $(grep asserts "$part.out")"
done
