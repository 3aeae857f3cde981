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
