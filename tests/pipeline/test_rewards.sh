#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Rewards and simulated preferences through the command line: judged rows, the reward model's scores, simulate → SimPO, the same bits for every batch
# and after a kill, failing rewards, refusals.
. "$(dirname "$0")/../lib.sh" "$1"

model=$models/gemma3
awk 'BEGIN { for (i = 0; i < 24; i++) printf "{\"prompt_input_ids\":[1,%d,%d],\"n\":%d}\n", 5 + i * 3 % 70, 5 + i * 7 % 70, i }' > prompts.jsonl
rules=(--reward '{name: length, max: 6, soft: 8}' --reward '{name: regex, pattern: "(^| )1[0-9]( |$)", weight: 0.25}')
simulate() { # OUT [OPTION …]
    local out=$1
    shift
    "$dia" data simulate --model "$model" --data prompts.jsonl --num-generations 4 --max-tokens 10 --seed 5 --out "$out" "$@"
}

run 0 simulate pairs.jsonl "${rules[@]}" --json
holds out '.prompts == 24 and .rows > 8 and .rows + .ties == 24 and .not_judged == 0 and .reward_means.length > 0'
jq -s -e 'all(.score_chosen > .score_rejected and .source.line >= 1 and .chosen_input_ids != .rejected_input_ids)' pairs.jsonl >/dev/null ||
    fail "pairs: $(head -n 2 pairs.jsonl)"
holds pairs.jsonl.provenance.json '.simulation | .model.sha256 and .rows[0].sha256 and .sampling.seed == 5 and .rewards.weights.regex == 0.25'
[ "$(sha256sum pairs.jsonl | cut -d' ' -f1)" = "$(jq -r .output.sha256 pairs.jsonl.provenance.json)" ] || fail "the provenance has another digest"
[ "$(jq -r .source.simulation pairs.jsonl | sort -u | wc -l)" = 1 ] || fail "rows of one simulation name several"
absent pairs.jsonl.partial
ok "pairs with where they come from"

for more in "rollout_batch_size=1" "rollout_batch_size=3" "threads=1"; do
    run 0 simulate other.jsonl "${rules[@]}" --set $more
    same pairs.jsonl other.jsonl
    rm other.jsonl*
done
ok "the same bytes for every batch size and number of threads"

run 0 simulate pairs.jsonl "${rules[@]}"
grep -q 'already there' out || fail "an output that is there is made again: $(cat out)"
printf '\n' >> pairs.jsonl
run 0 simulate pairs.jsonl "${rules[@]}"
! grep -q 'already there' out || fail "a changed output is taken for the simulation's"
ok "what is there is not made again, what was changed is"

# The policy learns to prefer what the rewards prefer.
rows=pairs.jsonl tiny_recipe simpo.yaml simpo stage=simpo max_steps=30 learning_rate=0.02 lora_dropout=0 beta=2 simpo_gamma=0.5
run 0 "$dia" train simpo.yaml
jq -s -e 'map(select(.loss)) | .[0].loss > .[-1].loss and .[-1]["rewards/accuracies"] == 1' simpo/metrics.jsonl >/dev/null ||
    fail "SimPO on simulated pairs did not learn: $(tail -n 2 simpo/metrics.jsonl)"
run 0 simulate after.jsonl "${rules[@]}" --adapter simpo --json
before=$(jq '.output.reward_means | .length + 0.25 * .regex' pairs.jsonl.provenance.json)
jq -e --argjson before "$before" '.reward_means | .length + 0.25 * .regex > $before' out >/dev/null ||
    fail "after training the reward is $(jq -c .reward_means out), before $before"
holds after.jsonl.provenance.json '.simulation.adapters[0].sha256 | length == 64'
ok "simulate, SimPO, and the reward rises: from $before to $(jq '.reward_means | .length + 0.25 * .regex' out)"

run 0 simulate groups.jsonl "${rules[@]}" --format groups
rows=groups.jsonl tiny_recipe grpo.yaml grpo stage=grpo max_steps=4 lora_dropout=0 per_device_train_batch_size=2
run 0 "$dia" train grpo.yaml
jq -s -e 'map(select(.loss)) | length == 4 and all(.["rewards/length/mean"] != null)' grpo/metrics.jsonl >/dev/null ||
    fail "GRPO on simulated groups: $(tail -n 2 grpo/metrics.jsonl)"
ok "simulate groups, GRPO trains on them"

