# SPDX-License-Identifier: Apache-2.0
"""Read the run of helper_observe.c with TensorBoard and compare every value."""
import math
import os
import sys

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

folder = os.path.join(sys.argv[1], "runs", "peer")
files = os.listdir(folder)
assert len(files) == 2 and all(name.startswith("events.out.tfevents.") for name in files), files
events = EventAccumulator(folder)
events.Reload()
steps = range(1, 7)
want = {
    "train/loss": [(k, 4 / k) for k in steps],
    "train/learning_rate": [(k, 0.001 * k) for k in steps],
    "train/rewards/margins": [(k, math.nan if k == 2 else 0.5) for k in steps],
    "train/epoch": [],
    "eval/loss": [(k, 2 / k) for k in steps if k % 2 == 0],
}
tags = set(events.Tags()["scalars"])
assert tags == {"train/loss", "train/learning_rate", "train/rewards/margins", "train/epoch", "eval/loss"}, tags
for tag in tags:
    got = [(e.step, e.value) for e in events.Scalars(tag)]
    if want[tag]:
        assert [s for s, _ in got] == [s for s, _ in want[tag]], (tag, got)
        for (_, a), (_, b) in zip(got, want[tag]):
            assert (math.isnan(a) and math.isnan(b)) or abs(a - b) <= 1e-6 * abs(b), (tag, a, b)
print("TensorBoard reads", len(tags), "tags of", len(files), "files; the steps after the resume count once")
