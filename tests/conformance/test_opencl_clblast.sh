#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Products of the opencl backend by CLBlast, where it is asked for: within the budgets, and a run's losses are those of our own products.
. "$(dirname "$0")/../lib.sh" "$1"
costly_under_sanitizer
"$dia" doctor --json | jq -e 'any (.devices[].name; startswith ("opencl"))' > /dev/null || skip "no OpenCL device"

tiny_rows rows.jsonl 8
tiny_recipe recipe.yaml run max_steps=2 device=opencl dtype=float32
DIAPASON_OPENCL_GEMM=magma run 1 "$dia" train recipe.yaml
said "DIAPASON_OPENCL_GEMM is 'magma', expected own or clblast"
ldconfig -p | grep -q libclblast.so.1 || skip "no libclblast.so.1: tools/deps --test brings it"
run 0 "$dia" train recipe.yaml --set output_dir=own
export DIAPASON_OPENCL_GEMM=clblast
run 0 "$dia" train recipe.yaml --set output_dir=blast --set strict_device=true
jq -n -e --slurpfile a own/metrics.jsonl --slurpfile b blast/metrics.jsonl '[$a, $b | map (.loss // empty)] | transpose | length == 2 and
    all (.[0] - .[1] | fabs < 1e-4)' > /dev/null || fail "CLBlast's losses are others"
ok "a run by CLBlast has the losses of our own products"
[ "$full" != 0 ] || { ok "its cases of check: with tools/test --full"; exit 0; }
run 0 "$dia" check opencl --filter 'backend.products/*' --quick
ok "backend.products by CLBlast"
