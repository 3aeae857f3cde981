#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The program on the cuda backend's host code, over the double of driver and cuBLASLt (tests/cuda/double): a run of the tiny Gemma 3 has the losses that
# ref has, with every op on the device, nothing leaks, and no guard byte is written. A lost device in the middle of a step is exit code 1 with its reason.
. "$(dirname "$0")/../lib.sh" "$1"
. "$src/tests/cuda/steps.sh"
twins=$build/tests/cuda
[ -e "$twins/libcuda.so.1" ] || skip "the double of CUDA is not built: tools/deps --test, then tools/build"
costly_under_sanitizer # PoCL compiles each kernel for it
export LD_LIBRARY_PATH=$twins DIAPASON_PLUGINS=$twins/plugins

run 0 "$dia" doctor --json
holds out '.devices[] | select(.name == "cuda:0") | .detail | test("double 0 of a GPU.*cuBLASLt 13")'
DOUBLE_CUDA_VERSION=12010 run 0 "$dia" plugins list --json
holds out '.[] | select(.id == "dps.cuda") | .reason | test("speaks CUDA 12.1, expected 12.2")'
tiny_rows rows.jsonl 16
clean() { grep -q '^breaches 0, live 0, launches [1-9]' report || fail "the double saw: $(cat report)"; }
beside_ref plain 3 0 2e-5
clean
ok "three steps on the double with ref's losses: $(cat report)"

DOUBLE_CUDA_NO_MANAGED=1 beside_ref apart 3 0 2e-5
clean
same plain.losses apart.losses
ok "the same bits where the host reads no device memory: $(cat report)"

# A weight of INT8 by codes: near the losses of numbers, but not the same.
DIAPASON_CUDA_GEMM=int8 beside_ref codes 2 1e-6 5e-3 load_in_8bit=true
clean
DIAPASON_CUDA_GEMM=int4 run 1 "$dia" train codes.yaml --set output_dir=none
said "expected cublaslt, dialect or int8"
ok "QLoRA on INT8 by codes: $(cat codes.losses), by numbers $(cat ref.losses)"

DOUBLE_CUDA_VERSION=12040 run 1 "$dia" train plain.yaml --set output_dir=none
said "of CUDA 12.4, is older than the compiler"
tiny_recipe lost.yaml lost device='[cuda]' strict_device=true max_steps=3 save_steps=100
DOUBLE_CUDA_LOSE_AT=3000 run 1 "$dia" train lost.yaml
said "cuda:0"
said "start again from the last checkpoint"
ok "a lost device ends the run with its reason"

run 0 "$dia" check "$twins/plugins/test_cuda.so" --filter 'backend.collective/*'
ok "dps.collective/1 in a group of one: every call in every dtype"
