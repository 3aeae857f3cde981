#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# R4 through the program: a byte changed anywhere in a finished adapter, checkpoint or merged model, and no verb uses it.
. "$(dirname "$0")/../lib.sh" "$1"

tiny_rows rows.jsonl 8
tiny_recipe recipe.yaml run max_steps=2 save_steps=2
run 0 "$dia" train recipe.yaml
base=$models/gemma3
run 0 "$dia" merge --model "$base" --adapter run --format safetensors --max-shard-size 60KB --out merged
tiny_recipe full.yaml whole lora_r=- lora_alpha=- lora_target_modules=- max_steps=1 save_steps=1
run 0 "$dia" train full.yaml
exists run/digests.json merged/digests.json whole/digests.json

# damage FILE BYTE: one byte of a file, its lowest bit.
damage() {
    local old
    old=$(od -An -tu1 -j "$2" -N 1 "$1")
    printf "\\x$(printf %x $((old ^ 1)))" | dd of="$1" bs=1 seek="$2" conv=notrunc status=none
}
# each FOLDER OPTIONS…: a changed byte in the middle, at the start and at the end of every listed file stops `score`.
each() {
    local folder=$1 file size at n=0
    shift
    for file in $(jq -r '.files | keys[]' "$folder/digests.json" 2>/dev/null || jq -r '.files | keys[]' "$folder/manifest.json"); do
        case $file in optimizer.safetensors | trainer_state.json | run_state.json | recipe.lock.yaml) continue ;; esac
        size=$(stat -c %s "$folder/$file")
        for at in 0 $((size / 2)) $((size - 1)); do
            damage "$folder/$file" "$at"
            run 1 "$dia" score "$@" --data rows.jsonl --out scores.jsonl
            said "$folder/$file"
            absent scores.jsonl
            damage "$folder/$file" "$at"
            n=$((n + 1))
        done
    done
    run 0 "$dia" score "$@" --data rows.jsonl --out scores.jsonl
    rm scores.jsonl
    ok "$folder: $n changed bytes seen"
}
each run --model "$base" --adapter run
each run/checkpoint-2 --model "$base" --adapter run/checkpoint-2
each merged --model merged
each whole --model whole
each whole/checkpoint-1 --model whole/checkpoint-1

# The same run again over the old files, and a merge over one that was killed: sealed anew, and nothing left of the first.
run 0 "$dia" train recipe.yaml --set overwrite_output_dir=true --set seed=8
: > merged/model-00002-of-00003.safetensors.tmp-123
run 0 "$dia" merge --model "$base" --adapter run --format safetensors --out merged
[ "$(find merged -name '*.tmp-*')" = "" ] || fail "left: $(ls merged)"
each run --model "$base" --adapter run
each merged --model merged

# Changed on purpose.
jq '.lora_alpha = 4' run/adapter_config.json > changed && cp changed run/adapter_config.json
run 1 "$dia" score --model "$base" --adapter run --data rows.jsonl --out scores.jsonl
said "if it was changed on purpose, remove run/digests.json"
rm run/digests.json
run 0 "$dia" score --model "$base" --adapter run --data rows.jsonl --out scores.jsonl
ok "a change on purpose is allowed by removing the seal"
