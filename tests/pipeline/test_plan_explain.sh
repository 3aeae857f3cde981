#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# plan and explain answer before anything is trained, for people and for machines, and write nothing.
. "$(dirname "$0")/../lib.sh" "$1"

tiny_rows rows.jsonl 16
tiny_recipe recipe.yaml run
run 0 "$dia" plan recipe.yaml
grep -q -i -E 'weights' out && grep -q -i -E 'activations' out || fail "plan names no categories"
run 0 "$dia" plan recipe.yaml --json
jq -e . out >/dev/null || fail "plan --json is not JSON"
run 0 "$dia" plan recipe.yaml --fit 6GiB
run 0 "$dia" explain recipe.yaml
grep -q -E 'matmul|linear' out || fail "explain names no op"
run 0 "$dia" explain recipe.yaml --json
jq -e . out >/dev/null || fail "explain --json is not JSON"
absent run
ok "plan and explain"

# Rows and answers beyond the positions a model was made for are trained, and said to be.
! grep -q max_position_embeddings err || fail "short rows are called long"
jq -n -c '{input_ids: [range(200) | 5 + . % 70]}' >> rows.jsonl
run 0 "$dia" plan recipe.yaml
said 'rows of up to 200 tokens, and this model was made for 128'
tiny_prompts rows.jsonl 8
rewards='  - {name: length, max: 4}' tiny_recipe sampled.yaml run stage=grpo num_generations=4 max_completion_length=120
run 0 "$dia" plan sampled.yaml
said 'prompts with answers of up to'
run 0 "$dia" plan sampled.yaml --set max_completion_length=16
! grep -q max_position_embeddings err || fail "short answers are called long"
ok "positions a model was not made for are told of"
