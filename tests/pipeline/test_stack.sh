#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Several adapters on one base: a second trained on top of a frozen first has the gradients of one trained on the merged base; what each is
# bound to, and what is refused; adapters list and diff; the same in a chain.
. "$(dirname "$0")/../lib.sh" "$1"

tiny_rows rows.jsonl 32
tiny_rows other.jsonl 32 5
tiny_rows held.jsonl 8 9
base=$models/gemma3
tiny_recipe first.yaml first max_steps=12 learning_rate=0.01 lora_dropout=0
run 0 "$dia" train first.yaml
run 0 "$dia" merge --model "$base" --adapter first --out merged

# most FILE EXPRESSION: the largest of a number over lines of JSON
largest() { jq -s "[.[] | $2] | max" "$1"; }
below() { awk -v x="$1" -v y="$2" 'BEGIN { exit !(x < y) }' || fail "$3: $1, expected below $2"; }

# Plain gradient descent, so that what is left after two steps is the gradients: f32, on each backend.
for device in cpu ref; do
    for where in stacked merged; do
        rows=other.jsonl tiny_recipe $where.yaml on-$where-$device max_steps=2 optim=sgd learning_rate=0.5 lr_scheduler_type=constant warmup_steps=0 \
            lora_dropout=0 max_grad_norm=0 lora_target_modules='[q_proj, up_proj, down_proj]' device=$device
        if [ $where = stacked ]; then echo 'frozen_adapters: first' >> $where.yaml; else sed -i "s|^model_name_or_path:.*|model_name_or_path: merged|" $where.yaml; fi
        run 0 "$dia" train $where.yaml
    done
    run 0 "$dia" adapters diff on-stacked-$device on-merged-$device --json
    jq -c '.modules[]' out > deltas
    [ "$(wc -l < deltas)" -gt 3 ] || fail "diff: $(cat out)"
    below "$(largest deltas '.norm_difference / (.norm_a + 1e-30)')" 1e-3 "$device: gradients on a frozen adapter and on the merged base"
    holds deltas 'all(.norm_a > 1e-7 and .in_a and .in_b)' -s
    paste -d' ' <(jq -c 'select(.loss) | [.loss, .grad_norm]' on-stacked-$device/metrics.jsonl) <(jq -c 'select(.loss) | [.loss, .grad_norm]' on-merged-$device/metrics.jsonl) > pairs
    jq -s -e '[range(0; length; 2) as $i | .[$i] as $a | .[$i + 1] as $b | range(2) | ($a[.] - $b[.]) / $b[.] | fabs] | max < 1e-4' pairs > /dev/null ||
        fail "$device: losses and norms differ: $(cat pairs)"
    ok "$device: losses and gradients on a frozen adapter are those on the merged base ($(largest deltas '.norm_difference / (.norm_a + 1e-30)') of the norm at most)"
done

# What it wrote is the second adapter alone, bound to base and first.
rows=other.jsonl tiny_recipe second.yaml second max_steps=12 learning_rate=0.01
echo 'frozen_adapters: [first]' >> second.yaml
run 0 "$dia" plan second.yaml
run 0 "$dia" explain second.yaml
run 0 "$dia" train second.yaml
cp -r second whole
rm -r second/checkpoint-12
run 0 "$dia" train second.yaml --resume
same second/adapter_model.safetensors whole/adapter_model.safetensors
grep -q 'frozen_adapters\[0\].sha256' second/recipe.lock.yaml || fail "the lock does not hold the frozen adapter"
holds second/adapter_config.json '.r == 4 and (.target_modules | length) == 7'
ok "trained, planned, explained, resumed to the same bytes"

# A frozen adapter is known by its tensors: as another tool saves them, in another order under another header, it is the same; another number is not.
cp -r first kept && rm first/digests.json
rewrite kept/adapter_model.safetensors first/adapter_model.safetensors '. + {__metadata__: {format: "pt"}} | to_entries | reverse | from_entries'
! cmp -s first/adapter_model.safetensors kept/adapter_model.safetensors || fail "the header was not rewritten"
rm -r second/checkpoint-12
run 0 "$dia" train second.yaml --resume
same second/adapter_model.safetensors whole/adapter_model.safetensors
run 0 "$dia" score --model "$base" --adapter first --adapter second --data held.jsonl --out again.jsonl
! grep -q 'other adapters' err || fail "a frozen adapter that was saved again is another: $(cat err)"
head -c -1 kept/adapter_model.safetensors > first/adapter_model.safetensors
printf '\75' >> first/adapter_model.safetensors
run 1 "$dia" score --model "$base" --adapter first --adapter second --data held.jsonl
said 'trained on top of frozen adapters'
rm -r first && mv kept first
ok "a frozen adapter that another tool saved again is the same adapter"

