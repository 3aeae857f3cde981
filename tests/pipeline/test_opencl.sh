#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Training on OpenCL (PoCL where there is no other device) with no fallback: LoRA SFT with the losses of the cpu backend, resumed from a checkpoint,
# a whole model in bf16, a step of GRPO. Programs are kept on disk; a damaged one is built again. Ops can go to several devices.
. "$(dirname "$0")/../lib.sh" "$1"
[ -e "$build/lib/diapason/plugins/dps-backend-opencl.so" ] || skip "the opencl plugin is not built"
"$dia" doctor > doctor.txt
grep -q 'opencl:0' doctor.txt || skip "no OpenCL device"
costly_under_sanitizer
export DIAPASON_CACHE=$work/cache

losses() { jq -c 'select(has("loss")) | .loss' "$1/metrics.jsonl"; }
# near A B: their losses differ by at most 1e-4 of themselves.
near() {
    paste <(losses "$1") <(losses "$2") | awk '{ d = $1 - $2; if (d < 0) d = -d; if (!(d <= 1e-4 * $2)) bad = 1; n++ } END { exit bad || !n }' ||
        { paste <(losses "$1") <(losses "$2") >&2; fail "the losses of $1 and $2 are apart"; }
}

tiny_rows rows.jsonl 16
tiny_recipe recipe.yaml run max_steps=4 save_steps=2 learning_rate=0.01
on=(--set device=opencl --set strict_device=true)
run 0 "$dia" train recipe.yaml --set device=cpu --set dtype=f32 --set output_dir=on-cpu
run 0 "$dia" train recipe.yaml "${on[@]}" --set dtype=f32 --set output_dir=lora
near lora on-cpu
grep -q '"device.plugin dps.opencl": "[0-9a-f]\{64\}"' lora/recipe.lock.yaml || fail "the lock has no digest of a backend whose device has another name"
kept=("$work"/cache/opencl/*.bin)
[ -s "${kept[0]}" ] || fail "no program was kept"
ok "LoRA SFT runs on OpenCL alone, with the cpu's losses; ${#kept[@]} programs are kept"

rm -r lora/checkpoint-4 lora/adapter_model.safetensors
for file in "${kept[@]}"; do printf 'x' | dd of="$file" bs=1 seek=200 conv=notrunc 2>/dev/null; done
cp lora/metrics.jsonl before.jsonl
run 0 "$dia" train recipe.yaml "${on[@]}" --set dtype=f32 --set output_dir=lora --resume
said "is built again"
jq -c "select(.loss != null and .step > 2) | .loss" before.jsonl > a; jq -c "select(.loss != null and .step > 2) | .loss" lora/metrics.jsonl | tail -n 2 > b
same a b
ok "damaged programs are built again, and a resumed run has the same bits"

tiny_recipe whole.yaml whole max_steps=2 lora_r=- lora_alpha=- lora_target_modules=- model_name_or_path="$models/llama" dtype=bfloat16
run 0 "$dia" train whole.yaml "${on[@]}"
run 0 "$dia" train whole.yaml --set device=cpu --set output_dir=whole-cpu
paste <(losses whole) <(losses whole-cpu) | awk '{ if ($1 - $2 > 0.01 * $2 || $2 - $1 > 0.01 * $2) bad = 1; n++ } END { exit bad || n != 2 }' ||
    fail "bf16 losses: $(losses whole | tr '\n' ' '), on the cpu $(losses whole-cpu | tr '\n' ' ')"
exists whole/model.safetensors
ok "a whole model trains in bf16"

cp rows.jsonl kept.jsonl
tiny_prompts rows.jsonl 8
rewards='  - {name: length, min: 1, max: 4, soft: 12}'
tiny_recipe grpo.yaml grpo stage=grpo num_generations=4 per_device_train_batch_size=8 max_completion_length=8 max_steps=1
rewards=
run 0 "$dia" train grpo.yaml "${on[@]}"
jq -s -e 'map(select(.reward != null)) | length == 1' grpo/metrics.jsonl > /dev/null || fail "no step of GRPO: $(cat grpo/metrics.jsonl)"
cp kept.jsonl rows.jsonl
ok "a step of GRPO samples, judges and trains on OpenCL alone"

run 0 "$dia" train recipe.yaml --set "device=[cpu, opencl]" --set dtype=f32 --set output_dir=both
near both on-cpu
run 2 "$dia" train recipe.yaml --set device=opencl:99 --set output_dir=none
ok "devices are asked in their order; a device that is not there is refused"

run 0 "$dia" bench train --model "$models/gemma3" --device opencl --rows 2 --steps 2 --tokens 12 --scored 4 --json
holds out '.device == "opencl:0" and .matmul_peak_gflops > 0.5 and .share_of_peak > 0 and .share_of_peak < 1'
ok "bench train beside the peak of the device's own products"
