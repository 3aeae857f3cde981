#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# bench train --objective: steps of preference training are measured as train runs them, rollout and update apart, and nothing is left behind.
. "$(dirname "$0")/../lib.sh" "$1"
costly_under_sanitizer

export TMPDIR=$work
small=(--model "$models/gemma3" --steps 2 --tokens 20 --scored 8 --dtype float32 --json)
for objective in simpo dpo; do
    run 0 "$dia" bench train --objective $objective --rows 3 "${small[@]}"
    # a pair: the prompt once, and two answers
    holds out '.objective == $o and .steps == 2 and .tokens_per_step == 3 * (20 + 2 * 8) and .step_seconds > 0 and .update_share_of_peak > 0
        and .peak_rss_bytes > 1e6 and .rollout_seconds == null' --arg o $objective
done
run 0 "$dia" bench train --objective grpo --rows 2 "${small[@]}"
holds out '.answer_tokens >= 1 and .answer_tokens <= 8 and .rollout_seconds > 0 and .update_seconds > 0 and .rollout_share_of_peak > 0
    and ((.rollout_seconds + .update_seconds) / .step_seconds | . > 0.999 and . < 1.001)'
# a group: its prompt once, and what was answered, in training and in the numbers
holds out '.tokens_per_step - 2 * 20 - 2 * 8 * .answer_tokens | . < 0.001 and . > -0.001'
[ -z "$(find "$work" -maxdepth 1 -name 'diapason-bench-*')" ] || fail "bench left its folder"
ok "bench train --objective: simpo, dpo, grpo"

run 0 "$dia" bench abi --model "$models/gemma3" --rows 2 --steps 2 --tokens 20 --scored 8 --dtype float32 --json
# per call: looking up its place, views, the breadcrumb, the call itself; on a tiny model no small share, on a real one far below 1 %
holds out '.calls_per_step > 100 and .abi_share > 0 and .host_share >= .abi_share and .abi_share < 0.5 and .abi_nanoseconds_per_call < 20000'
ok "bench abi"

run 2 "$dia" bench train --model "$models/gemma3" --objective ppo
said "--objective is 'ppo', expected simpo, dpo or grpo"
run 2 "$dia" bench train --model "$models/gemma3" --objective grpo --profile
said "neither --profile nor --device"
ok "what is refused"
