#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Wrong usage, wrong recipes, refused rows: the exit code, a message that names the place, and nothing written.
. "$(dirname "$0")/../lib.sh" "$1"

tiny_rows rows.jsonl 8
run 2 "$dia"
run 2 "$dia" trane
said train
run 2 "$dia" train
run 2 "$dia" train recipe.yaml --nonsense
run 2 "$dia" train absent.yaml
said absent.yaml
ok "usage errors leave with 2"

# recipe LINE_TO_ADD EXPECTED_WORDS …: a recipe with one wrong line.
refused() {
    local line=$1
    shift
    tiny_recipe recipe.yaml run
    sed -i "/^${line%%:*}:/d" recipe.yaml
    printf '%s\n' "$line" >> recipe.yaml
    run 2 "$dia" train recipe.yaml
    said recipe.yaml
    local word
    for word; do said "$word"; done
    absent run
}
refused 'learing_rate: 0.1' learing_rate learning_rate
refused 'learning_rate: fast' learning_rate
refused 'learning_rate: -1' learning_rate
refused 'max_steps: 1.5' max_steps
refused 'lr_scheduler_type: cosines' lr_scheduler_type cosine
refused 'per_device_train_batch_size: 0' per_device_train_batch_size
refused 'seed: [1, 2]' seed
# Never ignored: what this version does not do, and parameters that no plugin has.
refused 'optim: lion' 'lion is not implemented'
refused 'packing_strategy: bfd_split' 'bfd_split is not implemented'
refused 'quantization: gptq' 'gptq is not implemented'
refused 'beta: 0.1' "'beta' is not a parameter of sft"
refused 'report_to: wandb' wandb
refused 'objective_args: {margin: 3}' "'margin' is not a parameter of sft; it has none"
refused 'adapter_args: {margin: 3}' "'margin' is not a parameter of lora"
refused 'adapter_args: {r: 3}' lora_r
refused 'lr_scheduler_kwargs: {cycles: 3}' num_cycles
# What would be written could not be read again.
refused 'lora_alpha: 0' lora_alpha
refused 'lora_r: 200' 'rank 200 is more than both dimensions'
refused 'rank_pattern: {q_proj: 300}' 'rank 300 is more than both dimensions'
refused 'rank_pattern: {q_porj: 2}' "'q_porj' is the pattern of no module that has an adapter"
refused 'rank_pattern: {.*_proj: 2, q_proj: 3}' "'q_proj' is the pattern of no module that has an adapter, or an earlier one takes all"
refused 'alpha_pattern: {embed_tokens: 2}' "'embed_tokens' is the pattern of no module"
refused "eos_token: '</s>'" 'no token of the model, which has no tokenizer'
tiny_recipe recipe.yaml run
n=$(wc -l < recipe.yaml)
printf 'learing_rate: 0.1\n' >> recipe.yaml
run 2 "$dia" train recipe.yaml
said "recipe.yaml:$((n + 1))"
printf 'a: [1\n' > broken.yaml
run 2 "$dia" train broken.yaml
said broken.yaml
tiny_recipe recipe.yaml run
run 2 "$dia" train recipe.yaml --set learing_rate=1
said learning_rate
absent run
ok "recipe errors leave with 2, name file, line and key, and write nothing"

cp -rL "$models/llama" base
chmod -R u+w base
before=$(sha256sum base/*)
tiny_recipe recipe.yaml base model_name_or_path="$work/base"
run 2 "$dia" train recipe.yaml
said 'output_dir is the model itself'
[ "$(sha256sum base/*)" = "$before" ] || fail "the base was written over"
tiny_recipe recipe.yaml first max_steps=1
run 0 "$dia" train recipe.yaml
before=$(sha256sum first/adapter_model.safetensors)
for what in 'adapter_init=first lora_r=- lora_alpha=- lora_target_modules=-' frozen_adapters=first; do
    # shellcheck disable=SC2086 # several keys
    tiny_recipe recipe.yaml ./first overwrite_output_dir=true $what
    run 2 "$dia" train recipe.yaml
    said 'itself, which the run would write over'
done
[ "$(sha256sum first/adapter_model.safetensors)" = "$before" ] || fail "the adapter was written over"
exists first/checkpoint-1
ok "nothing is trained into the folder of the model or adapter it reads"

# Rows that training refuses: data policy, exit 5, the row named.
row_refused() {
    printf '%s\n' "$1" >> bad.jsonl
    rows=bad.jsonl tiny_recipe recipe.yaml run
    run 5 "$dia" train recipe.yaml
    said "bad.jsonl"
    said "$2"
    absent run/adapter_model.safetensors
    cp rows.jsonl bad.jsonl
}
cp rows.jsonl bad.jsonl
row_refused '{"input_ids":[1,5,6,7],"labels":[-100,-100,-100,-100]}' 9
row_refused '{"input_ids":[1,1,6,7],"labels":[-100,-100,6,7]}' 9
ok "rows without a trained token or with a doubled BOS are refused with 5"

for bad in '{"input_ids":[1,5,6],"labels":[-100,5]}' '{"input_ids":[1,5,600],"labels":[-100,5,600]}' '{"input_ids":"abc"}' '{"input_ids":[1,5' '[]'; do
    printf '%s\n' "$bad" >> bad.jsonl
    rows=bad.jsonl tiny_recipe recipe.yaml run
    got=0
    "$dia" train recipe.yaml > out 2> err || got=$?
    case $got in 1 | 2 | 5) ;; *) cat err >&2; fail "exit code $got for the row $bad" ;; esac
    grep -q 'bad.jsonl:9' err || { cat err >&2; fail "the message does not name bad.jsonl:9 for the row $bad"; }
    absent run/adapter_model.safetensors
    cp rows.jsonl bad.jsonl
done
ok "malformed rows are named by file and line"

run 2 "$dia" score --data rows.jsonl
run 2 "$dia" generate --model "$models/gemma3"
run 2 "$dia" generate --model "$models/gemma3" --data rows.jsonl --stop ''
grep -q -e '--stop is empty' err || fail "an empty stop text must be refused by name"
run 1 "$dia" generate --model "$models/gemma3" --data rows.jsonl --stop x
said 'stop strings, but the model has no tokenizer'
run 2 "$dia" generate --model "$models/gemma3" --data rows.jsonl --num-generations 0
grep -q -e '--num-generations is 0' err || fail "a number of answers must be refused by name"
got=0
"$dia" score --model "$work/nowhere" --data rows.jsonl > out 2> err || got=$?
[ "$got" != 0 ] && grep -q nowhere err || fail "a model that is not there must be named"
ok "other verbs"

mkdir nan
cp "$models/llama/config.json" nan/
head -c -4 "$models/llama/model.safetensors" > nan/model.safetensors
printf '\377\377\377\177' >> nan/model.safetensors # the last number of the last norm
printf '{"ids":[1,5,6]}\n{"ids":[1,7,8]}\n' > nan.jsonl
for verb in score 'eval --suite nan.jsonl'; do
    run 1 "$dia" $verb --model nan $([ "$verb" != score ] || echo --data nan.jsonl --out nan.out)
    said 'nan: sequence 1, token 2 (id 5): its log-probability is'
done
absent nan.out
run 1 "$dia" generate --model nan --data nan.jsonl --json
said 'nan: generate: no finite logit'
[ ! -s out ] || fail "an answer was made of NaN"
ok "what is not finite is said, never written"
