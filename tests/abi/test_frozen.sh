#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Rules 3, 4, 16: plugins of each kind, built with the headers of every released ABI (tests/abi/frozen) and with headers newer than ours (every struct that
# carries its size has grown, every table has more slots), run on this core and train to the bytes that they train to when built with today's headers.
. "$(dirname "$0")/../lib.sh" "$1"

flags=(-std=c11 -D_GNU_SOURCE -O1 -w -shared -fPIC -fvisibility=hidden)
case $build in *sanitize*) flags+=(-fsanitize=address,undefined) ;; esac
link=("$build/libdps_base.a" -lm -Wl,-z,defs -Wl,--exclude-libs,ALL "-Wl,--version-script=$src/tools/dev/plugin.map")

# compile SET HEADERS SOURCE_FOLDER: its plugins in $work/SET.
compile() {
    local set=$1 headers=$2 sources=$3 source kind
    mkdir "$set"
    for source in "$sources"/*.c; do
        kind=$(basename "$source" .c)
        run 0 cc "${flags[@]}" -I "$headers" -I "$src/core" -o "$set/$kind.so" "$source" "${link[@]}"
        run 0 "$src/tools/dev/write-manifest" "$sources/$kind.plugin.in" "$set/$kind.so" "$set/$kind.plugin"
    done
}

ids=(com.example.tiny com.example.margin-sft com.example.tiny-lora com.example.npy com.example.rules)
tiny_rows rows.jsonl 8
tiny_prompts prompts.jsonl 4
printf '%s\n' "model_name_or_path: $models/gemma3" 'dtype: float32' 'max_steps: 3' 'lora_r: 2' 'seed: 5' 'learning_rate: 0.01' \
    'device: [tiny, cpu]' 'adapter: tiny-lora' > common.yaml
{ cat common.yaml; printf '%s\n' 'datasets: rows.jsonl' 'stage: margin-sft' 'objective_args: {margin: 0.5}'; } > loss.yaml
{ cat common.yaml; printf '%s\n' 'datasets: prompts.jsonl' 'stage: grpo' 'reward_funcs: [rules]' 'num_generations: 2' 'max_completion_length: 4' \
    'per_device_train_batch_size: 2' 'gradient_accumulation_steps: 1' 'allow_ratio_drift: true'; } > reward.yaml # sampled by tiny's products, scored by cpu's

# try SET: every plugin of it loads, and together they train; the bytes are SET.bytes.
try() {
    local set=$1 id
    export DIAPASON_PLUGINS=$work/$set
    run 0 "$dia" plugins list --json
    for id in "${ids[@]}"; do
        holds out "[.[] | select (.id == \"$id\")] | length == 1 and .[0].loaded" || fail "$set: $id"
    done
    for recipe in loss reward; do
        run 0 "$dia" train $recipe.yaml --quiet --set "output_dir=$set-$recipe"
    done
    run 0 "$dia" explain loss.yaml --json
    holds out 'any (.op == "linear" and .device == "tiny")'
    cat "$set-loss/adapter_model.safetensors" "$set-reward/adapter_model.safetensors" > "$set.bytes"
    holds "$set-reward/metrics.jsonl" 'map (select (has ("reward"))) | length >= 1' -s
}

mkdir now
for folder in "$src"/plugins.d/template/*/; do
    cp "$folder/$(basename "$folder")".c "$folder/$(basename "$folder")".plugin.in now/
done
compile today "$src/core/include" now
try today
ok "today's headers"

n=0
for frozen in "$src"/tests/abi/frozen/*/; do
    version=$(basename "$frozen")
    # base/ is today's, and includes today's paths: a header that was still in draft/ then is found under both names.
    cp -r "$frozen/include" "include-$version"
    for header in "include-$version"/diapason/draft/*.h; do
        [ -e "include-$version/diapason/${header##*/}" ] || echo "#include \"diapason/draft/${header##*/}\"" > "include-$version/diapason/${header##*/}"
    done
    compile "$version" "$work/include-$version" "$frozen/plugins"
    try "$version"
    cp -r "$src/core/include" "today-$version"
    for header in "$frozen"/include/diapason/draft/*.h; do # those that left draft/ since
        [ -e "today-$version/diapason/draft/${header##*/}" ] || echo "#include \"diapason/${header##*/}\"" > "today-$version/diapason/draft/${header##*/}"
    done
    compile "$version-today" "$work/today-$version" "$frozen/plugins"
    try "$version-today"
    same "$version-today.bytes" "$version.bytes"
    n=$((n + 1))
    ok "headers of $version"
done
[ $n -gt 0 ] || fail "no frozen headers in tests/abi/frozen"

# Newer than ours: every struct that begins with its size is longer, but the frozen error value.
cp -r "$src/core/include" future
sed -i 's/^#define DPS_ABI_MINOR .*/#define DPS_ABI_MINOR 99u/' future/diapason/plugin.h
find future -name '*.h' ! -name 'sdk*' > headers
while read -r header; do
    awk '
    /^typedef struct Dps[A-Za-z0-9]* \{/ { inside = 1; sized = 0 }
    inside && /^    size_t size;/ { sized = 1 }
    inside && /^} Dps[A-Za-z0-9]*;/ {
        if (sized && $2 != "DpsError;" ) print "    void *(*of_the_future) (void *, int64_t);\n    uint64_t more_of_it[3];"
        inside = 0
    }
    { print }' "$header" > grown.h
    mv grown.h "$header"
done < headers
grown=$(grep -l of_the_future -r future | wc -l)
[ "$grown" -ge 10 ] || fail "only $grown headers grew"
compile later "$work/future" now
sed -i 's/^abi=.*/abi=0.1-0.99/' later/*.plugin 2> /dev/null || true
try later
same today.bytes later.bytes
ok "headers of the future"
