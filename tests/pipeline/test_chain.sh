#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Chains: one command trains what the stages by hand train, byte for byte; a killed or interrupted chain goes on where it was; a finished
# stage is left alone, and one that changed is refused; what chains refuse, by file and line.
. "$(dirname "$0")/../lib.sh" "$1"

tiny_rows texts.jsonl 24
tiny_rows rows.jsonl 24 2
tiny_rows target.jsonl 16 3
tiny_pairs pairs.jsonl 24
shared=(dtype=float32 per_device_train_batch_size=4 gradient_accumulation_steps=2 max_steps=6 lr_scheduler_type=cosine warmup_steps=2 logging_steps=1
    save_steps=2 seed=7 gradient_checkpointing=false)
lora=(lora_r=4 lora_alpha=8 lora_dropout=0 lora_target_modules=all-linear)

# chain_file FILE OUT: shared keys; stages follow from standard input.
chain_file() {
    { printf 'output_dir: %s\nmodel_name_or_path: %s\n' "$2" "$models/gemma3"
      printf '%s\n' "${shared[@]/=/: }"
      printf 'stages:\n'
      cat; } > "$1"
}
# by_hand FILE OUT DATA KEY=VALUE …: one recipe with the shared keys.
by_hand() {
    { printf 'output_dir: %s\ndatasets: %s\n' "$2" "$3"
      printf '%s\n' "${shared[@]/=/: }"
      for pair in "${@:4}"; do printf '%s: %s\n' "${pair%%=*}" "${pair#*=}"; done; } > "$1"
    run 0 "$dia" train "$1"
}
same_adapter() { same "$1/adapter_model.safetensors" "$2/adapter_model.safetensors"; }

# pt → it → SimPO: a model trained whole, an adapter on it, and preference tuning of that adapter.
adapter_keys=$(printf '    %s\n' "${lora[@]/=/: }")
chain_file chain.yaml one <<END
  - stage: pt
    datasets: texts.jsonl
    learning_rate: 0.001
  - name: it
    stage: sft
    datasets: rows.jsonl
    learning_rate: 0.004
$adapter_keys
  - stage: simpo
    datasets: pairs.jsonl
    learning_rate: 0.01
    beta: 2.0
END
run 0 "$dia" train chain.yaml
said "Stage 'pt', 1 of 3: training"
exists one/pt/model.safetensors one/it/adapter_model.safetensors one/simpo/adapter_model.safetensors one/{pt,it,simpo}/{recipe.lock.yaml,report.html} one/chain.lock.yaml
by_hand pt.yaml hand/pt texts.jsonl stage=pt learning_rate=0.001 model_name_or_path="$models/gemma3"
by_hand it.yaml hand/it rows.jsonl stage=sft learning_rate=0.004 model_name_or_path=hand/pt "${lora[@]}"
by_hand simpo.yaml hand/simpo pairs.jsonl stage=simpo learning_rate=0.01 beta=2.0 model_name_or_path=hand/pt adapter_init=hand/it
same one/pt/model.safetensors hand/pt/model.safetensors
same_adapter one/it hand/it
same_adapter one/simpo hand/simpo
ok "pt → it → SimPO: the bytes of the stages by hand"

# pt → SimPO → it: the preference adapter is merged, and a new one trained on that. The middle stage is a recipe of its own.
printf '%s\n' 'stage: simpo' 'learning_rate: 0.5' 'beta: 2.0' 'output_dir: not-here' 'model_name_or_path: not-there' 'datasets: pairs.jsonl' "${lora[@]/=/: }" > simpo-part.yaml
chain_file other.yaml two <<END
  - stage: pt
    datasets: texts.jsonl
    learning_rate: 0.001
  - recipe: simpo-part.yaml
    learning_rate: 0.01
  - name: target
    stage: sft
    merge: true
    datasets: target.jsonl
    learning_rate: 0.004
$adapter_keys
END
run 0 "$dia" train other.yaml --json
holds out 'length == 3 and (map(.name) == ["pt", "simpo", "target"]) and all(.step == 6)' -s
absent not-here
by_hand simpo2.yaml hand/simpo2 pairs.jsonl stage=simpo learning_rate=0.01 beta=2.0 model_name_or_path=hand/pt "${lora[@]}"
run 0 "$dia" merge --model hand/pt --adapter hand/simpo2 --out hand/merged
by_hand target.yaml hand/target target.jsonl stage=sft learning_rate=0.004 model_name_or_path=hand/merged "${lora[@]}"
same two/simpo/merged/model.safetensors hand/merged/model.safetensors
same_adapter two/target hand/target
ok "pt → SimPO → targeted it, with the adapter merged and a recipe by path: the bytes of the stages by hand"