# Killed in the middle, at any moment: the next run ends with the same bytes.
cat > slow.sh <<'END'
while read -r line; do sleep 0.05; answer=${line#*completion}; echo ${#answer}; done
END
run 0 simulate whole.jsonl --reward "{name: process, command: [bash, $work/slow.sh]}"
"$dia" data simulate --model "$model" --data prompts.jsonl --num-generations 4 --max-tokens 10 --seed 5 --out killed.jsonl \
    --reward "{name: process, command: [bash, $work/slow.sh]}" > log 2>&1 &
pid=$!
for ((i = 0; i < 600; i++)); do
    [ ! -e killed.jsonl.partial ] || [ "$(wc -l < killed.jsonl.partial)" -lt 9 ] || break
    sleep 0.1
done
kill -9 $pid
wait $pid 2>/dev/null || true
absent killed.jsonl
printf '+[[1, 2' >> killed.jsonl.partial
run 0 simulate killed.jsonl --reward "{name: process, command: [bash, $work/slow.sh]}"
said 'going on after'
same whole.jsonl killed.jsonl
absent killed.jsonl.partial
ok "killed and gone on: the same bytes"

# A reward that fails costs what it was to judge.
run 0 simulate constant.jsonl --reward '{name: length, min: 1}' --json
holds out '.rows == 0 and .ties == 24'
# A recipe's word is not enough to start a program; the user's is, and the environment's is not.
tiny_prompts gate.jsonl 4
rewards="  - {name: process, command: [bash, -c, 'touch $work/started; while read -r line; do echo 0.5; done']}" rows=$work/gate.jsonl \
    tiny_recipe programs.yaml programs stage=grpo num_generations=2 per_device_train_batch_size=2 max_completion_length=4 max_steps=1 gradient_accumulation_steps=1
DIAPASON_ALLOW_PROGRAMS=1 run 2 "$dia" train programs.yaml
said 'which a recipe alone may not ask for'
run 0 "$dia" plan programs.yaml
run 0 "$dia" explain programs.yaml
absent started
run 0 "$dia" train programs.yaml --allow-programs
exists started
# What a program says that is no number costs its answers, and they teach nothing; neither do answers that are all as good.
for program in 'echo NaN' 'exit 3' 'echo 1'; do
    sed "s#\[bash, .*\]#[bash, -c, 'while read -r line; do $program; done']#" programs.yaml > equal.yaml
    run 0 "$dia" train equal.yaml --allow-programs --set output_dir=equal --set overwrite_output_dir=true --set weight_decay=0
    [ "$program" = 'echo 1' ] || said 'reward process'
    jq -s -e '.[0] | .loss == 0 and .grad_norm == 0' equal/metrics.jsonl >/dev/null || fail "$program: $(cat equal/metrics.jsonl)"
done
ok "programs start where the user allows it"

# A program that no longer reads ends with the run that asked it, and so does what it started, also when the run is killed.
sed "s#\[bash, .*\]#[bash, -c, 'sleep 1000 \& echo \$\$ \$! > $work/pids; while :; do sleep 0.1; done']#" programs.yaml > stuck.yaml
"$dia" train stuck.yaml --allow-programs --set output_dir=stuck > log 2>&1 &
pid=$!
for ((i = 0; i < 600; i++)); do [ ! -s pids ] || break; sleep 0.1; done
kill -9 $pid
wait $pid 2>/dev/null || true
exists pids
# shellcheck disable=SC2013 # two words
for child in $(cat pids); do
    for ((i = 0; i < 100; i++)); do grep -qs '^State:.[^Z]' "/proc/$child/status" || break; sleep 0.1; done
    [ $i -lt 100 ] || fail "process $child outlived a run that was killed"
done
ok "no program outlives its run"

run 0 simulate lost.jsonl --reward '{name: process, command: [sh, -c, "exit 3"]}' --json
holds out '.rows == 0 and .not_judged == 24'
said 'could not be judged so far'
said 'the child ended (exit code 3)'
# An answer that one of several rewards fails on is judged by none: what the others say would blame it for the failure.
cat > moody.sh <<'END'
while read -r line; do case ${line#*completion} in *' 1'*) echo broken ;; *) echo 0.5 ;; esac; done
END
run 0 simulate half.jsonl "${rules[@]}" --reward "{name: process, command: [bash, $work/moody.sh]}" --format groups
jq -s -e '[.[].completions[].scores] | all((.process == null) == (.length == null)) and (map(.process) | unique == [null, 0.5])' half.jsonl >/dev/null ||
    fail "$(head -n 1 half.jsonl)"
rewards="  - {name: process, command: [bash, $work/moody.sh]}" rows=$work/gate.jsonl tiny_recipe moody.yaml moody stage=grpo num_generations=8 \
    per_device_train_batch_size=8 max_completion_length=4 max_steps=2 gradient_accumulation_steps=1
sed -i '/^reward_funcs:/a\  - {name: length, max: 10}' moody.yaml # the same for all: only failures tell the answers apart
run 0 "$dia" train moody.yaml --allow-programs
said "0 timed out): the child's answer is no score"
jq -s -e 'map(select(.loss != null)) | length == 2 and all(.loss == 0 and .grad_norm == 0)' moody/metrics.jsonl >/dev/null || fail "$(cat moody/metrics.jsonl)"
ok "rewards that say nothing, or fail"

# A reward model gives what its stage's evaluation gives, of an adapter and of a whole model.
tiny_pairs rows.jsonl 16
for kind in adapter whole; do
    keys=()
    [ $kind = adapter ] || keys=(lora_r=- lora_alpha=- lora_target_modules=-)
    tiny_recipe rm.yaml rm-$kind stage=reward max_steps=4 learning_rate=0.01 eval_strategy=steps eval_steps=4 per_device_eval_batch_size=3 "${keys[@]}"
    printf 'eval_datasets:\n  - path: rows.jsonl\n' >> rm.yaml
    run 0 "$dia" train rm.yaml
    base=""
    [ $kind = whole ] || base=", base_path: $model"
    run 0 "$dia" data reward --data rows.jsonl --model "$model" --reward "{name: model, path: rm-$kind, dtype: float32$base}" --json
    jq -s '{chosen: (map(select(.side == "chosen").score) | add / length), rejected: (map(select(.side == "rejected").score) | add / length)}' out > got
    jq -s 'map(select(.eval_loss)) | .[-1]' rm-$kind/metrics.jsonl > want
    jq -e -n --slurpfile got got --slurpfile want want '($got[0].chosen - $want[0]["eval_rewards/chosen"] | fabs) < 1e-12 and
        ($got[0].rejected - $want[0]["eval_rewards/rejected"] | fabs) < 1e-12' >/dev/null || fail "$kind: $(cat got) is not $(jq -c . want)"
done
run 0 simulate judged.jsonl --set reward_model=rm-adapter --json
holds out '.rows > 0 and .reward_means.reward_model != null'
run 2 simulate x.jsonl --set reward_model="$model"
ok "the reward model's scores are those of its stage"

# Text and conversations, with a tokenizer; groups.
tiny_vocab=$(jq -n -c --argjson v "$tiny_vocab" '$v + {"\n": 8, "u": 9, "s": 10, "e": 11, "r": 12, "m": 13, "o": 14, "d": 15, "l": 16} +
    ([range(17; 70), range(73; 80) | {key: "w\(.)", value: .}] | from_entries)') # a word for every id, and what Gemma's turns are made of
tiny_model tok '{"added_tokens": [{"id": 1, "content": "<s>", "special": true}, {"id": 2, "content": "</s>", "special": true},
    {"id": 70, "content": "<start_of_turn>", "special": true}, {"id": 71, "content": "<end_of_turn>", "special": true},
    {"id": 72, "content": "<bos>", "special": true}]}'
cat > rows.jsonl <<'END'
{"prompt": "ab", "chosen": "ca b", "rejected": "b"}
{"prompt": "c a", "chosen": "a</s>c", "rejected": "ccb"}
END
cat > chat.jsonl <<'END'
{"prompt": [{"role": "user", "content": "ab c"}], "chosen": [{"role": "assistant", "content": "ca b"}], "rejected": [{"role": "assistant", "content": "b"}]}
{"prompt": [{"role": "user", "content": "b"}], "chosen": [{"role": "assistant", "content": "a<end_of_turn>c"}], "rejected": [{"role": "assistant", "content": "bbb"}]}
END
for kind in rows chat; do
    rows=$kind.jsonl tiny_recipe rm.yaml rm-$kind stage=reward model_name_or_path=tok max_steps=2 learning_rate=0.01 eval_strategy=steps eval_steps=2
    printf 'eval_datasets:\n  - path: %s.jsonl\n' $kind >> rm.yaml
    run 0 "$dia" train rm.yaml
    run 0 "$dia" data reward --data $kind.jsonl --model tok --reward "{name: model, path: rm-$kind, dtype: float32, base_path: tok}" --json
    jq -s '{chosen: (map(select(.side == "chosen").score) | add / length), rejected: (map(select(.side == "rejected").score) | add / length)}' out > got
    jq -s 'map(select(.eval_loss)) | .[-1]' rm-$kind/metrics.jsonl > want
    jq -e -n --slurpfile got got --slurpfile want want '($got[0].chosen - $want[0]["eval_rewards/chosen"] | fabs) < 1e-12 and
        ($got[0].rejected - $want[0]["eval_rewards/rejected"] | fabs) < 1e-12' >/dev/null || fail "$kind: $(cat got) is not $(jq -c . want)"
done
ok "and of text and conversations too"

cat > text.jsonl <<'END'
{"prompt": "ab", "must": "a"}
{"prompt": "ba", "must": ["c"]}
END
run 0 "$dia" data simulate --model tok --data text.jsonl --num-generations 3 --max-tokens 6 --reward '{name: terms, column: must, whole_words: false}' \
    --format groups --out groups.jsonl --json
holds out '.rows == 2'
jq -s -e 'all((.prompt | type) == "string" and (.completions | length) == 3 and all(.completions[]; (.content | type) == "string" and
    (.scores.terms | type) == "number" and (.source | length) == 12) and .weights.terms == 1)' groups.jsonl >/dev/null || fail "$(cat groups.jsonl)"
