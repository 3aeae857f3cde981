#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# PPO through the command line: answers sampled, valued, judged, trained in several passes; the value head saved, read back, left aside elsewhere;
# killed within a rollout and resumed; a learned reward model; and what is refused.
. "$(dirname "$0")/../lib.sh" "$1"

tiny_prompts rows.jsonl 24
tiny_prompts eval.jsonl 8 2
# Answers of the untrained model are near the limit of 16 tokens; those of 1 to 4 tokens earn 1.
rewards='  - {name: length, min: 1, max: 4, soft: 12}'

# ppo_recipe FILE OUT [KEY=VALUE …]: 16 answers a rollout, two steps a pass, two passes.
ppo_recipe() {
    local file=$1 out=$2
    shift 2
    tiny_recipe "$file" "$out" stage=ppo max_completion_length=16 max_steps=48 learning_rate=0.02 per_device_train_batch_size=8 \
        gradient_accumulation_steps=1 num_mini_batches=2 num_ppo_epochs=2 kl_coef=0.02 vf_coef=0.5 save_steps=15 "$@"
}

ppo_recipe ppo.yaml ppo eval_strategy=steps eval_steps=16 kl_target=5 kl_horizon=100
printf 'eval_datasets:\n  - path: eval.jsonl\n' >> ppo.yaml
run 0 "$dia" plan ppo.yaml
run 0 "$dia" explain ppo.yaml
run 0 "$dia" train ppo.yaml --log-level debug
within_plan err
exists ppo/report.html ppo/checkpoint-45/objective.bin ppo/checkpoint-45/rollout.json
grep -q '<dt>Reward</dt>' ppo/report.html || fail "report.html has no tile for the score"
scores='map(select(.["objective/scores"] != null) | .["objective/scores"])'
jq -s -e "$scores"' | length == 12 and (.[-3:] | add) > 2 * (.[:3] | add)' ppo/metrics.jsonl >/dev/null ||
    fail "the score did not rise: $(jq -s -c "$scores" ppo/metrics.jsonl)"
jq -s -e 'map(select(.eval_reward != null)) | length == 3 and .[-1].eval_reward > .[0].eval_reward' ppo/metrics.jsonl >/dev/null || fail "held-out prompts"
# Before the first update policy, rollout and reference are one: ratios are 1 and the KL is 0, to the last bit.
jq -s -e '.[0] | .["objective/kl"] == 0 and .["val/ratio"] == 1 and .["policy/approxkl_avg"] == 0 and .["policy/clipfrac_avg"] == 0' ppo/metrics.jsonl >/dev/null ||
    fail "the first step: $(head -n 1 ppo/metrics.jsonl)"
jq -s -e 'map(select(.["objective/kl"] != null)) | all(.["val/ratio"] == 1 and .["val/num_eos_tokens"] != null and .["objective/entropy"] > 0
    and .["objective/rlhf_reward"] != null and .["objective/non_score_reward"] != null
    and .reward != null and .["rewards/length/mean"] == .reward and .["rewards/length/std"] != null)' ppo/metrics.jsonl >/dev/null || fail "metrics of a rollout"
jq -s -e 'map(select(.loss)) | all(.["loss/policy_avg"] != null and .["loss/value_avg"] >= 0 and .["policy/entropy_avg"] > 0
    and .["val/clipfrac_avg"] != null and .["val/ratio_var"] >= 0)' ppo/metrics.jsonl >/dev/null || fail "metrics of a step"
jq -s -e 'all(.lr == .learning_rate and .eps > 0) and (map(.episode) | .[0] == 16 and .[3] == 16 and .[4] == 32 and .[47] == 192)' \
    <(jq -c 'select(.lr)' ppo/metrics.jsonl) >/dev/null || fail "episodes: $(jq -c '[.step,.episode,.eps,.lr]' ppo/metrics.jsonl | head -n 6)"
jq -s -e 'map(select(.["objective/kl_coef"]) | .["objective/kl_coef"]) | .[0] == 0.02 and (unique | length) > 6' ppo/metrics.jsonl >/dev/null ||
    fail "kl_coef does not adapt"
ok "sampled, valued, judged, trained until the answers earned more"

# From the middle of a rollout on, adaptive coefficient included: the same bytes.
cp -r ppo whole
rm -r ppo/checkpoint-48 ppo/checkpoint-45 ppo/checkpoint-30
run 0 "$dia" train ppo.yaml --resume
same whole/adapter_model.safetensors ppo/adapter_model.safetensors
same <(jq -c '[.step,.loss,.["objective/kl_coef"]]' whole/metrics.jsonl) <(jq -c '[.step,.loss,.["objective/kl_coef"]]' ppo/metrics.jsonl)
ok "resumed within a rollout"

