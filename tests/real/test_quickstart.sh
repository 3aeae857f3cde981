#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# tools/quickstart on the real Gemma with a handful of rows and steps: every stage runs, the score falls, the report is there.
. "$(dirname "$0")/../lib.sh" "$1"

model=$(real_model gemma3-270m)
rows=$("$src/tools/fetch" --cached helpdesk 2>/dev/null) || skip "the help-desk rows are not in the cache: run tools/fetch helpdesk"
mkdir -p cache/models cache/data/helpdesk
ln -s "$model" cache/models/
shuf -n 32 --random-source=<(yes) "$rows/train.jsonl" > cache/data/helpdesk/train.jsonl
awk 'NR % 8 == 1' "$rows/heldout.jsonl" > cache/data/helpdesk/heldout.jsonl
grep -m 1 '"content": "How do I ' "$rows/heldout.jsonl" >> cache/data/helpdesk/heldout.jsonl
grep -m 1 '"content": "Comment ' "$rows/heldout.jsonl" >> cache/data/helpdesk/heldout.jsonl
(cd cache/data/helpdesk && sha256sum ./*.jsonl > SHA256SUMS)

DIAPASON_CACHE=$work/cache run 0 "$src/tools/quickstart" --build "$build" --out result --steps 6
grep -A 4 'Held-out' out
exists result/run/report.html result/run/adapter_model.safetensors result/answers.txt result/recipe.yaml
grep -q 'With the adapter' result/answers.txt || fail "answers.txt holds no answer with the adapter"
! grep -q $'\r' err || fail "a progress bar was drawn into a file"
ok "quickstart"
