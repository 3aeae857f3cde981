#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Some ops on one device, some on another, with copies between where a device has memory of its own: the bytes of a run do not change. `remote`
# (tests/plugins/remote.c) is ref in memory the host cannot reach, poisoned, so that a copy forgotten is a NaN or an error.
. "$(dirname "$0")/../lib.sh" "$1"

export DIAPASON_PLUGINS=$build/tests/plugins
tiny_rows rows.jsonl 12
# train NAME KEY=VALUE …: 3 steps; its adapter or model is NAME.bytes.
train() {
    local name=$1
    shift
    tiny_recipe "$name.yaml" "$name" max_steps=3 save_steps=2 per_device_train_batch_size=2 "$@"
    run 0 "$dia" train "$name.yaml" --quiet --log-level debug
    cp err "$name.log"
    cat "$name"/*.safetensors > "$name.bytes"
}

train ref device=ref lora_dropout=0.1 use_dora=true
train remote 'device=[remote, ref]' lora_dropout=0.1 use_dora=true
same ref.bytes remote.bytes
train strict 'device=[remote]' strict_device=true lora_dropout=0.1 use_dora=true
same ref.bytes strict.bytes
DIAPASON_TEST_REMOTE=linear,rms_norm,attention_bwd,adamw_step,embed train mixed 'device=[remote, ref]' lora_dropout=0.1 use_dora=true
same ref.bytes mixed.bytes
train asked 'device=[ref, remote]' 'op_devices={linear_dw: remote, attention: remote, token_logprobs: remote}' lora_dropout=0.1 use_dora=true
same ref.bytes asked.bytes
ok "LoRA with dropout and DoRA: all on remote, some on remote"

train full device=ref lora_r=- lora_alpha=- lora_target_modules=- gradient_checkpointing=true
train full-remote 'device=[remote, ref]' lora_r=- lora_alpha=- lora_target_modules=- gradient_checkpointing=true
same full.bytes full-remote.bytes
train nf4 device=ref load_in_4bit=true bnb_4bit_use_double_quant=true dtype=bfloat16
train nf4-remote 'device=[remote, ref]' load_in_4bit=true bnb_4bit_use_double_quant=true dtype=bfloat16
same nf4.bytes nf4-remote.bytes
ok "every weight trained, a tied embedding; a quantised base in bf16"

# Beside cpu: the same ops on ref and on remote, the rest on cpu.
ops='{attention: %s, attention_bwd: %s, rms_norm: %s, linear_dx: %s}'
# shellcheck disable=SC2059
train cpu-ref 'device=[cpu, ref]' "op_devices=$(printf "$ops" ref ref ref ref)"
# shellcheck disable=SC2059
train cpu-remote 'device=[cpu, remote, ref]' "op_devices=$(printf "$ops" remote remote remote remote)"
same cpu-ref.bytes cpu-remote.bytes
train cpu device=cpu
if cmp -s cpu.bytes cpu-ref.bytes; then fail "ops that were asked for on ref ran on cpu"; fi
ok "cpu with remote is cpu with ref"

# What a device refuses on a weight it packed goes to another on the weight's rows: packed (tests/plugins/packed.c) takes no more rows than columns.
train packed 'device=[packed, ref]' lora_dropout=0.1 use_dora=true
same ref.bytes packed.bytes
train packed-remote 'device=[packed, remote]' lora_dropout=0.1 use_dora=true
same ref.bytes packed-remote.bytes
run 0 "$dia" explain packed-remote.yaml --json
for op in linear linear_dx token_logprobs embed; do
    holds out 'any (.op == $op and (.operands | test ("packed")) and .device == "remote" and .to_device_bytes > 0 and
        (.refused | startswith ("packed: more rows than columns")))' --arg op $op
done
holds out 'any (.op == "linear" and (.operands | test ("packed")) and .device == "packed")'
train full-packed 'device=[packed, ref]' lora_r=- lora_alpha=- lora_target_modules=- gradient_checkpointing=true
same full.bytes full-packed.bytes
ok "weights that the first device packed"

# Copies take no more than was planned, and the plan counts them.
for name in mixed asked cpu-remote packed packed-remote full-packed; do
    copies=$(sed -n 's/.*copies for other devices: \([0-9]*\) bytes used of \([0-9]*\) planned/\1 \2/p' "$name.log")
    [ "${copies% *}" -gt 0 ] && [ "${copies% *}" -le "${copies#* }" ] || fail "$name: of copies for other devices, '$copies' were used and planned"
done
run 0 "$dia" plan asked.yaml --json
holds out '.memory_bytes.staging > 0 and .memory_bytes.total == ([.memory_bytes | del (.total)[]] | add)'
run 0 "$dia" plan ref.yaml --json
holds out '.memory_bytes.staging == 0'
ok "the plan counts copies"

# Answers: caches are in host memory.
for device in ref remote; do
    run 0 "$dia" generate --model "$models/gemma3" --data rows.jsonl --max-tokens 6 --device $device --json
    cp out $device.jsonl
    run 0 "$dia" score --model "$models/gemma3" --data rows.jsonl --device $device
    cp out $device.scores
done
same ref.jsonl remote.jsonl
same ref.scores remote.scores
ok "generate and score"

# Sampled answers: the head's products and row_logprobs go where token_logprobs does, else the ratio would not be 1 before the first update.
# sampled NAME DEVICES [OP_DEVICES]
sampled() {
    local none='{}'
    run 0 "$dia" train "$src/tools/examples/tiny-grpo.yaml" --quiet --set model_name_or_path="$models/gemma3" --set max_steps=4 --set save_steps=4 \
        --set datasets="$src/tools/examples/tiny-prompts.jsonl" --set output_dir="$1" --set "device=$2" --set "op_devices=${3:-$none}"
    cat "$1"/*.safetensors > "$1.bytes"
}
sampled answers ref
DIAPASON_TEST_REMOTE=linear,rms_norm,attention,rope,geglu sampled answers-remote '[remote, ref]'
same answers.bytes answers-remote.bytes
sampled answers-head '[cpu, ref]' '{token_logprobs: ref}'
sampled answers-products '[cpu, ref]' '{linear: ref, row_logprobs: ref}'
run 0 "$dia" explain "$src/tools/examples/tiny-grpo.yaml" --json --set model_name_or_path="$models/gemma3" --set 'device=[cpu, ref]' \
    --set datasets="$src/tools/examples/tiny-prompts.jsonl" --set 'op_devices={token_logprobs: ref}'
holds out 'any (.op == "linear" and .device == "ref" and (.refused | test ("^cpu: its log-probs must have the bits of token_logprobs")))'
holds out '[.[] | select (.op == "row_logprobs")] | all (.device == "ref") and length > 0'
ok "answers that are sampled and trained on"

# What explain counts, and says.
run 0 "$dia" explain asked.yaml --json
cp out asked.json
holds asked.json '[.[] | select (.op == "attention")] | all (.device == "remote" and .to_device_bytes > 0) and length > 0'
holds asked.json '[.[] | select (.op == "linear")] | all (.device == "ref" and .refused == null)'
run 0 "$dia" explain asked.yaml
grep -q '^to where remote reaches it, this step copies [0-9.]* KiB, and [0-9.]* KiB back$' out || { cat out >&2; fail "explain does not say what is copied"; }
run 0 "$dia" explain remote.yaml --json
holds out 'all (.device == "remote")'
moved() { jq "[.[] | .to_device_bytes + .from_device_bytes] | add" "$1"; }
[ "$(moved asked.json)" -gt 0 ] || fail "nothing moved"
run 0 "$dia" explain ref.yaml --json
[ "$(moved out)" = 0 ] || fail "ref copies"
run 0 "$dia" explain cpu-remote.yaml --json
holds out '[.[] | select (.op == "linear" or .op == "linear_dx")] | all ((.op == "linear_dx") == (.device == "remote"))'
ok "explain"

# A device that has the simple ops alone runs the fused ones in pieces, in the scratch that was planned: else one would go to ref, which strict forbids.
simple=fill,copy,add,mul,mul_cols,add_cols,mul_cols_dv,embed,embed_dw,linear,linear_dx,linear_dw,bias_db,gather_rows,scatter_rows,put_rows
simple+=,softcap,dropout,scale_rows,dora_norm,div,sumsq,exp,log,sqrt,range,row_max,one_hot,segment_mask,rope_angles,sgd_step
DIAPASON_TEST_REMOTE=$simple run 0 "$dia" explain strict.yaml --json
holds out 'all (.device == "remote") and ([.[] | select (.decomposed) | .op] | index ("attention_bwd") and index ("adamw_step"))'
DIAPASON_TEST_REMOTE=$simple run 0 "$dia" explain strict.yaml
grep -q '^attention_bwd .* remote .*, as simple ops$' out || { cat out >&2; fail "explain does not say which device has an op in pieces"; }
DIAPASON_TEST_REMOTE=$simple train pieces 'device=[remote]' strict_device=true
ok "simple ops"

run 2 "$dia" train asked.yaml --set 'op_devices={atention: remote}'
said "there is no op 'atention'"
run 2 "$dia" train asked.yaml --set 'op_devices={attention: opencl}'
said "attention is to run on 'opencl', which is not among the devices"
run 2 "$dia" train asked.yaml --set 'op_devices={attention: 3}'
said "attention is not given a device's name"
DIAPASON_TEST_REMOTE=linear run 0 "$dia" explain asked.yaml --json
holds out '[.[] | select (.op == "attention")] | all (.device == "ref" and (.refused | test ("remote: attention is not on the list")))'
holds out '[.[].refused // empty] | any (test ("remote: as simple ops: ")) and all (test ("remote: .*remote: ") | not)'
DIAPASON_TEST_REMOTE=linear run 1 "$dia" explain asked.yaml --set strict_device=true
said "would fall back"
ok "refusals"

# A stranger's backend that calls itself cpu, and whose id comes before ours: it takes nothing unless it is named by its id.
mkdir stranger
cp "$build/tests/plugins/test_fault.so" stranger/
sed 's/^id=.*/id=com.acme.cpu/' "$build/tests/plugins/test_fault.plugin" > stranger/test_fault.plugin
export DIAPASON_PLUGINS=$work/stranger
# devices JQ OPTION …: what holds of the devices that explain names.
devices() {
    run 0 "$dia" explain cpu.yaml --json "${@:2}"
    holds out "[.[].device] | $1"
}
sed -i '/^device:/d' cpu.yaml
devices 'all (. == "cpu")'
devices 'all (. == "cpu")' --set device=cpu
devices 'any (. == "fault")' --set device=com.acme.cpu
devices 'any (. == "fault") and any (. == "cpu")' --set 'device=[cpu, com.acme.cpu]' --set 'op_devices={attention: com.acme.cpu}'
run 0 "$dia" train cpu.yaml --quiet --set output_dir=named --set device=com.acme.cpu
grep -q '"plugin com.acme.cpu": ' named/stack.lock || fail "stack.lock does not name the backend that ran"
run 2 "$dia" explain cpu.yaml --set device=com.acme.npu
said "no backend plugin 'com.acme.npu'"
ok "names: ours before strangers', strangers' by their ids"

# A backend that would have been first and does not load: the run is told, since ref has other bits and takes far longer.
unset DIAPASON_PLUGINS
mkdir -p damaged/lib
cp -r "$build/bin" damaged/
cp -r "$build/lib/diapason" damaged/lib/
truncate -s 1000 damaged/lib/diapason/plugins/dps-backend-cpu.so
tiny_recipe told.yaml told max_steps=1
run 0 damaged/bin/diapason train told.yaml
said "everything runs on ref, which is slow, since backend cpu was refused"
ok "a refused backend is said where nothing but ref is left"
