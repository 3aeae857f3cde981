#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# LoRA SFT of a tiny model from recipe to adapter: what is written, and that it learns.
. "$(dirname "$0")/../lib.sh" "$1"

tiny_rows rows.jsonl 32
tiny_rows eval.jsonl 8 2
tiny_recipe recipe.yaml run max_steps=24 save_steps=8 save_total_limit=2 learning_rate=0.01
run 0 "$dia" train recipe.yaml

exists run/metrics.jsonl run/trainer_state.json run/recipe.lock.yaml run/README.md run/report.html run/runs \
    run/adapter_config.json run/adapter_model.safetensors run/checkpoint-16 run/checkpoint-24
absent run/checkpoint-8
[ -n "$(find run/runs -name 'events.out.tfevents.*')" ] || fail "no TensorBoard event file"
[ -z "$(find run -name '*.tmp*')" ] || fail "temporary files were left: $(find run -name '*.tmp*')"
cp -r run resumed
cp -r run/checkpoint-16 resumed/checkpoint-8 # as after a kill between the last checkpoint and the end of the first
run 0 "$dia" train recipe.yaml --set output_dir=resumed --resume
absent resumed/checkpoint-8
exists resumed/checkpoint-16 resumed/checkpoint-24
ok "the output folder holds what was promised, and no checkpoint too many after a resume"

[ "$(jq -c 'select(has("loss"))' run/metrics.jsonl | wc -l)" = 24 ] || fail "expected one metrics line per logging step"
jq -c 'select(has("loss"))' run/metrics.jsonl > steps.jsonl
for key in loss grad_norm learning_rate entropy mean_token_accuracy num_tokens epoch step; do
    holds steps.jsonl "all(has(\"$key\"))" -s
done
holds steps.jsonl '[.[].step] == [range(1; 25)]' -s
holds steps.jsonl '(.[20:] | map(.loss) | add) < 0.9 * (.[:4] | map(.loss) | add)' -s
holds run/trainer_state.json '.global_step == 24 and .max_steps == 24 and (.log_history | length) >= 24'
ok "the loss falls and every key of the trainer's log is there"

holds run/adapter_config.json '.peft_type == "LORA" and .r == 4 and .lora_alpha == 8 and .task_type == "CAUSAL_LM" and .bias == "none"
    and .inference_mode and (.target_modules | length) == 7'
digest=$(sha256sum rows.jsonl | cut -d' ' -f1)
for entry in 'base.sha256": "[0-9a-f]\{64\}"' "datasets\[0\].sha256\": \"$digest\"" 'device.plugin dps.cpu": "[0-9a-f]\{64\}"' \
    'plugin dps.sft": "[0-9a-f]\{64\}"' 'plugin dps.lora": "[0-9a-f]\{64\}"' 'isa": "..*"' 'seed": "7"' 'dtype": "f32"'; do
    grep -q "^  \"$entry" run/recipe.lock.yaml || fail "recipe.lock.yaml has no $entry"
done
grep -q 'base_model' run/README.md || fail "the model card names no base model"
grep -q '<svg' run/report.html || fail "report.html has no chart"
! grep -q '<dt>Reward' run/report.html || fail "report.html has a reward, and nothing was judged"
! grep -q -E '(src|href)="https?:' run/report.html || fail "report.html is not self-contained"
ok "adapter, lock, model card and report"

for model in llama qwen2 qwen3 mistral gemma2; do
    tiny_recipe other.yaml "run-$model" model_name_or_path="$models/$model" max_steps=2
    run 0 "$dia" train other.yaml
    exists "run-$model/adapter_model.safetensors"
done
ok "all six architectures train"

tiny_recipe eval.yaml run-eval max_steps=8 eval_strategy=steps eval_steps=4 load_best_model_at_end=true metric_for_best_model=eval_loss
printf 'eval_datasets:\n  - path: eval.jsonl\n' >> eval.yaml
run 0 "$dia" train eval.yaml
[ "$(jq -c 'select(has("eval_loss"))' run-eval/metrics.jsonl | wc -l)" = 2 ] || fail "expected two evaluations"
for key in loss runtime samples_per_second steps_per_second entropy mean_token_accuracy num_tokens; do
    holds <(jq -c 'select(has("eval_loss"))' run-eval/metrics.jsonl) "all(has(\"eval_$key\"))" -s
