#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Without an adapter every weight is trained, in pretraining and in SFT; the model that is written is a Hugging Face folder.
. "$(dirname "$0")/../lib.sh" "$1"

tiny_rows rows.jsonl 32
full_recipe() { tiny_recipe "$@" lora_r=- lora_alpha=- lora_target_modules=-; }
for stage in pretrain sft; do
    full_recipe "$stage.yaml" "run-$stage" stage=$stage model_name_or_path="$models/llama" max_steps=12 learning_rate=0.003
    run 0 "$dia" train "$stage.yaml"
    exists "run-$stage/model.safetensors" "run-$stage/config.json" "run-$stage/checkpoint-12"
    absent "run-$stage/adapter_config.json"
    jq -c 'select(has("loss"))' "run-$stage/metrics.jsonl" > steps.jsonl
    holds steps.jsonl '.[-1].loss < 0.95 * .[0].loss' -s
    run 0 "$dia" score --model "run-$stage" --data rows.jsonl --out after.jsonl
    run 0 "$dia" score --model "$models/llama" --data rows.jsonl --out before.jsonl
    jq -s '[.[].nll] | add' before.jsonl > a
    jq -s '[.[].nll] | add' after.jsonl > b
    awk -v a="$(cat a)" -v b="$(cat b)" 'BEGIN { exit !(b < a) }' || fail "$stage: the trained model scores no better"
done
ok "pretrain and sft train every weight, and what they write is read again"

run 0 "$dia" score --model run-sft/checkpoint-12 --data rows.jsonl --out checkpoint.jsonl
same checkpoint.jsonl after.jsonl
ok "a checkpoint is a model"

full_recipe sgd.yaml run-sgd optim=sgd model_name_or_path="$models/qwen3" max_steps=2 gradient_checkpointing=true
run 0 "$dia" train sgd.yaml
full_recipe plain.yaml run-plain optim=sgd model_name_or_path="$models/qwen3" max_steps=2
run 0 "$dia" train plain.yaml
same run-sgd/model.safetensors run-plain/model.safetensors
ok "activation checkpointing changes no bit"