run 0 "$dia" score --model "$base" --adapter first --adapter second --data held.jsonl --out stacked.jsonl
run 0 "$dia" merge --model "$base" --adapter first --adapter second --out both
run 0 "$dia" score --model both --data held.jsonl --out both.jsonl
run 0 "$dia" score --model "$base" --adapter second --allow-base-mismatch --data held.jsonl --out alone.jsonl
said 'was trained on top of other adapters'
jq -n --slurpfile a stacked.jsonl --slurpfile b both.jsonl '[range(8) as $i | range(1; $a[$i].ids | length) as $t | $a[$i].logprobs[$t] - $b[$i].logprobs[$t] | fabs] | max' > differ
below "$(cat differ)" 1e-4 "score of two adapters and of the model they are merged into"
! cmp -s stacked.jsonl alone.jsonl || fail "the first adapter did nothing"
run 0 "$dia" generate --model "$base" -a first -a second --data held.jsonl --max-tokens 4 --temperature 0 --json
DIAPASON_ADAPTER=alone run 0 "$dia" score --model "$base" --adapter first --adapter second --data held.jsonl
same out stacked.jsonl
DIAPASON_ADAPTER=first run 0 "$dia" score --model "$base" --data held.jsonl
ok "two adapters score, generate and merge as one model (largest difference $(cat differ))"

# A third on both, continued; dropout of the frozen ones is off.
rows=other.jsonl tiny_recipe third.yaml third max_steps=2 lora_r=2
echo 'frozen_adapters: [first, second]' >> third.yaml
run 0 "$dia" train third.yaml
rows=other.jsonl tiny_recipe more.yaml more max_steps=2 adapter_init=third lora_r=- lora_alpha=- lora_target_modules=-
echo 'frozen_adapters: [first, second]' >> more.yaml
run 0 "$dia" train more.yaml
run 1 "$dia" train more.yaml --set 'frozen_adapters=[second, first]' --set output_dir=wrong
said 'trained on top of frozen adapters'
run 1 "$dia" train more.yaml --set 'frozen_adapters=null' --set output_dir=wrong
said 'lies none'
run 0 "$dia" train more.yaml --set 'frozen_adapters=null' --set output_dir=anyway --set allow_base_mismatch=true
ok "three of them; one that lay on others is refused without them"

run 2 "$dia" train second.yaml --set adapter=none --set lora_r=null --set output_dir=wrong
said 'every weight is to be trained'
run 1 "$dia" train second.yaml --set adapter=dora --set output_dir=wrong
said "'dora' starts from the values of"
tiny_recipe dora.yaml dora max_steps=2 adapter=dora
run 0 "$dia" train dora.yaml
run 0 "$dia" train second.yaml --set frozen_adapters=dora --set max_steps=2 --set output_dir=on-dora
run 0 "$dia" score --model "$base" -a dora -a on-dora --data held.jsonl --out a.jsonl
run 0 "$dia" merge --model "$base" -a dora -a on-dora --out on-dora-merged
run 0 "$dia" score --model on-dora-merged --data held.jsonl --out b.jsonl
jq -n --slurpfile a a.jsonl --slurpfile b b.jsonl '[range(8) as $i | range(1; $a[$i].ids | length) as $t | $a[$i].logprobs[$t] - $b[$i].logprobs[$t] | fabs] | max' > differ
below "$(cat differ)" 1e-4 "a lora on a frozen dora"
ok "a lora on a frozen dora; a dora on a frozen adapter is refused"

