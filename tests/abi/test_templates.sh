#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Every template, copied to plugins.d/NAME and otherwise untouched, builds with dps_add_plugin, loads, and passes its own test.
set -euo pipefail
build=$1
top=$(cd "$(dirname "$0")/../.." && pwd)
work=$(mktemp -d "$build/tests/templates.XXXXXX")
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/tree/plugins.d"
for shared in core tools tests; do
    ln -s "$top/$shared" "$work/tree/$shared"
done
cp "$top/tests/abi/templates/CMakeLists.txt" "$work/tree/"
kinds=()
for folder in "$top"/plugins.d/template/*/; do
    kind=$(basename "$folder")
    kinds+=("$kind")
    cp -r "$folder" "$work/tree/plugins.d/my_$kind"
done
[ ${#kinds[@]} = 5 ] || { echo "expected 5 templates, found: ${kinds[*]}"; exit 1; }

sanitize=$(sed -n 's/^DIAPASON_SANITIZE:BOOL=//p' "$build/CMakeCache.txt")
cmake -G Ninja -B "$work/build" -S "$work/tree" -DBUILD="$build" -DDIAPASON_SANITIZE="${sanitize:-OFF}" > "$work/log" || { cat "$work/log"; exit 1; }
ninja -j2 -C "$work/build" > "$work/log" || { cat "$work/log"; exit 1; }
ctest --test-dir "$work/build" --output-on-failure

export DIAPASON_PLUGINS=$work/build/lib/diapason/plugins
for id in com.example.tiny com.example.margin-sft com.example.tiny-lora com.example.npy com.example.rules; do
    "$build/bin/diapason" plugins show "$id" | tee "$work/shown"
    if grep -q '^  refused' "$work/shown"; then exit 1; fi
done