# What a recipe says of answers and templates holds here too, and rows made another way are not taken for these.
echo '{"prompt": [{"role": "user", "content": "ab"}]}' > asked.jsonl
echo '{{ messages[0].content }}' > one.jinja
echo 'c{{ messages[0].content }}' > two.jinja
ask() { # TEMPLATE [OPTION …]
    local template=$1
    shift
    run 0 "$dia" data simulate --model tok --data asked.jsonl --num-generations 12 --max-tokens 8 --reward '{name: length, max: 4}' --format groups \
        --set chat_template_path="$template" --out asked-groups.jsonl "$@"
    ! grep -q 'already there' out || fail "another simulation's rows are taken for this one's: $(cat out)"
}
ask one.jinja
ask two.jinja
ask two.jinja --set 'stop_strings=["w"]'
jq -e '.completions | any(.truncated | not) and all(.content[0].content | contains("w") | not)' asked-groups.jsonl >/dev/null ||
    fail "stop_strings: $(cat asked-groups.jsonl)"
holds asked-groups.jsonl.provenance.json '.simulation | .sampling.stop_strings == ["w"] and (.prompts_sha256 | length) == 64'
cat > prompt.sh <<'END'
while read -r line; do case $line in *'"prompt": "cab'*) echo '{"score": 1}' ;; *) echo '{"score": 0}' ;; esac; done
END
jq -c '.completion = [{role: "assistant", content: "a"}]' asked.jsonl > answered.jsonl
rows=answered.jsonl rewards="  - {name: process, command: [bash, $work/prompt.sh]}" tiny_recipe asked.yaml asked stage=grpo model_name_or_path=tok \
    num_generations=8 chat_template_path=two.jinja
