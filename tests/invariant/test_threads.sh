#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The number of threads changes no bit: of a trained adapter, of its optimizer's state, of the logged losses, of scores.
. "$(dirname "$0")/../lib.sh" "$1"

threads=(1 2 4)
[ "$full" = 0 ] || threads=(1 2 3 4 8)
tiny_rows scored.jsonl 32
for case in sft:{gemma3,llama}:{float32,bfloat16} simpo:gemma3:bfloat16 dpo:llama:bfloat16 reward:gemma3:bfloat16 grpo:gemma3:bfloat16; do
    IFS=: read -r stage model dtype <<< "$case"
    rows_for "$stage" rows.jsonl 32
    name=$stage-$model-$dtype
    for n in "${threads[@]}"; do
        tiny_recipe recipe.yaml "$name-$n" stage="$stage" model_name_or_path="$models/$model" dtype=$dtype max_steps=6 \
            lora_dropout="$(dropout_for "$stage")"
        OMP_NUM_THREADS=$n run 0 "$dia" train recipe.yaml
        OMP_NUM_THREADS=$n run 0 "$dia" score --model "$models/$model" --adapter "$name-$n" --data scored.jsonl --out "$name-$n.jsonl"
        for file in $(cd "$name-1" && find . -name '*.safetensors' -size -2000k); do
            same "$name-1/$file" "$name-$n/$file"
        done
        same "$name-1.jsonl" "$name-$n.jsonl"
        diff <(jq -c '[.step, .loss, .grad_norm]' "$name-1/metrics.jsonl") <(jq -c '[.step, .loss, .grad_norm]' "$name-$n/metrics.jsonl") >&2 ||
            fail "$name: metrics differ between 1 and $n threads"
    done
    ok "$stage, $model $dtype: ${threads[*]} threads, the same bytes"
done
