#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# An interrupted run that is resumed ends in the same bytes as one that was not; a run whose inputs changed does not resume.
. "$(dirname "$0")/../lib.sh" "$1"

tiny_rows rows.jsonl 64
steps=120
tiny_recipe whole.yaml whole max_steps=$steps save_steps=50 lora_dropout=0.1
run 0 "$dia" train whole.yaml

# interrupt OUTPUT_DIR SIGNAL: send SIGNAL once some steps are logged; the exit code is left in $code.
interrupt() {
    local pid
    "$dia" train "$1.yaml" > "$1.log" 2>&1 &
    pid=$!
    for _ in $(seq 600); do
        [ "$(wc -l 2>/dev/null < "$1/metrics.jsonl" || echo 0)" -lt 5 ] || break
        kill -0 $pid 2>/dev/null || break
        sleep 0.02
    done
    kill "-$2" $pid 2>/dev/null || true
    code=0
    wait $pid || code=$?
}

for signal in INT TERM; do
    tiny_recipe cut-$signal.yaml cut-$signal max_steps=$steps save_steps=50 lora_dropout=0.1
    interrupt cut-$signal $signal
    [ "$code" = 75 ] || { cat cut-$signal.log >&2; fail "SIG$signal: exit code $code, expected 75 (interrupted and saved)"; }
    [ -n "$(find cut-$signal -maxdepth 1 -name 'checkpoint-*')" ] || fail "SIG$signal saved no checkpoint"
    run 0 "$dia" train cut-$signal.yaml --resume
    same whole/adapter_model.safetensors cut-$signal/adapter_model.safetensors
    diff <(jq -c 'select(has("loss")) | [.step, .loss, .grad_norm]' whole/metrics.jsonl) \
        <(jq -c 'select(has("loss")) | [.step, .loss, .grad_norm]' cut-$signal/metrics.jsonl) >&2 || fail "the logged steps differ"
done
ok "SIGINT and SIGTERM save, exit 75, and resume to the same bytes"

cp -r cut-INT again
rm -r again/checkpoint-$steps again/adapter_model.safetensors
tiny_recipe again.yaml again max_steps=$steps save_steps=50 lora_dropout=0.1
run 0 "$dia" train again.yaml --resume again/checkpoint-50
same whole/adapter_model.safetensors again/adapter_model.safetensors
ok "resume from a named checkpoint"

# Two runs in one folder would sweep and overwrite each other's checkpoints.
mkdir -p held/.checkpoint-50.tmp-1
tiny_recipe held.yaml held max_steps=2
for resume in '' --resume; do
    run 4 flock held "$dia" train held.yaml $resume
    said "held: another process is writing to it"
    exists held/.checkpoint-50.tmp-1
    absent held/recipe.lock.yaml held/metrics.jsonl
done
run 0 "$dia" train held.yaml
ok "a folder that another process trains into is left alone"

# The newest checkpoint is damaged: fall back to the one before it, by name.
cp -r cut-INT damaged
rm damaged/adapter_model.safetensors
tiny_recipe damaged.yaml damaged max_steps=$steps save_steps=50 lora_dropout=0.1
newest=damaged/checkpoint-$steps/adapter_model.safetensors
size=$(stat -c %s "$newest")
printf '\377' | dd of="$newest" bs=1 seek=$((size - 3)) conv=notrunc status=none
run 0 "$dia" train damaged.yaml --resume
said "checkpoint-$steps"
same whole/adapter_model.safetensors damaged/adapter_model.safetensors
ok "a damaged checkpoint is named and the one before it is used"

cp -r cut-INT changed
cp rows.jsonl rows.keep
tiny_rows rows.jsonl 64 9
tiny_recipe changed.yaml changed max_steps=$steps save_steps=50 lora_dropout=0.1
run 4 "$dia" train changed.yaml --resume
said rows.jsonl
cp rows.keep rows.jsonl
tiny_recipe changed.yaml changed max_steps=$steps save_steps=50 lora_dropout=0.1 learning_rate=0.5
run 4 "$dia" train changed.yaml --resume
said learning_rate
ok "changed rows or a changed recipe refuse to resume (4)"

# config.json decides the arithmetic as much as the weights do.
cp -r "$models/gemma3" base
chmod -R u+w base
tiny_recipe base.yaml based model_name_or_path=base max_steps=2 save_steps=1
run 0 "$dia" train base.yaml
jq '.rms_norm_eps = 1e-5' base/config.json > edited && cp edited base/config.json
run 4 "$dia" train base.yaml --resume
said config.sha256
ok "a changed config.json of the base refuses to resume (4)"

# A finished run has nothing left to do, and says no speeds of it.
tiny_recipe over.yaml over max_steps=2 save_steps=1
run 0 "$dia" train over.yaml
sha256sum over/adapter_* > before
run 0 "$dia" train over.yaml --resume
if grep -q per_second out err over/all_results.json; then fail "speeds of no step: $(cat err)"; fi
sha256sum -c --quiet before || fail "the finished adapter changed"
ok "a finished run resumes to itself"
