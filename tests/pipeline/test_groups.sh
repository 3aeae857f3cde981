#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Groups of judged answers through the command line: looked at, planned, trained, resumed, made into pairs; UltraFeedback's rows; what is refused.
. "$(dirname "$0")/../lib.sh" "$1"

tiny_groups rows.jsonl 24
tiny_groups eval.jsonl 8 2
for keys in "loss_type=grpo beta=0.04 importance_sampling_level=sequence" "loss_type=dapo multi_objective_aggregation=normalize_then_sum"; do
    # shellcheck disable=SC2086 # several keys
    tiny_recipe grpo.yaml grpo stage=grpo max_steps=8 learning_rate=0.02 eval_strategy=steps eval_steps=4 lora_dropout=0 $keys
    printf 'eval_datasets:\n  - path: eval.jsonl\n' >> grpo.yaml
    run 0 "$dia" data check grpo.yaml --json
    holds out '.rows == 24 and .refused == 0 and .kinds["group of judged completions"] == 24 and .criteria.accuracy.judged == 84'
    run 0 "$dia" plan grpo.yaml
    run 0 "$dia" explain grpo.yaml
    run 0 "$dia" train grpo.yaml
    exists grpo/report.html grpo/README.md grpo/checkpoint-8/optimizer.safetensors
    # The first pass is at ratio 1: nothing is clipped, and the reference is the policy: KL 0 in the first step.
    jq -s -e 'map(select(.loss)) | all(.["clip_ratio/region_mean"] == 0 and .["rewards/accuracy/mean"] != null and .reward_std > 0
        and .["rewards/tone/share"] != null and .frac_reward_zero_std != null and .entropy > 0)' grpo/metrics.jsonl >/dev/null ||
        fail "metrics: $(head -n 1 grpo/metrics.jsonl)"
    case $keys in *beta*) jq -s -e '.[0].kl == 0 and .[7].kl > 0' grpo/metrics.jsonl >/dev/null || fail "kl: $(cat grpo/metrics.jsonl)" ;; esac
    jq -s -e 'map(select(.eval_loss != null)) | length == 2 and all(.eval_reward != null)' grpo/metrics.jsonl >/dev/null || fail "no evaluations"
    cp -r grpo whole
    rm -r grpo/checkpoint-8
    run 0 "$dia" train grpo.yaml --resume
    same whole/adapter_model.safetensors grpo/adapter_model.safetensors
    rm -r whole grpo
    ok "grpo ($keys): checked, planned, trained, resumed"
done

# The answers that follow the pattern become likelier than the others: as SimPO sees the groups.
tiny_recipe learn.yaml learn stage=grpo max_steps=30 learning_rate=0.02 lora_dropout=0
run 0 "$dia" train learn.yaml
for adapter in none "$work/learn"; do
    tiny_recipe see.yaml see stage=simpo max_steps=1 learning_rate=1e-30 lora_dropout=0 per_device_train_batch_size=24 gradient_accumulation_steps=1 \
        shuffle=false $([ $adapter = none ] || echo adapter_init="$adapter" lora_r=- lora_alpha=- lora_target_modules=-)
    run 0 "$dia" train see.yaml --set overwrite_output_dir=true
    jq -s '.[0]["rewards/accuracies"]' see/metrics.jsonl
done > accuracies
jq -s -e '.[1] > .[0] + 0.1' accuracies >/dev/null || fail "grpo does not learn: $(cat accuracies)"
ok "grpo learns ($(tr '\n' ' ' < accuracies))"

run 0 "$dia" data mask grpo.yaml --rows 1 --json
[ "$(jq -s -c 'map(.side)' out)" = '["completions[0]","completions[1]"]' ] || fail "mask: $(cat out)"
ok "data mask shows every answer"

# UltraFeedback's files as they are: ratings as text, some "N/A"; in its first releases each in a list of one; overall scores in later ones; a row of no
# completions.
tiny_model spoken '{}'
rows=$data/ultrafeedback.jsonl tiny_recipe ultra.yaml ultra stage=grpo model_name_or_path="$work/spoken" max_steps=2 per_device_train_batch_size=2 \
    gradient_accumulation_steps=1
run 0 "$dia" data check ultra.yaml --json
holds out '.rows == 4 and .refused == 0 and (.criteria | map_values(.judged)) == {"instruction_following": 8, "honesty": 8, "truthfulness": 7,
    "helpfulness": 8, "overall_score": 6}'
