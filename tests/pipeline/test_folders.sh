#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Hugging Face folders as they come: both layouts of config.json, shards sound and broken, a language model inside a multimodal one.
. "$(dirname "$0")/../lib.sh" "$1"

tiny=$models/gemma3
score() { run 0 "$dia" score --model "$1" --data rows.jsonl --out "$2"; }

# refused MODEL TEXT …: no verb reads the model; standard error holds every TEXT and a next step.
refused() {
    local folder=$1 text
    shift
    run 1 "$dia" merge --model "$folder" --format safetensors --out written
    run 1 "$dia" train recipe.yaml --set model_name_or_path="$folder" --set output_dir=written
    run 1 "$dia" score --model "$folder" --data rows.jsonl --out written
    for text in "$@" Hint:; do said "$text"; done
    absent written
}

# ---- both layouts of config.json, all six models: the loss of parity/ ----

for model in gemma2 gemma3 llama mistral qwen2 qwen3; do
    jq -c '.sequences[] | {ids}' "$models/$model/batch.json" > rows.jsonl
    jq '.pretrain.loss // .pretrain' "$models/$model/expected.json" > want
    for layout in config.json config_classic.json; do
        mkdir folder
        cp "$models/$model/$layout" folder/config.json
        ln -s "$models/$model/model.safetensors" folder/
        run 0 "$dia" score --model folder --data rows.jsonl --out "$layout.out" --dtype float32
        jq -s '[.[].logprobs[1:][]] | -add / length' "$layout.out" > got
        awk -v got="$(cat got)" -v want="$(cat want)" 'BEGIN { d = got - want; exit !(want > 0 && d < 2e-5 + 1e-5 * want && -d < 2e-5 + 1e-5 * want) }' ||
            fail "$model, $layout: the mean NLL is $(cat got), expected $(cat want)"
        rm -r folder
    done
    same config.json.out config_classic.json.out
done
ok "six models score as parity has it, from config.json of transformers 5 and of 4"

# ---- shards ----

tiny_rows rows.jsonl 6
tiny_recipe recipe.yaml unused
score "$tiny" plain.jsonl
run 0 "$dia" merge --model "$tiny" --format safetensors --max-shard-size 20KB --out sealed
mkdir sound
cp sealed/model* sealed/config.json sound/ # as others write it: without digests.json
n=$(find sound -name 'model-*.safetensors' | wc -l)
[ "$n" -gt 2 ] || fail "$n shards"
score sound shards.jsonl
same shards.jsonl plain.jsonl
[ ! -s err ] || fail "a sound folder is spoken of: $(cat err)"
ok "$n shards score like one file"

shard() { printf 'model-%05d-of-%05d.safetensors' "$1" "$n"; }
index=model.safetensors.index.json
first=$(jq -r --arg s "$(shard 1)" '[.weight_map | to_entries[] | select(.value == $s)][0].key' sound/$index)
broken() { rm -rf broken; cp -r sound broken; }
# index JQ_FILTER: the index of a fresh copy, changed.
index() { broken; jq --arg first "$first" --arg other "$(shard 2)" "$1" sound/$index > broken/$index; }

broken; rm "broken/$(shard 2)"
refused broken "broken/$(shard 2): no such shard" "$index names it"
broken; truncate -s -4 "broken/$(shard 2)"
refused broken "broken/$(shard 2): tensor '" "the file is cut or damaged"
broken; truncate -s 40 "broken/$(shard 2)"
refused broken "broken/$(shard 2): a header of" "in a file of 40: the file is cut"
broken; : > "broken/$(shard 2)"
refused broken "broken/$(shard 2): "
broken; printf 'version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 123456\n' > "broken/$(shard 2)"
refused broken "broken/$(shard 2): a Git LFS pointer" "git lfs pull"
index '.weight_map["model.extra.weight"] = $other'
refused broken "broken/$(shard 2): no tensor 'model.extra.weight', which $index says is here"
index '.weight_map[$first] = $other'
refused broken "broken/$(shard 2): no tensor '$first'" "it is in $(shard 1)"
for name in "../sound/$(shard 1)" "$work/sound/$(shard 1)" .. 'a\b' ''; do
    NAME=$name index '.weight_map[$first] = env.NAME'
    refused broken "broken/$index: the shard of '$first' is '$name'" "expected a plain file name"
done
index '.weight_map[$first] = 7'
refused broken "broken/$index: the shard of '$first' is '(no text)'"
index 'del(.weight_map)'
refused broken "broken/$index: \"weight_map\" is missing"
index '.weight_map = {}'
refused broken "broken/$index: \"weight_map\" is empty"
index '.weight_map = [.weight_map]'
refused broken "broken/$index: \"weight_map\" is no object"
index 'reduce range(1100) as $i (.; .weight_map["t\($i)"] = "s\($i)")'
refused broken "broken/s0: no such shard"
broken
rewrite "sound/$(shard 2)" "broken/$(shard 2)" ".[\"$first\"] = {dtype: \"F32\", shape: [4], data_offsets: [\$at, \$at + 16]}" 16
refused broken "tensor '$first' is in two shards, $(shard 1) and $(shard 2)"
broken; head -c 100 sound/$index > broken/$index
run 1 "$dia" score --model broken --data rows.jsonl --out written
said "broken/$index:"
absent written
for size in 12345 0 '"many"' -1; do
    index ".metadata.total_size = $size"
    run 0 "$dia" score --model broken --data rows.jsonl --out written
    said "broken/$index: \"total_size\""
    said Hint:
    same written plain.jsonl
    rm written
