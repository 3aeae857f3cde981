#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A run that evaluates, keeps the best checkpoint and logs every tenth step, interrupted again and again wherever it happens to be: what it
# ends in is what the uninterrupted run ends in, line by line of metrics.jsonl too.
. "$(dirname "$0")/../lib.sh" "$1"

tiny_rows rows.jsonl 48
tiny_rows eval.jsonl 16 2
steps=60
make_recipe() {
    tiny_recipe "$1.yaml" "$1" max_steps=$steps logging_steps=10 save_steps=12 eval_strategy=steps eval_steps=6 load_best_model_at_end=true \
        greater_is_better=true learning_rate=0.01 lora_dropout=0.1 save_total_limit=2
    printf 'eval_datasets:\n  - path: eval.jsonl\n' >> "$1.yaml"
}
make_recipe whole
run 0 "$dia" train whole.yaml
# greater_is_better turns the loss around, so that the best of the saved steps is the first: 12, though 6 was higher and is not saved.
holds whole/trainer_state.json '.best_global_step == 12 and .best_model_checkpoint == "checkpoint-12"'
[ "$(jq -c 'select(has("eval_loss"))' whole/metrics.jsonl | wc -l)" = 10 ] || fail "expected 10 evaluations"
exists "whole/checkpoint-$steps" "whole/$(jq -r .best_model_checkpoint whole/trainer_state.json)"
same whole/adapter_model.safetensors "whole/$(jq -r .best_model_checkpoint whole/trainer_state.json)/adapter_model.safetensors"
ok "the best saved step is what is written, and it stays although save_total_limit is reached"

# Everything a line says but how long it took.
timeless() { jq -c 'with_entries(select(.key | test("runtime|per_second") | not))' "$1/metrics.jsonl"; }
# It is there, or the run is over.
reached() { at_step cut "$1" || ! kill -0 $pid 2>/dev/null; }
wanted=2 # interruptions; a run that came to its end before them is begun again
[ "$full" = 0 ] || wanted=6
RANDOM=77
make_recipe cut
interrupted=0
reach=0
for try in $(seq $((20 * wanted))); do
    [ $interrupted -lt $((4 * wanted)) ] || break
    "$dia" train cut.yaml --resume > log 2>&1 &
    pid=$!
    reach=$((reach + RANDOM % 12)) # the step it is in already: while it still loads
    await reached $reach
    sleep 0.0$((RANDOM % 10))
    signal=$([ $((try % 2)) = 0 ] && echo TERM || echo INT)
    kill "-$signal" $pid 2>/dev/null || true
    code=0
    wait $pid || code=$?
    case $code in
    75)
        grep -q 'saved: go on with --resume' log || { cat log >&2; fail "75 without a word"; }
        interrupted=$((interrupted + 1))
        reach=$(step_of cut)
        ;;
    0)
        [ $interrupted -lt $wanted ] || break
        rm -rf cut
        interrupted=0 reach=0
        ;;
    130 | 143) ;; # before the run had begun to listen
    *) cat log >&2; fail "SIG$signal: exit code $code" ;;
    esac
done
[ $interrupted -ge $wanted ] || fail "interrupted only $interrupted times"
run 0 "$dia" train cut.yaml --resume
same whole/adapter_model.safetensors cut/adapter_model.safetensors
same "whole/checkpoint-$steps/optimizer.safetensors" "cut/checkpoint-$steps/optimizer.safetensors"
diff <(timeless whole) <(timeless cut) >&2 || fail "metrics.jsonl tells another story"
diff <(jq '[.best_metric, .best_global_step]' whole/trainer_state.json) <(jq '[.best_metric, .best_global_step]' cut/trainer_state.json)
ok "interrupted $interrupted times: the same adapter, moments, evaluations and lines"

# Interrupted within an evaluation: it is owed, saved so, and made up for.
make_recipe slow
sed -i 's/eval_steps: .*/eval_steps: 12/' slow.yaml
for _ in $(seq 400); do cat eval.jsonl; done > long.jsonl
sed -i 's/eval.jsonl/long.jsonl/' slow.yaml
"$dia" train slow.yaml > log 2>&1 &
pid=$!
await at_step slow 12
sleep 0.5
kill -INT $pid
code=0
wait $pid || code=$?
[ $code = 75 ] || { cat log >&2; fail "interrupted in an evaluation: exit code $code"; }
holds slow/checkpoint-12/run_state.json .owes_eval
ok "an interrupted evaluation leaves a checkpoint that owes it"
sed -i 's/long.jsonl/eval.jsonl/' slow.yaml
run 4 "$dia" train slow.yaml --resume
said eval_datasets
ok "other rows to evaluate on are another run"

# A second signal ends it at once: in a step that takes seconds, the first has had no effect yet.
rows=long.jsonl tiny_recipe twice.yaml twice max_steps=2 per_device_train_batch_size=64 gradient_accumulation_steps=100
"$dia" train twice.yaml > log 2>&1 &
pid=$!
await at_step twice 1
kill -INT $pid
sleep 0.2
kill -TERM $pid
code=0
wait $pid || code=$?
[ $code = 130 ] || { cat log >&2; fail "a second signal: exit code $code, expected 130"; }
grep -q 'a second signal stops at once' log || fail "the first signal says nothing"
[ -z "$(find twice -name 'checkpoint-*')" ] || fail "a second signal still saved"
ok "a second signal leaves with 130"
run 0 "$dia" train twice.yaml --set per_device_train_batch_size=1 --set gradient_accumulation_steps=1
said "was stopped by a second signal in step 1"
