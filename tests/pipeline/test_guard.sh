#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# R12: a backend whose log-probs are NaN in chosen steps. One NaN costs one skipped step; three in a row send the weights back to the last
# checkpoint while the data goes on; a run that cannot be saved ends with an error; the guard's state is in the checkpoint.
. "$(dirname "$0")/../lib.sh" "$1"

export DIAPASON_PLUGINS=$build/tests/plugins
tiny_rows rows.jsonl 32
# One micro-batch a step: the number of a call is the number of the step.
train() {
    local out=$1 faults=$2
    shift 2
    tiny_recipe "$out.yaml" "$out" device=fault gradient_accumulation_steps=1 max_steps=30 save_steps=5 lora_dropout=0.1
    export DIAPASON_TEST_FAULT=$faults
    code=0
    "$dia" train "$out.yaml" "$@" > out 2> err || code=$?
}
guard() { holds "$1/run_state.json" ".guard.skipped == $2 and .guard.total_rollbacks == $3 and .updates == $4"; }
# The lines of the steps: in order, each once, tokens and epochs only grow; null where the step was skipped.
lines() {
    holds "$1/metrics.jsonl" '[.[] | select(has("loss"))] | (map(.step) == [range(1; 31)]) and ([.[].num_tokens] | . == sort)
        and ([.[].epoch] | . == sort) and ([.[] | select(.loss == null) | .step] == '"$2"')' -s
}

train whole ''
[ $code = 0 ] || { cat err >&2; fail "the undisturbed run: $code"; }
guard whole/checkpoint-30 0 0 30
lines whole '[]'

train one 8
[ $code = 0 ] || { cat err >&2; fail "one NaN: $code"; }
said "step 8"
guard one/checkpoint-10 1 0 9
guard one/checkpoint-30 1 0 29
lines one '[8]'
diff <(head -n 7 whole/metrics.jsonl | jq .loss) <(head -n 7 one/metrics.jsonl | jq .loss) >&2 || fail "the steps before the NaN differ"
holds one/metrics.jsonl '.[-1].train_loss < 10' -s
ok "one NaN costs one skipped step"

train three 12-14
[ $code = 0 ] || { cat err >&2; fail "three NaN: $code"; }
said "the weights go back to those of step 10"
guard three/checkpoint-15 3 1 11 # ten updates as in checkpoint-10, and step 15's
guard three/checkpoint-30 3 1 26
lines three '[12,13,14]'
ok "three in a row roll back, once, and the data goes on"

train early 2-4
[ $code = 1 ] || fail "no checkpoint to go back to: exit code $code"
said "there is no checkpoint to go back to"
absent early/adapter_model.safetensors
train never 12-1000
[ $code = 1 ] || fail "a run that diverges for good: exit code $code"
said "not finite again"
absent never/adapter_model.safetensors
ok "what cannot be saved ends with an error, and exports nothing"

# Two bad steps, a checkpoint, a third bad step after a resume: the guard remembers.
train memory 9-10
holds memory/checkpoint-10/run_state.json '.guard.in_a_row == 2'
rm -r memory/checkpoint-15 memory/checkpoint-20 memory/checkpoint-25 memory/checkpoint-30
train memory 1 --resume
[ $code = 0 ] || { cat err >&2; fail "resumed with two bad steps behind it: $code"; }
said "the weights go back to those of step 10"
holds memory/checkpoint-30/run_state.json '.guard.skipped == 3 and .guard.total_rollbacks == 1'
lines memory '[9,10,11]'
ok "the guard's state is in the checkpoint"

train cut 12-14
rm -r cut/checkpoint-20 cut/checkpoint-25 cut/checkpoint-30 cut/adapter_model.safetensors
train cut '' --resume
[ $code = 0 ] || { cat err >&2; fail "resume after a rollback: $code"; }
same three/adapter_model.safetensors cut/adapter_model.safetensors
ok "resumed after a rollback: the same bytes"
