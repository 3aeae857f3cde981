#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A vendor without this tree: from an installed Diapason alone, every template builds with find_package, one also with a bare compiler and
# pkg-config; the installed program loads them. The prefix is moved first: nothing may remember where it was installed.
. "$(dirname "$0")/../lib.sh" "$1"

run 0 cmake --install "$build" --prefix "$work/first" --strip # which changes modules: their digests are of what is installed
mv first prefix
prefix=$work/prefix
if [ "$(sed -n 's/^DIAPASON_SANITIZE:BOOL=//p' "$build/CMakeCache.txt")" = ON ]; then
    export CFLAGS=-fsanitize=address,undefined LDFLAGS=-fsanitize=address,undefined
fi

kinds=0
mkdir "out of tree"
for template in "$prefix"/share/diapason/template/*/; do
    name=my_$(basename "$template")
    cp -r "$template" "out of tree/$name"
    run 0 cmake -G Ninja -S "out of tree/$name" -B "built/$name" -DCMAKE_PREFIX_PATH="$prefix" -DCMAKE_INSTALL_PREFIX="$prefix"
    run 0 ninja -C "built/$name" install
    grep -q 'FLAGS = .*-O2' "built/$name/build.ninja" || fail "$name: not optimised"
    kinds=$((kinds + 1))
done
run 0 "$prefix/bin/diapason" new objective my-loss --out "out of tree"
run 0 cmake -G Ninja -S "out of tree/my-loss" -B built/my-loss -DCMAKE_PREFIX_PATH="$prefix" -DCMAKE_INSTALL_PREFIX="$prefix"
run 0 ninja -C built/my-loss install
for module in "$prefix"/lib/diapason/plugins/*.so; do
    grep -qx "sha256=$(sha256sum "$module" | cut -d' ' -f1)" "${module%.so}.plugin" || fail "$module: its manifest has another digest"
done
[ "$kinds" = 5 ] || fail "$kinds templates were installed, expected 5"
for id in com.example.tiny com.example.margin-sft com.example.tiny-lora com.example.npy com.example.rules com.example.my-loss dps.cpu dps.sft; do
    run 0 "$prefix/bin/diapason" plugins show "$id" --json
    holds out .loaded
done
printf '%s\n' "model_name_or_path: $models/gemma3" "datasets: $src/tools/examples/tiny-rows.jsonl" 'output_dir: my-run' 'stage: my-loss' 'max_steps: 2' 'lora_r: 2' > mine.yaml
run 0 "$prefix/bin/diapason" train mine.yaml
exists my-run/adapter_model.safetensors
run 0 "$prefix/bin/diapason" train mine.yaml --set device=tiny --set output_dir=tiny-run
run 0 "$prefix/bin/diapason" explain mine.yaml --set device=tiny --json
holds out 'any (.op == "linear" and .device == "tiny")'
exists tiny-run/adapter_model.safetensors
# A stranger's adapter, and one that goes on with it: the card does not send readers to PEFT, and its settings are the adapter's own.
run 0 "$prefix/bin/diapason" train mine.yaml --set adapter=tiny-lora --set output_dir=own
sed '/^lora_r/d' mine.yaml > on.yaml
run 0 "$prefix/bin/diapason" train on.yaml --set adapter_init=own --set output_dir=own-on
for card in own/README.md own-on/README.md; do
    grep -q '^library_name: diapason$' $card && grep -q '^| adapter | tiny-lora, r 2, alpha 32 |$' $card && ! grep -q 'from peft' $card ||
        { cat $card >&2; fail "$card is not of tiny-lora"; }
done
ok "templates build with find_package (diapason), load beside the built-in plugins, and train: an objective, a backend"

export PKG_CONFIG_PATH=$prefix/lib/pkgconfig
mkdir bare
flags=$(pkg-config --cflags --libs diapason)
# shellcheck disable=SC2086
run 0 cc -std=c11 -D_GNU_SOURCE -shared -fPIC -fvisibility=hidden ${CFLAGS:-} -o bare/simple.so "out of tree/my_objective/objective.c" $flags
sed 's/^id=.*/id=com.example.bare/' "out of tree/my_objective/objective.plugin.in" > bare/manifest
run 0 "$(pkg-config --variable=sdk diapason)/write-manifest" bare/manifest bare/simple.so bare/simple.plugin
DIAPASON_PLUGINS=$work/bare run 0 "$prefix/bin/diapason" plugins show com.example.bare --json
holds out .loaded
ok "one source file, a compiler and pkg-config"

