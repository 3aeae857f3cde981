#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# train → score → generate → merge: the adapter and the merged model give the same numbers, and what is written is read again.
. "$(dirname "$0")/../lib.sh" "$1"

tiny_rows rows.jsonl 32
tiny_rows held.jsonl 12 5
tiny_recipe recipe.yaml run max_steps=60 learning_rate=0.01
run 0 "$dia" train recipe.yaml
base=$models/gemma3

run 0 "$dia" score --model "$base" --data held.jsonl --out base.jsonl
run 0 "$dia" score --model "$base" --adapter run --data held.jsonl --out adapted.jsonl
[ "$(wc -l < base.jsonl)" = 12 ] || fail "score must write one object a row"
holds adapted.jsonl 'all((.ids | length) == (.logprobs | length) and (.ids | length) == (.mask | length)
    and .logprobs[0] == null and all(.logprobs[1:][]; . <= 0) and .nll > 0)' -s
# nll is the mean over the row's scored tokens, or their sum; either way it must follow from logprobs and mask.
holds adapted.jsonl 'all(. as $r | ([range(1; $r.ids | length) | select($r.mask[.] == 1) | -$r.logprobs[.]]) as $l
    | (($l | add) as $s | ($s - $r.nll | fabs) < 1e-3 or ($s / ($l | length) - $r.nll | fabs) < 1e-4))' -s
mean() { jq -s '[.[] | . as $r | range(1; $r.ids | length) | select($r.mask[.] == 1) | -$r.logprobs[.]] | add / length' "$1"; }
awk -v a="$(mean adapted.jsonl)" -v b="$(mean base.jsonl)" 'BEGIN { exit !(a < 0.9 * b) }' || fail "the adapter did not help: $(mean base.jsonl) → $(mean adapted.jsonl)"
ok "held-out loss $(mean base.jsonl) → $(mean adapted.jsonl)"

run 0 "$dia" score --model "$base" --adapter run --data held.jsonl
same out adapted.jsonl
ok "score writes the same bytes to stdout"

run 0 "$dia" merge --model "$base" --adapter run --format safetensors --out merged
exists merged/model.safetensors merged/config.json
run 0 "$dia" score --model merged --data held.jsonl --out merged.jsonl
# alike A B: the log-probs of twelve rows, within rounding.
alike() {
    jq -s '.[0:12] as $a | .[12:] as $b | [range(12) | . as $i | range(1; $a[$i].ids | length) as $t | $a[$i].logprobs[$t] - $b[$i].logprobs[$t] | fabs] | max' \
        "$1" "$2" > largest
    awk '{ exit !($1 < 1e-4) }' largest || fail "$1 and $2 differ by $(cat largest) in a log-prob"
}
alike adapted.jsonl merged.jsonl
ok "the merged model scores like the adapter (largest difference $(cat largest))"

run 0 "$dia" merge --model "$base" --adapter run --format safetensors --max-shard-size 20KB --out shards
exists shards/model-00001-of-*.safetensors shards/model.safetensors.index.json
[ ! -e shards/model.safetensors ] || fail "shards and a whole file"
n=$(find shards -name 'model-*.safetensors' | wc -l)
[ "$n" -gt 1 ] || fail "one shard"
jq -e --argjson n "$n" '(.weight_map | [.[]] | unique | length) == $n and .metadata.total_size > 0' shards/model.safetensors.index.json > /dev/null ||
    fail "the index does not name the $n shards"
run 0 "$dia" score --model shards --data held.jsonl --out shards.jsonl
same shards.jsonl merged.jsonl
run 0 "$dia" merge --model shards --format safetensors --out merged2
run 0 "$dia" merge --model merged2 --format safetensors --max-shard-size 20KB --out merged
[ ! -e merged/model.safetensors ] || fail "the whole file of an earlier merge is still there"
run 0 "$dia" merge --model merged2 --format safetensors --out merged
[ ! -e merged/model.safetensors.index.json ] || fail "the index of an earlier merge is still there"
absent merged/model-*-of-*.safetensors
run 0 "$dia" merge --model merged2 --format safetensors --max-shard-size 40KB --out shards
fewer=$(find shards -name 'model-*.safetensors' | wc -l)
[ "$fewer" -gt 1 ] && [ "$fewer" -lt "$n" ] || fail "$fewer shards, fewer than $n were expected"
absent "shards/model-00001-of-$(printf %05d "$n").safetensors"
run 0 "$dia" score --model merged --data held.jsonl --out again.jsonl
same again.jsonl merged.jsonl
run 2 "$dia" merge --model "$base" --format safetensors --max-shard-size none --out x
run 2 "$dia" merge --model merged --format safetensors --out ./merged
exists merged/model.safetensors
ok "$n shards give the same scores as one file; a merge replaces an earlier one, never the model itself"

