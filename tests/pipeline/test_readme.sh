#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# README's examples run as printed: every ```sh block after a "tested" mark, from the root of the tree, results in a scratch folder.
# "tested: build" is for blocks that name the build folder: they run where that is the one under test.
# Paths and scripts that README names must exist.
. "$(dirname "$0")/../lib.sh" "$1"

export PATH=$build/bin:$PATH OUT=$work/out-of-readme
mkdir "$OUT"
mark='^<!-- tested -->'
[ "$build" != "$src/build" ] || mark='^<!-- tested(: build)? -->'
awk -v mark="$mark" '$0 ~ mark { armed = 1; next } /^```sh/ && armed { inside = 1; armed = 0; n++; next } /^```/ { inside = 0 }
    inside { print > ("block-" n) }' "$src/README.md"
blocks=$(find . -name 'block-*' | wc -l)
[ "$blocks" -ge 4 ] || fail "README has only $blocks tested blocks"
for block in $(seq "$blocks"); do
    run 0 bash -c "cd '$src' && set -euo pipefail && . '$work/block-$block'"
    ok "$(head -n 1 "block-$block")"
done
exists "$OUT/run/adapter_model.safetensors" "$OUT/scores.jsonl" "$OUT/merged/model.safetensors"

for path in $(grep -o -E '\b(core|backends|algorithms|formats|tools|tests)/[A-Za-z0-9_./-]*[A-Za-z0-9_-]' "$src/README.md" | sort -u); do
    [ -e "$src/$path" ] || fail "README names $path, which does not exist"
done
ok "every path that README names exists"
