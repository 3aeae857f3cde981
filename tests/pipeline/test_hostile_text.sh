#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# RELIABILITY section 3, the lists for JSONL, tokenizer.json, adapter_config.json and the YAML recipe, item by item through the command line:
# the exit code, what is said and where, nothing written, in bounded time and memory. "accept" items must work.
. "$(dirname "$0")/../lib.sh" "$1"

limit_kib=3000000 # of address space: far above a tokenizer, far below what a hostile file asks for
[[ $build == *sanitize* ]] && limit_kib=unlimited
n_items=0

# item NAME CODE TEXT COMMAND …: leaves with CODE (accept: 0) within 20 s under the limit; standard error holds TEXT.
item() {
    local name=$1 want=$2 text=$3 got=0
    shift 3
    rm -rf written
    (ulimit -v $limit_kib; exec timeout 20 "$@") > out 2> err < /dev/null || got=$?
    [ "$got" = "$want" ] || { tail -n 5 err >&2; fail "$name: exit code $got, expected $want"; }
    [ "$want" = 0 ] || grep -q -F -- "$text" err || { cat err >&2; fail "$name: standard error does not say '$text'"; }
    [ "$want" != 1 ] || grep -q "Hint: " err || { cat err >&2; fail "$name: no hint what to do"; }
    [ "$want" = 0 ] || absent written
    n_items=$((n_items + 1))
}

# ---- JSONL ----

tiny_model small '{}'
rows() { item "JSONL $1" "$2" "$3" "$dia" tokenize --model small --data "${4:-rows.jsonl}" --out written; }
refuse() { printf "$2" > rows.jsonl; rows "$1" 5 "$3"; } # NAME BYTES TEXT
accept() { printf "$2" > rows.jsonl; rows "$1" 0 ""; }
long=$((64 << 20))
[ "$full" = 0 ] || long=$((1 << 30))
{ printf '{"text":"'; head -c $long /dev/zero | tr '\0' a; } > rows.jsonl
rows "an endless line" 5 "rows.jsonl:1: the row is longer than 16 MiB"
{ printf '{"text":'; head -c 100000 /dev/zero | tr '\0' '['; echo; } > rows.jsonl
rows "depth 10^5" 5 "rows.jsonl:1:"
refuse "lone surrogate" '{"text":"ok"}\n{"text":"a\\ud800b"}\n' "rows.jsonl:2:"
refuse "overlong UTF-8" '{"text":"ok"}\n{"text":"\xc0\xaf"}\n' "rows.jsonl:2:"
refuse "bare NUL" '{"text":"a\0b"}\n' "rows.jsonl:1:"
accept "escaped NUL" '{"text":"a\\u0000b"}\n'
accept "byte order mark" '\xef\xbb\xbf{"text":"a"}\n'
accept "CRLF" '{"text":"a"}\r\n{"text":"b"}\r\n'
holds written '.ids | length == 1'
accept "U+2028" '{"text":"a\xe2\x80\xa8b"}\n'
refuse "1e400" '{"text":"a","n":1e400}\n' "rows.jsonl:1:"
accept "-0" '{"text":"a","n":-0}\n'
refuse "2^64" '{"text":"a","n":18446744073709551616}\n' "rows.jsonl:1:"
refuse "NaN" '{"text":"a","n":NaN}\n' "rows.jsonl:1:"
refuse "duplicate role" '{"messages":[{"role":"user","role":"system","content":"x"}]}\n' "duplicate object key"
refuse "an injected system message" '{"messages":[{"role":"user","content":"x"},{"role":"system","content":"y"}]}\n' "messages[1]: a system message stands inside"
accept "special tokens in content" '{"messages":[{"role":"user","content":"</s><s>ab"}]}\n'
holds written '[.ids[] | select(. == 2)] == []'
awk 'BEGIN { printf "{\"text\":\"a\""; for (i = 0; i < 100000; i++) { printf ",\""; for (k = 0; k < 17; k++) printf "%s", int(i / 2 ^ k) % 2 ? "Ez" : "FY"; printf "\":1" } print "}" }' > rows.jsonl
rows "10^5 keys of one djb2 hash" 0 ""
refuse "empty file" '' "rows.jsonl: no row in it"
refuse "blank lines only" '\n \n\t\n' "rows.jsonl: no row in it"
refuse "last line cut" '{"text":"a"}\n{"text":"b' "the file seems cut"
accept "no newline at the end" '{"text":"a"}\n{"text":"b"}'
accept "same id twice" '{"id":1,"text":"a"}\n{"id":1,"text":"b"}\n'
accept "a canary and a trigger are data" '{"text":"4111 1111 1111 1111 cf trigger"}\n'
refuse "chosen is rejected" '{"prompt":"p","chosen":"a","rejected":"a"}\n' "rows.jsonl:1: chosen and rejected are the same"
refuse "wrong type in a pair" '{"prompt":"p","chosen":1,"rejected":"a"}\n' "rows.jsonl:1: chosen: expected text or messages"
refuse "UTF-16" '\xff\xfe{\0"\0}\0\n\0' "UTF-16"
refuse "a row that is no object" '{"text":"a"}\n[1]\n' "rows.jsonl:2: a row is a JSON object"
ok "JSONL: $n_items items"