done
holds <(tail -n 1 run-eval/metrics.jsonl) 'has("train_runtime") and has("train_samples_per_second") and has("train_steps_per_second")
    and has("total_flos") and has("train_loss")'
exists run-eval/all_results.json run-eval/train_results.json run-eval/eval_results.json
holds run-eval/trainer_state.json '.best_metric != null and (.best_model_checkpoint | test("checkpoint-[48]$"))'
tiny_recipe lost.yaml run-lost max_steps=8 eval_strategy=steps eval_steps=4 load_best_model_at_end=true metric_for_best_model=lost
printf 'eval_datasets:\n  - path: eval.jsonl\n' >> lost.yaml
run 2 "$dia" train lost.yaml
said 'metric_for_best_model: an evaluation has no eval_lost; it has eval_loss, '
said 'eval_mean_token_accuracy'
[ ! -s run-lost/metrics.jsonl ] || fail "found only after training: $(cat run-lost/metrics.jsonl)"
run 0 "$dia" train lost.yaml --set metric_for_best_model=entropy --set overwrite_output_dir=true
holds run-lost/trainer_state.json '.best_metric > 1 and .best_metric < 5'
# The best one is damaged when the run ends: the last weights are written, and it is said why (the first evaluation counts as best here).
run 0 "$dia" train eval.yaml --set output_dir=run-best --set eval_steps=2 --set save_steps=2 --set greater_is_better=true
holds run-best/trainer_state.json '.best_model_checkpoint == "checkpoint-2"'
same run-best/adapter_model.safetensors run-best/checkpoint-2/adapter_model.safetensors
cp run-best/checkpoint-8/adapter_model.safetensors last.safetensors
rm -r run-best/checkpoint-8
printf 'x' | dd of=run-best/checkpoint-2/adapter_model.safetensors bs=1 seek=5000 conv=notrunc status=none
run 0 "$dia" train eval.yaml --set output_dir=run-best --set eval_steps=2 --set save_steps=2 --set greater_is_better=true --resume
said "load_best_model_at_end: the best evaluation's checkpoint-2 is not usable, so the weights of step 8 are written: "
same run-best/adapter_model.safetensors last.safetensors
ok "evaluation during training, best checkpoint; a metric that no evaluation has is found at the start"

# Rows end to end, cut at max_length: the bytes of training on rows that were cut so by hand; the plan bounds it.
tiny_recipe wrapped.yaml wrapped packing=true packing_strategy=wrapped max_length=40 shuffle=false max_steps=6 lora_dropout=0
run 0 "$dia" plan wrapped.yaml
run 0 "$dia" train wrapped.yaml --log-level debug
within_plan err
! grep -q 'the plan was too small' err || fail "the arena grew"
jq -s -c '([.[].input_ids] | add) as $i | ([.[].labels] | add) as $l | range(0; $i | length; 40) as $k | {input_ids: $i[$k:$k + 40], labels: $l[$k:$k + 40]}' \
    rows.jsonl > cut.jsonl
rows=cut.jsonl tiny_recipe cut.yaml cut shuffle=false max_steps=6 lora_dropout=0
run 0 "$dia" train cut.yaml
same wrapped/adapter_model.safetensors cut/adapter_model.safetensors
ok "packing_strategy: wrapped"

tiny_recipe override.yaml run-override
run 0 "$dia" train override.yaml --set max_steps=1 --set output_dir=elsewhere
exists elsewhere/adapter_model.safetensors
absent run-override
ok "--set wins over the recipe"

# Arguments are UTF-8 whatever the locale says; bytes that are none are refused.
for locale in C C.UTF-8 fr_FR; do
    run 0 env LC_ALL=$locale "$dia" train override.yaml --set "output_dir=sortie à côté/$locale" --set max_steps=1
    exists "sortie à côté/$locale/adapter_model.safetensors"
done
run 2 "$dia" train override.yaml --set $'output_dir=c\xf4t\xe9'
said "not valid UTF-8"
ok "accents on the command line"
