# SPDX-License-Identifier: Apache-2.0
"""Print the learning rates transformers computes for a grid of settings: the content of tests/data/optim/schedules.json."""
import json
import math
import warnings

import torch
from transformers.optimization import get_scheduler

warnings.simplefilter("ignore")
KWARGS = {
    "constant": [{}],
    "constant_with_warmup": [{}],
    "linear": [{}],
    "cosine": [{}, {"num_cycles": 1.5}],
    "cosine_with_restarts": [{}, {"num_cycles": 3}],
    "cosine_with_min_lr": [{"min_lr_rate": 0.1}, {"min_lr": 1e-5}, {"min_lr_rate": 0.25, "num_cycles": 1}],
    "polynomial": [{}, {"power": 2.0, "lr_end": 1e-6}],
    "inverse_sqrt": [{}, {"timescale": 100}],
    "warmup_stable_decay": [
        {"num_decay_steps": 4},
        {"num_decay_steps": 5, "decay_type": "linear", "min_lr_ratio": 0.1},
        {"num_decay_steps": 6, "decay_type": "1-sqrt", "warmup_type": "cosine"},
        {"num_decay_steps": 3, "num_stable_steps": 4, "warmup_type": "1-sqrt", "min_lr_ratio": 0.05, "num_cycles": 1.0},
    ],
}
SETTINGS = [(5e-3, 3, 10), (2e-5, 0, 17), (1e-4, 0.1, 40), (3e-4, 1, 12), (1e-3, 0.03, 25)]


def rates(name, lr, warmup, total, kwargs):
    steps = int(warmup) if warmup >= 1 else math.ceil(total * warmup)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=lr)
    scheduler = get_scheduler(name, optimizer, steps, total, kwargs or None)
    out = []
    for _ in range(total + 3):
        out.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return out


cases = [
    {"type": name, "base_lr": lr, "warmup": warmup, "total_steps": total, "kwargs": kwargs, "lr": rates(name, lr, warmup, total, kwargs)}
    for name, variants in KWARGS.items()
    for kwargs in variants
    for lr, warmup, total in SETTINGS
]
print("[")
print(",\n".join(" " + json.dumps(case) for case in cases))
print("]")