# A finished chain has nothing to do; without --resume it is not touched.
cp -r one before
run 0 "$dia" train chain.yaml --resume
[ "$(grep -c 'was finished' err)" = 3 ] || fail "finished stages: $(cat err)"
diff -r one before >&2 || fail "a finished chain was changed"
run 2 "$dia" train chain.yaml
said 'the chain has begun'
ok "a finished chain is left alone"

# Killed in the second stage, at any moment: resume gives the same bytes.
for steps in 1 3 5; do
    rm -rf one
    "$dia" train chain.yaml > killed.out 2> killed.err &
    pid=$!
    for _ in $(seq 600); do
        [ "$(cat one/it/metrics.jsonl 2> /dev/null | wc -l)" -lt $steps ] || break
        kill -0 $pid 2> /dev/null || break
        sleep 0.02
    done
    kill -9 $pid 2> /dev/null || true
    wait $pid 2> /dev/null || true
    exists one/chain.lock.yaml one/pt/digests.json
    run 0 "$dia" train chain.yaml --resume
    said "Stage 'pt', 1 of 3: was finished"
    same one/pt/model.safetensors before/pt/model.safetensors
    same_adapter one/it before/it
    same_adapter one/simpo before/simpo
done
# Killed after a stage's result was sealed, before the chain noted it.
sed -i '/name: "simpo"/s/result: "[0-9a-f]*"/result: null/' one/chain.lock.yaml
run 0 "$dia" train chain.yaml --resume
same_adapter one/simpo before/simpo
ok "killed and resumed: the same bytes"

rm -rf one
"$dia" train chain.yaml --set simpo.max_steps=100000 > int.out 2> int.err &
pid=$!
for _ in $(seq 600); do [ ! -s one/simpo/metrics.jsonl ] || break; sleep 0.02; done
kill -INT $pid
got=0
wait $pid || got=$?
[ $got = 75 ] || fail "interrupted with $got: $(cat int.err)"
grep -q "stage 'simpo': interrupted at step" int.err || fail "$(cat int.err)"
run 4 "$dia" train chain.yaml --resume # max_steps is another
said "stage 'simpo'"
said 'max_steps was 100000 and is now 6'
ok "interrupted: 75; a stage under way keeps its recipe"

# What was finished must still be what the chain says.
rm -rf one && cp -r before one
rm one/it/adapter_config.json
run 4 "$dia" train chain.yaml --resume
said 'one/it no longer holds what the chain left there'
cp before/it/adapter_config.json one/it/
printf x >> one/it/adapter_model.safetensors
run 4 "$dia" train chain.yaml --resume
said 'one/it no longer holds what the chain left there: one/it/adapter_model.safetensors: has'
! grep -q 'remove one/it/digests.json' err || fail "a hint that leads nowhere: $(cat err)"
cp before/it/adapter_model.safetensors one/it/
for lock in one/chain.lock.yaml one/it/recipe.lock.yaml; do
    mv $lock kept.yaml
    run 4 "$dia" train chain.yaml --resume
    said "$lock is missing"
    printf '[' > $lock
    run 4 "$dia" train chain.yaml --resume
    said "the lock is damaged: $lock:"
    rm $lock && mkdir $lock
    run 4 "$dia" train chain.yaml --resume
    said "$lock: is a folder"
    said 'Hint: '
    rmdir $lock && mv kept.yaml $lock
done
touch one/chain.lock.yaml.tmp-4194303 # of a process that was killed
run 0 "$dia" train chain.yaml --resume
absent one/chain.lock.yaml.tmp-4194303
run 4 "$dia" train chain.yaml --resume --set it.learning_rate=0.5
said "stage 'it'"
said 'learning_rate was 0.004 and is now 0.5'
cp rows.jsonl kept.jsonl
tiny_rows rows.jsonl 24 9
run 4 "$dia" train chain.yaml --resume
said 'datasets[0].sha256'
mv kept.jsonl rows.jsonl
by_hand foreign.yaml one/it rows.jsonl stage=sft learning_rate=0.1 model_name_or_path=hand/pt overwrite_output_dir=true "${lora[@]}"
run 4 "$dia" train chain.yaml --resume
said 'one/it no longer holds what the chain left there'
run 0 "$dia" train chain.yaml --set overwrite_output_dir=true
same_adapter one/simpo before/simpo
# What comes later of the old chain is not gone on with.
"$dia" train chain.yaml --set overwrite_output_dir=true --set it.max_steps=100000 --quiet &
pid=$!
for _ in $(seq 600); do [ "$(grep -c loss one/it/metrics.jsonl)" -gt 20 ] && break; sleep 0.02; done
kill -9 $pid
wait $pid 2> /dev/null || true
absent one/simpo/checkpoint-6
ok "a finished stage that changed is refused; overwrite_output_dir starts anew"

