#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Gemma 3 270M in bf16, with a LoRA adapter that trains between the rollouts: recorded log-probs are those of training to the bit (a run refuses when
# they are not, see core/train/rollout_check.c), and what is sampled does not depend on how many are decoded together.
. "$(dirname "$0")/../lib.sh" "$1"

model=$(real_model gemma3-270m)
run 0 "$dia" bench train --model "$model" --objective grpo --dtype bfloat16 --steps 1 --tokens 90 --scored 6 --json
holds out '.answer_tokens >= 1 and .rollout_seconds > 0'
ok "three rollouts, each trained with a ratio of exactly 1"

printf '{"text":"The capital of France is"}\n{"text":"Pour changer de mot de passe,"}\n' > prompts.jsonl
answers=(--model "$model" --dtype bfloat16 --data prompts.jsonl --num-generations 4 --max-tokens 6 --temperature 1 --top-p 0.9 --json)
run 0 "$dia" generate "${answers[@]}" --batch 16
cp out together.jsonl
[ "$(wc -l < together.jsonl)" = 8 ] || fail "two prompts of four answers are eight"
[ "$(jq -c .ids together.jsonl | sort -u | wc -l)" -ge 4 ] || fail "answers to one prompt must differ"
run 0 "$dia" generate "${answers[@]}" --batch 3
same out together.jsonl
ok "sampled eight at once and three at once"
