#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# LoRA on a base that stays quantised, through the program: it learns; plan and explain say so; accumulation and threads change no bit; what it wrote
# is read again; a resumed run keeps the form.
. "$(dirname "$0")/../lib.sh" "$1"

tiny_rows rows.jsonl 32
tiny_rows held.jsonl 12 5
base=$models/gemma3
loss() { jq -s '[.[].nll] | add / length' "$1"; }

run 0 "$dia" score --model "$base" --data held.jsonl --out base.jsonl
for way in 'adapter=qlora' 'adapter=qlora bnb_4bit_use_double_quant=true' 'load_in_4bit=true bnb_4bit_quant_type=fp4' load_in_8bit=true; do
    name=$(printf '%s' "$way" | tr -c 'a-z0-9' '-')
    case $way in *fp4) q=fp4 ;; load_in_8bit*) q=int8 ;; *) q=nf4 ;; esac
    # shellcheck disable=SC2086
    tiny_recipe recipe.yaml "run$name" max_steps=24 learning_rate=0.02 ${way}
    run 0 "$dia" plan recipe.yaml --json
    holds out '.memory_bytes.weights_quantised > 0'
    run 0 "$dia" explain recipe.yaml
    grep -i -q "linear .*${q}" out || fail "explain does not say $q"
    run 0 "$dia" train recipe.yaml
    run 0 "$dia" score --model "$base" --adapter "run$name" --quantization $q --data held.jsonl --out adapted.jsonl
    awk -v a="$(loss adapted.jsonl)" -v b="$(loss base.jsonl)" 'BEGIN { exit !(a < 0.9 * b) }' ||
        fail "$way did not learn: $(loss base.jsonl) → $(loss adapted.jsonl)"
done
ok "each form learns; plan and explain name it"

tiny_recipe recipe.yaml dora load_in_4bit=true use_dora=true max_steps=4
run 0 "$dia" explain recipe.yaml --json
holds out '[.. | objects | select(.op == "dora_norm")] | length > 0 and all(.device == "cpu")'
run 0 "$dia" train recipe.yaml
run 0 "$dia" score --model "$base" --adapter dora --quantization nf4 --data held.jsonl --out adapted.jsonl
ok "DoRA divides by the norm of the decoded rows"

run 0 "$dia" plan recipe.yaml
grep -q 'Quantised: .* bytes each' out || fail "plan does not say the bytes of a weight"

# A row of zeros has no direction: it is left alone, on every device, and in what is merged.
cp -r "$base" zero
head=$(od -An -t u8 -N 8 zero/model.safetensors | tr -d ' ')
name=model.layers.0.self_attn.q_proj.weight
read -r at row < <(dd if=zero/model.safetensors bs=1 skip=8 count="$head" 2> /dev/null | jq -r --arg n $name '.[$n] | "\(.data_offsets[0]) \(.shape[1] * 4)"')
chmod u+w zero zero/model.safetensors
dd if=/dev/zero of=zero/model.safetensors bs=1 seek=$((8 + head + at)) count="$row" conv=notrunc 2> /dev/null
for more in load_in_4bit=true device=cpu device=ref; do
    tiny_recipe recipe.yaml still model_name_or_path=zero use_dora=true max_steps=3 overwrite_output_dir=true $more
    run 0 "$dia" train recipe.yaml
    jq -s -e 'map(select(.loss)) | length == 3 and all(.grad_norm > 0)' still/metrics.jsonl > /dev/null || fail "$more: $(cat still/metrics.jsonl)"
done
run 0 "$dia" merge --model zero --adapter still --format safetensors --out still-merged
run 0 "$dia" score --model still-merged --data held.jsonl --out merged.jsonl
run 0 "$dia" score --model zero --adapter still --data held.jsonl --out adapted.jsonl
awk -v a="$(loss adapted.jsonl)" -v b="$(loss merged.jsonl)" 'BEGIN { exit !((a - b) ^ 2 < 1e-8) }' || fail "merged: $(loss adapted.jsonl) → $(loss merged.jsonl)"
ok "DoRA on a row of zeros"

tiny_recipe recipe.yaml one adapter=qlora max_steps=6 per_device_train_batch_size=8 gradient_accumulation_steps=1
run 0 "$dia" train recipe.yaml
run 0 "$dia" train recipe.yaml --set output_dir=two --set per_device_train_batch_size=2 --set gradient_accumulation_steps=4
run 0 env OMP_NUM_THREADS=1 "$dia" train recipe.yaml --set output_dir=three
same one/adapter_model.safetensors two/adapter_model.safetensors
same one/adapter_model.safetensors three/adapter_model.safetensors
ok "accumulation and threads change no bit of an adapter on a quantised base"

tiny_recipe recipe.yaml half adapter=qlora max_steps=8 save_steps=4
run 0 "$dia" train recipe.yaml --set output_dir=whole
run 0 "$dia" train recipe.yaml
rm -rf half/checkpoint-8
run 0 "$dia" train recipe.yaml --resume auto
same half/adapter_model.safetensors whole/adapter_model.safetensors
run 4 "$dia" train recipe.yaml --resume auto --set load_in_4bit=false --set adapter=lora
said load_in_4bit
ok "a resumed run keeps the form, and is refused another"

run 0 "$dia" merge --model "$base" --adapter one --format safetensors --out merged
run 0 "$dia" score --model merged --data held.jsonl --out merged.jsonl
run 2 "$dia" score --model "$base" --quantization gguf --data held.jsonl
said 'keeps the blocks of a .gguf file'
run 2 "$dia" score --model "$base" --quantization q4 --data held.jsonl
said 'expected auto, none, gguf, nf4, fp4 or int8'
run 2 "$dia" train recipe.yaml --set output_dir=no --set adapter=none --set load_in_4bit=true
ok "merging, and what is refused"
