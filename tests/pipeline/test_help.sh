#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Every verb explains itself with an example, refuses an unknown flag with 2, and the verbs that were promised are there.
. "$(dirname "$0")/../lib.sh" "$1"

run 0 "$dia" --help
cp out all
for verb in doctor data plan explain train score generate tokenize eval merge adapters new plugins bench replay check; do
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
# On a terminal of 80 columns no line is longer, but for examples, which are there to be copied.
for verb in '' train generate data eval; do
    script -qec "stty cols 80; $dia $verb --help" /dev/null | tr -d '\r' | sed '/^Example/,$d' > wrapped
    [ -s wrapped ] || fail "diapason $verb --help says nothing on a terminal"
    ! grep -E '^.{81,}' wrapped || fail "diapason $verb --help: longer than 80 columns"
done
# A verb's own verbs: each has its help, with its own options only, and suggests one.
for sub in 'data check' 'data mask' 'data reward' 'data simulate' 'bench matmul' 'bench train' 'bench decode' 'bench abi' 'plugins list' 'plugins show' \
    'plugins release' 'plugins sign' 'plugins verify' 'adapters list' 'adapters diff'; do
    # shellcheck disable=SC2086
    run 0 "$dia" $sub --help
    grep -q "^diapason $sub: " out || fail "$sub --help is not its own"
    [ "$(grep -c "diapason $sub" out)" -ge 3 ] || fail "$sub --help shows no example"
    # shellcheck disable=SC2086
    run 2 "$dia" $sub --log-levle debug
    said "did you mean '--log-level'?"
    said "diapason $sub --help"
done
run 0 "$dia" data check --help
if grep -q -e --rows out; then fail "data check has an option of data mask"; fi
run 2 "$dia" data check --rows 3
run 2 "$dia" bench decode --objective grpo
run 2 "$dia" data --data x simulate
said "the options of simulate stand behind its name"
run 2 "$dia" plugins shwo lora
said "did you mean 'show'?"
run 2 "$dia" adapters
said "nothing to do, expected list or diff"
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
# A plugin's parameters are those it declares beside its code.
run 0 "$dia" plugins show lora
grep -q '^    r  *whole number, 1 to 65536, default 16: rank of the update$' out || fail "plugins show lora: $(cat out)"
grep -q '^    use_rslora  *true or false, default false: ' out || fail "plugins show lora: $(cat out)"
run 0 "$dia" plugins show grpo
grep -q '^    loss_type  *dapo|grpo|bnpo|dr_grpo|gspo, default dapo: ' out || fail "plugins show grpo: $(cat out)"
run 0 "$dia" plugins show regex --json
holds out '.parameters[0] == {of: "reward", name: "pattern", type: "string", default: null, help: "regular expression (PCRE2, UTF-8)"}'
holds out '.parameters[1] | .default == "search" and .choices == ["search", "full", "capture"]'
holds out '.parameters[2] | .type == "number" and .default == 1 and .min == -1e9 and .max == 1e9'
run 0 "$dia" plugins show ref --json
holds out '.parameters == []'
ok "doctor and plugins"

# What this version does not have is refused by name.
for verb in quantize export serve chat 'data mix' 'data split' 'data dedup' 'data pii'; do
    run 2 "$dia" $verb x
    said "${verb##* } is not implemented"
done
for format in "gguf: is only read" "onnx: no format plugin 'onnx'" "peft: is a folder" "gguf-adapter: no format plugin"; do
    run 2 "$dia" merge --model "$models/gemma3" --format "${format%%:*}" --out merged
    said "${format#*: }"
    absent merged
done
ok "verbs and formats of later versions"

# Output that does not arrive is a failure; a device is written to, not replaced. NO_COLOR, --quiet and the environment's flags.
[ -c /dev/full ] || fail "/dev/full is not a device"
tiny_rows rows.jsonl 4
score=(score --model "$models/gemma3" --data rows.jsonl)
for verb in --help --version 'train --help' doctor 'plugins list --json' 'bench matmul --json' "${score[*]}"; do
    code=0
    # shellcheck disable=SC2086
    "$dia" $verb > /dev/full 2> err || code=$?
    [ "$code" = 1 ] || fail "$verb into a full device: exit code $code"
    said "No space left"
done
run 1 "$dia" "${score[@]}" --out /dev/full
said "No space left"
[ -c /dev/full ] || fail "/dev/full was replaced by a file"
run 0 "$dia" "${score[@]}" --out rows.out
"$dia" "${score[@]}" --out /dev/stdout | cmp - rows.out || fail "--out /dev/stdout"
run 0 "$dia" "${score[@]}" --quiet
same out rows.out
[ ! -s err ] || fail "--quiet is not quiet: $(cat err)"
DIAPASON_DATA=rows.jsonl DIAPASON_MODEL=$models/gemma3 run 0 "$dia" score
same out rows.out
DIAPASON_MAX_TOKENS=2 DIAPASON_JSON=1 run 0 "$dia" generate --model "$models/gemma3" --data rows.jsonl
holds out 'all((.ids | length) <= 2)' -s
DIAPASON_MAX_TOKENS=2 run 0 "$dia" generate --model "$models/gemma3" --data rows.jsonl --json --max-tokens 3 --ignore-eos
holds out 'all((.ids | length) == 3)' -s
run 2 "$dia" "${score[@]}" --log-level loud
ok "full devices, --quiet, the environment's flags"
