#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The dialect as GPUs run it, 64 lanes a group, on a CPU: what `diapason check` compares. tools/test --full only: a minute or two of PoCL's compiler.
. "$(dirname "$0")/../lib.sh" "$1"
[[ $build != *sanitize* ]] || skip "the kernels are in the ordinary build"
[ "$full" != 0 ] || skip "with tools/test --full only; tests/cuda runs the same kernels with 128 lanes"
"$dia" doctor --json | jq -e 'any (.devices[].name; startswith ("opencl"))' > /dev/null || skip "no OpenCL device"
export DIAPASON_OPENCL_LANES=64
for suite in elementwise rows products attention head quant table; do
    run 0 "$dia" check opencl --filter "backend.$suite/*" --quick
    ok "backend.$suite with 64 lanes"
done
