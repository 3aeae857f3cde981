#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# --record and replay: a record changes no bit and holds no weights; replay on the other backend finds no difference; a backend that fails, computes wrong or
# dies for one op and shape is found by its call, from a record made on cpu; damaged records are refused by name.
. "$(dirname "$0")/../lib.sh" "$1"

tiny_rows rows.jsonl 16
tiny_recipe tiny.yaml plain device=cpu max_steps=2 save_steps=2 gradient_accumulation_steps=1
run 0 "$dia" train tiny.yaml
run 0 "$dia" train tiny.yaml --set output_dir=recorded --record calls.jsonl
same plain/adapter_model.safetensors recorded/adapter_model.safetensors
head -n 1 calls.jsonl > head
holds head '.diapason_record == 1 and .contents == "seeds" and .ids == "synthetic"'
tail -n 1 calls.jsonl > tail
holds tail '.end == "closed" and .calls > 400'
holds calls.jsonl 'map(select(.device == 0)) | length == 1 and .[0].plugin == "dps.cpu" and (.[0].sha256 | length) == 64' -s
# No token ids but drawn ones: rows begin with id 1, as every sequence here.
holds calls.jsonl 'map(select(.call != null) | .fill[] | select(.[1] == "tokens")) | length >= 4' -s
ok "a record changes no bit, and has neither weights nor tokens"

run 0 "$dia" replay calls.jsonl --backend cpu --against ref --json
holds out '.failed == 0 and .end == "closed" and .recorded_on == "cpu" and .calls > 400 and ([.ops[].worst_difference] | max) < 1e-5
    and ([.ops[].op] | contains(["linear", "attention_bwd", "token_logprobs", "adamw_step"]))'
run 0 "$dia" replay calls.jsonl --backend ref
grep -q "calls: none failed" out || fail "no summary"
run 0 "$dia" train tiny.yaml --set output_dir=bf16 --set dtype=bfloat16 --record bf16.jsonl
run 0 "$dia" replay bf16.jsonl --backend cpu --against ref --json
holds out '.failed == 0 and ([.ops[].worst_difference] | max) < 2e-2'
for way in load_in_8bit=true 'load_in_4bit=true bnb_4bit_use_double_quant=true use_dora=true'; do
    set=()
    for one in $way; do set+=(--set "$one"); done
    run 0 "$dia" train tiny.yaml --set output_dir=quantised "${set[@]}" --record quantised.jsonl
    run 0 "$dia" replay quantised.jsonl --backend cpu --against ref --json
    holds out '.failed == 0 and ([.ops[].worst_difference] | max) < 1e-4 and ([.ops[].op] | contains(["linear", "linear_dx"]))'
    holds quantised.jsonl 'any (.[]; .op == "linear" and (.in[1].parts | length) > 0)' -s
    rm -r quantised
done
run 0 "$dia" generate --model "$models/gemma3" --data rows.jsonl --max-tokens 2 --json --record generate.jsonl --record-ids
head -n 1 generate.jsonl > head
holds head '.ids == "recorded"'
run 0 "$dia" replay generate.jsonl --backend cpu --against ref --json
holds out '.failed == 0 and .ids == "recorded"'
ok "cpu and ref agree on what was recorded"

# A customer's fault, at the vendor's: recorded on cpu, replayed on the backend that breaks at one op and shape.
export DIAPASON_PLUGINS=$build/tests/plugins:$build/lib/diapason/plugins
# broken HOW OP WIDTH REASON: replay names op, shape and reason in its first failure.
broken() {
    DIAPASON_TEST_BREAK="$2 $3 $1" run 1 "$dia" replay calls.jsonl --backend fault --against ref --json
    holds out ".failed > 0 and .first_failure.op == \"$2\" and (.first_failure.operands | test(\",$3\\\\)\")) and (.first_failure.reason | contains(\"$4\"))"
}
broken wrong geglu 40 'out[0] differs from ref by'
broken fail attention 48 'told to fail'
broken nan geglu_bwd 40 'To blame: plugin test.fault'
first=$(jq .first_failure.call out)
jq -s -e --argjson n "$first" '(map(select(.call == $n)) | .[0].case) as $c | map(select(.case == $c and .op != null)) | .[0].op == "geglu_bwd"' calls.jsonl > /dev/null ||
    fail "call $first of the record is no geglu_bwd"
case $build in
*sanitize*) ;;
*) code=0
    DIAPASON_TEST_BREAK="geglu 40 segv" "$dia" replay calls.jsonl --backend fault > out 2> err || code=$?
    [ $code = 139 ] || fail "a crash: exit code $code"
    said "crashed (SIGSEGV) while running: test.fault geglu: replay of call" ;;
