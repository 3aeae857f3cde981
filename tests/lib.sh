# SPDX-License-Identifier: Apache-2.0
# lib.sh: what the shell tests share; sourced with the build folder as $1. Gives $dia, $src, $data, a $work folder that goes away, tiny
# rows and recipes, and checks that say what they saw. A test fails at its first false check.
set -euo pipefail
build=$(cd "$1" && pwd)
src=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
data=$src/tests/data
dia=$build/bin/diapason
models=$data/parity/models
full=${DIAPASON_TEST_FULL:-0}
cache=${DIAPASON_CACHE:-${HOME:-/root}/.cache/diapason}
export NO_COLOR=1 LC_ALL=C.UTF-8
unset DIAPASON_JSON DIAPASON_QUIET DIAPASON_LOG_LEVEL || true

work=$(mktemp -d "${TMPDIR:-/tmp}/diapason-test-XXXXXX")
trap 'rm -rf "$work"' EXIT
cd "$work"
export XDG_STATE_HOME=$work/.state # what was learned of plugins is this test's own

fail() {
    printf 'FAILED: %s\n' "$*" >&2
    exit 1
}
ok() { printf 'ok: %s\n' "$*"; }
skip() {
    printf 'skipped: %s\n' "$*"
    exit 77
}
# What takes a minute and more under a sanitizer, and is covered there by other tests, runs so with --full only.
costly_under_sanitizer() { [[ $build != *sanitize* || $full != 0 ]] || skip "under a sanitizer with tools/test --full only"; }
command -v jq >/dev/null 2>&1 || fail "jq is missing: run tools/deps --test"
[ -x "$dia" ] || fail "there is no $dia: run tools/build"

# run CODE COMMAND …: the command must leave with CODE; its output is in $work/out and $work/err. Shown when it does not.
run() {
    local want=$1 got=0
    shift
    "$@" > "$work/out" 2> "$work/err" || got=$?
    if [ "$got" != "$want" ]; then
        tail -n 30 "$work/out" "$work/err" >&2
        fail "exit code $got, expected $want: $*"
    fi
}

# said TEXT: the last command's standard error holds TEXT.
said() { grep -q -F -- "$1" "$work/err" || { cat "$work/err" >&2; fail "standard error does not say '$1'"; }; }

# await COMMAND …: until it is true; on a busy machine that may take a minute or two.
await() {
    local i
    for ((i = 0; i < 6000; i++)); do
        if "$@"; then return 0; fi
        sleep 0.02
    done
    fail "not true after two minutes: $*"
}
# step_of FOLDER: the step of the run that writes there, by its breadcrumb; at_step FOLDER STEP: it is in this step or behind it.
step_of() { echo "$((10#0$(od -An -tu8 -j16 -N8 "$1/breadcrumb" 2>/dev/null | tr -d ' ')))"; }
at_step() { [ "$(step_of "$1")" -ge "$2" ]; }

same() { cmp -s "$1" "$2" || fail "$1 and $2 differ"; }
exists() { local f; for f; do [ -e "$f" ] || fail "$f was not written"; done; }
absent() { local f; for f; do [ ! -e "$f" ] || fail "$f was written and should not have been"; done; }

# holds FILE JQ_EXPRESSION [JQ_OPTIONS]: the expression is true of FILE.
holds() {
    local file=$1 what=$2
    shift 2
    jq -e "$@" "$what" "$file" >/dev/null || { head -c 2000 "$file" >&2; fail "$file: not true: $what"; }
}

# What the makers of tiny rows share: `draw` is the next state of their random numbers (a row's first act), `then` the token after id (and add) of a
# pattern that a tiny model can learn, or with another factor not, `prompt` the ids of a row's prompt; `last` is its last one.
rows_awk='
    BEGIN { state = seed * 7919 + 12345 }
    function draw() { state = (state * 1103515245 + 12345) % 2147483648 }
    function then(id, factor, add) { return 5 + (id * factor + add) % 70 }
    function prompt(row,    i, ids) {
        last = 5 + int(state / 256) % 60; ids = "1"
        for (i = 0; i < 4 + int(state / 65536) % 9; i++) ids = ids "," (last = then(last, 3, row % 5 + i % 3))
        return ids
    }'

