#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# kill -9 at random moments, then --resume: the adapter and the last checkpoint end in the same bytes as an uninterrupted run.
. "$(dirname "$0")/../lib.sh" "$1"

tiny_rows rows.jsonl 48
kills=6 seeds=1
[ "$full" = 0 ] || kills=40 seeds=3
steps=60
common=("max_steps=$steps" save_steps=7 save_total_limit=2 lora_dropout=0.1)
tiny_recipe whole.yaml whole "${common[@]}"
start=$(date +%s%N)
run 0 "$dia" train whole.yaml
whole_ms=$((($(date +%s%N) - start) / 1000000))

for seed in $(seq $seeds); do
    RANDOM=$((seed * 1009))
    tiny_recipe cut.yaml "cut-$seed" "${common[@]}"
    killed=0
    for _ in $(seq $kills); do
        "$dia" train cut.yaml --resume > log 2>&1 &
        pid=$!
        ms=$((1 + RANDOM * whole_ms / 32768))
        sleep "$((ms / 1000)).$(printf '%03d' $((ms % 1000)))"
        if kill -9 $pid 2>/dev/null; then killed=$((killed + 1)); fi
        code=0
        wait $pid 2>/dev/null || code=$?
        case $code in 0 | 137) ;; *) cat log >&2; fail "after a kill, --resume left with $code" ;; esac
        [ $code != 0 ] || break
    done
    run 0 "$dia" train cut.yaml --resume
    same whole/adapter_model.safetensors "cut-$seed/adapter_model.safetensors"
    last=$(cd whole && ls -d checkpoint-* | sort -t- -k2 -n | tail -n 1)
    exists "cut-$seed/$last"
    for file in $(cd "whole/$last" && find . -name '*.safetensors'); do
        same "whole/$last/$file" "cut-$seed/$last/$file"
    done
    [ "$(find "cut-$seed" -maxdepth 1 -name 'checkpoint-*' | wc -l)" -le 2 ] || fail "save_total_limit was not kept"
    [ -z "$(find "cut-$seed" -name '*.tmp*')" ] || fail "temporary files were left: $(find "cut-$seed" -name '*.tmp*')"
    # Every step is logged once, with the uninterrupted run's values.
    diff <(jq -c 'select(has("loss")) | [.step, .loss]' whole/metrics.jsonl) <(jq -c 'select(has("loss")) | [.step, .loss]' "cut-$seed/metrics.jsonl") >&2 ||
        fail "the logged steps differ"
    ok "killed $killed times, the same bytes"
done
