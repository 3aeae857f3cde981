# SPDX-License-Identifier: Apache-2.0
"""eval.py GGUF IDS QUESTIONS: `diapason eval`'s numbers as transformers has them, from the dequantised model; JSON on standard output.

IDS: `diapason tokenize` of, for each request in QUESTIONS, its context without the white space at its end and then context + continuation;
then of the texts whose perplexity is asked.
"""
import json
import math
import os
import sys

import torch
from transformers import AutoModelForCausalLM


def main(gguf, ids_file, questions):
    folder, name = os.path.split(gguf)
    model = AutoModelForCausalLM.from_pretrained(folder, gguf_file=name, dtype=torch.float32).eval()
    rows = [json.loads(line)["ids"] for line in open(ids_file, encoding="utf-8")]
    requests = [json.loads(line) for line in open(questions, encoding="utf-8")]

    def logp(ids):
        with torch.no_grad():
            out = torch.log_softmax(model(input_ids=torch.tensor([ids])).logits[0, :-1], -1)
        return out.gather(1, torch.tensor(ids[1:])[:, None])[:, 0].tolist()

    docs = {}
    for i, r in enumerate(requests):
        head, whole = rows[2 * i], rows[2 * i + 1]
        total = sum(logp(whole)[max(len(head), 1) - 1 :])
        text = r["request"]["continuation"].strip()
        docs.setdefault(r["doc_id"], []).append((total, total / len(text), int(r["label"]), r["idx"]))
    right = [0, 0]
    for choices in docs.values():
        for k in (0, 1):
            right[k] += max(choices, key=lambda c: c[k])[3] == choices[0][2]
    nll = [-x for ids in rows[2 * len(requests) :] for x in logp(ids)]
    print(json.dumps({"acc": right[0] / len(docs), "acc_norm": right[1] / len(docs), "nll": sum(nll) / len(nll),
                      "perplexity": math.exp(sum(nll) / len(nll)), "tokens": len(nll)}))


if __name__ == "__main__":
    main(*sys.argv[1:])