holds ppo/adapter_config.json '.task_type == "CAUSAL_LM" and .modules_to_save == ["value"]'
grep -a -q 'base_model.model.value.weight' ppo/adapter_model.safetensors || fail "no value.weight in the adapter"
grep -a -q 'base_model.model.value.bias' ppo/adapter_model.safetensors || fail "no value.bias in the adapter"
ppo_recipe on.yaml on max_steps=1 num_mini_batches=1 num_ppo_epochs=1 learning_rate=1e-30 adapter_init="$work/ppo" lora_r=- lora_alpha=- lora_target_modules=-
run 0 "$dia" train on.yaml
same on/adapter_model.safetensors ppo/adapter_model.safetensors
ok "the value head comes back"

# Elsewhere it is left aside, and said to be.
tiny_rows given.jsonl 6
run 0 "$dia" score --model "$models/gemma3" --adapter ppo --data given.jsonl --out scores.jsonl
said 'value head'
run 0 "$dia" merge --model "$models/gemma3" --adapter ppo --format safetensors --out merged
said 'value head'
run 0 "$dia" score --model merged --data given.jsonl --out merged.jsonl
paste -d, <(jq '.nll' scores.jsonl) <(jq '.nll' merged.jsonl) | awk -F, '{ d = $1 - $2; if (d > 1e-4 || d < -1e-4) exit 1 }' || fail "merged and adapter differ"
(
    unset rewards
    rows=given.jsonl tiny_recipe sft.yaml sft max_steps=1 adapter_init="$work/ppo" lora_r=- lora_alpha=- lora_target_modules=-
    run 0 "$dia" train sft.yaml
    said 'value head'
    holds sft/adapter_config.json '.modules_to_save == null or .modules_to_save == []'
)
ok "other stages and verbs leave the value head aside"

ppo_recipe full.yaml full max_steps=2 num_mini_batches=1 lora_r=- lora_alpha=- lora_target_modules=-
run 0 "$dia" train full.yaml
ppo_recipe again.yaml again max_steps=1 num_mini_batches=1 num_ppo_epochs=1 learning_rate=1e-30 model_name_or_path="$work/full" lora_r=- lora_alpha=- lora_target_modules=-
run 0 "$dia" train again.yaml
same full/model.safetensors again/model.safetensors
ok "a policy trained whole keeps its value head too"

# A learned reward model, in one command with the policy that learns from it: the model's score rises at a bounded KL.
(cd "$src" && run 0 "$dia" train tools/examples/tiny-ppo.yaml --set "output_dir=$work/rlhf" --log-level debug)
! grep -q 'the plan was too small' err || fail "an arena grew: $(grep 'the plan was too small' err | head -n 3)"
(cd "$src" && run 0 "$dia" plan tools/examples/tiny-ppo.yaml --set "output_dir=$work/rlhf" --json)
holds out '.stages | map(.memory_bytes.rewards > 0) == [false, true]'
jq -s -e "$scores"' | length == 12 and (.[-3:] | add) > 1 + (.[:3] | add)' rlhf/ppo/metrics.jsonl >/dev/null ||
    fail "the reward model's score did not rise: $(jq -s -c "$scores" rlhf/ppo/metrics.jsonl)"
jq -s -e 'map(select(.["objective/kl"] != null) | .["objective/kl"]) | .[0] == 0 and max < 10' rlhf/ppo/metrics.jsonl >/dev/null || fail "the KL"
ok "reward model, then PPO on it"

# A value model apart: planned, saved, resumed in the middle of a rollout, read back; from a model folder, and from the reward model.
ppo_recipe apart.yaml apart value_model="$models/gemma3" max_steps=24
run 0 "$dia" plan apart.yaml --json
holds out '.memory_bytes.value_model > 0'
run 0 "$dia" explain apart.yaml --json
holds out 'group_by (.of) | map({key: .[0].of, value: map(.op)}) | from_entries | (.["value model"] | index("attention_bwd") and index("adamw_step")
    and (index("row_logprobs") | not)) and (.policy | index("row_logprobs"))'
run 0 "$dia" explain apart.yaml
grep -q '^Of the value model:$' out || fail "explain does not show the value model: $(cat out)"
run 0 "$dia" train apart.yaml --log-level debug
within_plan err
! grep -q 'the plan was too small' err || fail "an arena grew"
exists apart/checkpoint-15/value_model.safetensors apart/value_model/adapter_config.json
holds apart/adapter_config.json '.modules_to_save == null or .modules_to_save == []'
holds apart/value_model/adapter_config.json '.task_type == "SEQ_CLS" and .modules_to_save == ["score"]'
jq -s -e "$scores"' | length == 6 and .[-1] > .[0]' apart/metrics.jsonl >/dev/null || fail "the score did not rise: $(jq -s -c "$scores" apart/metrics.jsonl)"
# With a head of zeros its first gradient is that of a head on the policy's own trunk, which is the same model.
for way in own "value_model=$models/gemma3"; do
    rewards='  - {name: length, min: 0, max: 1000}' ppo_recipe first.yaml first-${way%%=*} ${way/own/seed=7} max_steps=1 num_mini_batches=1 num_ppo_epochs=1 optim=sgd max_grad_norm=0 learning_rate=1 lr_scheduler_type=constant warmup_steps=0
    run 0 "$dia" train first.yaml