done
ok "broken shards and indices are refused by name, with the next step; a wrong total_size is told of and does no harm"

truncate -s -4 "sealed/$(shard 2)"
run 1 "$dia" score --model sealed --data rows.jsonl --out written
said "$(shard 2)"
absent written
ok "a sealed folder's shard that was cut is refused"

for dtype in null 7; do
    mkdir folder
    jq ".dtype = $dtype" "$tiny/config.json" > folder/config.json
    ln -s "$tiny/model.safetensors" folder/
    run 0 "$dia" merge --model folder --format safetensors --dtype float32 --out merged
    score merged nested.jsonl
    same nested.jsonl plain.jsonl
    rm -r folder merged
done
ok "a dtype that is no name does no harm"

# ---- a head of its own beside "tie_word_embeddings": true, as transformers 5 reads it ----

mkdir folder
jq '.tie_word_embeddings = true' "$models/llama/config.json" > folder/config.json
ln -s "$models/llama/model.safetensors" folder/
score folder tied.jsonl
said "the files hold a head of its own, which is used"
score "$models/llama" plain.jsonl
same tied.jsonl plain.jsonl
run 0 "$dia" merge --model folder --format safetensors --out merged
holds merged/config.json '.tie_word_embeddings == false'
rm -r folder merged
# The embedding a second time is no other head.
mkdir folder
cp "$tiny/config.json" folder/
embed=$(header "$tiny/model.safetensors" | jq -c '.["model.embed_tokens.weight"]')
from=$(jq '.data_offsets[0]' <<< "$embed") bytes=$(jq '.data_offsets[1] - .data_offsets[0]' <<< "$embed")
rewrite "$tiny/model.safetensors" folder/model.safetensors ". + {\"lm_head.weight\": ($embed | .data_offsets = [\$at, \$at + $bytes])}"
tail -c +$((9 + $(header_bytes "$tiny/model.safetensors") + from)) "$tiny/model.safetensors" | head -c "$bytes" > head || true
cat head >> folder/model.safetensors
score folder tied.jsonl
[ ! -s err ] || fail "the embedding is called another head: $(cat err)"
score "$tiny" plain.jsonl
same tied.jsonl plain.jsonl
rm -r folder
ok "a head in the files wins over tie_word_embeddings, unless it is the embedding"

# ---- a language model inside a multimodal one ----

# nested FOLDER TEXT_CONFIG OUTER_MEMBERS NAMES VISION: every tensor under the name that the jq filter NAMES gives it, and two more, of VISION.
nested() {
    rm -rf "$1"
    mkdir "$1"
    jq --argjson outer "$3" '{text_config: del(.architectures, .bos_token_id, .eos_token_id), bos_token_id, eos_token_id, torch_dtype: "float32",
        vision_config: {model_type: "siglip_vision_model", hidden_size: 8}} + $outer' "$2" > "$1/config.json"
    rewrite "$(dirname "$2")/model.safetensors" "$1/model.safetensors" "with_entries(if .key == \"__metadata__\" then . else .key |= ($4) end)
        + {\"${5}vision_tower.vision_model.encoder.layers.0.weight\": {dtype: \"F32\", shape: [2, 8], data_offsets: [\$at, \$at + 64]},
           \"${5}multi_modal_projector.mm_soft_emb_norm.weight\": {dtype: \"F32\", shape: [4], data_offsets: [\$at + 64, \$at + 80]}}" 80
}
gemma='{"architectures":["Gemma3ForConditionalGeneration"],"model_type":"gemma3","image_token_index":79,"mm_tokens_per_image":4}'
llava='{"architectures":["LlavaForConditionalGeneration"],"model_type":"llava","image_token_index":79}'
old='"language_model." + .' # what transformers 4 writes, and 5.23 still
new='if startswith("model.") then sub("^model[.]"; "model.language_model.") else . end' # its modules since 4.52
same_scores() { # FOLDER TEXT_MODEL
    score "$1" nested.jsonl
    said "$1: a multimodal model: its text part is read, 2 tensors of other parts are not ('"
    run 0 "$dia" score --model "$2" --data rows.jsonl --out plain.jsonl --quiet
    [ ! -s err ] || fail "a text model is called multimodal: $(cat err)"
    same nested.jsonl plain.jsonl
}
for layout in config.json config_classic.json; do
    nested old "$tiny/$layout" "$gemma" "$old" ''
    same_scores old "$tiny"
    nested new "$tiny/$layout" "$gemma" "$new" model.
    same_scores new "$tiny"
    nested llava-old "$models/llama/$layout" "$llava" "$old" ''
    header llava-old/model.safetensors | grep '"language_model.lm_head.weight"' > head || fail "no head of its own in this test"
    same_scores llava-old "$models/llama"
    nested llava-new "$models/llama/$layout" "$llava" "$new" model.
    same_scores llava-new "$models/llama"
