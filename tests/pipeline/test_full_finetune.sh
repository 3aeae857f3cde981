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

# A model with a template for tools, which transformers keeps in a folder: whatever is written of the model renders rows as it does.
tiny_model "$work/called" '{}'
printf '%s' '{% for m in messages %}a{{ m.content }}</s>{% endfor %}' > called/chat_template.jinja
mkdir called/additional_chat_templates
printf '%s' '{% for t in tools %}b{{ t.function.name }}{% endfor %}{% for m in messages %}c{{ m.content }}</s>{% endfor %}' > called/additional_chat_templates/tool_use.jinja
printf r > called/additional_chat_templates/rag.jinja # for others: no verb here takes it
printf '{"model_max_length": 1000000000000000019884624838656, "eos_token": "</s>", "chat_template": "ccc"}' > called/tokenizer_config.json
turns='"messages":[{"role":"user","content":"ab"},{"role":"assistant","content":"ba"}]'
printf '%s\n' "{$turns,\"tools\":[{\"name\":\"ab\"}]}" "{$turns}" > turns.jsonl
printf '{"ids":[%s]}\n' 4,5,6,5,2,6,4,3,2 3,5,2,5,3,2 > ids.jsonl # b ab c ab </s> c b a </s>, and a ab </s> ab a </s>
rows=$work/turns.jsonl full_recipe called.yaml run-called model_name_or_path="$work/called" max_steps=4 save_steps=2 per_device_train_batch_size=1
blind="1 of 2 rows have tools, of which the chat template says nothing"
run 0 "$dia" train called.yaml
! grep -q -F "$blind" err || fail "a template for tools is said not to show them"
run 0 "$dia" train called.yaml --resume run-called/checkpoint-2
run 0 "$dia" train called.yaml --set chat_template_path="$work/called/chat_template.jinja" --set output_dir=blind --set max_steps=1
said "$blind"
holds run-called/checkpoint-4/manifest.json '.files | has("tokenizer_config.json") and (has("chat_template.jinja") | not)'
holds run-called/digests.json '.files | has("tokenizer_config.json")'
holds run-called/tokenizer_config.json '.model_max_length == 1e30 and .eos_token == "</s>" and [.chat_template[].name] == ["rag", "tool_use", "default"]'
mkdir -p merged/additional_chat_templates # another model's, left there
touch merged/chat_template.jinja merged/additional_chat_templates/tool_use.jinja
run 0 "$dia" merge --model run-called/checkpoint-4 --out merged
absent merged/chat_template.jinja merged/additional_chat_templates
for model in called run-called run-called/checkpoint-2 run-called/checkpoint-4 merged; do
    run 0 "$dia" tokenize --model $model --data turns.jsonl --out out.jsonl
    same out.jsonl ids.jsonl
done
ok "what is written of a model renders tools by its template for them"
