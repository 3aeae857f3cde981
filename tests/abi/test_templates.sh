#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Every template, copied to plugins.d/NAME and otherwise untouched, builds with dps_add_plugin, loads, and passes its own test; so does what
# `diapason new` makes of it, and the new objective trains.
set -euo pipefail
build=$1
top=$(cd "$(dirname "$0")/../.." && pwd)
work=$(mktemp -d "$build/tests/templates.XXXXXX")
trap 'rm -rf "$work"' EXIT
export XDG_STATE_HOME=$work/state
mkdir -p "$work/tree/plugins.d"
for shared in core tools tests; do
    ln -s "$top/$shared" "$work/tree/$shared"
done
cp "$top/tests/abi/templates/CMakeLists.txt" "$work/tree/"
kinds=()
for folder in "$top"/plugins.d/template/*/; do
    kind=$(basename "$folder")
    kinds+=("$kind")
    cp -r "$folder" "$work/tree/plugins.d/my_$kind"
    "$build/bin/diapason" new "$kind" "new-$kind" --out "$work/tree/plugins.d" --quiet
done
# GRPO under a name that nothing in the core can know: what a run does follows from what an objective says of itself.
mkdir "$work/tree/plugins.d/panel"
cp "$top"/algorithms/grpo/{advantages.c,grpo.c,grpo.h} "$work/tree/plugins.d/panel/"
sed -i 's/"grpo"/"panel"/' "$work/tree/plugins.d/panel/grpo.c"
sed 's/^id=.*/id=com.example.panel/' "$top/algorithms/grpo/grpo.plugin.in" > "$work/tree/plugins.d/panel/panel.plugin.in"
echo 'dps_add_plugin (panel)' > "$work/tree/plugins.d/panel/CMakeLists.txt"
# An adapter with tensors of its own names, which no file format can know.
mkdir "$work/tree/plugins.d/odd"
sed 's/"lora_A.weight"/"down.weight"/; s/"lora_B.weight"/"up.weight"/; s/"new-adapter"/"odd"/' "$work/tree/plugins.d/new-adapter/new-adapter.c" \
    > "$work/tree/plugins.d/odd/odd.c"