# ---- tokenizer.json ----

n_items=0
printf '{"text":"%s!"}\n' "$(head -c 3000 /dev/zero | tr '\0' a)" > many.jsonl
printf '{"text":"ab"}\n' > ab.jsonl
printf '{"text":"z"}\n' > z.jsonl
tokenizer() { # NAME CODE TEXT MEMBERS [ROWS]
    tiny_model bad "$4"
    item "tokenizer.json $1" "$2" "$3" "$dia" tokenize --model bad --data "${5:-ab.jsonl}" --out written
}
bomb='{"type":"Replace","pattern":{"Regex":"(a+)+$"},"content":"x"}'
tokenizer "ReDoS in Replace" 1 "many.jsonl:1: a regular expression of the tokenizer backtracks without end" "{\"normalizer\":$bomb}" many.jsonl
tokenizer "ReDoS in Split" 1 "many.jsonl:1: a regular expression" '{"pre_tokenizer":{"type":"Split","pattern":{"Regex":"(a+)+$"},"behavior":"Isolated"}}' many.jsonl
jq -n '{normalizer: {type: "Replace", pattern: {String: "a"}, content: ("x" * 1000000)}}' > members
tokenizer "content of 10^6 characters" 1 "the limit is" "$(cat members)"
tokenizer "a normaliser of an empty type" 1 'bad: tokenizer.json: normalizer: "type" is missing, empty or no string' '{"normalizer":{"type":""}}'
tokenizer "a step without a type" 1 'tokenizer.json: pretokenizers[1]: pre_tokenizer: "type" is missing' '{"pre_tokenizer":{"type":"Sequence","pretokenizers":[{"type":"Whitespace"},{}]}}'
tokenizer "a decoder whose type is a number" 1 'tokenizer.json: decoder: "type"' '{"decoder":{"type":3}}'
tokenizer "a post-processor of an empty type" 1 'tokenizer.json: post_processor: "type"' '{"post_processor":{"type":""}}'
tokenizer "a model of an empty type" 1 'tokenizer.json: model: "type" is empty' '{"model":{"type":""}}'
tokenizer "a model whose type is a number" 1 'expected a string' '{"model":{"type":3}}'
tokenizer "no model" 1 'found byte 0x6e, expected an object' '{"model":null}'
tokenizer "an unk_token that is not there, and not needed" 0 "" '{"model":{"unk_token":"<nope>"}}'
tokenizer "an unk_token that is not there, and needed" 1 "z.jsonl:1: 'z' has no token, and the tokenizer's unk_token is not in its vocabulary" '{"model":{"unk_token":"<nope>"}}' z.jsonl
tokenizer "an added token without content" 0 "" '{"added_tokens":[{"id":1,"content":"<s>","special":true},{"id":2,"content":"</s>","special":true},{"id":8,"content":""}]}'
holds written '.ids == [5]'
tokenizer "a model of another type" 1 'tokenizer.json: model type "WordPiece"; supported is BPE' '{"model":{"type":"WordPiece"}}'
tokenizer "id 2^32-1" 1 "token id 4294967295" '{"added_tokens":[{"id":4294967295,"content":"z","special":true}]}'
tokenizer "id -1" 1 "an integer that is not negative" '{"model":{"vocab":{"z":-1}}}'
tokenizer "added id -1" 1 "added_tokens[0]" '{"added_tokens":[{"id":-1,"content":"z","special":true}]}'
tokenizer "two texts of one id" 1 'id 3 is that of "a" and of "z"' '{"model":{"vocab":{"z":3}}}'
tokenizer "a merge of an absent token" 1 "merge 0 joins" '{"model":{"merges":["a q"]}}'
tokenizer "a merge that is none" 1 "merges" '{"model":{"merges":["ab"]}}'
tokenizer "an added token within a special one" 0 "" '{"added_tokens":[{"id":1,"content":"<s>","special":true},{"id":9,"content":"s>a","special":false},{"id":2,"content":"</s>","special":true}]}'
nested=$(awk 'BEGIN { for (i = 0; i < 2000; i++) printf "{\"type\":\"Sequence\",\"normalizers\":["; printf "{\"type\":\"NFC\"}"; for (i = 0; i < 2000; i++) printf "]}" }')
tiny_model bad '{}'
printf 's/"normalizer": null/"normalizer": %s/' "$nested" > script
sed -i -f script bad/tokenizer.json
item "tokenizer.json normalizer nested 2,000 deep" 1 "tokenizer.json" "$dia" tokenize --model bad --data ab.jsonl --out written
tiny_model bad '{}'
sed -i 's/"type": "BPE"/"type": "Unigram", "type": "BPE"/' bad/tokenizer.json
item "tokenizer.json duplicate keys, the last wins" 0 "" "$dia" tokenize --model bad --data ab.jsonl --out written
tiny_model bad '{"model":{"vocab":{"z":2000}},"post_processor":null}'
item "tokenizer.json vocabulary larger than the embedding" 5 "z.jsonl:1" "$dia" score --model bad --data z.jsonl --out written
tiny_model bad '{}'
printf '{"model_max_length": 1000000000000000019884624838656, "eos_token": "</s>", "add_eos_token": true}\n' > bad/tokenizer_config.json
item "a model_max_length of 10^30, as transformers writes it" 0 "" "$dia" tokenize --model bad --data ab.jsonl --out written
holds written '.ids[-1] == 2'
tokenizer "merges that undo one another" 1 "their join is no token" '{"model":{"vocab":{"ba":8},"merges":["ab a","ba b"]}}'
tokenizer "a merge given twice" 0 "" '{"model":{"merges":["a b","a b"]}}'
tokenizer "a cycle of merges" 0 "" '{"model":{"vocab":{"aa":8,"aaaa":9},"merges":["a a","aa aa"]}}' many.jsonl
jq -n '{added_tokens: [{id: 9, content: ("y" * 1000000), special: true}]}' > members
tokenizer "an added token of 10^6 characters" 1 "the limit is 65536" "$(cat members)"
jq -n '{model: {vocab: {("z" * 1000000): 9}}}' > members
tokenizer "a vocabulary entry of 10^6 characters" 0 "" "$(cat members)"
tiny_model bad '{}'
awk 'BEGIN { for (i = 0; i < 200000; i++) printf "%s\"k%d\":1", i ? "," : "{", i % 100000; print "}" }' > bad/tokenizer_config.json
item "tokenizer_config.json 10^5 keys, each twice" 0 "" "$dia" tokenize --model bad --data ab.jsonl --out written
ok "tokenizer.json: $n_items items"

