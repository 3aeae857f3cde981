#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Ten steps of SFT, DPO, SimPO and reward training on Gemma 3 270M from one PEFT adapter, rows in file order, f32: the losses follow TRL's within
# 1 % and the final adapters point the same way. PEFT loads the reward model and gives its scores. With tools/test --full only.
. "$(dirname "$0")/../lib.sh" "$1"

[ "$full" != 0 ] || skip "40 steps of TRL take minutes: tools/test --full"
python=${DIAPASON_PEER_PYTHON:-python3}
"$python" -c 'import torch, transformers, peft, trl, gguf' 2>/dev/null || skip "no torch, transformers, peft, trl and gguf in $python (set DIAPASON_PEER_PYTHON)"
model=$(real_model gemma3-270m)
peer() { HF_HUB_OFFLINE=1 PYTHONWARNINGS=ignore run 0 "$python" "$src/tests/peer/trajectory.py" "$@"; }

jq -c -R -s '{text: .}' "$src/LICENSE" > text.jsonl
run 0 "$dia" tokenize --model "$model" --data text.jsonl --out ids.jsonl
peer run "$model" ids.jsonl "$work"
for stage in sft dpo simpo reward; do
    rows=$work/$stage.jsonl
    keys=()
    case $stage in
    dpo) keys=(beta=0.1) ;;
    simpo) keys=(beta=2.0 simpo_gamma=1.0 cpo_alpha=0.0) ;;
    reward)
        head -n 4 reward.jsonl > heldout.jsonl
        keys=(center_rewards_coefficient=0.01 eval_strategy=steps eval_steps=10 "eval_datasets=$work/heldout.jsonl")
        ;;
    esac
    tiny_recipe recipe.yaml "$stage-run" model_name_or_path="$model" stage=$stage adapter_init="$work/$stage-init" lora_r=- lora_alpha=- lora_target_modules=- \
        shuffle=false max_steps=10 per_device_train_batch_size=2 gradient_accumulation_steps=1 learning_rate=0.0005 warmup_steps=2 weight_decay=0.01 \
        max_grad_norm=1.0 max_length=256 save_steps=10 "${keys[@]}"
    run 0 "$dia" train recipe.yaml
done
peer compare "$work"
cat out
peer scores "$work"
cat out
ok "losses follow TRL's, the adapters agree, and PEFT's reward is ours"