# Which base: another one is refused, one that says nothing is accepted with a notice, one that matches nothing never.
sed 's|^max_steps:.*|max_steps: 1|; s|^output_dir:.*|output_dir: full|; s|^warmup_steps:.*|warmup_steps: 0|; /^lora_/d' first.yaml > full.yaml
run 0 "$dia" train full.yaml
run 1 "$dia" score --model full --adapter first --data held.jsonl
said 'the shapes fit, the weights differ'
run 0 "$dia" score --model full --adapter first --data held.jsonl --allow-base-mismatch
said 'was trained on other weights'
run 1 "$dia" train second.yaml --set model_name_or_path=full --set output_dir=wrong
said 'the shapes fit, the weights differ'
run 0 "$dia" train second.yaml --set model_name_or_path=full --set output_dir=other --set allow_base_mismatch=true --set max_steps=1
run 0 "$dia" score --model "$base" --adapter "$data/parity/lora/gemma3-lora" --data held.jsonl
said 'does not say which base it was trained on'
run 1 "$dia" score --model "$models/llama" --adapter first --data held.jsonl
cp -r first nothing && rm nothing/digests.json
jq '.target_modules = ["nowhere"]' first/adapter_config.json > nothing/adapter_config.json
run 1 "$dia" score --model "$base" --adapter nothing --data held.jsonl
run 1 "$dia" score --model "$base" --adapter nothing --data held.jsonl --allow-base-mismatch
run 2 "$dia" train first.yaml --set 'lora_target_modules=[nowhere]' --set output_dir=wrong
ok "binding to the base"

run 0 "$dia" adapters list . --json
holds out 'map(select(.path == "./first" or .path == "./second" or .path == "./nothing" or .path == "./dora")) | length == 4'
holds out 'map(select(.path | test("checkpoint"))) == []'
holds out '.[] | select(.path == "./second") | .kind == "lora" and .r == 4 and .stage == "sft" and .on_adapters == 1 and (.base_sha256 | length) == 64 and .parameters > 0 and (.targets | length) == 7'
holds out '.[] | select(.path == "./dora") | .kind == "dora" and .on_adapters == 0'
holds out '.[] | select(.path == "./nothing") | .refused | length > 0'
run 0 "$dia" adapters list first second
grep -q 'under 1 frozen adapter$' out || fail "list: $(cat out)"
run 0 "$dia" adapters diff first first --json
holds out '.settings == {} and (.modules | length) > 0 and (.modules | all(.norm_difference == 0 and .norm_a == .norm_b and .norm_a > 0))'
run 0 "$dia" adapters diff first third
grep -q '^r: 4 → 2$' out || fail "diff: $(cat out)"
grep -q '^on_adapters: 0 → 2$' out || fail "diff: $(cat out)"
run 0 "$dia" adapters diff first on-stacked-cpu
grep -q 'only in A$' out || fail "diff: $(cat out)"
run 1 "$dia" adapters diff first "$data/parity/lora/llama-lora"
run 2 "$dia" adapters list nowhere
run 2 "$dia" adapters diff first
run 2 "$dia" adapters
ok "adapters list and diff"

# In a chain: freeze: true, and what comes after keeps both.
cat > chain.yaml <<END
output_dir: chain
model_name_or_path: $base
dtype: float32
seed: 7
max_steps: 4
learning_rate: 0.01
lora_r: 4
lora_dropout: 0
datasets: rows.jsonl
stages:
  - name: ground
    stage: sft
  - name: over
    stage: sft
    freeze: true
    datasets: other.jsonl
  - name: further
    stage: sft
    max_steps: 2
  - name: flat
    stage: sft
    merge: true
    max_steps: 1
END
run 0 "$dia" plan chain.yaml --json
cp out before.json
run 0 "$dia" explain chain.yaml
run 0 "$dia" train chain.yaml
# What lies frozen under a stage's adapter is planned for before it is trained.
run 0 "$dia" plan chain.yaml --json
parts='.stages[] | select(.name == "over" or .name == "further") | [.name, (.memory_bytes | del(.fixed, .total))]'
diff <(jq -S "$parts" before.json) <(jq -S "$parts" out) >&2 || fail "the plan changes when the stages below are there"
holds out '[.stages[] | .memory_bytes | .weights_rows + .weights_packed + .weights_packed_grad] | .[1] > .[0] and .[2] == .[1]'
run 0 "$dia" score --model "$base" -a chain/ground -a chain/over --data held.jsonl
run 0 "$dia" score --model "$base" -a chain/ground -a chain/further --data held.jsonl
run 0 "$dia" merge --model "$base" -a chain/ground -a chain/further --out hand
same hand/model.safetensors chain/further/merged/model.safetensors
run 0 "$dia" train chain.yaml --resume
[ "$(grep -c 'was finished' err)" = 4 ] || fail "$(cat err)"
sed -i 's/freeze: true/freeze: perhaps/' chain.yaml
run 2 "$dia" train chain.yaml --resume
said 'freeze: expected true or false, found the text "perhaps"'
ok "a chain with a frozen adapter"