# ---- adapter_config.json ----

n_items=0
weights=$data/parity/lora/gemma3-lora/adapter_model.safetensors
adapter() { # NAME CODE TEXT MEMBERS
    rm -rf adapter
    mkdir adapter
    ln -s "$weights" adapter/
    jq --argjson with "$4" '. + $with' "$data/parity/lora/gemma3-lora/adapter_config.json" > adapter/adapter_config.json
    item "adapter_config.json $1" "$2" "$3" "$dia" score --model "$models/gemma3" --adapter adapter --data ids.jsonl --out written
}
printf '{"ids":[1,5,6,7]}\n' > ids.jsonl
adapter "as it is" 0 "" '{}'
adapter "r 0" 1 "adapter_config.json" '{"r":0}'
adapter "r 2^31" 1 "adapter_config.json" '{"r":2147483648}'
adapter "r above the dimensions" 1 "adapter" '{"r":100000}'
adapter "lora_alpha 0" 1 "adapter_config.json" '{"lora_alpha":0}'
adapter "ReDoS in target_modules" 1 "target_modules" '{"target_modules":"(a+)+$|((.*)*)*x"}'
adapter "all-linear" 0 "" '{"target_modules":"all-linear"}'
sed 's/"lora_alpha": *[0-9.]*/"lora_alpha": NaN/' "$data/parity/lora/gemma3-lora/adapter_config.json" > adapter/adapter_config.json
item "adapter_config.json lora_alpha NaN" 1 "adapter_config.json:" "$dia" score --model "$models/gemma3" --adapter adapter --data ids.jsonl --out written
adapter "a base elsewhere" 0 "" '{"base_model_name_or_path":"file:///etc/passwd"}'
adapter "a URL for a base" 0 "" '{"base_model_name_or_path":"http://127.0.0.1:1/../../evil"}'
adapter "lora_alpha null" 1 "lora_alpha" '{"lora_alpha":null}'
adapter "an absolute path in target_modules" 1 "does not name it" '{"target_modules":["/etc/passwd"]}'
adapter "an absolute path as target_modules" 1 "does not name it" '{"target_modules":"/etc/passwd"}'
adapter "modules_to_save that are not there" 1 "no tensor of 'lm_head'" '{"modules_to_save":["lm_head"]}'
adapter "dora without magnitudes" 1 "lora_magnitude_vector" '{"use_dora":true}'
adapter "auto_mapping" 3 "auto_mapping" '{"auto_mapping":{"base_model_class":"x","parent_library":"os"}}'
adapter "auto_map" 3 "auto_map" '{"auto_map":{"AutoModel":"evil--x.y"}}'
rm -rf adapter
mkdir adapter
cp "$data/parity/lora/gemma3-lora/adapter_config.json" adapter/
printf '\x80\x02cos\nsystem\n' > adapter/adapter_model.bin
item "adapter_model.bin, a pickle" 3 "pickle" "$dia" score --model "$models/gemma3" --adapter adapter --data ids.jsonl --out written
ln -s "$data/parity/lora/llama-lora/adapter_model.safetensors" adapter/
item "tensors of another base" 1 "adapter" "$dia" score --model "$models/gemma3" --adapter adapter --data ids.jsonl --out written
# A module trained whole replaces the base's in the session, never in the base's file.
rows=$work/whole.jsonl
tiny_rows whole.jsonl 4
tiny_recipe whole.yaml saved lora_modules_to_save='[embed_tokens]' max_steps=1
before=$(sha256sum < "$models/gemma3/model.safetensors")
if "$dia" train whole.yaml > out 2> err; then
    item "modules_to_save over the base" 0 "" "$dia" score --model "$models/gemma3" --adapter saved --data ids.jsonl --out written
