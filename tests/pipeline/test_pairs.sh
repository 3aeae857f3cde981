#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Preference stages through the command line: rows looked at, planned, explained, trained, resumed; what they refuse, by name and place.
. "$(dirname "$0")/../lib.sh" "$1"

tiny_pairs rows.jsonl 24
tiny_pairs eval.jsonl 8 2
for stage in simpo dpo reward; do
    tiny_recipe $stage.yaml $stage stage=$stage max_steps=8 learning_rate=0.02 eval_strategy=steps eval_steps=4
    printf 'eval_datasets:\n  - path: eval.jsonl\n' >> $stage.yaml
    run 0 "$dia" data check $stage.yaml --json
    holds out '.rows == 24 and .refused == 0 and .kinds["preference pair (chosen, rejected)"] == 24'
    run 0 "$dia" plan $stage.yaml
    run 0 "$dia" explain $stage.yaml
    run 0 "$dia" train $stage.yaml
    exists $stage/report.html $stage/README.md $stage/checkpoint-8/optimizer.safetensors
    jq -s -e 'map(select(.loss)) | .[0].loss > .[-1].loss' $stage/metrics.jsonl >/dev/null || fail "$stage: the loss did not fall"
    jq -s -e 'map(select(.loss)) | all(.["rewards/margins"] and .["rewards/accuracies"] != null)' $stage/metrics.jsonl >/dev/null ||
        fail "$stage: no reward metrics"
    jq -s -e 'map(select(.eval_loss)) | length == 2' $stage/metrics.jsonl >/dev/null || fail "$stage: no evaluations"
    [ $stage != reward ] || jq -s -e 'map(select(.loss)) | all(.min_reward < .mean_reward and .mean_reward < .max_reward and
        .max_reward >= .["rewards/chosen"])' $stage/metrics.jsonl >/dev/null || fail "extremes: $(head -n 1 $stage/metrics.jsonl)"
    # From the middle on: the same bytes.
    cp -r $stage whole
    rm -r $stage/checkpoint-8
    run 0 "$dia" train $stage.yaml --resume
    same whole/adapter_model.safetensors $stage/adapter_model.safetensors
    rm -r whole
    ok "$stage: checked, planned, trained, resumed"
done

run 0 "$dia" data mask simpo.yaml --rows 1 --json
[ "$(jq -s -c 'map(.side)' out)" = '["chosen","rejected"]' ] || fail "mask: $(cat out)"
ok "data mask shows both sides"

# The reference is the policy before step 1: without dropout the first step's rewards are 0, to the last bit, and the loss is ln 2.
for dtype in float32 bfloat16; do
    tiny_recipe first.yaml first-$dtype stage=dpo max_steps=1 lora_dropout=0 dtype=$dtype
    run 0 "$dia" train first.yaml
    jq -s -e '.[0] | .["rewards/chosen"] == 0 and .["rewards/rejected"] == 0 and (.loss - 0.6931471805599453 | fabs) < 1e-15' \
        first-$dtype/metrics.jsonl >/dev/null || fail "the first step is not at the reference: $(head -n 1 first-$dtype/metrics.jsonl)"
done
tiny_recipe second.yaml second stage=dpo max_steps=1 lora_dropout=0 adapter_init="$work/simpo" lora_r=- lora_alpha=- lora_target_modules=-
run 0 "$dia" train second.yaml
jq -s -e '.[0]["rewards/chosen"] == 0' second/metrics.jsonl >/dev/null || fail "with adapter_init the reference is not the adapter"
ok "the reference is the policy before step 1, also with adapter_init"

# A reward model is saved with its head, and read back.
holds reward/adapter_config.json '.task_type == "SEQ_CLS" and .modules_to_save == ["score"]'
tiny_recipe on.yaml on stage=reward max_steps=1 lora_dropout=0 learning_rate=1e-30 adapter_init="$work/reward" lora_r=- lora_alpha=- \
    lora_target_modules=-
run 0 "$dia" train on.yaml
same on/adapter_model.safetensors reward/adapter_model.safetensors
run 1 "$dia" merge --model "$models/gemma3" --adapter reward --format safetensors --out merged
said 'score head'
absent merged/model.safetensors
tiny_recipe whole.yaml whole stage=reward max_steps=2 lora_r=- lora_alpha=- lora_target_modules=-
run 0 "$dia" train whole.yaml
tiny_recipe again.yaml again stage=reward max_steps=1 learning_rate=1e-30 model_name_or_path="$work/whole" lora_r=- lora_alpha=- \
    lora_target_modules=-
run 0 "$dia" train again.yaml
same whole/model.safetensors again/model.safetensors
ok "a reward model keeps its score head, as an adapter and as a model"

# refused TEXT ROW [KEY=VALUE …]
refused() {
    local text=$1 row=$2
    shift 2
    { head -n 2 rows.jsonl; printf '%s\n' "$row"; } > bad.jsonl
    rows=bad.jsonl tiny_recipe bad.yaml bad stage=simpo "$@"
    run 5 "$dia" train bad.yaml
    said "bad.jsonl:3: $text"
    absent bad/checkpoint-4
}
refused 'chosen_input_ids and rejected_input_ids are the same' '{"prompt_input_ids":[1,2],"chosen_input_ids":[3],"rejected_input_ids":[3]}'
refused 'chosen and rejected are the same' '{"prompt":"a","chosen":"b","rejected":"b"}'
refused 'rejected_input_ids: expected a list of token ids, found none' '{"prompt_input_ids":[1,2],"chosen_input_ids":[3],"rejected_input_ids":[]}'
refused 'chosen: the completion is empty' '{"prompt":"a","chosen":"","rejected":"b"}'
refused 'a preference pair without rejected' '{"prompt":"a","chosen":"b"}'
refused 'token ids: this stage takes preference pairs' '{"input_ids":[1,2,3]}'
refused 'the prompt has 40 tokens and max_length is 32' \
    "{\"prompt_input_ids\":[$(seq -s, 1 40)],\"chosen_input_ids\":[3],\"rejected_input_ids\":[4]}" max_length=32
tiny_rows singles.jsonl 4
rows=singles.jsonl tiny_recipe singles.yaml singles stage=dpo
run 5 "$dia" train singles.yaml
said 'singles.jsonl:1: token ids: this stage takes preference pairs'
tiny_recipe packed.yaml packed stage=simpo packing=true
run 2 "$dia" train packed.yaml
said 'packing: this stage trains several answers to a prompt together'
rows=singles.jsonl tiny_recipe prompts.yaml prompts stage=sft max_prompt_length=4
run 2 "$dia" train prompts.yaml
said 'max_prompt_length is for stages on preference pairs'
tiny_recipe keys.yaml keys stage=dpo simpo_gamma=1
run 2 "$dia" train keys.yaml
said "'simpo_gamma' is not a parameter of dpo; there are: beta, loss_type, label_smoothing"
tiny_recipe type.yaml type stage=dpo loss_type=exo
run 2 "$dia" train type.yaml
said "loss_type is 'exo', expected one of sigmoid|ipo|hinge"
ok "what preference stages refuse"
