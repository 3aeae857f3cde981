#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Gemma 3 270M on OpenCL alone (PoCL where there is no other device), in f32, an op that would fall back being an error: a step of LoRA SFT and a step
# of GRPO, with the loss and gradient norm of cpu, and their speed. With --full.
. "$(dirname "$0")/../lib.sh" "$1"
[ "$full" != 0 ] || skip "with tools/test --full only"
"$dia" doctor > doctor.txt
grep -q 'opencl:0' doctor.txt || skip "no OpenCL device"
model=$(real_model gemma3-270m)

# step NAME KEY=VALUE …: one on opencl and one on cpu; within 1e-4 of each other.
step() {
    local device key
    for device in opencl cpu; do
        tiny_recipe $device.yaml "$1-$device" model_name_or_path="$model" device=$device strict_device=true max_steps=1 save_steps=100 \
            gradient_accumulation_steps=1 warmup_steps=0 "${@:2}"
        run 0 "$dia" train $device.yaml --quiet
    done
    for key in loss grad_norm; do
        jq -n -e --arg key $key --slurpfile a "$1-opencl/metrics.jsonl" --slurpfile b "$1-cpu/metrics.jsonl" \
            'def first_of (rows): first (rows[] | .[$key] // empty); first_of ($a) as $x | first_of ($b) as $y | ($x - $y | fabs) <= 1e-4 * ($y | fabs)' > /dev/null ||
            fail "$1: $key: $(jq -c "select (.$key)" "$1-opencl/metrics.jsonl" "$1-cpu/metrics.jsonl")"
    done
    ok "$1: $(jq -c 'select (.loss) | {loss, grad_norm, reward}' "$1-opencl/metrics.jsonl")"
}

tiny_rows rows.jsonl 4
step sft
tiny_prompts rows.jsonl 2
rewards='  - {name: length, min: 1, max: 4, soft: 12}'
step grpo stage=grpo num_generations=4 per_device_train_batch_size=8 max_completion_length=12 learning_rate=0.0001

# The bars of speed: a LoRA step in f32 at a fifth of cpu's speed (the products are our own, not CLBlast's), and the table of the ABI under 1 % of a step.
for device in opencl cpu; do
    run 0 "$dia" bench train --model "$model" --device $device --dtype float32 --rows 2 --tokens 120 --scored 40 --steps 3 --json
    cp out $device.json
done
jq -n -e --slurpfile o opencl.json --slurpfile c cpu.json '$c[0].best_step_seconds / $o[0].best_step_seconds >= 0.2' > /dev/null ||
    fail "a step takes $(jq .best_step_seconds opencl.json) s on opencl, $(jq .best_step_seconds cpu.json) on cpu"
ok "a step in $(jq .best_step_seconds opencl.json) s, on cpu in $(jq .best_step_seconds cpu.json)"
run 0 "$dia" bench abi --model "$model" --device cpu --rows 2 --tokens 120 --scored 40 --steps 2 --json
holds out '.abi_share > 0 and .abi_share < 0.01'
ok "the table costs $(jq .abi_share out) of a step"
