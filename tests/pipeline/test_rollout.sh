#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Answers sampled from the policy while it trains: planned, explained, sampled, judged, trained, evaluated, written down, resumed; and what is refused.
. "$(dirname "$0")/../lib.sh" "$1"

tiny_prompts rows.jsonl 24
tiny_prompts eval.jsonl 8 2
# Answers of the untrained model are near the limit of 16 tokens; those of 1 to 4 tokens earn 1.
rewards='  - {name: length, min: 1, max: 4, soft: 12}'
declare -A sampling=([grpo]="num_generations=4 per_device_train_batch_size=8" [simpo]="num_generations=4 per_device_train_batch_size=2")
for stage in $(for s in grpo simpo; do [ ! -d "$src/algorithms/$s" ] || echo $s; done); do
    # shellcheck disable=SC2086 # several keys
    tiny_recipe $stage.yaml $stage stage=$stage max_completion_length=16 max_steps=24 save_steps=8 learning_rate=0.02 eval_strategy=steps \
        eval_steps=8 log_completions=true ${sampling[$stage]}
    printf 'eval_datasets:\n  - path: eval.jsonl\n' >> $stage.yaml
    run 0 "$dia" plan $stage.yaml --json
    holds out '.memory_bytes.rollout > 0'
    run 0 "$dia" explain $stage.yaml
    grep -q row_logprobs out || fail "explain does not place sampling"
    run 0 "$dia" data check $stage.yaml --json
    holds out '.rows == 24 and .refused == 0'
    run 0 "$dia" data mask $stage.yaml --rows 1
    run 0 "$dia" train $stage.yaml --log-level debug
    within_plan err
    ! grep -q 'the plan was too small' err || fail "$stage: the arena grew"
    grep -q '"plugin dps.reward.length": "[0-9a-f]\{64\}"' $stage/recipe.lock.yaml || fail "recipe.lock.yaml names no reward plugin"
    exists $stage/report.html $stage/checkpoint-24/optimizer.safetensors
    jq -s -e 'map(select(.reward)) | (.[-4:] | map(.reward) | add) > (.[:4] | map(.reward) | add)' $stage/metrics.jsonl >/dev/null ||
        fail "$stage: the reward did not rise: $(jq -c .reward $stage/metrics.jsonl | tr '\n' ' ')"
    jq -s -e 'map(select(.eval_reward != null)) | length == 3 and .[-1].eval_reward > .[0].eval_reward and .[0]["eval_rewards/length/mean"] != null' \
        $stage/metrics.jsonl >/dev/null || fail "$stage: evaluations: $(jq -c .eval_reward $stage/metrics.jsonl | tr '\n' ' ')"
    jq -s -e 'map(select(.reward)) | all(.["completions/mean_length"] >= .["completions/min_length"] and .["completions/clipped_ratio"] <= 1
        and .["rewards/length/mean"] != null and .step_time >= .rollout_time and .update_time > 0)' $stage/metrics.jsonl >/dev/null ||
        fail "$stage: metrics are missing: $(head -n 1 $stage/metrics.jsonl)"
    [ "$(wc -l < $stage/completions.jsonl)" = $((24 * 4 * 4)) ] || [ $stage = grpo ] || fail "$stage: completions.jsonl has $(wc -l < $stage/completions.jsonl) lines"
    jq -s -e 'all(.prompt and .completion and .rewards.length == .reward and (.tokens >= 1) and .tokens <= 16)' $stage/completions.jsonl >/dev/null ||
        fail "$stage: completions.jsonl: $(head -n 1 $stage/completions.jsonl)"
    grep -q '<dt>Reward</dt><dd>[0-9.]* → [0-9.]*</dd>' $stage/report.html || fail "$stage: report.html has no tile for the reward"
    cp -r $stage whole
    rm -r $stage/checkpoint-24 $stage/checkpoint-16
    run 0 "$dia" train $stage.yaml --resume
    same whole/adapter_model.safetensors $stage/adapter_model.safetensors
    same whole/completions.jsonl $stage/completions.jsonl
    rm -r whole
    ok "$stage: sampled, judged, trained until the answers earned more, resumed"
done