# tiny_rows FILE COUNT [SEED]: pre-tokenized rows for the tiny models (at least 80 ids), the first third not trained.
tiny_rows() {
    awk -v count="$2" -v seed="${3:-1}" "$rows_awk"' BEGIN {
        for (row = 0; row < count; row++) {
            draw(); n = 9 + int(state / 65536) % 24
            ids = "1"; labels = "-100"; id = 5 + int(state / 1024) % 60
            for (i = 1; i < n; i++) {
                ids = ids "," (id = then(id, 3, row % 5 + i % 3))
                labels = labels "," (i < n / 3 ? -100 : id)
            }
            printf "{\"input_ids\":[%s],\"labels\":[%s]}\n", ids, labels
        }
    }' > "$1"
}

# tiny_pairs FILE COUNT [SEED]: pre-tokenized preference pairs; the chosen answers follow a pattern, the rejected ones another.
tiny_pairs() {
    awk -v count="$2" -v seed="${3:-1}" "$rows_awk"' BEGIN {
        for (row = 0; row < count; row++) {
            draw(); ids = prompt(row); id = last; chosen = rejected = ""
            for (i = 0; i < 3 + int(state / 1024) % 9; i++) chosen = chosen (i ? "," : "") (id = then(id, 3, i % 3))
            for (i = 0; i < 3 + int(state / 4096) % 12; i++) rejected = rejected (i ? "," : "") (id = then(id, 5, 1 + i % 2))
            printf "{\"prompt_input_ids\":[%s],\"chosen_input_ids\":[%s],\"rejected_input_ids\":[%s]}\n", ids, chosen, rejected
        }
    }' > "$1"
}

# tiny_prompts FILE COUNT [SEED]: pre-tokenized prompts, to be answered while a run trains.
tiny_prompts() {
    awk -v count="$2" -v seed="${3:-1}" "$rows_awk"' BEGIN {
        for (row = 0; row < count; row++) {
            draw()
            printf "{\"input_ids\":[%s],\"number\":%d}\n", prompt(row), row
        }
    }' > "$1"
}

# tiny_groups FILE COUNT [SEED]: pre-tokenized prompts with 2 to 5 judged answers each; what follows the pattern is accurate, tone is another matter
# and not always judged.
tiny_groups() {
    awk -v count="$2" -v seed="${3:-1}" "$rows_awk"' BEGIN {
        for (row = 0; row < count; row++) {
            draw()
            printf "{\"prompt_input_ids\":[%s],\"completions\":[", prompt(row)
            for (k = 0; k < 2 + row % 4; k++) {
                ids = ""; id = last; right = (k + row) % 2
                for (i = 0; i < 2 + (k * 3 + row) % 7; i++) ids = ids (i ? "," : "") (id = then(id, right ? 3 : 5, i % 3))
                printf "%s{\"input_ids\":[%s],\"scores\":{\"accuracy\":%d,\"tone\":%s}}", k ? "," : "", ids, right, (k + row) % 3 ? (k * 7 + row) % 10 / 10 : "null"
            }
            printf "],\"weights\":{\"accuracy\":1,\"tone\":0.25}}\n"
        }
    }' > "$1"
}

# rows_for STAGE FILE COUNT [SEED]: rows as the stage takes them.
rows_for() {
    case $1 in
    simpo | dpo | reward) tiny_pairs "${@:2}" ;;
    grpo) tiny_groups "${@:2}" ;;
    *) tiny_rows "${@:2}" ;;
    esac
}

# dropout_for STAGE: 0.1, but 0 for stages that compare the policy with the one that answered.
dropout_for() { [ "$1" = grpo ] && echo 0 || echo 0.1; }

