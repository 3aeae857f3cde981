#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Every objective, adapter, format and reward of the tree passes `diapason check`: with the parameters it cannot do without, and files to read where it
# cannot write. With --full also the cases that take minutes.
. "$(dirname "$0")/../lib.sh"
costly_under_sanitizer

# A GGUF of two texts, a list and two tensors, byte by byte.
le() { # BYTES NUMBER
    local i n=$2
    for ((i = 0; i < $1; i++)); do
        printf '%b' "\\x$(printf %02x $((n & 255)))"
        n=$((n >> 8))
    done
}
text() { le 8 ${#1}; printf %s "$1"; }
{
    printf GGUF; le 4 3; le 8 2; le 8 3
    text general.architecture; le 4 8; text tiny
    text tiny.block_count; le 4 4; le 4 7
    text tiny.words; le 4 9; le 4 8; le 8 2; text one; text "two three"
    text a.weight; le 4 2; le 8 4; le 8 3; le 4 0; le 8 0
    text b; le 4 1; le 8 8; le 4 0; le 8 64
} > tiny.gguf
truncate -s $((($(stat -c %s tiny.gguf) + 31) / 32 * 32)) tiny.gguf
head -c 96 /dev/zero | tr '\0' '>' >> tiny.gguf

run 0 "$dia" train "$src/tools/examples/tiny-sft.yaml" --quiet --set output_dir=run --set max_steps=1 --set save_steps=1 \
    --set model_name_or_path="$src/tests/data/parity/models/gemma3" --set 'datasets=[{path: '"$src"'/tools/examples/tiny-rows.jsonl}]'

options=(--quick)
[ "$full" = 0 ] || options=()
n=0
for module in "$build"/lib/diapason/plugins/dps-{algorithm,format}-*.so; do
    more=()
    case $(basename "$module" .so) in
    dps-algorithm-reward_length) more=(--args 'min: 3, max: 10, soft: 4') ;;
    dps-algorithm-reward_regex) more=(--args 'pattern: "([0-9]+)", mode: capture') ;;
    dps-algorithm-reward_terms) more=(--args 'required: [answer, the], forbidden: know, column: list') ;;
    dps-algorithm-reward_process) more=(--args "command: $src/tools/examples/reward.sh") ;;
    dps-format-gguf) more=(--sample tiny.gguf) ;;
    dps-format-peft) more=(--sample run/checkpoint-1) ;;
    dps-format-checkpoint) more=(--sample run/checkpoint-1) ;;
    esac
    run 0 "$dia" check "$module" "${options[@]}" "${more[@]}"
    ! grep '^skipped.*Hint: --' out || fail "$module was not checked"
    n=$((n + 1))
done
[ $n -ge 20 ] || fail "only $n plugins were found"
