#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# data check and data mask look at rows before training does: counts, the refused row by name, which tokens are trained.
. "$(dirname "$0")/../lib.sh" "$1"

tiny_rows rows.jsonl 8
tiny_recipe recipe.yaml run
run 0 "$dia" data check recipe.yaml
grep -q 8 out || fail "data check does not count the rows"
run 0 "$dia" data check recipe.yaml --json
jq -e . out >/dev/null || fail "data check --json is not JSON"
run 0 "$dia" data mask recipe.yaml
! grep -q $'\033' out || fail "data mask colours a file although NO_COLOR is set"
[ -s out ] || fail "data mask printed nothing"
run 0 "$dia" data mask recipe.yaml --json
jq -s -e 'length >= 1' out >/dev/null || fail "data mask --json is not JSON"

printf '{"input_ids":[1,5,6,7],"labels":[-100,-100,-100,-100]}\n' >> rows.jsonl
run 5 "$dia" data check recipe.yaml
cat out err | grep -q 'rows.jsonl:9' || fail "data check does not name rows.jsonl:9"
absent run
ok "data check and data mask"
