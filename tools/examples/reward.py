#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A reward as a child process: one JSON object a line comes in, one line goes out.

Use it with      reward_funcs: [{name: process, path: tools/examples/reward.py}]
and              diapason train recipe.yaml --allow-programs: a recipe alone may start no program
Try it with      diapason data reward --data rows.jsonl --reward '{name: process, path: tools/examples/reward.py}'

This one likes answers that do not repeat themselves: the share of distinct words.
"""
import json
import sys

for line in sys.stdin:
    request = json.loads(line)  # id, prompt, completion, columns, n_tokens, truncated
    words = request["completion"].lower().split()
    score = len(set(words)) / len(words) if words else None  # None: not judged
    print(json.dumps({"id": request["id"], "score": score}), flush=True)  # flush: the other side waits