# Held-out prompts answered as in training: as many answers as asked for, the same of the same weights, none that a training answer's draws would give.
run 0 "$dia" train grpo.yaml --set output_dir=held --set num_generations_eval=6 --set learning_rate=1e-30 --set max_steps=2 --set eval_steps=1 --set per_device_eval_batch_size=3
jq -s -e 'map(select(.eval_reward != null)) | length == 2 and .[0].eval_reward == .[1].eval_reward and .[0].eval_reward > 0' held/metrics.jsonl >/dev/null ||
    fail "held-out answers: $(jq -c .eval_reward held/metrics.jsonl | tr '\n' ' ')"
run 0 "$dia" train grpo.yaml --set output_dir=greedy --set learning_rate=1e-30 --set max_steps=1 --set eval_steps=1
earned() { jq -s 'map(.eval_reward | values)[0]' "$1/metrics.jsonl"; }
[ "$(earned held)" != "$(earned greedy)" ] || fail "held-out answers were not sampled"
ok "held-out prompts are answered greedily, or sampled num_generations_eval times"

# A policy that nothing can be drawn from any more.
run 1 "$dia" train grpo.yaml --set output_dir=diverged --set learning_rate=1000 --set weight_decay=1 --set lr_scheduler_type=constant --set warmup_steps=0 --set eval_strategy=no
said 'the policy has diverged'
said 'Hint: '
ok "a policy that diverged is said to have"

# The reference is the policy the run began with, also of an adapter trained further and of a whole model, and after a resume.
for init in "adapter_init=$work/grpo" adapter=none; do
    rm -rf whole cut
    # shellcheck disable=SC2086 # several keys
    tiny_recipe whole.yaml whole stage=grpo beta=0.1 max_completion_length=8 num_iterations=2 max_steps=4 save_steps=1 learning_rate=0.001 \
        ${sampling[grpo]} $init lora_r=- lora_alpha=- lora_target_modules=-
    run 0 "$dia" train whole.yaml
    jq -s -e 'map(select(.loss)) | .[0].kl == 0 and .[-1].kl > 0' whole/metrics.jsonl >/dev/null || fail "$init: $(jq -c .kl whole/metrics.jsonl | tr '\n' ' ')"
    sed 's/^output_dir: .*/output_dir: cut/' whole.yaml > cut.yaml
    cp -r whole cut
    rm -r cut/checkpoint-4 cut/checkpoint-3 cut/checkpoint-2
    run 0 "$dia" train cut.yaml --resume
    for file in whole/*.safetensors; do same "$file" "cut/${file#whole/}"; done
done
ok "the reference is the policy the run began with, also with adapter_init and of a whole model, also resumed between passes"

# refused CODE TEXT [KEY=VALUE …]
refused() {
    local code=$1 text=$2
    shift 2
    tiny_recipe bad.yaml bad stage=simpo num_generations=4 "$@"
    run "$code" "$dia" train bad.yaml
    said "$text"
    absent bad/checkpoint-4
}
refused 2 'lora_dropout: above 0 the policy that is trained is not the one that answered' lora_dropout=0.1
refused 2 'num_generations is 1, and stage simpo compares answers to a prompt' num_generations=1
refused 2 '3 micro-batches are sampled at once, expected a multiple of gradient_accumulation_steps 2' steps_per_generation=3
refused 2 'steps_per_generation is given too' steps_per_generation=4 generation_batch_size=8
refused 2 'generation_batch_size is 9, expected a multiple of per_device_train_batch_size 4' generation_batch_size=9
refused 2 'max_length: answers are sampled, so rows are prompts' max_length=64
refused 2 'temperature: expected a number from 0.001' temperature=0
refused 2 'stage reward learns to judge answers and does not sample any' stage=reward
if [ -d "$src/algorithms/grpo" ]; then
    refused 2 '= 6 answers, which num_generations 4 does not divide' stage=grpo per_device_train_batch_size=3
    refused 2 'num_generations is 1, and stage grpo compares' stage=grpo num_generations=1
fi
(
    unset rewards
    refused 2 'num_generations: belongs to runs that sample their answers: give reward_funcs'
)
printf '{"prompt_input_ids":[],"completion_input_ids":[3]}\n' > empty.jsonl
(rows=empty.jsonl refused 5 'empty.jsonl:1: ')
ok "what is refused, by name"