run 0 "$dia" train ultra.yaml --set 'criteria_weights={helpfulness: 1, truthfulness: 2}'
jq -s -e '.[0]["rewards/truthfulness/mean"] > 1 and .[0].reward_std > 0' ultra/metrics.jsonl >/dev/null || fail "$(cat ultra/metrics.jsonl)"
rows=$data/ultrafeedback.jsonl tiny_recipe ultra.yaml ultra-pairs stage=simpo model_name_or_path="$work/spoken" max_steps=1
run 0 "$dia" train ultra.yaml
jq -s . "$data/ultrafeedback.jsonl" > ultra.json # one JSON array, as its files are kept
rows=ultra.json tiny_recipe ultra.yaml ultra-array stage=simpo model_name_or_path="$work/spoken" max_steps=1
run 0 "$dia" train ultra.yaml
same ultra-pairs/adapter_model.safetensors ultra-array/adapter_model.safetensors
ok "UltraFeedback's files"

# Where answers are sampled, rows are prompts.
run 0 env -C "$src" "$dia" data check tools/examples/tiny-grpo.yaml --json
holds out '.refused == 0 and .rows == 16 and .tokens > 16 and .trained_tokens == 0'
run 0 env -C "$src" "$dia" data mask tools/examples/tiny-grpo.yaml --rows 1
ok "data check and mask see prompts that are to be answered"

# Groups are pairs too: the best against the worst; a group without one better than another is skipped.
{
    cat rows.jsonl
    echo '{"prompt_input_ids":[1,2],"completions":[{"input_ids":[3],"scores":{"tone":0.5}},{"input_ids":[4],"scores":{"tone":0.5}}]}'
} > tied.jsonl
for stage in simpo dpo reward; do
    rows=$work/tied.jsonl tiny_recipe pairs.yaml pairs-$stage stage=$stage max_steps=2
    run 0 "$dia" train pairs.yaml
    said '1 of 25 groups have no answer that is judged better than another'
done
ok "pair stages take groups"

# refused CODE TEXT ROW [KEY=VALUE …]
refused() {
    local code=$1 text=$2 row=$3
    shift 3
    { head -n 2 rows.jsonl; printf '%s\n' "$row"; } > bad.jsonl
    rows=bad.jsonl tiny_recipe bad.yaml bad stage=grpo lora_dropout=0 "$@"
    run "$code" "$dia" train bad.yaml
    said "$text"
    absent bad/checkpoint-4
}
refused 5 'bad.jsonl:3: a group of one completion' '{"prompt_input_ids":[1],"completions":[{"input_ids":[3],"scores":{"tone":1}}]}'
refused 5 'bad.jsonl:3: completions[1].input_ids: expected a list of token ids, found none' \
    '{"prompt_input_ids":[1],"completions":[{"input_ids":[3],"scores":{"tone":1}},{"input_ids":[]}]}'
refused 5 'bad.jsonl:3: completions[1].content: the completion is empty' '{"prompt":"a","completions":[{"content":"x"},{"content":null}]}'
refused 5 'bad.jsonl:3: completions[0]: the completion is empty' '{"prompt":"a","completions":[{"content":""},{"content":"b"}]}'
refused 5 'bad.jsonl:3: completions[0].scores.tone: expected a number, or null where it was not judged, found text' \
    '{"prompt_input_ids":[1],"completions":[{"input_ids":[3],"scores":{"tone":"NaN"}},{"input_ids":[4]}]}'
refused 5 "not valid JSON: invalid token near 'NaN'" '{"prompt_input_ids":[1],"completions":[{"input_ids":[3],"scores":{"tone":NaN}},{"input_ids":[4]}]}'
refused 5 'bad.jsonl:3: weights.tone is 2, and 0.25 in a row before it' \
    '{"prompt_input_ids":[1],"completions":[{"input_ids":[3],"scores":{"tone":1}},{"input_ids":[4]}],"weights":{"tone":2}}'
refused 5 'bad.jsonl:3: completions[0].scores.tone is -1e+308, expected -1e38 to 1e38' \
    '{"prompt_input_ids":[1],"completions":[{"input_ids":[3],"scores":{"tone":-1e308}},{"input_ids":[4],"scores":{"tone":1e308}}]}'
