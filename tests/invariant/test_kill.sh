#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# kill -9 at random moments, then --resume: the adapter and the last checkpoint end in the same bytes as an uninterrupted run.
. "$(dirname "$0")/../lib.sh" "$1"
costly_under_sanitizer

kills=6 seeds=1
[ "$full" = 0 ] || kills=40 seeds=3
steps=60
common=("max_steps=$steps" save_steps=6 save_total_limit=2 lora_dropout=0.1 logging_steps=4 eval_strategy=steps eval_steps=3
    load_best_model_at_end=true)
# make_recipe NAME STAGE
make_recipe() {
    rows="$work/$2-rows.jsonl" tiny_recipe "$1.yaml" "$1" stage="$2" "${common[@]}"
    printf 'eval_datasets:\n  - path: %s-eval.jsonl\n' "$2" >> "$1.yaml"
}
# What a run is: everything it wrote but times. trainer_state.json and manifest.json hold times, or digests of them.
timeless() { jq -c 'with_entries(select(.key | test("runtime|per_second") | not))' "$1/metrics.jsonl"; }

# kill_and_resume STAGE SEED
kill_and_resume() {
    local stage=$1 cut=cut-$1-$2 whole=whole-$1 killed=0 ms code pid last file
    RANDOM=$(($2 * 1009))
    make_recipe "$cut" "$stage"
    for _ in $(seq $kills); do
        "$dia" train "$cut.yaml" --resume > log 2>&1 &
        pid=$!
        ms=$((1 + RANDOM * whole_ms / 3 / 32768)) # a third of a run: several kills before it is through
        sleep "$((ms / 1000)).$(printf '%03d' $((ms % 1000)))"
        if kill -9 $pid 2>/dev/null; then killed=$((killed + 1)); fi
        code=0
        wait $pid 2>/dev/null || code=$?
        case $code in 0 | 137) ;; *) cat log >&2; fail "after a kill, --resume left with $code" ;; esac
        [ $code != 0 ] || break
    done
    run 0 "$dia" train "$cut.yaml" --resume
    same "$whole/adapter_model.safetensors" "$cut/adapter_model.safetensors"
    last=$(cd "$whole" && ls -d checkpoint-* | sort -t- -k2 -n | tail -n 1)
    exists "$cut/$last"
    for file in $(cd "$whole/$last" && find . -name '*.safetensors'); do
        same "$whole/$last/$file" "$cut/$last/$file"
    done
    [ "$(find "$cut" -maxdepth 1 -name 'checkpoint-*' | wc -l)" -le 2 ] || fail "save_total_limit was not kept"
    [ -z "$(find "$cut" -name '*.tmp*')" ] || fail "temporary files were left: $(find "$cut" -name '*.tmp*')"
    # Every line is logged once, with the uninterrupted run's values.
    diff <(timeless "$whole") <(timeless "$cut") >&2 || fail "the logged lines differ"
    ok "$stage: killed $killed times, the same bytes"
}

for stage in simpo dpo sft; do
    rows_for $stage $stage-rows.jsonl 48
    rows_for $stage $stage-eval.jsonl 16 2
    make_recipe whole-$stage $stage
    start=$(date +%s%N)
    run 0 "$dia" train whole-$stage.yaml
    whole_ms=$((($(date +%s%N) - start) / 1000000))
    for seed in $(seq $seeds); do
        kill_and_resume $stage "$seed"
    done
done
mv whole-sft whole
sed 's/^output_dir: .*/output_dir: whole/' whole-sft.yaml > whole.yaml

# The end of a run, from its last checkpoint on: killed before each rename it makes, the adapter is the old one, none, or whole.
command -v strace >/dev/null && strace -qq -o /dev/null -e trace=fsync -e inject=fsync:error=EIO true 2>/dev/null || exit 0
export ASAN_OPTIONS=${ASAN_OPTIONS:-}:detect_leaks=0 # the leak checker cannot run under a tracer
killed=0
for k in $(seq 40); do
    rm -rf end
    cp -r whole end
    rm end/adapter_model.safetensors end/adapter_config.json end/report.html
    sed 's/^output_dir: .*/output_dir: end/' whole.yaml > end.yaml
    code=0
    { strace -f -qq -o trace -e trace=rename,renameat,renameat2 -e inject=rename,renameat,renameat2:signal=KILL:when="$k" \
        "$dia" train end.yaml --resume > log 2>&1 || code=$?; } 2>/dev/null
    grep -q 'killed by SIGKILL' trace || break
    killed=$((killed + 1))
    [ ! -e end/adapter_model.safetensors ] || same whole/adapter_model.safetensors end/adapter_model.safetensors
    run 0 "$dia" train end.yaml --resume
    same whole/adapter_model.safetensors end/adapter_model.safetensors
    same whole/adapter_config.json end/adapter_config.json
    exists end/report.html
    [ -z "$(find end -name '*.tmp*')" ] || fail "temporary files were left: $(find end -name '*.tmp*')"
done
[ "$code" = 0 ] && [ $killed -gt 4 ] || fail "the undisturbed end left with $code after $killed kills: $(cat log)"
ok "the end of a run, killed before each of its $killed renames"