# Before and after: plans of every stage, whether or not what it starts from is there.
chain_file new.yaml three < <(sed '1,/^stages:/d' other.yaml)
run 0 "$dia" plan new.yaml
[ "$(grep -c '^Stage ' out)" = 3 ] || fail "plan: $(cat out)"
run 0 "$dia" plan new.yaml --json
holds out '(.stages | map(.name)) == ["pt", "simpo", "target"] and (.stages | all(.memory_bytes.total > 0 and .steps == 6))'
cp out before.json
run 0 "$dia" plan other.yaml --json
jq -S '.stages | map(del(.memory_bytes.fixed, .memory_bytes.total))' before.json > a
jq -S '.stages | map(del(.memory_bytes.fixed, .memory_bytes.total))' out > b
same a b
run 0 "$dia" explain new.yaml
[ "$(grep -c '^Stage ' out)" = 3 ] || fail "explain: $(cat out)"
run 0 "$dia" explain chain.yaml --json
holds out '.stages | map(.name) == ["pt", "it", "simpo"] and all(.ops | length > 0)'
run 0 "$dia" plan chain.yaml --set pt.max_steps=3 --set max_steps=5 --json
holds out '.stages | map(.steps) == [3, 5, 5]'
ok "plan and explain, stage by stage; --set for all and for one"

# A value can name what a stage above wrote; from: null starts anew.
chain_file refer.yaml four <<END
  - stage: sft
    datasets: rows.jsonl
$adapter_keys
  - name: again
    from: null
    adapter_init: \${sft}
    datasets: target.jsonl
    max_steps: 1
END
run 0 "$dia" train refer.yaml --set max_steps=2
grep -q '"adapter_init.sha256"' four/again/recipe.lock.yaml || fail "the lock does not hold the adapter: $(cat four/again/recipe.lock.yaml)"
ok "\${NAME}"

# The examples, on the tiny model and a step or two of tiny rows.
tiny_prompts prompts.jsonl 16
tiny=(--set model_name_or_path="$models/gemma3" --set max_steps=2 --set eval_steps=1 --set logging_steps=1 --set pt.datasets=texts.jsonl)
simpo=(--set simpo.datasets=pairs.jsonl --set simpo.eval_datasets=pairs.jsonl)
grpo=(--set grpo.stop_strings=null --set grpo.datasets=prompts.jsonl --set grpo.eval_datasets=prompts.jsonl --set 'grpo.reward_funcs=[{name: length, min: 1, max: 4, soft: 4}]')
it=(--set it.datasets=rows.jsonl --set it.eval_datasets=target.jsonl)
routing=(--set routing.datasets=rows.jsonl --set routing.eval_datasets=target.jsonl)
run 0 "$dia" train "$src/tools/examples/pt-it-simpo.yaml" "${tiny[@]}" "${simpo[@]}" "${it[@]}" --set output_dir=example-1
exists example-1/pt/merged/model.safetensors example-1/simpo/adapter_model.safetensors
run 0 "$dia" train "$src/tools/examples/pt-simpo-it.yaml" "${tiny[@]}" "${simpo[@]}" "${routing[@]}" --set output_dir=example-2
run 0 "$dia" train "$src/tools/examples/pt-it-grpo.yaml" "${tiny[@]}" "${grpo[@]}" "${it[@]}" --set output_dir=example-3
holds example-3/grpo/metrics.jsonl 'map(select(.reward != null)) | length == 2' -s
run 0 "$dia" train "$src/tools/examples/pt-grpo-it.yaml" "${tiny[@]}" "${grpo[@]}" "${routing[@]}" --set output_dir=example-4
run 0 "$dia" adapters list example-4 --json
holds out 'map([.path, .stage, .on_adapters]) == [["example-4/grpo", "grpo", 0], ["example-4/pt", "pretrain", 0], ["example-4/routing", "sft", 1]]'
run 0 "$dia" score --model example-2/pt/merged --adapter example-2/simpo --adapter example-2/routing --data rows.jsonl
ppo=(--set it.datasets=rows.jsonl --set rm.datasets=pairs.jsonl --set rm.eval_datasets=pairs.jsonl --set ppo.datasets=prompts.jsonl
    --set ppo.eval_datasets=prompts.jsonl --set ppo.max_completion_length=8)