run 0 "$dia" data reward asked.yaml --allow-programs --json
jq -s -e 'length == 1 and .[0].scores.process == 1' out >/dev/null || fail "data reward renders another template than the recipe's: $(cat out)"
ok "stop strings and templates of a recipe"

cat > judged.jsonl <<'END'
{"prompt": "Comment puis-je faire ?", "chosen": "Ouvrez les paramètres.", "rejected": "Open the settings."}
{"messages": [{"role": "user", "content": "How?"}, {"role": "assistant", "content": "Open the settings."}]}
END
run 0 "$dia" data reward --data judged.jsonl --reward language --reward "{name: process, path: $src/tools/examples/reward.sh, label: ends}"
grep -q 'judged.jsonl:1 rejected  language 0  ends 1' out || fail "$(cat out)"
grep -q 'chosen earns more in 100.0 % of 1 pairs' out || fail "$(cat out)"
if command -v python3 >/dev/null; then
    run 0 "$dia" data reward --data judged.jsonl --reward "{name: process, path: $src/tools/examples/reward.py}" --json
    jq -s -e 'length == 3 and all(.scores.process == 1)' out >/dev/null || fail "$(cat out)"
fi
# To hear what a reward says of nothing is an error; what the others said is written.
run 1 "$dia" data reward --data judged.jsonl --reward language --reward '{name: process, command: [sh, -c, "exit 3"]}' --out heard.jsonl
said 'reward process: it failed on every answer; the last time: '
said '(exit code 3)'
jq -s -e 'length == 3 and all(.scores.process == null) and any(.scores.language != null)' heard.jsonl >/dev/null || fail "$(cat heard.jsonl)"
ok "text, conversations and groups; the example rewards"