refused 5 'bad.jsonl:3: weights.tone is 1e+300' '{"prompt_input_ids":[1],"completions":[{"input_ids":[3],"scores":{"tone":1}},{"input_ids":[4]}],"weights":{"tone":1e300}}'
refused 5 'bad.jsonl:3: a group of completions without a prompt' '{"completions":[{"content":"x"},{"content":"y"}]}'
refused 5 'this stage takes groups' '{"prompt_input_ids":[1],"chosen_input_ids":[2],"rejected_input_ids":[3]}'
refused 2 "no row names a criterion 'tune'; there are: accuracy, tone" "$(head -n 1 rows.jsonl)" 'criteria_weights={tune: 1}'
refused 2 "no criterion of this run is called 'safety'; there are: accuracy, tone" "$(head -n 1 rows.jsonl)" 'reward_vetoes="safety<0.5"'
said "bad.yaml:$(grep -n '^reward_vetoes' bad.yaml | cut -d: -f1):"
refused 2 ':1: grpo: delta bounds the ratio above the clip' "$(head -n 1 rows.jsonl)" delta=0.5
refused 2 ":1: grpo: reward_vetoes: 'tone<x' is no veto" "$(head -n 1 rows.jsonl)" 'reward_vetoes="tone<x"'
refused 2 'lora_dropout: above 0 the policy that is trained is not the one that answered' "$(head -n 1 rows.jsonl)" lora_dropout=0.1
refused 2 'num_iterations: passes over what was sampled, to sample less often, and these rows bring their answers: num_train_epochs' "$(head -n 1 rows.jsonl)" num_iterations=2
refused 2 "loss_type is 'cispo', expected one of dapo|grpo|bnpo|dr_grpo|gspo" "$(head -n 1 rows.jsonl)" loss_type=cispo
ok "what groups refuse"

# Equal scores, and answers that nothing judged: no step, nothing moves.
printf '%s\n' '{"prompt_input_ids":[1,2],"completions":[{"input_ids":[3],"scores":{"a":0.1}},{"input_ids":[4,5],"scores":{"a":0.1}}]}' \
    '{"prompt_input_ids":[1,3],"completions":[{"input_ids":[3]},{"input_ids":[4,5],"scores":{"a":null}}]}' > still.jsonl
rows=$work/still.jsonl tiny_recipe still.yaml still stage=grpo lora_dropout=0 max_steps=2 weight_decay=0
run 0 "$dia" train still.yaml
jq -s -e 'map(select(.loss != null)) | all(.loss == 0 and .grad_norm == 0)' still/metrics.jsonl >/dev/null || fail "$(cat still/metrics.jsonl)"
jq -s -e '.[0].frac_reward_zero_std == 0.5' still/metrics.jsonl >/dev/null || fail "$(cat still/metrics.jsonl)"
ok "equal scores and answers that nothing judged teach nothing"

# One criterion explains all of the advantage: said once, and in the metrics.
tiny_recipe alarm.yaml alarm stage=grpo lora_dropout=0 max_steps=3 'criteria_weights={accuracy: 1, tone: 0.001}'
run 0 "$dia" train alarm.yaml
said "criterion 'accuracy' explains"
jq -s -e '.[0].reward_dominance > 0.9' alarm/metrics.jsonl >/dev/null || fail "$(cat alarm/metrics.jsonl)"
# Scores that pull the other way: one explains more than all of it.
jq -c '.completions[].scores |= {accuracy, tone: (1 - .accuracy)}' rows.jsonl > opposed.jsonl
rows=$work/opposed.jsonl tiny_recipe opposed.yaml opposed stage=grpo lora_dropout=0 max_steps=1
run 0 "$dia" train opposed.yaml
said "criterion 'accuracy' explains 133 %"
said 'Shares add up to 100 %: one is above where another is negative'
ok "a criterion that rules is told of"

# Names as long as they may be, which differ in their last letters, and whose 40th byte is half a letter: each has its own metrics.
same=$(printf 'n%.0s' {1..39})éèàn
jq -n -c --arg a "$same" '{prompt_input_ids: [1, 2], completions: [{input_ids: [3], scores: {"\($a)A": 1, "\($a)B": 5}}, {input_ids: [4], scores: {"\($a)A": 0, "\($a)B": 1}}]}' > long.jsonl
[ "$(printf '%sA' "$same" | wc -c)" = 47 ] || fail "a name of 47 bytes was meant"
rows=$work/long.jsonl tiny_recipe long.yaml long stage=grpo lora_dropout=0 max_steps=1
run 0 "$dia" train long.yaml
jq -s -e --arg a "$same" '.[0] | .["rewards/\($a)A/mean"] == 0.5 and .["rewards/\($a)B/mean"] == 3 and (.["rewards/\($a)B/correlation"] - 1 | fabs) < 1e-9' long/metrics.jsonl >/dev/null ||
    fail "$(cat long/metrics.jsonl)"
ok "criteria with long names"

# A stage or adapter that no plugin is called is refused by what is loaded, so that a plugin of any name can be it.
tiny_recipe stage.yaml stage stage=kto
run 2 "$dia" train stage.yaml
said "stage: no objective plugin 'kto'; there are: "
said 'grpo'
tiny_recipe adapter.yaml adapter adapter=vera
run 2 "$dia" train adapter.yaml
said "adapter: no adapter plugin 'vera'; there are: "
ok "stages and adapters are what is loaded"