done
ok "Gemma 3 and a Llama inside multimodal folders score as the text models, under both spellings of the names"

cp -r sound pieces
cp new/config.json pieces/
for file in pieces/*.safetensors; do rewrite "$file" "$file" "with_entries(if .key == \"__metadata__\" then . else .key |= ($new) end)"; done
jq ".weight_map |= with_entries(.key |= ($new))" sound/$index > pieces/$index
rewrite "pieces/$(shard "$n")" "pieces/$(shard "$n")" '. + {"model.vision_tower.weight": {dtype: "F32", shape: [2], data_offsets: [$at, $at + 8]}}' 8
jq --arg shard "$(shard "$n")" '.weight_map["model.vision_tower.weight"] = $shard | .metadata.total_size += 8' pieces/$index > with
mv with pieces/$index
score "$tiny" plain.jsonl
score pieces nested.jsonl
said "1 tensors of other parts are not ('model.vision_tower.weight', ...)"
[ "$(wc -l < err)" = 1 ] || fail "more is said than one line: $(cat err)"
same nested.jsonl plain.jsonl
ok "in shards too"

run 0 "$dia" merge --model new --format safetensors --out text
holds text/config.json '.model_type == "gemma3_text" and .eos_token_id == 2 and (has("vision_config") | not)'
score text nested.jsonl
[ ! -s err ] || fail "the merged text model is spoken of: $(cat err)"
same nested.jsonl plain.jsonl
tiny_recipe recipe.yaml run model_name_or_path="$work/new" max_steps=2 save_steps=2
run 0 "$dia" train recipe.yaml
tiny_recipe recipe.yaml run-plain max_steps=2 save_steps=2
run 0 "$dia" train recipe.yaml
run 0 "$dia" score --model new --adapter run --data rows.jsonl --out nested.jsonl
run 0 "$dia" score --model "$tiny" --adapter run-plain --data rows.jsonl --out adapted.jsonl
same nested.jsonl adapted.jsonl
cmp -s adapted.jsonl plain.jsonl && fail "the adapter changes no score"
ok "its text part is merged, trained and adapted like the text model"

nested broken "$tiny/config.json" "$gemma" "if . == \"model.norm.weight\" then \"model.language_model.layers.9.norm.weight\" else ($new) end" model.
refused_plain() { run 1 "$dia" score --model broken --data rows.jsonl --out written; said "$1"; absent written; }
refused_plain "broken: no tensor 'model.norm.weight', which a gemma3 model needs"
nested broken "$tiny/config.json" "$gemma" "if . == \"model.layers.0.mlp.up_proj.weight\" then \"language_model.\" + . else ($new) end" model.
score broken nested.jsonl
same nested.jsonl plain.jsonl
rewrite new/model.safetensors broken/model.safetensors '. + {"language_model.model.norm.weight": {dtype: "F32", shape: [32], data_offsets: [$at, $at + 128]}}' 128
refused_plain "broken: tensor 'model.norm.weight' is there twice, under two spellings of its name"
rewrite new/model.safetensors broken/model.safetensors '. + {"model.language_model.layers.9.mlp.up_proj.weight": {dtype: "F32", shape: [1], data_offsets: [$at, $at + 4]}}' 4
refused_plain "broken: tensor 'model.layers.9.mlp.up_proj.weight' has no place in the gemma3 model"
rewrite new/model.safetensors broken/model.safetensors 'with_entries(if .value.shape == [32] then .value.dtype = "I32" else . end)' 0
refused_plain "layernorm.weight' is I32: a weight has no whole numbers"
jq '.text_config.model_type = "gemma9_text"' new/config.json > broken/config.json
refused_plain 'model_type "gemma9_text" has no architecture here'
jq '.text_config = 3' new/config.json > broken/config.json
refused_plain 'broken: config.json:'
ok "what is wrong inside one is refused by name"

# A bitsandbytes folder whose codes are in blocks of a size that there is not.
rm -rf broken
mkdir broken
cp "$tiny/config.json" broken/
state='{"quant_type":"nf4","blocksize":96,"shape":[64,32]}'
weight=model.layers.0.mlp.up_proj.weight
rewrite "$tiny/model.safetensors" broken/model.safetensors "(.\"$weight\".data_offsets | .[1] - .[0]) as \$n | .\"$weight\".dtype = \"U8\" | .\"$weight\".shape = [\$n, 1] |
    . + {\"$weight.quant_state.bitsandbytes__nf4\": {dtype: \"U8\", shape: [${#state}], data_offsets: [\$at, \$at + ${#state}]}}" ${#state}
printf %s "$state" | dd of=broken/model.safetensors bs=1 seek=$(($(stat -c %s broken/model.safetensors) - ${#state})) conv=notrunc status=none
refused_plain "tensor '$weight' is in blocks of 96; bitsandbytes has those of 32, 64"
ok "blocks of another size are refused by name"
