#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# data check and data mask look at rows before training does: counts, the refused row by name, which tokens are trained.
. "$(dirname "$0")/../lib.sh" "$1"

tiny_rows rows.jsonl 8
tiny_recipe recipe.yaml run
run 0 "$dia" data check recipe.yaml
grep -q 8 out || fail "data check does not count the rows"
run 0 "$dia" data check recipe.yaml --json
jq -e . out >/dev/null || fail "data check --json is not JSON"
run 0 "$dia" data mask recipe.yaml
! grep -q $'\033' out || fail "data mask colours a file although NO_COLOR is set"
[ -s out ] || fail "data mask printed nothing"
run 0 "$dia" data mask recipe.yaml --json
jq -s -e 'length >= 1' out >/dev/null || fail "data mask --json is not JSON"

ok "data check and data mask"

# What training refuses, by file and line, before anything is written; check and train say the same.
refused() { # NAME ROW TEXT [KEY=VALUE …]: ROW as line 9
    local name=$1 row=$2 text=$3
    shift 3
    tiny_rows rows.jsonl 8
    printf '%s\n' "$row" >> rows.jsonl
    tiny_recipe refused.yaml run "$@"
    run 5 "$dia" data check refused.yaml
    said "rows.jsonl:9: "
    said "$text"
    run 5 "$dia" train refused.yaml
    said "rows.jsonl:9: "
    said "$text"
    absent run/checkpoint-4 run/adapter_model.safetensors run/metrics.jsonl
    ok "refused by check and train: $name"
}
refused "no trained token" '{"input_ids":[1,5,6,7],"labels":[-100,-100,-100,-100]}' "none of its 4 tokens is trained"
refused "two beginnings" '{"input_ids":[1,1,5,6]}' "two beginning-of-sequence tokens"
refused "an untrained end of turn" '{"input_ids":[1,5,6,2,7],"labels":[-100,5,6,-100,7]}' "would not learn to stop"
tiny_model worded '{}'
refused "a prompt that is no prefix" '{"prompt":"a","completion":"b c"}' "are not the beginning of the whole's" model_name_or_path="$work/worded"
refused "an empty text" '{"text":""}' "none of its 0 tokens is trained" model_name_or_path="$work/worded"
refused "a part that is no text" '{"messages":[{"role":"user","content":[{"type":5,"text":"a"}]},{"role":"assistant","content":"b"}]}' \
    'messages[0].content[0]: only text parts {"type":"text","text":…} are read, found type a number' model_name_or_path="$work/worded"
refused "a reply that max_length cuts off" '{"prompt_input_ids":[1,5,6,7,8,9,5,6,7,8,9,5,6,7],"completion_input_ids":[5,2]}' "max_length 12 cuts 4 of them off" max_length=12 truncation_mode=keep_start

# Longer rows are counted, and cut or dropped as truncation_mode says.
awk 'BEGIN { for (i = 1; i <= 10; i++) { ids = "1"; for (k = 0; k < i * 3; k++) ids = ids "," 5 + k; printf "{\"input_ids\":[%s]}\n", ids } }' > rows.jsonl # 4, 7 … 31 ids
for mode in keep_start keep_end drop; do
    tiny_recipe long.yaml cut-$mode max_length=16 truncation_mode=$mode max_steps=1
    run 0 "$dia" data check long.yaml --json
    case $mode in
    drop) holds out '.rows == 10 and .cut == 0 and .dropped == 5 and .longest == 16 and .tokens == 50' ;;
    *) holds out '.rows == 10 and .cut == 5 and .dropped == 0 and .longest == 16 and .tokens == 130' ;;
    esac
    run 0 "$dia" train long.yaml
    said "5 of 10 rows have more tokens than max_length 16"
    run 0 "$dia" data mask long.yaml --row 9 --rows 1 --json
    case $mode in
    keep_start) holds out '.ids[0] == 1 and (.ids | length) == 16' ;;
    keep_end) holds out '.ids[15] == 34 and (.ids | length) == 16' ;;
    drop) holds out '.ids == []' ;;
    esac
done
# A step whose rows are all dropped is passed over, wherever it comes; without any row left there is no run.
tiny_recipe long.yaml dropped max_length=16 truncation_mode=drop max_steps=- num_train_epochs=2 per_device_train_batch_size=1 gradient_accumulation_steps=1 \
    save_steps=50
run 0 "$dia" train long.yaml
[ "$(grep -c 'none of its rows is left: nothing to learn from' err)" = 10 ] || fail "not 10 of 20 steps are passed over"
holds dropped/trainer_state.json '.global_step == 20 and ([.log_history[] | select(has("loss") and .loss != null)] | length) == 10'
# A line of metrics has the norm of its last step that had rows; without one it has neither loss nor norm.
run 0 "$dia" train long.yaml --set output_dir=dropped-two --set logging_steps=2
jq -n -e --slurpfile one dropped/metrics.jsonl --slurpfile two dropped-two/metrics.jsonl '
    def last_of($step): [$one[] | select(.step > $step - 2 and .step <= $step and has("loss")) | .grad_norm] | last;
    $two[:10] | all(.grad_norm == last_of(.step) and has("loss") == has("grad_norm")) and any(has("loss") | not)' > /dev/null ||
    fail "lines of steps without rows: $(cat dropped/metrics.jsonl dropped-two/metrics.jsonl)"
tiny_recipe long.yaml dropped-all max_length=3 truncation_mode=drop
run 5 "$dia" train long.yaml
said "none of the 10 rows is left"
absent dropped-all
tiny_recipe long.yaml cut-error max_length=16 truncation_mode=error
run 5 "$dia" train long.yaml
said "rows.jsonl:6: 19 tokens, max_length is 16"
ok "rows above max_length"

# Rows alone where a recipe is expected, and whose turns a conversation trains.
run 2 "$dia" data check rows.jsonl
said 'a .jsonl file is none. Hint: diapason data takes rows alone: --data rows.jsonl --model M'
run 2 "$dia" train "$work"
said 'is a folder; a recipe is expected here'
echo '{"messages": [{"role": "user", "content": "ab"}, {"role": "assistant", "content": "ba"}]}' > turns.jsonl
printf '%s' '{% for m in messages %}{{ m.content }}</s>{% endfor %}' > template.jinja
turns=(--data turns.jsonl --model "$work/worded" --set chat_template_path="$work/template.jinja")
run 0 "$dia" data check "${turns[@]}"
grep -q '^1 conversation trains every turn; assistant_only_loss: true trains the answers only$' out || fail "$(cat out)"
for said in true false; do
    run 0 "$dia" data check "${turns[@]}" --set assistant_only_loss=$said
    ! grep -q 'every turn' out || fail "assistant_only_loss: $said: $(cat out)"
done
ok "rows alone, a folder for a recipe, and which turns are trained"

# A tokenizer alone is enough to tokenize with.
run 0 "$dia" tokenize --model worded --data turns.jsonl --out whole.jsonl
mkdir alone && cp worded/tokenizer.json alone/
run 0 "$dia" tokenize --model alone --data turns.jsonl --out alone.jsonl
same alone.jsonl whole.jsonl
ok "tokenize reads no weights and no config.json"
