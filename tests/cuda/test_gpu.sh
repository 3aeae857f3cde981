#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# On a machine with an NVIDIA GPU: `diapason check` of the real plugin, LoRA steps of the tiny Gemma 3 beside ref's in each way of multiplying, and a
# step of Gemma 3 270M where it is in the cache, with every op on the GPU; what came out is kept in <build>/cuda-gpu.txt. tools/test --full only; skipped, with the reason, where there is no GPU.
. "$(dirname "$0")/../lib.sh" "$1"
. "$src/tests/cuda/steps.sh"
[[ $build != *sanitize* ]] || skip "the kernels are in the ordinary build"
[ "$full" != 0 ] || skip "with tools/test --full only"
plugin=$build/lib/diapason/plugins/dps-backend-cuda.so
[ -e "$plugin" ] || skip "the cuda backend is not built: run tools/deps --cuda, then tools/build"
if toolkit=$("$src/tools/fetch" --cached cuda 2>/dev/null); then export LD_LIBRARY_PATH=$toolkit/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}; fi
"$dia" plugins list --json > plugins.json
jq -e '.[] | select(.id == "dps.cuda" and .loaded)' plugins.json >/dev/null || skip "no GPU: $(jq -r '.[] | select(.id == "dps.cuda") | .reason' plugins.json)"

result=$build/cuda-gpu.txt
"$dia" doctor | grep '^device' > "$result"
code=0
"$dia" check "$plugin" >> "$result" 2>&1 || code=$?
tail -n 3 "$result"

# What a run needs is small enough to be at hand on any machine; the real model is not.
tiny_rows rows.jsonl 16
beside_ref f32 4 0 1e-4
DIAPASON_CUDA_GEMM=dialect beside_ref dialect 4 0 1e-4
beside_ref bf16 4 0 5e-2 dtype=bfloat16
DIAPASON_CUDA_GEMM=int8 beside_ref int8 4 0 2e-2 load_in_8bit=true
for name in f32 dialect bf16 int8; do echo "tiny, $name: $(cat $name.losses)"; done | tee -a "$result"
if model=$("$src/tools/fetch" --cached gemma3-270m 2>/dev/null); then
    tiny_recipe gemma.yaml gemma model_name_or_path="$model" dtype=bfloat16 device='[cuda]' strict_device=true max_steps=2 per_device_train_batch_size=2
    run 0 "$dia" train gemma.yaml
    jq -c 'select(.loss != null)' gemma/metrics.jsonl | tee -a "$result"
else
    echo "no Gemma step: gemma3-270m is not in the cache: run tools/fetch gemma3-270m" | tee -a "$result"
fi
[ "$code" = 0 ] || fail "diapason check: exit code $code, see $result"
ok "check and steps on the GPU: $result"