# A reward model that spells what the policy has words for: ten tokens for one. It judges fewer answers at once: no more memory than was planned.
tiny_vocab=$(jq -n -c '["<unk>", "<s>", "</s>"] + ("longwrd 0123456789" / "") | to_entries | map({key: .value, value: .key}) | from_entries') \
    tiny_model spells '{"model": {"merges": []}}'
tiny_vocab=$(jq -n -c '["<unk>", "<s>", "</s>"] + ("longwrd" / "") + [range(10; 80) | "longword\(.)"] | to_entries |
    map({key: .value, value: .key}) | from_entries') tiny_model words '{"model": {"merges": []}}'
echo '{"prompt": "ow", "chosen": "word", "rejected": "long"}' > spelt.jsonl
rows=spelt.jsonl tiny_recipe rm.yaml rm-spells stage=reward model_name_or_path=spells max_steps=1 per_device_train_batch_size=1
run 0 "$dia" train rm.yaml
echo '{"prompt": "word"}' > prompt.jsonl
rewards="  - {name: model, path: rm-spells, base_path: spells, dtype: float32}" rows=prompt.jsonl tiny_recipe words.yaml words-run stage=grpo \
    model_name_or_path=words max_completion_length=60 num_generations=8 per_device_train_batch_size=8 gradient_accumulation_steps=1 max_steps=1 log_completions=true
run 0 "$dia" train words.yaml
! grep -q 'the plan was too small' err || fail "the reward model's arena grew: $(cat err)"
run 0 "$dia" data reward --data words-run/completions.jsonl --model words --reward '{name: model, path: rm-spells, base_path: spells, dtype: float32}' --json
diff <(jq .rewards.model words-run/completions.jsonl) <(jq .score out) >&2 || fail "answers judged in parts have other scores"
ok "a reward model with another tokenizer stays within the plan"

# refused CODE TEXT OPTION …
refused() {
    local code=$1 text=$2
    shift 2
    run "$code" "$dia" data "$@"
    said "$text"
}
common=(simulate --model "$model" --data prompts.jsonl --out no.jsonl)
refused 2 "no reward 'lenght'; did you mean 'length'?" "${common[@]}" --reward lenght
refused 2 "'mxa' is not a parameter of reward length; did you mean 'max'?; there are: min, max, " "${common[@]}" --reward '{name: length, mxa: 3}'
refused 2 'neither min nor max is given' "${common[@]}" --reward length
refused 2 'no rewards: give --reward' "${common[@]}"
refused 2 'no model: give --model' simulate --data prompts.jsonl --out no.jsonl --reward language
refused 2 'no rows: give --data' simulate --model "$model" --out no.jsonl --reward language
refused 2 '--out is missing' simulate --model "$model" --data prompts.jsonl --reward language
refused 2 'expected pairs or groups' "${common[@]}" --reward language --format rows
ln -f prompts.jsonl linked.jsonl
sha256sum prompts.jsonl > before
refused 2 'linked.jsonl holds the rows that are read' simulate --model "$model" --set datasets=prompts.jsonl --out linked.jsonl --reward language
sha256sum --quiet -c before || fail "rows were overwritten"
refused 2 'a pair needs 2 answers' "${common[@]}" --reward language --num-generations 1
refused 2 'an adapter: base_path is missing' reward --data rows.jsonl --reward '{name: model, path: rm-adapter}'
refused 2 'has no score head' reward --data rows.jsonl --reward "{name: model, path: $model}"
refused 5 'expected a prompt with its completion' reward --data text.jsonl --reward language
absent no.jsonl
printf 'reward_funcs:\n  - name: json\n    schema: {type: text}\n' > bad.yaml
refused 2 'bad.yaml:2:5: reward json: schema: /type: expected null' reward bad.yaml --data judged.jsonl
ok "what is refused, with its place"