esac
# Recorded where it fails: the record says so, and ends with the call.
tiny_recipe fault.yaml fault device=fault max_steps=2 gradient_accumulation_steps=1
DIAPASON_TEST_BREAK='linear_dx 40 fail' run 1 "$dia" train fault.yaml --record failed.jsonl
run 0 "$dia" replay failed.jsonl --backend ref --json
holds out '.failed == 0 and (.recorded_failure.message | contains("told to fail"))'
code=0
DIAPASON_TEST_BREAK='linear_dx 40 kill' "$dia" train fault.yaml --record killed.jsonl > out 2> err || code=$?
[ $code = 137 ] || fail "killed: exit code $code"
run 0 "$dia" replay killed.jsonl --backend ref --json
holds out '.end == "cut"'
tail -n 1 killed.jsonl | jq -e .call > /dev/null || fail "the record does not end with the call that killed"
ok "the call that fails is named"

# Limits and hostile bytes.
run 0 "$dia" train tiny.yaml --set output_dir=capped --record capped.jsonl --record-limit 64KiB
said "the record is at its limit of 65536 bytes"
[ "$(stat -c %s capped.jsonl)" -le 65536 ] || fail "the record is larger than its limit"
same plain/adapter_model.safetensors capped/adapter_model.safetensors
tail -n 1 capped.jsonl > tail
holds tail '.end == "limit"'
run 0 "$dia" replay capped.jsonl --backend ref --json
holds out '.end == "limit"'
run 1 "$dia" train tiny.yaml --set output_dir=full --record /dev/full
said "No space left"
run 2 "$dia" replay calls.jsonl --backend nowhere
said "nowhere"
run 2 "$dia" replay calls.jsonl
said "--backend is missing"
run 2 "$dia" train tiny.yaml --record-ids
said "without --record FILE"
# refused CODE TEXT < LINES: a record of these lines is refused so.
refused() {
    cat <(head -n 1 calls.jsonl) - > bad.jsonl
    run "$1" "$dia" replay bad.jsonl --backend ref
    said "$2"
}
echo '{"alloc":1,"bytes":9223372036854775807}' | refused 1 "bad.jsonl:2: 9223372036854775807 bytes more than the 0 that are live"
echo '{"alloc":1,"bytes":-1}' | refused 1 "a number is missing or out of range"
echo '{"case":0,"op":"nothing","in":[],"out":[]}' | refused 1 "op 'nothing' is none that this version has"
echo '{"case":0,"op":"exp","in":[{"t":"f32","s":[4611686018427387904,4]}],"out":[]}' | refused 1 "bad.jsonl:2: an operand"
echo '{"case":7,"op":"exp","in":[],"out":[]}' | refused 1 "cases are numbered from 0"
echo '{"call":0,"case":0,"at":[],"attrs":[],"fill":[]}' | refused 1 "needs its number and that of a case above it"
printf '%s\n' '{"case":0,"op":"exp","in":[{"t":"f32","s":[4]}],"out":[{"t":"f32","s":[4]}]}' '{"call":0,"case":0,"on":0,"at":[[1,0],[1,16]],"attrs":[],"fill":[]}' |
    refused 1 "an operand lies outside every live buffer"
echo '{"data":0,"at":0,"bytes":9000000000000000000,"hex":"00"}' | refused 0 ""
echo '[1]' | refused 1 "bad.jsonl:2: expected an object"
head -c 70000 /dev/zero | tr '\0' ' ' | refused 1 "a line of more than 65536 bytes"
printf '{"diapason_record":2,"contents":"seeds"}\n' > bad.jsonl
run 1 "$dia" replay bad.jsonl --backend ref
said "diapason_record is 2, this version reads 1"
run 1 "$dia" replay rows.jsonl --backend ref
said "is no record of diapason"
for bytes in 0 1 100 5000 30000; do
    head -c $bytes calls.jsonl > cut.jsonl
    code=0
    "$dia" replay cut.jsonl --backend ref > out 2> err || code=$?
    [ $code -le 1 ] || { cat err >&2; fail "cut at $bytes: exit code $code"; }
done
# Two operands that do not fit each other: no backend is asked.
printf '%s\n' '{"alloc":1,"bytes":4096}' '{"case":0,"op":"linear","in":[{"t":"f32","s":[4,8]},{"t":"f32","s":[4,9]}],"out":[{"t":"f32","s":[4,4]}]}' \
    '{"call":0,"case":0,"on":0,"at":[[1,0],[1,256],[1,1024]],"attrs":[],"fill":[]}' | refused 1 ""
grep -q 'first failure, call 0: linear on ref' out || fail "shapes that do not fit are no failure"
ok "limits, and records that are damaged or hostile"
