#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# plan --fit on the real Gemma: what it says to run fits the budget, and the run stays within the plan.
. "$(dirname "$0")/../lib.sh" "$1"

model=$(real_model gemma3-270m)
rows=$work/rows.jsonl
awk 'BEGIN { for (r = 0; r < 4; r++) { printf "{\"prompt\": \"Question %d:", r; for (i = 0; i < 30; i++) printf " the number %d and", i * r
     printf "\", \"completion\": \""; for (i = 0; i < 30; i++) printf " %d", i + r; print "\"}" } }' > "$rows"
tiny_recipe recipe.yaml run model_name_or_path="$model" dtype=bfloat16 max_steps=1 save_steps=1 lora_r=16 lora_alpha=32 \
    per_device_train_batch_size=4 gradient_accumulation_steps=1
run 0 "$dia" explain recipe.yaml
run 1 "$dia" plan recipe.yaml --fit 1GiB
said "the least this run needs is"
for budget in 1280MiB 1536MiB 3GiB; do
    run 0 "$dia" plan recipe.yaml --fit "$budget" --json
    cp out plan.json
    holds plan.json ".memory_bytes.total <= ($(numfmt --from=iec-i "${budget%B}"))"
    mapfile -t set < <(jq -r '"--set", "per_device_train_batch_size=\(.per_device_train_batch_size)", "--set",
        "gradient_accumulation_steps=\(.gradient_accumulation_steps)", "--set", "gradient_checkpointing=\(.gradient_checkpointing)"' plan.json)
    rm -rf run
    run 0 "$dia" train recipe.yaml "${set[@]}" --log-level debug
    within_plan err
    ok "$budget: ${set[*]}"
done
