#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# R8 through the command line: an allocation that fails ends a verb with exit code 1, a word of memory and nothing written, or changes nothing of
# what it writes. Places all over each run, with --full more of them; the sanitizer's build looks for leaks and stray reads.
. "$(dirname "$0")/../lib.sh" "$1"

places=8
[[ $build != *sanitize* ]] || places=4
[ "$full" = 0 ] || places=300
tiny_model "$work/model" '{}'
base=$models/gemma3
printf '{"text":"ab c"}\n{"messages":[{"role":"user","content":"ab"},{"role":"assistant","content":"c"}]}\n' > text.jsonl
printf '{"ids":[1,5,6,7]}\n{"ids":[1,9]}\n' > ids.jsonl
tiny_rows rows.jsonl 4
tiny_recipe recipe.yaml run max_steps=2 save_steps=1
run 0 "$dia" train recipe.yaml
cp -r run adapter

# attempt VERB …: with the k-th allocation failing, 0 with none.
attempt() {
    rm -rf written run
    code=0
    DIAPASON_TEST_ALLOC_FAIL=$k "$dia" "$@" > out 2> err < /dev/null || code=$?
}
# What a verb leaves, without times and the resident bytes that `plan` finds.
result() { sed '/"fixed"/d; /"total"/d' out; [ ! -e written ] || sha256sum written; [ ! -d run ] || sha256sum run/*.safetensors run/adapter_config.json run/checkpoint-*/*.safetensors; }

# judge VERB …: the attempt ended as it should; the result of one that succeeded is that of the undisturbed run.
judge() {
    case $code in
    0) diff undisturbed <(result) >&2 || fail "$*: allocation $k failed without a word, and the result is another" ;;
    1)
        grep -q memory err || { cat err >&2; fail "$*: allocation $k failed, and that is not what is said"; }
        [ ! -e written ] && [ -z "$(find . -name '*.tmp-*')" ] || fail "$*: allocation $k failed, and something is left: $(find written run)"
        met=$((met + 1))
        ;;
    *) cat err >&2; fail "$*: allocation $k: exit code $code" ;;
    esac
}

# every VERB …: first at places ever further apart, up to where no failure is met, then at some all over the run.
every() {
    local step met=0 i
    k=0
    attempt "$@"
    [ $code = 0 ] || { cat err >&2; fail "$*: exit code $code"; }
    result > undisturbed
    for ((k = 2; ; k *= 2)); do
        attempt "$@"
        judge "$@"
        [ $code != 0 ] || break
    done
    step=$((k / places + 1))
    for ((i = 0; i < places; i++)); do
        k=$((1 + i * step + i % 5))
        attempt "$@"
        judge "$@"
    done
    [ $met -gt 2 ] || fail "$*: only $met failures were met"
    ok "${*:1:2}: $met failures met"
}
every data check recipe.yaml --json
every tokenize --model model --data text.jsonl --out written
every score --model "$base" --adapter adapter --data ids.jsonl --out written
every generate --model "$base" --data ids.jsonl --max-tokens 3 --json --out written
every eval --model "$base" --suite ids.jsonl --json
every plan recipe.yaml --json
every explain recipe.yaml --json
every train recipe.yaml --quiet