done
tensor() { # FILE NAME: its bytes
    local n range
    n=$(od -An -t u8 -N 8 "$1" | tr -d ' ')
    range=$(head -c $((8 + n)) "$1" | tail -c +9 | jq -r --arg name "$2" '.[$name].data_offsets | "\(.[1]) \(.[1] - .[0])"')
    head -c $((8 + n + ${range% *})) "$1" | tail -c "${range#* }" # tail reads all: the other way round a pipe may break
}
tensor first-own/adapter_model.safetensors base_model.model.value.weight > own.head
tensor first-value_model/value_model/adapter_model.safetensors base_model.model.score.weight > apart.head
[ "$(stat -c %s own.head)" = 128 ] && tr -d '\0' < own.head | grep -q . || fail "the head on the policy did not move"
same own.head apart.head
# Where every answer earns 1 there is one thing to expect.
(
    rewards='  - {name: length, min: 0, max: 1000}' ppo_recipe sure.yaml sure value_model="$models/gemma3" max_steps=24 kl_coef=0
    run 0 "$dia" train sure.yaml
    jq -s -e 'map(.["loss/value_avg"] // empty) | .[0] > 0.2 and .[-1] < 0.03' sure/metrics.jsonl >/dev/null ||
        fail "values: $(jq -c '.["loss/value_avg"]' sure/metrics.jsonl | tr '\n' ' ')"
)
cp -r apart whole-apart
rm -r apart/checkpoint-24
run 0 "$dia" train apart.yaml --resume
same whole-apart/adapter_model.safetensors apart/adapter_model.safetensors
same whole-apart/value_model/adapter_model.safetensors apart/value_model/adapter_model.safetensors
ppo_recipe back.yaml back value_model="$work/apart/value_model" max_steps=1 num_mini_batches=1 num_ppo_epochs=1 learning_rate=1e-30
run 0 "$dia" train back.yaml
same back/value_model/adapter_model.safetensors apart/value_model/adapter_model.safetensors
ppo_recipe judged.yaml judged value_model="$work/rlhf/reward" max_steps=2
run 0 "$dia" train judged.yaml
jq -s -e '.[0]["loss/value_avg"]' judged/metrics.jsonl > judged.loss
jq -s -e '.[0]["loss/value_avg"]' apart/metrics.jsonl > apart.loss
! cmp -s judged.loss apart.loss || fail "the reward model's head is not where the values start"
ppo_recipe bare.yaml bare value_model="$models/gemma3" max_steps=2 num_mini_batches=1 lora_r=- lora_alpha=- lora_target_modules=-
run 0 "$dia" train bare.yaml
exists bare/value_model/model.safetensors bare/value_model/config.json
ppo_recipe again.yaml again value_model="$work/bare/value_model" model_name_or_path="$work/bare" max_steps=1 num_mini_batches=1 num_ppo_epochs=1 \
    learning_rate=1e-30 lora_r=- lora_alpha=- lora_target_modules=- overwrite_output_dir=true
run 0 "$dia" train again.yaml
same bare/value_model/model.safetensors again/value_model/model.safetensors
same bare/model.safetensors again/model.safetensors
# In a chain it belongs to what a finished stage left.
chain=("$dia" train tools/examples/tiny-ppo.yaml --set "output_dir=$work/held" --set "ppo.value_model=$models/gemma3" --set max_steps=2)
(cd "$src" && run 0 "${chain[@]}")
(cd "$src" && run 0 "${chain[@]}" --resume)
mv held/ppo/value_model kept
(cd "$src" && run 4 "${chain[@]}" --resume)
said 'ppo/value_model no longer holds what the chain left there'
mv kept held/ppo/value_model
printf x >> held/ppo/value_model/adapter_model.safetensors
(cd "$src" && run 4 "${chain[@]}" --resume)
said 'value_model/adapter_model.safetensors: has'
ok "a value model apart from the policy"

# refused CODE TEXT [KEY=VALUE …]
refused() {
    local code=$1 text=$2
    shift 2
    ppo_recipe bad.yaml bad "$@"
    run "$code" "$dia" train bad.yaml
    said "$text"
    absent bad/checkpoint-15
}
refused 2 'nowhere' value_model="$work/nowhere"
refused 1 'has a vocabulary of 92, the policy one of 80' value_model="$models/llama"
refused 2 'value_model: stage grpo reads no values' value_model="$models/gemma3" stage=grpo num_generations=2 num_mini_batches=- num_ppo_epochs=- kl_coef=- vf_coef=-
refused 2 'kl_estimator' kl_estimator=k4
refused 2 'cliprange' cliprange=-1
refused 2 'lora_dropout' lora_dropout=0.1
refused 2 'num_mini_batches: generation_batch_size or steps_per_generation is given too' steps_per_generation=2
(
    unset rewards
    rows=given.jsonl tiny_recipe bad.yaml bad stage=ppo max_steps=2
    run 1 "$dia" train bad.yaml
    said 'PPO learns from answers'
)
ok "what is refused, by name"
