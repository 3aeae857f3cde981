#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Stages that sample their answers: threads, the split into micro-batches, how many answers are decoded together, being killed or interrupted while
# sampling or between passes: none of it changes a bit of the adapter, its moments, the answers or the metrics.
. "$(dirname "$0")/../lib.sh" "$1"
costly_under_sanitizer

tiny_prompts rows.jsonl 23
tiny_prompts eval.jsonl 5 2
rewards='  - {name: length, min: 1, max: 4, soft: 12}'
# make_recipe NAME STAGE [KEY=VALUE …]: 16 answers a step, two steps sampled at once, trained twice.
make_recipe() {
    local name=$1 stage=$2 beta=
    shift 2
    [ "$stage" = simpo ] || beta=beta=0.1
    # shellcheck disable=SC2086 # absent, or one key
    tiny_recipe "$name.yaml" "$name" stage="$stage" max_completion_length=12 num_generations=4 per_device_train_batch_size=8 \
        gradient_accumulation_steps=2 steps_per_generation=4 num_iterations=2 max_steps=10 save_steps=5 learning_rate=0.02 \
        eval_strategy=steps eval_steps=5 log_completions=true temperature=0.9 $beta "$@"
    printf 'eval_datasets:\n  - path: eval.jsonl\n' >> "$name.yaml"
}
timeless() { jq -c 'with_entries(select(.key | test("_time|runtime|per_second") | not))' "$1/metrics.jsonl"; }
# alike A B: two runs are one.
alike() {
    local file
    same "$1/adapter_model.safetensors" "$2/adapter_model.safetensors"
    same "$1/completions.jsonl" "$2/completions.jsonl"
    for file in $(cd "$1" && find checkpoint-10 -name '*.safetensors' -o -path 'checkpoint-10/rollout.json'); do
        same "$1/$file" "$2/$file"
    done
    exists "$1/checkpoint-10/rollout.json"
    diff <(timeless "$1") <(timeless "$2") >&2 || fail "$1 and $2: metrics differ"
}
# variant NAME STAGE [KEY=VALUE …]: the same run in another way.
variant() {
    make_recipe "$@"
    run 0 "$dia" train "$1.yaml"
    alike "whole-$2" "$1"
    rm -r "$1"
}

stages=(grpo simpo)
for stage in "${stages[@]}"; do
    make_recipe whole-$stage $stage
    run 0 "$dia" train whole-$stage.yaml
    OMP_NUM_THREADS=1 variant threads $stage
    variant batch-1 $stage rollout_batch_size=1
    variant batch-3 $stage rollout_batch_size=3
    [ $stage = simpo ] || variant split-2x8 $stage per_device_train_batch_size=2 gradient_accumulation_steps=8 steps_per_generation=16
    variant split-16x1 $stage per_device_train_batch_size=16 gradient_accumulation_steps=1 steps_per_generation=2
    variant checkpointing $stage gradient_checkpointing=true
    ok "$stage: threads, micro-batches, answers decoded together: the same bytes"
done

# The reference is the policy the run began with: without an update the KL is 0, to the last bit, and the ratio 1.
make_recipe first grpo max_steps=1 logging_steps=1 eval_strategy=no
sed -i '/^eval_datasets/,$d' first.yaml
for dtype in float32 bfloat16; do
    for device in cpu ref; do
        rm -rf first
        run 0 "$dia" train first.yaml --set dtype=$dtype --set device=$device
        jq -s -e '.[0] | .kl == 0 and .["clip_ratio/region_mean"] == 0' first/metrics.jsonl >/dev/null ||
            fail "$dtype on $device: $(head -n 1 first/metrics.jsonl)"
    done
done
ok "before the first update policy, rollout and reference are one"

# kill -9 at random moments; every checkpoint lies within a rollout or between two.
kills=5
[ "$full" = 0 ] || kills=40
for stage in "${stages[@]}"; do
    make_recipe whole $stage save_steps=1 output_dir=whole save_total_limit=2
    start=$(date +%s%N)
    run 0 "$dia" train whole.yaml
    ms=$((($(date +%s%N) - start) / 1000000))
    make_recipe cut $stage save_steps=1 output_dir=cut save_total_limit=2
    RANDOM=11 killed=0
    for _ in $(seq $kills); do
        "$dia" train cut.yaml --resume > log 2>&1 &
        pid=$!
        wait_ms=$((1 + RANDOM * ms / 2 / 32768))
        sleep "$((wait_ms / 1000)).$(printf '%03d' $((wait_ms % 1000)))"
        if kill -9 $pid 2>/dev/null; then killed=$((killed + 1)); fi
        code=0
        wait $pid 2>/dev/null || code=$?
        case $code in 0 | 137) ;; *) cat log >&2; fail "after a kill, --resume left with $code" ;; esac
        [ $code != 0 ] || break
    done
    run 0 "$dia" train cut.yaml --resume
    alike whole cut
    rm -r whole cut
    ok "$stage: killed $killed times, the same bytes"
done

# Interrupted while it samples: what is saved is the step before, with 75; the first rollout is before any step.
make_recipe slow grpo max_completion_length=1500 max_steps=1 num_iterations=1 steps_per_generation=2 eval_strategy=no
sed -i '/^eval_datasets/,$d' slow.yaml
sed 's/^output_dir: .*/output_dir: whole/' slow.yaml > whole.yaml
run 0 "$dia" train whole.yaml
"$dia" train slow.yaml > log 2>&1 &
pid=$!
await test -e slow/runs
sleep 0.1
kill -INT $pid
code=0
wait $pid || code=$?
[ $code = 75 ] || { cat log >&2; fail "interrupted while sampling: exit code $code"; }
grep -q 'interrupted at step 0 of 1 and saved: go on with --resume' log || { cat log >&2; fail "75 without a word"; }
exists slow/checkpoint-0
absent slow/completions.jsonl
run 4 "$dia" train slow.yaml --resume --set max_completion_length=12
said 'max_completion_length was 1500 and is now 12'
run 0 "$dia" train slow.yaml --resume
same whole/adapter_model.safetensors slow/adapter_model.safetensors
same whole/completions.jsonl slow/completions.jsonl
ok "interrupted while sampling: saved, exit code 75, the same bytes"
