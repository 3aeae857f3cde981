#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# diapason tokenize on the real tokenizers, through the command line: every text of the parity set gives its ids, and decodes back.
. "$(dirname "$0")/../lib.sh" "$1"

for pair in gemma3-270m:gemma smollm2-135m:smollm2; do
    model=$(real_model "${pair%:*}")
    set=$data/parity/tokenizers/${pair#*:}.jsonl
    jq -c '{text}' "$set" > texts.jsonl
    run 0 "$dia" tokenize --model "$model" --data texts.jsonl --out ids.jsonl
    diff <(jq -c .ids "$set") <(jq -c .ids ids.jsonl) >&2 || fail "${pair#*:}: other ids"
    run 0 "$dia" tokenize --model "$model" --data texts.jsonl --no-special --decode
    diff <(jq -c .ids_no_special "$set") <(jq -c .ids out) >&2 || fail "${pair#*:}: other ids without special tokens"
    diff <(jq -c .text "$set") <(jq -c .text out) >&2 || fail "${pair#*:}: another text comes back"
    ok "$(wc -l < texts.jsonl) texts of ${pair#*:}"
done
