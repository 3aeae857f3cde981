# SPDX-License-Identifier: Apache-2.0
# steps.sh: what test_train.sh asks of the double and test_gpu.sh of a GPU, sourced after lib.sh: training runs beside ref's.

losses() { jq -s -c '[.[] | select(.loss != null) | .loss]' "$1/metrics.jsonl"; }

# beside_ref NAME STEPS LEAST MOST KEY=VALUE…: a run of the tiny Gemma 3 on cuda, every op there, and one on ref: each pair of losses is between LEAST
# and MOST apart. Runs with what is in the environment; what a double saw of the first is in `report`.
beside_ref() {
    local name=$1 steps=$2 least=$3 most=$4
    shift 4
    tiny_recipe "$name.yaml" "$name" device='[cuda]' strict_device=true max_steps="$steps" save_steps=100 "$@"
    tiny_recipe "$name-ref.yaml" "$name-ref" device='[ref]' max_steps="$steps" save_steps=100 "$@"
    DOUBLE_CUDA_REPORT=$work/report run 0 "$dia" train "$name.yaml"
    run 0 "$dia" train "$name-ref.yaml"
    losses "$name" > "$name.losses"
    losses "$name-ref" > ref.losses
    jq -n -e --slurpfile a "$name.losses" --slurpfile b ref.losses --argjson n "$steps" --argjson least "$least" --argjson most "$most" \
        '[$a[0], $b[0]] | transpose | length >= $n and all((.[0] - .[1]) | fabs | . >= $least and . <= $most)' > /dev/null ||
        fail "$name: losses differ: $(cat "$name.losses" ref.losses)"
}
