# SPDX-License-Identifier: Apache-2.0
"""torch_train.py GGUF ROWS [STEPS]: LoRA fine-tuning written by hand in PyTorch, as fast as plain PyTorch goes on a CPU.

bf16 base expanded from the GGUF file, r = 16 on all seven linear maps, steps of 4 rows, AdamW. No padding (each row runs alone) and the
output head only on scored rows: the two savings that trainers usually forgo. Prints one JSON object.
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

ROWS_PER_STEP = 4
TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def expanded(gguf):
    """The GGUF file as a bf16 model and its tokenizer; expansion is not timed."""
    folder, name = os.path.split(os.path.abspath(gguf))
    tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=name)
    read = AutoModelForCausalLM.from_pretrained(folder, gguf_file=name, dtype=torch.float32)
    state, config = read.state_dict(), read.config
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    model = type(read)(config).to(torch.bfloat16)
    model.load_state_dict(state, strict=False)
    return model, tokenizer


def encode(tokenizer, row):
    """Gemma's turns: ids and the index of the first scored token."""
    user, answer = row["prompt"][0]["content"].strip(), row["completion"][0]["content"].strip()
    prompt = tokenizer(f"<bos><start_of_turn>user\n{user}<end_of_turn>\n<start_of_turn>model\n", add_special_tokens=False).input_ids
    return prompt + tokenizer(f"{answer}<end_of_turn>\n", add_special_tokens=False).input_ids, len(prompt)


def main(gguf, rows, steps="6"):
    model, tokenizer = expanded(gguf)
    peft = get_peft_model(model, LoraConfig(r=16, lora_alpha=32, target_modules=TARGETS))
    inner = peft.base_model.model
    optimizer = torch.optim.AdamW([p for p in peft.parameters() if p.requires_grad], lr=1e-4)
    data = [encode(tokenizer, json.loads(line)) for line in open(rows, encoding="utf-8")]
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

    step(0)  # warm-up
    times, tokens = [], 0
    for index in range(1, int(steps) + 1):
        begin = time.time()
        tokens += step(index)
        times.append(time.time() - begin)
    print(json.dumps({"tokens_per_s": tokens / sum(times), "step_s": sum(times) / len(times), "steps": len(times), "tokens": tokens,
                      "setup_s": setup_s, "threads": torch.get_num_threads(), "torch": torch.__version__,
                      "rss_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}))


if __name__ == "__main__":
    main(*sys.argv[1:])