# A format that this tree does not know: a model goes into it and comes back, whole or in shards, and every verb reads it.
vendor() { # ID SOURCE MODULE: it and its manifest in bare/
    # shellcheck disable=SC2086
    run 0 cc -std=c11 -D_GNU_SOURCE -shared -fPIC -fvisibility=hidden ${CFLAGS:-} -o "bare/$3.so" "$2" $flags
    sed "s/^id=.*/id=$1/" "out of tree/my_format/format.plugin.in" > bare/manifest
    run 0 "$(pkg-config --variable=sdk diapason)/write-manifest" bare/manifest "bare/$3.so" "bare/$3.plugin"
}
dia=$prefix/bin/diapason
rows=$src/tools/examples/tiny-rows.jsonl
run 0 "$dia" merge --model "$models/gemma3" --out plain --dtype float32
run 0 "$dia" score --model plain --data "$rows" --out plain.jsonl
run 2 "$dia" merge --model plain --format flat --out flat
said "no format plugin 'flat'; there are:"
vendor com.example.flat "$src/tests/abi/flat.c" flat
export DIAPASON_PLUGINS=$work/bare
run 0 "$dia" merge --model plain --format flat --max-shard-size 20KB --out flat
exists flat/model-00001-of-*.flat flat/config.json
absent flat/model.safetensors.index.json
run 0 "$dia" check com.example.flat --sample "$(echo flat/model-00001-of-*.flat)" --quick
run 0 "$dia" merge --model flat --format com.example.flat --out one
exists one/model.flat
for model in flat one; do
    run 0 "$dia" score --model $model --data "$rows" --out scored.jsonl
    same scored.jsonl plain.jsonl
done
run 0 "$dia" train "$src/tools/examples/tiny-sft.yaml" --set model_name_or_path="$work/plain" --set datasets="$rows" --set output_dir=from-plain --set max_steps=2
run 0 "$dia" train "$src/tools/examples/tiny-sft.yaml" --set model_name_or_path="$work/one" --set datasets="$rows" --set output_dir=from-flat --set max_steps=2
same from-flat/adapter_model.safetensors from-plain/adapter_model.safetensors
run 0 grep -q 'plugin com.example.flat' from-flat/recipe.lock.yaml
run 0 grep -q 'com.example.flat' from-flat/stack.lock
ok "a format of another house: merged into, scored, trained from, to the bits of safetensors; its plugin is in the locks"

# What it refuses leaves the earlier model; what is written in its place takes its files away.
run 1 "$dia" merge --model plain --format flat --dtype bfloat16 --out one
said "is BF16, expected F32. Hint: --dtype float32"
run 0 "$dia" score --model one --data "$rows" --out scored.jsonl
run 0 "$dia" merge --model flat --out one
exists one/model.safetensors
absent one/model.flat
run 0 "$dia" merge --model plain --format flat --max-shard-size 20KB --out one
absent one/model.safetensors
run 0 "$dia" merge --model plain --format flat --max-shard-size 40KB --out one
[ "$(ls one/*.flat | wc -l)" -lt "$(ls flat/*.flat | wc -l)" ] || fail "shards of the earlier merge are left"
run 2 "$dia" merge --model plain --format gguf --out x
said "format 'gguf' is only read"
run 2 "$dia" merge --model plain --format peft --out x
said "format 'peft' is a folder"
truncate -s -4 "$(echo flat/model-00001-of-*.flat)"
run 1 "$dia" score --model flat --data "$rows"
said "were saved. Hint: write or fetch it again"
rm flat/digests.json
run 1 "$dia" score --model flat --data "$rows"
said "not a whole flat file"
sed 's/"flat"/"flat2"/' "$src/tests/abi/flat.c" > flat2.c
vendor com.example.flat2 flat2.c flat2
run 1 "$dia" score --model one --data "$rows"
said "the format plugins 'flat' and 'flat2' are equally sure of model-00001-of-"
DIAPASON_PLUGINS='' run 2 "$dia" score --model one --data "$rows"
said "nor a file that another format's plugin reads"
ok "what its plugin refuses is named and costs nothing; two plugins of one ending are told apart by what they say, or refused"
