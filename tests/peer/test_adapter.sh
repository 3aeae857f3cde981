#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# transformers and PEFT open what train and merge write, and compute the log-probs that score wrote.
. "$(dirname "$0")/../lib.sh" "$1"

python=${DIAPASON_PEER_PYTHON:-python3}
"$python" -c 'import torch, transformers, peft' 2>/dev/null || skip "no torch, transformers and peft in $python (set DIAPASON_PEER_PYTHON)"

tiny_rows rows.jsonl 16
for model in gemma3 llama; do
    for variant in lora rslora dora embed head both norm; do
        extra=()
        [ $variant != rslora ] || extra=(use_rslora=true)
        [ $variant != dora ] || extra=(use_dora=true)
        [ $variant != embed ] || extra=(lora_modules_to_save='[embed_tokens]') # of gemma3: the head too, which is tied to it
        [ $variant != head ] || extra=(lora_modules_to_save='[lm_head]') # of gemma3: tied no longer
        [ $variant != both ] || extra=(lora_modules_to_save='[embed_tokens, lm_head]')
        [ $variant != norm ] || extra=(lora_modules_to_save='[norm]') # every norm, as PEFT reads the name
        tiny_recipe recipe.yaml "$model-$variant" model_name_or_path="$models/$model" max_steps=6 learning_rate=0.01 "${extra[@]}"
        run 0 "$dia" train recipe.yaml
        run 0 "$dia" score --model "$models/$model" --adapter "$model-$variant" --data rows.jsonl --out "$model-$variant.jsonl"
        echo "$model-$variant.jsonl $models/$model $model-$variant" >> jobs
        run 0 "$dia" merge --model "$models/$model" --adapter "$model-$variant" --format safetensors --out "merged-$model-$variant"
        run 0 "$dia" score --model "merged-$model-$variant" --data rows.jsonl --out "merged-$model-$variant.jsonl"
        echo "merged-$model-$variant.jsonl merged-$model-$variant" >> jobs
    done
done
run 0 "$python" "$src/tests/peer/adapter.py" jobs
cat out
[ "$(wc -l < out)" = "$(wc -l < jobs)" ] || fail "not every job was compared"
ok "PEFT and transformers agree with score"