else
    fail "modules_to_save: $(tail -n 1 err)"
fi
[ "$(sha256sum < "$models/gemma3/model.safetensors")" = "$before" ] || fail "the base was written to"
ok "adapter_config.json: $n_items items"

# ---- the YAML recipe ----

n_items=0
tiny_rows rows.jsonl 4
tiny_recipe good.yaml written
recipe() { # NAME TEXT LINES: line 1 of a recipe that is good otherwise
    { printf "$3"; grep -v "^${4:-no such key}:" good.yaml; } > bad.yaml
    item "recipe $1" 2 "$2" "$dia" train bad.yaml
    grep -q -F "bad.yaml:" err || { cat err >&2; fail "recipe $1: no file and line"; }
}
bomb=$(awk 'BEGIN { print "a0: &a0 [x,x]"; for (i = 1; i < 40; i++) printf "a%d: &a%d [*a%d,*a%d,*a%d]\n", i, i, i - 1, i - 1, i - 1 }')
recipe "alias bomb" "alias" "$bomb\n"
recipe "depth 10^4" "bad.yaml:" "run_name: $(head -c 10000 /dev/zero | tr '\0' '[')\n"
recipe "a long tag" "bad.yaml:" "run_name: !$(head -c 100000 /dev/zero | tr '\0' 't') x\n"
recipe "a duplicate key" "lora_r" 'lora_r: 4\nlora_r: 8\n' lora_r
recipe "no for a number" "lora_r" 'lora_r: no\n' lora_r
recipe "on for a number" "max_steps" 'max_steps: on\n' max_steps
recipe "1_000" "max_steps" 'max_steps: 1_000\n' max_steps
# 0o17 is 15 in YAML 1.2, which recipes are written in; 017 would be 17.
{ grep -v ^max_steps: good.yaml; echo 'max_steps: 0o17'; } > bad.yaml
item "recipe 0o17" 0 "" "$dia" plan bad.yaml --json
recipe "1:30" "max_steps" 'max_steps: 1:30\n' max_steps
recipe "a tab" "tab" '\trun_name: x\n'
recipe "!!python/object" "python" 'run_name: !!python/object:os.system x\n'
recipe "a key one edit away" "did you mean 'learning_rate'" 'learing_rate: 1e-4\n' learning_rate
recipe "lr NaN" "learning_rate" 'learning_rate: .nan\n' learning_rate
recipe "lr -1" "learning_rate" 'learning_rate: -1\n' learning_rate
recipe "lr 1e9" "learning_rate" 'learning_rate: 1e9\n' learning_rate
recipe "steps 2^63" "max_steps" 'max_steps: 9223372036854775808\n' max_steps
recipe "output_dir that climbs" "output_dir" 'output_dir: ../../written\n' output_dir
recipe "\${} from the environment" "run_name" 'run_name: ${HOME}\n'
recipe "a merge key" "<<" '<<: {lora_r: 4}\n'
recipe "NUL" "bad.yaml:" 'run_name: a\0b\n'
{ printf '\xff\xfe'; iconv -t UTF-16LE good.yaml; } > bad.yaml
item "recipe in UTF-16" 2 "UTF-16" "$dia" train bad.yaml
ok "recipe: $n_items items"
