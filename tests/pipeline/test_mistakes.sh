#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# What a newcomer gets wrong: each mistake has its exit code and a message with the next step, and destroys nothing.
. "$(dirname "$0")/../lib.sh" "$1"

# wrong CODE TEXT COMMAND …: the verb leaves with CODE and says TEXT.
wrong() {
    run "$1" "$dia" "${@:3}"
    said "$2"
}

tiny_rows rows.jsonl 8
tiny_recipe recipe.yaml trained max_steps=2
score=(score --model "$models/gemma3" --data rows.jsonl)

wrong 2 "did you mean 'train'?" trian
wrong 2 "did you mean '--data'?" score --dta rows.jsonl
wrong 2 "did you mean '--temperature'?" generate --temp 0.7
wrong 2 "Hint: keys of the recipe are given so: --set max_steps=…" train recipe.yaml --max-steps=2
wrong 2 "Hint: --set lr=1e-3" train recipe.yaml lr=1e-3
wrong 2 "Hint: --set lr=1e-3" plan recipe.yaml lr=1e-3
wrong 2 "a .jsonl file is none" data check rows.jsonl
wrong 2 "'chekc', expected check, mask, reward or simulate" data chekc recipe.yaml
wrong 2 "expected 1 … 16777216" generate --model "$models/gemma3" --data rows.jsonl --max-tokens 0
run 0 "$dia" help train
grep -q '^  diapason train recipe.yaml' out || fail "'help train' is not the help of train"
ok "verbs, options, keys"

mkdir folder
printf 'GGUF' > folder/base.gguf
wrong 2 "Hint: it holds base.gguf: name that file" score --model folder --data rows.jsonl
wrong 1 "no GGUF file" score --model recipe.yaml --data rows.jsonl
wrong 2 "tools/fetch --list" score --model google/gemma-3-270m --data rows.jsonl
printf 'x' > file
wrong 2 "it is a file: name the folder that holds it" "${score[@]}" --adapter file
wrong 2 "file: is a file, expected a folder" train recipe.yaml --set output_dir=file
mkdir foreign
printf 'x' > foreign/model.safetensors
printf '{}' > foreign/rows.jsonl
wrong 2 "foreign: holds 'model.safetensors' and no run" train recipe.yaml --set output_dir=foreign
[ "$(echo foreign/*)" = 'foreign/model.safetensors foreign/rows.jsonl' ] || fail "a foreign folder was written to: $(ls foreign)"
wrong 2 "/: holds '" train recipe.yaml --set output_dir=/
mkdir beside
cp recipe.yaml beside/
echo started > beside/run.log
run 0 "$dia" train recipe.yaml --quiet --set output_dir=beside --set save_steps=100 # a recipe and a log are no litter
rm -r beside/checkpoint-*
run 0 "$dia" train recipe.yaml --quiet --set output_dir=beside                      # its own folder
run 0 "$dia" train recipe.yaml --quiet --set output_dir=folder --set overwrite_output_dir=true
cp folder/base.gguf file.gguf && rm -r folder && mkdir folder && mv file.gguf folder/base.gguf
wrong 2 "folder: is a folder, expected a file's name" "${score[@]}" --out folder
wrong 2 "absent/out.jsonl: cannot create" "${score[@]}" --out absent/out.jsonl
before=$(sha256sum rows.jsonl)
for verb in score tokenize generate; do
    wrong 2 "--out ./rows.jsonl holds the rows that are read" $verb --model "$models/gemma3" --data rows.jsonl --out ./rows.jsonl
done
for part in simulate reward; do
    wrong 2 "--out rows.jsonl holds the rows that are read" data $part recipe.yaml --data rows.jsonl --out rows.jsonl
    wrong 2 "--out rows.jsonl holds the rows that are read" data $part recipe.yaml --out rows.jsonl
done
[ "$(sha256sum rows.jsonl)" = "$before" ] || fail "the rows were written over"
# What a recipe names and is not there: its line.
for pair in model_name_or_path=nowhere device=nowhere adapter_init=nowhere chat_template_path=nowhere adapter=nowhere stage=nowhere lora_modules_to_save='[nowhere]'; do
    tiny_recipe broken.yaml trained "$pair"
    wrong 2 "broken.yaml:$(grep -n "^${pair%%=*}:" broken.yaml | cut -d: -f1):" train broken.yaml
    said nowhere
done
tiny_recipe broken.yaml trained model_name_or_path=nowhere
wrong 2 "broken.yaml:" data check broken.yaml
for path in /dev/zero folder; do # there, and no template
    wrong 1 "--set chat_template_path=$path: $path: " data check recipe.yaml --set chat_template_path=$path
