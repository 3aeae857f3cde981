#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Labels by `eval` are the likeliest by `score`, however their rows write them; perplexity is exp of the mean that `score` gives.
. "$(dirname "$0")/../lib.sh" "$1"

tiny_model model '{}'
labels=(a "b c" "ab a")
prompts=("abc" "c" "b b c" "aaa ") # their last tokens merge with no label's first
as_text() { jq -c -n --arg p "$1" --arg l "$2" '{prompt: $p, completion: $l}'; }
as_output() { jq -c -n --arg p "$1" --arg l "$2" '{instruction: $p, output: $l}'; }
as_messages() { jq -c -n --arg p "$1" --arg l "$2" '{prompt: [{role: "user", content: $p}], completion: [{role: "assistant", content: $l}]}'; }
as_parts() { as_messages "$@" | jq -c '.completion[0].content |= [{type: "text", text: .}]'; }

for form in as_text as_output as_messages as_parts; do
    for prompt in "${prompts[@]}"; do
        for label in "${labels[@]}"; do "$form" "$prompt" "$label"; done
    done > each.jsonl
    run 0 "$dia" score --model model --data each.jsonl --out each.scores
    # The number of each prompt's likeliest label: the largest sum of what is scored.
    jq -s -c '[.[] | [.logprobs, .mask] | transpose | map(select(.[1] == 1)[0]) | add] | [_nwise(3)] | map(index(max))' each.scores > likeliest
    holds likeliest 'length == 4'
    # Rows that are right three times and wrong once.
    for p in 0 1 2 3; do
        l=$(jq ".[$p]" likeliest)
        [ $p != 2 ] || l=$(((l + 1) % 3))
        "$form" "${prompts[p]}" "${labels[l]}"
    done > rows.jsonl
    run 0 "$dia" eval --model model --suite rows.jsonl --labels "a,b c,ab a" --json
    holds out '.rows == 4 and .labels == 3 and .label_accuracy == 0.75'
    run 0 "$dia" eval --model model --suite rows.jsonl --labels auto --limit 1 --json
    holds out '.rows == 1'
    run 0 "$dia" score --model model --data rows.jsonl --out scores
    run 0 "$dia" eval --model model --suite rows.jsonl --json
    holds out '.rows == 4 and (.nll - $s | fabs) < 1e-6 and (.perplexity - ($s | exp) | fabs) < 1e-4' --argjson s \
        "$(jq -s '[.[] | [.logprobs, .mask] | transpose[] | select(.[1] == 1)[0]] | -add / length' scores)"
done
ok "labels and perplexity are what score says, whether rows are text, instructions, messages or parts"

as_text c nothing > rows.jsonl
run 5 "$dia" eval --model model --suite rows.jsonl --labels a,b
said "rows.jsonl:1: its completion 'nothing' is none of the 2 labels"
