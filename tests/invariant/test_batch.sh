#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# What else is in the batch changes no bit of a row: score and generate with the rows together, alone, and in another order.
. "$(dirname "$0")/../lib.sh" "$1"

tiny_rows rows.jsonl 10
jq -c '{input_ids: .input_ids[:(4 + (.input_ids[3] % 5))]}' rows.jsonl > prompts.jsonl
lines() { seq "$(wc -l < "$1")"; }
for model in gemma3 llama; do
    run 0 "$dia" score --model "$models/$model" --data rows.jsonl --out together.jsonl
    : > alone.jsonl
    for i in $(lines rows.jsonl); do
        sed -n "${i}p" rows.jsonl > one.jsonl
        run 0 "$dia" score --model "$models/$model" --data one.jsonl
        cat out >> alone.jsonl
    done
    same together.jsonl alone.jsonl
    tac rows.jsonl > reversed.jsonl
    run 0 "$dia" score --model "$models/$model" --data reversed.jsonl --out backwards.jsonl
    tac backwards.jsonl > forwards.jsonl
    same together.jsonl forwards.jsonl

    greedy=(--model "$models/$model" --max-tokens 16 --temperature 0 --json)
    run 0 "$dia" generate "${greedy[@]}" --data prompts.jsonl
    cp out together.jsonl
    : > alone.jsonl
    for i in $(lines prompts.jsonl); do
        sed -n "${i}p" prompts.jsonl > one.jsonl
        run 0 "$dia" generate "${greedy[@]}" --data one.jsonl
        cat out >> alone.jsonl
    done
    same together.jsonl alone.jsonl
    tac prompts.jsonl > reversed.jsonl
    run 0 "$dia" generate "${greedy[@]}" --data reversed.jsonl
    tac out > forwards.jsonl
    same together.jsonl forwards.jsonl
    # Several answers a prompt: those of prompts repeated, whatever the batch and the order slots are refilled in.
    drawn=(--model "$models/$model" --max-tokens 10 --temperature 1 --seed 4 --json)
    jq -c '. as $row | range(3) | $row' prompts.jsonl > repeated.jsonl
    run 0 "$dia" generate "${drawn[@]}" --data prompts.jsonl --num-generations 3
    cp out three.jsonl
    [ "$(sort -u three.jsonl | wc -l)" -gt 15 ] || fail "answers to one prompt must differ"
    for batch in 1 7; do
        run 0 "$dia" generate "${drawn[@]}" --data repeated.jsonl --batch $batch
        same out three.jsonl
    done

    ok "$model: score and greedy generation do not depend on the batch"

    # The chosen tokens' log-probs in decoding (cached) and in scoring (not cached) point at the same tokens.
    jq -c -s '[range(length / 2) as $i | {input_ids: (.[$i].input_ids + .[$i + length / 2].ids)}] | .[]' prompts.jsonl together.jsonl > joined.jsonl
    run 0 "$dia" score --model "$models/$model" --data joined.jsonl
    [ "$(wc -l < out)" = "$(wc -l < prompts.jsonl)" ] || fail "score lost rows"
done