done
wrong 2 "--set lr_scheduler_type=cosine_with_min_lr: lr_scheduler_kwargs: " train recipe.yaml --set lr_scheduler_type=cosine_with_min_lr
wrong 2 "reward_weights: is given, but no reward_funcs" train recipe.yaml --set reward_weights=1
wrong 2 "no plugin 'nowhere'" plugins show nowhere
wrong 2 "nowhere: no such file or folder in $work. " tokenize --model nowhere --data rows.jsonl
wrong 2 "/nowhere: no such file or folder. " tokenize --model /nowhere --data rows.jsonl
tiny_recipe broken.yaml trained lora_target_modules='[q_proj, v_prj]'
wrong 2 "'v_prj' matches no linear map of this model. Hint: all-linear, or names among q_proj k_proj" train broken.yaml
sed 's/- path: .*/- path: absent.jsonl/' recipe.yaml > broken.yaml
wrong 2 "no file absent.jsonl, beside the recipe or in the current folder" train broken.yaml
said broken.yaml:
run 0 "$dia" train recipe.yaml
before=$(sha256sum trained/*.*)
wrong 2 "trained holds an adapter" merge --model "$models/gemma3" --out trained
mkdir other && touch other/config.json
wrong 2 "other holds a model that no merge wrote" merge --model "$models/gemma3" --adapter trained --out other
wrong 2 "trained is the adapter itself" merge --model "$models/gemma3" --adapter trained --out trained
[ "$(sha256sum trained/*.*)" = "$before" ] || fail "the adapter was written over"
ok "paths"

# A model's files that cannot be read: every verb says what to do about it.
tiny_model cut '{}'
tiny_recipe cut.yaml never model_name_or_path=cut adapter_init=-
damaged() { # FILE TEXT: all who read weights meet it
    for verb in score generate; do
        wrong 1 "$2" $verb --model cut --data rows.jsonl
        said "cut/$1"
    done
    wrong 1 "$2" eval --model cut --suite rows.jsonl
    wrong 1 "$2" merge --model cut --adapter trained --out never
    for verb in train plan explain "data check" "data mask"; do
        wrong 1 "$2" $verb cut.yaml
        said "cut/$1"
    done
    absent never
}
truncate -s 100 cut/config.json
damaged config.json "Hint: fetch or copy the model again"
cp "$models/gemma3/config.json" cut/
echo '{' > cut/tokenizer_config.json
wrong 1 "cut/tokenizer_config.json:2:0: not valid JSON: string or '}' expected near end of file. Hint: fetch or copy the tokenizer again" \
    tokenize --model cut --data rows.jsonl
wrong 1 "Hint: fetch or copy the tokenizer again" train cut.yaml
rm cut/tokenizer_config.json
jq '.hidden_size = 64' "$models/gemma3/config.json" > cut/config.json
wrong 1 "is (80, 32), expected (80, 64) from the configuration. Hint: config.json and weights are of two models, or were edited" score --model cut --data rows.jsonl
ok "files of a model"

# Rows: what is in the file, without a recipe too.
tiny_model "modèle à moi" '{}'
check=(data check --model "modèle à moi" --data)
printf 'text;n\r\nabc a;1\r\n' > "lignes à moi.csv"
run 0 "$dia" "${check[@]}" "lignes à moi.csv" --set stage=pretrain
grep -q '^1 row in 1 file, 0 refused' out || fail "data check does not count the row"
run 0 "$dia" data mask --model "modèle à moi" --data "lignes à moi.csv"
grep -q -F 'lignes à moi.csv:2' out || fail "data mask does not name the row"
wrong 2 "no model, whose tokenizer reads the rows" data check --data rows.jsonl
printf 'text,n\nab,1\n' > csv.jsonl
wrong 5 "CSV is read from a file in .csv" "${check[@]}" csv.jsonl
printf '[\n{"text":"a"}\n]\n' > array.jsonl
wrong 5 "a file that is one JSON array has a name in .json" "${check[@]}" array.jsonl
printf '{\n"text":"a"\n}\n' > pretty.jsonl
wrong 5 "a row is one line" "${check[@]}" pretty.jsonl
printf '{"text":"caf\xe9"}\n' > latin1.jsonl
wrong 5 "Hint: save the file as UTF-8" "${check[@]}" latin1.jsonl
printf '{"question":"a","answer":"b"}\n' > qa.jsonl
wrong 5 "no column 'questoin', which is to be prompt: found question, answer" "${check[@]}" qa.jsonl \
    --set 'datasets=[{path: qa.jsonl, columns: {prompt: questoin, completion: answer}}]'
cp rows.jsonl held.jsonl
printf '{"input_ids":[1,5,6],"labels":[-100,-100,-100]}\n' >> held.jsonl
wrong 5 "1 of 17 rows would be refused, the first: ./held.jsonl:9: none of its 3 tokens is trained" data check recipe.yaml --set eval_datasets=./held.jsonl
ok "rows"

# Answers to several prompts are told apart; one alone is printed as it is, for programs there is --json.
printf '{"text":"ab"}\n{"text":"a"}\n' > two.jsonl
generate=(generate --model "modèle à moi" --max-tokens 3 --ignore-eos --data)
run 0 "$dia" "${generate[@]}" two.jsonl
[ "$(grep -n '^── row [01]$' out | tr '\n' ' ')" = "1:── row 0 4:── row 1 " ] || fail "two answers: $(cat out)"
run 0 "$dia" "${generate[@]}" two.jsonl --num-generations 2
[ "$(grep -c -E '^── row [01], answer [01]$' out)" = 4 ] || fail "four answers: $(cat out)"
head -n 1 two.jsonl > one.jsonl
run 0 "$dia" "${generate[@]}" one.jsonl
[ "$(wc -l < out)" = 1 ] && ! grep -q -- '──' out || fail "one answer: $(cat out)"
run 0 "$dia" "${generate[@]}" two.jsonl --json
holds out 'length == 2 and all(.text)' -s
ok "answers"

# bf16 is what transformers calls it.
tiny_recipe keys.yaml trained dtype=- bf16=true
run 0 "$dia" plan keys.yaml --json
holds out '.dtype == "bf16"'
run 0 "$dia" plan keys.yaml --json --set bf16=false
holds out '.dtype == "f32"'
wrong 2 "bf16: true contradicts dtype: float32" plan keys.yaml --set dtype=float32
run 0 "$dia" bench decode --model "$models/gemma3" --tokens 8 --steps 2 --json
holds out '.prefill_tokens_per_second > 0 and .decode_tokens_per_second > 0'
# A tiny model's work is told in its own unit.
run 0 "$dia" plan recipe.yaml
grep -q -E '^Work: [0-9]+ tokens and [0-9]{1,3}\.[0-9] [kM]FLOP a step$' out || fail "plan says: $(grep Work: out)"
ok "keys of other programs, rates"
