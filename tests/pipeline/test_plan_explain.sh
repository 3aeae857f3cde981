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
