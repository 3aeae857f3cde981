#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Folders that transformers saved with bitsandbytes load, and score as their dequantised weights do in PyTorch.
. "$(dirname "$0")/../lib.sh" "$1"

python=${DIAPASON_PEER_PYTHON:-python3}
"$python" -c 'import torch, transformers, bitsandbytes' 2>/dev/null ||
    skip "no torch, transformers and bitsandbytes in $python (set DIAPASON_PEER_PYTHON)"

tiny_rows rows.jsonl 8
for model in gemma3 llama; do
    run 0 "$python" "$src/tests/peer/bitsandbytes_folders.py" "$models/$model" rows.jsonl "$model"
    for way in nf4 nf4_double fp4 int8; do
        for quantization in auto none; do
            run 0 "$dia" score --model "$model/$way" --quantization $quantization --data rows.jsonl --out $quantization.jsonl
            jq -s --slurpfile want "$model/$way.jsonl" '[range(length) as $i | range($want[$i] | length) as $t
                | .[$i].logprobs[$t + 1] - $want[$i][$t] | fabs] | max' $quantization.jsonl > largest
            awk '{ exit !($1 < 5e-4) }' largest || fail "$model/$way ($quantization): log-probs differ by $(cat largest)"
        done
        same auto.jsonl none.jsonl
        tiny_recipe recipe.yaml "run-$model-$way" model_name_or_path="$model/$way" max_steps=4
        run 0 "$dia" train recipe.yaml
        run 0 "$dia" merge --model "$model/$way" --adapter "run-$model-$way" --format safetensors --out merged
        holds merged/config.json 'has("quantization_config") | not'
        run 0 "$dia" score --model merged --data rows.jsonl
        tiny_recipe whole.yaml whole model_name_or_path="$model/$way" lora_r=- lora_alpha=- lora_target_modules=-
        run 2 "$dia" train whole.yaml
        said quantised
        ok "$model/$way: largest difference of a log-prob $(cat largest)"
    done
done
