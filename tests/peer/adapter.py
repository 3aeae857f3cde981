# SPDX-License-Identifier: Apache-2.0
"""adapter.py JOBS: log-probs of Hugging Face folders, with a PEFT adapter or without, against `diapason score`: a job a line, SCORES MODEL [ADAPTER]."""
import json
import sys

import torch
from transformers import AutoModelForCausalLM

TOLERANCE = 2e-4  # log-probs, f32 on both sides


def compare(scores, folder, adapter=None):
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")
    if adapter:
        from peft import PeftModel

        model = PeftModel.from_pretrained(model, adapter)
        assert any("lora_" in name for name, _ in model.named_parameters()), "PEFT attached nothing"
    model.eval()
    worst = 0.0
    for line in open(scores, encoding="utf-8"):
        row = json.loads(line)
        ids = torch.tensor([row["ids"]])
        with torch.no_grad():
            logp = torch.log_softmax(model(input_ids=ids).logits[0, :-1].float(), -1)
        theirs = logp.gather(1, ids[0, 1:, None])[:, 0].tolist()
        worst = max([worst] + [abs(a - b) for a, b in zip(theirs, row["logprobs"][1:])])
    print(f"{folder} {adapter or ''}: largest difference {worst:.2e}")
    if worst > TOLERANCE:
        sys.exit(f"above {TOLERANCE}")


if __name__ == "__main__":
    for line in open(sys.argv[1], encoding="utf-8"):
        compare(*line.split())
