#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# --validate: the same bytes on ref and cpu, and each rule that a backend breaks is named. stack.lock and --locked. The breadcrumb: after a crash or kill
# the next start names the plugin and the op that ran.
. "$(dirname "$0")/../lib.sh" "$1"

tiny_rows rows.jsonl 16
small=(max_steps=2 save_steps=1 gradient_accumulation_steps=1)
for device in ref cpu; do
    tiny_recipe $device.yaml $device device=$device "${small[@]}"
    run 0 "$dia" train $device.yaml
    run 0 "$dia" train $device.yaml --set output_dir=$device-checked --validate
    said "0 rules broken"
    same $device/adapter_model.safetensors $device-checked/adapter_model.safetensors
    same $device/checkpoint-2/optimizer.safetensors $device-checked/checkpoint-2/optimizer.safetensors
done
run 0 "$dia" generate --model "$models/gemma3" --data rows.jsonl --max-tokens 3 --json
cp out plain
DIAPASON_VALIDATE=1 run 0 "$dia" generate --model "$models/gemma3" --data rows.jsonl --max-tokens 3 --json
same out plain
run 0 "$dia" score --model "$models/gemma3" --adapter ref --data rows.jsonl --validate
ok "checked calls have the same bits"

export DIAPASON_PLUGINS=$build/tests/plugins
tiny_recipe fault.yaml fault device=fault "${small[@]}"
# broken OP WIDTH HOW TEXT: a run on a backend that breaks so ends, and says what.
broken() {
    DIAPASON_TEST_BREAK="$1 $2 $3" run 1 "$dia" train fault.yaml --set output_dir="broken-$3" --validate
    said "$4"
}
broken rms_norm 32 nan "validate: rms_norm out[0] f32 "
said "is NaN, and every input is finite"
said "To blame: plugin test.fault"
broken linear 48 input "an input was written; expected it unchanged. To blame: plugin test.fault"
broken geglu 40 beyond "memory within 64 bytes of it was written"
absent broken-nan/adapter_model.safetensors
DIAPASON_TEST_BREAK='geglu 40 beyond' run 0 "$dia" train fault.yaml --set output_dir=unseen
ok "what a backend breaks is named"

# ---- stack.lock ----
unset DIAPASON_PLUGINS
exists cpu/stack.lock
grep -q '"plugin dps.cpu": "[0-9a-f]\{64\}"' cpu/stack.lock || fail "stack.lock names no digest of cpu"
grep -q '"interfaces dps.cpu": "dps.backend/1' cpu/stack.lock || fail "stack.lock names no interfaces"
grep -q '"runtime libm.so.6": ' cpu/stack.lock || fail "stack.lock names no runtime"
grep -q "\"runtime diapason\": \"diapason $(readelf -n "$dia" | sed -n 's/.*Build ID: //p')\"" cpu/stack.lock || fail "stack.lock does not name this build of the program"
# A stranger's plugin of the same short name that the run does not use is no difference.
mkdir twin
cp "$build/lib/diapason/plugins/dps-algorithm-sft.so" twin/
sed 's/^id=.*/id=com.acme.sft/' "$build/lib/diapason/plugins/dps-algorithm-sft.plugin" > twin/dps-algorithm-sft.plugin
DIAPASON_PLUGINS=$work/twin run 0 "$dia" plugins show com.acme.sft --json
holds out .loaded
DIAPASON_PLUGINS=$work/twin run 0 "$dia" train cpu.yaml --set output_dir=beside --locked --stack-lock cpu/stack.lock
# Used, its libraries are part of the stack, as its manifest names them.
sed -i -e '/^runtimes=/d' -e 's/^module=.*/&\nruntimes=jansson=4/' twin/dps-algorithm-sft.plugin
DIAPASON_PLUGINS=$work/twin run 0 "$dia" train cpu.yaml --set output_dir=twinned --set stage=com.acme.sft
grep -q '"runtime libjansson.so.4": "libjansson.so.4[^ ]* [0-9a-f-]' twinned/stack.lock || fail "stack.lock lacks a library that a plugin's manifest names"
# However many objectives there are, each is checked.
for ((i = 0; i < 12; i++)); do
    cp twin/dps-algorithm-sft.so "twin/acme$i.so"
    sed -e "s/^id=.*/id=com.acme.sft$i/" -e "s/^module=.*/module=acme$i.so/" twin/dps-algorithm-sft.plugin > "twin/acme$i.plugin"
