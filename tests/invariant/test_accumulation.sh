#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# How a step of 8 rows is cut into micro-batches changes no bit: 8×1, 1×8, 2×4, 4×2; with dropout, with activation checkpointing.
. "$(dirname "$0")/../lib.sh" "$1"

splits=(8x1 1x8 2x4 4x2)
# A sanitizer looks for other faults, in the same code: two splits show them.
[ "$full" = 1 ] || [[ $build != *sanitize* ]] || splits=(8x1 2x4)
seen='[.step, .loss, .grad_norm, .min_reward, .max_reward]'
for case in sft:{gemma3,qwen2}:{float32,bfloat16} simpo:gemma3:bfloat16 dpo:llama:float32 reward:gemma3:float32 grpo:gemma3:bfloat16; do
    IFS=: read -r stage model dtype <<< "$case"
    rows_for "$stage" rows.jsonl 40
    first=
    for split in "${splits[@]}"; do
        for checkpointing in false true; do
            out=$stage-$model-$dtype-$split-$checkpointing
            tiny_recipe recipe.yaml "$out" stage="$stage" model_name_or_path="$models/$model" dtype=$dtype max_steps=5 save_steps=5 \
                lora_dropout="$(dropout_for "$stage")" per_device_train_batch_size="${split%x*}" gradient_accumulation_steps="${split#*x}" \
                gradient_checkpointing=$checkpointing
            run 0 "$dia" train recipe.yaml
            first=${first:-$out}
            same "$first/adapter_model.safetensors" "$out/adapter_model.safetensors"
            diff <(jq -c "$seen" "$first/metrics.jsonl") <(jq -c "$seen" "$out/metrics.jsonl") >&2 ||
                fail "$out: metrics differ from $first"
        done
    done
    ok "$stage, $model $dtype: ${splits[*]} are the same bytes"
done

# A trained embedding that is the head too gets its gradient from both ends of the model; the last step has 3 rows.
tiny_rows rows.jsonl 43
for keys in "lora_modules_to_save=[embed_tokens]" "lora_r=- lora_alpha=- lora_target_modules=-"; do
    for dtype in float32 bfloat16; do
        rm -rf first
        for split in "${splits[@]}"; do
            # shellcheck disable=SC2086 # several keys
            tiny_recipe recipe.yaml tied dtype=$dtype max_steps=- num_train_epochs=1 $keys per_device_train_batch_size="${split%x*}" \
                gradient_accumulation_steps="${split#*x}"
            rm -rf tied
            run 0 "$dia" train recipe.yaml
            [ -d first ] || mv tied first
            [ -d tied ] || continue
            for file in first/*.safetensors; do same "$file" "tied/${file#first/}"; done
            diff <(jq -c "$seen" first/metrics.jsonl) <(jq -c "$seen" tied/metrics.jsonl) >&2 ||
                fail "$keys $dtype $split: metrics differ"
        done
    done
    ok "tied embedding trained ($keys): the same bytes"
done
