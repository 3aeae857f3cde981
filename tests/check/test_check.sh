#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# `diapason check` as a user runs it: ref, cpu and opencl keep their promises, every op of ops.def is compared in every dtype that is taken, reports and
# certificates say so, and what is wrong with a plugin's file, a certificate or an option is named. With --full every case of every backend.
. "$(dirname "$0")/../lib.sh" "$1"

# Under a sanitizer a case costs five times as much: the contract, and cpu's own kernels, without --full.
if [ "$full" = 0 ] && [[ $build == *sanitize* ]]; then
    for backend in cpu ref; do
        run 0 "$dia" check $backend --filter 'backend/*'
        run 0 "$dia" check $backend --filter 'backend.*/bad_*'
    done
    for suite in elementwise rows products attention quant; do
        run 0 "$dia" check cpu --quick --filter "backend.$suite/*"
    done
    ok "the contract and cpu's kernels, under a sanitizer"
    exit 0
fi
quick=(--quick)
[ "$full" = 0 ] || quick=()

run 0 "$dia" check cpu "${quick[@]}" --json --junit cpu.xml --certificate cpu.json
cp out cpu.jsonl
holds cpu.jsonl '.[-1].summary | .ok and .failed == 0 and .passed > 40 and .level_reached == 0 and .level_lacks == "backend.queued/plans"' -s
holds cpu.jsonl 'all (.[:-1][]; (.verdict | IN ("passed", "skipped")) and (.message != "" or .verdict == "passed"))' -s
run 0 "$dia" check ref "${quick[@]}" --json
cp out ref.jsonl
cp cpu.jsonl opencl.jsonl
if "$dia" doctor --json | jq -e 'any (.devices[].name; startswith ("opencl"))' > /dev/null; then
    run 0 "$dia" check opencl "${quick[@]}" --json
    cp out opencl.jsonl
fi
# Weights in blocks: here, though the ABI does not ask for it, the bits that the decoded rows give.
for backend in cpu opencl; do
    holds $backend.jsonl '[.[] | select (.case? | IN ("backend.quant/linear", "backend.quant/linear_dx", "backend.quant/dora_norm")) | .notes.as_decoded] == [1, 1, 1]' -s
done
ok "cpu, ref and opencl pass"

# Every op of ops.def is in the table of every op and dtype: ref takes them all in f32, and what the others take was compared.
sed -n 's/^OP (\([a-z_]*\),.*/\1/p' "$src/core/graph/ops.def" | LC_ALL=C sort > ops
for dtype in f32 bf16 f16 f64; do
    jq -r --arg case "backend.table/$dtype" 'select (.case? == $case) | .notes.taken[]' ref.jsonl | LC_ALL=C sort -u > compared
    [ -z "$(comm -23 ops compared)" ] || fail "the table has not compared in $dtype: $(comm -23 ops compared | tr '\n' ' ')"
done
ok "every op is compared in every dtype"

# Reports.
holds cpu.json '.diapason_certificate == 1 and .abi == "0.1" and (.result.plugin.sha256 | length == 64) and (.machine.cpu | length > 0)
    and (.verdicts | length > 40) and (.result.budgets_sha256 | length == 64) and (.sha256 | length == 64)'
grep -q '<testsuite name="diapason check .*failures="0" errors="0"' cpu.xml || fail "$(head -3 cpu.xml)"
[ "$(grep -c '<testcase ' cpu.xml)" = "$(($(wc -l < cpu.jsonl) - 1))" ] || fail "JUnit and JSON do not have the same cases"
run 0 "$dia" check --verify cpu.json
grep -q 'dps.cpu .* holds' out || fail "$(cat out)"
run 0 "$dia" check --budgets
holds out '.budgets_sha256 == $c.result.budgets_sha256 and (.budgets | length > 40)' --argjson c "$(cat cpu.json)"
ok "JSON, JUnit, certificate, budgets"

# A certificate that was edited, of another plugin, of other budgets, or of a failure does not hold.
jq '.result.passed = 99' cpu.json > edited.json
run 1 "$dia" check --verify edited.json
said "was changed after it was written"
run 4 "$dia" check --verify cpu.json "$dia"
said "a plugin whose SHA-256 is"
run 1 "$dia" check --verify "$src/tests/data/parity/models/gemma3/config.json"
said "no certificate"
run 3 "$dia" check ref --filter 'backend.queued/plans' --level 1 --certificate lacks.json
run 3 "$dia" check --verify lacks.json
ok "certificates that do not hold"

# The ladder: a rung that is asked for must be there.
run 3 "$dia" check ref --level 1 --filter 'backend.queued/*' --json
holds out '.[1] | .case == "backend.queued/plans" and .verdict == "skipped" and .required' -s
holds out '.[-1].summary.missing == 1 and (.[-1].summary | .skipped + .missing + .passed) == length - 1' -s
run 3 "$dia" check ref --level 1 --filter 'backend.queued/plans'
grep -q '^1 passed, 1 missing in' out || fail "$(cat out)"
run 0 "$dia" check cpu --filter 'backend.queued/plans'
grep -q 'no level is shown to hold' out || fail "$(cat out)"
run 0 "$dia" check cpu --filter 'backend.collective/*' --json
holds out '.[-1].summary | .level_reached == -1 and .level_lacks == "backend.collective/alone"' -s
ok "a rung that is missing is a failure, and one that was not tried does not hold"

run 0 "$dia" check cpu --list
! grep -v ' backend' out || fail "cases of other kinds are listed"
cp out cases
run 0 "$dia" check --list
[ "$(wc -l < out)" -gt "$(wc -l < cases)" ] && [ -z "$(grep -v -x -F -f out cases)" ] || fail "all cases: $(cat out)"
ok "the cases of a plugin, and all there are"

# What cannot be checked is said, and how.
run 2 "$dia" check
run 2 "$dia" check cpu --level 9
run 2 "$dia" check cpu --filter 'no/*'
said "no case to run matches"
run 2 "$dia" check nothing
said "no plugin 'nothing'"
DIAPASON_PLUGINS=here run 2 "$dia" check nothing
said "no plugin 'nothing', and plugin folder 'here' is relative"
run 2 "$dia" check ./nothing.so
said "no such file"
cp "$build/lib/diapason/plugins/dps-backend-cpu.so" alone.so
run 2 "$dia" check ./alone.so
said "write-manifest"
ok "usage"