run 0 "$dia" plan "$src/tools/examples/reward-ppo.yaml" "${tiny[@]:0:8}" "${ppo[@]}" --set output_dir=example-5 --json
holds out '.stages[2] == {name: "ppo", waits_for: "it"}'
run 0 "$dia" train "$src/tools/examples/reward-ppo.yaml" "${tiny[@]:0:8}" "${ppo[@]}" --set output_dir=example-5
[ "$(grep -c ': merging' err)" = 1 ] || fail "the model of judge and policy was merged more than once: $(cat err)"
holds example-5/ppo/metrics.jsonl 'map(select(.["objective/scores"] != null)) | length > 0' -s
run 0 "$dia" plan "$src/tools/examples/reward-ppo.yaml" "${tiny[@]:0:8}" "${ppo[@]}" --set output_dir=example-5 --json
holds out '.stages[2].memory_bytes.total > 0'
run 0 "$dia" train "$src/tools/examples/reward-ppo.yaml" "${tiny[@]:0:8}" "${ppo[@]}" --set output_dir=example-5 --resume
[ "$(grep -c 'was finished' err)" = 3 ] || fail "$(cat err)"
rlhf=(--set adapter_init=example-1/pt --set ppo.adapter_init=example-1/pt --set reward.datasets=pairs.jsonl --set reward.eval_datasets=pairs.jsonl
    --set ppo.datasets=prompts.jsonl --set ppo.eval_datasets=prompts.jsonl --set ppo.max_completion_length=8)
run 0 "$dia" train "$src/tools/examples/helpdesk-rlhf.yaml" "${tiny[@]:0:8}" "${rlhf[@]}" --set output_dir=example-6
holds example-6/ppo/metrics.jsonl 'map(select(.["eval_rewards/learned/mean"] != null and .["eval_rewards/steps/mean"] != null)) | length > 0' -s
ok "the chains of tools/examples"

# refused TEXT: the chain from standard input is refused at its file and line.
refused() {
    chain_file bad.yaml bad
    run 2 "$dia" train bad.yaml
    said "$1"
    absent bad
}
line=$((3 + ${#shared[@]} + 1))
refused "bad.yaml:$((line + 1)):5: no key 'learning_rat'; did you mean 'learning_rate'?" <<< $'  - datasets: rows.jsonl\n    learning_rat: 1'
refused "two stages are called 'sft'" <<< $'  - datasets: rows.jsonl\n  - datasets: rows.jsonl'
refused "bad.yaml:$((line + 1)):11: from: expected the name of a stage above, or null, found the text \"b\"" <<< $'  - name: a\n    from: b\n    datasets: rows.jsonl'
refused "model_name_or_path: it comes from the stage before" <<< $'  - datasets: rows.jsonl\n  - name: b\n    model_name_or_path: x'
refused "output_dir: a stage writes to output_dir/NAME" <<< $'  - datasets: rows.jsonl\n    output_dir: x'
refused "threads: it belongs to the whole chain" <<< $'  - datasets: rows.jsonl\n    threads: 2'
refused "merge: stage 'sft' trains every weight and leaves no adapter" <<< $'  - datasets: rows.jsonl\n  - name: b\n    merge: true\n    datasets: rows.jsonl'
refused "bad.yaml:$((line + 3)):5: adapter: every weight is to be trained, and stage 'sft' leaves an adapter: say merge: true" <<< $'  - datasets: rows.jsonl\n    lora_r: 4\n  - name: b\n    adapter: none\n    datasets: rows.jsonl'
refused "merge: there is no stage above" <<< $'  - datasets: rows.jsonl\n    merge: true'
refused "\${x} names no stage above" <<< $'  - datasets: ${x}/rows.jsonl'
refused "'env' is a key of recipes" <<< $'  - name: env\n    datasets: rows.jsonl'
refused "expected letters, digits" <<< $'  - name: ../x\n    datasets: rows.jsonl'
refused "recipe: absent.yaml: no recipe can be read there" <<< $'  - recipe: absent.yaml'
refused "without stages of its own" <<< $'  - recipe: chain.yaml'
refused "stages: expected a list of stages" <<< ''
run 2 "$dia" train chain.yaml --set it.output_dir=x
said '--set it.output_dir=x: a stage writes to output_dir/NAME'
run 2 "$dia" train chain.yaml --resume one/it/checkpoint-2
said 'a chain finds its own place'
run 2 "$dia" data check chain.yaml
said 'a chain of stages, where one recipe is expected'
chain_file late.yaml late <<< $'  - datasets: rows.jsonl\n  - name: b\n    datasets: absent.jsonl'
run 2 "$dia" train late.yaml
said "stage 'b': late.yaml:$((line + 2)):15: datasets: no file absent.jsonl"
absent late
ok "what chains refuse"
