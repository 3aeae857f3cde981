# SPDX-License-Identifier: Apache-2.0
"""Folders as transformers and bitsandbytes save them, and the log-probs of their dequantised weights.

usage: bitsandbytes_folders.py MODEL ROWS.jsonl OUT    (OUT/NAME/ and OUT/NAME.jsonl: one list of log-probs a row)
"""
import json
import sys

import bitsandbytes.functional as F
import torch
from transformers import AutoModelForCausalLM, BitsAndBytesConfig

model_path, rows_path, out = sys.argv[1:4]
rows = [json.loads(line)["input_ids"] for line in open(rows_path)]
WAYS = {
    "nf4": dict(load_in_4bit=True, bnb_4bit_quant_type="nf4"),
    "nf4_double": dict(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True),
    "fp4": dict(load_in_4bit=True, bnb_4bit_quant_type="fp4"),
    "int8": dict(load_in_8bit=True),
}


def numbers(module):
    """The weight of a quantised linear map in float32."""
    w = module.weight
    if hasattr(w, "quant_state") and w.quant_state is not None:
        return F.dequantize_4bit(w.data, w.quant_state).float()
    return w.data.float() * w.SCB.float().view(-1, 1) / 127


for name, way in WAYS.items():
    q = AutoModelForCausalLM.from_pretrained(
        model_path, quantization_config=BitsAndBytesConfig(**way), dtype=torch.float32, device_map={"": "cpu"})
    q.save_pretrained(f"{out}/{name}")
    plain = AutoModelForCausalLM.from_pretrained(model_path, dtype=torch.float32, attn_implementation="eager").eval()
    targets = dict(plain.named_modules())
    done = 0
    for path, module in q.named_modules():
        if type(module).__name__ in ("Linear4bit", "Linear8bitLt"):
            targets[path].weight.data = numbers(module)
            done += 1
    assert done > 0
    with open(f"{out}/{name}.jsonl", "w") as f, torch.no_grad():
        for ids in rows:
            logp = torch.log_softmax(plain(torch.tensor([ids])).logits[0].float(), -1)
            f.write(json.dumps([float(logp[i, ids[i + 1]]) for i in range(len(ids) - 1)]) + "\n")
    print(name, done)