# A base with a weight that is no number: score refuses it, and merge makes no model of it.
cp -rL "$base" damaged
printf '\377\377' | dd of=damaged/model.safetensors bs=1 seek=$(($(stat -c %s damaged/model.safetensors) - 2)) conv=notrunc status=none
run 1 "$dia" merge --model damaged --format safetensors --out nan
said 'is not finite'
absent nan/*
ok "what is not finite is not merged"

jq -c '{input_ids: .input_ids[:6]}' held.jsonl > prompts.jsonl
run 0 "$dia" generate --model "$base" --adapter run --data prompts.jsonl --max-tokens 12 --temperature 0 --json
cp out greedy.jsonl
[ "$(wc -l < greedy.jsonl)" = 12 ] || fail "generate --json must write one object a row"
holds greedy.jsonl 'all((.ids | type) == "array" and (.ids | length) <= 12 and (.finish_reason == "stop" or .finish_reason == "length")
    and (.finish_reason == "stop" or (.ids | length) == 12))' -s
# Without a tokenizer generation_config.json still says what ends an answer: here the second token of one.
cp -r merged2 ends
jq -s -c '[to_entries[] | select(.value.ids[1] != .value.ids[0])][0] | [.key, .value.ids[1]]' greedy.jsonl > second
jq -s '{eos_token_id: [.[0][1], 99999999]}' second > ends/generation_config.json
run 0 "$dia" generate --model ends --data prompts.jsonl --max-tokens 12 --temperature 0 --json
jq -s -e --slurpfile at second '.[$at[0][0]] | .finish_reason == "stop" and (.ids | length) == 2 and .ids[1] == $at[0][1]' out > /dev/null ||
    fail "generation_config.json is not obeyed: $(cat second out)"
run 0 "$dia" generate --model merged --data prompts.jsonl --max-tokens 12 --temperature 0 --json
diff <(jq -c .ids greedy.jsonl) <(jq -c .ids out) >&2 || fail "greedy tokens of merged and adapted differ"
ok "merged and adapted continue with the same tokens"

sample() { run 0 "$dia" generate --model "$base" --data prompts.jsonl --max-tokens 12 --temperature 1 --seed "$1" --json; }
sample 3; cp out a; sample 3; same out a; sample 4
! cmp -s out a || fail "another seed gave the same samples"
ok "sampling follows the seed"

# Greedy choices are what score says is most likely: scoring prompt + continuation gives every chosen token the best log-prob it can.
tiny_recipe again.yaml run2 adapter_init=run max_steps=2
run 0 "$dia" train again.yaml
holds run2/metrics.jsonl '.[0].loss < 4' -s
ok "an adapter is a place to start from (adapter_init)"
# Its configuration is the file's; a recipe that says otherwise is refused, not ignored.
for other in lora_r=8 lora_alpha=9 use_dora=true 'lora_target_modules=[q_proj]' 'rank_pattern={q_proj: 2}'; do
    run 2 "$dia" train again.yaml --set output_dir=run3 --set "$other"
    said "${other%%=*}"
    absent run3/adapter_model.safetensors
done
run 0 "$dia" train again.yaml --set output_dir=run3 --set lora_dropout=0.5
holds run3/adapter_config.json '.lora_dropout == 0.5'
ok "adapter_init and keys of the recipe that contradict it"

# Modules trained whole travel along.
tiny_recipe whole.yaml run4 model_name_or_path="$models/llama" lora_modules_to_save='[lm_head]' max_steps=2
run 0 "$dia" train whole.yaml
tiny_recipe more.yaml run5 model_name_or_path="$models/llama" adapter_init=run4 max_steps=2
run 0 "$dia" train more.yaml
holds run5/adapter_config.json '.modules_to_save == ["lm_head"]'
run 0 "$dia" score --model "$models/llama" --adapter run5 --data held.jsonl
ok "modules_to_save through adapter_init"

# PEFT's rule: a head that is trained whole is tied to the embedding no longer, which stays as it was unless it is trained too.
for saved in lm_head lm_head,embed_tokens; do
    tiny_recipe head.yaml head lora_modules_to_save="[$saved]" max_steps=4 learning_rate=0.01
    rm -rf head
    run 0 "$dia" train head.yaml
    holds head/adapter_config.json '.modules_to_save == ($s / ",") and (.ensure_weight_tying // false | not)' --arg s "$saved"
    [ "$(grep -c -a 'embed_tokens\.weight' head/adapter_model.safetensors)" = "$([[ $saved = *embed* ]] && echo 1 || echo 0)" ] || fail "$saved: other modules were saved"
    run 0 "$dia" score --model "$base" --adapter head --data held.jsonl --out head.jsonl
    ! cmp -s head.jsonl base.jsonl || fail "$saved: nothing was learned"
    run 0 "$dia" merge --model "$base" --adapter head --format safetensors --out merged
    holds merged/config.json '.tie_word_embeddings == false'
    run 0 "$dia" score --model merged --data held.jsonl --out merged.jsonl
    alike head.jsonl merged.jsonl
done
ok "a tied head that is trained becomes a weight of its own, in the adapter and in the merged model"

# PEFT's rule: a name is the end of a module's name, so that "norm" is every norm. A module with an adapter is not trained whole too.
tiny_recipe norm.yaml run6 model_name_or_path="$models/llama" lora_modules_to_save='[norm]' max_steps=2
run 0 "$dia" train norm.yaml
n=$(grep -o -a 'base_model\.model\.[a-z0-9_.]*norm\.weight' run6/adapter_model.safetensors | sort -u | wc -l)
[ "$n" = "$((2 * $(jq .num_hidden_layers "$models/llama/config.json") + 1))" ] || fail "$n norms are in the adapter"
run 0 "$dia" score --model "$models/llama" --adapter run6 --data held.jsonl
run 2 "$dia" train norm.yaml --set lora_modules_to_save='[_proj]' --set output_dir=run7
said "'model.layers.0.self_attn.q_proj.weight', which gets an adapter"
ok "modules_to_save names the end of a module's name"
