#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The number of threads changes no bit: of a trained adapter, of its optimizer's state, of the logged losses, of scores.
. "$(dirname "$0")/../lib.sh" "$1"

tiny_rows rows.jsonl 32
threads=(1 2 4)
[ "$full" = 0 ] || threads=(1 2 3 4 8)
for model in gemma3 llama; do
    for dtype in float32 bfloat16; do
        for n in "${threads[@]}"; do
            tiny_recipe recipe.yaml "$model-$dtype-$n" model_name_or_path="$models/$model" dtype=$dtype max_steps=6 lora_dropout=0.1
            OMP_NUM_THREADS=$n run 0 "$dia" train recipe.yaml
            OMP_NUM_THREADS=$n run 0 "$dia" score --model "$models/$model" --adapter "$model-$dtype-$n" --data rows.jsonl --out "$model-$dtype-$n.jsonl"
            for file in $(cd "$model-$dtype-1" && find . -name '*.safetensors' -size -2000k); do
                same "$model-$dtype-1/$file" "$model-$dtype-$n/$file"
            done
            same "$model-$dtype-1.jsonl" "$model-$dtype-$n.jsonl"
            diff <(jq -c '[.step, .loss, .grad_norm]' "$model-$dtype-1/metrics.jsonl") <(jq -c '[.step, .loss, .grad_norm]' "$model-$dtype-$n/metrics.jsonl") >&2 ||
                fail "$model $dtype: metrics differ between 1 and $n threads"
        done
        ok "$model $dtype: ${threads[*]} threads, the same bytes"
    done
done
