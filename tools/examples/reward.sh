#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A reward as a child process, in shell with jq: one JSON object a line comes in, one line goes out.
#
#   reward_funcs: [{name: process, path: tools/examples/reward.sh}]
#   diapason train recipe.yaml --allow-programs     a recipe alone may start no program
#   diapason data reward --data rows.jsonl --reward '{name: process, path: tools/examples/reward.sh}'
#
# This one wants answers that end as sentences do and were not cut off.
exec jq --unbuffered -c '{id, score: (if .truncated then 0 elif .completion | test("[.!?]\\s*$") then 1 else 0.5 end)}'
