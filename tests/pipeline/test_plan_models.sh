#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# plan and explain on the six tiny models, and runs that stay within their plan: LoRA, DoRA and full fine-tuning, f32 and bf16, with evaluation.
. "$(dirname "$0")/../lib.sh" "$1"

tiny_rows rows.jsonl 32
for model in gemma3 gemma2 llama qwen2 qwen3 mistral; do
    tiny_recipe recipe.yaml "out-$model" model_name_or_path="$models/$model"
    run 0 "$dia" plan recipe.yaml --json
    holds out '.memory_bytes | .total == ([to_entries[] | select(.key != "total").value] | add) and .activations > 0 and .fixed > 0'
    run 0 "$dia" explain recipe.yaml --json
    jq -e '[.. | strings] | any(. == "attention")' out > /dev/null || fail "explain $model shows no attention"
    absent "out-$model"
    ok "$model"
done
case $build in *sanitize*) exit 0 ;; esac # red zones are in no plan
for keys in "adapter=lora" "adapter=dora dtype=bfloat16" "finetuning_type=full lora_r=- lora_alpha=- lora_target_modules=-" \
    "adapter=lora gradient_checkpointing=true eval_strategy=steps eval_steps=2 eval_datasets=rows.jsonl per_device_eval_batch_size=32"; do
    rm -rf run
    # shellcheck disable=SC2086
    tiny_recipe recipe.yaml run max_steps=4 $keys
    run 0 "$dia" train recipe.yaml --log-level debug
    within_plan err
done
