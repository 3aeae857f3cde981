#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The program on the cuda backend's host code, over the double of driver and cuBLASLt (tests/cuda/double): a run of the tiny Gemma 3 has the losses that
# ref has, with every op on the device, nothing leaks, and no guard byte is written. A lost device in the middle of a step is exit code 1 with its reason.
. "$(dirname "$0")/../lib.sh" "$1"
twins=$build/tests/cuda
[ -e "$twins/libcuda.so.1" ] || skip "the double of CUDA is not built: tools/deps --test, then tools/build"
costly_under_sanitizer # PoCL compiles each kernel for it
export LD_LIBRARY_PATH=$twins DIAPASON_PLUGINS=$twins/plugins

run 0 "$dia" doctor --json
holds out '.devices[] | select(.name == "cuda:0") | .detail | test("double 0 of a GPU.*cuBLASLt 13")'
tiny_rows rows.jsonl 16
tiny_recipe cuda.yaml cuda device='[cuda]' strict_device=true max_steps=3 save_steps=100
tiny_recipe ref.yaml ref device='[ref]' max_steps=3 save_steps=100
DOUBLE_CUDA_REPORT=$work/report run 0 "$dia" train cuda.yaml
run 0 "$dia" train ref.yaml
losses() { jq -s -c '[.[] | select(.loss != null) | .loss]' "$1/metrics.jsonl"; }
losses cuda > cuda.losses
losses ref > ref.losses
jq -n -e --slurpfile a cuda.losses --slurpfile b ref.losses '($a[0] | length) >= 3 and ([$a[0], $b[0]] | transpose | all((.[0] - .[1]) | fabs < 2e-5))' >/dev/null ||
    fail "losses differ: $(cat cuda.losses ref.losses)"
grep -q '^breaches 0, live 0, launches [1-9]' report || fail "the double saw: $(cat report)"
ok "three steps on the double with ref's losses: $(cat report)"

# A weight of INT8 as numbers, then by codes: near ref's losses, but not the same.
tiny_recipe codes.yaml codes device='[cuda]' strict_device=true load_in_8bit=true max_steps=2 save_steps=100
tiny_recipe plain.yaml plain device='[ref]' load_in_8bit=true max_steps=2 save_steps=100
DIAPASON_CUDA_GEMM=int8 DOUBLE_CUDA_REPORT=$work/report run 0 "$dia" train codes.yaml
run 0 "$dia" train plain.yaml
losses codes > codes.losses
losses plain > plain.losses
jq -n -e --slurpfile a codes.losses --slurpfile b plain.losses '[$a[0], $b[0]] | transpose | length >= 2 and all((.[0] - .[1]) | fabs | . > 1e-6 and . < 5e-3)' >/dev/null ||
    fail "losses of int8: $(cat codes.losses plain.losses)"
grep -q '^breaches 0, live 0, launches [1-9]' report || fail "the double saw: $(cat report)"
DIAPASON_CUDA_GEMM=int4 run 1 "$dia" train codes.yaml --set output_dir=none
said "expected cublaslt, dialect or int8"
ok "QLoRA on INT8 by codes: $(cat codes.losses), by numbers $(cat plain.losses)"

tiny_recipe lost.yaml lost device='[cuda]' strict_device=true max_steps=3 save_steps=100
DOUBLE_CUDA_LOSE_AT=3000 run 1 "$dia" train lost.yaml
said "cuda:0"
said "start again from the last checkpoint"
ok "a lost device ends the run with its reason"

run 0 "$dia" check "$twins/plugins/test_cuda.so" --filter 'backend.collective/*'
ok "dps.collective/1 in a group of one: every call in every dtype"
