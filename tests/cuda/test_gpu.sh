#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# On a machine with an NVIDIA GPU: `diapason check` of the real plugin, and a LoRA step of Gemma 3 270M with every op on the GPU; what came out is
# kept in <build>/cuda-gpu.txt. tools/test --full only; skipped, with the reason, where there is no GPU.
. "$(dirname "$0")/../lib.sh" "$1"
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
model=$(real_model gemma3-270m)
tiny_rows rows.jsonl 8
tiny_recipe gpu.yaml gpu model_name_or_path="$model" dtype=bfloat16 device='[cuda]' strict_device=true max_steps=2 per_device_train_batch_size=2
run 0 "$dia" train gpu.yaml
jq -c 'select(.loss != null)' gpu/metrics.jsonl | tee -a "$result"
[ "$code" = 0 ] || fail "diapason check: exit code $code, see $result"
ok "check and a Gemma step on the GPU: $result"
