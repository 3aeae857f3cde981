#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The LoRA batch of the parity set on the real Gemma: one step of `train` from that adapter gives its loss and gradient norm, and `score` its tokens.
. "$(dirname "$0")/../lib.sh" "$1"

model=$(real_model gemma3-270m)
set=$data/parity/real/gemma-lora-sft.json
adapter=$data/parity/real/gemma-lora
jq -c '.sequences[] | . as $s | {input_ids: .ids, labels: [range(.ids | length) | if $s.completion_mask[.] == 1 then $s.ids[.] else -100 end]}' "$set" > rows.jsonl
jq -c '.messages[] | {prompt: .[:1], completion: .[1:]}' "$set" > chats.jsonl
for rows in rows chats; do
    cat > recipe.yaml <<YAML
model_name_or_path: $model
adapter: lora
adapter_init: $adapter
lora_dropout: 0
dtype: float32
output_dir: out-$rows
per_device_train_batch_size: 3
max_steps: 1
shuffle: false
logging_steps: 1
save_strategy: no
datasets: $rows.jsonl
YAML
    run 0 "$dia" train recipe.yaml
    for key in loss:2e-4:0 grad_norm:0:1e-3; do
        IFS=: read -r name absolute relative <<< "$key"
        jq -n --slurpfile want "$set" --slurpfile got "out-$rows/metrics.jsonl" "[\$want[0].$name, ([\$got[] | select(has(\"loss\"))][0].$name)] | @tsv" -r |
            awk -v n="$name" -v a="$absolute" -v r="$relative" '{ d = $1 - $2; if (d < 0) d = -d; printf "%s: %s, expected %s\n", n, $2, $1; exit !(d <= a + r * $1) }' ||
            fail "$rows: $name"
    done
done
run 0 "$dia" score --model "$model" --adapter "$adapter" --data chats.jsonl --allow-base-mismatch
diff <(jq -c '.sequences[] | [.ids, .completion_mask]' "$set") <(jq -c '[.ids, .mask]' out) >&2 || fail "other ids or another mask"
jq -s '[.[] | . as $r | range($r.ids | length) | select($r.mask[.] == 1) | -$r.logprobs[.]] | add / length' out > nll
jq -n --slurpfile want "$set" --slurpfile got nll '$want[0].loss - $got[0]' | awk '{ exit !($1 < 2e-4 && $1 > -2e-4) }' || fail "score: $(cat nll)"
ok "loss, gradient norm, ids and masks of the LoRA batch"