done
DIAPASON_PLUGINS=$work/twin DIAPASON_VALIDATE=1 run 0 "$dia" plugins list --json
holds out '[.. | objects | select(.id? and (.id | startswith("com.acme.sft")) and .loaded)] | length == 13'
! grep -q 'is not checked' err || fail "some are not checked: $(cat err)"
rm twin/acme*
run 0 "$dia" train cpu.yaml --set output_dir=held --locked --stack-lock cpu/stack.lock
same held/stack.lock cpu/stack.lock
run 4 "$dia" train cpu.yaml --set output_dir=none --locked
said "none/stack.lock does not exist"
sed -e 's/^\(  "plugin dps.sft": "\).../\1000/' -e 's/^  "runtime libm.so.6.*/  "runtime libother.so.1": "libother.so.1.2 -"/' cpu/stack.lock > other.lock
run 4 "$dia" train cpu.yaml --set output_dir=none --locked --stack-lock other.lock
said "other.lock: plugin dps.sft: expected 000"
said "Next step: install that build of the plugin"
said "other.lock: runtime libm.so.6: expected none, found libm.so.6"
said "other.lock: runtime libother.so.1: expected libother.so.1.2 -, found none"
said "3 differences"
[ "$(grep -c 'error: other.lock: .*Next step' err)" = 3 ] || fail "not one line a difference"
absent none/checkpoint-1 none/stack.lock
{ cat cpu/stack.lock; echo '  "a\nb\e[2J": "c\nd"'; } > lines.lock
run 4 "$dia" train cpu.yaml --set output_dir=none --locked --stack-lock lines.lock
said "lines.lock: a b?[2J: expected c d, found none"
{ cat cpu/stack.lock; echo 'other: 1'; } > beside.lock
run 4 "$dia" train cpu.yaml --set output_dir=none --locked --stack-lock beside.lock
said "a map 'stack', and nothing beside them"
printf 'stack: [\n' > torn.lock
run 4 "$dia" train cpu.yaml --set output_dir=none --locked --stack-lock torn.lock
said "the lock is damaged"
said "or train without --locked"
printf 'stack_lock_version: 2\nstack: {}\n' > newer.lock
run 4 "$dia" train cpu.yaml --set output_dir=none --locked --stack-lock newer.lock
run 2 "$dia" train cpu.yaml --stack-lock other.lock
said "without --locked"
ok "stack.lock and --locked"

# ---- the breadcrumb ----
export DIAPASON_PLUGINS=$build/tests/plugins
# died HOW EXIT: the process ends while linear runs in step 2; the next start names it and goes on.
died() {
    tiny_recipe dies.yaml "dies-$1" device=fault "${small[@]}"
    local code=0
    DIAPASON_TEST_BREAK="rms_norm_dx 32 $1 20" "$dia" train dies.yaml > out 2> err || code=$?
    [ "$code" = "$2" ] || { cat err >&2; fail "$1: exit code $code, expected $2"; }
    exists "dies-$1/breadcrumb"
    cp err first-err
    run 0 "$dia" train dies.yaml --resume
    said "was killed or crashed in step 2, while plugin test.fault ran rms_norm_dx"
    absent "dies-$1/breadcrumb"
    same "dies-$1/adapter_model.safetensors" ref/adapter_model.safetensors
}
died kill 137
case $build in
*sanitize*) ;; # reports a crash itself
*) died segv 139
    grep -q 'crashed (SIGSEGV) while running: test.fault rms_norm_dx' first-err || { cat first-err >&2; fail "a crash does not name the op"; } ;;
esac
absent ref/breadcrumb cpu/breadcrumb
printf 'not a breadcrumb' > ref/breadcrumb
run 0 "$dia" train ref.yaml --resume
absent ref/breadcrumb
ok "the breadcrumb names who ran when the process died"
