#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Every verb explains itself with an example, refuses an unknown flag with 2, and the verbs that were promised are there.
. "$(dirname "$0")/../lib.sh" "$1"

run 0 "$dia" --help
cp out all
for verb in doctor data plan explain train score generate tokenize eval merge plugins bench; do
    grep -q "^  $verb " all || fail "diapason --help does not list $verb"
    run 0 "$dia" $verb --help
    grep -q "diapason $verb" out || fail "$verb --help shows no example"
    for flag in --json --quiet --log-level; do
        grep -q -e "$flag" out || fail "$verb --help does not name $flag"
    done
    run 2 "$dia" $verb --no-such-flag
    said "no-such-flag"
    said "--help"
done
ok "help and unknown flags"

run 0 "$dia" --version
grep -q -E '^diapason [0-9]+\.[0-9]+' out || fail "--version prints no version"
run 0 "$dia" doctor
run 0 "$dia" doctor --json
jq -e . out >/dev/null || fail "doctor --json is not JSON"
run 0 "$dia" plugins list
cp out plugins
for plugin in ref cpu sft pretrain lora gguf safetensors; do
    grep -q -i "$plugin" plugins || fail "plugins list does not show $plugin"
done
run 0 "$dia" plugins --json
jq -e . out >/dev/null || fail "plugins --json is not JSON"
ok "doctor and plugins"
