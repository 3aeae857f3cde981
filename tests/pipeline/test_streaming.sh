#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A JSONL file larger than the memory there is: 300 MB (3 GB with --full) of rows read, shuffled and trained on in 250 MB of address space.
. "$(dirname "$0")/../lib.sh" "$1"

[[ $build != *sanitize* ]] || skip "a sanitizer's shadow memory needs all address space"
bytes=300000000
[ "$full" = 0 ] || bytes=3000000000
awk -v bytes=$bytes 'BEGIN {
    for (i = 0; i < 1000; i++) pad = pad "x"
    for (n = i = 0; n < bytes; n += length(line) + 1) {
        line = "{\"input_ids\":[1," 5 + i % 60 "," 5 + i * 7 % 60 ",2],\"note\":\"" substr(pad, 1, 200 + i++ * 7919 % 800) "\"}"
        print line
    }
}' > rows.jsonl
n=$(wc -l < rows.jsonl)
tiny_recipe recipe.yaml run max_steps=2 save_steps=2
limited() { run 0 bash -c 'ulimit -v 250000; exec "$@"' - "$@"; }
limited "$dia" data check recipe.yaml --json
holds out ".rows == $n and .refused == 0 and .tokens == 4 * $n"
limited "$dia" train recipe.yaml
exists run/adapter_model.safetensors
limited "$dia" train recipe.yaml --resume --set max_steps=2
ok "$n rows in $bytes bytes"
