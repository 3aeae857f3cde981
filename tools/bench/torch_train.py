# SPDX-License-Identifier: Apache-2.0
"""torch_train.py GGUF ROWS [STEPS]: LoRA fine-tuning written by hand in PyTorch, as fast as plain PyTorch goes on a CPU.

Base expanded from the GGUF file, in bf16 where the CPU multiplies bf16 and in f32 elsewhere (there bf16 is several times slower), r = 16
on all seven linear maps, steps of 4 rows, AdamW. No padding (each row runs alone) and the output head only on scored rows: the two savings
that trainers usually forgo. Prints one JSON object.

torch_train.py GGUF --tokenize ROWS OUT: only write ROWS as {"input_ids","labels"}, so that `diapason bench train --data OUT` and this
script train on the same tokens. ROWS of this kind are taken as they are.
"""
import json
import os
import resource
import sys
import time

started = time.time()
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer

ROWS_PER_STEP, WARM_UP = 4, 2  # as diapason bench train
TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def tokenizer_of(gguf):
    folder, name = os.path.split(os.path.abspath(gguf))
    return AutoTokenizer.from_pretrained(folder, gguf_file=name)


def fast_dtype():
    with open("/proc/cpuinfo", encoding="utf-8") as f:
        flags = set(f.read().split())
    return torch.bfloat16 if flags & {"avx512_bf16", "amx_bf16"} else torch.float32


def expanded(gguf):
    """The GGUF file as a model; expansion is not timed."""
    folder, name = os.path.split(os.path.abspath(gguf))
    read = AutoModelForCausalLM.from_pretrained(folder, gguf_file=name, dtype=torch.float32)
    state, config = read.state_dict(), read.config
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    model = type(read)(config).to(fast_dtype())
    model.load_state_dict(state, strict=False)
    return model


def encode(tokenizer, row):
    """Gemma's turns: ids and labels, -100 where nothing is scored."""
    user, answer = row["prompt"][0]["content"].strip(), row["completion"][0]["content"].strip()
    prompt = tokenizer(f"<bos><start_of_turn>user\n{user}<end_of_turn>\n<start_of_turn>model\n", add_special_tokens=False).input_ids
    completion = tokenizer(f"{answer}<end_of_turn>\n", add_special_tokens=False).input_ids
    return {"input_ids": prompt + completion, "labels": [-100] * len(prompt) + completion}


def read_rows(path):
    return [json.loads(line) for line in open(path, encoding="utf-8")]


def tokenize(gguf, rows, out):
    tokenizer = tokenizer_of(gguf)
    with open(out, "w", encoding="utf-8") as f:
        for row in read_rows(rows):
            f.write(json.dumps(encode(tokenizer, row)) + "\n")


def main(gguf, rows, steps="6"):
    model = expanded(gguf)
    peft = get_peft_model(model, LoraConfig(r=16, lora_alpha=32, target_modules=TARGETS))
    inner = peft.base_model.model
    optimizer = torch.optim.AdamW([p for p in peft.parameters() if p.requires_grad], lr=1e-4)
    data = []
    for row in read_rows(rows):
        row = row if "input_ids" in row else encode(tokenizer_of(gguf), row)
        data.append((row["input_ids"], next(t for t, label in enumerate(row["labels"]) if label >= 0)))
    setup_s = time.time() - started

    def step(index):
        chosen = [data[(index * ROWS_PER_STEP + k) % len(data)] for k in range(ROWS_PER_STEP)]
        scored = sum(len(ids) - first for ids, first in chosen)
        for ids, first in chosen:
            hidden = inner.model(input_ids=torch.tensor([ids])).last_hidden_state[0, first - 1:-1]
            logits = inner.lm_head(hidden).float()
            (torch.nn.functional.cross_entropy(logits, torch.tensor(ids[first:]), reduction="sum") / scored).backward()
        torch.nn.utils.clip_grad_norm_(peft.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        return sum(len(ids) for ids, _ in chosen)

    for index in range(WARM_UP):
        step(index)
    times, tokens = [], 0
    for index in range(WARM_UP, WARM_UP + int(steps)):
        begin = time.time()
        tokens += step(index)
        times.append(time.time() - begin)
    print(json.dumps({"tokens_per_second": tokens / sum(times), "step_s": sum(times) / len(times), "steps": len(times), "tokens": tokens,
                      "setup_s": setup_s, "threads": torch.get_num_threads(), "torch": torch.__version__, "dtype": str(fast_dtype()).split(".")[1],
                      "rss_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}))


if __name__ == "__main__":
    tokenize(sys.argv[1], *sys.argv[3:]) if sys.argv[2] == "--tokenize" else main(*sys.argv[1:])
