#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The parity set's real models through the command line, every entry: token ids, log-probs, mean NLL, and greedy tokens up to the first close call.
. "$(dirname "$0")/../lib.sh" "$1"

# largest JQ_NUMBERS LIMIT WHAT: the largest of the numbers on standard input is within the limit.
within() { awk -v limit="$1" -v what="$2" '{ if ($1 < 0) $1 = -$1; if ($1 > m) m = $1; n++ } END { printf "%s: largest difference %g of %d\n", what, m, n; exit !(n && m <= limit) }' || fail "$2"; }

for pair in gemma3-270m:gemma smollm2-135m:smollm2; do
    model=$(real_model "${pair%:*}")
    set=$data/parity/real/${pair#*:}.json
    jq -c '(.prompts[], .paragraph) | {text}' "$set" > texts.jsonl
    run 0 "$dia" score --model "$model" --data texts.jsonl --out scores.jsonl
    diff <(jq -c '(.prompts[], .paragraph) | .ids' "$set") <(jq -c .ids scores.jsonl) >&2 || fail "${pair#*:}: other ids"
    jq -n --slurpfile want "$set" --slurpfile got scores.jsonl \
        '$want[0].prompts | to_entries[] | .key as $i | .value.logps | to_entries[] | .value - $got[$i].logprobs[.key + 1]' | within 5e-4 "${pair#*:}: log-probs"
    jq -n --slurpfile want "$set" --slurpfile got scores.jsonl \
        '($want[0].prompts + [$want[0].paragraph]) | to_entries[] | .value.mean_nll - $got[.key].nll' | within 2e-4 "${pair#*:}: mean NLL"

    jq -c '.prompts[] | {prompt: .text}' "$set" > prompts.jsonl
    run 0 "$dia" generate --model "$model" --data prompts.jsonl --max-tokens 24 --temperature 0 --ignore-eos --json --out greedy.jsonl
    jq -n --slurpfile want "$set" --slurpfile got greedy.jsonl -c '$want[0].prompts | to_entries[] |
        ([.value.greedy_margins | to_entries[] | select(.value < 0.01) | .key] | min // 24) as $n | [.value.greedy_ids[:$n], $got[.key].ids[:$n]]' > pairs
    jq -s -e 'all(.[0] == .[1])' pairs > /dev/null || { cat pairs >&2; fail "${pair#*:}: other greedy tokens"; }
    jq -n --slurpfile want "$set" --slurpfile got greedy.jsonl -c '$want[0].prompts | to_entries[] |
        select(.value.greedy_margins | all(. >= 0.01)) | [.value.greedy_text, $got[.key].text]' > texts
    jq -s -e 'length > 0 and all(.[0] == .[1])' texts > /dev/null || { cat texts >&2; fail "${pair#*:}: other greedy text"; }

    # The ten likeliest next tokens: each behind its prompt, scored; the likeliest is the one that is generated.
    jq -c '.prompts[] | .ids as $ids | .top10_ids[] | {input_ids: ($ids + [.]), labels: (($ids | map(-100)) + [.])}' "$set" > next.jsonl
    run 0 "$dia" score --model "$model" --data next.jsonl --out next-scores.jsonl
    jq -n --slurpfile want "$set" --slurpfile got next-scores.jsonl \
        '[$want[0].prompts[].top10_logps[]] | to_entries[] | .value - $got[.key].logprobs[-1]' | within 5e-4 "${pair#*:}: ten likeliest next tokens"
    jq -e '.prompts | all(.top10_ids[0] == .greedy_ids[0] or .greedy_margins[0] < 0.01)' "$set" > /dev/null || fail "${pair#*:}: greedy is not the likeliest"
    ok "${pair#*:}: $(wc -l < pairs) prompts continue with the same tokens"
done