# tiny_recipe FILE OUTPUT_DIR [KEY=VALUE …]: LoRA SFT of the tiny Gemma 3 on rows.jsonl; later keys replace earlier ones. $rewards, where set: the
# items of reward_funcs.
tiny_recipe() {
    local file=$1 out=$2 pair
    shift 2
    declare -A keys=([model_name_or_path]=$models/gemma3 [stage]=sft [dtype]=float32 [output_dir]=$out [per_device_train_batch_size]=4
        [gradient_accumulation_steps]=2 [max_steps]=8 [learning_rate]=0.002 [lr_scheduler_type]=cosine [warmup_steps]=2 [logging_steps]=1
        [save_steps]=4 [seed]=7 [lora_r]=4 [lora_alpha]=8 [lora_target_modules]=all-linear [gradient_checkpointing]=false)
    for pair; do
        if [ "${pair#*=}" = - ]; then unset "keys[${pair%%=*}]"; else keys[${pair%%=*}]=${pair#*=}; fi
    done
    {
        for pair in "${!keys[@]}"; do printf '%s: %s\n' "$pair" "${keys[$pair]}"; done | LC_ALL=C sort
        [ -z "${rewards:-}" ] || printf 'reward_funcs:\n%s\n' "$rewards"
        printf 'datasets:\n  - path: %s\n' "${rows:-$work/rows.jsonl}"
    } > "$file"
}

# tiny_model FOLDER MEMBERS: a tiny tokenizer.json whose top-level members (over the defaults) are the JSON object given, beside the tiny Gemma 3.
tiny_vocab='{"<unk>":0,"<s>":1,"</s>":2,"a":3,"b":4,"ab":5,"c":6," ":7}'
tiny_model() {
    local folder=$1
    rm -rf "$folder"
    mkdir "$folder"
    cp "$models/gemma3/config.json" "$folder/"
    ln -s "$models/gemma3/model.safetensors" "$folder/"
    jq -n --argjson vocab "$tiny_vocab" --slurpfile with <(printf '%s' "$2") '{"added_tokens":[{"id":1,"content":"<s>","special":true},{"id":2,"content":"</s>","special":true}],
        "normalizer":null,"pre_tokenizer":null,"post_processor":null,"decoder":{"type":"Fuse"},
        "model":{"type":"BPE","unk_token":"<unk>","vocab":$vocab,"merges":["a b"]}} * $with[0]' > "$folder/tokenizer.json"
}

# real_model NAME: the path of a fetched model, or leave with "skipped". Never touches the network.
real_model() {
    "$src/tools/fetch" --cached "$1" 2>/dev/null || skip "$1 is not in the cache: run tools/fetch $1"
}

# within_plan ERR: what a `train --log-level debug` was resident with is at most its plan + 5 %, and the fixed overhead (said, but not compared under
# a sanitizer).
within_plan() {
    sed -n 's/.*memory: \([0-9]*\) bytes resident at most, \([0-9]*\) planned, \([0-9]*\) of them fixed.*/\1 \2 \3/p' "$1" > "$work/memory"
    [ "$(wc -l < "$work/memory")" = 1 ] || { tail -n 20 "$1" >&2; fail "the run does not say what it was resident with"; }
    case $build in *sanitize*) return 0 ;; esac # red zones are in no plan
    awk '{ printf "resident %.1f MiB, planned %.1f MiB, %.1f of them fixed\n", $1 / 2^20, $2 / 2^20, $3 / 2^20
           exit !($1 <= ($2 - $3) * 1.05 + $3) }' "$work/memory" || fail "more resident than planned: $(cat "$work/memory")"
}

# safetensors in shell: a u64 of header bytes, the header, the data.
header_bytes() { od -An -t u8 -N 8 "$1" | tr -d ' '; }
header() { head -c $((8 + $(header_bytes "$1"))) "$1" | tail -c +9; }

# rewrite FROM TO JQ_FILTER [MORE_BYTES]: the same data (and so many zero bytes behind it, from $at on) under a changed header.
rewrite() {
    local more=${4:-0} end
    end=$(($(stat -L -c %s "$1") - 8 - $(header_bytes "$1")))
    header "$1" | jq -cj --argjson at "$end" "$3" > header
    local n i
    n=$(stat -c %s header)
    {
        for ((i = 0; i < 8; i++)); do printf "\\x$(printf %02x $((n >> (8 * i) & 255)))"; done
        cat header
        tail -c +$((9 + $(header_bytes "$1"))) "$1"
        head -c "$more" /dev/zero
    } > "$2.new"
    mv "$2.new" "$2"
}