sed 's/^id=.*/id=com.example.odd/' "$work/tree/plugins.d/new-adapter/new-adapter.plugin.in" > "$work/tree/plugins.d/odd/odd.plugin.in"
echo 'dps_add_plugin (odd)' > "$work/tree/plugins.d/odd/CMakeLists.txt"
[ ${#kinds[@]} = 5 ] || { echo "expected 5 templates, found: ${kinds[*]}"; exit 1; }

sanitize=$(sed -n 's/^DIAPASON_SANITIZE:BOOL=//p' "$build/CMakeCache.txt")
cmake -G Ninja -B "$work/build" -S "$work/tree" -DBUILD="$build" -DDIAPASON_SANITIZE="${sanitize:-OFF}" > "$work/log" || { cat "$work/log"; exit 1; }
ninja -j2 -C "$work/build" > "$work/log" || { cat "$work/log"; exit 1; }
ctest --test-dir "$work/build" --output-on-failure

export DIAPASON_PLUGINS=$work/build/lib/diapason/plugins
for id in com.example.tiny com.example.margin-sft com.example.tiny-lora com.example.npy com.example.rules \
    com.example.new-backend com.example.new-objective com.example.new-adapter com.example.new-format com.example.new-reward; do
    "$build/bin/diapason" plugins show "$id" | tee "$work/shown"
    if grep -q '^  refused' "$work/shown"; then exit 1; fi
done

# The lowest rung of the ladder, as it is copied.
if [ "${sanitize:-OFF}" = OFF ]; then
    "$build/bin/diapason" check "$work/build/lib/diapason/plugins/dps-plugin-my_backend.so" --level 0 --quick --quiet
fi

# Unchanged, each passes its conformance check; the format cannot write and is given a file: 2 × 3 numbers as NumPy writes them.
cd "$work"
header="{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }          "
printf '%b%s\n' "\x93NUMPY\x01\x00$(printf '\\x%02x' $((${#header} + 1)))\x00" "$header" > sample.npy
printf 'abcdefghijklmnopqrstuvwx' >> sample.npy
for kind in "${kinds[@]}"; do
    options=(--quick)
    [ $kind != backend ] || options=(--filter 'backend/*') # its ladder has a test of its own
    [ $kind != format ] || options+=(--sample sample.npy)
    "$build/bin/diapason" check "$DIAPASON_PLUGINS/dps-plugin-new-$kind.so" "${options[@]}" > checked || { cat checked; exit 1; }
    if grep '^skipped.*Hint: --' checked; then echo "$kind was not checked"; exit 1; fi
done

cat > recipe.yaml <<END
model_name_or_path: $top/tests/data/parity/models/gemma3
datasets: $top/tools/examples/tiny-rows.jsonl
dtype: float32
max_steps: 4
learning_rate: 0.01
lora_r: 2
lora_dropout: 0
seed: 1
logging_steps: 1
END
"$build/bin/diapason" train recipe.yaml --quiet --set output_dir=sft
"$build/bin/diapason" train recipe.yaml --quiet --set output_dir=new --set stage=new-objective
cmp sft/adapter_model.safetensors new/adapter_model.safetensors # margin 0 is plain fine-tuning, to the bit
jq -s -e 'map(select(.nll)) | length == 4 and .[0].nll > 0' new/metrics.jsonl > /dev/null
"$build/bin/diapason" train recipe.yaml --quiet --set output_dir=margin --set stage=new-objective --set 'objective_args={margin: 2}'
if cmp -s sft/adapter_model.safetensors margin/adapter_model.safetensors; then echo "the margin changed nothing"; exit 1; fi

# The panel compares the policy with the one that answered: its dropout is 0 unless that is contradicted, its learning rate a preference stage's.
cat > groups.jsonl <<END
{"prompt_input_ids":[1,7,9],"completions":[{"input_ids":[11,12],"scores":{"a":1}},{"input_ids":[13],"scores":{"a":0}}]}
{"prompt_input_ids":[1,8],"completions":[{"input_ids":[14],"scores":{"a":0}},{"input_ids":[15,16],"scores":{"a":1}}]}
END
sed -i '/^lora_dropout/d; /^learning_rate/d' recipe.yaml
"$build/bin/diapason" train recipe.yaml --quiet --set output_dir=panel --set stage=panel --set datasets=groups.jsonl
grep -q '^recipe:' panel/recipe.lock.yaml && grep -q ' lora_dropout: 0$' panel/recipe.lock.yaml && grep -q ' learning_rate: 1e-06$' panel/recipe.lock.yaml ||
    { cat panel/recipe.lock.yaml; exit 1; }
"$build/bin/diapason" train recipe.yaml --quiet --set output_dir=grpo --set stage=grpo --set datasets=groups.jsonl
cmp panel/adapter_model.safetensors grpo/adapter_model.safetensors
code=0
"$build/bin/diapason" train recipe.yaml --quiet --set output_dir=wet --set stage=panel --set datasets=groups.jsonl --set lora_dropout=0.1 2> err || code=$?
if [ $code != 2 ] || ! grep -q 'lora_dropout: above 0 the policy that is trained is not the one that answered' err; then cat err; exit 1; fi
# Adapters of any name too: a key that asks for what the plugin does not have is refused, patterns find its parameters by name.
"$build/bin/diapason" train recipe.yaml --quiet --set output_dir=tiny --set adapter=new-adapter --set 'rank_pattern={q_proj: 4}'
code=0
"$build/bin/diapason" train recipe.yaml --quiet --set output_dir=wet --set adapter=new-adapter --set lora_dropout=0.1 2> err || code=$?
if [ $code != 2 ] || ! grep -q 'adapter new-adapter has no parameter dropout' err; then cat err; exit 1; fi
code=0
"$build/bin/diapason" train recipe.yaml --quiet --set output_dir=wet --set adapter=new-adapter --set 'adapter_args={dropout: 0.1}' 2> err || code=$?
if [ $code != 2 ] || ! grep -q "'dropout' is not a parameter of new-adapter" err; then cat err; exit 1; fi
code=0
"$build/bin/diapason" train recipe.yaml --quiet --set output_dir=wet --set adapter=new-adapter --set use_dora=true 2> err || code=$?
if [ $code != 2 ] || ! grep -q 'use_dora: true contradicts adapter: new-adapter' err; then cat err; exit 1; fi
# Only the plugin knows what its adapter computes: PEFT, which would take LORA for its own, refuses the folder; here it comes back whole.
model=$top/tests/data/parity/models/gemma3
"$build/bin/diapason" train recipe.yaml --quiet --set output_dir=odd --set adapter=odd --set 'rank_pattern={q_proj: 4}' --set lora_alpha=3 --set learning_rate=0.01
jq -e '.peft_type == "DIAPASON" and .diapason_adapter == "odd" and .diapason_args == {"r": 2, "alpha": 3} and (has ("r") | not)' odd/adapter_config.json > /dev/null
"$build/bin/diapason" train recipe.yaml --quiet --set output_dir=on --set adapter_init="$PWD/odd" --set lora_alpha=3 --set learning_rate=1e-30 --set max_steps=1
for file in adapter_model.safetensors adapter_config.json; do cmp odd/$file on/$file; done
"$build/bin/diapason" merge --quiet --model "$model" --adapter odd --format safetensors --out merged
"$build/bin/diapason" score --quiet --model "$model" --adapter odd --data "$top/tools/examples/tiny-rows.jsonl" --out odd.jsonl
"$build/bin/diapason" score --quiet --model merged --data "$top/tools/examples/tiny-rows.jsonl" --out merged.jsonl
"$build/bin/diapason" score --quiet --model "$model" --data "$top/tools/examples/tiny-rows.jsonl" --out base.jsonl
jq -n -e --slurpfile a odd.jsonl --slurpfile b merged.jsonl --slurpfile c base.jsonl 'def off(x; y): [x, y | map(.logprobs[1:]) | add] | transpose |
    map(.[0] - .[1] | fabs) | max; off($a; $b) < 1e-3 and off($a; $c) > 0.01' > /dev/null || { echo "the adapter is not what was merged"; exit 1; }
code=0
DIAPASON_PLUGINS='' "$build/bin/diapason" score --model "$model" --adapter odd --data "$top/tools/examples/tiny-rows.jsonl" --out x.jsonl 2> err || code=$?
if [ $code = 0 ] || ! grep -q "no adapter plugin 'odd'" err; then cat err; exit 1; fi

refused() { # TEXT ARGUMENT …: exit code 2, and TEXT on standard error
    code=0
    "$build/bin/diapason" new "${@:2}" --out "$work/x" 2> err || code=$?
    if [ $code != 2 ] || ! grep -q -F -- "$1" err || [ -e "$work/x" ]; then cat err; echo "new ${*:2}: $code, expected 2 and: $1"; exit 1; fi
}
unset DIAPASON_PLUGINS
refused "'widget' is none of" widget mine
refused "'Mine' is no name" objective Mine
refused "'../x' is no name" objective ../x
refused "there is objective 'sft' already" objective sft
refused "in a recipe stage: pt means pretrain" objective pt
refused "KIND and NAME are missing" objective
mkdir -p "$work/y/mine"
code=0
"$build/bin/diapason" new objective mine --out "$work/y" 2> err || code=$?
[ $code = 2 ] && grep -q 'exists already' err && [ -z "$(ls "$work/y/mine")" ]
